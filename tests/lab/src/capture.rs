//! Captures of a cable: pcapng files, and the flight recorder that a failing test leaves behind.
//!
//! A packet is recorded as it came from its node, before anything was done to it; what was done instead of passing it on is
//! its comment.

use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::blocks::section_header::{SectionHeaderBlock, SectionHeaderOption};
use pcap_file::{DataLink, PcapError};

use crate::forward::{Forwarder, Request};

/// What the flight recorder holds of a link, in bytes of packets.
const FLIGHT_BYTES: usize = 2 << 20;
/// Of one packet: headers, and enough of what follows to know it by.
const FLIGHT_SNAP_BYTES: usize = 512;
/// Its packets, however short.
const FLIGHT_PACKETS: usize = 16_384;

/// A packet to be recorded.
#[derive(Clone, Copy)]
pub(crate) struct Seen<'a> {
    /// The end that sent it.
    pub(crate) from: usize,
    /// Nanoseconds since 1970.
    pub(crate) at_ns: u64,
    /// Of the whole packet.
    pub(crate) len: usize,
    pub(crate) bytes: &'a [u8],
    /// What was done to it instead of passing it on.
    pub(crate) comment: Option<&'static str>,
}

/// A pcapng stream of both directions of one link.
pub(crate) struct Recorder {
    writer: PcapNgWriter<Box<dyn Write + Send>>,
    packets: u64,
    fault: Option<io::Error>,
}

impl Recorder {
    /// Writes the headers; `names` are those of the directions, by the end that sends.
    pub(crate) fn new(
        out: Box<dyn Write + Send>,
        names: &[String; 2],
        comment: &str,
    ) -> io::Result<Recorder> {
        let options = vec![
            SectionHeaderOption::Comment(comment.to_owned().into()),
            SectionHeaderOption::UserApplication(concat!("ringwire-lab ", env!("CARGO_PKG_VERSION")).into()),
        ];
        let section = SectionHeaderBlock { options, ..SectionHeaderBlock::default() };
        let mut writer = PcapNgWriter::with_section_header(out, section).map_err(io_error)?;
        for name in names {
            let mut interface = InterfaceDescriptionBlock::new(DataLink::ETHERNET, 0);
            interface.options = vec![
                InterfaceDescriptionOption::IfName(name.clone().into()),
                // Ten to the minus ninth.
                InterfaceDescriptionOption::IfTsResol(9),
            ];
            writer.write_pcapng_block(interface).map_err(io_error)?;
        }
        Ok(Recorder { writer, packets: 0, fault: None })
    }

    pub(crate) fn record(&mut self, seen: &Seen<'_>) {
        // Inbound or outbound is a matter of the end; by the link's own, all of a direction is alike.
        let mut options = vec![EnhancedPacketOption::Flags(1 + seen.from as u32)];
        options.extend(seen.comment.map(|comment| EnhancedPacketOption::Comment(comment.into())));
        let block = EnhancedPacketBlock {
            interface_id: seen.from as u32,
            timestamp: Duration::from_nanos(seen.at_ns),
            original_len: seen.len as u32,
            data: seen.bytes.into(),
            options,
        };
        match self.writer.write_pcapng_block(block) {
            Ok(_) => self.packets += 1,
            Err(error) => drop(self.fault.get_or_insert(io_error(error))),
        }
    }

    /// Writes out what is buffered; the number of packets, or the first fault.
    fn finish(mut self) -> io::Result<u64> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        self.writer.get_mut().flush()?;
        Ok(self.packets)
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").field("packets", &self.packets).finish_non_exhaustive()
    }
}

fn io_error(error: PcapError) -> io::Error {
    match error {
        PcapError::IoError(error) => error,
        other => io::Error::other(other),
    }
}

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
        let recorder = Recorder::new(Box::new(file), names, comment)?;
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
    let recorder = Recorder::new(Box::new(file), names, comment)?;
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
