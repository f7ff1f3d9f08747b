//! Work for an instruction counter: `valgrind --tool=callgrind target/release/examples/instructions STACK ROUNDS`.
//!
//! The difference between two round counts, divided, is instructions per request and response on both hosts together.

use ringwire_micro::Rig;
use ringwire_micro::ringwire_rig::RingwireRig;
use ringwire_micro::smoltcp_rig::SmoltcpRig;

fn main() {
    let stack = std::env::args().nth(1).unwrap_or_else(|| "ringwire".to_owned());
    let rounds = std::env::args().nth(2).and_then(|rounds| rounds.parse().ok()).unwrap_or(1000);
    match stack.as_str() {
        "smoltcp" => run::<SmoltcpRig>(rounds),
        _ => run::<RingwireRig>(rounds),
    }
    println!("{stack}: {rounds} requests and responses of 64 B over one connection");
}

fn run<R: Rig>(rounds: u32) {
    let mut rig = R::connect(1);
    for _ in 0..rounds {
        rig.round();
    }
}
