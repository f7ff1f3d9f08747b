//! Sleeping and waking: a flag, an eventfd and two fences.
//!
//! ```text
//! worker: sleeping = true; fence; look for work; ppoll; sleeping = false
//! others: publish the work; fence; if sleeping was true { write the eventfd }
//! ```
//! Either the worker sees the work before it sleeps, or the other side sees `sleeping` and writes: the two fences are totally
//! ordered, so one of the two looks is the later one.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use rustix::event::{EventfdFlags, eventfd};

#[derive(Debug)]
struct Shared {
    eventfd: OwnedFd,
    sleeping: AtomicBool,
    /// Set by `Waker::wake`, taken by the worker: raises `Event::Woken`.
    woken: AtomicBool,
}

/// Wakes a sleeping worker from any thread; raises [`Event::Woken`](crate::Event::Woken).
#[derive(Debug, Clone)]
pub struct Waker(Arc<Shared>);

impl Waker {
    pub(crate) fn new() -> std::io::Result<Waker> {
        let eventfd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let shared = Shared { eventfd, sleeping: AtomicBool::new(false), woken: AtomicBool::new(false) };
        Ok(Waker(Arc::new(shared)))
    }

    /// Makes the worker's current or next `poll` return with [`Event::Woken`](crate::Event::Woken). Wakes coalesce.
    pub fn wake(&self) {
        // Pairs with the Acquire in `take_woken`: what the caller published before is seen by whoever takes the wake.
        self.0.woken.store(true, Ordering::Release);
        self.nudge();
    }

    /// Ends a sleep without an event: there is work in some ring.
    pub(crate) fn nudge(&self) {
        // Pairs with the fence in `begin_sleep`.
        fence(Ordering::SeqCst);
        if self.0.sleeping.swap(false, Ordering::Relaxed) {
            // The counter cannot overflow: only the one who takes `sleeping` writes, and each sleep reads it back.
            let _ = rustix::io::write(&self.0.eventfd, &1_u64.to_ne_bytes());
        }
    }

    /// After this, look for work once more, then sleep.
    pub(crate) fn begin_sleep(&self) {
        self.0.sleeping.store(true, Ordering::Relaxed);
        // Pairs with the fence in `nudge`.
        fence(Ordering::SeqCst);
    }

    /// After the sleep, or instead of it.
    pub(crate) fn end_sleep(&self) {
        self.0.sleeping.store(false, Ordering::Relaxed);
        // Always: somebody may have taken the flag and written only after the last sleep had ended. EAGAIN when nobody has.
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.0.eventfd, &mut count);
    }

    /// Whether `wake` was called since the last take.
    pub(crate) fn take_woken(&self) -> bool {
        // Pairs with the Release in `wake`.
        self.0.woken.load(Ordering::Relaxed) && self.0.woken.swap(false, Ordering::Acquire)
    }

    pub(crate) fn is_woken(&self) -> bool {
        self.0.woken.load(Ordering::Relaxed)
    }

    pub(crate) fn eventfd(&self) -> BorrowedFd<'_> {
        self.0.eventfd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The worker's protocol with a real wait; a lost wake would hang until the time limit.
    fn sleep_until_woken(waker: &Waker) -> bool {
        waker.begin_sleep();
        if !waker.is_woken() {
            let mut fds =
                [rustix::event::PollFd::from_borrowed_fd(waker.eventfd(), rustix::event::PollFlags::IN)];
            let limit = rustix::event::Timespec { tv_sec: 5, tv_nsec: 0 };
            if rustix::event::poll(&mut fds, Some(&limit)) == Ok(0) {
                return false;
            }
        }
        waker.end_sleep();
        waker.take_woken()
    }

    #[test]
    fn no_wake_is_lost() {
        const ROUNDS: u32 = 20_000;
        let waker = Waker::new().unwrap();
        let (done, acknowledged) = std::sync::mpsc::channel();
        let sleeper = {
            let waker = waker.clone();
            std::thread::spawn(move || {
                let mut seen = 0;
                while seen < ROUNDS {
                    if sleep_until_woken(&waker) {
                        seen += 1;
                        done.send(()).unwrap();
                    }
                }
            })
        };
        for round in 0..ROUNDS {
            // A different distance each time, so that the wake meets every step of the sleeper.
            for _ in 0..round % 97 * 3 {
                std::hint::spin_loop();
            }
            waker.wake();
            acknowledged.recv_timeout(std::time::Duration::from_secs(5)).expect("a wake was lost");
        }
        sleeper.join().unwrap();
    }
}
