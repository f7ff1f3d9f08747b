//! The forwarder's thread: turns of receiving, judging and releasing, and the sleep between them.

use std::num::NonZeroU64;
use std::sync::mpsc::Receiver;

use ringwire_frame::{Kick, Packet, Pool};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, OwnedFd};

use super::Request;
use super::line::{Arrived, Line};
use super::wire::{Arrival, Wire, now_ns, wall_offset_ns};
use crate::capture::{Flight, Recorder, Seen};

/// Packets of one direction in one turn.
const BATCH: usize = 64;
/// The kernel wakes a sleeper some tens of microseconds late, so the last stretch before a packet is due is waited awake.
const AWAKE_NS: u64 = 60_000;
/// As nice(1) counts.
const PRIORITY: i32 = -10;
/// Turns before a request is answered: more than the rings hold.
const SETTLE_TURNS: usize = 128;
/// How often packets are offered again to an interface that takes none.
const REFUSED_AGAIN_NS: u64 = 1_000_000;

/// What a forwarder is made of.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) pool: Pool,
    /// Towards the link's first and second node.
    pub(crate) wires: [Wire; 2],
}

struct Forwarding {
    pool: Pool,
    wires: [Wire; 2],
    /// By the end that they lead to.
    lines: [Line; 2],
    packets: Vec<Packet>,
    arrivals: Vec<Arrival>,
    /// One packet in one piece, to be recorded.
    scratch: Vec<u8>,
    recorders: Vec<(u64, Recorder)>,
    recorders_count: u64,
    /// For the case that the test fails.
    flight: Flight,
}

/// What a turn has brought.
#[derive(PartialEq, Eq)]
enum Moved {
    Nothing,
    /// An interface takes no packets: its link is down.
    Refused,
    Something,
}

/// Whether to go on.
#[derive(PartialEq, Eq)]
enum Step {
    Again,
    Stop,
}

/// Runs until it is told to stop.
pub(super) fn run(parts: Parts, requests: &Receiver<Request>, wake: &OwnedFd) {
    // A link stands for hardware, which does not wait for programs. Refused without privilege; then it does.
    let _ = rustix::process::setpriority_process(None, PRIORITY);
    // Refused where a seccomp profile forbids it; then sleeps end up to 50 us later.
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
    let mut forwarding = Forwarding {
        pool: parts.pool,
        wires: parts.wires,
        lines: [Line::new(), Line::new()],
        packets: Vec::with_capacity(BATCH),
        arrivals: Vec::with_capacity(BATCH),
        scratch: Vec::new(),
        recorders: Vec::new(),
        recorders_count: 0,
        flight: Flight::default(),
    };
    forwarding.pool.adopt();
    loop {
        for request in requests.try_iter() {
            if forwarding.answer(request) == Step::Stop {
                return;
            }
        }
        forwarding.turn(wake);
    }
}

impl Forwarding {
    /// One turn, and the sleep after it if it brought nothing.
    fn turn(&mut self, wake: &OwnedFd) {
        match self.forward() {
            Moved::Something => {}
            nothing => self.wait(wake, &nothing),
        }
    }

    /// Takes in what was sent before a request, so that it is judged and counted as such.
    fn settle(&mut self) {
        for _ in 0..SETTLE_TURNS {
            if self.forward() != Moved::Something {
                return;
            }
        }
    }

    /// Receives, judges, releases.
    fn forward(&mut self) -> Moved {
        let mut moved = 0;
        for from in 0..2 {
            self.wires[from].tend(&mut self.pool);
            moved += self.receive(from);
        }
        let mut is_refused = false;
        for (line, wire) in self.lines.iter_mut().zip(&mut self.wires) {
            moved += line.release(now_ns(), &mut self.pool, wire, BATCH);
            match wire.kick() {
                Kick::Idle => {}
                Kick::Pending => moved += 1,
                Kick::Refused => is_refused = true,
            }
        }
        match moved {
            0 if is_refused => Moved::Refused,
            0 => Moved::Nothing,
            _ => Moved::Something,
        }
    }

    fn receive(&mut self, from: usize) -> usize {
        self.arrivals.clear();
        let wire = &mut self.wires[from];
        let received = wire.receive(&mut self.pool, &mut self.packets, &mut self.arrivals, BATCH);
        let since_1970_ns = wall_offset_ns();
        for (packet, &arrival) in self.packets.drain(..).zip(&self.arrivals) {
            let (len, at_ns) = (packet.len(), arrival.at_ns.wrapping_add(since_1970_ns));
            self.flight.record(from, at_ns, len, packet.head.bytes());
            self.scratch.clear();
            if !self.recorders.is_empty() {
                for frame in std::iter::once(&packet.head).chain(&packet.rest) {
                    self.scratch.extend_from_slice(frame.bytes());
                }
            }
            let comment = match self.lines[1 - from].arrive(&mut self.pool, packet, arrival) {
                Arrived::Goes => None,
                Arrived::Ends(why) => Some(why),
            };
            if let Some(why) = comment {
                self.flight.comment(why);
            }
            let seen = Seen { from, at_ns, len, bytes: &self.scratch, comment };
            self.recorders.iter_mut().for_each(|(_, recorder)| recorder.record(&seen));
        }
        received
    }

    /// Until a packet comes, or is almost due.
    fn wait(&mut self, wake: &OwnedFd, moved: &Moved) {
        let due_ns = self.lines.iter().filter_map(Line::next_due_ns).min();
        let now_ns = now_ns();
        let mut sleep_ns = due_ns.map(|due_ns| due_ns.saturating_sub(now_ns));
        if *moved == Moved::Refused {
            // Whatever is due has nowhere to go.
            sleep_ns = Some(REFUSED_AGAIN_NS);
        }
        if sleep_ns.is_some_and(|sleep_ns| sleep_ns <= AWAKE_NS)
            || self.wires.iter_mut().any(Wire::has_packets)
        {
            return std::hint::spin_loop();
        }
        let limit = sleep_ns.map(|sleep_ns| {
            let sleep_ns = sleep_ns - AWAKE_NS;
            // Delays are bounded by hours.
            Timespec { tv_sec: (sleep_ns / 1_000_000_000) as i64, tv_nsec: (sleep_ns % 1_000_000_000) as i64 }
        });
        let mut fds = vec![PollFd::from_borrowed_fd(wake.as_fd(), PollFlags::IN)];
        self.wires.iter().for_each(|wire| wire.watch(&mut fds));
        // Whatever it says, the next turn looks.
        let _ = poll(&mut fds, limit.as_ref());
        let _ = rustix::io::read(wake, &mut [0; 8]);
        self.wires.iter().for_each(Wire::heard);
    }

    fn answer(&mut self, request: Request) -> Step {
        self.settle();
        // A reply that nobody waits for any more is nobody's loss.
        match request {
            Request::Impair(towards, impairment, done) => {
                let (from, to) = ends(&mut self.wires, towards);
                self.lines[towards].impair(impairment, from, to);
                let _ = done.send(());
            }
            Request::Count(towards, reply) => {
                let (from, to) = ends(&mut self.wires, towards);
                let _ = reply.send(self.lines[towards].counters(from, to));
            }
            Request::Lateness(towards, reply) => drop(reply.send(self.lines[towards].lateness())),
            Request::Record(recorder, reply) => {
                self.recorders_count += 1;
                self.recorders.push((self.recorders_count, recorder));
                let _ = reply.send(self.recorders_count);
            }
            Request::StopRecording(number, reply) => {
                let at = self.recorders.iter().position(|(recorder, _)| *recorder == number);
                let _ = reply.send(at.map(|at| self.recorders.remove(at).1));
            }
            Request::Flight(mut recorder, reply) => {
                self.flight.play(&mut recorder);
                let _ = reply.send(recorder);
            }
            Request::Plug(side, wire, done) => {
                self.wires[side] = wire;
                let _ = done.send(());
            }
            Request::Stop(done) => {
                let _ = done.send(());
                return Step::Stop;
            }
        }
        Step::Again
    }
}

/// Where packets towards an end come from, and that end.
fn ends(wires: &mut [Wire; 2], towards: usize) -> (&mut Wire, &mut Wire) {
    let [first, second] = wires;
    if towards == 0 { (second, first) } else { (first, second) }
}
