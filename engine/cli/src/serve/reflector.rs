//! `serve --stack reflector echo`: the bare limit of AF_XDP, as a command.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ringwire_peers::reflector::{self, ReflectorConfig};

use crate::args::ServeArgs;
use crate::load::say;
use crate::refusal::{Exit, Refusal};
use crate::route::{self, FAR_AWAY, Interface};
use crate::signals::StopWait;
use crate::{cpu, engine};

use super::banner_line;

const ATTACH_LIMIT: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(2);

pub(super) fn run(args: &ServeArgs) -> Result<Exit, Refusal> {
    let (wait, release) = StopWait::new()?;
    let name = engine::interface_name(&args.engine, FAR_AWAY)?;
    let Some((address, _)) = find(&name).and_then(|interface| interface.addresses.first().copied()) else {
        let hint = format!("ip address add ADDR/LEN dev {name}");
        return Err(Refusal::new(
            Exit::Refused,
            format_args!("{name} has no IPv4 address to reflect for"),
            hint,
        ));
    };
    // Threads inherit this.
    if let Some(cpu) = args.engine.cpus.as_ref().and_then(|cpus| cpus.0.first()) {
        cpu::pin(*cpu as usize)?;
    }
    let config = ReflectorConfig { interface: name.clone(), queue_id: 0, address, port: args.port };
    let banner = banner_line(args, &address.to_string(), &format!("{name}  bare AF_XDP, busy"));
    let stop = AtomicBool::new(false);
    let reflected = thread::scope(|scope| {
        let running = scope.spawn(|| {
            let end = reflector::run(&config, &stop);
            drop(release);
            end
        });
        let deadline = Instant::now() + ATTACH_LIMIT;
        // It says nothing when it is ready; its program can be seen.
        while !running.is_finished() && !is_attached(&name) && Instant::now() < deadline {
            thread::sleep(POLL);
        }
        if !running.is_finished() {
            // A reader that left does not end the service.
            let _ = say(&banner);
            wait.wait(args.duration);
        }
        // Relaxed: nothing else is published with the flag.
        stop.store(true, Ordering::Relaxed);
        running.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    reflected.map_err(|error| Refusal::new(Exit::Refused, error.what, error.hint))?;
    Ok(Exit::Ok)
}

fn find(name: &str) -> Option<Interface> {
    route::interfaces().ok()?.into_iter().find(|interface| interface.name == name)
}

fn is_attached(name: &str) -> bool {
    find(name).is_some_and(|interface| interface.xdp_program.is_some())
}
