//! What an engine in memory makes of its configuration: honoured or refused, never ignored.

use ringwire::{
    AttachMode, BindMode, BusyPoll, Engine, EngineBuilder, Interface, NeedWakeup, SetupErrorKind,
};

fn builder(address: &str) -> EngineBuilder {
    Engine::builder().interface(Interface::new("memory").address(address.parse().unwrap()))
}

#[test]
fn a_worker_is_pinned_to_its_core() {
    // The last one that we may use.
    let allowed = rustix::thread::sched_getaffinity(None).unwrap();
    let cpu = (0..1024).rfind(|cpu| allowed.is_set(*cpu)).unwrap();
    let (engine, _other) =
        Engine::memory_pair(builder("10.0.0.1/24").cpus([cpu]), builder("10.0.0.2/24")).unwrap();
    let pinned = engine.run(|_worker| {
        let own = rustix::thread::sched_getaffinity(None).unwrap();
        if own.count() == 1 && own.is_set(cpu) { Ok(()) } else { Err(own.count()) }
    });
    assert_eq!(pinned, Ok(()));
}

#[test]
fn what_memory_does_not_have_is_refused() {
    let netns = std::fs::File::open("/proc/self/ns/net").unwrap();
    let elsewhere = builder("10.0.0.1/24").netns(netns.into());
    let queues = Interface::new("memory").address("10.0.0.1/24".parse().unwrap()).queues([0, 1]);
    let shared_ports = builder("10.0.0.1/24").shared_ports(100);
    let others =
        [elsewhere, Engine::builder().interface(queues), builder("10.0.0.1/24").workers(2), shared_ports];
    let drivers = driver_options("10.0.0.1/24").map(|interface| Engine::builder().interface(interface));
    for refused in others.into_iter().chain(drivers) {
        let error = Engine::memory_pair(refused, builder("10.0.0.2/24")).unwrap_err();
        assert_eq!(error.kind, SetupErrorKind::Config);
    }
}

/// Each asks for what only a driver under XDP has.
fn driver_options(address: &str) -> [Interface; 5] {
    let interface = || Interface::new("lo").address(address.parse().unwrap());
    [
        interface().attach_mode(AttachMode::Native),
        interface().attach_mode(AttachMode::Generic),
        interface().bind_mode(BindMode::ZeroCopy),
        interface().need_wakeup(NeedWakeup::Off),
        interface().busy_poll(BusyPoll::Preferred),
    ]
}

/// The other backends, before they touch anything.
#[cfg(all(feature = "xdp", feature = "packet"))]
#[test]
fn what_would_be_without_effect_is_refused() {
    use ringwire::Backend;

    let refusal = |backend, interface, ports: Option<u32>| {
        let builder = Engine::builder().backend(backend).interface(interface);
        let builder = match ports {
            Some(ports) => builder.shared_ports(ports),
            None => builder,
        };
        let error = builder.start().expect_err("refused");
        assert_eq!(error.kind, SetupErrorKind::Config, "{error}");
        error.to_string()
    };
    for interface in driver_options("192.0.2.7/24") {
        let said = refusal(Backend::Packet, interface, None);
        assert!(said.starts_with("the packet backend has no driver"), "{said}");
    }
    let shared = || Interface::new("lo");
    let dedicated = || shared().address("192.0.2.7/24".parse().unwrap());
    let said = refusal(Backend::Xdp, shared().gateway([192, 0, 2, 1].into()), None);
    assert!(said.starts_with("a gateway without an address"), "{said}");
    for backend in [Backend::Xdp, Backend::Packet] {
        let said = refusal(backend, dedicated(), Some(100));
        assert!(said.starts_with("shared_ports"), "{said}");
    }
}
