//! UDP over one connected kernel socket, 64 datagrams a system call at most.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Protocol, Socket, Type};

use crate::closed_loop::{Datagrams, LoadError, Turned};
use crate::scenario::{MAX_DATAGRAM_BYTES, Scenario};

const BATCH: usize = 64;
const SOCKET_BUFFER_BYTES: usize = 4 << 20;

pub(super) struct KernelDatagrams {
    socket: OwnedFd,
    headers: MultiHeaders<SockaddrIn>,
    incoming: Vec<u8>,
    incoming_stride_bytes: usize,
    /// Twice what the last turn brought; see the UDP server in ringwire-peers.
    offered: usize,
    outgoing: Vec<u8>,
    outgoing_len_bytes: usize,
    outgoing_count: usize,
}

impl KernelDatagrams {
    pub(super) fn open(scenario: &Scenario) -> Result<KernelDatagrams, LoadError> {
        let socket = connected(scenario).map_err(LoadError::stack("UDP socket"))?;
        // One more byte than is right, so that too long an answer is seen to be so.
        let incoming_stride_bytes = (scenario.size_bytes + 1).min(MAX_DATAGRAM_BYTES).next_multiple_of(64);
        Ok(KernelDatagrams {
            socket: OwnedFd::from(socket),
            headers: MultiHeaders::preallocate(BATCH, None),
            incoming: vec![0; incoming_stride_bytes * BATCH],
            incoming_stride_bytes,
            offered: BATCH,
            outgoing: vec![0; scenario.size_bytes * BATCH],
            outgoing_len_bytes: scenario.size_bytes,
            outgoing_count: 0,
        })
    }

    fn receive(&mut self, sink: &mut impl FnMut(&[u8])) -> Result<Turned, LoadError> {
        let mut places = self.incoming.chunks_exact_mut(self.incoming_stride_bytes);
        let mut slices: [[IoSliceMut<'_>; 1]; BATCH] =
            std::array::from_fn(|_| [IoSliceMut::new(places.next().unwrap_or_default())]);
        let offered = slices[..self.offered].iter_mut();
        let flags = MsgFlags::MSG_DONTWAIT;
        let results = match recvmmsg(self.socket.as_raw_fd(), &mut self.headers, offered, flags, None) {
            Ok(results) => results,
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(Turned::Fine),
            Err(Errno::ECONNREFUSED) => return Ok(Turned::Refused),
            Err(error) => return Err(stack_error("recvmmsg", error)),
        };
        let mut count = 0;
        for message in results {
            message.iovs().for_each(&mut *sink);
            count += 1;
        }
        self.offered = (2 * count).clamp(1, BATCH);
        Ok(Turned::Fine)
    }
}

impl Datagrams for KernelDatagrams {
    fn push(&mut self, payload: &[u8]) -> bool {
        if self.outgoing_count == BATCH {
            return false;
        }
        let at = self.outgoing_count * self.outgoing_len_bytes;
        self.outgoing[at..][..payload.len()].copy_from_slice(payload);
        self.outgoing_count += 1;
        true
    }

    fn flush(&mut self) -> Result<(), LoadError> {
        if self.outgoing_count == 0 {
            return Ok(());
        }
        let mut queued = self.outgoing.chunks_exact(self.outgoing_len_bytes);
        let slices: [[IoSlice<'_>; 1]; BATCH] =
            std::array::from_fn(|_| [IoSlice::new(queued.next().unwrap_or_default())]);
        let none = [None; BATCH];
        let sent = sendmmsg(
            self.socket.as_raw_fd(),
            &mut self.headers,
            slices[..self.outgoing_count].iter(),
            none,
            [],
            MsgFlags::MSG_DONTWAIT,
        );
        let sent = match sent {
            Ok(results) => results.count(),
            // ECONNREFUSED is the answer to an earlier datagram; receiving reports what stays wrong.
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ENOBUFS | Errno::ECONNREFUSED) => 0,
            Err(error) => return Err(stack_error("sendmmsg", error)),
        };
        let rest = sent * self.outgoing_len_bytes..self.outgoing_count * self.outgoing_len_bytes;
        self.outgoing.copy_within(rest, 0);
        self.outgoing_count -= sent;
        Ok(())
    }

    fn turn(&mut self, wait: Duration, sink: &mut impl FnMut(&[u8])) -> Result<Turned, LoadError> {
        if !wait.is_zero() {
            let timeout = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) };
            let mut fds = [PollFd::from_borrowed_fd(self.socket.as_fd(), PollFlags::IN)];
            match poll(&mut fds, Some(&timeout)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(LoadError::Stack { what: "poll", error: error.into() }),
            }
        }
        self.receive(sink)
    }
}

fn connected(scenario: &Scenario) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.set_send_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.connect(&scenario.target.into())?;
    Ok(socket)
}

fn stack_error(what: &'static str, error: Errno) -> LoadError {
    LoadError::Stack { what, error: io::Error::from_raw_os_error(error as i32) }
}
