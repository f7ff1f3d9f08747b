//! What crosses a scene's link, judged by others when the scene ends: by tshark and by the checker of `ringwire-capture`.
//!
//! A relay records by itself, in the order of the ends. On a direct link dumpcap watches the peer's interface, which sees what an AF_XDP
//! socket sent once the peer's kernel has it. It takes whole packets, for without their ends there is no checksum to validate, and stops
//! after [`MOST_PACKETS`], so that long transfers stay cheap.
//!
//! A veth link loses nothing, so on it nothing is said twice: what is repeated is a fault, unless a thread was kept waiting shortly before
//! (see [`stalls`]), or the scene says why it may be.

use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use ringwire_capture::{End, Quality, check_tcp, read, tshark};
use ringwire_lab::{Child, Link, Node};

use crate::stalls;

/// Of one scene.
const MOST_PACKETS: u32 = 20_000;
/// In MiB: all of them at the usual MTU, so that none is missed however late dumpcap comes.
const BUFFER_MIB: u32 = 48;
/// dumpcap looks at the ring this often, and a little more.
const HAND_OVER: Duration = Duration::from_millis(300);
/// SIGINT: dumpcap writes out what it has, says what it missed, and ends.
const INTERRUPT: i32 = 2;

/// A capture of a link, and who is judged by it.
#[derive(Debug)]
pub struct Wire {
    /// None once it is over.
    source: Option<Source>,
    path: PathBuf,
    ours: End,
    mtu: usize,
    /// Why packets may be repeated; otherwise they may not.
    may_repeat: Option<&'static str>,
    may_be_empty: bool,
}

/// What a capture shows, a line each.
#[derive(Debug, Default)]
pub struct Verdict {
    /// What must not be there.
    pub faults: Vec<String>,
    /// What was repeated, where a stall explains it.
    pub excused: Vec<String>,
}

#[derive(Debug)]
enum Source {
    Dumpcap { dumpcap: Child, farewell: JoinHandle<String> },
    Relay(ringwire_lab::Capture),
}

impl Source {
    /// What is wrong if not all packets are in the file.
    fn finish(self) -> Result<(), String> {
        let (mut dumpcap, farewell) = match self {
            Source::Dumpcap { dumpcap, farewell } => (dumpcap, farewell),
            Source::Relay(capture) => {
                capture.finish().expect("the capture can be written");
                return Ok(());
            }
        };
        // What came last waits in the kernel's ring until a block of it is handed over.
        std::thread::sleep(HAND_OVER);
        // It may have ended by itself.
        let _ = dumpcap.signal(INTERRUPT);
        dumpcap.wait().expect("dumpcap ends");
        let said = farewell.join().unwrap_or_default();
        if said.contains("/0 (pcap:0/") { Ok(()) } else { Err(format!("the capture is not whole: {said}")) }
    }
}

impl Wire {
    /// Captures in the link's relay, before it delays, drops or reorders.
    ///
    /// # Panics
    /// When the link is direct.
    pub fn tap(link: &Link, ours: IpAddr, mtu: usize) -> Wire {
        let path = new_path();
        let source = Source::Relay(link.capture(&path).expect("the link has a relay"));
        Wire::new(source, path, ours.into(), mtu)
    }

    fn new(source: Source, path: PathBuf, ours: End, mtu: usize) -> Wire {
        stalls::watch();
        Wire { source: Some(source), path, ours, mtu, may_repeat: None, may_be_empty: false }
    }

    /// Packets may be lost, repeated or reordered, and this is why.
    pub fn may_repeat(mut self, why: &'static str) -> Wire {
        self.may_repeat = Some(why);
        self
    }

    /// Captures at the peer's end from now on.
    ///
    /// # Panics
    /// When dumpcap, a part of tshark, is missing.
    pub fn watch(peer: &Node, link: &Link, ours: IpAddr, mtu: usize) -> Wire {
        Wire::dumpcap(peer, link.name(peer), ours.into(), mtu)
    }

    /// Captures what the programs of a host say to each other. They share its address, so the engine's is known by its port.
    ///
    /// # Panics
    /// When dumpcap, a part of tshark, is missing.
    pub fn watch_loopback(host: &Node, ours: SocketAddr, mtu: usize) -> Wire {
        Wire::dumpcap(host, "lo", ours.into(), mtu)
    }

    fn dumpcap(node: &Node, ifname: &str, ours: End, mtu: usize) -> Wire {
        let path = new_path();
        let mut command = node.command("dumpcap");
        command.args(["-q", "-n", "-i", ifname, "-B", &BUFFER_MIB.to_string()]);
        command.args(["-a", &format!("packets:{MOST_PACKETS}"), "-w"]).arg(&path);
        let mut dumpcap = command.stderr(Stdio::piped()).spawn().expect("tshark is installed");
        let mut said = BufReader::new(dumpcap.stderr.take().expect("it is piped"));
        let mut line = String::new();
        while !line.starts_with("File:") {
            line.clear();
            assert!(said.read_line(&mut line).expect("a pipe can be read") > 0, "dumpcap does not capture");
        }
        let farewell = std::thread::spawn(move || {
            let mut rest = String::new();
            let _ = said.read_to_string(&mut rest);
            rest
        });
        let source = Source::Dumpcap { dumpcap, farewell };
        Wire::new(source, path, ours, mtu)
    }

    /// Nothing need pass; otherwise an empty capture is a fault.
    pub(crate) fn may_be_empty(mut self) -> Wire {
        self.may_be_empty = true;
        self
    }

    /// Where the packets are; the file stays when there was something to find.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Ends the capture, and judges it. Where packets may be missing from it, only what a packet shows by itself is judged.
    ///
    /// # Panics
    /// When the capture cannot be ended or read.
    pub fn verdict(&mut self) -> Verdict {
        let Some(source) = self.source.take() else { return Verdict::default() };
        let whole = source.finish();
        let mut faults = self.tshark(Quality::Any);
        let mut excused = Vec::new();
        if self.may_repeat.is_none() {
            faults.extend(whole.clone().err());
            let repeated = self.tshark(Quality::LossFree).into_iter().filter(|line| !faults.contains(line));
            let (explained, unexplained): (Vec<_>, _) = repeated.partition(|line| is_explained(line));
            excused = explained;
            faults.extend::<Vec<String>>(unexplained);
        }
        if whole.is_ok() {
            let packets = read(&self.path).expect("the capture can be read");
            if packets.is_empty() && !self.may_be_empty {
                faults.push("the capture is empty".to_owned());
            }
            let contradictions = check_tcp(&packets, self.ours, self.mtu);
            faults.extend(contradictions.iter().map(ToString::to_string));
        }
        if faults.is_empty() {
            let _ = std::fs::remove_file(&self.path);
        } else {
            let why = self.may_repeat.unwrap_or("nothing may be repeated");
            faults.insert(0, format!("{:?} judged by {} ({why}):", self.ours, self.path.display()));
        }
        Verdict { faults, excused }
    }

    fn tshark(&self, quality: Quality) -> Vec<String> {
        tshark(&self.path, self.ours, quality).expect("tshark reads the capture")
    }
}

/// Whether a thread was kept waiting shortly before what a line of tshark's shows.
fn is_explained(line: &str) -> bool {
    let at_s = line.split('\t').nth(1).and_then(|at_s| at_s.parse().ok());
    at_s.and_then(|at_s| Duration::try_from_secs_f64(at_s).ok()).is_some_and(stalls::explain)
}

impl Drop for Wire {
    fn drop(&mut self) {
        let Verdict { faults, excused } = self.verdict();
        if !excused.is_empty() {
            println!("{} packets are repeated, and a stall explains them", excused.len());
        }
        if !faults.is_empty() && !std::thread::panicking() {
            let shown: Vec<String> = faults.iter().take(20).cloned().collect();
            panic!("the wire shows what must not be there:\n{}", shown.join("\n"));
        }
    }
}

fn new_path() -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("ringwire-wire-{}-{number}.pcapng", std::process::id()))
}
