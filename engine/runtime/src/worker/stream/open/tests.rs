//! An active open whose local port the control thread has to find.

use ringwire_frame::FarEnd;
use ringwire_wire::eth::Mac;

use super::*;
use crate::control_link::{self, News};
use crate::event::{Event, Events};
use crate::wake::Waker;
use crate::worker::net::{Control, NetConfig, Ownership};
use crate::{Engine, Interface};

#[test]
fn an_open_that_gets_no_port_sends_nothing_and_says_so() {
    let interface = Interface::new("memory").address("10.0.0.1/24".parse().unwrap());
    let mut far = FarEnd::new(64, 256);
    let builder = Engine::builder().interface(interface.clone());
    let engine = builder.start_on(|pool| far.attach(pool)).unwrap();
    let mut worker = engine.into_workers().remove(0).start();
    let (link, control_thread) = control_link::pair(Waker::new().unwrap(), Waker::new().unwrap());
    let control = Some(Control { link, kernel_mac: Mac([2, 0, 0, 0, 0, 9]) });
    let own_mac = Mac([2, 0, 10, 0, 0, 1]);
    let shared =
        NetConfig { ownership: Ownership::Shared, control, ..NetConfig::dedicated(&interface, own_mac) };
    let io = &mut worker.core_mut().io;
    io.net = Net::new(shared, io.now, &io.prf);
    let peer_mac = Some(Mac([2, 0, 10, 0, 0, 2]));
    control_thread.tell(News::Neighbour { ip: Ipv4Addr::new(10, 0, 0, 2), mac: peer_mac });
    let conn = worker.connect("10.0.0.2:7".parse().unwrap(), &TcpOptions::default()).unwrap();
    let mut events = Events::with_capacity(8);
    let mut seen: Vec<Event> = Vec::new();
    for news in [None, Some(News::Ports(Vec::new())), None] {
        news.into_iter().for_each(|news| control_thread.tell(news));
        worker.poll(&mut events, Some(core::time::Duration::ZERO)).unwrap();
        seen.extend(events.drain());
    }
    let reason = CloseReason::NoPorts;
    assert_eq!(seen, [Event::Closed { conn, reason }]);
    assert_eq!(reason.errno(), rustix::io::Errno::ADDRNOTAVAIL.raw_os_error());
    far.take(|frame| panic!("{frame:?} has left"));
    assert_eq!(worker.counters().connections, 0);
}

/// Nothing could ever be written below it.
#[test]
fn a_mark_of_no_bytes_is_none() {
    let set = |unsent_low_water_bytes| {
        OptionSet::new(&TcpOptions { unsent_low_water_bytes, ..TcpOptions::default() }, 1460)
    };
    assert_eq!(set(Some(0)), set(None));
    assert_ne!(set(Some(1)), set(None));
}
