//! `serve --stack kernel echo`: what Ringwire is compared with, as a command.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use ringwire_peers::kernel::{TcpEcho, UdpEcho, Wait};

use crate::args::{PollMode, ServeArgs, Transport};
use crate::cpu;
use crate::load::say;
use crate::refusal::{Exit, Refusal};
use crate::signals::StopWait;

use super::banner_line;

pub(super) fn run(args: &ServeArgs) -> Result<Exit, Refusal> {
    let (wait, release) = StopWait::new()?;
    let addr = match args.engine.addresses.first() {
        Some(own) => SocketAddrV4::new(own.address, args.port),
        None => SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, args.port),
    };
    let (waiting, words) = match args.engine.poll_mode {
        Some(PollMode::Busy) => (Wait::Spinning, "kernel sockets, busy"),
        Some(PollMode::Adaptive) | None => (Wait::Blocking, "kernel sockets"),
    };
    let tcp = (args.only != Some(Transport::Udp)).then(|| TcpEcho::bind(addr, waiting));
    let udp = (args.only != Some(Transport::Tcp)).then(|| UdpEcho::bind(addr, waiting));
    let refused = |error: io::Error| {
        let what = format!("cannot serve {addr}: {error}");
        Refusal::new(Exit::Refused, what, "another --port or --address: ss -ltnup shows who holds this one")
    };
    let (tcp, udp) = (tcp.transpose().map_err(refused)?, udp.transpose().map_err(refused)?);
    // Threads inherit this.
    if let Some(cpu) = args.engine.cpus.as_ref().and_then(|cpus| cpus.0.first()) {
        cpu::pin(*cpu as usize)?;
    }
    say(&banner_line(args, &addr.ip().to_string(), words))?;
    let stop = AtomicBool::new(false);
    let served: io::Result<()> = thread::scope(|scope| {
        let tcp = tcp.map(|server| scope.spawn(|| server.run(&stop)));
        let udp = udp.map(|server| scope.spawn(|| server.run(&stop)));
        wait.wait(args.duration);
        // Relaxed: nothing else is published with the flag.
        stop.store(true, Ordering::Relaxed);
        let mut ends = [tcp, udp].into_iter().flatten().map(|server| server.join());
        ends.try_for_each(|end| end.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    drop(release);
    served.map_err(|error| {
        Refusal::new(Exit::Failed, format_args!("kernel sockets: {error}"), "look at dmesg")
    })?;
    Ok(Exit::Ok)
}
