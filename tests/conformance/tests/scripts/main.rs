//! Packet scripts: one test per behaviour, named after RFC and section.

use ringwire::TcpState;

/// One test for each line `name in State`: the script reaches the state, then plays the check.
macro_rules! in_states {
    ($check:ident: $($name:ident in $state:ident),+ $(,)?) => {
        $(
            #[test]
            fn $name() {
                ringwire_conformance::run(stringify!($name), |s| {
                    s.reach(ringwire::TcpState::$state);
                    $check(s, ringwire::TcpState::$state);
                });
            }
        )+
    };
}

mod acks;
mod attacks;
mod closing;
mod congestion;
mod cookies;
mod dctcp;
mod ecn;
mod fast_open;
mod host;
mod liveness;
mod malformed;
mod matrix;
mod matrix_text;
mod opening;
mod options;
mod path_mtu;
mod prr;
mod recovery;
mod rto;
mod sack;
mod syn_flood;
mod tail_loss;
mod time_wait;
mod timestamps;
mod windows;

/// The worker's next number in a state reached by `Script::reach`: its SYN and, once it closed, its FIN count.
fn ours(state: TcpState) -> u32 {
    match state {
        TcpState::Closed
        | TcpState::SynSent
        | TcpState::SynReceived
        | TcpState::Established
        | TcpState::CloseWait => 1,
        TcpState::FinWait1
        | TcpState::FinWait2
        | TcpState::Closing
        | TcpState::LastAck
        | TcpState::TimeWait => 2,
    }
}

/// The peer's next number in such a state.
fn theirs(state: TcpState) -> u32 {
    match state {
        TcpState::Closed
        | TcpState::SynSent
        | TcpState::SynReceived
        | TcpState::Established
        | TcpState::FinWait1
        | TcpState::FinWait2 => 1,
        TcpState::CloseWait | TcpState::Closing | TcpState::LastAck | TcpState::TimeWait => 2,
    }
}
