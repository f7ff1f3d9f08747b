//! Sockets with Linux's semantics over two engines on one wire in memory, in virtual time.

mod datagrams;
mod ends;
mod fast_open;
mod kernel;
mod misuse;
mod options;
mod readiness;
mod stop;
mod streams;
mod threads;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use ringwire::clock::{Clock, ManualClock};
use ringwire::posix::addr::Named;
use ringwire::posix::{Errno, Fd, LowestFree, Mode, Progress, Runner, Sockets, Turned, call};
use ringwire::{Engine, EngineBuilder, Handle, Interface, TcpOptions};

const A: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const B: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const PORT: u16 = 80;
const SECOND_NS: u64 = 1_000_000_000;

/// Two hosts. What a test does on `a`, its peer does on `b`.
struct Net {
    a: Sockets,
    /// The engine of `a`.
    engine: Handle,
    b: Host,
}

/// The other host, and the clock of both.
struct Host {
    sockets: Sockets,
    hand: ManualClock,
    /// It has been unplugged.
    is_gone: bool,
}

impl Net {
    fn new() -> Net {
        Net::with(TcpOptions::default())
    }

    fn with(defaults: TcpOptions) -> Net {
        Net::built(defaults, |side| side)
    }

    fn built(defaults: TcpOptions, change: impl Fn(EngineBuilder) -> EngineBuilder) -> Net {
        let (clock, hand) = Clock::manual();
        let side = |address: Ipv4Addr| {
            let interface = Interface::new("memory").address(format!("{address}/24").parse().unwrap());
            let side = Engine::builder().interface(interface).clock(clock.clone()).secret([3; 16]);
            change(side.max_connections(256))
        };
        let (a, b) = Engine::memory_pair(side(A), side(B)).unwrap();
        let engine = a.handle();
        let mut sockets = [a, b].map(|engine| {
            let worker = engine.into_workers().remove(0).start();
            Sockets::new(worker, Box::new(LowestFree::new(3, 64)), defaults.clone())
        });
        hand.advance(Duration::from_secs(1));
        sockets.iter_mut().for_each(|side| {
            side.turn(Some(Duration::ZERO)).unwrap();
        });
        let [a, b] = sockets;
        Net { a, engine, b: Host { sockets: b, hand, is_gone: false } }
    }

    /// A call on `a` that may wait, while `b` and the clock go on.
    fn wait<R>(&mut self, attempt: impl FnMut(&mut Sockets) -> Progress<R>) -> R {
        call::wait(&mut self.a, &mut self.b, attempt).expect("the wait ends")
    }

    /// Everything that can happen now happens; the clock stands still.
    fn settle(&mut self) {
        self.b.exchange(&mut self.a);
    }

    fn pass(&mut self, time: Duration) {
        let until_ns = self.b.hand.now_ns() + u64::try_from(time.as_nanos()).unwrap();
        while self.b.hand.now_ns() < until_ns {
            self.b.exchange(&mut self.a);
            self.b.jump(&self.a, until_ns);
        }
        self.b.exchange(&mut self.a);
    }

    fn now_ns(&self) -> u64 {
        self.b.hand.now_ns()
    }

    /// A listener on `b`.
    fn server(&mut self) -> Fd {
        let fd = self.b.sockets.socket(libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
        set_int(&mut self.b.sockets, fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1).unwrap();
        self.b.sockets.bind(fd, at(Ipv4Addr::UNSPECIFIED, PORT)).unwrap();
        self.b.sockets.listen(fd, 16).unwrap();
        fd
    }

    /// A stream socket on `a`.
    fn stream(&mut self) -> Fd {
        self.a.socket(libc::AF_INET, libc::SOCK_STREAM, 0).unwrap()
    }

    /// A connection: the ends on `a` and on `b`.
    fn connection(&mut self) -> (Fd, Fd) {
        let server = self.server();
        let (client, accepted) = self.connect_to(server);
        self.b.sockets.close(server).unwrap();
        (client, accepted)
    }

    fn connect_to(&mut self, server: Fd) -> (Fd, Fd) {
        let client = self.stream();
        assert_eq!(self.wait(call::connect(client, at(B, PORT))), Ok(()));
        self.settle();
        let (accepted, _) = self.b.sockets.accept(server, Mode::Blocking).unwrap();
        (client, accepted)
    }
}

impl Host {
    fn exchange(&mut self, a: &mut Sockets) -> bool {
        let mut is_news = false;
        for _ in 0..6 {
            is_news |= a.turn(Some(Duration::ZERO)) == Ok(Turned::News);
            if !self.is_gone {
                self.sockets.turn(Some(Duration::ZERO)).unwrap();
            }
        }
        is_news
    }

    /// To the next timer, but not beyond `until_ns`.
    fn jump(&mut self, a: &Sockets, until_ns: u64) {
        let now_ns = self.hand.now_ns();
        let theirs = self.sockets.worker().next_timer_ns().filter(|_| !self.is_gone);
        let next_ns = [a.worker().next_timer_ns(), theirs].into_iter().flatten().fold(until_ns, u64::min);
        self.hand.advance(Duration::from_nanos(next_ns.max(now_ns + 1_000) - now_ns));
    }
}

impl Runner for Host {
    fn run_until(&mut self, sockets: &mut Sockets, until_ns: Option<u64>) -> Result<(), Errno> {
        // A test that waits longer than an hour waits for ever.
        let give_up_ns = self.hand.now_ns() + 3_600 * SECOND_NS;
        loop {
            if self.exchange(sockets) || until_ns.is_some_and(|until_ns| sockets.now_ns() >= until_ns) {
                return Ok(());
            }
            if self.hand.now_ns() >= give_up_ns {
                return Err(Errno::INTR);
            }
            self.jump(sockets, until_ns.unwrap_or(give_up_ns));
        }
    }
}

fn at(ip: Ipv4Addr, port: u16) -> Named {
    Named::Inet(SocketAddrV4::new(ip, port))
}

/// What `recv` of at most 64 bytes gives now.
fn read(sockets: &mut Sockets, fd: Fd) -> Result<Vec<u8>, Errno> {
    read_with(sockets, fd, 0)
}

fn read_with(sockets: &mut Sockets, fd: Fd, flags: i32) -> Result<Vec<u8>, Errno> {
    let mut buf = [0; 64];
    let found = sockets.recv(fd, &mut [std::io::IoSliceMut::new(&mut buf)], flags)?;
    Ok(buf[..found.len].to_vec())
}

fn write(sockets: &mut Sockets, fd: Fd, bytes: &[u8]) -> Result<usize, Errno> {
    sockets.send(fd, &[std::io::IoSlice::new(bytes)], 0, None)
}

fn int_option(sockets: &mut Sockets, fd: Fd, level: i32, name: i32) -> i32 {
    let value = sockets.option(fd, level, name).unwrap();
    i32::from_ne_bytes(value.try_into().unwrap())
}

fn set_int(sockets: &mut Sockets, fd: Fd, level: i32, name: i32, value: i32) -> Result<(), Errno> {
    sockets.set_option(fd, level, name, &value.to_ne_bytes())
}

fn so_error(sockets: &mut Sockets, fd: Fd) -> i32 {
    int_option(sockets, fd, libc::SOL_SOCKET, libc::SO_ERROR)
}

fn set_linger(sockets: &mut Sockets, fd: Fd, seconds: i32) {
    let value = [1_i32.to_ne_bytes(), seconds.to_ne_bytes()].concat();
    sockets.set_option(fd, libc::SOL_SOCKET, libc::SO_LINGER, &value).unwrap();
}

fn set_timeout(sockets: &mut Sockets, fd: Fd, name: i32, (seconds, micros): (i64, i64)) {
    let value = [seconds.to_ne_bytes(), micros.to_ne_bytes()].concat();
    sockets.set_option(fd, libc::SOL_SOCKET, name, &value).unwrap();
}

fn make_nonblocking(sockets: &mut Sockets, fd: Fd) {
    sockets.fcntl(fd, libc::F_SETFL, libc::O_NONBLOCK.into()).unwrap();
}
