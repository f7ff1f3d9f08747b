//! A test file that needs no privilege and no wrapper.

use std::process::Command;

use ringwire_lab::{Lab, Level};

ringwire_lab::user_namespace!();

#[test]
fn two_nodes_and_a_link() {
    let lab = Lab::at_least(Level::UserNamespace).unwrap();
    let (a, b) = (lab.node("a").unwrap(), lab.node("b").unwrap());
    let link = lab.link(&a, &b).up().unwrap();
    let ping = b.command("ping").args(["-c", "1", "-W", "2"]).arg(link.addr(&a).to_string()).output();
    assert!(ping.unwrap().status.success());
    println!("ran at {}", lab.level());
}

#[test]
fn the_same_without_any_capability() {
    const INSIDE: &str = "RINGWIRE_LAB_TEST_INSIDE";
    if std::env::var_os(INSIDE).is_some() {
        return;
    }
    let this = std::env::current_exe().unwrap();
    let script = format!("{} two_nodes --nocapture", this.display());
    let drop = "--drop=cap_sys_admin,cap_net_admin,cap_net_raw,cap_bpf";
    let output = Command::new("capsh").args([drop, "--", "-c", &script]).env(INSIDE, "1").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("ran at UserNamespace"), "{said}");
}
