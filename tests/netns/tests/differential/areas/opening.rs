//! SYNs that offer odd things, and what becomes of handshakes.

use ringwire_lab::tcp_options as options;

use crate::frames::{TCP, put};
use crate::odd::Before::{HalfOpen, Listener, Offer};
use crate::odd::{Odd, mended, odd};

pub(crate) fn odds() -> Vec<Odd> {
    offers().into_iter().chain(to_a_listener()).chain(to_a_half_open_one()).collect()
}

/// What the length of the first text shows.
fn offers() -> Vec<Odd> {
    vec![
        odd(Offer, "MSS missing", "S"),
        odd(Offer, "MSS 0", "S").options(&options::mss(0)),
        odd(Offer, "MSS 1", "S").options(&options::mss(1)),
        odd(Offer, "MSS 47", "S").options(&options::mss(47)),
        odd(Offer, "MSS 48", "S").options(&options::mss(48)),
        odd(Offer, "MSS 49", "S").options(&options::mss(49)),
        odd(Offer, "MSS 536", "S").options(&options::mss(536)),
        odd(Offer, "MSS 1461", "S").options(&options::mss(1461)),
        odd(Offer, "MSS 65535", "S").options(&options::mss(65_535)),
        odd(Offer, "MSS twice", "S").options(&[options::mss(100), options::mss(200)].concat()),
        odd(Offer, "MSS 1 and timestamps", "S")
            .options(&[options::mss(1), options::timestamps(7, 0)].concat()),
        odd(Offer, "an MSS of length 3", "S").options(&[2, 3, 5, 0]),
        odd(Offer, "an MSS of length 6", "S").options(&[2, 6, 5, 180, 0, 0]),
        odd(Offer, "an option of length 0", "S").options(&[2, 0, 5, 180]),
        odd(Offer, "an option of length 1", "S").options(&[2, 1, 5, 180]),
        odd(Offer, "an option behind the end", "S").options(&[1, 1, 2, 40]),
        odd(Offer, "an MSS behind the end of the options", "S").options(&[0, 0, 0, 0, 2, 4, 0, 100]),
        odd(Offer, "a scale of 14", "S").options(&options::window_scale(14)),
        odd(Offer, "a scale of 15", "S").options(&options::window_scale(15)),
        odd(Offer, "a scale of 200", "S").options(&options::window_scale(200)),
        odd(Offer, "a scale of length 4", "S").options(&[3, 4, 7, 0]),
        odd(Offer, "SACK permitted, of length 3", "S").options(&[4, 3, 0, 0]),
        odd(Offer, "SACK permitted", "S").options(&options::sack_permitted()),
        odd(Offer, "blocks of SACK", "S").options(&options::sack(&[(7, 90)])),
        odd(Offer, "timestamps of length 9", "S").options(&[8, 9, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0]),
        odd(Offer, "timestamps with an echo", "S").options(&options::timestamps(7, 77)),
        odd(Offer, "timestamps of 0", "S").options(&options::timestamps(0, 0)),
        odd(Offer, "everything", "S").options(
            &[
                options::mss(1460),
                options::sack_permitted(),
                options::timestamps(7, 0),
                options::window_scale(7),
            ]
            .concat(),
        ),
        odd(Offer, "an unknown option", "S").options(&[250, 4, 1, 2]),
        odd(Offer, "forty bytes of an unknown option", "S")
            .options(&[[250, 40].as_slice(), &[7; 38]].concat()),
        odd(Offer, "forty bytes of no operation", "S").options(&[1; 40]),
        odd(Offer, "text", "S").text(10),
        odd(Offer, "PSH URG", "SPU"),
        odd(Offer, "URG, pointer beyond", "SU")
            .text(10)
            .spoilt(|frame| mended(frame, |frame| put(frame, TCP + 18, 500))),
        odd(Offer, "ECE CWR", "SEC"),
        odd(Offer, "ECE", "SE"),
        odd(Offer, "an ACK number", "S").at(0, 77),
    ]
}

fn to_a_listener() -> Vec<Odd> {
    vec![
        odd(Listener, "FIN PSH ACK", "FPA"),
        odd(Listener, "SYN ACK with text", "SA").text(10),
        odd(Listener, "text without ACK", "").text(10),
        odd(Listener, "URG without ACK", "U"),
    ]
}

fn to_a_half_open_one() -> Vec<Odd> {
    vec![
        odd(HalfOpen, "the SYN again", "S").at(-1, 0),
        odd(HalfOpen, "the SYN again, with text", "S").at(-1, 0).text(10),
        odd(HalfOpen, "the SYN again, with FIN", "SF").at(-1, 0),
        odd(HalfOpen, "another SYN behind the window", "S").at(1 << 28, 0),
        odd(HalfOpen, "another SYN far before", "S").at(-5_000, 0),
        odd(HalfOpen, "ACK of nothing", "A").at(0, -1),
        odd(HalfOpen, "ACK of a byte more", "A").at(0, 1),
        odd(HalfOpen, "the SYN ACK of an open that crosses", "SA").at(-1, 0),
        odd(HalfOpen, "RST ACK of nothing", "RA").at(0, -1),
        odd(HalfOpen, "RST ACK from before the window", "RA").at(-10, 0),
        odd(HalfOpen, "FIN with a wrong ACK", "FA").at(0, 77),
        odd(HalfOpen, "text with a wrong ACK", "A").at(0, -77).text(10),
    ]
}
