//! What crosses a scene's link, judged by others when the scene ends: by tshark and by the checker of `ringwire-capture`.
//!
//! A relay records by itself, in the order of the ends. On a direct link dumpcap watches the peer's interface, which sees what an AF_XDP
//! socket sent once the peer's kernel has it. It takes whole packets, for without their ends there is no checksum to validate, and stops
//! after [`MOST_PACKETS`], so that long transfers stay cheap.

use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use ringwire_capture::{End, Quality, check_tcp, read, tshark};
use ringwire_lab::{Child, Link, Node};

/// Of one scene.
const MOST_PACKETS: u32 = 20_000;
/// Against bursts, in MiB.
const BUFFER_MIB: u32 = 16;
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
}

#[derive(Debug)]
enum Source {
    Dumpcap { dumpcap: Child, farewell: JoinHandle<String> },
    Relay(ringwire_lab::Capture),
}

impl Source {
    /// Whether all packets are in the file.
    fn finish(self) -> bool {
        let (mut dumpcap, farewell) = match self {
            Source::Dumpcap { dumpcap, farewell } => (dumpcap, farewell),
            Source::Relay(capture) => {
                capture.finish().expect("the capture can be written");
                return true;
            }
        };
        // What came last waits in the kernel's ring until a block of it is handed over.
        std::thread::sleep(HAND_OVER);
        // It may have ended by itself.
        let _ = dumpcap.signal(INTERRUPT);
        dumpcap.wait().expect("dumpcap ends");
        let said = farewell.join().unwrap_or_default();
        let is_whole = said.contains("/0 (pcap:0/");
        if !is_whole {
            println!("the capture is not whole: {said}");
        }
        is_whole
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
        Wire { source: Some(source), path, ours: ours.into(), mtu }
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
        Wire { source: Some(source), path, ours, mtu }
    }

    /// Where the packets are; the file stays when there was something to find.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Ends the capture: everything that must not be there, a line each. Where packets are missing from the capture, only what a packet
    /// shows by itself is judged.
    ///
    /// # Panics
    /// When the capture cannot be ended or read.
    pub fn verdict(&mut self, quality: Quality) -> Vec<String> {
        let Some(source) = self.source.take() else { return Vec::new() };
        let is_whole = source.finish();
        let quality = if is_whole { quality } else { Quality::Any };
        let mut faults = tshark(&self.path, self.ours, quality).expect("tshark reads the capture");
        if is_whole {
            let packets = read(&self.path).expect("the capture can be read");
            // Who names a port expects to hear from it.
            if packets.is_empty() && (quality == Quality::LossFree || self.ours.port.is_some()) {
                faults.push("the capture is empty".to_owned());
            }
            let contradictions = check_tcp(&packets, self.ours, self.mtu);
            faults.extend(contradictions.iter().map(ToString::to_string));
        }
        if faults.is_empty() {
            let _ = std::fs::remove_file(&self.path);
        } else {
            faults.insert(0, format!("{:?} judged by {}:", self.ours, self.path.display()));
        }
        faults
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let faults = self.verdict(Quality::Any);
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
