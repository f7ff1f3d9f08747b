//! A TCP peer that does what the test says, and nothing of its own accord.

use std::net::SocketAddrV4;
use std::time::Duration;

use super::packet::{Macs, Segment};
use super::{Dissected, Field, Match, Mismatch, RawPort, Value};

/// TCP options as bytes, to be joined as the test likes.
pub mod options {
    /// Largest segment.
    pub fn mss(bytes: u16) -> Vec<u8> {
        let [high, low] = bytes.to_be_bytes();
        vec![2, 4, high, low]
    }

    /// Shift of the windows to come.
    pub fn window_scale(shift: u8) -> Vec<u8> {
        vec![1, 3, 3, shift]
    }

    /// Selective acknowledgements are understood.
    pub fn sack_permitted() -> Vec<u8> {
        vec![1, 1, 4, 2]
    }

    /// The sender's clock, and the other's as it was heard last.
    pub fn timestamps(value: u32, echo: u32) -> Vec<u8> {
        [&[1, 1, 8, 10], &value.to_be_bytes()[..], &echo.to_be_bytes()].concat()
    }

    /// Selective acknowledgement of blocks: first byte, and the one after the last.
    pub fn sack(blocks: &[(u32, u32)]) -> Vec<u8> {
        // At most four fit the header, which is the caller's to know.
        let mut option = vec![1, 1, 5, 2 + 8 * blocks.len() as u8];
        for (left, right) in blocks {
            option.extend(left.to_be_bytes());
            option.extend(right.to_be_bytes());
        }
        option
    }
}

/// One connection, played by hand over a [`RawPort`].
///
/// `snd_nxt` and `rcv_nxt` are kept as RFC 9293 names them, and are the test's to change.
#[derive(Debug)]
pub struct TcpPeer<'p> {
    port: &'p mut RawPort,
    macs: Macs,
    local: SocketAddrV4,
    remote: SocketAddrV4,
    /// The next sequence number to be sent.
    pub snd_nxt: u32,
    /// The next sequence number that is expected.
    pub rcv_nxt: u32,
    /// The window that is offered, unscaled.
    pub window: u16,
    /// Options of every segment, such as [`options::sack`].
    pub options: Vec<u8>,
}

/// First sequence number, so that traces are easy to read.
const ISS: u32 = 1000;

/// Long enough for any answer that comes at all.
const PATIENCE: Duration = Duration::from_secs(5);

impl<'p> TcpPeer<'p> {
    /// Waits for a SYN to `local`, answers it with `options`, and waits for the handshake to be completed.
    ///
    /// # Errors
    /// What came instead of the SYN or the ACK.
    pub fn accept(
        port: &'p mut RawPort,
        local: SocketAddrV4,
        options: Vec<u8>,
    ) -> Result<TcpPeer<'p>, Mismatch> {
        port.answer_arp(*local.ip());
        let syn = Match::tcp().dst(*local.ip()).dst_port(local.port()).flags("S");
        let syn = port.try_expect(syn, PATIENCE)?;
        let (Some(Value::Mac(dst)), Some(Value::Ip(std::net::IpAddr::V4(ip)))) =
            (syn.get(Field::EthSrc), syn.get(Field::IpSrc))
        else {
            unreachable!("a TCP segment for an IPv4 address has both");
        };
        let remote = SocketAddrV4::new(*ip, low16(syn.number(Field::SrcPort)));
        let macs = Macs { src: port.mac(), dst: *dst };
        let rcv_nxt = low32(syn.number(Field::TcpSeq)).wrapping_add(1);
        let mut peer = TcpPeer { rcv_nxt, ..TcpPeer::new(port, macs, local, remote) };
        peer.send_with("SA", &[], options);
        peer.expect_ack(peer.snd_nxt)?;
        Ok(peer)
    }

    /// Opens a connection from `local`.
    ///
    /// # Errors
    /// Nobody has the address, or what came instead of the SYN-ACK.
    pub fn connect(
        port: &'p mut RawPort,
        local: SocketAddrV4,
        remote: SocketAddrV4,
        options: Vec<u8>,
    ) -> Result<TcpPeer<'p>, Mismatch> {
        port.answer_arp(*local.ip());
        let dst = port.resolve(*local.ip(), *remote.ip())?;
        let macs = Macs { src: port.mac(), dst };
        let mut peer = TcpPeer::new(port, macs, local, remote);
        peer.send_with("S", &[], options);
        let answer = peer.expect(peer.from_remote().flags("SA").ack(peer.snd_nxt))?;
        peer.rcv_nxt = low32(answer.number(Field::TcpSeq)).wrapping_add(1);
        peer.send("A", &[]);
        Ok(peer)
    }

    fn new(port: &'p mut RawPort, macs: Macs, local: SocketAddrV4, remote: SocketAddrV4) -> TcpPeer<'p> {
        TcpPeer { port, macs, local, remote, snd_nxt: ISS, rcv_nxt: 0, window: 65_535, options: Vec::new() }
    }

    /// The other end.
    pub fn remote(&self) -> SocketAddrV4 {
        self.remote
    }

    /// A segment as it would be sent now, to be changed at will and given to [`TcpPeer::send_segment`].
    pub fn segment(&self, flags: &str, payload: &[u8]) -> Segment {
        Segment {
            seq: self.snd_nxt,
            ack: self.rcv_nxt,
            window: self.window,
            options: self.options.clone(),
            payload: payload.to_vec(),
            ..Segment::new(self.local, self.remote, flags)
        }
    }

    /// Sends any segment; nothing is remembered of it.
    pub fn send_segment(&mut self, segment: &Segment) {
        self.port.send(segment.frame(self.macs));
    }

    /// Sends the next segment; `snd_nxt` moves on by its payload, SYN and FIN.
    pub fn send(&mut self, flags: &str, payload: &[u8]) {
        self.send_with(flags, payload, self.options.clone());
    }

    fn send_with(&mut self, flags: &str, payload: &[u8], options: Vec<u8>) {
        let segment = Segment { options, ..self.segment(flags, payload) };
        self.send_segment(&segment);
        let controls = flags.chars().filter(|flag| matches!(flag, 'S' | 'F')).count();
        self.snd_nxt = self.snd_nxt.wrapping_add((payload.len() + controls) as u32);
    }

    /// Sends a pure acknowledgement of what was received, or of something else: set `rcv_nxt` and `options` before.
    pub fn ack(&mut self) {
        self.send("A", &[]);
    }

    /// Any segment of this connection.
    pub fn from_remote(&self) -> Match {
        let (local, remote) = (self.local, self.remote);
        Match::tcp().src(*remote.ip()).src_port(remote.port()).dst(*local.ip()).dst_port(local.port())
    }

    /// The next packet as described.
    ///
    /// # Errors
    /// What came instead.
    pub fn expect(&mut self, what: Match) -> Result<Dissected, Mismatch> {
        self.port.try_expect(what, PATIENCE)
    }

    /// A segment with this acknowledgement number.
    ///
    /// # Errors
    /// What came instead.
    pub fn expect_ack(&mut self, number: u32) -> Result<Dissected, Mismatch> {
        self.expect(self.from_remote().ack(number))
    }

    /// The next segment in order that carries something; `rcv_nxt` moves on, and nothing is acknowledged.
    ///
    /// # Errors
    /// What came instead.
    pub fn expect_data(&mut self) -> Result<Vec<u8>, Mismatch> {
        let next = self.from_remote().seq(self.rcv_nxt);
        loop {
            let segment = self.expect(next.clone())?;
            let payload = segment.payload();
            if !payload.is_empty() {
                self.rcv_nxt = self.rcv_nxt.wrapping_add(payload.len() as u32);
                return Ok(payload.to_vec());
            }
        }
    }

    /// The port, for packets that are none of this connection's.
    pub fn port(&mut self) -> &mut RawPort {
        self.port
    }
}

/// Fields of 16 bits are what the dissector read from two bytes.
fn low16(number: u64) -> u16 {
    (number & 0xffff) as u16
}

fn low32(number: u64) -> u32 {
    (number & 0xffff_ffff) as u32
}
