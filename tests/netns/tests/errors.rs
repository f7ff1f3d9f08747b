//! What ICMP says about datagrams, and who hears of it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use ringwire::{Batch, ConnError, Datagram, Event, RxBuf, TxBuf, Udp, UdpOptions, Worker};
use ringwire_netns::{Addressing, App, Scene, Service, eventually, within};

const LIMIT: Duration = Duration::from_secs(60);
/// Nobody has it.
const CLOSED: u16 = 9;

/// Sends one datagram to `to` and says which error came back.
struct Caller {
    socket: Udp,
    received: Batch<Datagram<RxBuf>>,
    errors: Sender<ConnError>,
}

impl Caller {
    fn new(worker: &mut Worker, local: SocketAddr, to: SocketAddr, errors: Sender<ConnError>) -> Caller {
        Caller::with(worker, (local, to), errors, Some(to))
    }

    fn with(
        worker: &mut Worker,
        (local, to): (SocketAddr, SocketAddr),
        errors: Sender<ConnError>,
        peer: Option<SocketAddr>,
    ) -> Caller {
        let mut options = UdpOptions::default();
        options.peer = peer;
        let socket = worker.bind_udp(local, &options).expect("the port is free");
        let mut payload = worker.tx_buf().expect("a frame");
        payload.put(b"anybody?");
        let mut batch: Batch<Datagram<TxBuf>> = Batch::with_capacity(1);
        let datagram = Datagram { peer: to, local: None, tos: 0, ttl: 0, payload };
        assert!(batch.push(datagram).is_ok());
        assert_eq!(worker.send_batch(socket, &mut batch), Ok(1));
        Caller { socket, received: Batch::with_capacity(4), errors }
    }
}

impl App for Caller {
    fn on_event(&mut self, worker: &mut Worker, event: Event) {
        if matches!(event, Event::Datagrams(_))
            && let Err(error) = worker.recv_batch(self.socket, &mut self.received)
        {
            self.errors.send(error).expect("the test listens");
            assert_eq!(worker.recv_batch(self.socket, &mut self.received), Ok(0), "it is said once");
        }
    }
}

fn call(scene: &Scene, to: IpAddr) -> (Service, Receiver<ConnError>) {
    let (local, (errors, said)) = (scene.at(7), channel());
    let to = SocketAddr::new(to, CLOSED);
    let service =
        Service::start(scene.engine(), move |worker| Caller::new(worker, local, to, errors.clone()));
    (service, said)
}

#[test]
fn a_connected_socket_hears_that_nobody_listens() {
    within(LIMIT, || {
        for addressing in Addressing::BOTH {
            let scene = Scene::new(addressing);
            let (service, said) = call(&scene, scene.peer_ip());
            let error = said.recv_timeout(Duration::from_secs(5));
            let error = error.unwrap_or_else(|_| panic!("{addressing:?}\n{}", service.handle().metrics()));
            assert_eq!(error, ConnError::Refused, "{addressing:?}");
            let books = service.finish();
            books.assert_balanced(&[]);
            assert_eq!(books.metrics.sum(|worker| worker.datagram_errors), 0);
        }
    });
}

/// The error comes over `lo`, where XDP does not see it.
#[test]
fn a_connected_socket_hears_that_nobody_listens_on_its_own_host() {
    within(LIMIT, || {
        let scene = Scene::new(Addressing::Shared).may_be_empty();
        for to in [scene.ip(), Ipv4Addr::LOCALHOST.into()] {
            let (service, said) = call(&scene, to);
            let error = said.recv_timeout(Duration::from_secs(5));
            let error = error.unwrap_or_else(|_| panic!("{to}\n{}", service.handle().metrics()));
            assert_eq!(error, ConnError::Refused, "{to}");
            service.finish().assert_balanced(&[]);
        }
    });
}

#[test]
fn errors_about_a_socket_without_a_peer_are_counted() {
    within(LIMIT, || {
        for addressing in Addressing::BOTH {
            let scene = Scene::new(addressing);
            let ((errors, said), ends) = (channel(), (scene.at(7), SocketAddr::new(scene.peer_ip(), CLOSED)));
            let service = Service::start(scene.engine(), move |worker| {
                Caller::with(worker, ends, errors.clone(), None)
            });
            let count = || service.handle().metrics().sum(|worker| worker.datagram_errors);
            assert!(eventually(Duration::from_secs(5), || count() == 1), "{addressing:?}");
            service.finish().assert_balanced(&[]);
            assert!(said.try_recv().is_err());
        }
    });
}
