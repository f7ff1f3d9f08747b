//! `setsockopt` and `getsockopt`.

use std::time::Duration;

use super::info::tcp_info_bytes;
use super::stream::{Phase, Stream, StreamId};
use super::stream_calls::MAX_BACKLOG;
use super::{Errno, Fd, FileId, Kind, Ready, Sockets};
use crate::config::{Cork, KeepAlive};
use crate::{CongestionControl, FastOpenKeys, TcpOptions};

/// What a program chooses for a stream socket and the worker's options do not say.
#[derive(Debug, Clone)]
pub(super) struct StreamChoices {
    pub(super) reuse_address: bool,
    pub(super) is_corked: bool,
    /// The last `send` said `MSG_MORE`.
    pub(super) is_more_to_come: bool,
    /// `TCP_FASTOPEN`: whether it takes text in SYNs when it listens.
    takes_syn_text: bool,
    /// `TCP_FASTOPEN_CONNECT`
    pub(super) is_connect_deferred: bool,
    /// `SO_RCVLOWAT`
    pub(super) recv_low_water: u32,
    /// `TCP_INQ`
    pub(super) tells_unread: bool,
    /// `SO_ZEROCOPY`
    pub(super) is_told_of_copies: bool,
    /// The time of `SO_LINGER`, which Linux keeps while it is off.
    linger_s: u32,
    /// `TCP_NOTSENT_LOWAT` as it was set.
    unsent_low_water: i32,
    is_kept_alive: bool,
    keepalive: KeepAlive,
    pub(super) timeouts: Timeouts,
}

impl StreamChoices {
    /// Those of a new socket, as far as `options` say them.
    pub(super) fn from_options(options: &TcpOptions) -> StreamChoices {
        // Linux's tcp_keepalive_time, _intvl and _probes.
        let usual =
            KeepAlive { time: Duration::from_secs(7200), interval: Duration::from_secs(75), retries: 9 };
        StreamChoices {
            reuse_address: false,
            is_corked: false,
            is_more_to_come: false,
            takes_syn_text: options.fast_open,
            is_connect_deferred: false,
            recv_low_water: 1,
            tells_unread: false,
            is_told_of_copies: false,
            // Longer ones than a century are alike.
            linger_s: options.linger.map_or(0, |linger| linger.as_secs() as u32),
            unsent_low_water: options.unsent_low_water_bytes.map_or(0, u32::cast_signed),
            is_kept_alive: options.keepalive.is_some(),
            keepalive: options.keepalive.unwrap_or(usual),
            timeouts: Timeouts::default(),
        }
    }
}

/// How long calls wait; none: for ever.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Timeouts {
    pub(super) recv: Option<Duration>,
    pub(super) send: Option<Duration>,
}

/// Linux's bounds.
const MAX_KEEPIDLE_S: i32 = 32_767;
const MAX_KEEPCNT: i32 = 127;
const MAX_SYNCNT: i32 = 127;
const MAX_LINGER2: Duration = Duration::from_secs(120);
const DEFAULT_LINGER2: Duration = Duration::from_secs(60);
const MIN_MAXSEG: i32 = 88;
const MAX_MAXSEG: i32 = 32_767;
const MIN_BUFFER_BYTES: i32 = 2304;
const MAX_BUFFER_BYTES: i32 = 16 << 20;
const DEFAULT_MSS: u16 = 536;
const DEFAULT_TTL: u8 = 64;
/// The part of the type of service that an application does not set on a stream.
const ECN_BITS: u8 = 3;

impl Sockets {
    /// `setsockopt(2)`: `value` is what the pointer points to.
    ///
    /// # Errors
    /// [`Errno::NOPROTOOPT`] for what is not offered, [`Errno::INVAL`], [`Errno::DOM`], [`Errno::NOENT`] (`TCP_CONGESTION`),
    /// [`Errno::BADF`], [`Errno::NOTSOCK`].
    pub fn set_option(&mut self, fd: Fd, level: i32, name: i32, value: &[u8]) -> Result<(), Errno> {
        if (level, name) == (libc::SOL_SOCKET, libc::SO_RCVTIMEO)
            || (level, name) == (libc::SOL_SOCKET, libc::SO_SNDTIMEO)
        {
            let timeout = timeout_from(value)?;
            let timeouts = self.timeouts_mut(self.files.id(fd)?)?;
            *if name == libc::SO_RCVTIMEO { &mut timeouts.recv } else { &mut timeouts.send } = timeout;
            return Ok(());
        }
        let file = self.files.id(fd)?;
        let id = match &self.files.get(file)?.kind {
            Kind::Stream(id) => *id,
            Kind::Datagram(_) => return Err(Errno::NOPROTOOPT),
            Kind::Epoll(_) => return Err(Errno::NOTSOCK),
        };
        let before = self.streams.get(&id).map(|stream| (stream.options.clone(), stream.choices.clone()));
        let set = self.set_stream_option((file, id), (level, name), value);
        if set.is_err()
            && let (Some(stream), Some(before)) = (self.streams.get_mut(&id), before)
        {
            (stream.options, stream.choices) = before;
            self.stand(id);
        }
        set
    }

    /// What fails half-way is put back by the caller.
    fn set_stream_option(
        &mut self,
        (file, id): (FileId, StreamId),
        (level, name): (i32, i32),
        value: &[u8],
    ) -> Result<(), Errno> {
        let stream = self.streams.get_mut(&id).ok_or(Errno::BADF)?;
        match level {
            libc::SOL_SOCKET => {
                stream.set_socket_option(name, value)?;
                self.stand(id);
                self.apply_options(id)?;
                let stream = self.streams.get(&id).ok_or(Errno::BADF)?;
                let is_about_room = matches!(name, libc::SO_RCVLOWAT | libc::SO_RCVBUF);
                if is_about_room && (stream.is_eof || stream.has_enough(&self.worker)) {
                    self.wake(file, Ready::IN);
                }
                return Ok(());
            }
            libc::IPPROTO_TCP => match name {
                libc::TCP_NODELAY => return self.set_nodelay(id, number(value)? != 0),
                libc::TCP_CORK => return self.set_cork(id, number(value)? != 0),
                libc::TCP_NOTSENT_LOWAT => return self.set_unsent_low_water((file, id), number(value)?),
                libc::TCP_QUICKACK => return self.quick_ack(id, number(value)?),
                libc::TCP_FASTOPEN_KEY => {
                    stream.options.fast_open_keys =
                        Some(FastOpenKeys::from_bytes(value).ok_or(Errno::INVAL)?);
                }
                libc::TCP_CONGESTION => stream.options.congestion_control = algorithm(value)?,
                _ => stream.set_tcp_option(name, number(value)?)?,
            },
            libc::IPPROTO_IP => stream.set_ip_option(name, ip_number(value)?)?,
            _ => return Err(Errno::NOPROTOOPT),
        }
        self.apply_options(id)
    }

    /// Tells the worker of changed options.
    pub(super) fn apply_options(&mut self, id: StreamId) -> Result<(), Errno> {
        let stream = self.streams.get_mut(&id).ok_or(Errno::BADF)?;
        match &stream.phase {
            Phase::Listening(queue) => self.worker.set_listener_options(queue.listener, &stream.options)?,
            Phase::Connecting(conn) | Phase::Connected { conn, .. } => {
                self.worker.set_options(*conn, &stream.options)?;
            }
            Phase::Idle | Phase::Deferred(_) | Phase::Failed | Phase::Ended => {}
        }
        Ok(())
    }

    fn set_cork(&mut self, id: StreamId, is_corked: bool) -> Result<(), Errno> {
        let stream = self.streams.get_mut(&id).ok_or(Errno::BADF)?;
        stream.choices.is_corked = is_corked;
        match stream.conn() {
            Some(conn) if is_corked => self.worker.set_cork(conn, Cork::In)?,
            Some(conn) => self.worker.set_cork(conn, Cork::Out)?,
            None => {}
        }
        Ok(())
    }

    /// tcp(7): switching it on lets go what is held back, corked or not.
    fn set_nodelay(&mut self, id: StreamId, is_on: bool) -> Result<(), Errno> {
        let stream = self.streams.get_mut(&id).ok_or(Errno::BADF)?;
        stream.options.nodelay = is_on;
        let (conn, is_corked) = (stream.conn(), stream.choices.is_corked);
        stream.choices.is_more_to_come &= !is_on;
        self.apply_options(id)?;
        if let Some(conn) = conn.filter(|_| is_on) {
            self.worker.set_cork(conn, Cork::Out)?;
            if is_corked {
                self.worker.set_cork(conn, Cork::In)?;
            }
        }
        Ok(())
    }

    /// Linux: none is the default, a negative one is very large, and who waits for room looks again.
    fn set_unsent_low_water(&mut self, (file, id): (FileId, StreamId), number: i32) -> Result<(), Errno> {
        let default = self.defaults.unsent_low_water_bytes;
        let stream = self.streams.get_mut(&id).ok_or(Errno::BADF)?;
        stream.choices.unsent_low_water = number;
        stream.options.unsent_low_water_bytes =
            if number == 0 { default } else { Some(number.cast_unsigned()) };
        self.apply_options(id)?;
        let Some(conn) = self.streams.get(&id).and_then(Stream::conn) else { return Ok(()) };
        let has_room = self.worker.poll_send_room(conn)?;
        if let Some(stream) =
            self.streams.get_mut(&id).filter(|stream| !matches!(stream.phase, Phase::Connecting(_)))
        {
            stream.is_writable = has_room;
        }
        if has_room {
            self.wake(file, Ready::OUT);
        }
        Ok(())
    }

    /// For once, as it is on Linux: what follows decides anew. "Later" needs a connection; Linux keeps it for the next one.
    fn quick_ack(&mut self, id: StreamId, value: i32) -> Result<(), Errno> {
        let conn = self.streams.get(&id).and_then(Stream::conn);
        match (value, conn) {
            (0, Some(conn)) => Ok(self.worker.delay_acks(conn)?),
            (0, None) => Err(Errno::NOPROTOOPT),
            (_, Some(conn)) => Ok(self.worker.quick_ack(conn)?),
            // Linux: there is nothing to acknowledge.
            (_, None) => Ok(()),
        }
    }

    fn timeouts_mut(&mut self, file: FileId) -> Result<&mut Timeouts, Errno> {
        let Sockets { files, streams, .. } = self;
        match &mut files.get_mut(file)?.kind {
            Kind::Stream(id) => Ok(&mut streams.get_mut(id).ok_or(Errno::BADF)?.choices.timeouts),
            Kind::Datagram(socket) => Ok(&mut socket.timeouts),
            Kind::Epoll(_) => Err(Errno::NOTSOCK),
        }
    }

    pub(super) fn timeouts(&self, file: FileId) -> Timeouts {
        match self.files.get(file).map(|file| &file.kind) {
            Ok(Kind::Stream(id)) => {
                self.streams.get(id).map(|stream| stream.choices.timeouts).unwrap_or_default()
            }
            Ok(Kind::Datagram(socket)) => socket.timeouts,
            Ok(Kind::Epoll(_)) | Err(_) => Timeouts::default(),
        }
    }

    /// `getsockopt(2)`: the whole value, which the caller cuts to the room there is, as Linux does.
    ///
    /// # Errors
    /// [`Errno::NOPROTOOPT`], [`Errno::BADF`], [`Errno::NOTSOCK`].
    pub fn option(&mut self, fd: Fd, level: i32, name: i32) -> Result<Vec<u8>, Errno> {
        let file = self.files.id(fd)?;
        let timeouts = self.timeouts(file);
        match (level, name) {
            (libc::SOL_SOCKET, libc::SO_DOMAIN) => return Ok(int(libc::AF_INET)),
            (libc::SOL_SOCKET, libc::SO_RCVTIMEO) => return Ok(timeval(timeouts.recv)),
            (libc::SOL_SOCKET, libc::SO_SNDTIMEO) => return Ok(timeval(timeouts.send)),
            _ => {}
        }
        let id = match &self.files.get(file)?.kind {
            Kind::Stream(id) => *id,
            Kind::Datagram(_) => return self.datagram_option(file, level, name),
            Kind::Epoll(_) => return Err(Errno::NOTSOCK),
        };
        match (level, name) {
            (libc::IPPROTO_TCP, libc::TCP_INFO) => self.tcp_info(id),
            (libc::IPPROTO_TCP, libc::TCP_MAXSEG) => Ok(int(i32::from(self.max_segment(id)))),
            _ => {
                let stream = self.streams.get_mut(&id).ok_or(Errno::BADF)?;
                match level {
                    libc::SOL_SOCKET => stream.socket_option(name),
                    libc::IPPROTO_TCP => stream.tcp_option(name),
                    libc::IPPROTO_IP => stream.ip_option(name),
                    _ => Err(Errno::NOPROTOOPT),
                }
            }
        }
    }

    fn tcp_info(&mut self, id: StreamId) -> Result<Vec<u8>, Errno> {
        let stream = self.streams.get(&id).ok_or(Errno::BADF)?;
        let info = stream.source().and_then(|conn| self.worker.tcp_info(conn).ok());
        Ok(tcp_info_bytes(info.as_ref(), matches!(stream.phase, Phase::Listening(_))))
    }

    /// Linux: what was asked for while there is no connection, then what a segment carries.
    fn max_segment(&mut self, id: StreamId) -> u16 {
        let Some(stream) = self.streams.get(&id) else { return DEFAULT_MSS };
        match stream.conn().and_then(|conn| self.worker.tcp_info(conn).ok()) {
            Some(info) => info.mss,
            None => stream.options.max_segment_bytes.unwrap_or(DEFAULT_MSS),
        }
    }
}

impl Stream {
    fn set_socket_option(&mut self, name: i32, value: &[u8]) -> Result<(), Errno> {
        if name == libc::SO_LINGER {
            let &[a, b, c, d, e, f, g, h, ..] = value else { return Err(Errno::INVAL) };
            let is_on = i32::from_ne_bytes([a, b, c, d]) != 0;
            if is_on {
                // Linux: a negative time is a very long one.
                self.choices.linger_s = u32::from_ne_bytes([e, f, g, h]);
            }
            self.options.linger = is_on.then(|| Duration::from_secs(self.choices.linger_s.into()));
            return Ok(());
        }
        let number = number(value)?;
        match name {
            libc::SO_REUSEADDR => self.choices.reuse_address = number != 0,
            libc::SO_KEEPALIVE => self.choices.is_kept_alive = number != 0,
            libc::SO_ZEROCOPY => self.choices.is_told_of_copies = switch(number)?,
            libc::SO_RCVLOWAT => {
                let wanted = if number < 0 { i32::MAX } else { number };
                self.choices.recv_low_water = wanted.unsigned_abs();
                self.bound_low_water();
            }
            libc::SO_RCVBUF => {
                let bytes = buffer_bytes(number);
                (self.options.recv_buffer_bytes, self.options.recv_buffer_max_bytes) = (bytes, bytes);
                self.bound_low_water();
            }
            libc::SO_SNDBUF => {
                let bytes = buffer_bytes(number);
                (self.options.send_buffer_bytes, self.options.send_buffer_max_bytes) = (bytes, bytes);
            }
            _ => return Err(Errno::NOPROTOOPT),
        }
        self.keep_alive();
        Ok(())
    }

    /// More than half the buffer might never be there at once.
    fn bound_low_water(&mut self) {
        let most = self.options.recv_buffer_bytes / 2;
        self.choices.recv_low_water = self.choices.recv_low_water.min(most).max(1);
    }

    fn set_tcp_option(&mut self, name: i32, number: i32) -> Result<(), Errno> {
        let seconds = || match number {
            1..=MAX_KEEPIDLE_S => Ok(Duration::from_secs(u64::from(number.unsigned_abs()))),
            _ => Err(Errno::INVAL),
        };
        match name {
            libc::TCP_KEEPIDLE => self.choices.keepalive.time = seconds()?,
            libc::TCP_KEEPINTVL => self.choices.keepalive.interval = seconds()?,
            libc::TCP_KEEPCNT => match number {
                // At most 127, which fits.
                1..=MAX_KEEPCNT => self.choices.keepalive.retries = number as u8,
                _ => return Err(Errno::INVAL),
            },
            libc::TCP_MAXSEG => match number {
                0 => self.options.max_segment_bytes = None,
                // At most 32,767, which fits.
                MIN_MAXSEG..=MAX_MAXSEG => self.options.max_segment_bytes = Some(number as u16),
                _ => return Err(Errno::INVAL),
            },
            libc::TCP_USER_TIMEOUT => {
                let ms = u64::try_from(number).map_err(|_| Errno::INVAL)?;
                self.options.user_timeout = (ms > 0).then(|| Duration::from_millis(ms));
            }
            libc::TCP_SYNCNT => match number {
                // At most 127, which fits.
                1..=MAX_SYNCNT => self.options.syn_retries = number as u8,
                _ => return Err(Errno::INVAL),
            },
            // Linux also takes a negative time, for a reset instead of a wait.
            libc::TCP_LINGER2 => match u64::try_from(number).map_err(|_| Errno::INVAL)? {
                0 => self.options.fin_wait2 = DEFAULT_LINGER2,
                seconds => self.options.fin_wait2 = Duration::from_secs(seconds).min(MAX_LINGER2),
            },
            libc::TCP_FASTOPEN | libc::TCP_FASTOPEN_CONNECT | libc::TCP_FASTOPEN_NO_COOKIE => {
                self.set_fast_open(name, number)?
            }
            libc::TCP_INQ => self.choices.tells_unread = switch(number)?,
            _ => return Err(Errno::NOPROTOOPT),
        }
        self.keep_alive();
        Ok(())
    }

    /// Linux: a queue of none turns it off, and the queue is no longer than somaxconn.
    fn set_fast_open(&mut self, name: i32, number: i32) -> Result<(), Errno> {
        let is_closed = matches!(self.phase, Phase::Idle | Phase::Failed | Phase::Ended);
        let is_listening = matches!(self.phase, Phase::Listening(_));
        match (name, number) {
            (libc::TCP_FASTOPEN, 0..) if is_closed || is_listening => {
                self.choices.takes_syn_text = number > 0;
                self.options.fast_open_backlog = number.min(MAX_BACKLOG).unsigned_abs();
                if is_listening {
                    self.listen_fast();
                }
                Ok(())
            }
            (libc::TCP_FASTOPEN_CONNECT, 0 | 1) if is_closed => {
                self.choices.is_connect_deferred = number != 0;
                Ok(())
            }
            (libc::TCP_FASTOPEN_NO_COOKIE, 0 | 1) if is_closed || is_listening => {
                self.options.fast_open_no_cookie = number != 0;
                Ok(())
            }
            _ => Err(Errno::INVAL),
        }
    }

    /// As `TCP_FASTOPEN` has said, whatever it did as a client before.
    pub(super) fn listen_fast(&mut self) {
        self.options.fast_open = self.choices.takes_syn_text;
    }

    fn set_ip_option(&mut self, name: i32, number: i32) -> Result<(), Errno> {
        match (name, number) {
            // Linux takes the lowest byte.
            (libc::IP_TOS, _) => self.options.tos = (number & 0xff) as u8 & !ECN_BITS,
            (libc::IP_TTL, -1) => self.options.ttl = DEFAULT_TTL,
            (libc::IP_TTL, 1..=255) => self.options.ttl = number as u8,
            (libc::IP_TTL, _) => return Err(Errno::INVAL),
            _ => return Err(Errno::NOPROTOOPT),
        }
        Ok(())
    }

    fn ip_option(&self, name: i32) -> Result<Vec<u8>, Errno> {
        Ok(match name {
            libc::IP_TOS => int(self.options.tos.into()),
            libc::IP_TTL => int(self.options.ttl.into()),
            _ => return Err(Errno::NOPROTOOPT),
        })
    }

    fn keep_alive(&mut self) {
        self.options.keepalive = self.choices.is_kept_alive.then_some(self.choices.keepalive);
    }

    fn socket_option(&mut self, name: i32) -> Result<Vec<u8>, Errno> {
        let TcpOptions { recv_buffer_bytes, send_buffer_bytes, linger, .. } = self.options;
        // Linux shows twice what was asked for: its books hold overhead too.
        let doubled = |bytes: u32| i32::try_from(bytes.saturating_mul(2)).unwrap_or(i32::MAX);
        Ok(match name {
            libc::SO_TYPE => int(libc::SOCK_STREAM),
            libc::SO_PROTOCOL => int(libc::IPPROTO_TCP),
            libc::SO_ERROR => int(self.error.take().map_or(0, Errno::raw)),
            libc::SO_ACCEPTCONN => int(i32::from(matches!(self.phase, Phase::Listening(_)))),
            libc::SO_REUSEADDR => int(i32::from(self.choices.reuse_address)),
            libc::SO_KEEPALIVE => int(i32::from(self.choices.is_kept_alive)),
            libc::SO_RCVLOWAT => int(self.choices.recv_low_water.cast_signed()),
            libc::SO_ZEROCOPY => int(i32::from(self.choices.is_told_of_copies)),
            // Linux has no other, and it cannot be set.
            libc::SO_SNDLOWAT => int(1),
            libc::SO_RCVBUF => int(doubled(recv_buffer_bytes)),
            libc::SO_SNDBUF => int(doubled(send_buffer_bytes)),
            libc::SO_LINGER => {
                [int(i32::from(linger.is_some())), int(self.choices.linger_s.cast_signed())].concat()
            }
            _ => return Err(Errno::NOPROTOOPT),
        })
    }

    fn tcp_option(&self, name: i32) -> Result<Vec<u8>, Errno> {
        let seconds = |time: Duration| int(i32::try_from(time.as_secs()).unwrap_or(i32::MAX));
        Ok(match name {
            libc::TCP_NODELAY => int(i32::from(self.options.nodelay)),
            libc::TCP_CORK => int(i32::from(self.choices.is_corked)),
            libc::TCP_KEEPIDLE => seconds(self.choices.keepalive.time),
            libc::TCP_KEEPINTVL => seconds(self.choices.keepalive.interval),
            libc::TCP_KEEPCNT => int(i32::from(self.choices.keepalive.retries)),
            libc::TCP_SYNCNT => int(i32::from(self.options.syn_retries)),
            libc::TCP_LINGER2 => seconds(self.options.fin_wait2),
            libc::TCP_NOTSENT_LOWAT => int(self.choices.unsent_low_water),
            libc::TCP_FASTOPEN => {
                let queue = self.options.fast_open_backlog.min(MAX_BACKLOG.unsigned_abs());
                int(if self.choices.takes_syn_text { queue.cast_signed() } else { 0 })
            }
            libc::TCP_FASTOPEN_CONNECT => int(i32::from(self.choices.is_connect_deferred)),
            libc::TCP_FASTOPEN_NO_COOKIE => int(i32::from(self.options.fast_open_no_cookie)),
            // Without keys: as on Linux before there are any.
            libc::TCP_FASTOPEN_KEY => {
                self.options.fast_open_keys.as_ref().map_or(Vec::new(), |keys| keys.to_bytes().to_vec())
            }
            libc::TCP_INQ => int(i32::from(self.choices.tells_unread)),
            libc::TCP_USER_TIMEOUT => {
                let ms = self.options.user_timeout.map_or(0, |time| time.as_millis());
                int(i32::try_from(ms).unwrap_or(i32::MAX))
            }
            libc::TCP_CONGESTION => {
                let mut name = [0; CONGESTION_NAME_LEN];
                let text = linux_name(self.options.congestion_control).bytes();
                name.iter_mut().zip(text).for_each(|(to, from)| *to = from);
                name.to_vec()
            }
            _ => return Err(Errno::NOPROTOOPT),
        })
    }
}

/// Linux's TCP_CA_NAME_MAX.
const CONGESTION_NAME_LEN: usize = 16;

fn linux_name(algorithm: CongestionControl) -> &'static str {
    match algorithm {
        CongestionControl::NewReno => "reno",
        other => other.name(),
    }
}

/// The algorithm of this name, which may end in zeros.
fn algorithm(value: &[u8]) -> Result<CongestionControl, Errno> {
    let name = value.split(|byte| *byte == 0).next().unwrap_or_default();
    if name.is_empty() {
        return Err(Errno::INVAL);
    }
    let is_it = |algorithm: &CongestionControl| linux_name(*algorithm).as_bytes() == name;
    CongestionControl::ALL.into_iter().find(is_it).ok_or(Errno::NOENT)
}

fn buffer_bytes(number: i32) -> u32 {
    // Linux: a negative size is a very large one. Ours are the payload's half of Linux's doubled ones.
    let wanted = if number < 0 { MAX_BUFFER_BYTES } else { number };
    wanted.clamp(MIN_BUFFER_BYTES, MAX_BUFFER_BYTES).unsigned_abs()
}

pub(super) fn int(value: i32) -> Vec<u8> {
    value.to_ne_bytes().to_vec()
}

fn number(value: &[u8]) -> Result<i32, Errno> {
    match value {
        &[a, b, c, d, ..] => Ok(i32::from_ne_bytes([a, b, c, d])),
        _ => Err(Errno::INVAL),
    }
}

/// Where Linux takes no other number.
fn switch(number: i32) -> Result<bool, Errno> {
    match number {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Errno::INVAL),
    }
}

/// Options of the IP level may be given as one byte.
fn ip_number(value: &[u8]) -> Result<i32, Errno> {
    match value {
        &[byte] => Ok(byte.into()),
        _ => number(value),
    }
}

const MICROS_PER_S: i64 = 1_000_000;

/// From a `struct timeval`: nothing means for ever.
fn timeout_from(value: &[u8]) -> Result<Option<Duration>, Errno> {
    let &[a0, a1, a2, a3, a4, a5, a6, a7, b0, b1, b2, b3, b4, b5, b6, b7, ..] = value else {
        return Err(Errno::INVAL);
    };
    let seconds = i64::from_ne_bytes([a0, a1, a2, a3, a4, a5, a6, a7]);
    let micros = i64::from_ne_bytes([b0, b1, b2, b3, b4, b5, b6, b7]);
    if !(0..MICROS_PER_S).contains(&micros) {
        return Err(Errno::DOM);
    }
    if seconds == 0 && micros == 0 {
        return Ok(None);
    }
    // Linux: a time before now is no wait at all.
    let Ok(seconds) = u64::try_from(seconds) else { return Ok(Some(Duration::ZERO)) };
    Ok(Some(Duration::from_secs(seconds) + Duration::from_micros(micros.unsigned_abs())))
}

fn timeval(timeout: Option<Duration>) -> Vec<u8> {
    let timeout = timeout.unwrap_or_default();
    let seconds = i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX);
    [seconds.to_ne_bytes(), i64::from(timeout.subsec_micros()).to_ne_bytes()].concat()
}

#[cfg(test)]
mod tests;
