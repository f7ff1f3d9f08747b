//! UDP echo: recvmmsg and sendmmsg, at most 64 datagrams a turn.
//!
//! The number of headers offered follows the load (twice what the last turn brought): setting up 64
//! headers to receive one datagram would cost a server with one request in flight a good part of a
//! microsecond, which a server written for that case would not spend.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{SocketAddr, SocketAddrV4};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::AtomicBool;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg};
use socket2::{Domain, Protocol, Socket, Type};

use super::{STOP_LATENCY, StopCheck, Wait, as_io};

const BATCH: usize = 64;
/// The largest UDP payload over IPv4, rounded up, and three cache lines: at a distance of exactly 64 KiB
/// all 64 places would share the same few sets of every cache.
const DATAGRAM_BYTES: usize = 64 * 1024 + 192;
/// Room for a full batch and more; the kernel caps it at net.core.rmem_max.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;

/// An echo server for UDP over a kernel socket.
pub struct UdpEcho {
    socket: OwnedFd,
    wait: Wait,
    local: SocketAddr,
}

/// What a batch needs besides its payloads; kept between turns.
struct Scratch {
    receive: MultiHeaders<SockaddrIn>,
    send: MultiHeaders<SockaddrIn>,
    peers: [Option<SockaddrIn>; BATCH],
    lens: [usize; BATCH],
}

impl UdpEcho {
    /// Binds; datagrams are answered once [`UdpEcho::run`] is called.
    pub fn bind(addr: SocketAddrV4, wait: Wait) -> io::Result<UdpEcho> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
        socket.set_send_buffer_size(SOCKET_BUFFER_BYTES)?;
        // Also what lets a blocked server notice that it shall stop.
        socket.set_read_timeout(Some(STOP_LATENCY))?;
        socket.bind(&addr.into())?;
        let local = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::Unsupported)?;
        Ok(UdpEcho { socket: OwnedFd::from(socket), wait, local })
    }

    /// The address that was bound, with the port the kernel chose if 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Serves on the calling thread until `stop` is set.
    pub fn run(self, stop: &AtomicBool) -> io::Result<()> {
        let mut check = StopCheck::new(stop, self.wait);
        let mut payloads = vec![[0; DATAGRAM_BYTES]; BATCH];
        let mut scratch = Scratch {
            receive: MultiHeaders::preallocate(BATCH, None),
            send: MultiHeaders::preallocate(BATCH, None),
            peers: [None; BATCH],
            lens: [0; BATCH],
        };
        let mut offered = BATCH;
        while !check.is_due() {
            let received = self.receive(&mut payloads[..offered], &mut scratch)?;
            if received == 0 {
                continue;
            }
            self.answer(&payloads[..received], &mut scratch)?;
            offered = (2 * received).min(BATCH);
        }
        Ok(())
    }

    fn receive(&self, payloads: &mut [[u8; DATAGRAM_BYTES]], scratch: &mut Scratch) -> io::Result<usize> {
        let flags = match self.wait {
            Wait::Blocking => MsgFlags::MSG_WAITFORONE,
            Wait::Spinning => MsgFlags::MSG_DONTWAIT,
        };
        let offered = payloads.len();
        let mut room = payloads.iter_mut();
        // Places beyond what is offered stay empty and are not passed on.
        let mut slices: [[IoSliceMut<'_>; 1]; BATCH] = std::array::from_fn(|_| {
            [IoSliceMut::new(room.next().map_or(&mut [], |payload| &mut payload[..]))]
        });
        let results = recvmmsg(
            self.socket.as_raw_fd(),
            &mut scratch.receive,
            slices[..offered].iter_mut(),
            flags,
            None,
        );
        let results = match results {
            Ok(results) => results,
            // ECONNREFUSED is an earlier answer that met a closed port.
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ECONNREFUSED) => return Ok(0),
            Err(error) => return Err(as_io(error)),
        };
        let mut count = 0;
        for (message, (peer, len)) in results.zip(scratch.peers.iter_mut().zip(&mut scratch.lens)) {
            *peer = message.address;
            *len = message.bytes;
            count += 1;
        }
        Ok(count)
    }

    fn answer(&self, payloads: &[[u8; DATAGRAM_BYTES]], scratch: &mut Scratch) -> io::Result<()> {
        let mut first = 0;
        while first < payloads.len() {
            let rest = &payloads[first..];
            let slices: [[IoSlice<'_>; 1]; BATCH] = std::array::from_fn(|index| {
                let bytes = rest.get(index).map_or(&[][..], |bytes| &bytes[..scratch.lens[first + index]]);
                [IoSlice::new(bytes)]
            });
            let peers = &scratch.peers[first..payloads.len()];
            let sent = sendmmsg(
                self.socket.as_raw_fd(),
                &mut scratch.send,
                slices[..rest.len()].iter(),
                peers,
                [],
                MsgFlags::empty(),
            );
            first += match sent {
                Ok(results) => results.count(),
                Err(Errno::EINTR | Errno::EAGAIN) => 0,
                // The first datagram met a closed port or no route: its asker gets no answer, the others do.
                Err(Errno::ECONNREFUSED | Errno::EHOSTUNREACH | Errno::ENETUNREACH | Errno::EPERM) => 1,
                Err(error) => return Err(as_io(error)),
            };
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, UdpSocket};
    use std::sync::atomic::Ordering;
    use std::thread;
    use std::time::Duration;

    use super::*;

    fn with_server(wait: Wait, client: impl FnOnce(UdpSocket)) {
        let server = UdpEcho::bind(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0), wait).unwrap();
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.connect(server.local_addr()).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let running = scope.spawn(|| server.run(&stop));
            client(socket);
            stop.store(true, Ordering::Relaxed);
            running.join().unwrap().unwrap();
        });
    }

    #[test]
    fn bursts_come_back_whole_and_in_order() {
        for wait in [Wait::Blocking, Wait::Spinning] {
            with_server(wait, |socket| {
                for burst in [1, 2, BATCH, 3 * BATCH, 1] {
                    for index in 0..burst {
                        socket.send(&vec![index as u8; index + 1]).unwrap();
                    }
                    let mut answer = [0; 1024];
                    for index in 0..burst {
                        let len = socket.recv(&mut answer).unwrap();
                        assert_eq!(answer[..len], vec![index as u8; index + 1]);
                    }
                }
            });
        }
    }

    #[test]
    fn an_asker_that_left_does_not_end_the_server() {
        with_server(Wait::Blocking, |socket| {
            let addr = socket.peer_addr().unwrap();
            for _ in 0..4 {
                UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().send_to(b"gone", addr).unwrap();
            }
            thread::sleep(Duration::from_millis(100));
            socket.send(b"still there").unwrap();
            let mut answer = [0; 64];
            assert_eq!(socket.recv(&mut answer).unwrap(), 11);
        });
    }

    #[test]
    fn an_empty_datagram_is_echoed() {
        with_server(Wait::Blocking, |socket| {
            socket.send(b"").unwrap();
            assert_eq!(socket.recv(&mut [0; 16]).unwrap(), 0);
        });
    }
}
