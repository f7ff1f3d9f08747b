//! What can be asked of a worker beside its traffic, and changed on sockets that exist.

use super::*;
use crate::config::Cork;

impl Worker {
    /// Whether this is one of the engine's own addresses.
    pub fn is_local_address(&self, address: std::net::Ipv4Addr) -> bool {
        self.core().io.net.is_ours(address)
    }

    /// How many connections of [`Event::Accepted`] the application keeps in a queue of its own: they count against the backlog as
    /// if the worker still had them. For those who accept one at a time.
    pub fn set_queued(&mut self, listener: Listener, connections: u32) {
        self.core_mut().streams.set_queued(listener, connections);
    }

    /// Changes the options of a listener: they hold for what it accepts from now on, the backlog at once.
    ///
    /// # Errors
    /// The id is stale; or [`ConnError::TooManyOptions`].
    pub fn set_listener_options(
        &mut self,
        listener: Listener,
        options: &TcpOptions,
    ) -> Result<(), ConnError> {
        let core = self.core_mut();
        core.streams.set_listener_options(&core.io, listener, options)
    }

    /// Changes the options of a connection. What the handshake has agreed on stays: segment size, window scale, SACK, timestamps.
    ///
    /// # Errors
    /// The id is stale; or [`ConnError::TooManyOptions`].
    pub fn set_options(&mut self, conn: Conn, options: &TcpOptions) -> Result<(), ConnError> {
        let core = self.core_mut();
        core.streams.set_options(&mut core.io, conn, options)
    }

    /// Holds back what does not fill a segment, 200 ms at most (`TCP_CORK`), or lets it go again.
    ///
    /// # Errors
    /// The id is stale.
    pub fn set_cork(&mut self, conn: Conn, cork: Cork) -> Result<(), ConnError> {
        let core = self.core_mut();
        core.streams.set_cork(&mut core.io, conn, cork)
    }

    /// What is written from now on shares no segment with what was written before (`MSG_EOR`).
    ///
    /// # Errors
    /// The id is stale.
    pub fn end_record(&mut self, conn: Conn) -> Result<(), ConnError> {
        let core = self.core_mut();
        core.streams.end_record(&mut core.io, conn)
    }

    /// Acknowledges what is pending, and the next few segments, without delay (`TCP_QUICKACK`).
    ///
    /// # Errors
    /// The id is stale.
    pub fn quick_ack(&mut self, conn: Conn) -> Result<(), ConnError> {
        let core = self.core_mut();
        core.streams.quick_ack(&mut core.io, conn)
    }

    /// The other way: what comes next is acknowledged with delay, as far as that may be (`TCP_QUICKACK` of 0).
    ///
    /// # Errors
    /// The id is stale.
    pub fn delay_acks(&mut self, conn: Conn) -> Result<(), ConnError> {
        self.core_mut().streams.delay_acks(conn)
    }

    /// Whether there is room to write as [`TcpOptions::unsent_low_water_bytes`] has it; if not, [`Event::Writable`] follows.
    ///
    /// # Errors
    /// The id is stale.
    pub fn poll_send_room(&mut self, conn: Conn) -> Result<bool, ConnError> {
        let core = self.core_mut();
        core.streams.poll_send_room(&mut core.io, conn)
    }

    /// The state of a connection that the application has not closed.
    pub(crate) fn tcp_state(&self, conn: Conn) -> Option<ringwire_proto::tcp::State> {
        self.core().streams.state(conn)
    }

    /// A local TCP port of this worker's ephemeral ones on which nobody stands and that `is_free` accepts.
    pub(crate) fn free_tcp_port(&mut self, is_free: impl Fn(u16) -> bool) -> Option<u16> {
        let core = self.core_mut();
        core.streams.free_port(&core.io, is_free)
    }

    /// A socket is bound to a local TCP port, and has not told the worker: active opens without a port stay away from it.
    pub(crate) fn hold_tcp_port(&mut self, port: u16) {
        self.core_mut().streams.hold_port(port);
    }

    /// The end of one [`Worker::hold_tcp_port`].
    pub(crate) fn release_tcp_port(&mut self, port: u16) {
        self.core_mut().streams.release_port(port);
    }

    /// Packets that were delivered and are lost all the same.
    pub(crate) fn count_drops(&mut self, reason: DropReason, count: usize) {
        let counters = &mut self.core_mut().io.counters;
        (0..count).for_each(|_| counters.drop_packet(reason));
    }

    /// Every set of options that there can be is some socket's.
    #[cfg(test)]
    pub(crate) fn use_up_options(&mut self) {
        let core = self.core_mut();
        core.streams.use_up_options(&core.io);
    }

    /// How many listeners and connections stand on a local TCP port, remembered ones (TIME-WAIT) included.
    pub fn tcp_port_users(&self, port: u16) -> u32 {
        self.core().streams.port_users(port)
    }
}
