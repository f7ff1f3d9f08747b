//! Transfers both ways over an impaired link, compared byte for byte.

use core::time::Duration;
use std::vec::Vec;

use super::net::{Impairment, Net, Rng, Transfer, pattern};
use crate::tcp::{Config, State};

#[test]
fn a_clean_link_costs_no_retransmission_and_no_waiting() {
    let mut net = Net::new((Config::default(), 7), (Config::default(), 9), Impairment::NONE, 1);
    let elapsed =
        Transfer::new(pattern(1 << 20, 1), pattern(1 << 20, 2)).run(&mut net, Duration::from_secs(10));
    assert!(elapsed < Duration::from_millis(50), "{elapsed:?}");
    assert_eq!(net.a.totals.incidents().retransmits, 0);
    assert_eq!(net.a.cold.in_use() + net.b.as_ref().map_or(0, |b| b.cold.in_use()), 0);
}

/// The figure: 20 MB each way at 5 % loss in under 60 s, on a link of 100 us round trip.
#[test]
fn twenty_megabytes_each_way_at_five_percent_loss() {
    let impairment = Impairment { loss_per_mille: 50, ..Impairment::NONE };
    for seed in 0..8 {
        let mut net =
            Net::new((Config::default(), 0xffff_fff0), (Config::default(), 0x7fff_fff0), impairment, seed);
        let mut transfer = Transfer::new(pattern(20_000_000, 1), pattern(20_000_000, 2));
        // Measured: 4.5 to 9 s of virtual time.
        let elapsed = transfer.run(&mut net, Duration::from_secs(60));
        assert!(elapsed < Duration::from_secs(20), "seed {seed}: {elapsed:?}");
    }
}

/// Some thousand links and configurations, each drawn from its seed.
#[test]
fn any_link_and_configuration_delivers_every_byte_once_and_in_order() {
    for seed in 0..3000 {
        let mut rng = Rng(seed);
        let impairment = Impairment {
            delay: Duration::from_micros(1 + rng.below(500)),
            loss_per_mille: [0, 10, 50, 150][rng.below(4) as usize],
            reorder_per_mille: [0, 10, 300][rng.below(3) as usize],
            duplicate_per_mille: [0, 10, 200][rng.below(3) as usize],
        };
        let ours = (any_config(&mut rng), any_iss(&mut rng));
        let peers = (any_config(&mut rng), any_iss(&mut rng));
        let mut net = Net::new(ours, peers, impairment, rng.next());
        if rng.chance(500) {
            net.complete_later();
        }
        let (out, back) = (rng.below(30_000) as usize, rng.below(30_000) as usize);
        let mut transfer = Transfer::new(pattern(out, seed), pattern(back, !seed));
        transfer.run(&mut net, Duration::from_secs(7200));
        let b = net.b.as_ref().expect("B accepted");
        assert_eq!((net.a.state(), b.state()), (State::Closed, State::Closed), "seed {seed}");
        assert_eq!((net.a.cold.in_use(), b.cold.in_use()), (0, 0), "seed {seed}");
    }
}

fn any_config(rng: &mut Rng) -> Config {
    let recv_buffer_bytes = [1_000, 4_000, 16_384, 100_000, 1 << 20][rng.below(5) as usize];
    Config {
        mss: [88, 536, 1460][rng.below(3) as usize],
        window_scale: [None, Some(0), Some(Config::window_scale_for(recv_buffer_bytes)), Some(7)]
            [rng.below(4) as usize],
        timestamps: rng.chance(500),
        sack: rng.chance(500),
        nodelay: rng.chance(500),
        recv_buffer_bytes,
        recv_buffer_max_bytes: [0, 1 << 20][rng.below(2) as usize],
        reassembly_segs: [1, 4, 512][rng.below(3) as usize],
        send_buffer_bytes: [1_500, 20_000, 1 << 20][rng.below(3) as usize],
        rto_min: Duration::from_millis([5, 200][rng.below(2) as usize]),
        // Losses of 15 % repeat; giving up is tested elsewhere.
        syn_retries: 40,
        synack_retries: 40,
        retries: 40,
        rto_max: Duration::from_secs(2),
        ..Config::default()
    }
}

fn any_iss(rng: &mut Rng) -> u32 {
    let near: Vec<u32> = [0, 0x7fff_ffff, 0xffff_ffff, rng.next() as u32].into();
    near[rng.below(4) as usize].wrapping_sub(rng.below(70_000) as u32)
}
