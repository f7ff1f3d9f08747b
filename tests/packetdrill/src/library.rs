//! The interface's calls in Rust's terms, from any thread.

use std::sync::mpsc::{Sender, channel};
use std::thread::{JoinHandle, ThreadId};
use std::time::Duration;

use ringwire::Waker;
use ringwire::posix::{Errno, Progress, Sockets};

use crate::flags::Settings;
use crate::host::{Host, Job, Left, TestClock};

/// A running stack.
pub(crate) struct Library {
    jobs: Sender<Job>,
    waker: Waker,
    clock: TestClock,
    /// The thread that moves virtual time: the one that made the library.
    driver: ThreadId,
    host: Option<JoinHandle<()>>,
}

impl Library {
    pub(crate) fn start(flags: &str) -> Result<Library, String> {
        let settings = Settings::parse(flags)?;
        let (jobs, inbox) = channel();
        let (ready, is_ready) = channel();
        let host = std::thread::Builder::new()
            .name("ringwire".to_owned())
            .spawn(move || match Host::new(&settings) {
                Ok((host, reach)) => {
                    let _ = ready.send(Ok(reach));
                    host.run(&inbox);
                }
                Err(error) => drop(ready.send(Err(error))),
            })
            .map_err(|error| format!("no thread: {error}"))?;
        let reach = is_ready.recv().map_err(|_| "the stack's thread ended".to_owned())??;
        let driver = std::thread::current().id();
        Ok(Library { jobs, waker: reach.waker, clock: reach.clock, driver, host: Some(host) })
    }

    fn ask(&self, job: Job) -> Result<(), Errno> {
        self.jobs.send(job).map_err(|_| Errno::SHUTDOWN)?;
        self.waker.wake();
        Ok(())
    }

    /// Makes a call and waits for its result.
    pub(crate) fn call<R: Send + 'static>(
        &self,
        mut attempt: impl FnMut(&mut Sockets) -> Progress<Result<R, Errno>> + Send + 'static,
    ) -> Result<R, Errno> {
        let (reply, result) = channel();
        let attempt = move |sockets: &mut Sockets| match attempt(sockets) {
            Progress::Done(done) => {
                let _ = reply.send(done);
                Progress::Done(())
            }
            Progress::Wait { until_ns } => Progress::Wait { until_ns },
        };
        let is_by_driver = std::thread::current().id() == self.driver;
        self.ask(Job::Call { attempt: Box::new(attempt), is_by_driver })?;
        result.recv().unwrap_or(Err(Errno::INTR))
    }

    /// A call that never waits.
    pub(crate) fn at_once<R: Send + 'static>(
        &self,
        mut call: impl FnMut(&mut Sockets) -> Result<R, Errno> + Send + 'static,
    ) -> Result<R, Errno> {
        self.call(move |sockets| Progress::Done(call(sockets)))
    }

    /// Hands an IP packet to the stack.
    pub(crate) fn inject(&self, packet: Vec<u8>) -> Result<(), Errno> {
        let (reply, is_taken) = channel();
        self.ask(Job::Inject(packet, reply))?;
        match is_taken.recv() {
            Ok(true) => Ok(()),
            Ok(false) => Err(Errno::INVAL),
            Err(_) => Err(Errno::SHUTDOWN),
        }
    }

    /// The next packet that has left the stack; none: nothing came for as long as patience goes.
    pub(crate) fn receive(&self) -> Result<Option<Left>, Errno> {
        let (reply, left) = channel();
        self.ask(Job::Receive(reply))?;
        left.recv().map_err(|_| Errno::SHUTDOWN)
    }

    pub(crate) fn sleep(&self, time: Duration) -> Result<(), Errno> {
        if matches!(self.clock, TestClock::Real) {
            std::thread::sleep(time);
            return Ok(());
        }
        let (reply, is_over) = channel();
        self.ask(Job::Sleep(time, reply))?;
        is_over.recv().map_err(|_| Errno::SHUTDOWN)
    }

    /// The test's clock. Virtual time passes by looking at it: packetdrill spins on it before each event.
    pub(crate) fn now_us(&self) -> i64 {
        if let TestClock::Virtual(hand) = &self.clock {
            hand.advance(Duration::from_micros(1));
        }
        self.clock.now_us()
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        let _ = self.ask(Job::Stop);
        if let Some(host) = self.host.take() {
            let _ = host.join();
        }
    }
}
