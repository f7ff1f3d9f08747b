//! Timestamps that go back, stand still, jump or are missing (PAWS).

use ringwire_lab::tcp_options as options;

use crate::odd::Before::{CloseWait, Connection, FinWait1, FinWait2, HalfOpen, LastAck, TimeWait};
use crate::odd::{Before, Clock, Odd, odd};

pub(crate) fn odds() -> Vec<Odd> {
    let states = [HalfOpen, Connection, FinWait1, FinWait2, CloseWait, LastAck, TimeWait];
    states.into_iter().flat_map(of_state).chain([Connection].into_iter().flat_map(unasked)).collect()
}

fn of_state(before: Before) -> Vec<Odd> {
    let kinds = [
        ("ACK", "A", 0),
        ("text", "A", 10),
        ("FIN", "FA", 0),
        ("RST", "R", 0),
        ("SYN", "S", 0),
        ("SYN ACK", "SA", 0),
    ];
    let clocks = [
        ("long ago", Clock::Later(-100_000)),
        ("a little ago", Clock::Later(-1)),
        ("now", Clock::Later(0)),
        ("far ahead", Clock::Later(i32::MAX)),
        ("without a time", Clock::Missing),
    ];
    let mut odds = Vec::new();
    for (kind, flags, len) in kinds {
        for (when, clock) in clocks {
            // A table of few names, made once.
            let name: &'static str = Box::leak(format!("{kind} {when}").into_boxed_str());
            odds.push(odd(before, name, flags).text(len).clock(clock));
        }
    }
    odds.push(
        odd(before, "text ahead of a gap, long ago", "A").at(100, 0).text(10).clock(Clock::Later(-100_000)),
    );
    odds.push(odd(before, "RST in the window, long ago", "R").at(10, 0).clock(Clock::Later(-100_000)));
    odds.push(odd(before, "SYN ahead, later", "S").at(5_000, 0).clock(Clock::Later(1_000)));
    odds.push(odd(before, "SYN from before, later", "S").at(-5_000, 0).clock(Clock::Later(1_000)));
    odds
}

fn unasked(before: Before) -> Vec<Odd> {
    vec![
        odd(before, "text with a time that nobody asked for", "A")
            .options(&options::timestamps(7, 0))
            .text(10),
        odd(before, "text with a time of length 9", "A")
            .options(&[8, 9, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0])
            .text(10),
        odd(before, "FIN with a time that nobody asked for", "FA").options(&options::timestamps(7, 0)),
        odd(before, "RST with a time that nobody asked for", "R").options(&options::timestamps(7, 0)),
    ]
}
