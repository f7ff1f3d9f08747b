//! Work for an instruction counter: `valgrind --tool=callgrind target/release/examples/instructions STACK ROUNDS [WORK]`.
//!
//! The difference between two round counts, divided, is instructions per round on both hosts together: a request and its response
//! of 64 B (the default), the same on each of WORK connections if that is a number, or 1 MiB one way (`bulk`).

use ringwire_micro::Rig;
use ringwire_micro::bare_rig::BareRig;
use ringwire_micro::ringwire_rig::RingwireRig;
use ringwire_micro::smoltcp_rig::SmoltcpRig;

fn main() {
    let stack = std::env::args().nth(1).unwrap_or_else(|| "ringwire".to_owned());
    let rounds = std::env::args().nth(2).and_then(|rounds| rounds.parse().ok()).unwrap_or(1000);
    let work = std::env::args().nth(3).unwrap_or_else(|| "1".to_owned());
    match stack.as_str() {
        "smoltcp" => run::<SmoltcpRig>(rounds, &work),
        "bare" => run::<BareRig>(rounds, &work),
        _ => run::<RingwireRig>(rounds, &work),
    }
    println!("{stack}: {rounds} rounds of {work}");
}

fn run<R: Rig>(rounds: u32, work: &str) {
    let mut rig = R::connect(work.parse().unwrap_or(1));
    for _ in 0..rounds {
        if work == "bulk" {
            rig.bulk(1 << 20);
        } else {
            rig.round();
        }
    }
}
