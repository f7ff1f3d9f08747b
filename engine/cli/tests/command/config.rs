//! `--config`: a file instead of, and under, the command line.

use std::path::PathBuf;

use crate::rig::{PORT, Rig};

/// A file that goes with the test.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> File {
        let path = std::env::temp_dir().join(format!("ringwire-{name}-{}.toml", std::process::id()));
        std::fs::write(&path, text).unwrap();
        File(path)
    }

    fn option(&self) -> String {
        format!("--config {}", self.0.display())
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn a_file_says_it_all_for_serve_and_for_load() {
    let rig = Rig::new();
    let file = |node, backend: &str, poll: &str| {
        let (name, address) = (rig.link.name(node), rig.own_address(node));
        let text = format!(
            "backend = \"{backend}\"\npoll_mode = \"{poll}\"\n[[interface]]\nname = \"{name}\"\n\
             address = [\"{address}\"]\n[tcp]\ntime_wait = \"1s\"\n[memory]\nframes_per_worker = 1024\n"
        );
        File::new(if backend == "xdp" { "serve" } else { "load" }, &text)
    };
    let (ours, theirs) = (file(&rig.server, "xdp", "busy"), file(&rig.client, "packet", "adaptive"));
    let serving = rig.serve(&format!("echo {}", ours.option()));
    let own = rig.link.spare_addr(&rig.server);
    // The file's address and poll mode, neither of which is the default.
    assert!(
        serving.banner.contains(&format!("on {own}:{PORT}")) && serving.banner.contains("busy"),
        "{}",
        serving.banner
    );
    let args = format!("load tcp-rr {own}:{PORT} -n 100 --json {}", theirs.option());
    let output = rig.output(&rig.client, &args);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["mode"]["poll"], "adaptive", "{report}");
    assert_eq!(report["mode"]["attach"], "packet", "{report}");

    // The command line goes before the file, and adds to it.
    let output = rig.output(&rig.client, &format!("{args} --poll-mode busy --gateway {own}"));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["mode"]["poll"], "busy", "{report}");
    serving.end();
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_touched() {
    let rig = Rig::new();
    let unknown = File::new("unknown", "workers = 1\n[tcp]\ntime_wiat = \"1s\"\n");
    let other = File::new("other", "[[interface]]\nname = \"lo\"\n");
    let two = File::new("two", "workers = 2\n");
    let name = rig.link.name(&rig.server);
    for (args, status, says) in [
        (
            format!("serve echo -i {name} {}", unknown.option()),
            3,
            ":3: unknown key 'time_wiat' in [tcp]\nhint: did you mean 'time_wait'?",
        ),
        (
            "serve echo --config /nonexistent.toml".to_owned(),
            3,
            "cannot read the configuration /nonexistent.toml",
        ),
        (format!("serve echo -i {name} {}", other.option()), 2, "the configuration lo"),
        (format!("serve echo -i {name} --gateway 192.0.2.1"), 3, "a gateway without an address"),
        (format!("load tcp-rr 10.0.0.1:1 {}", two.option()), 2, "asks for 2 workers, and load drives one"),
        (format!("doctor {}", two.option()), 2, "--config is for serve and load"),
        (format!("serve echo --stack kernel {}", two.option()), 2, "--config is for serve and load"),
    ] {
        let output = rig.output(&rig.server, &args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.code() == Some(status) && said.contains(says),
            "{args}: {:?} {said}",
            output.status
        );
    }
}
