//! An application on the workers of an engine, each on a thread of its own, and its orderly end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ringwire::frame::Counts;
use ringwire::{Engine, Event, Events, Handle, Metrics, Turn, Waker, Worker};

use crate::books::{self, Books};

/// How long an engine may take to bring everything home once its application has ended.
const SETTLE_LIMIT: Duration = Duration::from_secs(5);

/// What a worker's thread does with its events.
pub trait App {
    /// One event.
    fn on_event(&mut self, worker: &mut Worker, event: Event);

    /// After every turn; returns how long the next one may wait, `None` for as long as it takes.
    fn on_turn(&mut self, _worker: &mut Worker) -> Option<Duration> {
        None
    }
}

/// Two applications on one worker: each ignores what it does not know.
impl<A: App, B: App> App for (A, B) {
    fn on_event(&mut self, worker: &mut Worker, event: Event) {
        self.0.on_event(worker, event);
        self.1.on_event(worker, event);
    }

    fn on_turn(&mut self, worker: &mut Worker) -> Option<Duration> {
        let waits = [self.0.on_turn(worker), self.1.on_turn(worker)];
        waits.into_iter().flatten().min()
    }
}

/// A running application.
#[derive(Debug)]
pub struct Service {
    handle: Handle,
    stop: Arc<AtomicBool>,
    wakers: Vec<Waker>,
    threads: Vec<JoinHandle<(Counts, Metrics)>>,
}

impl Service {
    /// Runs what `make` makes on each worker; returns when all have been made, so that listeners listen.
    pub fn start<A: App>(engine: Engine, make: impl Fn(&mut Worker) -> A + Send + Sync + 'static) -> Service {
        let (handle, stop, make) = (engine.handle(), Arc::new(AtomicBool::new(false)), Arc::new(make));
        let seeds = engine.into_workers();
        let all_home = Arc::new(Barrier::new(seeds.len()));
        let (made, is_made) = channel();
        let threads: Vec<_> = seeds
            .into_iter()
            .map(|seed| {
                let (handle, stop, make, made) = (handle.clone(), stop.clone(), make.clone(), made.clone());
                let all_home = all_home.clone();
                let run = move || {
                    let mut worker = seed.start();
                    let app = make(&mut worker);
                    // The starter waits for it, or has failed already.
                    let _ = made.send(worker.waker());
                    drop(made);
                    run(&mut worker, app, &stop, &handle);
                    all_home.wait();
                    // This worker still holds the engine, so the steering program is attached and can be asked.
                    (worker.frame_counts(), handle.metrics())
                };
                thread::Builder::new().name("engine".to_owned()).spawn(run).expect("a thread can be had")
            })
            .collect();
        drop(made);
        let wakers: Vec<_> = is_made.iter().take(threads.len()).collect();
        assert_eq!(wakers.len(), threads.len(), "a worker's application panicked while it was made");
        Service { handle, stop, wakers, threads }
    }

    /// For its metrics, and to stop it at once.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Lets the engine bring home what is still out, then ends it and returns its accounts.
    pub fn finish(self) -> Books {
        // Relaxed: the wake that follows orders it.
        self.stop.store(true, Ordering::Relaxed);
        self.wakers.iter().for_each(Waker::wake);
        let (frames, mut metrics): (Vec<_>, Vec<_>) = self
            .threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .unzip();
        Books { frames, metrics: metrics.pop().expect("an engine has a worker"), modes: self.handle.mode() }
    }
}

/// The application's turns; after `stop` until everything is home, or for as long as that may take.
fn run(worker: &mut Worker, mut app: impl App, stop: &AtomicBool, handle: &Handle) {
    const SETTLING_TURN: Duration = Duration::from_millis(1);
    let mut events = Events::with_capacity(256);
    let mut wait = Some(Duration::ZERO);
    let mut deadline = None;
    loop {
        if worker.poll(&mut events, wait).expect("the worker polls") == Turn::Stop {
            return;
        }
        for event in events.drain() {
            app.on_event(worker, event);
        }
        wait = app.on_turn(worker);
        if stop.load(Ordering::Relaxed) {
            wait = Some(wait.map_or(SETTLING_TURN, |wait| wait.min(SETTLING_TURN)));
            let deadline = *deadline.get_or_insert_with(|| Instant::now() + SETTLE_LIMIT);
            let is_home = books::frames_are_home(&worker.frame_counts());
            if is_home && books::is_settled(&handle.metrics()) || Instant::now() >= deadline {
                return;
            }
        }
    }
}
