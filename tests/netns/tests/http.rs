//! The `ringwire` command serves HTTP, and curl fetches: a long body, and a directory of files.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use ringwire_lab::Child;
use ringwire_netns::{Addressing, Digester, Pattern, Scene, within};

const LIMIT: Duration = Duration::from_secs(90);
const PORT: u16 = 9000;
const TERMINATE: i32 = 15;

/// The command beside the test: cargo builds it for the tests of its own package, and here if nobody has.
fn ringwire() -> PathBuf {
    let test = std::env::current_exe().expect("the path of this test");
    let profile = test.ancestors().nth(2).expect("tests lie in PROFILE/deps");
    let ringwire = profile.join("ringwire");
    if !ringwire.exists() {
        let mut cargo = std::process::Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
        cargo.args(["build", "--quiet", "--package", "ringwire-cli", "--target-dir"]);
        cargo.arg(profile.parent().expect("profiles lie in the target directory"));
        assert!(cargo.status().expect("cargo runs").success(), "the command does not build");
    }
    ringwire
}

/// A running `ringwire serve http`.
struct Serving {
    ringwire: Child,
    base: String,
}

impl Serving {
    fn start(scene: &Scene, dir: &Path) -> Serving {
        let mut command = scene.host.command(ringwire());
        command.args(["serve", "http", "-p", &PORT.to_string(), "-i", scene.link.name(&scene.host), "--dir"]);
        command.arg(dir).stdout(Stdio::piped());
        if scene.addressing == Addressing::Dedicated {
            command.args(["-a", &format!("{}/{}", scene.ip(), scene.link.prefix_len())]);
        }
        let mut ringwire = command.spawn().expect("the command starts");
        let mut line = String::new();
        let said = ringwire.stdout.as_mut().expect("it is piped");
        BufReader::new(said).read_line(&mut line).expect("a pipe can be read");
        assert!(line.starts_with("serving http"), "{line}");
        Serving { ringwire, base: format!("http://{}:{PORT}", scene.ip()) }
    }

    /// The command ends in order on a signal.
    fn finish(mut self) {
        self.ringwire.signal(TERMINATE).expect("it runs");
        let status = self.ringwire.wait().expect("it ends");
        assert!(status.success(), "{status}");
    }
}

/// A directory that goes with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("ringwire-netns-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).expect("a directory for files");
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is in the directory of temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn curl_fetches_a_hundred_megabytes() {
    const BYTES: usize = 100_000_000;
    within(LIMIT, || {
        for addressing in Addressing::BOTH {
            let (scene, dir) = (Scene::new(addressing), Scratch::new("bytes"));
            let serving = Serving::start(&scene, &dir.0);
            let started = Instant::now();
            let mut curl = scene.peer.command("curl");
            curl.args(["-sS", "--fail", &format!("{}/bytes/{BYTES}", serving.base)]).stdout(Stdio::piped());
            let mut curl = curl.spawn().expect("curl is installed");
            let (mut at, mut bytes) = (0, vec![0; 251 * 256]);
            let mut body = curl.stdout.take().expect("it is piped");
            loop {
                let len = body.read(&mut bytes).expect("a pipe can be read");
                if len == 0 {
                    break;
                }
                let wrong =
                    bytes[..len].iter().enumerate().find(|(i, byte)| **byte != ((at + i) % 251) as u8);
                assert!(wrong.is_none(), "{addressing:?}: byte {}", at + wrong.unwrap().0);
                at += len;
            }
            assert!(curl.wait().expect("curl ends").success());
            assert_eq!(at, BYTES);
            println!("{addressing:?}: 100 MB in {:?}", started.elapsed());
            serving.finish();
        }
    });
}

#[test]
fn curl_fetches_a_directory_of_files() {
    /// Around the borders of segments, chunks and windows.
    const LENGTHS: [u64; 12] =
        [0, 1, 1447, 1448, 1449, 1460, 4096, 16_384, 65_535, 65_536, 300_000, 3_000_000];
    within(LIMIT, || {
        let (scene, dir) = (Scene::new(Addressing::Shared), Scratch::new("files"));
        let (from, to) = (dir.0.join("from"), dir.0.join("to"));
        fs::create_dir_all(from.join("deep er/still")).expect("a directory");
        fs::create_dir_all(&to).expect("a directory");
        let names: Vec<String> = LENGTHS.iter().map(|len| format!("deep er/still/{len}.bin")).collect();
        for (name, len) in names.iter().zip(LENGTHS) {
            let mut bytes = vec![0; len as usize];
            Pattern::new(len, len).fill(&mut bytes);
            fs::write(from.join(name), bytes).expect("a file");
        }
        let serving = Serving::start(&scene, &from);
        // One after the other over one connection, then eight at a time.
        for how in [&["--no-progress-meter"][..], &["--parallel", "--parallel-max", "8"][..]] {
            let mut curl = scene.peer.command("curl");
            curl.args(["-sS", "--fail"]).args(how);
            for (name, len) in names.iter().zip(LENGTHS) {
                curl.args(["-o", &format!("{}/{len}", to.display())]);
                curl.arg(format!("{}/{}", serving.base, name.replace(' ', "%20")));
            }
            let output = curl.output().expect("curl is installed");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            for len in LENGTHS {
                let mut digester = Digester::default();
                digester.add(&fs::read(to.join(len.to_string())).expect("curl wrote it"));
                assert_eq!(digester.finish(), Pattern::new(len, len).digest(), "{how:?}");
                fs::remove_file(to.join(len.to_string())).expect("it is there");
            }
        }
        serving.finish();
    });
}
