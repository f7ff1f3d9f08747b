//! `ringwire serve`.

mod echo;
mod http;
mod kernel;
mod pages;
mod reflector;
mod worker;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use ringwire::{Handle, Settings};

use crate::args::{PollMode, ServeArgs, ServeStack, Service, Transport};
use crate::engine::{self, Started, Wish};
use crate::load::say;
use crate::refusal::{Exit, Refusal};
use crate::route::FAR_AWAY;
use crate::signals::{Release, StopWait};

use echo::EchoService;
use http::Site;
use pages::HttpService;

/// How long open connections may take to end in order.
const DRAIN_LIMIT: Duration = Duration::from_secs(2);

pub(crate) fn run(args: &ServeArgs, settings: &Settings) -> Result<Exit, Refusal> {
    match (args.stack, args.service) {
        (ServeStack::Ringwire, _) => run_ringwire(args, settings),
        (ServeStack::Kernel, Service::Echo) => kernel::run(args),
        (ServeStack::Kernel | ServeStack::Reflector, Service::Http) => {
            Err(Refusal::new(Exit::Usage, "http is served by the Ringwire stack only", "leave --stack out"))
        }
        (ServeStack::Reflector, Service::Echo) => reflect(args),
    }
}

fn reflect(args: &ServeArgs) -> Result<Exit, Refusal> {
    if args.only == Some(Transport::Udp) {
        return reflector::run(args);
    }
    Err(Refusal::new(Exit::Usage, "the bare reflector knows no connections", "add --only udp"))
}

fn run_ringwire(args: &ServeArgs, settings: &Settings) -> Result<Exit, Refusal> {
    let (wait, release) = StopWait::new()?;
    if args.service == Service::Http {
        // Refused before anything is attached.
        open_site(args)?;
    }
    let wish = Wish { settings, towards: FAR_AWAY, poll_mode: PollMode::Adaptive, workers: args.workers };
    let Started { engine, mode, interface } = engine::start(&args.engine, &wish)?;
    let handle = engine.handle();
    let tcp = handle.tcp_options();
    let banner = banner(args, &handle, &format!("{interface}  {mode}"));
    let starting = Starting { not_ready: AtomicUsize::new(mode.workers), banner };
    thread::scope(|scope| {
        let stopper = scope.spawn(move || {
            wait.wait(args.duration);
            handle.shutdown(DRAIN_LIMIT)
        });
        let result = engine.run(|worker| match args.service {
            Service::Echo => {
                let service = EchoService::new(args.port, args.only, tcp.clone());
                worker::serve(worker, service, || starting.one_is_ready())
            }
            Service::Http => {
                let service = HttpService::new(args.port, open_site(args)?, tcp.clone());
                worker::serve(worker, service, || starting.one_is_ready())
            }
        });
        end(release, stopper);
        result
    })?;
    Ok(Exit::Ok)
}

/// Workers may have ended by themselves: the stopper then has nothing to wait for.
fn end(release: Release, stopper: thread::ScopedJoinHandle<'_, ringwire::Drained>) {
    drop(release);
    if let Ok(drained) = stopper.join()
        && drained.reset > 0
    {
        eprintln!("{} connections were still open and were reset", drained.reset);
    }
}

fn open_site(args: &ServeArgs) -> Result<Site, Refusal> {
    Site::open(&args.dir).map_err(|error| {
        let what = format!("cannot serve the directory '{}': {error}", args.dir.display());
        Refusal::new(Exit::Refused, what, "--dir with a directory that can be read")
    })
}

/// Announces the service when the last worker has bound its sockets: who reads the line may connect.
struct Starting {
    not_ready: AtomicUsize,
    banner: String,
}

impl Starting {
    fn one_is_ready(&self) {
        // Relaxed: the counter itself is all there is to agree on.
        if self.not_ready.fetch_sub(1, Ordering::Relaxed) == 1 {
            // A reader that left does not end the service.
            let _ = say(&self.banner);
        }
    }
}

fn banner(args: &ServeArgs, handle: &Handle, place: &str) -> String {
    let addresses: Vec<String> = handle.addresses().iter().map(|own| own.address.to_string()).collect();
    banner_line(args, &addresses.join(","), place)
}

/// `serving echo (tcp, udp) on 10.0.0.2:9000  veth0  native copy, 1 queue, 1 worker, adaptive`.
fn banner_line(args: &ServeArgs, addresses: &str, place: &str) -> String {
    let service = match (args.service, args.only) {
        (Service::Http, _) => format!("http ({})", args.dir.display()),
        (Service::Echo, None) => "echo (tcp, udp)".to_owned(),
        (Service::Echo, Some(Transport::Tcp)) => "echo (tcp)".to_owned(),
        (Service::Echo, Some(Transport::Udp)) => "echo (udp)".to_owned(),
    };
    format!("serving {service} on {addresses}:{}  {place}", args.port)
}
