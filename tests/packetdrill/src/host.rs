//! The stack and its clock, on a thread of their own.
//!
//! ```text
//! any thread: Job -> channel -> Host -> Sockets, Wire
//!                                 |  settle: turns until nothing moves; calls that wait are attempted again
//!                                 |  virtual time: the clock jumps to the next timer, while somebody sleeps or waits
//! any thread: <- reply channel ---'
//! ```
//! Owns the worker, which belongs to one thread, and every call that waits.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ringwire::clock::{Clock, ManualClock};
use ringwire::posix::{Progress, Reserved, Sockets, Turned, call};
use ringwire::{Engine, Interface, Waker};

use crate::flags::{Settings, Time};
use crate::wire::Wire;

/// A call, which replies when it is done.
pub(crate) type Attempt = Box<dyn FnMut(&mut Sockets) -> Progress<()> + Send>;

/// A packet that has left the stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Left {
    pub(crate) packet: Vec<u8>,
    pub(crate) at_us: i64,
}

/// What threads ask of the host.
pub(crate) enum Job {
    Call {
        attempt: Attempt,
        /// The thread that moves virtual time makes this call: while it waits, nobody else does.
        is_by_driver: bool,
    },
    Inject(Vec<u8>, Sender<bool>),
    /// The next packet; none: patience was over.
    Receive(Sender<Option<Left>>),
    /// Virtual time passes.
    Sleep(Duration, Sender<()>),
    Stop,
}

/// What the threads of the test read and move.
#[derive(Debug, Clone)]
pub(crate) enum TestClock {
    Virtual(ManualClock),
    Real,
}

impl TestClock {
    /// Microseconds since 1970; virtual time begins in 2001.
    pub(crate) fn now_us(&self) -> i64 {
        match self {
            TestClock::Virtual(hand) => VIRTUAL_EPOCH_US + i64::try_from(hand.now_ns() / 1_000).unwrap_or(0),
            TestClock::Real => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                i64::try_from(now.as_micros()).unwrap_or(i64::MAX)
            }
        }
    }
}

const VIRTUAL_EPOCH_US: i64 = 1_000_000_000_000_000;
/// A call of the driving thread that nothing ends in this time would hang the test.
const LONGEST_CALL: Duration = Duration::from_secs(3_600);
/// In real time, how often the host looks around when nothing is due.
const IDLE: Duration = Duration::from_millis(500);
/// More turns than any exchange at one instant takes.
const MAX_TURNS: usize = 256;

pub(crate) struct Host {
    sockets: Sockets,
    wire: Wire,
    clock: TestClock,
    patience: Duration,
    waiting: Vec<Waiting>,
    next_call: u64,
    receivers: VecDeque<(u64, Sender<Option<Left>>)>,
    left: VecDeque<Left>,
}

struct Waiting {
    id: u64,
    attempt: Attempt,
    until_ns: Option<u64>,
}

/// What the other threads need to reach the host.
pub(crate) struct Reach {
    pub(crate) waker: Waker,
    pub(crate) clock: TestClock,
}

impl Host {
    /// Makes the stack on this thread.
    pub(crate) fn new(settings: &Settings) -> Result<(Host, Reach), String> {
        let (engine_clock, hand) = Clock::manual();
        let interface = Interface::new("packetdrill").address(settings.address).gateway(settings.gateway);
        let mut builder = Engine::builder()
            .interface(interface)
            // Runs shall be alike.
            .secret(*b"packetdrill test")
            .mtu(settings.mtu)
            .max_connections(1 << 14);
        let clock = match settings.time {
            Time::Virtual => {
                builder = builder.clock(engine_clock);
                hand.advance(Duration::from_secs(1));
                TestClock::Virtual(hand)
            }
            Time::Real => TestClock::Real,
        };
        let mut wire = Wire::new(settings.mtu);
        let engine = builder.start_on(|pool| wire.attach(pool)).map_err(|error| error.to_string())?;
        let worker = engine.into_workers().pop().ok_or("an engine without a worker")?.start();
        let waker = worker.waker();
        let sockets = Sockets::new(worker, Box::new(Reserved::default()), settings.tcp.clone());
        wire.greet(settings.address.address, settings.gateway);
        let mut host = Host {
            sockets,
            wire,
            clock: clock.clone(),
            patience: settings.patience,
            waiting: Vec::new(),
            next_call: 0,
            receivers: VecDeque::new(),
            left: VecDeque::new(),
        };
        host.settle();
        Ok((host, Reach { waker, clock }))
    }

    /// Until it is told to stop, or nobody is left who could.
    pub(crate) fn run(mut self, jobs: &Receiver<Job>) {
        match self.clock.clone() {
            TestClock::Virtual(hand) => while jobs.recv().is_ok_and(|job| self.on_virtual(job, &hand)) {},
            TestClock::Real => self.run_in_real_time(jobs),
        }
        self.break_off(|_| true);
    }

    fn on_virtual(&mut self, job: Job, hand: &ManualClock) -> bool {
        match job {
            Job::Call { attempt, is_by_driver } => {
                let call = self.begin(attempt);
                if is_by_driver {
                    self.pass(hand, LONGEST_CALL, |host| host.is_done(call));
                    self.break_off(|waiting| waiting.id == call);
                }
            }
            Job::Inject(packet, reply) => {
                let _ = reply.send(self.wire.inject(&packet));
            }
            Job::Receive(reply) => {
                self.pass(hand, self.patience, |host| !host.left.is_empty());
                let _ = reply.send(self.left.pop_front());
            }
            Job::Sleep(time, reply) => {
                self.pass(hand, time, |_| false);
                let _ = reply.send(());
            }
            Job::Stop => return false,
        }
        self.settle();
        true
    }

    /// Virtual time passes, from one thing that happens to the next.
    fn pass(&mut self, hand: &ManualClock, time: Duration, is_enough: impl Fn(&Host) -> bool) {
        let until_ns = hand.now_ns().saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        loop {
            self.settle();
            let now_ns = hand.now_ns();
            if is_enough(self) || now_ns >= until_ns {
                return;
            }
            let next_ns = self.next_due_ns().map_or(until_ns, |due| due.min(until_ns));
            hand.advance(Duration::from_nanos(next_ns.max(now_ns + 1_000) - now_ns));
        }
    }

    fn next_due_ns(&self) -> Option<u64> {
        let deadlines = self.waiting.iter().filter_map(|waiting| waiting.until_ns);
        deadlines.chain(self.sockets.worker().next_timer_ns()).min()
    }

    fn run_in_real_time(&mut self, jobs: &Receiver<Job>) {
        loop {
            // The worker sleeps in its turn; only an engine that has ended returns at once, and then jobs are waited for here.
            let is_alive =
                self.sockets.turn(Some(self.until_due())).is_ok_and(|turned| turned != Turned::Stopped);
            let mut wait = if is_alive { Duration::ZERO } else { IDLE };
            loop {
                let job = match jobs.recv_timeout(std::mem::take(&mut wait)) {
                    Ok(job) => job,
                    Err(RecvTimeoutError::Timeout) => break,
                    Err(RecvTimeoutError::Disconnected) => return,
                };
                if !self.on_real(job) {
                    return;
                }
            }
            self.settle();
            self.serve_receivers();
        }
    }

    fn until_due(&self) -> Duration {
        let receivers = self.receivers.iter().map(|(until_ns, _)| *until_ns);
        let due_ns = receivers.chain(self.next_due_ns()).min();
        let now_ns = self.sockets.now_ns();
        due_ns.map_or(IDLE, |due_ns| Duration::from_nanos(due_ns.saturating_sub(now_ns)).min(IDLE))
    }

    /// False: stop.
    fn on_real(&mut self, job: Job) -> bool {
        match job {
            Job::Call { attempt, .. } => {
                self.begin(attempt);
            }
            Job::Inject(packet, reply) => {
                let _ = reply.send(self.wire.inject(&packet));
            }
            Job::Receive(reply) => {
                let patience_ns = u64::try_from(self.patience.as_nanos()).unwrap_or(u64::MAX);
                self.receivers.push_back((self.sockets.now_ns().saturating_add(patience_ns), reply));
            }
            // The caller has slept by itself.
            Job::Sleep(_, reply) => {
                let _ = reply.send(());
            }
            Job::Stop => return false,
        }
        true
    }

    fn serve_receivers(&mut self) {
        while !self.left.is_empty()
            && let Some((_, reply)) = self.receivers.pop_front()
        {
            let _ = reply.send(self.left.pop_front());
        }
        let now_ns = self.sockets.now_ns();
        self.receivers.retain(|(until_ns, reply)| {
            let is_over = *until_ns <= now_ns;
            if is_over {
                let _ = reply.send(None);
            }
            !is_over
        });
    }

    /// The first attempt of a call.
    fn begin(&mut self, mut attempt: Attempt) -> u64 {
        let id = self.next_call;
        self.next_call += 1;
        // A turn first: what has come in the meantime counts.
        self.settle();
        if let Progress::Wait { until_ns } = attempt(&mut self.sockets) {
            self.waiting.push(Waiting { id, attempt, until_ns });
        }
        id
    }

    /// Ends waits: those that have done something reply with it, and dropping the others tells their callers of the end.
    fn break_off(&mut self, is_meant: impl Fn(&Waiting) -> bool) {
        for mut ended in self.waiting.extract_if(.., |waiting| is_meant(waiting)) {
            let _ = call::break_off(&mut self.sockets, &mut ended.attempt);
        }
    }

    fn is_done(&self, call: u64) -> bool {
        self.waiting.iter().all(|waiting| waiting.id != call)
    }

    /// Turns until nothing moves any more.
    fn settle(&mut self) {
        let mut packets = Vec::new();
        for turn in 0..MAX_TURNS {
            let is_news = self.sockets.turn(Some(Duration::ZERO)) == Ok(Turned::News);
            let has_left = self.wire.take(&mut packets);
            let at_us = self.clock.now_us();
            self.left.extend(packets.drain(..).map(|packet| Left { packet, at_us }));
            let is_done = self.attempt_again();
            // What a call has begun leaves with the turn after it.
            if turn > 0 && !is_news && !has_left && !is_done {
                return;
            }
        }
    }

    /// All calls that wait; true when one is done.
    fn attempt_again(&mut self) -> bool {
        let before = self.waiting.len();
        let Host { waiting, sockets, .. } = self;
        waiting.retain_mut(|waiting| match (waiting.attempt)(sockets) {
            Progress::Wait { until_ns } => {
                waiting.until_ns = until_ns;
                true
            }
            Progress::Done(()) => false,
        });
        waiting.len() < before
    }
}
