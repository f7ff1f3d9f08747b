//! What the caller asks for, and what the kernel gave.

use std::time::Duration;

/// How packet memory is registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UmemOptions {
    /// Slots of each queue's fill ring, a power of two. Should hold what the device's own ring and the receive ring
    /// hold together, or reception stalls in bursts.
    pub fill_ring: u32,
    /// Slots of each queue's completion ring, a power of two; at least the transmit ring, or the kernel holds back
    /// what it could send.
    pub completion_ring: u32,
    /// Whether to use 2 MiB pages.
    pub huge_pages: HugePages,
}

impl Default for UmemOptions {
    fn default() -> UmemOptions {
        UmemOptions { fill_ring: 4096, completion_ring: 2048, huge_pages: HugePages::Never }
    }
}

/// Use of 2 MiB pages for packet memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HugePages {
    /// Ordinary pages.
    Never,
    /// Huge pages if the system has enough reserved, ordinary ones otherwise; [`Umem`](crate::Umem) says which.
    Prefer,
    /// Huge pages or an error.
    Require,
}

/// Whether the device may access packet memory directly. A contract: what was asked is given or refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BindMode {
    /// Zero-copy where the driver has it, else copy; [`Mode`] says which and why.
    Auto,
    /// Zero-copy or an error.
    ZeroCopy,
    /// The kernel copies, even where the driver could do without.
    Copy,
}

/// Preferred busy polling: the thread that reads the queue also runs the driver's poll function (`SO_PREFER_BUSY_POLL`
/// and its companions). Meant for zero-copy drivers with `napi_defer_hard_irqs` and `gro_flush_timeout` set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BusyPoll {
    /// Packets the driver may handle in one poll, at most 64 without privilege.
    pub budget_packets: u32,
    /// How long a blocking call may spin; the port never blocks, the kernel only wants it above zero.
    pub spin_us: u32,
}

/// One queue to open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XskConfig {
    /// Name of the interface in the calling thread's network namespace.
    pub interface: String,
    /// Queue of that interface, from 0.
    pub queue_id: u32,
    /// Zero-copy, copy, or what is to be had.
    pub bind_mode: BindMode,
    /// Slots of the receive ring, a power of two.
    pub rx_ring: u32,
    /// Slots of the transmit ring, a power of two.
    pub tx_ring: u32,
    /// Packets longer than a frame come and go as chains of frames (`XDP_USE_SG`, Linux 6.6). Needed whenever the MTU
    /// exceeds [`max_frame_bytes`](ringwire_frame::Port::max_frame_bytes): without it the kernel drops such packets.
    /// The attached XDP program must be of kind `xdp.frags` then.
    pub multi_buffer: bool,
    /// Let the kernel say when it needs a system call (`XDP_USE_NEED_WAKEUP`).
    pub need_wakeup: bool,
    /// Most frames this queue keeps waiting in its fill ring: the longest burst that is not lost while the worker is
    /// elsewhere. They are used in turn, so fewer stay in nearer caches: over veth with one packet in flight 2048
    /// frames gave 262 k round trips/s, 1024 gave 274 k, 512 gave 282 k; with 32 in flight 664 k, 674 k, 679 k (upper
    /// quartiles of 12 interleaved rounds). A zero-copy driver stocks its own ring from it and wants more. The pool
    /// also stops all queues together at its receive floor, so with several queues on one pool give each its share.
    pub fill_frames: u32,
    /// How long to go on trying while the queue is in use: a socket that was just closed lets go of its queue only
    /// some milliseconds later.
    pub busy_wait: Duration,
    /// Off unless asked for.
    pub busy_poll: Option<BusyPoll>,
}

impl XskConfig {
    /// The defaults for one queue: mode `Auto`, rings of 2048, need_wakeup on, multi-buffer off.
    pub fn new(interface: impl Into<String>, queue_id: u32) -> XskConfig {
        XskConfig {
            interface: interface.into(),
            queue_id,
            bind_mode: BindMode::Auto,
            rx_ring: 2048,
            tx_ring: 2048,
            multi_buffer: false,
            need_wakeup: true,
            // The burst the kernel's own stack takes before it drops: net.core.netdev_max_backlog is 1000.
            fill_frames: 1024,
            busy_wait: Duration::from_secs(2),
            busy_poll: None,
        }
    }
}

/// What the kernel gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    /// The device accesses packet memory directly (read back from `XDP_OPTIONS`).
    pub zero_copy: bool,
    /// Chains are received and sent.
    pub multi_buffer: bool,
    /// The kernel says when it needs a system call.
    pub need_wakeup: bool,
    /// Packets one kick moves in copy mode: the transmit ring where `XDP_MAX_TX_SKB_BUDGET` exists, else 32.
    pub kick_budget_packets: u32,
    /// With [`BindMode::Auto`] and no zero-copy: the errno zero-copy was refused with.
    pub zero_copy_refusal: Option<i32>,
}
