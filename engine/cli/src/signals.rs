//! SIGINT and SIGTERM as something to look at or to wait for.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};

use crate::refusal::{Exit, Refusal};

/// A flag that the first signal sets; the second one ends the process as if nobody listened.
pub(crate) fn stop_flag() -> Result<Arc<AtomicBool>, Refusal> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // The order matters: this looks at the flag before the next one sets it.
        signal_hook::flag::register_conditional_default(signal, Arc::clone(&flag)).map_err(refused)?;
        signal_hook::flag::register(signal, Arc::clone(&flag)).map_err(refused)?;
    }
    Ok(flag)
}

/// Waits in one thread for what signals, or another thread, say.
pub(crate) struct StopWait {
    receiver: UnixStream,
}

/// Ends a [`StopWait`] from another thread when dropped.
pub(crate) struct Release(UnixStream);

impl StopWait {
    /// From here on SIGINT and SIGTERM end the wait instead of the process.
    pub(crate) fn new() -> Result<(StopWait, Release), Refusal> {
        let (receiver, sender) = UnixStream::pair().map_err(refused)?;
        for signal in [SIGINT, SIGTERM] {
            let sender = sender.try_clone().map_err(refused)?;
            signal_hook::low_level::pipe::register(signal, sender).map_err(refused)?;
        }
        Ok((StopWait { receiver }, Release(sender)))
    }

    /// Returns at a signal, at the release, or when `limit` is over.
    pub(crate) fn wait(mut self, limit: Option<Duration>) {
        // A limit of zero would mean "without limit" to the socket.
        let limit = limit.map(|limit| limit.max(Duration::from_millis(1)));
        if self.receiver.set_read_timeout(limit).is_err() {
            return;
        }
        loop {
            match self.receiver.read(&mut [0]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => return,
            }
        }
    }
}

impl Drop for Release {
    fn drop(&mut self) {
        // Whoever waited is gone already if this fails.
        let _ = self.0.write(&[0]);
    }
}

fn refused(error: io::Error) -> Refusal {
    Refusal::new(Exit::Refused, format_args!("cannot listen for signals: {error}"), "raise RLIMIT_NOFILE")
}
