//! What a run asks of a server.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

/// The kind of exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Work {
    /// Datagrams of one UDP socket, each answered by one.
    UdpRr,
    /// Requests and answers over connections that stay open.
    TcpRr,
    /// Connect, one request, one answer, then a reset from the client (see [`Work::resets`]).
    TcpCrr,
}

impl Work {
    /// All kinds, in the order of the demonstration's table.
    pub const ALL: [Work; 3] = [Work::UdpRr, Work::TcpRr, Work::TcpCrr];

    /// The name on the command line and in results.
    pub fn name(self) -> &'static str {
        match self {
            Work::UdpRr => "udp-rr",
            Work::TcpRr => "tcp-rr",
            Work::TcpCrr => "tcp-crr",
        }
    }

    /// Whether the client ends each connection with RST. An orderly close would leave one side with a
    /// TIME-WAIT entry a request, and the run would soon measure how many of them a host can hold.
    pub fn resets(self) -> bool {
        self == Work::TcpCrr
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Work {
    type Err = UnknownWork;

    fn from_str(name: &str) -> Result<Work, UnknownWork> {
        Work::ALL.into_iter().find(|work| work.name() == name).ok_or_else(|| UnknownWork(name.to_owned()))
    }
}

/// A name that is no [`Work`].
#[derive(Debug, PartialEq, Eq)]
pub struct UnknownWork(String);

impl fmt::Display for UnknownWork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}' is none of udp-rr, tcp-rr, tcp-crr", self.0)
    }
}

impl std::error::Error for UnknownWork {}

/// One closed-loop run: `in_flight` askers, each of which asks again when it has its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// The kind of exchange.
    pub work: Work,
    /// The server.
    pub target: SocketAddr,
    /// Requests in flight; for TCP also the number of connections.
    pub in_flight: usize,
    /// Length of a request and of its answer, which is the request again.
    pub size_bytes: usize,
    /// How long to measure.
    pub duration: Duration,
    /// Stop earlier, after so many answers.
    pub requests: Option<u64>,
    /// Load before measuring; starts when every asker has had its first answer.
    pub warmup: Duration,
    /// When a request counts as lost.
    pub timeout: Duration,
    /// Distance of the progress reports.
    pub interval: Duration,
}

/// The shortest datagram: it names the asker and the request.
pub const MIN_DATAGRAM_BYTES: usize = crate::payload::TAG_BYTES;
/// The longest datagram over IPv4 (RFC 768, RFC 791).
pub const MAX_DATAGRAM_BYTES: usize = 65_507;
/// The longest request over a stream.
pub const MAX_STREAM_BYTES: usize = 16 << 20;
/// More askers than this need more source addresses than one.
pub const MAX_IN_FLIGHT: usize = 28_000;

impl Scenario {
    /// A run with the defaults of the command line.
    pub fn new(work: Work, target: SocketAddr) -> Scenario {
        let duration = Duration::from_secs(10);
        Scenario {
            work,
            target,
            in_flight: 1,
            size_bytes: 64,
            duration,
            requests: None,
            warmup: Scenario::auto_warmup(duration),
            timeout: Scenario::auto_timeout(work),
            interval: Duration::from_secs(1),
        }
    }

    /// A tenth of the run, at least 200 ms and at most 2 s.
    pub fn auto_warmup(duration: Duration) -> Duration {
        (duration / 10).clamp(Duration::from_millis(200), Duration::from_secs(2))
    }

    /// 5 s over TCP, which repeats by itself; 200 ms over UDP, where a lost datagram would hold its asker.
    pub fn auto_timeout(work: Work) -> Duration {
        match work {
            Work::UdpRr => Duration::from_millis(200),
            Work::TcpRr | Work::TcpCrr => Duration::from_secs(5),
        }
    }

    /// Says what cannot be run as it stands.
    pub fn check(&self) -> Result<(), ScenarioError> {
        let (least, most) = match self.work {
            Work::UdpRr => (MIN_DATAGRAM_BYTES, MAX_DATAGRAM_BYTES),
            Work::TcpRr | Work::TcpCrr => (1, MAX_STREAM_BYTES),
        };
        if !(least..=most).contains(&self.size_bytes) {
            return Err(ScenarioError::Size { work: self.work, bytes: self.size_bytes, least, most });
        }
        if !(1..=MAX_IN_FLIGHT).contains(&self.in_flight) {
            return Err(ScenarioError::InFlight { count: self.in_flight });
        }
        if self.duration.is_zero() || self.timeout.is_zero() || self.interval.is_zero() {
            return Err(ScenarioError::NoTime);
        }
        if !self.target.is_ipv4() {
            return Err(ScenarioError::Ipv6);
        }
        Ok(())
    }
}

/// Why a [`Scenario`] cannot be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ScenarioError {
    /// Requests of that length do not exist.
    Size { work: Work, bytes: usize, least: usize, most: usize },
    /// No asker at all, or more than one source address has ports for.
    InFlight { count: usize },
    /// A duration, timeout or interval of zero.
    NoTime,
    /// IPv6 is not there yet.
    Ipv6,
}

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ScenarioError::Size { work, bytes, least, most } => {
                write!(f, "{work} with {bytes} bytes: sizes go from {least} to {most}")
            }
            ScenarioError::InFlight { count } => {
                write!(f, "{count} connections: one source address has room for 1 to {MAX_IN_FLIGHT}")
            }
            ScenarioError::NoTime => {
                f.write_str("durations, timeouts and intervals must be longer than zero")
            }
            ScenarioError::Ipv6 => {
                f.write_str("the target is an IPv6 address, and only IPv4 is supported so far")
            }
        }
    }
}

impl std::error::Error for ScenarioError {}
