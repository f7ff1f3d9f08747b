//! The other side: the kernel's sockets, blocking, in a node of the lab.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use ringwire_lab::Node;
use socket2::{Domain, Socket, Type};

use crate::pattern::{Digest, Digester, Pattern};

/// No single call of a test may wait longer.
const CALL_LIMIT: Duration = Duration::from_secs(30);

/// Connects from inside `node`.
pub fn connect(node: &Node, to: SocketAddr) -> io::Result<TcpStream> {
    node.run(|| connect_here(to))
}

/// Connects from the node that the calling thread is in.
pub fn connect_here(to: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, CALL_LIMIT)?;
    limit(&stream)?;
    Ok(stream)
}

/// Connects from inside `node`, from a port that may have just been used.
pub fn connect_from(node: &Node, port: Option<u16>, to: SocketAddr) -> io::Result<TcpStream> {
    let stream: TcpStream = node.run(|| -> io::Result<TcpStream> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port.unwrap_or(0))).into())?;
        socket.connect_timeout(&to.into(), CALL_LIMIT)?;
        Ok(socket.into())
    })?;
    limit(&stream)?;
    Ok(stream)
}

/// Listens inside `node`, on a port that the kernel chooses, with room for all who call at once: a full queue makes the kernel use
/// SYN cookies, and then a late ACK of a connection that is over may begin another one.
///
/// # Panics
/// When that is refused.
pub fn listen(node: &Node, ip: IpAddr) -> (TcpListener, SocketAddr) {
    const BACKLOG: i32 = 4096;
    let listen = || -> io::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address((ip, 0).into()), Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((ip, 0)).into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    let listener = node.run(listen).expect("a free port");
    let addr = listener.local_addr().expect("it is bound");
    (listener, addr)
}

/// The next connection of a listener.
pub fn accept(listener: &TcpListener) -> io::Result<TcpStream> {
    let (stream, _) = listener.accept()?;
    limit(&stream)?;
    Ok(stream)
}

/// A datagram socket inside `node`, connected to `to`.
///
/// # Panics
/// When that is refused.
pub fn udp(node: &Node, from: IpAddr, to: SocketAddr) -> UdpSocket {
    let socket = node.run(|| UdpSocket::bind((from, 0))).expect("a free port");
    socket.connect(to).expect("a route");
    socket.set_read_timeout(Some(Duration::from_secs(2))).expect("a time limit");
    socket
}

fn limit(stream: &TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(CALL_LIMIT))?;
    stream.set_write_timeout(Some(CALL_LIMIT))
}

/// Writes all of a pattern.
pub fn send(mut stream: &TcpStream, mut pattern: Pattern) -> io::Result<()> {
    let mut bytes = vec![0; 1 << 16];
    while pattern.left() > 0 {
        let len = pattern.fill(&mut bytes);
        stream.write_all(&bytes[..len])?;
    }
    Ok(())
}

/// Reads to the end of the stream, or to `limit` bytes.
pub fn receive(stream: &TcpStream, limit: u64) -> io::Result<Digest> {
    let (mut stream, mut digester, mut bytes) = (stream.take(limit), Digester::default(), vec![0; 1 << 16]);
    loop {
        match stream.read(&mut bytes)? {
            0 => return Ok(digester.finish()),
            len => digester.add(&bytes[..len]),
        }
    }
}

/// Sends `pattern` and reads as much as that at the same time, on a second thread.
pub fn exchange(stream: &TcpStream, pattern: &Pattern) -> io::Result<Digest> {
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| receive(stream, pattern.left()));
        send(stream, pattern.clone())?;
        reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Sends `pattern` piece by piece and reads each piece back: an echo server's client in one thread.
pub fn exchange_in_turns(mut stream: &TcpStream, pattern: &Pattern) -> io::Result<Digest> {
    let (mut pattern, mut digester, mut bytes) = (pattern.clone(), Digester::default(), vec![0; 10_000]);
    while pattern.left() > 0 {
        let len = pattern.fill(&mut bytes);
        stream.write_all(&bytes[..len])?;
        stream.read_exact(&mut bytes[..len])?;
        digester.add(&bytes[..len]);
    }
    Ok(digester.finish())
}

/// Sends back all that comes, to the end.
pub fn echo(mut stream: &TcpStream) -> io::Result<()> {
    let mut bytes = vec![0; 1 << 14];
    loop {
        match stream.read(&mut bytes)? {
            0 => return Ok(()),
            len => stream.write_all(&bytes[..len])?,
        }
    }
}

/// A counter of the node's kernel, by the name that nstat(8) gives it.
///
/// # Panics
/// When nstat is missing or does not know it.
pub fn counter(node: &Node, name: &str) -> u64 {
    let output = node.command("nstat").args(["-asz", name]).output().expect("nstat is installed");
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    let value = shown.split_whitespace().skip_while(|word| *word != name).nth(1);
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {shown}"))
}
