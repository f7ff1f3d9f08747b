//! SYN cookies (RFC 4987 3.6): a handshake that costs no memory before its last step.
//!
//! ```text
//! SYN -> answer: SYN-ACK with ISN = class of the MSS (4 bits, masked) and what vouches for it (28), by F(flow, irs, period)
//!                and, if the peer has a clock, TSval = our clock with its low six bits replaced: scale (4), SACK (1), ECN (1)
//! ACK -> open:   ack - 1, by F(flow, irs, this period or the last) -> the class, if it is the ISN of that class; TSecr -> the rest
//! ```
//! Owns nothing. Without timestamps there is no place for window scale and SACK, so they are not agreed on. The answer is never
//! repeated: the peer's next SYN brings the same one. A guess is right once in 2^27, also one near a right number: the late
//! acknowledgement of a FIN is none of the SYN-ACK before it.

use core::time::Duration;

use ringwire_wire::tcp::{Flags, Header, MAX_WINDOW_SCALE, Options};

use super::options::now_ms;
use super::{ColdStore, Config, Cx, Payload, RecvTune, Seed, SegmentIn, SendBuf, SendPool, Tcb, Totals};
use crate::prf::Prf;
use crate::{Flow, Instant, SeqNum};

/// No cookie lives longer.
pub const LIFE: Duration = Duration::from_nanos(2 * PERIOD_NS);

/// How long one secret function is in use; a cookie lives for one to two of these.
const PERIOD_NS: u64 = 64_000_000_000;

/// What a cookie can say about the MSS: the largest that is not above the peer's.
const MSS_CLASSES: [u16; 16] =
    [48, 128, 256, 536, 768, 1024, 1220, 1300, 1360, 1400, 1420, 1440, 1452, 1460, 4052, 8960];

/// Low bits of the ISN that say which one.
const CLASS_MASK: u32 = 0xf;

/// Low bits of the timestamp that say what the SYN offered.
const OFFER_MASK: u32 = 0x3f;
const NO_SCALE: u32 = 0xf;
const SACK_BIT: u32 = 1 << 4;
const ECN_BIT: u32 = 1 << 5;

/// The SYN-ACK that takes the place of a connection. Ports are zero and filled in by the caller.
pub fn answer(
    prf: &Prf,
    flow: &Flow,
    config: &Config,
    syn: &SegmentIn,
    now: Instant,
) -> Option<(Header, Options)> {
    let class = class_of(syn.options.mss);
    let mut offer = *syn;
    if !config.timestamps || syn.options.timestamps.is_none() {
        offer = without_options(offer);
    }
    let iss = SeqNum(number(prf.cookie(flow, syn.header.seq, period(now)), class));
    let mut tcb = Tcb::accept(config, seed(prf, flow, iss), &offer, now);
    let (header, mut options) = take_syn_ack(&mut tcb, config, now)?;
    if let Some(timestamps) = &mut options.timestamps {
        let scale = offer.options.window_scale.filter(|_| options.window_scale.is_some());
        let mut said = scale.map_or(NO_SCALE, |scale| u32::from(scale.min(MAX_WINDOW_SCALE)));
        said |= if options.sack_permitted { SACK_BIT } else { 0 };
        said |= if header.flags.contains(Flags::ECE) { ECN_BIT } else { 0 };
        timestamps.value = stamp(now_ms(now), said).wrapping_add(prf.timestamp_offset(flow));
    }
    Some((header, options))
}

/// The connection whose SYN-ACK `ack` acknowledges, in SYN-RECEIVED: to be given `ack` next. None if it acknowledges no cookie of
/// ours, or an old one.
pub fn open(prf: &Prf, flow: &Flow, config: &Config, ack: &SegmentIn, now: Instant) -> Option<Tcb> {
    let irs = ack.header.seq.wrapping_sub(1);
    let iss = ack.header.ack.wrapping_sub(1);
    let this = period(now);
    let class = [this, this.wrapping_sub(1)].into_iter().find_map(|period| {
        let pad = prf.cookie(flow, irs, period);
        let class = class_in(pad, iss);
        MSS_CLASSES.get(usize::try_from(class).ok()?).filter(|_| number(pad, class) == iss)
    })?;
    let mut options = Options { mss: Some(*class), ..Options::default() };
    let mut flags = Flags::SYN;
    if let Some(timestamps) = ack.options.timestamps.filter(|_| config.timestamps) {
        let clock = timestamps.echo.wrapping_sub(prf.timestamp_offset(flow));
        if u64::from(now_ms(now).wrapping_sub(clock)) > 2 * PERIOD_NS / 1_000_000 {
            return None;
        }
        let scale = clock & NO_SCALE;
        options.window_scale = u8::try_from(scale).ok().filter(|_| scale != NO_SCALE);
        options.sack_permitted = clock & SACK_BIT != 0;
        options.timestamps = Some(timestamps);
        if clock & ECN_BIT != 0 {
            flags |= Flags::ECE | Flags::CWR;
        }
    }
    // The window comes with `ack`.
    let header = Header { seq: irs, flags, ..Header::default() };
    let syn = SegmentIn { header, options, is_marked: false };
    let mut tcb = Tcb::accept(config, seed(prf, flow, SeqNum(iss)), &syn, now);
    take_syn_ack(&mut tcb, config, now)?;
    tcb.cancel_timers();
    Some(tcb)
}

fn seed(prf: &Prf, flow: &Flow, iss: SeqNum) -> Seed {
    Seed { iss, timestamp_offset: prf.timestamp_offset(flow) }
}

fn period(now: Instant) -> u32 {
    // 2^32 periods are 8,000 years.
    (now.as_nanos() / PERIOD_NS) as u32
}

/// The ISN that says `class`. `pad` is secret and used for one SYN (RFC 4987 3.6): who has seen the number of one class guesses that of
/// another once in 2^28, for the upper bits of a sum of a secret and a secret multiple are independent for any two classes.
fn number(pad: u64, class: u32) -> u32 {
    let (secret, factor) = ((pad >> 32) as u32, pad as u32);
    let voucher = secret.wrapping_add(class.wrapping_mul(factor));
    // The mask says nothing of the factor.
    voucher & !CLASS_MASK | (class ^ secret) & CLASS_MASK
}

/// The class that [`number`] would have said in `iss`.
fn class_in(pad: u64, iss: u32) -> u32 {
    (iss ^ (pad >> 32) as u32) & CLASS_MASK
}

fn class_of(mss: Option<u16>) -> u32 {
    // RFC 9293 3.7.1 (MUST-15)
    let mss = mss.unwrap_or(536);
    let above = MSS_CLASSES.partition_point(|class| *class <= mss);
    // At most 16.
    above.saturating_sub(1) as u32
}

/// Our clock, not later than now, with the offer in its low bits: the peer sees time go on with the first real segment.
fn stamp(clock_ms: u32, said: u32) -> u32 {
    let stamp = clock_ms & !OFFER_MASK | said;
    let is_ahead = stamp.wrapping_sub(clock_ms).cast_signed() > 0;
    if is_ahead { stamp.wrapping_sub(OFFER_MASK + 1) } else { stamp }
}

/// What could not be remembered was not offered.
fn without_options(mut syn: SegmentIn) -> SegmentIn {
    syn.options = Options::default();
    syn.header.flags = Flags::SYN;
    syn
}

/// The first segment of a connection that was just accepted.
fn take_syn_ack(tcb: &mut Tcb, config: &Config, now: Instant) -> Option<(Header, Options)> {
    let mut cold = ColdStore::<Nothing, Nothing>::new();
    let (tune, totals) = (&mut RecvTune::default(), &mut Totals::default());
    let mut cx = Cx { now, config, cold: &mut cold, pool: &mut Nothing, tune, totals };
    tcb.poll_transmit(&mut cx).map(|transmit| (transmit.header, transmit.options))
}

/// A handshake needs no buffers.
struct Nothing;

impl Payload for Nothing {
    fn len(&self) -> usize {
        0
    }
    fn bytes(&self) -> &[u8] {
        &[]
    }
    fn advance(&mut self, _count: usize) {}
    fn truncate(&mut self, _len: usize) {}
}

impl SendBuf for Nothing {
    fn len(&self) -> usize {
        0
    }
    fn spare(&self) -> usize {
        0
    }
    fn append(&mut self, _bytes: &[u8]) -> usize {
        0
    }
    fn bytes(&self) -> &[u8] {
        &[]
    }
    fn in_ring(&self) -> bool {
        false
    }
}

impl SendPool for Nothing {
    type Buf = Nothing;
    fn alloc(&mut self) -> Option<Nothing> {
        None
    }
}
