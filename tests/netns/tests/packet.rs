//! The engine over AF_PACKET: no BPF, so it works in a user namespace too.

use std::process::Command;
use std::sync::mpsc::channel;
use std::time::Duration;

use ringwire::{Backend, DropReason, SetupErrorKind};
use ringwire_lab::{LinkBuilder, Offloads};
use ringwire_netns::{
    Addressing, Closing, Echo, Ended, Pattern, Scene, Script, Service, Transfers, kernel, options, within,
};

const LIMIT: Duration = Duration::from_secs(60);
/// What a kernel says on its own when a link comes up, and what it says to addresses that are not the engine's, is filtered;
/// its own questions by broadcast are not.
const NOISE: [DropReason; 1] = [DropReason::ArpNotForUs];

fn engine(scene: &Scene) -> ringwire::Engine {
    scene.builder().backend(Backend::Packet).start().expect("the engine starts")
}

fn scene(shape: impl FnOnce(LinkBuilder<'_>) -> LinkBuilder<'_>) -> Scene {
    Scene::shaped(Addressing::Dedicated, shape)
}

fn tcp_echo_carries(scene: &Scene, pattern: &Pattern) {
    let addr = scene.at(7);
    let service = Service::start(engine(scene), move |worker| Echo::tcp(worker, addr, &options()));
    assert_eq!(service.handle().mode()[0].attach, "packet");
    let stream = kernel::connect(&scene.peer, scene.at(7))
        .unwrap_or_else(|error| panic!("{error}\n{}", service.handle().metrics()));
    let echoed = kernel::exchange(&stream, pattern).expect("an exchange");
    assert_eq!(echoed, pattern.digest());
    drop(stream);
    let books = service.finish();
    books.assert_balanced(&NOISE);
    assert!(books.metrics.sum(|worker| worker.accepted) == 1, "{}", books.metrics);
}

#[test]
fn tcp_echo_with_the_kernel() {
    within(LIMIT, || tcp_echo_carries(&scene(|link| link), &Pattern::new(1, 3 << 20)));
}

#[test]
fn checksums_that_no_device_finished_are_finished() {
    within(LIMIT, || {
        tcp_echo_carries(&scene(|link| link.offloads(Offloads::On).mtu(1500)), &Pattern::new(2, 1 << 20));
    });
}

#[test]
fn packets_longer_than_a_frame() {
    within(LIMIT, || {
        let scene = scene(|link| link.mtu(9000));
        tcp_echo_carries(&scene, &Pattern::new(3, 2 << 20));
        let addr = scene.at(7);
        let service = Service::start(engine(&scene), move |worker| Echo::udp(worker, addr));
        assert!(scene.ping(3, 7000).contains(" 0% packet loss"));
        service.finish().assert_balanced(&NOISE);
    });
}

#[test]
fn active_open_towards_the_kernel() {
    within(LIMIT, || {
        let scene = scene(|link| link);
        let (listener, to) = kernel::listen(&scene.peer, scene.peer_ip());
        let (ended, ends) = channel::<Ended>();
        let script = Script::new(Pattern::new(4, 1 << 20), Closing::First);
        let service = Service::start(engine(&scene), move |worker| {
            Transfers::opening(worker, to, &options(), vec![script.clone()], ended.clone())
        });
        let accepted = kernel::accept(&listener).expect("a connection");
        let received = kernel::receive(&accepted, u64::MAX).expect("all of it");
        assert_eq!(received, Pattern::new(4, 1 << 20).digest());
        drop(accepted);
        ends.recv_timeout(Duration::from_secs(20)).expect("the connection ends");
        service.finish().assert_balanced(&NOISE);
    });
}

#[test]
fn udp_echo_and_ping() {
    within(LIMIT, || {
        let scene = scene(|link| link);
        let addr = scene.at(7);
        let service = Service::start(engine(&scene), move |worker| Echo::udp(worker, addr));
        let socket = kernel::udp(&scene.peer, scene.peer_ip(), scene.at(7));
        for number in 0..2000_u32 {
            socket.send(&number.to_be_bytes()).expect("a send");
            let mut back = [0; 4];
            assert_eq!(socket.recv(&mut back).expect("an echo"), 4);
            assert_eq!(back, number.to_be_bytes());
        }
        assert!(scene.ping(5, 56).contains(" 0% packet loss"));
        service.finish().assert_balanced(&NOISE);
    });
}

#[test]
fn refusals_say_what_to_do() {
    let shared = Scene::new(Addressing::Shared).may_be_empty();
    let error = shared.builder().backend(Backend::Packet).start().unwrap_err();
    assert_eq!(error.kind, SetupErrorKind::Config);
    assert_eq!(
        error.to_string(),
        "the packet backend has no address: the kernel answers for the interface's own\n\
         hint: give the engine an address that the kernel does not have, such as --address 10.0.0.50/24"
    );
    let dedicated = Scene::new(Addressing::Dedicated).may_be_empty();
    let error = dedicated.builder().backend(Backend::Packet).workers(2).start().unwrap_err();
    assert!(error.to_string().starts_with("the packet backend serves one worker"), "{error}");
}

/// The other tests of this file, as a user without any privilege would run them.
#[test]
fn all_of_it_works_in_a_user_namespace() {
    const INSIDE: &str = "RINGWIRE_TEST_INSIDE";
    if std::env::var_os(INSIDE).is_some() {
        return;
    }
    let this = std::env::current_exe().expect("a test binary");
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net"])
        .arg(this)
        .env(INSIDE, "1")
        .output()
        .expect("unshare is installed");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("7 passed"), "{said}");
}
