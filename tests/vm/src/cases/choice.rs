//! Zero-copy where it is not to be had, and the choice left to the engine.

use std::process::Command;

use crate::scene::{OURS, Scene, run};

const EXIT_REFUSED: i32 = 3;

/// A link that has no zero-copy; gone when dropped.
struct Veth;

impl Drop for Veth {
    fn drop(&mut self) {
        run(&["ip", "link", "delete", "veth0"]);
    }
}

fn make_veth() -> Veth {
    run(&["ip", "link", "add", "veth0", "type", "veth", "peer", "name", "veth1"]);
    run(&["ip", "address", "add", "10.89.0.1/24", "dev", "veth0"]);
    run(&["ip", "link", "set", "veth0", "up"]);
    run(&["ip", "link", "set", "veth1", "up"]);
    Veth
}

/// `ringwire serve echo` for a moment: status, first line of what it said, and its errors.
fn serve(args: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new("ringwire")
        .args(["serve", "echo", "--duration=100ms"])
        .args(args)
        .output()
        .expect("ringwire is here");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

pub(crate) fn refused() {
    let _veth = make_veth();
    let (status, said, errors) = serve(&["-i", "veth0", "--bind-mode", "zero-copy"]);
    assert_eq!((status, said.as_str()), (Some(EXIT_REFUSED), ""), "{errors}");
    assert_eq!(
        errors,
        "queue 0 of veth0 cannot be bound zero-copy: its driver does not support it (EOPNOTSUPP)\n\
         hint: --bind-mode copy, or auto\n"
    );
    assert!(
        !run(&["ip", "-details", "link", "show", "veth0"]).contains("prog/xdp"),
        "a program stayed behind"
    );
}

pub(crate) fn automatic() {
    let _veth = make_veth();
    let _scene = Scene::new();
    for (interface, expected) in [("veth0", "native copy, 1 queue"), (OURS, "native zero-copy, 1 queue")] {
        let (status, said, errors) = serve(&["-i", interface]);
        assert_eq!((status, errors.as_str()), (Some(0), ""));
        assert!(said.starts_with("serving echo (tcp, udp) on ") && said.contains(expected), "{said}");
    }
}
