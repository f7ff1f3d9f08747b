//! Helpers for tests that play the peer by hand.

use ringwire_wire::tcp::Flags;
use std::vec::Vec;

use super::host::{Host, Wire};
use crate::SeqNum;
use crate::tcp::{Algorithm, Config, Signals, State};

/// Our first number; data wraps after 15 bytes.
pub(super) const ISS: SeqNum = SeqNum(0xffff_fff0);
/// The peer's first number.
pub(super) const IRS: SeqNum = SeqNum(0x7fff_fff0);

pub(super) const ACK: Flags = Flags::ACK;
pub(super) const SYN: Flags = Flags::SYN;
pub(super) const FIN: Flags = Flags::FIN;
pub(super) const RST: Flags = Flags::RST;
pub(super) const PSH: Flags = Flags::PSH;
pub(super) const URG: Flags = Flags::URG;
pub(super) const ECE: Flags = Flags::ECE;

/// Every state, in the order of RFC 9293 3.3.2.
pub(super) const STATES: [State; 10] = [
    State::Closed,
    State::SynSent,
    State::SynReceived,
    State::Established,
    State::FinWait1,
    State::FinWait2,
    State::CloseWait,
    State::Closing,
    State::LastAck,
    State::TimeWait,
];

/// No options, so that segments are what they look like.
pub(super) fn plain() -> Config {
    Config {
        timestamps: false,
        sack: false,
        window_scale: None,
        mss: 1000,
        congestion: Algorithm::NewReno,
        recv_buffer_max_bytes: 0,
        send_buffer_max_bytes: 0,
        ..Config::default()
    }
}

/// A segment of the peer: `seq` bytes after its SYN, acknowledging `ack` bytes after ours.
pub(super) fn peer(flags: Flags, seq: u32, ack: u32) -> Wire {
    Wire::new(flags, IRS + 1 + seq, ISS + 1 + ack)
}

/// The peer's SYN.
pub(super) fn peer_syn() -> Wire {
    Wire::new(SYN, IRS, SeqNum(0)).mss(1000)
}

/// The peer's SYN-ACK.
pub(super) fn peer_syn_ack() -> Wire {
    Wire::new(SYN | ACK, IRS, ISS + 1).mss(1000)
}

/// An active opener whose handshake is done.
pub(super) fn established(config: &Config) -> Host {
    established_by(config, &peer_syn_ack())
}

/// The same, answered by this SYN-ACK.
pub(super) fn established_by(config: &Config, syn_ack: &Wire) -> Host {
    let mut host = Host::connect(config, ISS.0);
    assert_eq!(host.transmit().len(), 1);
    let sent = host.exchange(syn_ack);
    assert_eq!((host.state(), sent.len()), (State::Established, 1));
    assert!(host.signals.contains(Signals::CONNECTED | Signals::WRITABLE));
    host.signals = Signals::NONE;
    host
}

/// A passive opener whose SYN-ACK has left.
pub(super) fn syn_received(config: &Config) -> Host {
    let mut host = Host::accept(config, ISS.0, &peer_syn());
    assert_eq!(host.transmit().len(), 1);
    host
}

/// A host in this state. Nothing was sent but SYN and FIN; the peer's next number is `peer_seq(state)`.
pub(super) fn in_state(state: State, config: &Config) -> Host {
    let mut host = match state {
        State::Closed | State::SynSent => Host::connect(config, ISS.0),
        State::SynReceived => syn_received(config),
        State::Established
        | State::FinWait1
        | State::FinWait2
        | State::CloseWait
        | State::Closing
        | State::LastAck
        | State::TimeWait => established(config),
    };
    match state {
        State::Closed => drop(host.close()),
        State::SynSent => drop(host.transmit()),
        State::SynReceived | State::Established => {}
        State::FinWait1 => drop(host.shutdown_write()),
        State::FinWait2 => {
            host.shutdown_write();
            host.exchange(&peer(ACK, 0, 1));
        }
        State::CloseWait => drop(host.exchange(&peer(FIN | ACK, 0, 0))),
        State::Closing => {
            host.shutdown_write();
            host.exchange(&peer(FIN | ACK, 0, 0));
        }
        State::LastAck => {
            host.exchange(&peer(FIN | ACK, 0, 0));
            host.shutdown_write();
        }
        State::TimeWait => {
            host.shutdown_write();
            host.exchange(&peer(FIN | ACK, 0, 1));
        }
    }
    assert_eq!(host.state(), state);
    host.signals = Signals::NONE;
    host
}

/// How many numbers after its SYN the peer has used in `in_state`.
pub(super) fn peer_seq(state: State) -> u32 {
    match state {
        State::Closed
        | State::SynSent
        | State::SynReceived
        | State::Established
        | State::FinWait1
        | State::FinWait2 => 0,
        State::CloseWait | State::Closing | State::LastAck | State::TimeWait => 1,
    }
}

/// How many numbers after our SYN we have used in `in_state`.
pub(super) fn our_seq(state: State) -> u32 {
    match state {
        State::Closed | State::SynSent | State::SynReceived | State::Established | State::CloseWait => 0,
        State::FinWait1 | State::FinWait2 | State::Closing | State::LastAck | State::TimeWait => 1,
    }
}

/// Our segment, `seq` bytes after our SYN, acknowledging `ack` bytes after the peer's.
#[track_caller]
pub(super) fn expect(wire: &Wire, flags: Flags, seq: u32, ack: u32, len: usize) {
    let got = (
        wire.header.flags,
        wire.seq().offset_from(ISS + 1),
        wire.ack().offset_from(IRS + 1),
        wire.payload.len(),
    );
    assert_eq!(got, (flags, seq as i32, ack as i32, len), "{wire:?}");
}

/// Exactly one segment.
#[track_caller]
pub(super) fn one(sent: Vec<Wire>) -> Wire {
    assert_eq!(sent.len(), 1, "{sent:?}");
    sent.into_iter().next().expect("one")
}

/// Exactly one bare ACK of everything received.
#[track_caller]
pub(super) fn expect_ack(sent: Vec<Wire>, seq: u32, ack: u32) {
    expect(&one(sent), ACK, seq, ack, 0);
}

/// Nothing.
#[track_caller]
pub(super) fn expect_none(sent: Vec<Wire>) {
    assert_eq!(sent, []);
}
