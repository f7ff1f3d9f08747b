//! `compare` in its own lab.

use std::process::Command;

use serde_json::Value;

fn compare(args: &str) -> (Option<i32>, Vec<u8>) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_ringwire")).arg("compare").args(args.split(' ')).output().unwrap();
    (output.status.code(), output.stdout)
}

#[test]
fn contenders_take_turns_and_give_ratios() {
    let stacks = "reflector,ringwire,kernel-blocking";
    let (code, stdout) = compare(&format!(
        "quick --rounds 2 -d 300ms --work udp-rr --work tcp-rr -c 2 --stacks {stacks} --json"
    ));
    let comparison: Value = serde_json::from_slice(&stdout).unwrap();
    assert_eq!(code, Some(0), "{comparison}");
    assert_eq!(comparison["schema"], "ringwire.compare/1");
    let rows = comparison["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 2);
    for row in rows {
        let contenders = row["contenders"].as_array().unwrap();
        assert_eq!(contenders.len(), if row["work"] == "udp-rr" { 3 } else { 2 });
        for contender in contenders {
            assert_eq!(contender["rounds"].as_array().unwrap().len(), 2);
            assert!(contender["rate"]["median"].as_f64().unwrap() > 0.0);
            assert!(contender["server_cost"]["busy_us"].as_f64().unwrap() > 0.0);
        }
        let ringwire = contenders.iter().find(|contender| contender["name"] == "ringwire").unwrap();
        assert_eq!(ringwire["ratios"][0]["to"], "kernel-blocking");
    }
}

#[test]
fn an_unknown_contender_is_bad_usage() {
    assert_eq!(compare("--stacks ringwire,mtcp").0, Some(2));
}
