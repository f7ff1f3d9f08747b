//! Two flows at the same time through one queue: one of each stack, then two of the kernel's.

use std::io;
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ringwire_load::recovery::Path;
use ringwire_load::recovery::sharing::{Pair, SharingRound};

use super::{PORT, Rig, START_LIMIT, Sender, join, receive, send_by_kernel};

const PORTS: [u16; 2] = [PORT, PORT + 1];
/// The beginning does not count, a quarter of what does: slow start's losses, and what comes after them.
const SETTLE_PART: u32 = 4;
const DEFAULT_DURATION: Duration = Duration::from_secs(20);
/// Less than this of the link in use, and something else was the bottleneck.
const LEAST_USED: f64 = 0.7;

impl Rig {
    /// Two flows, one of each stack, and two of the kernel's.
    pub(super) fn share(
        &self,
        path: &Path,
        seed: u64,
        duration: Option<Duration>,
    ) -> Result<SharingRound, String> {
        let duration = duration.unwrap_or(DEFAULT_DURATION);
        let pair = |first| self.pair(path, first, duration).map_err(|error| format!("{first:?}: {error}"));
        let [mixed, kernel_only] = super::in_turns(seed, pair)?;
        Ok(SharingRound { mixed, kernel_only })
    }

    /// A flow of this sender beside one of the kernel's.
    fn pair(&self, path: &Path, first: Sender, duration: Duration) -> Result<Pair, String> {
        self.impair(path, 0).map_err(|error| error.to_string())?;
        let pair = self.send_both(first, duration).map_err(|error| error.to_string())?;
        self.check(|counters| counters.over_limit)?;
        let used = pair.sum() / path.rate_bits as f64;
        if used < LEAST_USED {
            return Err(format!("only {:.0} % of the link was used", used * 100.0));
        }
        Ok(pair)
    }

    fn send_both(&self, first: Sender, duration: Duration) -> io::Result<Pair> {
        let targets = PORTS.map(|port| self.target(port));
        let listen = |target| self.receiver.run(|| TcpListener::bind(target));
        let listeners = [listen(targets[0])?, listen(targets[1])?];
        let is_over = AtomicBool::new(false);
        // An engine takes a while to start, which shall not be the other's head start.
        let engine = match first {
            Sender::Ringwire => Some(self.engine()?),
            Sender::Kernel => None,
        };
        let settle = duration / SETTLE_PART;
        let limit = Instant::now() + START_LIMIT + settle + duration;
        let by_kernel = |target| self.sender.run(|| send_by_kernel(target, limit, &is_over));
        let by_engine = |engine| self.send_by_engine(engine, targets[0], limit, &is_over);
        thread::scope(|scope| {
            let receiving =
                listeners.each_ref().map(|listener| scope.spawn(move || receive(listener, settle, duration)));
            let sending = [
                scope.spawn(|| engine.map_or_else(|| by_kernel(targets[0]), by_engine)),
                scope.spawn(|| by_kernel(targets[1])),
            ];
            let received = receiving.map(join);
            // Relaxed: it stands for itself.
            is_over.store(true, Ordering::Relaxed);
            for sent in sending.map(join) {
                sent?;
            }
            let [ours, other] = received;
            let bits_per_s = |bytes: u64| bytes as f64 * 8.0 / duration.as_secs_f64();
            Ok(Pair([bits_per_s(ours?), bits_per_s(other?)]))
        })
    }
}
