//! To copy: a program as it is shipped, nginx here, behind a link that delays and loses packets.
//!
//! `sudo -E cargo test --test example_nginx`, or without privilege `unshare -Urn cargo test --test example_nginx`.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ringwire_lab::{Child, Impairment, Level, Node};

/// A directory of its own for one server; gone with it.
struct Site {
    dir: PathBuf,
}

impl Site {
    fn new(body: &[u8]) -> Site {
        let dir = std::env::temp_dir().join(format!("lossy-nginx-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("file"), body).unwrap();
        let root = dir.display();
        let temp: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {root}/{kind};"))
            .concat();
        let config = format!(
            "daemon off; master_process off; pid {root}/pid; error_log stderr;
             events {{}}
             http {{ access_log off; {temp} server {{ listen 80; root {root}; }} }}"
        );
        fs::write(dir.join("nginx.conf"), config).unwrap();
        Site { dir }
    }

    fn serve(&self, node: &Node, program: &Path) -> Child {
        let config = self.dir.join("nginx.conf");
        node.command(program).arg("-c").arg(config).arg("-p").arg(&self.dir).spawn().unwrap()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Debian has it where only root looks. Not installed by deploy/test.sh, because the package starts a server on the host.
fn nginx() -> Option<PathBuf> {
    let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
    path.split(':').map(|dir| Path::new(dir).join("nginx")).find(|file| file.exists())
}

fn get(server: IpAddr) -> Vec<u8> {
    let deadline = Instant::now() + Duration::from_secs(10);
    // The server takes a moment to listen.
    let mut stream = loop {
        match TcpStream::connect((server, 80)) {
            Ok(stream) => break stream,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    write!(stream, "GET /file HTTP/1.0\r\nHost: nginx\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end_of_head = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    assert!(answer.starts_with(b"HTTP/1.1 200 OK"), "{}", answer[..end_of_head].escape_ascii());
    answer.split_off(end_of_head + 4)
}

#[test]
fn nginx_delivers_over_a_lossy_link() {
    let Some(program) = nginx() else {
        assert!(std::env::var_os("RINGWIRE_NO_SKIP").is_none(), "nginx is not installed");
        // Past the harness's capture: nobody shall believe that it ran.
        writeln!(std::io::stderr(), "SKIPPED: nginx_delivers_over_a_lossy_link: nginx is not installed")
            .unwrap();
        return;
    };
    let lab = ringwire_lab::lab!(Level::UserNamespace);
    let (client, server) = (lab.node("client").unwrap(), lab.node("server").unwrap());
    let link = lab.link(&client, &server).up().unwrap();

    let body: Vec<u8> = (0..400_000_u32).map(|i| (i % 251) as u8).collect();
    let site = Site::new(&body);
    let _nginx = site.serve(&server, &program);
    let address = link.addr(&server);
    assert!(client.run(|| get(address)) == body);

    // 20 ms there and back, and two packets in a hundred of those that carry the file. The seed makes it the same two.
    let far = Impairment::default().delay(Duration::from_millis(10), Duration::ZERO);
    link.impair(&server, far).unwrap();
    link.impair(&client, far.loss(0.02).seed(7)).unwrap();
    let start = Instant::now();
    assert!(client.run(|| get(address)) == body);
    assert!(start.elapsed() >= Duration::from_millis(40), "a handshake and a request take two round trips");
    let counters = link.counters(&client).unwrap();
    assert!(counters.lost > 0 && counters.overrun == 0, "the injector did its part: {counters:?}");
}
