//! Opening a connection: RFC 9293 3.5, 3.10.7.1 to 3.10.7.3.

use ringwire::{CloseReason, TcpState};
use ringwire_conformance::{WORKER, ack, bare, data, fin, rst, rst_ack, script, syn, syn_ack};
use ringwire_wire::tcp::Flags;

#[test]
fn rfc9293_3_5_three_way_handshake_passive() {
    script(|s| {
        s.listen();
        s.inject(s.peer_syn());
        s.expect_only(syn_ack().seq(0).ack(1).len(0));
        s.expect_no_accept();
        s.inject(ack().seq(1).ack(1));
        s.accept();
        s.expect_nothing_for(300);
    });
}

#[test]
fn rfc9293_3_5_three_way_handshake_active() {
    script(|s| {
        s.connect();
        s.expect_only(syn().seq(0).len(0));
        s.inject(s.peer_syn_ack().ack(1));
        s.expect_only(ack().seq(1).ack(1));
        s.expect_connected();
        s.expect_nothing_for(300);
    });
}

/// MUST-10: SYNs cross, each side answers SYN-ACK, one connection results.
#[test]
fn rfc9293_3_5_simultaneous_open() {
    script(|s| {
        s.reach(TcpState::SynSent);
        s.inject(s.peer_syn());
        s.expect_only(syn_ack().seq(0).ack(1));
        s.expect_state(TcpState::SynReceived);
        s.inject(s.peer_syn_ack().seq(0).ack(1));
        s.ignore_sent();
        s.expect_connected();
        s.peer_next(1);
        s.expect_alive();
    });
}

/// The crossing SYNs may be followed by a bare ACK of ours.
#[test]
fn rfc9293_3_5_simultaneous_open_completed_by_an_ack() {
    script(|s| {
        s.reach(TcpState::SynSent);
        s.inject(s.peer_syn());
        s.expect_only(syn_ack().seq(0).ack(1));
        s.inject(ack().seq(1).ack(1));
        s.expect_connected();
        s.expect_alive();
    });
}

/// MUST-11: SYN-RECEIVED of an active open that is reset is refused, not returned to LISTEN.
#[test]
fn rfc9293_3_10_7_4_rst_after_simultaneous_open_is_a_refusal() {
    script(|s| {
        s.reach(TcpState::SynSent);
        s.inject(s.peer_syn());
        s.expect_only(syn_ack().seq(0).ack(1));
        s.inject(rst().seq(1));
        s.expect_closed(CloseReason::Refused);
    });
}

#[test]
fn rfc9293_3_10_7_1_ack_to_a_closed_port() {
    script(|s| {
        s.inject(ack().seq(5).ack(77));
        s.expect_only(rst().seq(77).len(0));
    });
}

#[test]
fn rfc9293_3_10_7_1_syn_to_a_closed_port() {
    script(|s| {
        s.inject(syn());
        s.expect_only(rst_ack().seq(0).ack(1));
    });
}

/// The RST acknowledges everything the segment takes up: SYN, text and FIN.
#[test]
fn rfc9293_3_10_7_1_syn_with_text_and_fin_to_a_closed_port() {
    script(|s| {
        s.inject(bare(Flags::SYN | Flags::FIN).text("abc"));
        s.expect_only(rst_ack().seq(0).ack(5));
    });
}

#[test]
fn rfc9293_3_10_7_1_rst_to_a_closed_port_is_never_answered() {
    script(|s| {
        s.inject(rst().seq(5));
        s.inject(rst_ack().seq(5).ack(5));
        s.inject(bare(Flags::RST | Flags::SYN).seq(5));
        s.expect_nothing_for(10);
    });
}

#[test]
fn rfc9293_3_10_7_1_null_segment_to_a_closed_port() {
    script(|s| {
        s.inject(bare(Flags::NONE).seq(9).text("x"));
        s.expect_only(rst_ack().seq(0).ack(10));
    });
}

#[test]
fn rfc9293_3_10_7_1_fin_to_a_closed_port() {
    script(|s| {
        s.inject(fin().seq(9).ack(12));
        s.expect_only(rst().seq(12));
    });
}

#[test]
fn rfc9293_3_10_7_2_rst_to_a_listener_is_ignored() {
    script(|s| {
        s.listen();
        s.inject(rst().seq(1));
        s.inject(rst_ack().seq(1).ack(1));
        s.inject(bare(Flags::SYN | Flags::RST));
        s.expect_nothing();
        assert_eq!(s.connections(), 0);
    });
}

#[test]
fn rfc9293_3_10_7_2_ack_to_a_listener_is_reset() {
    script(|s| {
        s.listen();
        s.inject(ack().seq(1).ack(99));
        s.expect_only(rst().seq(99));
        s.inject(data("x").seq(1).ack(98));
        s.expect_only(rst().seq(98));
    });
}

#[test]
fn rfc9293_3_10_7_2_syn_ack_to_a_listener_is_reset() {
    script(|s| {
        s.listen();
        s.inject(syn_ack().seq(1).ack(99));
        s.expect_only(rst().seq(99));
        assert_eq!(s.connections(), 0);
    });
}

/// Neither SYN, ACK nor RST: dropped without an answer.
#[test]
fn rfc9293_3_10_7_2_anything_else_to_a_listener_is_dropped() {
    script(|s| {
        s.listen();
        s.inject(bare(Flags::NONE).seq(1).text("x"));
        s.inject(bare(Flags::FIN).seq(1));
        s.inject(bare(Flags::FIN | Flags::PSH | Flags::URG).seq(1));
        s.expect_nothing();
        assert_eq!(s.connections(), 0);
    });
}

/// Text in a SYN is legal: kept or asked for again, never a reason to fail.
#[test]
fn rfc9293_3_10_7_2_syn_with_text_opens() {
    script(|s| {
        s.listen();
        s.inject(s.peer_syn().text("early"));
        let answer = s.expect_only(syn_ack());
        s.inject(ack().seq(answer.ack).ack(1));
        s.accept();
        s.inject(data("early").seq(1).ack(1));
        s.ignore_sent();
        s.expect_read("early");
        s.wait(500);
        s.ignore_sent();
    });
}

/// SYN with FIN is treated as a SYN or dropped; the listener lives on.
#[test]
fn rfc9293_3_10_7_2_syn_with_fin_does_no_harm() {
    script(|s| {
        s.listen();
        s.inject(bare(Flags::SYN | Flags::FIN));
        s.ignore_sent();
        s.peer_port += 1;
        s.establish();
        s.expect_alive();
    });
}

#[test]
fn rfc9293_3_10_7_3_wrong_ack_in_syn_sent_is_reset() {
    script(|s| {
        s.reach(TcpState::SynSent);
        for wrong in [0, 2, 0x8000_0000] {
            s.inject(ack().seq(0).ack(wrong));
            s.expect_only(rst().seq(wrong));
            s.inject(syn_ack().seq(0).ack(wrong));
            s.expect_only(rst().seq(wrong));
        }
        s.expect_state(TcpState::SynSent);
    });
}

#[test]
fn rfc9293_3_10_7_3_rst_with_a_wrong_ack_in_syn_sent_is_dropped() {
    script(|s| {
        s.reach(TcpState::SynSent);
        s.inject(rst_ack().seq(0).ack(0));
        s.inject(rst_ack().seq(0).ack(2));
        s.expect_nothing();
        s.expect_state(TcpState::SynSent);
    });
}

#[test]
fn rfc9293_3_10_7_3_rst_without_ack_in_syn_sent_is_dropped() {
    script(|s| {
        s.reach(TcpState::SynSent);
        s.inject(rst().seq(0));
        s.expect_nothing();
        s.expect_state(TcpState::SynSent);
    });
}

#[test]
fn rfc9293_3_10_7_3_rst_with_the_right_ack_refuses() {
    script(|s| {
        s.reach(TcpState::SynSent);
        s.inject(rst_ack().seq(0).ack(1));
        s.expect_nothing();
        s.expect_closed(CloseReason::Refused);
        assert_eq!(s.connections(), 0);
    });
}

#[test]
fn rfc9293_3_10_7_3_ack_without_syn_in_syn_sent_is_dropped() {
    script(|s| {
        s.reach(TcpState::SynSent);
        s.inject(ack().seq(0).ack(1));
        s.inject(data("x").seq(0).ack(1));
        s.inject(bare(Flags::NONE).seq(0));
        s.expect_nothing();
        s.expect_state(TcpState::SynSent);
    });
}

/// Text in the SYN-ACK is delivered after the handshake.
#[test]
fn rfc9293_3_10_7_3_syn_ack_with_text() {
    script(|s| {
        s.reach(TcpState::SynSent);
        s.inject(s.peer_syn_ack().ack(1).text("banner"));
        s.expect_only(ack().seq(1).ack(7));
        s.expect_connected();
        s.expect_read("banner");
        // The same again: our ACK was lost.
        s.wait(1000);
        s.inject(s.peer_syn_ack().seq(0).ack(1).text("banner"));
        s.expect_only(ack().seq(1).ack(7));
        s.expect_read("");
    });
}

/// Text that was written before the handshake leaves with or after its last step.
#[test]
fn rfc9293_3_10_2_send_before_established_is_queued() {
    script(|s| {
        s.reach(TcpState::SynSent);
        s.send("early");
        s.expect_nothing();
        s.inject(s.peer_syn_ack());
        let sent = s.take_sent();
        let text: Vec<u8> = sent.iter().flat_map(|segment| segment.text.clone()).collect();
        assert_eq!(text, b"early");
        s.inject(ack());
        s.expect_connected();
    });
}

/// The same SYN again is answered with the same SYN-ACK.
#[test]
fn rfc9293_3_10_7_4_repeated_syn_gets_the_syn_ack_again() {
    script(|s| {
        s.listen();
        s.inject(s.peer_syn());
        s.expect_only(syn_ack().seq(0).ack(1));
        let iss = s.worker_iss();
        s.wait(600);
        s.inject(s.peer_syn());
        s.expect_only(syn_ack().seq(0).ack(1));
        assert_eq!(s.worker_iss(), iss);
        s.inject(ack());
        s.accept();
    });
}

/// A SYN-ACK again after the handshake is answered with an ACK: ours was lost.
#[test]
fn rfc9293_3_5_repeated_syn_ack_is_acknowledged() {
    script(|s| {
        s.establish_actively();
        s.inject(s.peer_syn_ack().seq(0).ack(1));
        s.expect_only(ack().seq(1).ack(1));
        s.expect_open();
        s.expect_alive();
    });
}

/// MUST-41, MUST-42: a passive open of the port of an active one that is under way, and both complete.
#[test]
fn rfc9293_3_9_1_passive_open_beside_an_active_one_in_syn_sent() {
    script(|s| {
        s.connect();
        s.expect_only(syn());
        let active = s.conn();
        s.listen();
        // A stranger gets the listener, the peer of the active open that one.
        s.peer_port = 40_000;
        s.inject(s.peer_syn());
        s.expect_only(syn_ack().ack(1));
        s.inject(ack());
        s.accept();
        s.inject(data("passive"));
        s.expect_read("passive");
        s.ignore_sent();
        s.use_conn(active);
        s.peer_port = 7;
        s.inject(s.peer_syn_ack());
        s.expect_only(ack().seq(1).ack(1));
        s.expect_connected();
        s.inject(data("active"));
        s.expect_read("active");
        s.wait(100);
        s.ignore_sent();
    });
}

/// The same with an active open in SYN-RECEIVED, where both sides opened at once.
#[test]
fn rfc9293_3_9_1_passive_open_beside_an_active_one_in_syn_received() {
    script(|s| {
        s.connect();
        s.expect_only(syn());
        let active = s.conn();
        s.inject(s.peer_syn());
        s.expect_only(syn_ack().seq(0).ack(1));
        s.listen();
        s.peer_port = 40_000;
        s.establish();
        s.use_conn(active);
        s.peer_port = 7;
        s.inject(ack().seq(1).ack(1));
        s.expect_connected();
        s.expect_state(TcpState::Established);
    });
}

/// MUST-41, MUST-42: a port may listen anew, or for the first time, beside a connection that it has.
#[test]
fn rfc9293_3_9_1_passive_open_beside_an_established_connection() {
    script(|s| {
        s.establish_actively();
        let active = s.conn();
        let port = std::mem::replace(&mut s.peer_port, 40_000);
        s.establish();
        let first = s.conn();
        s.close_listener();
        s.expect_open();
        s.peer_port = 40_001;
        s.establish();
        for (conn, port) in [(active, port), (first, 40_000), (s.conn(), 40_001)] {
            s.use_conn(conn);
            s.peer_port = port;
            s.expect_alive();
        }
    });
}

/// RFC 9293 3.5: a connect to its own address and port crosses with itself. Nothing of it is on the wire.
#[test]
fn section5_state_self_connect() {
    script(|s| {
        s.with_bystander(|s| {
            s.options.local = Some((WORKER.into(), 81));
            assert_eq!(s.connect_to("10.0.0.1:81"), Ok(()));
            s.expect_connected();
            s.send("who is there?");
            s.expect_read("who is there?");
            s.shutdown_write();
            s.expect_eof();
            s.expect_state(TcpState::TimeWait);
            s.close();
            s.wait(61_000);
            assert_eq!(s.connections(), 1);
            s.expect_nothing();
        });
    });
}

/// The two ends of a connection may be one host's, without a wire between them.
#[test]
fn rfc9293_3_5_three_way_handshake_with_ourselves() {
    script(|s| {
        s.listen();
        s.options.local = None;
        assert_eq!(s.connect_to("10.0.0.1:80"), Ok(()));
        s.expect_connected();
        let client = s.conn();
        s.accept();
        let server = s.conn();
        for (from, to, text) in [(client, server, "question"), (server, client, "answer")] {
            s.use_conn(from);
            s.send(text);
            s.use_conn(to);
            s.expect_read(text);
        }
        // More than may be on the way at once.
        s.use_conn(client);
        let many = vec![7; 400_000];
        let (mut sent, mut read) = (0, 0);
        while read < many.len() {
            s.use_conn(client);
            sent += s.try_send(&many[sent..]).unwrap();
            s.settle();
            s.use_conn(server);
            read += s.read().len();
        }
        assert_eq!((sent, read), (many.len(), many.len()));
        s.expect_nothing();
        assert_eq!(s.info().retransmits, 0);
    });
}

/// RFC 9293 3.10.7.1: as from anybody else.
#[test]
fn rfc9293_3_10_7_1_our_own_syn_to_a_closed_port_is_refused() {
    script(|s| {
        assert_eq!(s.connect_to("10.0.0.1:81"), Ok(()));
        s.expect_closed(CloseReason::Refused);
        s.expect_nothing();
    });
}

/// MUST-41, MUST-42: two listeners' connections and a second SYN of the same peer stay apart.
#[test]
fn rfc9293_3_9_1_connections_of_one_listener_stay_apart() {
    script(|s| {
        s.establish();
        let first = s.conn();
        s.peer_port += 1;
        s.establish();
        s.inject(data("two"));
        s.expect_read("two");
        s.use_conn(first);
        s.expect_read("");
        s.wait(100);
        s.ignore_sent();
    });
}

/// RFC 9293 3.5.1: a half-open connection, whose peer crashed and opens anew, is found out by the challenge ACK and its RST.
#[test]
fn rfc9293_3_5_1_half_open_is_found_out() {
    script(|s| {
        s.establish();
        s.irs = 0x7000_0000;
        s.inject(syn().seq(0x6000_0000));
        let challenge = s.expect_only(ack().seq(1).ack(1));
        s.inject(rst().seq(challenge.ack));
        s.expect_closed(CloseReason::Reset);
        s.establish();
    });
}

/// Closing the listener resets connections that nobody accepted, in SYN-RECEIVED too.
#[test]
fn rfc9293_3_10_4_closed_listener_resets_its_handshakes() {
    script(|s| {
        s.reach(TcpState::SynReceived);
        s.close_listener();
        s.expect_only(bare(Flags::RST | Flags::ACK).seq(1));
        s.inject(ack().seq(1).ack(1));
        s.expect_only(rst().seq(1));
    });
}

/// MUST-46: an OPEN to a group address or port 0 is refused at once.
#[test]
fn rfc9293_3_9_2_3_open_to_a_group_address_is_refused() {
    script(|s| {
        for peer in ["224.0.0.1:7", "255.255.255.255:7", "0.0.0.0:7", "10.0.0.2:0"] {
            let refused = s.connect_to(peer);
            assert!(refused.is_err(), "{peer}");
        }
        s.expect_nothing();
    });
}

/// RFC 6528 3: the initial sequence number differs for each tuple and moves on with the clock, one step in 4 us.
#[test]
fn rfc6528_3_isn_is_a_clock_plus_a_keyed_offset() {
    script(|s| {
        s.establish();
        let first = s.worker_iss();
        s.peer_port += 1;
        s.establish();
        let neighbour = s.worker_iss();
        assert!(neighbour.abs_diff(first) > 100_000, "{first} {neighbour}");
        s.peer_port -= 1;
        s.inject(rst());
        s.wait(1000);
        s.establish();
        let later = s.worker_iss();
        let steps = later.wrapping_sub(first);
        assert!((200_000..600_000).contains(&steps), "{steps} in a second");
    });
}

/// RFC 6056 3.3.3: source ports towards one destination do not simply count up from the bottom, and differ by destination.
#[test]
fn rfc6056_3_3_source_ports_are_obfuscated() {
    script(|s| {
        let ports: Vec<u16> = (1..=8_u16).map(|port| s.source_port_towards(port)).collect();
        assert!(ports.iter().all(|port| *port >= 1024), "{ports:?}");
        let mut near = 0;
        for pair in ports.windows(2) {
            near += u32::from(pair[0].abs_diff(pair[1]) <= 8);
        }
        assert!(near <= 1, "{ports:?}");
    });
}

/// Accepted only when the handshake is complete, in the order of completion.
#[test]
fn rfc9293_3_10_1_accept_follows_the_handshake() {
    script(|s| {
        s.listen();
        s.inject(s.peer_syn().port(5001));
        s.expect(syn_ack().port(5001));
        s.inject(s.peer_syn().port(5002));
        s.expect(syn_ack().port(5002));
        s.inject(ack().port(5002));
        s.accept();
        s.expect_no_accept();
        s.inject(ack().port(5001));
        s.accept();
    });
}
