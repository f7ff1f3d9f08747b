//! `TCP_INFO` in Linux's layout (`struct tcp_info`, linux/tcp.h of 6.7; what later ones append is about AccECN).
//!
//! Fields that the engine does not count are zero: `ato`, `rcv_mss`, `pmtu`, `rcv_ssthresh`, `delivered_ce`, `rehash`; `fackets` and
//! `last_ack_sent` are so on Linux too. `last_ack_recv` is that of any acceptable segment. Bytes are payload: Linux counts an active opener's
//! SYN, and FINs, as one more. Where [`TcpInfo`] counts otherwise than Linux it says so.

use std::time::Duration;

use ringwire_proto::tcp::CongestionPhase;

use crate::{TcpInfo, TcpState};

/// Bytes of the structure.
const LEN: usize = 248;

/// Flags of `tcpi_options`.
const TIMESTAMPS: u8 = 1;
const SACK: u8 = 2;
const WINDOW_SCALE: u8 = 4;
const ECN: u8 = 8;
const SYN_DATA: u8 = 32;

/// Linux's TCP_INFINITE_SSTHRESH.
const NO_THRESHOLD_SEGS: u32 = 0x7fff_ffff;

struct Layout([u8; LEN]);

impl Layout {
    fn byte(&mut self, at: usize, value: u8) {
        if let Some(place) = self.0.get_mut(at) {
            *place = value;
        }
    }

    fn word(&mut self, at: usize, value: u32) {
        if let Some(place) = self.0.get_mut(at..at + 4) {
            place.copy_from_slice(&value.to_ne_bytes());
        }
    }

    fn half(&mut self, at: usize, value: u16) {
        if let Some(place) = self.0.get_mut(at..at + 2) {
            place.copy_from_slice(&value.to_ne_bytes());
        }
    }

    fn double(&mut self, at: usize, value: u64) {
        if let Some(place) = self.0.get_mut(at..at + 8) {
            place.copy_from_slice(&value.to_ne_bytes());
        }
    }
}

/// What a socket without connection shows is its state.
pub(super) fn tcp_info_bytes(info: Option<&TcpInfo>, is_listening: bool) -> Vec<u8> {
    let mut bytes = Layout([0; LEN]);
    match info {
        Some(info) => fill(&mut bytes, info),
        None => bytes.byte(0, if is_listening { 10 } else { state_number(TcpState::Closed) }),
    }
    bytes.0.to_vec()
}

fn fill(to: &mut Layout, info: &TcpInfo) {
    let mss = u32::from(info.mss).max(1);
    let in_segs = |bytes: u32| bytes.div_ceil(mss);
    to.byte(0, state_number(info.state));
    to.byte(
        1,
        match info.congestion {
            CongestionPhase::Open => 0,
            CongestionPhase::Disorder => 1,
            CongestionPhase::WindowReduced => 2,
            CongestionPhase::Recovery => 3,
            CongestionPhase::Loss => 4,
        },
    );
    // Unanswered probes when there is nothing else to be answered.
    to.byte(if info.unacked_bytes > 0 { 2 } else { 3 }, info.tries);
    to.byte(4, info.backoff);
    let flags = [
        (info.timestamps, TIMESTAMPS),
        (info.sack, SACK),
        (info.window_scales.is_some(), WINDOW_SCALE),
        (info.ecn, ECN),
        (info.syn_text, SYN_DATA),
    ];
    to.byte(5, flags.iter().filter(|(is_set, _)| *is_set).fold(0, |all, (_, flag)| all | flag));
    let (snd, rcv) = info.window_scales.unwrap_or_default();
    // Two bit fields of four, the first one in the lower bits on both of our targets.
    to.byte(6, snd & 0xf | rcv << 4);
    // `tcpi_delivery_rate_app_limited`, as before the first sample.
    to.byte(7, info.delivery_rate.is_none().into());
    to.word(8, micros(info.rto));
    to.word(16, u32::from(info.mss));
    to.word(24, in_segs(info.unacked_bytes));
    to.word(28, info.sacked_segs);
    to.word(32, in_segs(info.lost_bytes));
    to.word(36, in_segs(info.resent_bytes));
    for (at, since) in [(44, info.last_sent), (52, info.last_received), (56, info.heard)] {
        to.word(at, millis(since));
    }
    to.word(68, micros(info.srtt));
    to.word(72, micros(info.rttvar));
    let ssthresh =
        if info.ssthresh_bytes == u32::MAX { NO_THRESHOLD_SEGS } else { info.ssthresh_bytes / mss };
    to.word(76, ssthresh);
    to.word(80, info.cwnd_bytes / mss);
    to.word(84, u32::from(info.advertised_mss));
    to.word(88, info.reordering_segs);
    to.word(92, info.rcv_rtt.map_or(0, micros));
    to.word(96, info.rcv_space_bytes);
    to.word(144, info.unsent_bytes);
    to.word(148, info.min_rtt.map_or(u32::MAX, micros));
    to.double(160, info.delivery_rate.unwrap_or(0));
    for (at, time) in [(168, info.busy), (176, info.rwnd_limited), (184, info.sndbuf_limited)] {
        to.double(at, u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }
    to.word(228, info.snd_wnd_bytes);
    to.word(232, info.rcv_wnd_bytes);
    fill_totals(to, info);
}

/// What is counted in a connection's life.
fn fill_totals(to: &mut Layout, info: &TcpInfo) {
    to.word(100, info.retransmits);
    to.double(104, info.pacing_rate.unwrap_or(u64::MAX));
    // `tcpi_max_pacing_rate`: nobody has set one.
    to.double(112, u64::MAX);
    to.double(120, info.bytes_acked);
    to.double(128, info.bytes_received);
    to.word(136, info.segs_out);
    to.word(140, info.segs_in);
    to.word(152, info.data_segs_in);
    to.word(156, info.data_segs_out);
    let is_open = !matches!(info.state, TcpState::SynSent | TcpState::SynReceived | TcpState::Closed);
    // Linux counts our SYN, and no FIN.
    to.word(192, info.delivered_segs.wrapping_add(is_open.into()));
    to.double(200, info.bytes_sent);
    to.double(208, info.bytes_retransmitted);
    to.word(216, info.duplicate_segs);
    to.word(220, info.reorderings);
    to.word(224, info.early_segs);
    // Linux's wrap too.
    to.half(240, info.timeouts as u16);
    to.half(242, info.timeout_repairs as u16);
    to.word(244, millis(info.repairing));
}

fn millis(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}

/// Linux's numbers (net/tcp_states.h).
fn state_number(state: TcpState) -> u8 {
    match state {
        TcpState::Established => 1,
        TcpState::SynSent => 2,
        TcpState::SynReceived => 3,
        TcpState::FinWait1 => 4,
        TcpState::FinWait2 => 5,
        // Linux: TIME-WAIT is nobody's socket, and the descriptor's is closed.
        TcpState::TimeWait | TcpState::Closed => 7,
        TcpState::CloseWait => 8,
        TcpState::LastAck => 9,
        TcpState::Closing => 11,
    }
}
