//! The peer that the test plays.

use ringwire_wire::tcp::{Flags, Header, Options, Timestamps};

use crate::library::Drill;
use crate::packets::{HERE, Out, PEER_PORT, PORT, THERE, numbered, segment, segment_with};

pub(crate) const ACK: Flags = Flags::ACK;

/// One connection between the library and the test.
pub(crate) struct Peer {
    pub(crate) drill: Drill,
    /// The stack's descriptor.
    pub(crate) fd: i32,
    /// The stack's initial sequence number.
    pub(crate) iss: u32,
}

/// Linux's offer without timestamps, for they would have to be echoed.
pub(crate) fn offer() -> Options {
    Options { mss: Some(1460), sack_permitted: true, window_scale: Some(7), ..Options::default() }
}

pub(crate) fn offer_with_timestamps() -> Options {
    Options { timestamps: Some(Timestamps { value: 700, echo: 0 }), ..offer() }
}

/// A listening socket.
pub(crate) fn listening(drill: &Drill) -> i32 {
    let fd = drill.stream();
    assert_eq!(drill.set_option(fd, (libc::SOL_SOCKET, libc::SO_REUSEADDR), &1_i32.to_ne_bytes()), Ok(0));
    assert_eq!(drill.bind(fd, ([0; 4], PORT)), Ok(0));
    assert_eq!(drill.listen(fd, 1), Ok(0));
    fd
}

pub(crate) fn receive(drill: &Drill) -> Out {
    let (packet, at_us) = drill.receive();
    assert!(!packet.is_empty(), "nothing has left");
    Out::parse(&packet, at_us)
}

impl Peer {
    /// A connection that the peer has opened and the program has accepted.
    pub(crate) fn accepted(flags: &str) -> Peer {
        let drill = Drill::new(flags);
        let listener = listening(&drill);
        drill.inject(&segment(Flags::SYN, (0, 0), &offer(), b"")).unwrap();
        let syn_ack = receive(&drill);
        assert_eq!(syn_ack.header.flags, Flags::SYN | ACK);
        let iss = syn_ack.header.seq;
        drill.inject(&segment(ACK, (1, iss.wrapping_add(1)), &Options::default(), b"")).unwrap();
        let (fd, ip, port) = drill.accept(listener).unwrap();
        assert_eq!((ip, port), (THERE, PEER_PORT));
        drill.close(listener).unwrap();
        Peer { drill, fd, iss }
    }

    /// The program connects, and the peer answers.
    pub(crate) fn connected(flags: &str) -> Peer {
        let drill = Drill::new(flags);
        let fd = drill.stream();
        drill.bind(fd, (HERE, PORT)).unwrap();
        drill.make_nonblocking(fd);
        assert_eq!(drill.connect(fd, (THERE, PEER_PORT)), Err(libc::EINPROGRESS));
        let syn = receive(&drill);
        assert_eq!(syn.header.flags, Flags::SYN);
        let iss = syn.header.seq;
        drill.inject(&segment(Flags::SYN | ACK, (0, iss.wrapping_add(1)), &offer(), b"")).unwrap();
        let peer = Peer { drill, fd, iss };
        let ack = peer.receive();
        assert_eq!((ack.header.flags, peer.seq(&ack), peer.ack(&ack)), (ACK, 1, 1));
        assert_eq!(peer.drill.so_error(fd), 0);
        peer
    }

    /// Sends with numbers that count from both SYNs.
    pub(crate) fn inject(&self, flags: Flags, (seq, ack): (u32, u32), text: &[u8]) {
        let packet = segment(flags, (seq, self.iss.wrapping_add(ack)), &Options::default(), text);
        assert_eq!(self.drill.inject(&packet), Ok(0));
    }

    /// Acknowledges, and says how much more the peer takes, in units of its shift.
    pub(crate) fn acknowledge(&self, (seq, ack): (u32, u32), window: u16) {
        let header = Header { window, ..numbered((seq, self.iss.wrapping_add(ack))) };
        assert_eq!(self.drill.inject(&segment_with(header, &Options::default(), b"")), Ok(0));
    }

    fn info(&self) -> Vec<u8> {
        self.drill.option(self.fd, (libc::IPPROTO_TCP, libc::TCP_INFO), 300).unwrap()
    }

    /// Four bytes of TCP_INFO.
    pub(crate) fn info_word(&self, at: usize) -> u32 {
        u32::from_ne_bytes(self.info()[at..at + 4].try_into().unwrap())
    }

    /// Eight bytes of TCP_INFO.
    pub(crate) fn info_double(&self, at: usize) -> u64 {
        u64::from_ne_bytes(self.info()[at..at + 8].try_into().unwrap())
    }

    pub(crate) fn receive(&self) -> Out {
        receive(&self.drill)
    }

    pub(crate) fn seq(&self, out: &Out) -> u32 {
        out.header.seq.wrapping_sub(self.iss)
    }

    pub(crate) fn ack(&self, out: &Out) -> u32 {
        out.header.ack.wrapping_sub(crate::packets::IRS)
    }

    /// The next segment, which must be this one.
    #[track_caller]
    pub(crate) fn expect(&self, flags: Flags, (seq, ack): (u32, u32), text: &[u8]) -> Out {
        let out = self.receive();
        assert_eq!((out.header.flags, self.seq(&out), self.ack(&out)), (flags, seq, ack), "{out:?}");
        assert_eq!(out.text, text);
        out
    }

    /// The next segment, which must be this one and leave without waiting for any timer.
    #[track_caller]
    pub(crate) fn expect_at_once(&self, flags: Flags, numbers: (u32, u32), text: &[u8]) -> Out {
        let asked_us = self.drill.now_us();
        let out = self.expect(flags, numbers, text);
        assert!(out.at_us - asked_us < 1_000, "{} us later", out.at_us - asked_us);
        out
    }
}
