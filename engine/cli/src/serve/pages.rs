//! HTTP sessions on a worker.

use std::net::{Ipv4Addr, Shutdown};
use std::time::Duration;

use ringwire::{BindError, Conn, Event, Listener, Recv, TcpOptions, Worker};

use super::http::{Gone, Next, Outgoing, Session, Site};
use super::worker::{Pending, Service, Sessions};

/// A connection that neither asks nor takes anything for so long is ended.
const IDLE_LIMIT_NS: u64 = Duration::from_secs(75).as_nanos() as u64;
/// Distance of two looks for idle connections.
const SWEEP_NS: u64 = Duration::from_secs(5).as_nanos() as u64;

/// An HTTP server on one worker.
pub(super) struct HttpService {
    port: u16,
    site: Site,
    tcp: TcpOptions,
    listener: Option<Listener>,
    connections: Sessions<Connection>,
    swept_ns: u64,
    /// Each connection ends with the answer that is on its way.
    is_draining: bool,
}

struct Connection {
    session: Session,
    /// Our side is finished; what still comes is thrown away until the client's end. Closing at once would
    /// reset the connection over unread input, and the client could lose our last answer (RFC 9112 9.6).
    lingering: bool,
    active_ns: u64,
}

/// One connection as a session sees it.
struct Wire<'w> {
    worker: &'w mut Worker,
    conn: Conn,
}

impl Outgoing for Wire<'_> {
    fn send(&mut self, bytes: &[u8]) -> Result<usize, Gone> {
        self.worker.send(self.conn, bytes).map_err(|_| Gone)
    }
}

impl HttpService {
    pub(super) fn new(port: u16, site: Site, tcp: TcpOptions) -> HttpService {
        HttpService {
            port,
            site,
            tcp,
            listener: None,
            connections: Sessions::new(),
            swept_ns: 0,
            is_draining: false,
        }
    }

    /// Answers and reads until one of them has to wait.
    fn converse(&mut self, worker: &mut Worker, conn: Conn) {
        let Some(connection) = self.connections.get_mut(conn) else { return };
        connection.active_ns = worker.now_ns();
        let ended = loop {
            if !connection.lingering {
                let mut wire = Wire { worker: &mut *worker, conn };
                match connection.session.drive(&mut self.site, &mut wire) {
                    Ok(Next::Input) if !self.is_draining => {}
                    Ok(Next::Output) => return,
                    Ok(Next::Input | Next::Close) => {
                        connection.lingering = true;
                        if worker.shutdown(conn, Shutdown::Write).is_err() {
                            break Ended::Broken;
                        }
                    }
                    Err(Gone) => break Ended::Broken,
                }
            }
            match worker.recv(conn) {
                Ok(Recv::Data(_)) if connection.lingering => {}
                Ok(Recv::Data(piece)) => connection.session.receive(&piece),
                Ok(Recv::Empty) => return,
                Ok(Recv::Eof) if connection.lingering => break Ended::Orderly,
                Ok(Recv::Eof) => connection.session.receive_eof(),
                Err(_) => break Ended::Broken,
            }
        };
        match ended {
            Ended::Orderly => worker.close(conn),
            // An answer was cut short: only a reset tells the client so for certain.
            Ended::Broken => worker.abort(conn),
        }
        self.connections.remove(conn);
    }

    #[cold]
    fn sweep(&mut self, worker: &mut Worker) {
        let now_ns = worker.now_ns();
        self.swept_ns = now_ns;
        let idle = |connection: &Connection| now_ns.saturating_sub(connection.active_ns) > IDLE_LIMIT_NS;
        let idle: Vec<(Conn, bool)> = self
            .connections
            .iter()
            .filter(|(_, connection)| idle(connection))
            .map(|(conn, connection)| (conn, connection.session.is_idle() && !connection.lingering))
            .collect();
        for (conn, between_requests) in idle {
            if between_requests {
                worker.close(conn);
            } else {
                worker.abort(conn);
            }
            self.connections.remove(conn);
        }
    }
}

enum Ended {
    Orderly,
    Broken,
}

impl Service for HttpService {
    fn bind(&mut self, worker: &mut Worker) -> Result<(), BindError> {
        self.listener = Some(worker.listen((Ipv4Addr::UNSPECIFIED, self.port).into(), &self.tcp)?);
        Ok(())
    }

    fn on_event(&mut self, worker: &mut Worker, event: Event) {
        match event {
            Event::Accepted { conn, .. } => {
                let connection =
                    Connection { session: Session::default(), lingering: false, active_ns: worker.now_ns() };
                self.connections.insert(conn, connection);
                self.converse(worker, conn);
            }
            Event::Readable(conn) | Event::Writable(conn) => self.converse(worker, conn),
            Event::Closed { conn, .. } => self.connections.remove(conn),
            _ => {}
        }
    }

    fn end_turn(&mut self, worker: &mut Worker) -> Pending {
        if worker.now_ns().saturating_sub(self.swept_ns) >= SWEEP_NS {
            self.sweep(worker);
        }
        Pending::Nothing
    }

    fn drain(&mut self, worker: &mut Worker) {
        if let Some(listener) = self.listener.take() {
            worker.close_listener(listener);
        }
        self.is_draining = true;
        // Answers on their way are finished; the shutdown's limit ends those that take too long.
        let idle = |connection: &Connection| connection.session.is_idle();
        let done: Vec<Conn> = self
            .connections
            .iter()
            .filter(|(_, connection)| idle(connection))
            .map(|(conn, _)| conn)
            .collect();
        for conn in done {
            worker.close(conn);
            self.connections.remove(conn);
        }
    }
}
