//! What an engine in memory makes of its configuration: honoured or refused, never ignored.

use ringwire::{Engine, EngineBuilder, Interface, SetupErrorKind};

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
    for refused in [elsewhere, Engine::builder().interface(queues), builder("10.0.0.1/24").workers(2)] {
        let error = Engine::memory_pair(refused, builder("10.0.0.2/24")).unwrap_err();
        assert_eq!(error.kind, SetupErrorKind::Config);
    }
}
