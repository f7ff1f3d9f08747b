//! How a worker waits: not at all, spinning, or asleep in the kernel.

use ringwire_frame::FrameState;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::*;

/// Adaptive mode spins this long before it sleeps: longer than a request and its answer on a fast link, short enough for a shared core.
const SPIN_NS: u64 = 20_000;

/// How often a sleeping worker looks for frames that the application holds on other threads.
const RETURNED_FRAMES_LOOK: Duration = Duration::from_millis(1);

/// When nothing has left and nothing has come back for so long, the device holds what it has: flow control, or a full link. The worker
/// then looks again this often instead of spinning. A link of 10 Mbit/s takes 1.2 ms for a packet.
const STALL: Duration = Duration::from_millis(1);

/// How often a sleeping worker offers its packets again to a device whose link is down, or that is gone, and wakes a driver that has
/// not taken its receive frames.
const REFUSED_AGAIN: Duration = Duration::from_millis(10);

impl Core {
    pub(super) fn poll(
        &mut self,
        events: &mut Events,
        timeout: Option<Duration>,
    ) -> Result<Turn, WorkerError> {
        events.clear();
        let mut deadline = None;
        loop {
            self.run_once(events);
            if self.io.net.is_interface_gone() {
                self.publish();
                return Err(WorkerError::InterfaceGone);
            }
            // From the first turn's clock: one clock read per turn.
            let deadline = *deadline
                .get_or_insert_with(|| timeout.map_or(Instant::MAX, |timeout| self.io.now + timeout));
            let turn = self.guard.shared.turn();
            let is_news = turn != self.last_turn;
            self.last_turn = turn;
            if is_news && turn != Turn::Run {
                self.io.net.begin_drain();
            }
            if turn == Turn::Drain {
                self.look_for_the_end();
            }
            if !events.is_empty()
                || is_news
                || turn == Turn::Stop
                || self.io.now >= deadline
                || self.clock.is_manual()
            {
                return Ok(turn);
            }
            self.wait(deadline)?;
        }
    }

    /// Says so when no connection has anything left to do. Those before `finished_to` stay finished, for nothing is opened while
    /// draining, so all turns together look at each connection about once.
    fn look_for_the_end(&mut self) {
        match self.streams.first_unfinished(self.finished_to) {
            Some(slot) => self.finished_to = slot,
            None => self.guard.shared.set_finished(self.id),
        }
    }

    /// Returns when there may be something to do.
    fn wait(&mut self, deadline: Instant) -> Result<(), WorkerError> {
        let idle_since = *self.idle_since.get_or_insert(self.io.now);
        // What a refusing device has no room for waits with what it holds.
        let can_transmit = self.streams.wants_transmit() && !self.io.link.is_refused();
        let is_sending = (self.is_kick_pending || can_transmit) && !self.is_stalled();
        let must_stay = is_sending || !self.io.ready.is_empty() || self.io.link.has_looped();
        if must_stay || self.poll_mode == PollMode::Busy || self.io.now.nanos_since(idle_since) < SPIN_NS {
            std::hint::spin_loop();
            return Ok(());
        }
        self.publish();
        self.waker.begin_sleep();
        let result = if self.has_work() { Ok(0) } else { self.sleep(deadline) };
        self.waker.end_sleep();
        // The sleep is not part of a turn.
        self.io.now = self.clock.now();
        match result {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(WorkerError::Wait(errno.raw_os_error())),
        }
    }

    /// Whether sending has not got on for a while: what is in the devices' hands stays there for now.
    fn is_stalled(&mut self) -> bool {
        let moved = self.io.link.moved();
        if moved != self.moved.0 {
            self.moved = (moved, self.io.now);
        }
        self.io.now >= self.moved.1 + STALL
    }

    /// The look between raising the flag and sleeping; packets of a NIC are watched by the poll itself.
    fn has_work(&mut self) -> bool {
        self.waker.is_woken()
            || self.io.link.has_packets()
            || self.io.net.has_news()
            || self.io.handover.has_packets()
            || self.shared().is_some_and(|shared| !shared.heard.is_empty())
            || self.guard.shared.turn() != self.last_turn
    }

    /// When there may be something to do that no packet, call or wake announces; [`Instant::MAX`]: never.
    pub(super) fn next_look(&self) -> Instant {
        let timers = [self.streams.next_timer(), self.io.net.next_timer()];
        let mut until = timers.into_iter().flatten().fold(Instant::MAX, Instant::min);
        if self.io.link.pool.counts().of(FrameState::App) > 0 {
            // Frames that other threads drop come back without a wake, and a peer's window may wait for them.
            until = until.min(self.io.now + RETURNED_FRAMES_LOOK);
        }
        if self.streams.has_read_out() || self.io.link.has_looped() {
            until = until.min(self.io.now);
        }
        if self.streams.has_parked() {
            until = until.min(self.io.net.epoch_ends());
        }
        if self.io.link.is_refused() {
            until = until.min(self.io.now + REFUSED_AGAIN);
        } else if self.is_kick_pending || self.streams.wants_transmit() {
            until = until.min(self.io.now + STALL);
        }
        if self.io.link.awaits_wakeup() {
            until = until.min(self.io.now + REFUSED_AGAIN);
        }
        until
    }

    fn sleep(&self, deadline: Instant) -> Result<usize, Errno> {
        let mut fds: Vec<PollFd<'_>> = Vec::with_capacity(1 + self.io.link.ports().len());
        fds.push(PollFd::from_borrowed_fd(self.waker.eventfd(), PollFlags::IN));
        fds.extend(
            self.io
                .link
                .ports()
                .iter()
                .filter_map(|port| port.fd())
                .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)),
        );
        let until = self.next_look().min(deadline);
        let limit = (until != Instant::MAX).then(|| {
            let wait = until.saturating_since(self.clock.now());
            Timespec { tv_sec: wait.as_secs().cast_signed(), tv_nsec: i64::from(wait.subsec_nanos()) }
        });
        poll(&mut fds, limit.as_ref())
    }
}
