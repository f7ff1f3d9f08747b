//! The command line.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ringwire::units::{NumberList, parse_count, parse_duration, parse_size};
use ringwire::{Backend, Cidr, CongestionControl, Pacing};
use ringwire_load::Work;

#[derive(Debug, Parser)]
#[command(name = "ringwire", version, about = "A user-space TCP/UDP engine over AF_XDP")]
#[command(max_term_width = 110)]
pub(crate) struct Cli {
    /// No progress on stderr.
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// serve, load: a configuration file; what the command line says goes before it, and -a adds to its addresses.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Answer requests until a signal comes.
    Serve(ServeArgs),
    /// Put load on a server in a closed loop and check every answer.
    Load(LoadArgs),
    /// Measure Ringwire beside kernel servers on a veth pair of its own, in interleaved rounds.
    Compare(CompareArgs),
    /// Say whether Ringwire can run on an interface, and what to do where it cannot.
    Doctor(DoctorArgs),
}

/// Where and how the engine runs.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Engine")]
pub(crate) struct EngineArgs {
    /// The interface [default: the one that --address, the target or the default route leads to].
    #[arg(short, long = "iface", value_name = "IF")]
    pub(crate) interface: Option<String>,
    /// An address of the engine's own; repeatable [default: share the interface's].
    #[arg(short, long = "address", value_name = "ADDR/LEN")]
    pub(crate) addresses: Vec<Cidr>,
    /// The router for peers outside the networks of --address.
    #[arg(long, value_name = "ADDR")]
    pub(crate) gateway: Option<Ipv4Addr>,
    /// Queues to own, such as 0-7 [default: all].
    #[arg(long, value_name = "LIST")]
    pub(crate) queues: Option<NumberList>,
    /// Cores, in the order of the workers.
    #[arg(long, value_name = "LIST")]
    pub(crate) cpus: Option<NumberList>,
    /// How packets are reached: xdp, or packet (AF_PACKET: no BPF; needs --address) [default: xdp].
    #[arg(long, value_name = "BACKEND")]
    pub(crate) backend: Option<Backend>,
    /// How the program sits in the driver [default: auto].
    #[arg(long, value_enum)]
    pub(crate) attach_mode: Option<AttachMode>,
    /// Who copies packets [default: auto].
    #[arg(long, value_enum)]
    pub(crate) bind_mode: Option<BindMode>,
    /// Whether the kernel says when it needs a system call [default: on].
    #[arg(long, value_enum)]
    pub(crate) need_wakeup: Option<NeedWakeup>,
    /// Who runs the driver's poll function: the kernel at interrupts, or the workers (Linux 6.13) [default: off].
    #[arg(long, value_enum)]
    pub(crate) busy_poll: Option<BusyPoll>,
    /// What a worker does while nothing comes [default: serve: adaptive, load: busy].
    #[arg(long, value_enum)]
    pub(crate) poll_mode: Option<PollMode>,
    /// Frames of packet memory for each worker, a power of two [default: what fits].
    #[arg(long, value_name = "N")]
    pub(crate) frames: Option<u32>,
    /// Whether transport checksums are verified; partial-ok is for a veth peer with offloads on [default: always].
    #[arg(long, value_enum)]
    pub(crate) verify_checksum: Option<VerifyChecksum>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AttachMode {
    Auto,
    Native,
    Generic,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BindMode {
    Auto,
    ZeroCopy,
    Copy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum NeedWakeup {
    On,
    Off,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BusyPoll {
    Off,
    Preferred,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PollMode {
    /// Spins shortly, then sleeps. Kernel sockets: sleeps.
    Adaptive,
    /// Never sleeps.
    Busy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum VerifyChecksum {
    Always,
    PartialOk,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Stack {
    Ringwire,
    /// Kernel sockets.
    Kernel,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ServeStack {
    Ringwire,
    /// Kernel sockets.
    Kernel,
    /// UDP echo by bare AF_XDP: the limit of what any stack can reach here.
    Reflector,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Service {
    /// Whatever comes goes back, over TCP and UDP.
    Echo,
    /// HTTP/1.1: a directory, and /bytes/N.
    Http,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Transport {
    Tcp,
    Udp,
}

#[derive(Args, Debug)]
pub(crate) struct ServeArgs {
    #[arg(value_enum)]
    pub(crate) service: Service,
    /// The port to serve.
    #[arg(short, long, default_value_t = 9000)]
    pub(crate) port: u16,
    /// http: the directory to serve.
    #[arg(long, default_value = ".")]
    pub(crate) dir: PathBuf,
    /// echo: serve one of the two only.
    #[arg(long, value_enum)]
    pub(crate) only: Option<Transport>,
    /// Stop by itself after this time.
    #[arg(short, long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) duration: Option<Duration>,
    /// Workers [default: one per queue, at most one per core].
    #[arg(short, long, value_name = "N")]
    pub(crate) workers: Option<usize>,
    /// What carries it.
    #[arg(long, value_enum, default_value_t = ServeStack::Ringwire)]
    pub(crate) stack: ServeStack,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
}

#[derive(Args, Debug)]
pub(crate) struct LoadArgs {
    /// udp-rr, tcp-rr or tcp-crr (a connection for each request, ended by the client's reset).
    pub(crate) work: Work,
    /// The server, such as 10.0.0.1:9000.
    #[arg(value_name = "ADDR:PORT")]
    pub(crate) target: SocketAddr,
    /// Requests in flight; over TCP each has its connection.
    #[arg(short, long, value_name = "N", default_value_t = 1)]
    pub(crate) connections: usize,
    /// How long to measure [default: 10s].
    #[arg(short, long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) duration: Option<Duration>,
    /// Stop after so many requests.
    #[arg(short = 'n', long, value_name = "N", value_parser = parse_count)]
    pub(crate) requests: Option<u64>,
    /// Load before measuring [default: a tenth of the duration, 200ms to 2s].
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) warmup: Option<Duration>,
    /// Length of a request and of its answer.
    #[arg(short, long, value_name = "SIZE", default_value = "64", value_parser = parse_size)]
    pub(crate) size: usize,
    /// When a request counts as lost [default: tcp 5s, udp 200ms].
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) timeout: Option<Duration>,
    /// Distance of the progress lines.
    #[arg(short = 'I', long, value_name = "TIME", default_value = "1s", value_parser = parse_duration)]
    pub(crate) interval: Duration,
    /// What carries it.
    #[arg(long, value_enum, default_value_t = Stack::Ringwire)]
    pub(crate) stack: Stack,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct OutputArgs {
    /// The result as JSON instead of text, or into a file beside it.
    #[arg(short = 'J', long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "-")]
    pub(crate) json: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Extent {
    /// 3 rounds of 2 s: a few minutes.
    Quick,
    /// 9 rounds of 3 s, with everything that is installed here.
    Full,
    /// TCP over paths with delay, loss and reordering, against the kernel's CUBIC, in three parts (see --part): half an hour.
    Recovery,
}

/// A part of `compare recovery`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// What one sender carries over 24 paths.
    Goodput,
    /// How long flows of 64 KiB take under 2 % loss.
    ShortFlows,
    /// How two flows, one of each stack, share a bottleneck.
    Sharing,
}

#[derive(Args, Debug)]
pub(crate) struct CompareArgs {
    #[arg(value_enum, default_value_t = Extent::Quick)]
    pub(crate) extent: Extent,
    /// Rounds [default: quick 3, full 9, recovery 3].
    #[arg(long, value_name = "N")]
    pub(crate) rounds: Option<usize>,
    /// Length of a round [default: quick 2s, full 3s, recovery 5s, its part sharing 20s].
    #[arg(short, long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) duration: Option<Duration>,
    /// Only these kinds of work; repeatable.
    #[arg(long = "work", value_name = "WORK")]
    pub(crate) works: Vec<Work>,
    /// Requests in flight, each a row of its own; repeatable [default: 1 and 64; tcp-crr: 1].
    #[arg(short, long, value_name = "N")]
    pub(crate) connections: Vec<usize>,
    /// recovery: only these parts [default: all].
    #[arg(long = "part", value_enum, value_name = "LIST", value_delimiter = ',')]
    pub(crate) parts: Vec<Part>,
    /// recovery: flows of each stack in a round of the part short-flows [default: 150 one at a time, 300 eight at a time].
    #[arg(long, value_name = "N")]
    pub(crate) flows: Option<u16>,
    /// recovery: only the paths whose names begin so, such as 100M/20ms/1%; repeatable.
    #[arg(long = "path", value_name = "PATH")]
    pub(crate) paths: Vec<String>,
    /// recovery: the congestion control of Ringwire's sender; the kernel's is cubic.
    #[arg(long, value_name = "NAME", default_value = "cubic", value_parser = parse_congestion_control)]
    pub(crate) congestion_control: CongestionControl,
    /// recovery: whether Ringwire's sender spreads its segments over the round trip: off, auto (large windows), on [default: auto].
    #[arg(long, value_name = "WHEN", value_parser = parse_pacing)]
    pub(crate) pacing: Option<Pacing>,
    /// Only these contenders, such as ringwire,kernel-blocking.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub(crate) stacks: Vec<String>,
    /// Length of a request and of its answer.
    #[arg(short, long, value_name = "SIZE", default_value = "64", value_parser = parse_size)]
    pub(crate) size: usize,
    /// The servers' core and the generator's [default: the first two].
    #[arg(long, value_name = "LIST")]
    pub(crate) cpus: Option<NumberList>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Args, Debug)]
pub(crate) struct DoctorArgs {
    /// The interface [default: the one of the default route].
    #[arg(short, long = "iface", value_name = "IF")]
    pub(crate) interface: Option<String>,
    /// Also start an engine on it for a moment; some drivers take the link down for that.
    #[arg(long)]
    pub(crate) probe: bool,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

fn parse_pacing(name: &str) -> Result<Pacing, String> {
    named(Pacing::ALL, Pacing::name, name)
}

fn parse_congestion_control(name: &str) -> Result<CongestionControl, String> {
    named(CongestionControl::ALL, CongestionControl::name, name)
}

/// The one of `all` that is called so.
fn named<T: Copy, const N: usize>(
    all: [T; N],
    name_of: fn(T) -> &'static str,
    name: &str,
) -> Result<T, String> {
    let found = all.into_iter().find(|one| name_of(*one) == name);
    found.ok_or_else(|| format!("it is one of {}", all.map(name_of).join(", ")))
}
