//! The same odd packets to the Linux kernel and to Ringwire, on one link: their replies are compared.
//!
//! Both ends are in one node: the kernel under its own address, the engine under one of its own; the peer is played by hand. What each
//! row of an area's table (`areas/*.txt`) explains may differ; every other difference fails, and so does a row that is not so any more.
//!
//! ```text
//! areas/*.rs: Odd, in words -> ask.rs: 48 at a time -> play.rs: Play, one for each target -> frames on the link
//! table.rs: what most of three rounds say, against areas/*.txt       target.rs: the services of both
//! ```

mod areas;
mod ask;
mod frames;
mod odd;
mod play;
mod table;
mod target;

use std::time::Duration;

use ringwire_netns::{Addressing, Scene, within};

use ask::Asker;
use odd::Odd;
use target::Both;

const LIMIT: Duration = Duration::from_secs(120);

/// Compares the answers to all of an area, the engine's under an address of its own.
fn compare(odds: fn() -> Vec<Odd>, table: &'static str) {
    compare_at(Addressing::Dedicated, odds, table);
}

fn compare_at(addressing: Addressing, odds: fn() -> Vec<Odd>, table: &'static str) {
    within(LIMIT, move || {
        let scene = Scene::new(addressing)
            .may_repeat("odd packets are answered by duplicates, and what they ask for comes again");
        let mut asker = Asker::new(Both::start(scene));
        table::judge(&mut asker, &odds(), table);
        asker.both.finish();
    });
}

#[test]
fn linux_and_ringwire_answer_odd_headers_alike() {
    compare(areas::headers::odds, include_str!("areas/headers.txt"));
}

#[test]
fn linux_and_ringwire_answer_odd_segments_alike_in_every_state() {
    compare(areas::segments::odds, include_str!("areas/segments.txt"));
}

#[test]
fn linux_and_ringwire_answer_odd_openings_alike() {
    compare(areas::opening::odds, include_str!("areas/opening.txt"));
}

#[test]
fn linux_and_ringwire_answer_impossible_addresses_alike() {
    compare(areas::addresses::odds, include_str!("areas/addresses.txt"));
}

#[test]
fn linux_and_ringwire_answer_odd_ip_packets_alike() {
    compare(areas::ip::odds, include_str!("areas/ip.txt"));
}

#[test]
fn linux_and_ringwire_answer_odd_timestamps_alike() {
    compare(areas::clock::odds, include_str!("areas/clock.txt"));
}

#[test]
fn linux_and_ringwire_answer_odd_icmp_alike() {
    compare(areas::icmp::odds, include_str!("areas/icmp.txt"));
}

/// What the kernel lets through to the engine, and what it puts together for it.
#[test]
fn linux_and_ringwire_answer_odd_ip_packets_alike_at_one_address() {
    compare_at(Addressing::Shared, areas::ip::to_a_socket, include_str!("areas/ip_shared.txt"));
}

#[test]
fn linux_and_ringwire_answer_odd_headers_alike_at_one_address() {
    compare_at(Addressing::Shared, areas::headers::to_a_socket, include_str!("areas/headers_shared.txt"));
}
