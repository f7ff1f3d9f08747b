//! From the command line's engine options to a running engine, and back to words.

use std::net::Ipv4Addr;

use ringwire::{
    AttachMode, BindMode, BusyPoll, Engine, EngineBuilder, Handle, Interface, NeedWakeup, PollMode, Settings,
    VerifyChecksum,
};
use ringwire_load::report;

use crate::args::{self, EngineArgs};
use crate::refusal::{Exit, Refusal};
use crate::route;

/// What the commands differ in.
pub(crate) struct Wish<'s> {
    /// The configuration file's.
    pub(crate) settings: &'s Settings,
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
pub(crate) fn start(options: &EngineArgs, wish: &Wish<'_>) -> Result<Started, Refusal> {
    let name = match named_interface(options, wish.settings)? {
        Some(name) => name.to_owned(),
        None => choose_interface(options, wish.towards)?,
    };
    let poll_mode = poll_mode(options, wish);
    let engine = builder(options, &name, poll_mode, wish).start()?;
    let workers = engine.handle().metrics().workers.len();
    let mode = mode_of(&engine.handle(), poll_mode, workers);
    Ok(Started { engine, mode, interface: name })
}

/// The command line's, else the file's, else the command's own.
pub(crate) fn poll_mode(options: &EngineArgs, wish: &Wish<'_>) -> args::PollMode {
    let of_the_file = wish.settings.poll_mode.map(|mode| match mode {
        PollMode::Adaptive => args::PollMode::Adaptive,
        PollMode::Busy => args::PollMode::Busy,
    });
    options.poll_mode.or(of_the_file).unwrap_or(wish.poll_mode)
}

/// The interface of the command line or of the file, if either names one.
fn named_interface<'s>(options: &'s EngineArgs, settings: &'s Settings) -> Result<Option<&'s str>, Refusal> {
    let of_the_file = settings.interface.as_ref().map(Interface::name);
    match (options.interface.as_deref(), of_the_file) {
        (Some(named), Some(of_the_file)) if named != of_the_file => Err(Refusal::new(
            Exit::Usage,
            format_args!("-i names {named}, the configuration {of_the_file}"),
            "leave -i out, or name a configuration for that interface",
        )),
        (named, of_the_file) => Ok(named.or(of_the_file)),
    }
}

fn builder(options: &EngineArgs, name: &str, poll_mode: args::PollMode, wish: &Wish<'_>) -> EngineBuilder {
    let base = wish.settings.interface.clone().unwrap_or_else(|| Interface::new(name));
    let mut builder = wish.settings.clone().apply(Engine::builder());
    builder = builder.interface(interface(options, base)).poll_mode(match poll_mode {
        args::PollMode::Adaptive => PollMode::Adaptive,
        args::PollMode::Busy => PollMode::Busy,
    });
    if let Some(backend) = options.backend {
        builder = builder.backend(backend);
    }
    if let Some(workers) = wish.workers {
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

/// The command line's words over those of the file.
fn interface(options: &EngineArgs, mut interface: Interface) -> Interface {
    if let Some(mode) = options.attach_mode {
        interface = interface.attach_mode(match mode {
            args::AttachMode::Auto => AttachMode::Auto,
            args::AttachMode::Native => AttachMode::Native,
            args::AttachMode::Generic => AttachMode::Generic,
        });
    }
    if let Some(mode) = options.bind_mode {
        interface = interface.bind_mode(match mode {
            args::BindMode::Auto => BindMode::Auto,
            args::BindMode::ZeroCopy => BindMode::ZeroCopy,
            args::BindMode::Copy => BindMode::Copy,
        });
    }
    if let Some(need_wakeup) = options.need_wakeup {
        interface = interface.need_wakeup(match need_wakeup {
            args::NeedWakeup::On => NeedWakeup::On,
            args::NeedWakeup::Off => NeedWakeup::Off,
        });
    }
    if let Some(busy_poll) = options.busy_poll {
        interface = interface.busy_poll(match busy_poll {
            args::BusyPoll::Off => BusyPoll::Off,
            args::BusyPoll::Preferred => BusyPoll::Preferred,
        });
    }
    if let Some(verify) = options.verify_checksum {
        interface = interface.verify_checksum(match verify {
            args::VerifyChecksum::Always => VerifyChecksum::Always,
            args::VerifyChecksum::PartialOk => VerifyChecksum::PartialOk,
        });
    }
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
