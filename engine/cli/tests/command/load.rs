//! `load` over both stacks, and how it ends.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use crate::rig::{PORT, Rig};

const SIGINT: i32 = 2;

/// Runs a short load from the client's node and returns its JSON.
fn load(rig: &Rig, args: &str) -> Value {
    let output = rig.output(&rig.client, &format!("load {args} -d 300ms --warmup 50ms --json"));
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn every_work_over_both_stacks_against_ringwire() {
    let rig = Rig::new();
    let serving = rig.serve(&format!("echo -a {}", rig.own_address(&rig.server)));
    let target = format!("{}:{PORT}", rig.link.spare_addr(&rig.server));
    let own = format!("-i {} -a {}", rig.link.name(&rig.client), rig.own_address(&rig.client));
    for work in ["udp-rr", "tcp-rr", "tcp-crr"] {
        for stack in ["--stack kernel", &own] {
            let report = load(&rig, &format!("{work} {target} -c 8 {stack}"));
            assert_eq!((&report["schema"], &report["valid"]), (&"ringwire.load/1".into(), &true.into()));
            assert_eq!(report["scenario"], work);
            assert!(
                report["throughput"]["requests_per_s"].as_f64().unwrap() > 100.0,
                "{work} {stack}: {report}"
            );
            let corrupt =
                report["errors"]["corrupt"].as_u64().unwrap() + report["errors"]["short"].as_u64().unwrap();
            assert_eq!(corrupt, 0, "{work} {stack}");
            let mode = &report["mode"];
            assert_eq!(mode.is_null(), stack == "--stack kernel", "{mode}");
        }
    }
    serving.end();
}

#[test]
fn the_shared_address_carries_load_too() {
    let rig = Rig::new();
    let serving = rig.serve("echo");
    let target = format!("{}:{PORT}", rig.link.addr(&rig.server));
    for work in ["udp-rr", "tcp-rr", "tcp-crr"] {
        // No interface, no address: both follow from the route to the target.
        let report = load(&rig, &format!("{work} {target} -c 4"));
        assert_eq!(report["stack"], format!("ringwire on {}", rig.link.name(&rig.client)));
    }
    serving.end();
}

#[test]
fn large_requests_come_back_whole() {
    let rig = Rig::new();
    let serving = rig.serve(&format!("echo -a {}", rig.own_address(&rig.server)));
    let target = format!("{}:{PORT}", rig.link.spare_addr(&rig.server));
    let own = format!("-i {} -a {}", rig.link.name(&rig.client), rig.own_address(&rig.client));
    for (work, size) in [("udp-rr", "1472"), ("tcp-rr", "1461"), ("tcp-rr", "100kB")] {
        let report = load(&rig, &format!("{work} {target} -c 2 -s {size} {own}"));
        assert!(report["load"]["requests"].as_u64().unwrap() > 0, "{work} {size}");
    }
    serving.end();
}

#[test]
fn nobody_there_is_exit_1_and_bad_usage_is_exit_2() {
    let rig = Rig::new();
    let target = format!("{}:{PORT}", rig.link.addr(&rig.server));
    let ifname = rig.link.name(&rig.client);
    for stack in ["--stack kernel".to_owned(), format!("-i {ifname}")] {
        let output = rig.output(&rig.client, &format!("load tcp-rr {target} {stack}"));
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains("refused\nhint: "), "{stderr}");
    }
    for args in [format!("udp-rr {target} -s 3"), format!("tcp-rr {target} -c 0"), format!("rr {target}")] {
        let output = rig.output(&rig.client, &format!("load {args}"));
        assert_eq!(output.status.code(), Some(2), "{args}");
    }
    let output = rig.output(&rig.client, &format!("load tcp-rr {target} -i nosuch0"));
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn an_interrupt_keeps_what_was_measured() {
    let rig = Rig::new();
    let serving = rig.serve("echo --stack kernel");
    let target = format!("{}:{PORT}", rig.link.addr(&rig.server));
    let mut command =
        rig.ringwire(&rig.client, &format!("load tcp-rr {target} --stack kernel -d 60s --json"));
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Warm-up is 2 s of a run of a minute.
    std::thread::sleep(Duration::from_millis(3500));
    child.signal(SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["interrupted"], true);
    assert!(report["load"]["requests"].as_u64().unwrap() > 0);
    serving.end();
}

#[test]
fn text_has_the_table_and_json_goes_beside_it_into_a_file() {
    let rig = Rig::new();
    let serving = rig.serve("echo --stack kernel");
    let target = format!("{}:{PORT}", rig.link.addr(&rig.server));
    let file = std::env::temp_dir().join(format!("ringwire-load-{}.json", std::process::id()));
    let args = format!("load udp-rr {target} --stack kernel -n 100 --json={}", file.display());
    let output = rig.output(&rig.client, &args);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.starts_with(&format!("udp-rr {target}  1 in flight")), "{text}");
    assert!(text.contains("p99.9") && text.contains("VALID"), "{text}");
    let report: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    std::fs::remove_file(&file).unwrap();
    assert!(report["load"]["requests"].as_u64().unwrap() >= 100);
    serving.end();
}
