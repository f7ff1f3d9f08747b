//! Checks over made-up systems.

use rustix::thread::CapabilitySet;

use super::checks::{capabilities_of, find, kernel_of, memory_of, of_interface};
use super::*;
use crate::route::Interface as Found;

fn healthy() -> Found {
    Found {
        index: 2,
        name: "ens5".to_owned(),
        is_up: true,
        has_carrier: true,
        mtu: 1500,
        rx_queues: 1,
        addresses: vec![([10, 0, 0, 1].into(), 24)],
        ..Found::default()
    }
}

fn level_of(interface: &Found, name: &str) -> Level {
    of_interface(interface).iter().find(|check| check.name == name).unwrap().level
}

#[test]
fn a_healthy_interface_is_ready() {
    let checks = of_interface(&healthy());
    assert_eq!(worst(&checks), Level::Ok, "{checks:?}");
    let findings = Findings { schema: "", interface: Some("ens5".to_owned()), checks };
    assert!(findings.to_string().ends_with("ready: ringwire serve -i ens5 echo\n"));
}

#[test]
fn each_fault_of_an_interface_is_found_and_has_a_remedy() {
    let cases = [
        (Found { is_up: false, ..healthy() }, "interface", Level::Fail),
        (Found { has_carrier: false, ..healthy() }, "interface", Level::Warn),
        (Found { is_loopback: true, ..healthy() }, "interface", Level::Fail),
        (Found { addresses: Vec::new(), ..healthy() }, "address", Level::Warn),
        (Found { mtu: 9000, ..healthy() }, "mtu", Level::Warn),
        (Found { xdp_program: Some(412), ..healthy() }, "xdp", Level::Fail),
        (Found { rx_queues: 60_000, ..healthy() }, "queues", Level::Warn),
        (Found { kind: Some("veth".to_owned()), ..healthy() }, "checksums", Level::Warn),
    ];
    for (interface, name, level) in cases {
        assert_eq!(level_of(&interface, name), level, "{name}");
        let faults = of_interface(&interface).into_iter().filter(|check| check.level != Level::Ok);
        faults.for_each(|check| assert!(!check.remedy.is_empty(), "{check:?}"));
    }
}

#[test]
fn kernels_by_what_they_lack() {
    let levels = ["5.4.0-generic", "5.9.1", "6.1.0-13-amd64", "6.6", "6.18.44"].map(|r| kernel_of(r).level);
    assert_eq!(levels, [Level::Fail, Level::Warn, Level::Warn, Level::Ok, Level::Ok]);
}

#[test]
fn capabilities_are_named_when_missing() {
    let all = CapabilitySet::NET_ADMIN | CapabilitySet::NET_RAW | CapabilitySet::BPF;
    assert_eq!(capabilities_of(all).level, Level::Ok);
    let sys_admin = CapabilitySet::NET_ADMIN | CapabilitySet::NET_RAW | CapabilitySet::SYS_ADMIN;
    assert_eq!(capabilities_of(sys_admin).level, Level::Ok);
    let one = capabilities_of(CapabilitySet::NET_ADMIN | CapabilitySet::NET_RAW);
    assert_eq!((one.level, one.fact.as_str()), (Level::Fail, "CAP_BPF is missing"));
    assert!(capabilities_of(CapabilitySet::empty()).fact.contains("CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF are"));
}

#[test]
fn memory_by_the_limit() {
    let level = |limit: Option<u64>| memory_of(limit, &healthy()).level;
    assert_eq!(level(None), Level::Ok);
    assert_eq!(level(Some(8 << 20)), Level::Ok);
    assert_eq!(level(Some(1 << 20)), Level::Warn);
    assert_eq!(level(Some(64 << 10)), Level::Fail);
}

#[test]
fn an_unknown_interface_names_the_known_ones() {
    let known = [healthy()];
    assert_eq!(find(&known, Some("ens5")).unwrap().index, 2);
    let check = find(&known, Some("ens6")).unwrap_err();
    assert!(check.fact.contains("'ens6'") && check.remedy.contains("ens5"));
}
