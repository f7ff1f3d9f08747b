//! Captures of a cable: pcapng files, and the flight recorder that a failing test leaves behind.
//!
//! A packet is recorded as it came from its node, before anything was done to it; what was done instead of passing it on is
//! its comment.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) use ringwire_capture::{Recorder, Seen};

use crate::forward::{Forwarder, Request};

/// Who writes, in the file's own words.
const APPLICATION: &str = concat!("ringwire-lab ", env!("CARGO_PKG_VERSION"));
/// What the flight recorder holds of a link, in bytes of packets.
const FLIGHT_BYTES: usize = 2 << 20;
/// Of one packet: headers, and enough of what follows to know it by.
const FLIGHT_SNAP_BYTES: usize = 512;
/// Its packets, however short.
const FLIGHT_PACKETS: usize = 16_384;

/// The last packets of a link, in memory: their first bytes.
#[derive(Debug, Default)]
pub(crate) struct Flight {
    packets: VecDeque<Kept>,
    len_bytes: usize,
}

#[derive(Debug, Default)]
struct Kept {
    from: usize,
    at_ns: u64,
    len: usize,
    bytes: Vec<u8>,
    comment: Option<&'static str>,
}

impl Flight {
    /// Keeps the beginning of a packet of `len` bytes.
    pub(crate) fn record(&mut self, from: usize, at_ns: u64, len: usize, head: &[u8]) {
        let head = &head[..head.len().min(FLIGHT_SNAP_BYTES)];
        let mut spare = Vec::new();
        while self.len_bytes + head.len() > FLIGHT_BYTES || self.packets.len() >= FLIGHT_PACKETS {
            let Some(oldest) = self.packets.pop_front() else { break };
            self.len_bytes -= oldest.bytes.len();
            spare = oldest.bytes;
        }
        spare.clear();
        spare.extend_from_slice(head);
        self.len_bytes += spare.len();
        self.packets.push_back(Kept { from, at_ns, len, bytes: spare, comment: None });
    }

    /// Says of the last packet what was done to it.
    pub(crate) fn comment(&mut self, comment: &'static str) {
        if let Some(last) = self.packets.back_mut() {
            last.comment = Some(comment);
        }
    }

    /// Hands all it holds to `recorder`.
    pub(crate) fn play(&self, recorder: &mut Recorder) {
        for Kept { from, at_ns, len, bytes, comment } in &self.packets {
            recorder.record(&Seen { from: *from, at_ns: *at_ns, len: *len, bytes, comment: *comment });
        }
    }
}

/// A capture under way; it ends, and its file is complete, with [`Capture::finish`] or when it is dropped.
#[derive(Debug)]
#[must_use = "dropping a capture ends it"]
pub struct Capture {
    forwarder: Arc<Forwarder>,
    number: u64,
    path: PathBuf,
}

impl Capture {
    pub(crate) fn start(
        forwarder: Arc<Forwarder>,
        path: &Path,
        names: &[String; 2],
        comment: &str,
    ) -> io::Result<Capture> {
        let file = BufWriter::new(File::create(path)?);
        let recorder = Recorder::new(Box::new(file), APPLICATION, names, comment)?;
        let number = forwarder.ask(|reply| Request::Record(recorder, reply))?;
        Ok(Capture { forwarder, number, path: path.into() })
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Ends the capture; how many packets it holds.
    ///
    /// # Errors
    /// The first that writing met.
    pub fn finish(mut self) -> io::Result<u64> {
        self.stop()
    }

    fn stop(&mut self) -> io::Result<u64> {
        let number = std::mem::take(&mut self.number);
        match self.forwarder.ask(|reply| Request::StopRecording(number, reply))? {
            Some(recorder) => recorder.finish(),
            None => Ok(0),
        }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        if self.number != 0 {
            // Who wants to know calls `finish`.
            let _ = self.stop();
        }
    }
}

/// Writes what the flight recorder of `forwarder` holds to `path`.
pub(crate) fn keep_flight(
    forwarder: &Forwarder,
    path: &Path,
    names: &[String; 2],
    comment: &str,
) -> io::Result<u64> {
    let file = BufWriter::new(File::create(path)?);
    let recorder = Recorder::new(Box::new(file), APPLICATION, names, comment)?;
    forwarder.ask(|reply| Request::Flight(recorder, reply))?.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flight_recorder_keeps_the_last_packets_within_its_bounds() {
        let mut flight = Flight::default();
        for number in 0..5000_u32 {
            let mut bytes = vec![0; 1500];
            bytes[..4].copy_from_slice(&number.to_be_bytes());
            flight.record(0, u64::from(number), bytes.len(), &bytes);
        }
        assert!(flight.len_bytes <= FLIGHT_BYTES);
        assert_eq!(flight.packets.len(), FLIGHT_BYTES / FLIGHT_SNAP_BYTES);
        assert_eq!(flight.packets.back().map(|kept| (kept.at_ns, kept.len)), Some((4999, 1500)));
        for _ in 0..2 * FLIGHT_PACKETS {
            flight.record(1, 0, 60, &[0; 60]);
        }
        flight.comment("lost");
        assert_eq!(flight.packets.back().and_then(|kept| kept.comment), Some("lost"));
        assert_eq!(flight.packets.len(), FLIGHT_PACKETS);
    }
}
