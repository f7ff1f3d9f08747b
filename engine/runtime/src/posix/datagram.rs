//! Datagram sockets.

use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4};

use ringwire_proto::DropReason;

use super::addr::Named;
use super::options::{Timeouts, int};
use super::{Errno, FileId, Ready, Received, Sockets};
use crate::buffer::{Batch, Datagram, RxBuf, TxBuf};
use crate::config::UdpOptions;
use crate::error::ConnError;
use crate::event::Udp;
use crate::worker::Worker;

/// One datagram socket. It has none of the worker's until it is bound, connected or sent from.
#[derive(Debug, Default)]
pub(super) struct DatagramSocket {
    socket: Option<Udp>,
    /// What `bind` said: a connected socket whose peer is taken away goes back there.
    bound: Option<SocketAddrV4>,
    peer: Option<SocketAddrV4>,
    /// Taken from the worker and not read.
    waiting: VecDeque<Datagram<RxBuf>>,
    error: Option<Errno>,
    shut: Shut,
    pub(super) timeouts: Timeouts,
}

#[derive(Debug, Clone, Copy, Default)]
struct Shut {
    read: bool,
    write: bool,
}

/// Datagrams taken at once from a socket that is about to be bound anew.
const AT_ONCE: usize = 256;

impl DatagramSocket {
    pub(super) fn id(&self) -> Option<Udp> {
        self.socket
    }

    pub(super) fn peer(&self) -> Option<SocketAddrV4> {
        self.peer
    }

    pub(super) fn local(&self, worker: &Worker) -> Option<SocketAddrV4> {
        match self.socket.and_then(|socket| worker.udp_addr(socket)) {
            Some(SocketAddr::V4(local)) => Some(local),
            _ => None,
        }
    }

    /// Takes up to `count` datagrams, or what ICMP has said, from the worker.
    fn pull(&mut self, worker: &mut Worker, count: usize) {
        let Some(socket) = self.socket else { return };
        let room = count.saturating_sub(self.waiting.len());
        if room == 0 || self.error.is_some() {
            return;
        }
        let mut batch = Batch::with_capacity(room);
        match worker.recv_batch(socket, &mut batch) {
            Ok(_) => self.waiting.extend(batch.drain()),
            Err(error) => self.error = Some(error.into()),
        }
    }

    /// Takes everything from the worker, and what ICMP has said too: the socket is about to be bound anew. What it is held in stays in the
    /// worker's books. No more wait here than in a queue there: the rest is lost, as if that had been full.
    fn pull_all(&mut self, worker: &mut Worker) {
        let Some(socket) = self.socket else { return };
        let mut batch = Batch::with_capacity(AT_ONCE);
        loop {
            match worker.recv_batch(socket, &mut batch) {
                Ok(0) | Err(ConnError::Closed) => return,
                Ok(_) => {}
                Err(error) => self.error = Some(error.into()),
            }
            let room = UdpOptions::default().recv_queue_datagrams.saturating_sub(self.waiting.len());
            let mut came = batch.drain();
            self.waiting.extend(came.by_ref().take(room));
            worker.count_drops(DropReason::UdpQueueFull, came.count());
        }
    }

    fn rebind(&mut self, worker: &mut Worker, local: SocketAddrV4) -> Result<Udp, Errno> {
        if let Some(old) = self.socket.take() {
            worker.close_udp(old);
        }
        let options = UdpOptions { peer: self.peer.map(SocketAddr::V4), ..UdpOptions::default() };
        let socket = worker.bind_udp(local.into(), &options)?;
        self.socket = Some(socket);
        Ok(socket)
    }

    fn ready(&self) -> Ready {
        let mut ready = Ready::OUT;
        if !self.waiting.is_empty() {
            ready |= Ready::IN;
        }
        if self.error.is_some() {
            ready |= Ready::ERR;
        }
        if self.shut.read {
            ready |= Ready::IN | Ready::RDHUP;
        }
        if self.shut.read && self.shut.write {
            ready |= Ready::HUP;
        }
        ready
    }
}

impl Sockets {
    /// The worker and the datagram socket of a descriptor that is one.
    fn datagram(&mut self, file: FileId) -> Result<(&mut Worker, &mut DatagramSocket), Errno> {
        let Sockets { worker, files, .. } = self;
        match &mut files.get_mut(file)?.kind {
            super::Kind::Datagram(socket) => Ok((worker, socket)),
            super::Kind::Stream(_) | super::Kind::Epoll(_) => Err(Errno::NOTSOCK),
        }
    }

    pub(super) fn bind_datagram(&mut self, file: FileId, addr: SocketAddrV4) -> Result<(), Errno> {
        let (worker, socket) = self.datagram(file)?;
        if socket.socket.is_some() {
            return Err(Errno::INVAL);
        }
        let id = socket.rebind(worker, addr)?;
        socket.bound = socket.local(worker);
        self.by_udp.insert(id, file);
        Ok(())
    }

    /// Sets or takes away the peer: datagrams of others are not received any more.
    pub(super) fn connect_datagram(&mut self, file: FileId, to: Named) -> Result<(), Errno> {
        let peer = match to {
            Named::Inet(to) => Some(to),
            Named::Unspecified => None,
        };
        let connected = self.change_peer(file, peer);
        // What the worker had to announce of the socket that was has gone with it.
        let (_, socket) = self.datagram(file)?;
        if !socket.waiting.is_empty() || socket.error.is_some() {
            let what = socket.ready();
            self.wake(file, what);
        }
        connected
    }

    fn change_peer(&mut self, file: FileId, peer: Option<SocketAddrV4>) -> Result<(), Errno> {
        let (worker, socket) = self.datagram(file)?;
        // What came before stays, as on Linux.
        socket.pull_all(worker);
        let old = socket.socket;
        if peer.is_none() && socket.bound.is_none() {
            // So it does when the port was nobody's wish.
            (socket.socket, socket.peer) = (None, None);
            if let Some(old) = old {
                worker.close_udp(old);
                self.by_udp.remove(&old);
            }
            return Ok(());
        }
        let before = (socket.peer, socket.local(worker));
        socket.peer = peer;
        let port = before.1.map_or(0, |local| local.port());
        let local = socket.bound.unwrap_or(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port));
        let bound = match socket.rebind(worker, local) {
            Ok(id) => Ok(id),
            Err(error) => {
                socket.peer = before.0;
                // The address was ours a moment ago, and nobody else's code has run since.
                if let Some(local) = before.1 {
                    let _ = socket.rebind(worker, local);
                }
                Err(if error == Errno::ADDRNOTAVAIL { Errno::NETUNREACH } else { error })
            }
        };
        let new = socket.socket;
        if let Some(old) = old {
            self.by_udp.remove(&old);
        }
        if let Some(new) = new {
            self.by_udp.insert(new, file);
        }
        bound.map(|_| ())
    }

    pub(super) fn shutdown_datagram(&mut self, file: FileId, how: Shutdown) -> Result<(), Errno> {
        let (_, socket) = self.datagram(file)?;
        if socket.peer.is_none() {
            return Err(Errno::NOTCONN);
        }
        socket.shut.read |= how != Shutdown::Write;
        socket.shut.write |= how != Shutdown::Read;
        self.wake(file, Ready::ANYTHING);
        Ok(())
    }

    pub(super) fn recv_datagram(
        &mut self,
        file: FileId,
        bufs: &mut [IoSliceMut<'_>],
        flags: i32,
    ) -> Result<Received, Errno> {
        let otherwise = if self.is_stopped { Errno::SHUTDOWN } else { Errno::AGAIN };
        let waits = self.waits(file) && flags & libc::MSG_DONTWAIT == 0;
        let (worker, socket) = self.datagram(file)?;
        socket.pull(worker, 1);
        if let Some(error) = socket.error.take() {
            return Err(error);
        }
        let Some(datagram) = socket.waiting.front() else {
            let nothing = Received { len: 0, from: None, flags: 0, control: None };
            // Linux: only a wait notices.
            return if socket.shut.read && waits { Ok(nothing) } else { Err(otherwise) };
        };
        let mut rest = &datagram.payload[..];
        let whole = rest.len();
        for buf in bufs {
            let (now, later) = rest.split_at(rest.len().min(buf.len()));
            if let Some(to) = buf.get_mut(..now.len()) {
                to.copy_from_slice(now);
            }
            rest = later;
        }
        let is_cut = !rest.is_empty();
        let len = if flags & libc::MSG_TRUNC != 0 { whole } else { whole - rest.len() };
        let from = match datagram.peer {
            SocketAddr::V4(peer) => Some(peer),
            SocketAddr::V6(_) => None,
        };
        if flags & libc::MSG_PEEK == 0 {
            socket.waiting.pop_front();
        }
        Ok(Received { len, from, flags: if is_cut { libc::MSG_TRUNC } else { 0 }, control: None })
    }

    pub(super) fn send_datagram(
        &mut self,
        file: FileId,
        bufs: &[IoSlice<'_>],
        to: Option<SocketAddrV4>,
    ) -> Result<usize, Errno> {
        let (worker, socket) = self.datagram(file)?;
        if let Some(error) = socket.error.take() {
            return Err(error);
        }
        if socket.shut.write {
            return Err(Errno::PIPE);
        }
        let peer = to.or(socket.peer).ok_or(Errno::DESTADDRREQ)?;
        if peer.port() == 0 {
            return Err(Errno::INVAL);
        }
        let (id, is_new) = match socket.socket {
            Some(id) => (id, false),
            None => (socket.rebind(worker, SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0))?, true),
        };
        let sent = send_one(worker, id, bufs, peer);
        if is_new {
            self.by_udp.insert(id, file);
        }
        sent
    }

    /// What the worker has announced.
    pub(super) fn datagram_news(&mut self, file: FileId) -> Ready {
        let Ok((worker, socket)) = self.datagram(file) else { return Ready::NONE };
        socket.pull(worker, 1);
        if socket.error.is_some() { Ready::ERR } else { Ready::IN }
    }

    /// Bytes of the datagram that `recv` would give.
    pub(super) fn next_datagram_len(&mut self, file: FileId) -> usize {
        let Ok((worker, socket)) = self.datagram(file) else { return 0 };
        socket.pull(worker, 1);
        socket.waiting.front().map_or(0, |datagram| datagram.payload.len())
    }

    pub(super) fn datagram_ready(&mut self, file: FileId) -> Ready {
        let over = Ready::IN | Ready::RDHUP | Ready::ERR | Ready::HUP;
        let over = if self.is_stopped { over } else { Ready::NONE };
        let Ok((worker, socket)) = self.datagram(file) else { return Ready::NONE };
        socket.pull(worker, 1);
        socket.ready() | over
    }

    pub(super) fn datagram_option(&mut self, file: FileId, level: i32, name: i32) -> Result<Vec<u8>, Errno> {
        let (worker, socket) = self.datagram(file)?;
        socket.pull(worker, 1);
        match (level, name) {
            (libc::SOL_SOCKET, libc::SO_TYPE) => Ok(int(libc::SOCK_DGRAM)),
            (libc::SOL_SOCKET, libc::SO_PROTOCOL) => Ok(int(libc::IPPROTO_UDP)),
            (libc::SOL_SOCKET, libc::SO_ACCEPTCONN) => Ok(int(0)),
            (libc::SOL_SOCKET, libc::SO_ERROR) => Ok(int(socket.error.take().map_or(0, Errno::raw))),
            _ => Err(Errno::NOPROTOOPT),
        }
    }
}

fn send_one(
    worker: &mut Worker,
    socket: Udp,
    bufs: &[IoSlice<'_>],
    peer: SocketAddrV4,
) -> Result<usize, Errno> {
    let len = bufs.iter().map(|buf| buf.len()).sum();
    let mut payload: TxBuf = worker.tx_buf_for(len).ok_or(Errno::AGAIN)?;
    for buf in bufs {
        payload.put(buf);
    }
    if payload.len() < len {
        return Err(Errno::MSGSIZE);
    }
    let mut batch = Batch::with_capacity(1);
    let datagram = Datagram { peer: peer.into(), local: None::<IpAddr>, tos: 0, ttl: 0, payload };
    // There is room for one.
    let _ = batch.push(datagram);
    match worker.send_batch(socket, &mut batch)? {
        0 => Err(Errno::AGAIN),
        _ => Ok(len),
    }
}
