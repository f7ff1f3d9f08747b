//! Settings of a connection: values, not behaviour.

use core::num::NonZeroU32;
use core::time::Duration;

use super::Algorithm;
use crate::time::Instant;

/// Settings of one connection or of all connections of a listener.
///
/// `mss`, `window_scale`, `timestamps` and `sack` matter during the handshake only; the rest may change at any time.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Config {
    /// Largest segment we take, announced in the SYN: the MTU minus 40 (RFC 9293 3.7.1). Also caps what we send.
    pub mss: u16,
    /// Floor of the MSS we send with, options included, whatever the peer announces (CVE-2019-11479).
    pub min_mss: u16,
    /// Shift of our window fields, at most 14; none: window scaling is not offered (RFC 7323 2).
    pub window_scale: Option<u8>,
    /// Offer timestamps (RFC 7323 3).
    pub timestamps: bool,
    /// Offer selective acknowledgement (RFC 2018).
    pub sack: bool,
    /// Send small segments at once instead of waiting for the acknowledgement of the last one (RFC 9293 3.7.4).
    pub nodelay: bool,
    /// Received bytes held at most: unread, or lent to the application and not given back.
    pub recv_buffer_bytes: u32,
    /// What that may grow to when the path carries more in a round trip (see [`super::RecvTune`]).
    pub recv_buffer_max_bytes: u32,
    /// Received pieces held unread at most, so that small segments cannot pin every frame.
    pub recv_buffer_segs: u32,
    /// Out-of-order pieces held at most.
    pub reassembly_segs: u32,
    /// Bytes queued for sending at most, acknowledged ones excluded.
    pub send_buffer_bytes: u32,
    /// What that may grow to: twice the congestion window, but not more than this.
    pub send_buffer_max_bytes: u32,
    /// Bytes that wait for the window at most; none: the send buffer alone says when there is room. [`Signals::WRITABLE`] follows when half
    /// of them are left (Linux's TCP_NOTSENT_LOWAT).
    ///
    /// [`Signals::WRITABLE`]: super::Signals::WRITABLE
    pub unsent_low_water_bytes: Option<NonZeroU32>,
    /// How long an acknowledgement waits for company (RFC 9293 3.8.6.3: at most 500 ms).
    pub delayed_ack: Duration,
    /// Segments acknowledged at once when the peer begins to send, or begins again after a pause longer than the RTO, until the
    /// application answers (RFC 5681 4.2 leaves it open; Linux: 16).
    pub quick_acks: u8,
    /// Probing of idle connections; none: never (RFC 9293 3.8.4).
    pub keepalive: Option<Keepalive>,
    /// How long sent data may stay unacknowledged, or a connect unanswered (RFC 9293 3.8.3); none: the retry limits decide.
    pub user_timeout: Option<Duration>,
    /// Retransmissions of a SYN. Seven, with an initial RTO of one second, make more than the three minutes that RFC 9293 3.8.3 asks
    /// for (MUST-23); Linux's six make 127 s.
    pub syn_retries: u8,
    /// Retransmissions of a SYN-ACK.
    pub synack_retries: u8,
    /// Retransmissions of the same data, or unanswered window probes, before the connection is given up.
    pub retries: u8,
    /// The same once the application has closed; answered window probes count too (RFC 6429).
    pub orphan_retries: u8,
    /// RTO before the first measurement (RFC 6298 2.1).
    pub rto_initial: Duration,
    /// Lower bound of the RTO. RFC 6298 (2.4) says 1 s; Linux and we use 200 ms. Keep it above the peer's delayed ACK (Linux and
    /// we: 40 ms), or every lone segment is sent twice.
    pub rto_min: Duration,
    /// Upper bound of the RTO and of probe intervals, at most one hour.
    pub rto_max: Duration,
    /// Explicit congestion notification (RFC 3168). DCTCP asks for it unless it is off.
    pub ecn: Ecn,
    /// Look for shorter segments when long ones do not get through, and for longer ones later (RFC 8899).
    pub mtu_probing: bool,
    /// Congestion control algorithm.
    pub congestion: Algorithm,
    /// Whether a window is spread over its round trip instead of leaving at once. BBR's always is.
    pub pacing: Pacing,
    /// Initial congestion window in segments (RFC 6928).
    pub initial_window_segs: u8,
    /// How long TIME-WAIT lasts (2 MSL).
    pub time_wait: Duration,
    /// How long a closed connection waits for the peer's FIN.
    pub fin_wait2: Duration,
    /// What `close` does with data still unsent: `Some(ZERO)` resets; otherwise it is delivered in the background, and waiting
    /// for that inside close is the business of blocking callers.
    pub linger: Option<Duration>,
}

/// When explicit congestion notification is agreed on (RFC 3168 6.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Ecn {
    /// Never.
    Off,
    /// If the peer asks for it; Linux's default too.
    #[default]
    Answer,
    /// Ask for it.
    Ask,
}

/// When a window is spread over its round trip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Pacing {
    /// Never; Linux's way without `fq`.
    Off,
    /// Where a burst would do harm and the round trip leaves time to spread it: a window of more than 32 segments, on a path of 5 ms
    /// or more. What is shorter, or nearer, leaves as soon as it may.
    #[default]
    Auto,
    /// Always.
    On,
}

impl Pacing {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Off, Self::Auto, Self::On];

    /// The name that configuration uses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Auto => "auto",
            Self::On => "on",
        }
    }
}

/// Probing of an idle connection (TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Keepalive {
    /// Silence before the first probe.
    pub time: Duration,
    /// Time between probes.
    pub interval: Duration,
    /// Unanswered probes before the connection is given up.
    pub retries: u8,
}

impl Default for Keepalive {
    fn default() -> Self {
        Self { time: Duration::from_secs(7200), interval: Duration::from_secs(75), retries: 9 }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mss: 1460,
            min_mss: 48,
            window_scale: Some(7),
            timestamps: true,
            sack: true,
            nodelay: false,
            recv_buffer_bytes: 256 << 10,
            recv_buffer_max_bytes: 6 << 20,
            recv_buffer_segs: 1024,
            reassembly_segs: 512,
            send_buffer_bytes: 256 << 10,
            send_buffer_max_bytes: 4 << 20,
            unsent_low_water_bytes: None,
            delayed_ack: Duration::from_millis(40),
            quick_acks: 0,
            keepalive: None,
            user_timeout: None,
            syn_retries: 7,
            synack_retries: 5,
            retries: 15,
            orphan_retries: 8,
            rto_initial: Duration::from_secs(1),
            rto_min: Duration::from_millis(200),
            rto_max: Duration::from_secs(120),
            ecn: Ecn::default(),
            mtu_probing: true,
            congestion: Algorithm::default(),
            pacing: Pacing::default(),
            initial_window_segs: 10,
            time_wait: Duration::from_secs(60),
            fin_wait2: Duration::from_secs(60),
            linger: None,
        }
    }
}

impl Config {
    /// The smallest shift with which a window field can announce `recv_buffer_bytes`.
    pub fn window_scale_for(recv_buffer_bytes: u32) -> u8 {
        (0..14).find(|shift| recv_buffer_bytes >> shift <= u32::from(u16::MAX)).unwrap_or(14)
    }

    /// Whether to ask for congestion notification: where it is wanted, and where the algorithm is of no use without it.
    pub(super) fn asks_ecn(&self) -> bool {
        self.ecn == Ecn::Ask || (self.congestion.counts_marks() && self.ecn != Ecn::Off)
    }

    /// Send-queue records allowed: small writes hold a whole buffer each, so buffers are limited beside bytes.
    pub(super) fn send_segs(limit_bytes: u32) -> usize {
        (limit_bytes as usize / 512).max(16)
    }
}

/// `now` plus `wait`, without the 128-bit arithmetic of `Duration::as_nanos`.
pub(super) fn after(now: Instant, wait: Duration) -> Instant {
    const MOST_SECS: u64 = u64::MAX / 1_000_000_000;
    let whole_ns = wait.as_secs().min(MOST_SECS) * 1_000_000_000;
    now.add_nanos(whole_ns.saturating_add(wait.subsec_nanos().into()))
}

/// Whole microseconds of `duration`; `u32::MAX` from 4,294 s (71 minutes) on.
#[inline]
pub(super) fn micros(duration: Duration) -> u32 {
    const TOO_MANY_SECS: u64 = u32::MAX as u64 / 1_000_000;
    match duration.as_secs() {
        TOO_MANY_SECS.. => u32::MAX,
        secs => secs as u32 * 1_000_000 + duration.subsec_micros(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7323 2.3: 14 at most.
    #[test]
    fn the_scale_is_the_smallest_that_can_say_the_buffer() {
        let sizes = [0, 65_535, 65_536, 131_071, 131_072, 1 << 20, 1 << 29, u32::MAX];
        assert_eq!(sizes.map(Config::window_scale_for), [0, 0, 1, 1, 2, 5, 14, 14]);
    }
    #[test]
    fn a_duration_counts_whole_up_to_what_the_number_holds() {
        let most_us = u32::MAX;
        for (duration, expected_us) in [
            (Duration::from_nanos(2_000_005_999), 2_000_005),
            (Duration::from_micros(most_us.into()), most_us),
            (Duration::from_micros(u64::from(most_us) + 1), most_us),
            (Duration::MAX, most_us),
        ] {
            assert_eq!(micros(duration), expected_us, "{duration:?}");
        }
        let now = Instant::from_secs(7);
        assert_eq!(after(now, Duration::from_millis(1500)), now.add_nanos(1_500_000_000));
        let century = Duration::from_secs(3_200_000_000);
        assert_eq!(after(now, century).saturating_since(now), century);
        assert_eq!(after(now, Duration::MAX), Instant::from_nanos(u64::MAX));
    }
}
