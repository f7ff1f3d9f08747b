//! Bounds in time: a test that hangs fails by name instead of stopping the whole run.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Runs a test on a thread of its own and gives up on it after `limit`.
///
/// # Panics
/// When the time is over, or with the test's own panic.
pub fn within(limit: Duration, test: impl FnOnce() + Send + 'static) {
    let (done, finished) = channel();
    let name = thread::current().name().unwrap_or("test").to_owned();
    let body = thread::Builder::new()
        .name(name)
        .spawn(move || {
            test();
            // Nobody listens any more only when the test has been given up.
            let _ = done.send(());
        })
        .expect("a thread can be had");
    match finished.recv_timeout(limit) {
        Err(RecvTimeoutError::Timeout) => panic!("not finished after {limit:?}"),
        // Disconnected: the test has panicked, and its panic is passed on.
        Ok(()) | Err(RecvTimeoutError::Disconnected) => {
            body.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    }
}

/// Waits until `is_so` says yes; false when it did not within `limit`.
pub fn eventually(limit: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    const LOOK_AGAIN: Duration = Duration::from_millis(2);
    let deadline = Instant::now() + limit;
    while !is_so() {
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(LOOK_AGAIN);
    }
    true
}
