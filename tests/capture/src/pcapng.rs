//! pcapng: one section, two interfaces, which are the two directions of a link.

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Write};
use std::path::Path;
use std::time::Duration;

use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::blocks::section_header::{SectionHeaderBlock, SectionHeaderOption};
use pcap_file::pcapng::{Block, PcapNgReader, PcapNgWriter};
use pcap_file::{DataLink, PcapError};

/// A packet to be recorded.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// The end that sent it, 0 or 1.
    pub from: usize,
    /// Nanoseconds since 1970, or since the beginning of virtual time.
    pub at_ns: u64,
    /// Of the whole packet.
    pub len: usize,
    /// Its beginning, or all of it.
    pub bytes: &'a [u8],
    /// What was done to it instead of passing it on.
    pub comment: Option<&'static str>,
}

/// A pcapng stream of both directions of one link.
pub struct Recorder {
    writer: PcapNgWriter<Box<dyn Write + Send>>,
    packets: u64,
    fault: Option<io::Error>,
}

impl Recorder {
    /// Writes the headers; `names` are those of the directions, by the end that sends, and `application` is who writes.
    ///
    /// # Errors
    /// What writing met.
    pub fn new(
        out: Box<dyn Write + Send>,
        application: &str,
        names: &[String; 2],
        comment: &str,
    ) -> io::Result<Recorder> {
        let options = vec![
            SectionHeaderOption::Comment(comment.to_owned().into()),
            SectionHeaderOption::UserApplication(application.to_owned().into()),
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

    /// Adds a packet; a fault is kept for [`Recorder::finish`].
    pub fn record(&mut self, seen: &Seen<'_>) {
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

    /// Writes out what is buffered; the number of packets.
    ///
    /// # Errors
    /// The first fault that writing met.
    pub fn finish(mut self) -> io::Result<u64> {
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

/// A packet of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// Its number in the file, from 1, as Wireshark counts.
    pub number: usize,
    /// From Ethernet on; all of it, unless the capture cut it.
    pub bytes: Vec<u8>,
}

/// The packets of a pcapng file, whoever wrote it. One that ends in the middle of a block, because its writer was ended, ends there.
///
/// # Errors
/// The file cannot be read, or is something else.
pub fn read(path: &Path) -> io::Result<Vec<Packet>> {
    let mut reader = PcapNgReader::new(BufReader::new(File::open(path)?)).map_err(io_error)?;
    let mut packets = Vec::new();
    while let Some(block) = reader.next_block() {
        let bytes = match block {
            Ok(Block::EnhancedPacket(packet)) => packet.data.into_owned(),
            Ok(_) => continue,
            Err(PcapError::IncompleteBuffer) => break,
            Err(PcapError::IoError(error)) if error.kind() == ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(io_error(error)),
        };
        packets.push(Packet { number: packets.len() + 1, bytes });
    }
    Ok(packets)
}

fn io_error(error: PcapError) -> io::Error {
    match error {
        PcapError::IoError(error) => error,
        other => io::Error::other(other),
    }
}
