//! One run: connect, move a stream each way, close, and account for every byte, frame, connection and timer.

use std::time::Duration;

use ringwire::CloseReason;
use ringwire::clock::{Clock, ManualClock};
use ringwire_capture::Recorder;

use crate::floor::{self, Limits};
use crate::line::{Impairment, LinkCounters, nanos};
use crate::link::Relay;
use crate::plan::{Incident, PATIENCE, Plan, SCARCE_FRAMES};
use crate::rng::Rng;
use crate::side::{Role, Side, Streams, Told};

/// What one run showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Virtual time from the end of the handshake until both streams had arrived.
    pub took: Duration,
    /// What [`floor::limits`] allows for that.
    pub allowed: Limits,
    /// What the link did.
    pub link: LinkCounters,
    /// What the server's and the client's applications were told instead of finishing, of their last connections.
    pub told: [Option<CloseReason>; 2],
    /// Connections that nobody answered, before their handshake was over.
    pub unanswered: u64,
    /// Connections that a server did not know any more after it had started again.
    pub forgotten: u64,
    /// Connections that an engine gave up for want of frames.
    pub given_up: u64,
    /// Packets, segments and connections of both engines, to tell two runs apart.
    pub delivered: u64,
    /// Connections whose text the server had with the SYN.
    pub fast_opened: u64,
}

/// Between being told and trying again: a neighbour that did not answer is not asked again at once.
const PAUSE: Duration = Duration::from_secs(2);
/// A client that was told so often has no luck but a fault.
const MOST_CONNECTS: u32 = 20;

/// Two engines, a link, and the time.
struct World<'a> {
    plan: &'a Plan,
    clock: Clock,
    hand: ManualClock,
    relay: Relay,
    server: Side,
    client: Side,
    streams: Streams,
    /// When the run began, from which the incident is counted.
    began_ns: u64,
    /// Has the incident happened?
    is_over: bool,
    connects: u32,
    unanswered: u64,
    forgotten: u64,
    /// When the client tries again.
    again_ns: Option<u64>,
    quiet_turns: u32,
}

/// Why an application may be told of an end.
enum Excuse {
    /// Before the handshake was over nobody answered.
    Unanswered,
    /// The other end is not there any more.
    Vanished,
    /// The server has started again, and knows nothing of the connection.
    Forgotten,
    /// One of the two engines has few frames, and gave the connection up.
    GivenUp,
}

/// Runs a plan to its end.
///
/// # Errors
/// What was wrong, in a sentence that names the seed.
pub fn run(plan: &Plan) -> Result<Report, String> {
    run_recorded(plan, None).0
}

/// [`run`], with every packet recorded; hands the recorder back.
pub fn run_recorded(plan: &Plan, recorder: Option<Recorder>) -> (Result<Report, String>, Option<Recorder>) {
    let named = |error| format!("seed {}: {error}", plan.seed);
    let mut world = match World::new(plan) {
        Ok(world) => world,
        Err(error) => return (Err(named(error)), recorder),
    };
    if let Some(recorder) = recorder {
        world.relay.record(recorder);
    }
    let result = world.judge().map_err(named);
    (result, world.relay.take_recorder())
}

impl<'a> World<'a> {
    fn new(plan: &'a Plan) -> Result<World<'a>, String> {
        let (clock, hand) = Clock::manual();
        let mut relay = Relay::new(plan.impairment, plan.seed ^ 0x5eed);
        let upload = pattern(plan.seed, plan.upload_bytes);
        let download = pattern(!plan.seed, plan.download_bytes);
        let streams = Streams { outgoing: download.clone(), expected: upload.clone() };
        let of_client = Streams { outgoing: upload, expected: download };
        let attach = |pool: &_| relay.attach(pool);
        let server = Side::new(plan, &clock, (Role::Server, 0), streams.clone(), attach)?;
        let client = Side::new(plan, &clock, (Role::Client, 0), of_client, |pool| relay.attach(pool))?;
        let is_over = plan.incident == Incident::None;
        let (connects, again_ns, quiet_turns) = (1, None, 0);
        let mut world = World {
            plan,
            clock,
            hand,
            relay,
            server,
            client,
            streams,
            began_ns: 0,
            is_over,
            connects,
            unanswered: 0,
            forgotten: 0,
            again_ns,
            quiet_turns,
        };
        if plan.options.fast_open {
            world.fetch_cookie()?;
            world.began_ns = world.hand.now_ns();
        }
        world.client.connect_first(plan)?;
        Ok(world)
    }

    /// Over a clean link, before the run: a connection that brings the client a cookie, so that its next SYN takes text along.
    fn fetch_cookie(&mut self) -> Result<(), String> {
        const MOST_TURNS: u32 = 10_000;
        self.relay.set_impairment(Impairment::CLEAN);
        self.client.connect()?;
        let mut turns = 0;
        while self.server.connected_ns.is_none() {
            self.step_all()?;
            self.judge_ends()?;
            turns += 1;
            if turns > MOST_TURNS {
                return Err("the first connection does not come about".to_owned());
            }
        }
        self.client.forget();
        self.server.forget();
        // The farewells arrive.
        for _ in 0..8 {
            self.step_all()?;
        }
        self.relay.set_impairment(self.plan.impairment);
        Ok(())
    }

    fn step_all(&mut self) -> Result<(), String> {
        self.relay.step(self.hand.now_ns());
        self.server.step()?;
        self.client.step()?;
        self.hand.advance(Duration::from_micros(20));
        Ok(())
    }

    fn judge(&mut self) -> Result<Report, String> {
        let plan = self.plan;
        let bytes = plan.upload_bytes + plan.download_bytes;
        let limits = if plan.options.fast_open { floor::limits_of_fast_open } else { floor::limits };
        let allowed = limits(&plan.impairment, plan.least_mtu(), bytes, plan.window_bytes());
        // Connecting, by seven SYNs of doubling intervals, is not part of the transfer; nor is finding out that nobody answers.
        let limit = 2 * allowed.longest + 8 * PATIENCE + Duration::from_secs(130);
        while !self.is_done() {
            if self.hand.now_ns() > nanos(limit) {
                return Err(format!("not finished: {} {}", self.server.state(), self.client.state()));
            }
            let moved = self.turn()?;
            self.advance(moved);
        }
        let took = self.took();
        self.settle();
        for (name, side) in [("server", &self.server), ("client", &self.client)] {
            side.check_accounts().map_err(|error| format!("{name}: {error}"))?;
        }
        self.judge_ends()?;
        if self.connects == MOST_CONNECTS {
            return Err(format!("{MOST_CONNECTS} connections, and none comes to its end"));
        }
        if took > allowed.longest {
            let rate = bytes as f64 / took.as_secs_f64();
            return Err(format!("too slow: {took:?} of {allowed:?} allowed, {rate:.0} bytes/s"));
        }
        let delivered = self.server.worker.counters().delivered + self.client.worker.counters().delivered;
        let told = [self.server.told, self.client.told].map(|told| told.map(|told| told.reason));
        let given_up = self.server.given_up() + self.client.given_up();
        let fast_opened = self.server.worker.counters().fast_opened;
        let link = self.relay.counters();
        let (unanswered, forgotten) = (self.unanswered, self.forgotten);
        Ok(Report { took, allowed, link, told, unanswered, forgotten, given_up, delivered, fast_opened })
    }

    /// Every end of which an application was told, when it happens: the next connection, or the next server, does not undo it.
    fn judge_ends(&mut self) -> Result<(), String> {
        let ends = [self.server.take_unjudged(), self.client.take_unjudged()];
        let sides = [(&self.server, &self.client), (&self.client, &self.server)];
        for (ends, (side, peer)) in ends.into_iter().zip(sides) {
            for told in ends {
                match self.excuse(told, side, peer) {
                    Some(Excuse::Unanswered) => self.unanswered += 1,
                    Some(Excuse::Forgotten) => self.forgotten += 1,
                    Some(Excuse::Vanished | Excuse::GivenUp) => {}
                    None => return Err(format!("cut off for no reason: {:?} {told:?}", side.role)),
                }
            }
        }
        Ok(())
    }

    fn excuse(&self, told: Told, side: &Side, peer: &Side) -> Option<Excuse> {
        let is_silence = matches!(told.reason, CloseReason::TimedOut | CloseReason::Unreachable(_));
        let is_reset = told.reason == CloseReason::Reset;
        let has_few = self.plan.frames == SCARCE_FRAMES;
        let gave_up = has_few && side.given_up() > 0 && told.reason == CloseReason::TimedOut;
        // The RST may be lost; then it is the silence that tells.
        let was_given_up = has_few && peer.given_up() > 0 && (is_silence || is_reset);
        match self.plan.incident {
            Incident::Vanishes { at } if told.at_ns >= self.began_ns + nanos(at) && is_silence => {
                Some(Excuse::Vanished)
            }
            // The new server knows all that began later.
            Incident::Restarts { at }
                if side.role == Role::Client && is_reset && told.begun_ns < self.began_ns + nanos(at) =>
            {
                (told.at_ns >= self.began_ns + nanos(at)).then_some(Excuse::Forgotten)
            }
            _ if !told.was_connected && is_silence => Some(Excuse::Unanswered),
            _ => (gave_up || was_given_up).then_some(Excuse::GivenUp),
        }
    }

    fn turn(&mut self) -> Result<bool, String> {
        let now_ns = self.hand.now_ns();
        self.incident(now_ns)?;
        let mut moved = self.relay.step(now_ns);
        moved |= self.server.step().map_err(|error| format!("server: {error}"))?;
        moved |= self.client.step().map_err(|error| format!("client: {error}"))?;
        self.judge_ends()?;
        self.connect_again()?;
        Ok(moved)
    }

    /// What the plan has for this time.
    fn incident(&mut self, now_ns: u64) -> Result<(), String> {
        let Some(at_ns) = self.incident_ns().filter(|at_ns| now_ns >= *at_ns) else { return Ok(()) };
        debug_assert!(at_ns <= now_ns);
        self.is_over = true;
        match self.plan.incident {
            Incident::None => {}
            Incident::Vanishes { .. } => self.relay.cut(),
            Incident::MtuFalls { to, .. } => {
                self.relay.set_impairment(Impairment { mtu: to, ..self.plan.impairment });
            }
            Incident::Restarts { .. } => {
                let (relay, streams) = (&mut self.relay, self.streams.clone());
                let attach = |pool: &_| relay.attach_again(0, pool);
                // The old one's farewell goes into a cable that nobody holds.
                self.server = Side::new(self.plan, &self.clock, (Role::Server, 1), streams, attach)?;
            }
        }
        Ok(())
    }

    fn incident_ns(&self) -> Option<u64> {
        let at = match self.plan.incident {
            Incident::None => return None,
            Incident::Vanishes { at } | Incident::Restarts { at } | Incident::MtuFalls { at, .. } => at,
        };
        (!self.is_over).then_some(self.began_ns + nanos(at))
    }

    /// A client that was told tries again where that can help: before the handshake was over, and after the server has restarted.
    fn connect_again(&mut self) -> Result<(), String> {
        let now_ns = self.hand.now_ns();
        if self.again_ns.take_if(|again_ns| *again_ns <= now_ns).is_some() {
            return self.client.connect();
        }
        if self.client.told.is_some() && self.again_ns.is_none() && self.may_try_again() {
            self.connects += 1;
            self.again_ns = Some(now_ns + nanos(PAUSE));
        }
        Ok(())
    }

    fn may_try_again(&self) -> bool {
        let is_gone = self.is_over && matches!(self.plan.incident, Incident::Vanishes { .. });
        let has_restarted = self.is_over && matches!(self.plan.incident, Incident::Restarts { .. });
        let is_allowed = self.client.connected_ns.is_none() || has_restarted;
        is_allowed && !is_gone && self.connects < MOST_CONNECTS
    }

    fn is_done(&self) -> bool {
        let is_settled = !self.client.is_busy() && !self.server.is_busy() && self.again_ns.is_none();
        match self.plan.incident {
            Incident::Vanishes { .. } => is_settled && (self.is_over || self.server.is_finished),
            Incident::Restarts { .. } => is_settled,
            Incident::None | Incident::MtuFalls { .. } => {
                // Whoever was told does not go on; whether that is right is judged afterwards.
                let any_told = self.server.told.is_some() || self.client.told.is_some();
                is_settled && (self.server.is_finished || any_told)
            }
        }
    }

    /// For runs whose streams arrive: from the later end of the handshake.
    fn took(&self) -> Duration {
        let is_whole = self.client.is_finished
            && matches!(self.plan.incident, Incident::None | Incident::MtuFalls { .. });
        let connected_ns = self.client.connected_ns.filter(|_| is_whole);
        connected_ns.map_or(Duration::ZERO, |from_ns| Duration::from_nanos(self.hand.now_ns() - from_ns))
    }

    /// Lets every retransmission, FIN and TIME-WAIT run out on a clean link, or on none.
    fn settle(&mut self) {
        self.is_over = true;
        self.relay.set_impairment(Impairment { mtu: self.plan.least_mtu(), ..Impairment::CLEAN });
        let until_ns = self.hand.now_ns() + 1_000_000_000_000;
        let mut quiet_turns = 0;
        while quiet_turns < 3 && self.hand.now_ns() < until_ns {
            let moved = self.relay.step(self.hand.now_ns());
            // Errors of closed ids no longer matter here; the accounts are checked afterwards.
            let _ = self.server.step();
            let _ = self.client.step();
            let is_at_rest = !moved && self.next_ns().is_none();
            quiet_turns = if is_at_rest { quiet_turns + 1 } else { 0 };
            self.advance(moved);
        }
    }

    /// When something happens next.
    fn next_ns(&self) -> Option<u64> {
        let timers = [self.server.worker.next_timer_ns(), self.client.worker.next_timer_ns()];
        timers
            .into_iter()
            .chain([self.relay.next_due_ns(), self.incident_ns(), self.again_ns])
            .flatten()
            .min()
    }

    /// Moves time: a little while packets move, else to whatever happens next.
    fn advance(&mut self, moved: bool) {
        const STEP_NS: u64 = 20_000;
        const LONGEST_STEP_NS: u64 = 60_000_000_000;
        self.quiet_turns = if moved { 0 } else { self.quiet_turns + 1 };
        // What a timer lets out is taken by the relay one turn later.
        let step_ns = if self.quiet_turns < 2 {
            STEP_NS
        } else {
            self.quiet_turns = 0;
            let wait_ns =
                self.next_ns().map_or(LONGEST_STEP_NS, |at_ns| at_ns.saturating_sub(self.hand.now_ns()));
            wait_ns.clamp(STEP_NS, LONGEST_STEP_NS)
        };
        self.hand.advance(Duration::from_nanos(step_ns));
    }
}

/// Bytes that depend on the seed and on their place, so that a lost, doubled or moved byte shows.
fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut rng = Rng::new(seed);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend_from_slice(&rng.next_u64().to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}
