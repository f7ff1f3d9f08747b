use crate::buffer::TxBuf;
use crate::event::{Event, Events};
use crate::heap::Heap;
use crate::{Engine, Interface, TcpOptions, Worker};

use super::*;

fn started(address: &str) -> crate::EngineBuilder {
    Engine::builder().interface(Interface::new("memory").address(address.parse().unwrap()))
}

/// Three turns of each.
fn turns(server: &mut Worker, client: &mut Worker) -> Vec<Event> {
    let mut events = Events::with_capacity(16);
    let mut seen = Vec::new();
    for _ in 0..3 {
        server.poll(&mut events, Some(Duration::ZERO)).unwrap();
        events.drain().for_each(drop);
        client.poll(&mut events, Some(Duration::ZERO)).unwrap();
        seen.extend(events.drain());
    }
    seen
}

/// Frames are of no use to what is longer than one: it waits for the heap, and nobody is woken in vain.
#[test]
fn a_piece_longer_than_a_frame_waits_for_the_heap() {
    let (server, client) = Engine::memory_pair(started("10.0.0.1/24"), started("10.0.0.2/24")).unwrap();
    let [mut server, mut client] = [server, client].map(|engine| engine.into_workers().remove(0).start());
    server.listen("10.0.0.1:7".parse().unwrap(), &TcpOptions::default()).unwrap();
    let conn = client.connect("10.0.0.1:7".parse().unwrap(), &TcpOptions::default()).unwrap();
    let is_connected = |event: &Event| matches!(event, Event::Connected(_));
    assert!((0..100).any(|_| turns(&mut server, &mut client).iter().any(is_connected)));
    let long = |len: usize| {
        let mut buf = TxBuf::long(len);
        buf.advance(len);
        buf
    };
    let heap = Heap::new(64_000);
    let share = heap.take(62_000).unwrap();
    client.core_mut().io.heap = heap;
    assert!(client.send_buf(conn, long(4000)).is_err_and(|unsent| unsent.error.is_none()));
    let is_told = |event: &Event| matches!(event, Event::Writable(_));
    assert!(client.tx_buf().is_some(), "there are frames");
    assert!(!(0..5).any(|_| turns(&mut server, &mut client).iter().any(is_told)));
    drop(share);
    assert_eq!(turns(&mut server, &mut client).iter().filter(|event| is_told(event)).count(), 1);
    client.send_buf(conn, long(4000)).unwrap();
}
