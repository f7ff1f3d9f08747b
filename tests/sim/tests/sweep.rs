//! The sweep over seeds. `SIM_SEED=N` replays one; `SIM_SEEDS=N` runs more than the default.

use ringwire_sim::{Impairment, Plan, run};
use std::time::Duration;

const DEFAULT_SEEDS: u64 = 1_200;

fn from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn streams_arrive_intact_over_a_thousand_seeds() {
    if let Some(seed) = from_env("SIM_SEED") {
        let plan = Plan::from_seed(seed);
        println!("{plan:?}");
        println!("{:?}", run(&plan));
        return;
    }
    let seeds = from_env("SIM_SEEDS").unwrap_or(DEFAULT_SEEDS);
    let (mut lost, mut duplicated, mut corrupted) = (0, 0, 0);
    let mut failures = Vec::new();
    for seed in 0..seeds {
        match run(&Plan::from_seed(seed)) {
            Ok(report) => {
                lost += report.link.lost;
                duplicated += report.link.duplicated;
                corrupted += report.link.corrupted;
            }
            Err(error) => failures.push(format!(
                "{error}\n  replay: SIM_SEED={seed} cargo test -p ringwire-sim -- --nocapture"
            )),
        }
    }
    assert!(failures.is_empty(), "{} of {seeds} seeds failed:\n{}", failures.len(), failures.join("\n"));
    assert!(lost > seeds && duplicated > seeds / 2 && corrupted > seeds / 2, "the link was too kind");
}

#[test]
fn a_run_is_a_function_of_its_seed() {
    let plan = Plan::from_seed(77);
    assert_eq!(run(&plan), run(&plan));
}

#[test]
fn sixty_four_frames_move_ten_megabytes_each_way() {
    let plan = Plan {
        seed: 64,
        impairment: Impairment {
            delay: Duration::from_micros(50),
            jitter: Duration::ZERO,
            loss: 0.0,
            duplicate: 0.0,
            corrupt: 0.0,
        },
        upload_bytes: 10_000_000,
        download_bytes: 10_000_000,
        frames: 64,
        limit: Duration::from_secs(600),
    };
    run(&plan).unwrap();
}

/// A path of 100 ms and no given rate: what limits is how fast the windows and the buffers open.
#[test]
fn a_long_path_is_filled() {
    let plan = Plan {
        seed: 100,
        impairment: Impairment {
            delay: Duration::from_millis(50),
            jitter: Duration::ZERO,
            loss: 0.0,
            duplicate: 0.0,
            corrupt: 0.0,
        },
        upload_bytes: 30_000_000,
        download_bytes: 0,
        frames: 8192,
        limit: Duration::from_secs(60),
    };
    let report = run(&plan).unwrap();
    // With the first buffers of 256 KiB it would be twelve seconds. The relay's ring is short, so that bursts lose a few per cent.
    assert!(report.took < Duration::from_secs(6), "{report:?}");
}
