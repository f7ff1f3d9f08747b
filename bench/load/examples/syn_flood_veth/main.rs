//! A listener under a flood of SYNs over veth, Ringwire's and the kernel's in turns, a minute as it stands:
//! `cargo build --release -p ringwire-load --example syn_flood_veth`, then, as root,
//! `target/release/examples/syn_flood_veth [SYN_PER_S] [SECONDS] [ROUNDS] [MBIT_PER_S]`.
//!
//! ```text
//! client: kernel sockets --+
//! flooder: AF_PACKET ------+-- router: kernel -- server: engine over AF_XDP, or kernel sockets
//! sink: drops -------------+
//! ```
//! Every node is a network namespace of its own. In a round each server goes through three phases: without a flood; with one that the
//! router sends to the sink, so that the machine is as busy; with one that reaches the listener. In each of them the client sends on
//! two established connections, 50 Mbit/s each if not told otherwise, and opens a new one every 5 ms.
//!
//! Over veth the kernel's work for a packet is done on the sender's core: that of the flood, of its way through the router and of the
//! kernel server all on the flooder's. A machine that is busy otherwise gives no flood, which is said.

mod rig;
mod serve;

use std::process::ExitCode;
use std::time::Duration;

use hdrhistogram::Histogram;
use ringwire_load::stats::Spread;

use rig::{ESTABLISHED, Load, Phase, Rig, Seen, UnansweredShares};
use serve::Stack;

/// A new connection takes less at p99.
const GOAL_P99: Duration = Duration::from_millis(100);
/// What is established keeps more of its rate.
const GOAL_KEPT: f64 = 0.5;
/// A flood that was slower than this part of what was asked for shows nothing.
const LEAST_FLOOD: f64 = 0.95;
/// One of which less is answered has ended elsewhere; the rest may have found a ring full.
const LEAST_ANSWERED: f64 = 0.5;

/// More than two cores can send, so that the load stays one.
const MOST_SYN_PER_S: u32 = 5_000_000;

fn main() -> ExitCode {
    let arg = |index| std::env::args().nth(index).and_then(|arg| arg.parse::<u32>().ok());
    let syn_per_s = arg(1).unwrap_or(100_000).clamp(1, MOST_SYN_PER_S);
    let lasts = Duration::from_secs(u64::from(arg(2).unwrap_or(3).clamp(1, 60)));
    let rounds = arg(3).unwrap_or(3).clamp(1, 20);
    let rate_bits = f64::from(arg(4).unwrap_or(50).max(1)) * 1e6;
    match compare(Load { syn_per_s, rate_bits }, lasts, rounds) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(4),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs all rounds and prints; whether they are valid.
fn compare(load: Load, lasts: Duration, rounds: u32) -> Result<bool, String> {
    let rig = Rig::new(load).map_err(|error| error.to_string())?;
    let mut seen: [Vec<[Seen; 3]>; 2] = Default::default();
    for round in 0..rounds {
        for (stack, seen) in Stack::ALL.into_iter().zip(&mut seen) {
            eprintln!("round {} of {rounds}: {}", round + 1, stack.name());
            seen.push(rig.round(stack, lasts)?);
        }
    }
    let Load { syn_per_s, rate_bits } = load;
    println!(
        "{syn_per_s} SYN/s over veth, {rounds} rounds of three phases of {lasts:?}, interleaved; {ESTABLISHED} established connections of {:.0} Mbit/s to one worker",
        rate_bits / 1e6
    );
    let mut is_valid = true;
    for (stack, rounds) in Stack::ALL.into_iter().zip(&seen) {
        println!("{}", stack.name());
        is_valid &= report(rounds, syn_per_s);
    }
    println!("{}", if is_valid { "VALID" } else { "NOT VALID" });
    Ok(is_valid)
}

/// One server's figures; whether they mean anything.
fn report(rounds: &[[Seen; 3]], syn_per_s: u32) -> bool {
    let spread =
        |of: &dyn Fn(&[Seen; 3]) -> f64| Spread::of(rounds.iter().map(of)).expect("a round at least");
    for (index, phase) in Phase::ALL.into_iter().enumerate() {
        let connects = connects_of(rounds, index);
        let ms = |quantile| connects.value_at_quantile(quantile) as f64 / 1e3;
        println!(
            "  {:<14} {:>6.0} k SYN/s, {:>6.2} Gbit/s, {} connects: p50 {:.2} ms, p99 {:.2} ms, most {:.2} ms",
            phase.name(),
            spread(&|round| round[index].syns_per_s).median / 1e3,
            spread(&|round| round[index].bits_per_s).median / 1e9,
            connects.len(),
            ms(0.5),
            ms(0.99),
            ms(1.0),
        );
    }
    let kept = |than: usize| spread(&move |round| round[2].bits_per_s / round[than].bits_per_s);
    let show = |Spread { q1, median, q3, .. }: Spread| format!("{median:.2} [{q1:.2}..{q3:.2}]");
    let (of_quiet, of_elsewhere) = (kept(0), kept(1));
    let p99 = Duration::from_micros(connects_of(rounds, 2).value_at_quantile(0.99));
    let mark = |is_met| if is_met { "met" } else { "MISSED" };
    println!(
        "  keeps {} of its rate, and {} of that with the flood elsewhere: goal of more than {GOAL_KEPT} {}",
        show(of_quiet),
        show(of_elsewhere),
        mark(of_quiet.median > GOAL_KEPT)
    );
    println!("  connects in {p99:.1?} at p99: goal of less than {GOAL_P99:?} {}", mark(p99 < GOAL_P99));
    let answered = spread(&|round| round[2].answered).min;
    let slowest = spread(&|round| round[1].syns_per_s.min(round[2].syns_per_s)).min;
    if slowest < LEAST_FLOOD * f64::from(syn_per_s) {
        println!("  not valid: the flooder reached {:.0} k SYN/s only", slowest / 1e3);
        return false;
    }
    println!("  answers {:.0} % of the flood", answered * 100.0);
    if rounds.iter().all(|round| round[2].unanswered.is_some()) {
        let percent = |of: fn(UnansweredShares) -> f64| {
            spread(&move |round| round[2].unanswered.map_or(0.0, of)).median * 100.0
        };
        println!(
            "  {:.0} % are of half-open connections, which answer again after half a second; {:.0} % found the ring full",
            percent(|shares| shares.repeated),
            percent(|shares| shares.lost)
        );
    }
    if answered < LEAST_ANSWERED {
        println!("  not valid: the flood did not come to the listener");
        return false;
    }
    true
}

/// Times of a phase in all rounds, in microseconds.
fn connects_of(rounds: &[[Seen; 3]], phase: usize) -> Histogram<u64> {
    const MAX_US: u64 = 10_000_000;
    let mut connects = Histogram::new_with_max(MAX_US, 3).expect("the bounds are constant and valid");
    for time in rounds.iter().flat_map(|round| &round[phase].connects) {
        connects.saturating_record(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }
    connects
}
