//! Requests for an instruction counter: `valgrind --tool=callgrind target/release/examples/instructions ROUNDS`.
//!
//! The difference between two round counts, divided, is instructions per request and response on both hosts together.

use ringwire_micro::Rig;
use ringwire_micro::ringwire_rig::RingwireRig;

fn main() {
    let rounds = std::env::args().nth(1).and_then(|rounds| rounds.parse().ok()).unwrap_or(1000);
    let mut rig = RingwireRig::connect(1);
    for _ in 0..rounds {
        rig.round();
    }
    println!("{rounds} requests and responses of 64 B over one connection");
}
