//! How a pool is cut up and how its frames are counted: geometry, floors, classes, states.

use std::fmt;

/// How a region is cut into frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Size of one frame: 2048 or 4096, the sizes AF_XDP takes on every kernel and architecture with 4 KiB pages.
    pub frame_bytes: u32,
    /// How many frames: at least one, at most [`Geometry::MAX_FRAMES`].
    pub frame_count: u32,
}

impl Geometry {
    /// Most frames in one pool: 64 GiB of 4 KiB frames.
    pub const MAX_FRAMES: u32 = 1 << 24;

    /// Length of the region that holds all frames.
    pub fn region_bytes(&self) -> usize {
        self.frame_bytes as usize * self.frame_count as usize
    }

    /// Whether a pool can be made from it.
    pub fn is_valid(&self) -> bool {
        matches!(self.frame_bytes, 2048 | 4096) && (1..=Geometry::MAX_FRAMES).contains(&self.frame_count)
    }
}

/// Frames that the send side must leave alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Floors {
    /// Kept for the receive side: `fill + rx` may always grow to this many.
    pub receive_frames: u32,
    /// Kept for control segments (ACK, RST, FIN, SYN, ARP): only [`Class::Control`] takes the last ones.
    pub control_frames: u32,
}

impl Floors {
    /// The default floors of a pool of `frame_count` frames: half of it but at least 16 to receive, 8 for control.
    pub const fn for_frames(frame_count: u32) -> Floors {
        let half = frame_count / 2;
        Floors { receive_frames: if half > 16 { half } else { 16 }, control_frames: 8 }
    }
}

/// What a frame is allocated for; decides how deep into the pool the allocation may reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A received packet or a copy of one: everything but the control floor.
    Receive,
    /// A segment without payload: the last frame if need be.
    Control,
    /// Application data: only what both floors leave.
    Send,
}

/// Where a frame is; every frame is in exactly one state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameState {
    /// In the pool.
    Free = 0,
    /// With a device, to be received into.
    Fill,
    /// Received and held by the engine (or allocated for a copy of received bytes).
    Rx,
    /// Lent to the application.
    App,
    /// Being written or waiting to be sent or acknowledged.
    Send,
    /// Submitted: a device may still read it, so the bytes are fixed.
    SendInRing,
    /// Submitted and no longer wanted: the completion frees it.
    Orphan,
    /// On its way to another worker.
    HandOff,
}

impl FrameState {
    /// Number of states.
    pub const COUNT: usize = 8;

    /// All states, in the order of their numbers.
    pub const ALL: [FrameState; FrameState::COUNT] = [
        FrameState::Free,
        FrameState::Fill,
        FrameState::Rx,
        FrameState::App,
        FrameState::Send,
        FrameState::SendInRing,
        FrameState::Orphan,
        FrameState::HandOff,
    ];

    /// Whether somebody holds a [`Frame`](crate::Frame) or [`SendFrame`](crate::SendFrame) for it.
    pub const fn has_handle(self) -> bool {
        match self {
            FrameState::Rx
            | FrameState::App
            | FrameState::Send
            | FrameState::SendInRing
            | FrameState::HandOff => true,
            FrameState::Free | FrameState::Fill | FrameState::Orphan => false,
        }
    }

    /// Name for metrics.
    pub const fn name(self) -> &'static str {
        match self {
            FrameState::Free => "free",
            FrameState::Fill => "fill",
            FrameState::Rx => "rx",
            FrameState::App => "app",
            FrameState::Send => "send",
            FrameState::SendInRing => "send_in_ring",
            FrameState::Orphan => "orphan",
            FrameState::HandOff => "hand_off",
        }
    }
}

/// Frames by state.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    by_state: [u32; FrameState::COUNT],
    total: u32,
}

impl Counts {
    pub(crate) fn new(by_state: [u32; FrameState::COUNT], total: u32) -> Counts {
        Counts { by_state, total }
    }

    /// Frames in `state`.
    pub fn of(&self, state: FrameState) -> u32 {
        self.by_state[state as usize]
    }

    /// Frames in the pool's geometry.
    pub fn total(&self) -> u32 {
        self.total
    }

    /// Whether the states sum to the total: no frame lost, none counted twice.
    pub fn check(&self) -> bool {
        self.by_state.iter().map(|&count| u64::from(count)).sum::<u64>() == u64::from(self.total)
    }
}

impl fmt::Debug for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for state in FrameState::ALL {
            map.entry(&state.name(), &self.of(state));
        }
        map.entry(&"total", &self.total).finish()
    }
}
