//! Work for an instruction counter: `valgrind --tool=callgrind target/release/examples/instructions STACK ROUNDS [WORK]`.
//!
//! The difference between two round counts, divided, is instructions per round on both hosts together: a request and its response
//! of 64 B (`rr`, the default), or 1 MiB one way (`bulk`).

use ringwire_micro::Rig;
use ringwire_micro::ringwire_rig::RingwireRig;
use ringwire_micro::smoltcp_rig::SmoltcpRig;

fn main() {
    let stack = std::env::args().nth(1).unwrap_or_else(|| "ringwire".to_owned());
    let rounds = std::env::args().nth(2).and_then(|rounds| rounds.parse().ok()).unwrap_or(1000);
    let is_bulk = std::env::args().nth(3).is_some_and(|work| work == "bulk");
    match stack.as_str() {
        "smoltcp" => run::<SmoltcpRig>(rounds, is_bulk),
        _ => run::<RingwireRig>(rounds, is_bulk),
    }
    let work = if is_bulk { "times 1 MiB" } else { "requests and responses of 64 B" };
    println!("{stack}: {rounds} {work} over one connection");
}

fn run<R: Rig>(rounds: u32, is_bulk: bool) {
    let mut rig = R::connect(1);
    for _ in 0..rounds {
        if is_bulk {
            rig.bulk(1 << 20);
        } else {
            rig.round();
        }
    }
}
