//! From the command line's engine options to a running engine, and back to words.

use std::net::Ipv4Addr;

use ringwire::{
    AttachMode, BindMode, BusyPoll, Engine, EngineBuilder, Handle, Interface, NeedWakeup, PollMode,
    VerifyChecksum,
};
use ringwire_load::report;

use crate::args::{self, EngineArgs};
use crate::refusal::{Exit, Refusal};
use crate::route;

/// What the commands differ in.
pub(crate) struct Wish {
    /// The peer that decides on the interface when none is named.
    pub(crate) towards: Ipv4Addr,
    pub(crate) poll_mode: args::PollMode,
    pub(crate) workers: Option<usize>,
}

/// A started engine and how it polls.
pub(crate) struct Started {
    pub(crate) engine: Engine,
    pub(crate) mode: report::Mode,
    pub(crate) interface: String,
}

/// Starts the engine that the options ask for.
pub(crate) fn start(options: &EngineArgs, wish: &Wish) -> Result<Started, Refusal> {
    let name = interface_name(options, wish.towards)?;
    let poll_mode = options.poll_mode.unwrap_or(wish.poll_mode);
    let engine = builder(options, &name, poll_mode, wish.workers).start()?;
    let workers = engine.handle().metrics().workers.len();
    let mode = mode_of(&engine.handle(), poll_mode, workers);
    Ok(Started { engine, mode, interface: name })
}

fn builder(
    options: &EngineArgs,
    name: &str,
    poll_mode: args::PollMode,
    workers: Option<usize>,
) -> EngineBuilder {
    let mut builder = Engine::builder()
        .backend(options.backend)
        .interface(interface(options, name))
        .poll_mode(match poll_mode {
            args::PollMode::Adaptive => PollMode::Adaptive,
            args::PollMode::Busy => PollMode::Busy,
        });
    if let Some(workers) = workers {
        builder = builder.workers(workers);
    }
    if let Some(cpus) = &options.cpus {
        builder = builder.cpus(cpus.0.iter().map(|cpu| *cpu as usize));
    }
    if let Some(frames) = options.frames {
        builder = builder.frames_per_worker(frames);
    }
    builder
}

fn interface(options: &EngineArgs, name: &str) -> Interface {
    let mut interface = Interface::new(name)
        .attach_mode(match options.attach_mode {
            args::AttachMode::Auto => AttachMode::Auto,
            args::AttachMode::Native => AttachMode::Native,
            args::AttachMode::Generic => AttachMode::Generic,
        })
        .bind_mode(match options.bind_mode {
            args::BindMode::Auto => BindMode::Auto,
            args::BindMode::ZeroCopy => BindMode::ZeroCopy,
            args::BindMode::Copy => BindMode::Copy,
        })
        .need_wakeup(match options.need_wakeup {
            args::NeedWakeup::On => NeedWakeup::On,
            args::NeedWakeup::Off => NeedWakeup::Off,
        })
        .busy_poll(match options.busy_poll {
            args::BusyPoll::Off => BusyPoll::Off,
            args::BusyPoll::Preferred => BusyPoll::Preferred,
        })
        .verify_checksum(match options.verify_checksum {
            args::VerifyChecksum::Always => VerifyChecksum::Always,
            args::VerifyChecksum::PartialOk => VerifyChecksum::PartialOk,
        });
    for address in &options.addresses {
        interface = interface.address(*address);
    }
    if let Some(gateway) = options.gateway {
        interface = interface.gateway(gateway);
    }
    if let Some(queues) = &options.queues {
        interface = interface.queues(queues.0.iter().copied());
    }
    interface
}

/// The interface that is named, or else leads where it must.
pub(crate) fn interface_name(options: &EngineArgs, towards: Ipv4Addr) -> Result<String, Refusal> {
    match &options.interface {
        Some(name) => Ok(name.clone()),
        None => choose_interface(options, towards),
    }
}

/// The interface on whose network --address lies, else the one that leads to the peer.
fn choose_interface(options: &EngineArgs, towards: Ipv4Addr) -> Result<String, Refusal> {
    let towards = options.addresses.first().map_or(towards, |own| own.address);
    let hint = "name the interface with -i; `ip route get ADDR` shows which one leads there";
    let found = route::towards(towards)
        .map_err(|error| Refusal::new(Exit::Refused, format_args!("no route to {towards}: {error}"), hint))?;
    match found {
        Some(interface) if interface.is_loopback => Err(Refusal::new(
            Exit::Refused,
            format_args!("{towards} is this host itself: its packets never pass an interface"),
            "run the other end in another network namespace or host, or use --stack kernel",
        )),
        Some(interface) => Ok(interface.name),
        None => Err(Refusal::new(Exit::Refused, format_args!("no interface leads to {towards}"), hint)),
    }
}

fn mode_of(handle: &Handle, poll_mode: args::PollMode, workers: usize) -> report::Mode {
    let queues = handle.mode();
    let all_zero_copy = !queues.is_empty() && queues.iter().all(|queue| queue.zero_copy);
    report::Mode {
        attach: queues.first().map_or("none", |queue| queue.attach).to_owned(),
        bind: if all_zero_copy { "zero-copy" } else { "copy" }.to_owned(),
        poll: match (poll_mode, queues.iter().any(|queue| queue.busy_poll)) {
            (args::PollMode::Adaptive, false) => "adaptive",
            (args::PollMode::Adaptive, true) => "adaptive, preferred busy polling",
            (args::PollMode::Busy, false) => "busy",
            (args::PollMode::Busy, true) => "busy, preferred busy polling",
        }
        .to_owned(),
        queues: queues.len(),
        workers,
    }
}
