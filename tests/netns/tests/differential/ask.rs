//! The same odd packets to both, many at a time.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use ringwire_lab::RawPort;

use crate::odd::Odd;
use crate::play::Play;
use crate::target::Both;

/// Longer than a delayed ACK; two of them are shorter than any retransmission.
const PATIENCE: Duration = Duration::from_millis(80);
/// For what is said at once, and for the way there.
const SOON: Duration = Duration::from_millis(15);
/// For a step of the way to the odd packet.
const STEP_LIMIT: Duration = Duration::from_secs(1);
/// So many at once fit every queue on the way.
const BATCH: usize = 48;
/// Addresses of the link that the lab gives to nobody.
const FIRST_HOST: u8 = 103;
const LAST_HOST: u8 = 250;

/// What both said to one odd packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answers {
    pub(crate) linux: String,
    pub(crate) ringwire: String,
}

/// Asks again and again, each time from other ports.
pub(crate) struct Asker {
    pub(crate) both: Both,
    next_port: u16,
    /// The last byte of the address that the next odd packet comes from: of its own, because the kernel remembers what it has heard of
    /// a host, and because what comes to port 0 is known by nothing else.
    next_host: u8,
}

impl Asker {
    pub(crate) fn new(both: Both) -> Asker {
        Asker { both, next_port: 20_000, next_host: FIRST_HOST }
    }

    /// The answers to each, in their order.
    pub(crate) fn ask(&mut self, odds: &[Odd]) -> Vec<Answers> {
        self.both.forget_paths();
        odds.chunks(BATCH).flat_map(|odds| self.ask_batch(odds)).collect()
    }

    fn ask_batch(&mut self, odds: &[Odd]) -> Vec<Answers> {
        let mut plays: Vec<(&Odd, Play)> = Vec::new();
        for odd in odds {
            let host = self.new_host();
            for target in &self.both.targets {
                self.next_port += 1;
                let src = SocketAddrV4::new(host, self.next_port);
                plays.push((odd, Play::new(target, odd, src, self.both.port.mac())));
            }
        }
        let mut batch = Batch { both: &mut self.both, plays };
        batch.prepare();
        batch.step(|_| true, |play, port, odd| play.send_odd(port, odd));
        batch.step(Odd::has_probe, |play, port, odd| play.send_probe(port, odd));
        batch.end();
        let Batch { plays, .. } = batch;
        let said = |pair: &[(&Odd, Play)]| match pair {
            [(_, linux), (_, ringwire)] => Answers { linux: linux.said(), ringwire: ringwire.said() },
            _ => unreachable!("there are two targets"),
        };
        plays.chunks(2).map(said).collect()
    }

    fn new_host(&mut self) -> Ipv4Addr {
        let [a, b, c, _] = self.both.port.spare_addr().octets();
        let ip = Ipv4Addr::new(a, b, c, self.next_host);
        self.next_host = if self.next_host == LAST_HOST { FIRST_HOST } else { self.next_host + 1 };
        self.both.port.answer_arp(ip);
        ip
    }
}

struct Batch<'a> {
    both: &'a mut Both,
    plays: Vec<(&'a Odd, Play)>,
}

impl Batch<'_> {
    /// Everything before the odd packet.
    fn prepare(&mut self) {
        for (_, play) in self.plays.iter_mut().filter(|(odd, _)| odd.before.is_after_a_syn()) {
            play.open(&mut self.both.port);
        }
        self.listen_until(|odd, play| !odd.before.is_after_a_syn() || play.has_answer_to_syn());
        for (odd, play) in &mut self.plays {
            play.complete(&mut self.both.port, odd.before);
        }
        self.listen(SOON);
        for (odd, play) in &mut self.plays {
            play.send_first_fin(&mut self.both.port, odd.before);
        }
        self.listen_until(|odd, play| play.is_ready(odd.before));
        for (odd, play) in &mut self.plays {
            play.answer_fin(&mut self.both.port, odd.before);
        }
        self.listen(SOON);
        for (odd, play) in &mut self.plays {
            play.forget_answers(odd.before);
        }
    }

    /// Sends something for those who have it, and notes what comes back.
    fn step(&mut self, has: impl Fn(&Odd) -> bool, send: impl Fn(&mut Play, &mut RawPort, &Odd)) {
        for (odd, play) in self.plays.iter_mut().filter(|(odd, _)| has(odd)) {
            play.begin_step();
            send(play, &mut self.both.port, odd);
        }
        self.listen(PATIENCE);
        self.plays.iter_mut().filter(|(odd, _)| has(odd)).for_each(|(_, play)| play.end_step());
    }

    fn end(&mut self) {
        self.plays.iter().for_each(|(_, play)| play.reset(&mut self.both.port));
        self.listen(SOON);
        self.both.kernel.forget();
    }

    fn listen(&mut self, time: Duration) {
        self.listen_for(time, |_, _| false);
    }

    fn listen_until(&mut self, is_enough: impl Fn(&Odd, &Play) -> bool) {
        self.listen_for(STEP_LIMIT, is_enough);
    }

    fn listen_for(&mut self, time: Duration, is_enough: impl Fn(&Odd, &Play) -> bool) {
        const LOOK_AGAIN: Duration = Duration::from_millis(1);
        let deadline = Instant::now() + time;
        while Instant::now() < deadline && !self.plays.iter().all(|(odd, play)| is_enough(odd, play)) {
            self.both.kernel.attend();
            while let Some(packet) = self.both.port.recv(LOOK_AGAIN) {
                for (_, play) in &mut self.plays {
                    if play.is_mine(&packet) {
                        play.on_packet(&packet);
                    }
                }
            }
        }
    }
}
