//! The application's half of a script, and how scripts get into a state.

use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use ringwire::{CloseReason, ConnError, Event, Recv, TcpInfo, TcpState};
use ringwire_wire::tcp::{Options, Timestamps};

use crate::script::{Flow, PEER, PORT, Script, WORKER};
use crate::segment::{Segment, ack, fin, syn, syn_ack};

/// The peer's port for the worker's active opens.
const SERVER_PORT: u16 = 7;

impl Script {
    /// Listens on port 80.
    pub fn listen(&mut self) {
        let options = self.options.clone();
        let listener = self.worker.listen(SocketAddr::from((WORKER, PORT)), &options);
        self.listener = Some(listener.expect("port 80 is free"));
        self.note("  listen");
    }

    /// Stops listening.
    pub fn close_listener(&mut self) {
        if let Some(listener) = self.listener.take() {
            self.note("  close the listener");
            self.worker.close_listener(listener);
            self.settle();
        }
    }

    /// Opens a connection to port 7 of the peer, from port 80 so that scripts need not learn the port.
    pub fn connect(&mut self) {
        self.begin_connect();
        self.settle();
    }

    /// The same, and writes before the SYN leaves.
    #[track_caller]
    pub fn connect_with(&mut self, text: impl AsRef<[u8]>) {
        self.begin_connect();
        self.send(text);
    }

    fn begin_connect(&mut self) {
        let mut options = self.options.clone();
        options.local = Some((WORKER.into(), PORT));
        self.peer_port = SERVER_PORT;
        let irs = self.irs;
        self.flows.insert(SERVER_PORT, Flow::new(irs));
        let conn = self.worker.connect(SocketAddr::from((PEER, SERVER_PORT)), &options);
        self.conn = Some(conn.expect("nothing stands in the way of a connect"));
        self.note("  connect");
    }

    /// The peer's SYN, with the options of [`Script::offer`].
    pub fn peer_syn(&self) -> Segment {
        self.offering(syn())
    }

    /// The peer's SYN-ACK, with the options of [`Script::offer`].
    pub fn peer_syn_ack(&self) -> Segment {
        self.offering(syn_ack())
    }

    fn offering(&self, segment: Segment) -> Segment {
        Segment { options: self.offer, ..segment }
    }

    /// The peer offers MSS 1460, SACK, timestamps and a window scale of 7.
    pub fn offer_everything(&mut self) {
        self.offer = Options {
            mss: Some(1460),
            window_scale: Some(7),
            sack_permitted: true,
            timestamps: Some(Timestamps { value: self.now_ms() as u32, echo: 0 }),
            ..Options::default()
        };
    }

    /// The peer offers MSS 1460 and SACK.
    pub fn offer_sack(&mut self) {
        self.offer = Options { mss: Some(1460), sack_permitted: true, ..Options::default() };
    }

    /// The peer offers MSS 1460 and timestamps.
    pub fn offer_timestamps(&mut self) {
        let timestamps = Some(Timestamps { value: self.now_ms() as u32, echo: 0 });
        self.offer = Options { mss: Some(1460), timestamps, ..Options::default() };
    }

    fn use_timestamps(&mut self) {
        let is_offered = self.offer.timestamps.is_some();
        if let Some(flow) = self.flows.get_mut(&self.peer_port) {
            flow.has_timestamps = is_offered;
        }
    }

    /// A passive open by the peer, up to the accept. The worker's next byte is 1, as is the peer's.
    #[track_caller]
    pub fn establish(&mut self) {
        if self.listener.is_none() {
            self.listen();
        }
        let syn = self.peer_syn();
        self.inject(syn);
        self.expect(syn_ack().ack(1));
        self.use_timestamps();
        self.inject(ack());
        self.accept();
        self.expect_nothing();
    }

    /// A passive open whose handshake took so long: the first round-trip time.
    #[track_caller]
    pub fn establish_in(&mut self, rtt_ms: u64) {
        if self.listener.is_none() {
            self.listen();
        }
        let syn = self.peer_syn();
        self.inject(syn);
        self.expect(syn_ack().ack(1));
        self.use_timestamps();
        self.wait(rtt_ms);
        self.inject(ack());
        self.accept();
    }

    /// An active open by the worker.
    #[track_caller]
    pub fn establish_actively(&mut self) {
        self.connect();
        self.expect(syn());
        let answer = self.peer_syn_ack();
        self.inject(answer);
        self.use_timestamps();
        self.expect_only(ack().seq(1).ack(1));
        self.expect_connected();
    }

    /// Brings a connection into a state: the worker's next number is 1 (2 after its FIN), as is the peer's.
    #[track_caller]
    pub fn reach(&mut self, state: TcpState) {
        match state {
            TcpState::Closed => {}
            TcpState::SynSent => {
                self.connect();
                self.expect(syn());
            }
            TcpState::SynReceived => {
                self.listen();
                let syn = self.peer_syn();
                self.inject(syn);
                self.expect(syn_ack());
            }
            TcpState::Established => self.establish(),
            TcpState::FinWait1 | TcpState::FinWait2 | TcpState::Closing | TcpState::TimeWait => {
                self.establish();
                self.shutdown_write();
                self.expect_only(fin().seq(1));
                self.finish(state);
            }
            TcpState::CloseWait | TcpState::LastAck => {
                self.establish();
                self.inject(fin());
                self.expect_only(ack().ack(2));
                self.expect_eof();
                if state == TcpState::LastAck {
                    self.shutdown_write();
                    self.expect_only(fin().seq(1).ack(2));
                }
            }
        }
        self.expect_state(state);
    }

    /// From FIN-WAIT-1 on.
    #[track_caller]
    fn finish(&mut self, state: TcpState) {
        match state {
            TcpState::FinWait2 => self.inject(ack().ack(2)),
            TcpState::Closing => {
                self.inject(fin().ack(1));
                self.expect_only(ack().ack(2));
            }
            TcpState::TimeWait => {
                self.inject(fin().ack(2));
                self.expect_only(ack().ack(2));
            }
            TcpState::Closed
            | TcpState::SynSent
            | TcpState::SynReceived
            | TcpState::Established
            | TcpState::FinWait1
            | TcpState::CloseWait
            | TcpState::LastAck => {}
        }
    }

    /// Takes the connection that the listener has ready.
    #[track_caller]
    pub fn accept(&mut self) {
        self.settle();
        let accepted = self.news.iter().position(|event| matches!(event, Event::Accepted { .. }));
        match accepted.and_then(|at| self.news.remove(at)) {
            Some(Event::Accepted { conn, .. }) => self.conn = Some(conn),
            _ => self.fail("expected: a connection to accept"),
        }
    }

    /// Nothing to accept.
    #[track_caller]
    pub fn expect_no_accept(&mut self) {
        self.settle();
        if self.news.iter().any(|event| matches!(event, Event::Accepted { .. })) {
            self.fail("expected: no connection to accept");
        }
    }

    /// The active open has completed.
    #[track_caller]
    pub fn expect_connected(&mut self) {
        self.settle();
        match self.news.iter().position(|event| matches!(event, Event::Connected(_))) {
            Some(at) => drop(self.news.remove(at)),
            None => self.fail("expected: the connection is established"),
        }
    }

    /// The application was told that the connection has ended, and why.
    #[track_caller]
    pub fn expect_closed(&mut self, reason: CloseReason) {
        self.settle();
        let closed = self.news.iter().find_map(|event| match event {
            Event::Closed { reason, .. } => Some(*reason),
            _ => None,
        });
        match closed {
            Some(got) if got == reason => self.news.retain(|event| !matches!(event, Event::Closed { .. })),
            got => self.fail(&format!("expected: closed because {reason:?}\ngot:      {got:?}")),
        }
    }

    /// The application was not told of any end.
    #[track_caller]
    pub fn expect_open(&mut self) {
        self.settle();
        if let Some(event) = self.news.iter().find(|event| matches!(event, Event::Closed { .. })) {
            let event = *event;
            self.fail(&format!("expected: the connection goes on\ngot:      {event:?}"));
        }
    }

    /// The application was told that there is something to read.
    #[track_caller]
    pub fn expect_readable(&mut self) {
        self.settle();
        let is_readable = |event: &Event| matches!(event, Event::Readable(_));
        if !self.news.iter().any(is_readable) {
            self.fail("expected: something to read");
        }
        self.news.retain(|event| !is_readable(event));
    }

    /// What TCP_INFO says.
    #[track_caller]
    pub fn info(&mut self) -> TcpInfo {
        self.settle();
        match self.conn.map(|conn| self.worker.tcp_info(conn)) {
            Some(Ok(info)) => info,
            other => self.fail(&format!("no TCP_INFO: {other:?}")),
        }
    }

    /// The connection is in this state. SYN-RECEIVED of a listener has no id: nothing to accept is all that shows.
    #[track_caller]
    pub fn expect_state(&mut self, state: TcpState) {
        self.settle();
        match (self.conn, state) {
            (None, TcpState::SynReceived | TcpState::Closed) => self.expect_no_accept(),
            (Some(conn), _) => {
                let got = self.worker.tcp_info(conn).map(|info| info.state);
                if got != Ok(state) && !(got == Err(ConnError::Closed) && state == TcpState::Closed) {
                    self.fail(&format!("expected: state {state:?}\ngot:      {got:?}"));
                }
            }
            (None, _) => self.fail("no connection"),
        }
    }

    /// Writes; all of it must be taken.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        let taken = self.try_send(bytes);
        if taken != Ok(bytes.len()) {
            self.fail(&format!("send took {taken:?} of {}", bytes.len()));
        }
        self.settle();
    }

    /// The connection's options become [`Script::options`] as they are now.
    pub fn change_options(&mut self) {
        let options = self.options.clone();
        self.note("app changes the options");
        let Some(conn) = self.conn else { self.fail("there is no connection") };
        if let Err(error) = self.worker.set_options(conn, &options) {
            self.fail(&format!("set_options: {error}"));
        }
        self.settle();
    }

    /// Keeps what is no full segment back for more.
    pub fn cork(&mut self) {
        self.note("  cork");
        if let Some(conn) = self.conn {
            let _ = self.worker.set_cork(conn, ringwire::Cork::In);
        }
    }

    /// Writes, and says how much was taken.
    pub fn try_send(&mut self, bytes: &[u8]) -> Result<usize, ConnError> {
        self.note(&format!("  send {} bytes", bytes.len()));
        let Some(conn) = self.conn else { return Err(ConnError::Closed) };
        let taken = self.worker.send(conn, bytes);
        self.settle();
        self.exchange_beside();
        taken
    }

    /// Hands over buffers of at most `most` bytes, frames or, where they are longer, heap memory; all of it must be taken.
    #[track_caller]
    pub fn send_bufs(&mut self, mut bytes: &[u8], most: usize) {
        self.note(&format!("  send {} bytes in buffers", bytes.len()));
        while let Some(conn) = self.conn.filter(|_| !bytes.is_empty()) {
            let Some(mut buf) = self.worker.tx_buf_for(most) else { self.fail("no buffer") };
            let len = buf.put(bytes.get(..most).unwrap_or(bytes));
            if let Err(unsent) = self.worker.send_buf(conn, buf) {
                self.fail(&format!("a buffer came back: {unsent:?}"));
            }
            bytes = bytes.get(len..).unwrap_or_default();
        }
        self.settle();
    }

    fn recv(&mut self) -> Result<Recv<ringwire::RxBuf>, ConnError> {
        self.settle();
        let Some(conn) = self.conn else { return Err(ConnError::Closed) };
        self.worker.recv(conn)
    }

    /// Reads everything there is.
    pub fn read(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Ok(Recv::Data(piece)) = self.recv() {
            bytes.extend_from_slice(&piece);
        }
        self.note(&format!("  read {} bytes", bytes.len()));
        self.settle();
        bytes
    }

    /// Takes everything there is and keeps the frames, so that the window stays closed.
    pub fn hold(&mut self) {
        while let Ok(Recv::Data(piece)) = self.recv() {
            self.held.push(piece);
        }
    }

    /// Reads the first piece and no more.
    pub fn read_one(&mut self) -> Vec<u8> {
        let piece = match self.recv() {
            Ok(Recv::Data(piece)) => piece.to_vec(),
            _ => Vec::new(),
        };
        self.note(&format!("  read {} bytes", piece.len()));
        self.settle();
        piece
    }

    /// Exactly this can be read.
    #[track_caller]
    pub fn expect_read(&mut self, bytes: impl AsRef<[u8]>) {
        let got = self.read();
        if got != bytes.as_ref() {
            let (got_len, len) = (got.len(), bytes.as_ref().len());
            self.fail(&format!("the application read {got_len} bytes that are not the {len} expected"));
        }
    }

    /// In one go, as most applications read: these bytes, and then the end of the stream.
    #[track_caller]
    pub fn expect_read_to_end(&mut self, bytes: impl AsRef<[u8]>) {
        self.settle();
        let Some(conn) = self.conn else { self.fail("no connection to read from") };
        let mut got = Vec::new();
        let end = loop {
            match self.worker.recv(conn) {
                Ok(Recv::Data(piece)) => got.extend_from_slice(&piece),
                other => break other,
            }
        };
        if got != bytes.as_ref() || !matches!(end, Ok(Recv::Eof)) {
            self.fail(&format!(
                "expected: {} bytes and the end\ngot:      {} and {end:?}",
                bytes.as_ref().len(),
                got.len()
            ));
        }
    }

    /// The peer has finished its direction.
    #[track_caller]
    pub fn expect_eof(&mut self) {
        match self.recv() {
            Ok(Recv::Eof) => {}
            other => self.fail(&format!("expected: end of the stream\ngot:      {other:?}")),
        }
    }

    /// Finishes the worker's direction.
    pub fn shutdown_write(&mut self) {
        self.note("  shutdown(write)");
        if let Some(conn) = self.conn {
            let _ = self.worker.shutdown(conn, Shutdown::Write);
        }
        self.settle();
    }

    /// The application closes; the id is stale afterwards.
    pub fn close(&mut self) {
        self.note("  close");
        if let Some(conn) = self.conn.take() {
            self.worker.close(conn);
        }
        self.settle();
    }

    /// The application aborts; the id is stale afterwards.
    pub fn abort(&mut self) {
        self.note("  abort");
        if let Some(conn) = self.conn.take() {
            self.worker.abort(conn);
        }
        self.settle();
    }

    /// Connections the worker holds, TIME-WAIT included.
    pub fn connections(&mut self) -> u64 {
        self.settle();
        self.worker.counters().connections
    }

    /// The worker's counters.
    pub fn counters(&mut self) -> ringwire::WorkerCounters {
        self.settle();
        self.worker.counters().clone()
    }

    /// Packets that the worker dropped for this reason.
    pub fn dropped(&mut self, reason: ringwire::DropReason) -> u64 {
        self.settle();
        self.handle.metrics().dropped(reason)
    }

    /// The connection still moves data both ways: what every attack must leave intact. Needs a quiet ESTABLISHED connection.
    #[track_caller]
    pub fn expect_alive(&mut self) {
        self.wait(600);
        self.ignore_sent();
        self.read();
        self.inject(crate::data("ping"));
        self.expect_read("ping");
        self.wait(100);
        self.ignore_sent();
        self.send("pong");
        let sent = self.take_sent();
        if !sent.iter().any(|segment| segment.text == b"pong") {
            self.fail("expected: the connection still sends");
        }
        self.inject(ack());
        self.wait(1);
        let unacked_bytes = self.info().unacked_bytes;
        if unacked_bytes != 0 {
            self.fail("expected: acknowledgements still count");
        }
        self.wait(Duration::from_millis(100).as_millis() as u64);
        self.ignore_sent();
    }
}

/// Several connections, and opens that are not to the peer.
impl Script {
    /// The connection that the application's verbs are about.
    pub fn conn(&self) -> Option<ringwire::Conn> {
        self.conn
    }

    /// The application's verbs are about this connection now.
    pub fn use_conn(&mut self, conn: Option<ringwire::Conn>) {
        self.conn = conn;
    }

    /// An active open to any address.
    ///
    /// # Errors
    /// What `connect` says at once.
    pub fn connect_to(&mut self, peer: &str) -> Result<(), ringwire::ConnectError> {
        let peer: SocketAddr = peer.parse().expect("an address");
        let options = self.options.clone();
        let opened = self.worker.connect(peer, &options);
        self.settle();
        opened.map(|conn| self.conn = Some(conn))
    }

    /// The source port that the worker chooses for an active open to this port of the peer.
    #[track_caller]
    pub fn source_port_towards(&mut self, port: u16) -> u16 {
        let peer = SocketAddr::from((PEER, port));
        assert_eq!(self.connect_to(&peer.to_string()), Ok(()));
        let sent = self.take_sent();
        self.abort();
        self.ignore_sent();
        sent.last().map_or(0, |segment| segment.header.src_port)
    }
}

/// How long an idle connection waits for its first probe where the application names no time.
pub fn default_keepalive_time() -> Duration {
    ringwire_proto::tcp::Keepalive::default().time
}

/// Books.
impl Script {
    /// Frames of the worker's pool by state.
    pub fn frame_counts(&mut self) -> ringwire::frame::Counts {
        self.settle();
        self.worker.frame_counts()
    }

    /// All frames but so many are free, or wait for packets.
    pub fn frames_are_home_but_for(&mut self, most: u32) -> bool {
        use ringwire::frame::FrameState;
        self.held.clear();
        self.settle();
        let counts = self.frame_counts();
        let home = counts.of(FrameState::Free) + counts.of(FrameState::Fill);
        counts.check() && counts.total() - home <= most
    }

    /// The connection ended before the application had it, or right after.
    #[track_caller]
    pub fn expect_closed_or_never_accepted(&mut self) {
        self.settle();
        let was_accepted = self.news.iter().any(|event| matches!(event, Event::Accepted { .. }));
        let was_closed = self.news.iter().any(|event| matches!(event, Event::Closed { .. }));
        if was_accepted && !was_closed {
            self.fail("expected: the connection is not offered, or ended again");
        }
    }
}
