//! tcpdump on the kernel's end of the link: it sees what an AF_XDP socket sent, once the peer's kernel has it.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use ringwire_lab::Child;

use crate::scene::Scene;

/// SIGTERM: tcpdump writes out what it has and ends.
const TERMINATE: i32 = 15;

/// A running capture of headers.
#[derive(Debug)]
pub struct Capture {
    tcpdump: Child,
}

impl Capture {
    /// Starts to capture at the peer what matches `filter`; returns when nothing is missed any more.
    ///
    /// # Panics
    /// When tcpdump is missing or does not like the filter.
    pub fn start(scene: &Scene, filter: &str) -> Capture {
        let mut command = scene.peer.command("tcpdump");
        command.args(["-n", "-l", "--immediate-mode", "-i", scene.link.name(&scene.peer), filter]);
        let mut tcpdump =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("tcpdump is installed");
        let mut said = BufReader::new(tcpdump.stderr.take().expect("it is piped"));
        let mut line = String::new();
        while !line.starts_with("listening on") {
            line.clear();
            let len = said.read_line(&mut line).expect("a pipe can be read");
            assert!(len > 0, "tcpdump ended before it listened");
        }
        // Kept open, so that its farewell finds a reader.
        std::thread::spawn(move || said.read_to_string(&mut String::new()));
        Capture { tcpdump }
    }

    /// Ends the capture; one line per packet.
    ///
    /// # Panics
    /// When tcpdump cannot be ended.
    pub fn finish(self) -> Vec<String> {
        self.tcpdump.signal(TERMINATE).expect("tcpdump runs");
        let output = self.tcpdump.wait_with_output().expect("tcpdump ends");
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .filter(|line| !line.is_empty())
            .map(str::to_owned)
            .collect()
    }
}
