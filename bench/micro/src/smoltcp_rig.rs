//! smoltcp's side of the comparison: two interfaces over a pair of recycled packet queues, one copy per packet.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr};

use crate::{BUFFER_BYTES, REQUEST_BYTES, Rig};

const MTU_BYTES: usize = 1514;
const QUEUE_PACKETS: usize = 1024;

/// One direction of the wire; buffers are recycled, so nothing allocates in the steady state.
#[derive(Debug, Default)]
struct Queue {
    packets: VecDeque<Vec<u8>>,
    free: Vec<Vec<u8>>,
}

#[derive(Debug, Clone, Default)]
struct Lane(Rc<RefCell<Queue>>);

#[derive(Debug)]
struct PairDevice {
    rx: Lane,
    tx: Lane,
    scratch: Box<[u8; MTU_BYTES]>,
}

struct Received<'a> {
    lane: &'a Lane,
    packet: Vec<u8>,
}

struct Sending<'a> {
    lane: &'a Lane,
    scratch: &'a mut [u8; MTU_BYTES],
}

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        let result = f(&self.packet);
        self.lane.0.borrow_mut().free.push(self.packet);
        result
    }
}

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let scratch = &mut self.scratch[..len];
        let result = f(scratch);
        let mut queue = self.lane.0.borrow_mut();
        let mut packet = queue.free.pop().unwrap_or_else(|| Vec::with_capacity(MTU_BYTES));
        packet.clear();
        // The wire's one copy, as in `MemPort`.
        packet.extend_from_slice(scratch);
        queue.packets.push_back(packet);
        result
    }
}

impl Device for PairDevice {
    type RxToken<'a> = Received<'a>;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _now: Instant) -> Option<(Received<'_>, Sending<'_>)> {
        let packet = self.rx.0.borrow_mut().packets.pop_front()?;
        let sending = Sending { lane: &self.tx, scratch: &mut self.scratch };
        Some((Received { lane: &self.rx, packet }, sending))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Sending<'_>> {
        let is_full = self.tx.0.borrow().packets.len() >= QUEUE_PACKETS;
        (!is_full).then_some(Sending { lane: &self.tx, scratch: &mut self.scratch })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = MTU_BYTES;
        capabilities
    }
}

struct Host {
    interface: Interface,
    device: PairDevice,
    sockets: SocketSet<'static>,
    handles: Vec<SocketHandle>,
}

impl Host {
    fn new(number: u8, rx: Lane, tx: Lane, connections: usize) -> Host {
        let mut device = PairDevice { rx, tx, scratch: Box::new([0; MTU_BYTES]) };
        let mac = HardwareAddress::Ethernet(EthernetAddress([2, 0, 0, 0, 0, number]));
        let mut interface = Interface::new(Config::new(mac), &mut device, Instant::now());
        interface.update_ip_addrs(|addresses| {
            let address = IpCidr::new(IpAddress::v4(10, 8, 0, number), 24);
            addresses.push(address).expect("room for one address");
        });
        let mut sockets = SocketSet::new(Vec::with_capacity(connections));
        let handles = (0..connections)
            .map(|_| {
                let buffer = || tcp::SocketBuffer::new(vec![0; BUFFER_BYTES]);
                let mut socket = tcp::Socket::new(buffer(), buffer());
                socket.set_nagle_enabled(false);
                sockets.add(socket)
            })
            .collect();
        Host { interface, device, sockets, handles }
    }

    fn poll(&mut self) {
        self.interface.poll(Instant::now(), &mut self.device, &mut self.sockets);
    }
}

/// Two smoltcp interfaces on one thread.
pub struct SmoltcpRig {
    client: Host,
    server: Host,
    answered: Vec<usize>,
}

impl Rig for SmoltcpRig {
    fn connect(connections: usize) -> SmoltcpRig {
        let (up, down) = (Lane::default(), Lane::default());
        let mut rig = SmoltcpRig {
            server: Host::new(1, up.clone(), down.clone(), connections),
            client: Host::new(2, down, up, connections),
            answered: vec![0; connections],
        };
        for index in 0..connections {
            let handle = rig.server.handles[index];
            rig.server.sockets.get_mut::<tcp::Socket<'_>>(handle).listen(80).expect("a fresh socket");
            let handle = rig.client.handles[index];
            let local = 1024 + u16::try_from(index).expect("fewer connections than ports");
            let socket = rig.client.sockets.get_mut::<tcp::Socket<'_>>(handle);
            socket
                .connect(rig.client.interface.context(), (IpAddress::v4(10, 8, 0, 1), 80), local)
                .expect("a fresh socket");
            while !rig.client.sockets.get::<tcp::Socket<'_>>(handle).may_send() {
                rig.client.poll();
                rig.server.poll();
            }
        }
        rig
    }

    fn round(&mut self) {
        for handle in &self.client.handles {
            let socket = self.client.sockets.get_mut::<tcp::Socket<'_>>(*handle);
            assert_eq!(socket.send_slice(&[0x55; REQUEST_BYTES]), Ok(REQUEST_BYTES));
        }
        let mut open = self.client.handles.len();
        while open > 0 {
            self.client.poll();
            self.server.poll();
            self.echo();
            self.server.poll();
            self.client.poll();
            for (handle, answered) in self.client.handles.iter().zip(&mut self.answered) {
                let socket = self.client.sockets.get_mut::<tcp::Socket<'_>>(*handle);
                if socket.can_recv() {
                    *answered +=
                        socket.recv(|bytes| (bytes.len(), bytes.len())).expect("the connection is open");
                    if *answered == REQUEST_BYTES {
                        *answered = 0;
                        open -= 1;
                    }
                }
            }
        }
    }

    fn bulk(&mut self, len: usize) {
        let chunk = [0x77; 16 * 1024];
        let (up, down) = (self.client.handles[0], self.server.handles[0]);
        let (mut sent, mut received) = (0, 0);
        while received < len {
            let socket = self.client.sockets.get_mut::<tcp::Socket<'_>>(up);
            while sent < len && socket.can_send() {
                let wish = chunk.len().min(len - sent);
                sent += socket.send_slice(&chunk[..wish]).expect("the connection is open");
            }
            self.client.poll();
            self.server.poll();
            let socket = self.server.sockets.get_mut::<tcp::Socket<'_>>(down);
            while socket.can_recv() {
                received += socket.recv(|bytes| (bytes.len(), bytes.len())).expect("the connection is open");
            }
        }
    }
}

impl SmoltcpRig {
    fn echo(&mut self) {
        let mut piece = [0; REQUEST_BYTES];
        for handle in &self.server.handles {
            let socket = self.server.sockets.get_mut::<tcp::Socket<'_>>(*handle);
            while socket.can_recv() {
                let len = socket.recv_slice(&mut piece).expect("the connection is open");
                assert_eq!(socket.send_slice(&piece[..len]), Ok(len));
            }
        }
    }
}
