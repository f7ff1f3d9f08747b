//! What can be configured: plain data with the names of the TOML keys (interfaces.md section 2).

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;
use std::str::FromStr;
use std::time::Duration;

use ringwire_proto::tcp::fast_open::{CookieUse, Keys as FastOpenKeys, Rules};
use ringwire_proto::tcp::{Algorithm as CongestionControl, Ecn, Pacing};

use crate::clock::Clock;

/// How a worker waits for packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PollMode {
    /// Spins for a short time, then sleeps in the kernel until a packet, a timer or a wake.
    #[default]
    Adaptive,
    /// Never sleeps: the lowest latency, one core per worker.
    Busy,
}

/// How the XDP program sits in the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AttachMode {
    /// Native where the driver can, else generic; [`Handle::mode`](crate::Handle::mode) says which.
    #[default]
    Auto,
    /// In the driver, or refuse to start.
    Native,
    /// In the kernel's generic hook.
    Generic,
}

/// Whether the NIC reads and writes the frames itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BindMode {
    /// Zero-copy where the driver can, else copy; [`Handle::mode`](crate::Handle::mode) says which.
    #[default]
    Auto,
    /// Zero-copy, or refuse to start.
    ZeroCopy,
    /// The kernel copies.
    Copy,
}

/// Whether the kernel says when it needs a system call to go on (`XDP_USE_NEED_WAKEUP`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NeedWakeup {
    /// It does, and is left alone otherwise.
    #[default]
    On,
    /// It is woken for every batch to send, and looks for receive frames by itself.
    Off,
}

/// Who runs the driver's poll function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BusyPoll {
    /// The kernel, when the device interrupts.
    #[default]
    Off,
    /// The worker, whenever it looks for packets (`SO_PREFER_BUSY_POLL`); the device interrupts only when nobody has polled for
    /// 400 us. Changes the device's NAPI settings, which needs Linux 6.13, until the engine ends; `kill -9` leaves them changed.
    Preferred,
}

/// What to do with transport checksums of received packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum VerifyChecksum {
    /// Verify each packet.
    #[default]
    Always,
    /// Do not verify TCP and UDP: for a veth peer whose kernel leaves checksums unfinished (`CHECKSUM_PARTIAL`).
    PartialOk,
}

/// An address with the length of its network prefix: `10.0.0.2/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cidr {
    /// The host's address.
    pub address: Ipv4Addr,
    /// Bits of the network prefix, 0 to 32.
    pub prefix_len: u8,
}

impl Cidr {
    /// Whether `address` lies in this network.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        let shift = 32 - u32::from(self.prefix_len);
        let mask = u32::MAX.checked_shl(shift).unwrap_or(0);
        (u32::from(address) ^ u32::from(self.address)) & mask == 0
    }

    /// The directed broadcast address, where the network has one (RFC 1122 3.2.1.3; not for /31 and /32, RFC 3021).
    pub fn broadcast(&self) -> Option<Ipv4Addr> {
        let host_bits = u32::MAX.checked_shr(u32::from(self.prefix_len)).unwrap_or(0);
        (self.prefix_len < 31).then(|| Ipv4Addr::from(u32::from(self.address) | host_bits))
    }
}

/// A text that is not `ADDR/LEN`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not an IPv4 address with a prefix length, such as 10.0.0.2/24")]
pub struct InvalidCidr(String);

impl FromStr for Cidr {
    type Err = InvalidCidr;

    fn from_str(text: &str) -> Result<Cidr, InvalidCidr> {
        let invalid = || InvalidCidr(text.to_owned());
        let (address, prefix_len) = text.split_once('/').ok_or_else(invalid)?;
        let cidr = Cidr {
            address: address.parse().map_err(|_| invalid())?,
            prefix_len: prefix_len.parse().map_err(|_| invalid())?,
        };
        let usable = cidr.prefix_len <= 32
            && !cidr.address.is_unspecified()
            && !cidr.address.is_multicast()
            && !cidr.address.is_loopback()
            && !cidr.address.is_broadcast();
        if usable { Ok(cidr) } else { Err(invalid()) }
    }
}

impl core::fmt::Display for Cidr {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_len)
    }
}

/// One network interface and how the engine uses it.
#[derive(Debug, Clone)]
pub struct Interface {
    pub(crate) name: String,
    pub(crate) queues: Option<Vec<u32>>,
    pub(crate) attach_mode: AttachMode,
    pub(crate) bind_mode: BindMode,
    pub(crate) need_wakeup: NeedWakeup,
    pub(crate) busy_poll: BusyPoll,
    pub(crate) addresses: Vec<Cidr>,
    pub(crate) gateway: Option<Ipv4Addr>,
    pub(crate) verify_checksum: VerifyChecksum,
}

impl Interface {
    /// All queues of the interface, sharing its own addresses with the kernel.
    pub fn new(name: impl Into<String>) -> Interface {
        Interface {
            name: name.into(),
            queues: None,
            attach_mode: AttachMode::default(),
            bind_mode: BindMode::default(),
            need_wakeup: NeedWakeup::default(),
            busy_poll: BusyPoll::default(),
            addresses: Vec::new(),
            gateway: None,
            verify_checksum: VerifyChecksum::default(),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Only these queues. Refused at start when the interface spreads packets over others too.
    pub fn queues(mut self, queues: impl IntoIterator<Item = u32>) -> Interface {
        self.queues = Some(queues.into_iter().collect());
        self
    }

    /// An address that the engine owns: it answers ARP, ICMP echo and everything else for it. Repeatable.
    pub fn address(mut self, address: Cidr) -> Interface {
        self.addresses.push(address);
        self
    }

    /// The router for peers outside the prefixes of [`Interface::address`]; without one of those it is refused at start.
    pub fn gateway(mut self, gateway: Ipv4Addr) -> Interface {
        self.gateway = Some(gateway);
        self
    }

    /// Native or generic XDP.
    pub fn attach_mode(mut self, mode: AttachMode) -> Interface {
        self.attach_mode = mode;
        self
    }

    /// Zero-copy or copy.
    pub fn bind_mode(mut self, mode: BindMode) -> Interface {
        self.bind_mode = mode;
        self
    }

    /// Whether the kernel says when it needs a system call.
    pub fn need_wakeup(mut self, need_wakeup: NeedWakeup) -> Interface {
        self.need_wakeup = need_wakeup;
        self
    }

    /// Whether workers run the driver's poll function themselves.
    pub fn busy_poll(mut self, busy_poll: BusyPoll) -> Interface {
        self.busy_poll = busy_poll;
        self
    }

    /// Whether transport checksums of received packets are verified.
    pub fn verify_checksum(mut self, verify: VerifyChecksum) -> Interface {
        self.verify_checksum = verify;
        self
    }

    /// Whether it is to be what only a driver under XDP can.
    pub(crate) fn asks_for_driver(&self) -> bool {
        let is_copied = match self.bind_mode {
            BindMode::Auto | BindMode::Copy => true,
            BindMode::ZeroCopy => false,
        };
        !is_copied
            || self.attach_mode != AttachMode::Auto
            || self.need_wakeup != NeedWakeup::On
            || self.busy_poll != BusyPoll::Off
    }
}

/// Everything an engine is started with; made by [`EngineBuilder`](crate::EngineBuilder).
#[derive(Debug, Default)]
pub(crate) struct Config {
    #[cfg(any(feature = "xdp", feature = "packet"))]
    pub(crate) backend: crate::Backend,
    #[cfg(any(feature = "xdp", feature = "packet"))]
    pub(crate) wire: crate::memory::Socket,
    pub(crate) interface: Option<Interface>,
    pub(crate) workers: Option<usize>,
    pub(crate) cpus: Vec<usize>,
    pub(crate) poll_mode: PollMode,
    pub(crate) tcp: TcpOptions,
    pub(crate) frames_per_worker: Option<u32>,
    pub(crate) mtu_bytes: Option<u16>,
    pub(crate) max_connections: Option<u32>,
    pub(crate) max_time_waits: Option<u32>,
    pub(crate) max_orphans: Option<u32>,
    pub(crate) memory_ceiling_bytes: Option<u64>,
    pub(crate) shared_ports: Option<u32>,
    pub(crate) netns: Option<OwnedFd>,
    pub(crate) clock: Clock,
    pub(crate) secret: Option<[u8; 16]>,
}

impl Config {
    pub(crate) fn max_connections(&self) -> u32 {
        self.max_connections.unwrap_or(1 << 18)
    }

    pub(crate) fn max_orphans(&self) -> u32 {
        self.max_orphans.unwrap_or(self.max_connections() / 4)
    }

    pub(crate) fn max_time_waits(&self) -> u32 {
        self.max_time_waits.unwrap_or(self.max_connections() / 2)
    }
}

/// Keep-alive probing of an idle connection (RFC 9293 3.8.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepAlive {
    /// Idle time before the first probe (`TCP_KEEPIDLE`).
    pub time: Duration,
    /// Time between probes (`TCP_KEEPINTVL`).
    pub interval: Duration,
    /// Unanswered probes before the connection is given up (`TCP_KEEPCNT`).
    pub retries: u8,
}

/// Whether a connection holds back what does not fill a segment (`TCP_CORK`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cork {
    /// It does, for 200 ms at most.
    In,
    /// It does not, and what was held back goes.
    Out,
}

/// Options of a stream socket; for a listener they hold for what it accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TcpOptions {
    /// Send small writes at once (`TCP_NODELAY`; off: RFC 9293 3.7.4).
    pub nodelay: bool,
    /// Bytes that may wait unread (`SO_RCVBUF`), to begin with.
    pub recv_buffer_bytes: u32,
    /// What that may grow to, as far as the path carries more in a round trip and memory allows; not above
    /// [`TcpOptions::recv_buffer_bytes`]: it stays as it is (Linux's `tcp_rmem`).
    pub recv_buffer_max_bytes: u32,
    /// Bytes that may wait unacknowledged (`SO_SNDBUF`), to begin with.
    pub send_buffer_bytes: u32,
    /// What that may grow to, with the congestion window (Linux's `tcp_wmem`).
    pub send_buffer_max_bytes: u32,
    /// Bytes that were written and wait for the window at most, while the send buffer also holds what has left; none, or 0: as many as it holds.
    /// Writes take no more, and there is room again when half of them are left (`TCP_NOTSENT_LOWAT`; Linux's `tcp_notsent_lowat`): for
    /// applications that decide late what they send.
    pub unsent_low_water_bytes: Option<u32>,
    /// Largest segment, below what the interface takes (`TCP_MAXSEG`).
    pub max_segment_bytes: Option<u16>,
    /// Probing of idle connections (`SO_KEEPALIVE`).
    pub keepalive: Option<KeepAlive>,
    /// How long written data may stay unacknowledged (`TCP_USER_TIMEOUT`).
    pub user_timeout: Option<Duration>,
    /// `Some(ZERO)`: `close` resets at once (`SO_LINGER`). A longer time changes nothing: `close` of a worker never waits.
    pub linger: Option<Duration>,
    /// How long a closed connection's tuple is remembered (RFC 9293 3.3.2: 2 MSL).
    pub time_wait: Duration,
    /// Congestion control (`TCP_CONGESTION`). BBR goes on at its rate while losses are repaired, so its peer's window should be large
    /// from the start: one that has to grow is what limits it on a lossy path. DCTCP is for networks whose queues mark early; both ends
    /// must have chosen it (RFC 8257), and it asks for ECN unless that is [`Ecn::Off`].
    pub congestion_control: CongestionControl,
    /// Whether a window is spread over its round trip instead of leaving at once; the rate follows the window. BBR's always is. The
    /// worker's timer wheel brings the segments: its resolution and late turns make bursts, of a millisecond at the rate and one segment
    /// at most.
    pub pacing: Pacing,
    /// Explicit congestion notification (RFC 3168; Linux's `tcp_ecn`).
    pub ecn: Ecn,
    /// Offer timestamps (RFC 7323 3; Linux's `tcp_timestamps`).
    pub timestamps: bool,
    /// Offer selective acknowledgement (RFC 2018; Linux's `tcp_sack`).
    pub sack: bool,
    /// Offer window scaling (RFC 7323 2; Linux's `tcp_window_scaling`).
    pub window_scaling: bool,
    /// Segments that are acknowledged at once when a peer begins to send, or begins again after a pause longer than the
    /// retransmission timeout, until the application has answered: helps a peer that counts acknowledgements out of slow start, and
    /// costs as many packets. Linux: 16.
    pub quick_acks: u8,
    /// Shorter segments when long ones vanish on the path without a word, and longer ones again later (RFC 8899; Linux's
    /// `tcp_mtu_probing` of 1). The search upwards takes what is written with `send`.
    pub mtu_probing: bool,
    /// Fast Open (RFC 7413): a listener gives cookies, and hands over the text of a SYN with a valid one before the handshake is over
    /// (`TCP_FASTOPEN`); an active open asks for a cookie, or takes what is sent in the turn of its `connect` along with the SYN. Off
    /// until the application can bear to get the same request twice, by two connections, when the network repeats a SYN.
    pub fast_open: bool,
    /// Connections of a listener that the application may have before the end of their handshake; those that are reset meanwhile count
    /// for a minute more (RFC 7413 5.1). Beyond that SYNs with text open in the ordinary way. The value of `TCP_FASTOPEN`.
    pub fast_open_backlog: u32,
    /// What a listener's cookies are made from, in the way of Linux: servers behind one address, Linux's among them, that share keys take
    /// each other's (`TCP_FASTOPEN_KEY`, `tcp_fastopen_key`). Without them cookies are made from the engine's secret, in another way each
    /// hour.
    pub fast_open_keys: Option<FastOpenKeys>,
    /// Fast Open without cookies (`TCP_FASTOPEN_NO_COOKIE`): a listener takes the text of any SYN, and an active open sends it to anybody.
    /// Nothing then shows that the text came from the SYN's source address; whoever forges one makes the application work for nobody, and
    /// its answers, of up to an initial window, go to whoever has that address. Only for networks that let no forged source address in.
    pub fast_open_no_cookie: bool,
    /// Times that a SYN is sent again before a connect is given up (`TCP_SYNCNT`; Linux's `tcp_syn_retries`).
    pub syn_retries: u8,
    /// How long a closed connection waits for the peer's end (`TCP_LINGER2`; Linux's `tcp_fin_timeout`).
    pub fin_wait2: Duration,
    /// Type of service of what is sent: DSCP in the upper six bits (`IP_TOS`). The lower two are those of `ecn`.
    pub tos: u8,
    /// TTL of what is sent, at least 1 (`IP_TTL`).
    pub ttl: u8,
    /// Connections of a listener that may wait for the end of their handshake (beyond that SYNs are answered by cookies), and,
    /// apart from those, for the application.
    pub backlog: u32,
    /// The local address and port of an active open; port 0, or the unspecified address: the engine chooses.
    pub local: Option<(IpAddr, u16)>,
}

impl Default for TcpOptions {
    fn default() -> TcpOptions {
        TcpOptions {
            nodelay: false,
            recv_buffer_bytes: 256 * 1024,
            recv_buffer_max_bytes: 6 * 1024 * 1024,
            send_buffer_bytes: 256 * 1024,
            send_buffer_max_bytes: 4 * 1024 * 1024,
            unsent_low_water_bytes: None,
            max_segment_bytes: None,
            keepalive: None,
            user_timeout: None,
            linger: None,
            time_wait: Duration::from_secs(60),
            congestion_control: CongestionControl::default(),
            pacing: Pacing::default(),
            ecn: Ecn::default(),
            timestamps: true,
            sack: true,
            window_scaling: true,
            quick_acks: 0,
            mtu_probing: true,
            fast_open: false,
            fast_open_backlog: 256,
            fast_open_keys: None,
            fast_open_no_cookie: false,
            // RFC 9293 3.8.3 (MUST-23): tried for three minutes at least; six times, as Linux does, may be less.
            syn_retries: 7,
            fin_wait2: Duration::from_secs(60),
            tos: 0,
            ttl: 64,
            backlog: 4096,
            local: None,
        }
    }
}

impl TcpOptions {
    pub(crate) fn fast_open_rules(&self) -> Rules {
        let cookies = if self.fast_open_no_cookie { CookieUse::Waived } else { CookieUse::Needed };
        Rules { keys: self.fast_open_keys, cookies }
    }
}

/// Options of a datagram socket.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UdpOptions {
    /// Datagrams that may wait unread; more are dropped and counted.
    pub recv_queue_datagrams: usize,
    /// Only datagrams from this peer are received.
    pub peer: Option<std::net::SocketAddr>,
    /// TTL of what is sent (`IP_TTL`).
    pub ttl: u8,
}

impl Default for UdpOptions {
    fn default() -> UdpOptions {
        UdpOptions { recv_queue_datagrams: 1024, peer: None, ttl: 64 }
    }
}
