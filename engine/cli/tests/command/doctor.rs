//! `doctor` on interfaces whose state is known.

use serde_json::Value;

use crate::rig::Rig;

fn level_of<'v>(findings: &'v Value, name: &str) -> &'v str {
    let checks = findings["checks"].as_array().unwrap();
    checks.iter().find(|check| check["name"] == name).unwrap()["level"].as_str().unwrap()
}

#[test]
fn a_free_interface_is_ready_and_a_taken_one_is_not() {
    let rig = Rig::new();
    let ifname = rig.link.name(&rig.server);
    let output = rig.output(&rig.server, &format!("doctor -i {ifname} --probe --json"));
    let findings: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{findings}");
    assert_eq!(findings["schema"], "ringwire.doctor/1");
    let levels =
        ["kernel", "capabilities", "xdp", "start", "checksums"].map(|name| level_of(&findings, name));
    assert_eq!(levels, ["ok", "ok", "ok", "ok", "warn"]);

    let serving = rig.serve("echo");
    let output = rig.output(&rig.server, &format!("doctor -i {ifname}"));
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(text.contains("FAIL  xdp") && text.ends_with("1 to mend\n"), "{text}");
    serving.end();
}

#[test]
fn an_interface_that_is_not_there_names_those_that_are() {
    let rig = Rig::new();
    let output = rig.output(&rig.server, "doctor -i nosuch0");
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(text.contains("'nosuch0'") && text.contains(rig.link.name(&rig.server)), "{text}");
}
