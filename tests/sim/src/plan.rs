//! What one run does: drawn from a seed, or written by hand.

use std::time::Duration;

use ringwire::{CongestionControl, Ecn, KeepAlive, Pacing, TcpOptions};

use crate::line::{Impairment, Loss};
use crate::rng::Rng;

/// What happens on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Incident {
    /// Nothing.
    None,
    /// From some time on the other end is not there any more: nothing passes, in either direction.
    Vanishes {
        /// Since the beginning.
        at: Duration,
    },
    /// The server's host loses its memory and starts again, with the same addresses.
    Restarts {
        /// Since the beginning.
        at: Duration,
    },
    /// A link on the way takes smaller packets from now on.
    MtuFalls {
        /// Since the beginning.
        at: Duration,
        /// Bytes of an IP packet.
        to: usize,
    },
}

/// What one run does.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Everything random in the run comes from it.
    pub seed: u64,
    /// The link.
    pub impairment: Impairment,
    /// What happens on the way.
    pub incident: Incident,
    /// Bytes from the client to the server.
    pub upload_bytes: usize,
    /// Bytes from the server to the client.
    pub download_bytes: usize,
    /// Frames of each engine's pool.
    pub frames: u32,
    /// Of both ends.
    pub options: TcpOptions,
    /// Whether the sequence numbers of both ends begin shortly before they wrap.
    pub wraps: bool,
}

/// Frames of an engine that has few; it may give up a connection that makes no progress.
pub const SCARCE_FRAMES: u32 = 64;

/// How long a peer may be silent before the application is told.
pub const PATIENCE: Duration = Duration::from_secs(20);

impl Plan {
    /// This many bytes each way over this link, with an engine's own settings.
    pub fn new(seed: u64, impairment: Impairment, upload_bytes: usize, download_bytes: usize) -> Plan {
        Plan {
            seed,
            impairment,
            incident: Incident::None,
            upload_bytes,
            download_bytes,
            frames: 512,
            options: TcpOptions::default(),
            wraps: false,
        }
    }

    /// A plan drawn from a seed: sizes from nothing to a few hundred kilobytes, links from clean to wretched, sometimes an incident
    /// or a path that swallows long packets; any congestion control.
    pub fn from_seed(seed: u64) -> Plan {
        let mut rng = Rng::new(seed);
        let mut impairment = link(&mut rng);
        let (upload_bytes, download_bytes) = (size(&mut rng), size(&mut rng));
        let incident = incident(&mut rng, &impairment, upload_bytes + download_bytes);
        let mut options = options(&mut rng);
        if matches!(incident, Incident::Vanishes { .. }) {
            options.user_timeout = Some(PATIENCE);
        }
        let frames = if rng.chance(0.2) { SCARCE_FRAMES } else { 512 };
        let may_cut = frames == SCARCE_FRAMES;
        if may_cut || matches!(incident, Incident::Vanishes { .. } | Incident::Restarts { .. }) {
            // Without it an idle end has no means to notice, and no wish to: a RST may be lost too.
            let (time, interval) = (Duration::from_secs(5), Duration::from_secs(1));
            options.keepalive = Some(KeepAlive { time, interval, retries: 10 });
        }
        hide_mtu(&mut rng, &mut impairment, incident);
        // A generator of their own: a seed keeps its link, whatever is drawn here.
        let mut rng = Rng::new(seed ^ 0x00f7_1045);
        vary(&mut rng, &mut options);
        let wraps = rng.chance(0.2);
        // Likewise.
        options.fast_open = Rng::new(seed ^ FAST_OPEN_SEED).chance(0.3);
        // Likewise. Nothing may be marked where ECN was not agreed on.
        let mut rng = Rng::new(seed ^ MARK_SEED);
        if options.ecn == Ecn::Ask && rng.chance(0.5) {
            impairment.mark = rng.below(50) as f64 / 1000.0;
        }
        Plan { seed, impairment, incident, upload_bytes, download_bytes, frames, options, wraps }
    }

    /// What the smaller of the buffers lets be in flight in one direction.
    pub fn window_bytes(&self) -> usize {
        let TcpOptions { recv_buffer_max_bytes, recv_buffer_bytes, .. } = self.options;
        let offered = recv_buffer_max_bytes.max(recv_buffer_bytes);
        let offered = if self.options.window_scaling { offered } else { offered.min(u16::MAX.into()) };
        offered.min(self.options.send_buffer_max_bytes.max(self.options.send_buffer_bytes)) as usize
    }

    /// The smallest MTU that the run will see.
    pub fn least_mtu(&self) -> usize {
        match self.incident {
            Incident::MtuFalls { to, .. } => to.min(self.impairment.mtu),
            Incident::None | Incident::Vanishes { .. } | Incident::Restarts { .. } => self.impairment.mtu,
        }
    }
}

/// Any numbers.
const FAST_OPEN_SEED: u64 = 0x7413;
const MARK_SEED: u64 = 0x3168;

const SMALL_MTUS: [usize; 5] = [1492, 1400, 1280, 1000, 600];

fn pick<T: Copy>(rng: &mut Rng, choices: &[T]) -> T {
    choices[usize::try_from(rng.below(choices.len() as u64)).unwrap_or(0)]
}

fn size(rng: &mut Rng) -> usize {
    let largest = pick(rng, &[0, 1, 500, 1460, 20_000, 150_000, 150_000, 600_000]);
    usize::try_from(rng.below(largest + 1)).unwrap_or(0)
}

fn link(rng: &mut Rng) -> Impairment {
    let per_mille = |rng: &mut Rng, most: u64| rng.below(most + 1) as f64 / 1000.0;
    let millis = |rng: &mut Rng, most: u64| Duration::from_millis(1 + rng.below(most));
    let loss = if rng.chance(0.25) {
        let length = millis(rng, 50);
        Loss::Bursts { interval: length * 10 + millis(rng, 1000), length }
    } else {
        Loss::Random(per_mille(rng, 80))
    };
    Impairment {
        delay: Duration::from_micros(10 + rng.below(20_000)),
        jitter: if rng.chance(0.5) { Duration::from_micros(rng.below(3_000)) } else { Duration::ZERO },
        rate_bps: pick(rng, &[1, 3, 10, 30, 100, 300, 1000]) * 1_000_000,
        queue_bytes: (10 + rng.below(200)) * 1514,
        loss,
        reorder: if rng.chance(0.5) { per_mille(rng, 50) } else { 0.0 },
        reorder_by: millis(rng, 10),
        duplicate: if rng.chance(0.5) { per_mille(rng, 50) } else { 0.0 },
        corrupt: if rng.chance(0.5) { per_mille(rng, 40) } else { 0.0 },
        mark: 0.0,
        mtu: 1500,
        refuses_by_icmp: true,
    }
}

fn incident(rng: &mut Rng, link: &Impairment, bytes: usize) -> Incident {
    // From the first packet to well after the last, if nothing goes wrong.
    let span_us = bytes as u64 * 16_000_000 / link.rate_bps + 10 * link.delay.as_micros() as u64;
    let at = Duration::from_micros(rng.below(span_us + 1));
    match rng.below(10) {
        0 => Incident::Vanishes { at },
        1 => Incident::Restarts { at },
        2 => Incident::MtuFalls { at, to: pick(rng, &SMALL_MTUS) },
        _ => Incident::None,
    }
}

/// Some paths swallow long packets without a word: from the beginning, or from when the MTU falls.
fn hide_mtu(rng: &mut Rng, link: &mut Impairment, incident: Incident) {
    let (is_hidden, mtu) = (rng.chance(0.1), pick(rng, &SMALL_MTUS));
    if !is_hidden {
        return;
    }
    link.refuses_by_icmp = false;
    if !matches!(incident, Incident::MtuFalls { .. }) {
        link.mtu = mtu;
    }
}

fn options(rng: &mut Rng) -> TcpOptions {
    let mut options = TcpOptions::default();
    options.nodelay = rng.chance(0.5);
    options.congestion_control = pick(rng, &CongestionControl::ALL);
    options.ecn = pick(rng, &[Ecn::Off, Ecn::Answer, Ecn::Ask]);
    options
}

/// What some peers and some configurations do without, and small buffers that stay small.
fn vary(rng: &mut Rng, options: &mut TcpOptions) {
    const RARE: f64 = 0.2;
    let buffer = |rng: &mut Rng| pick(rng, &[8, 16, 32, 64]) * 1024;
    options.sack = !rng.chance(RARE);
    options.timestamps = !rng.chance(RARE);
    options.window_scaling = !rng.chance(RARE);
    if rng.chance(RARE) {
        options.pacing = pick(rng, &[Pacing::On, Pacing::Off]);
    }
    if rng.chance(RARE) {
        options.recv_buffer_bytes = buffer(rng);
        options.recv_buffer_max_bytes = options.recv_buffer_bytes;
    }
    if rng.chance(RARE) {
        options.send_buffer_bytes = buffer(rng);
        options.send_buffer_max_bytes = options.send_buffer_bytes;
    }
}
