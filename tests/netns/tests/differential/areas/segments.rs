//! Every combination of flags, place and text that matters, in every state.

use ringwire_lab::tcp_options as options;

use crate::frames::{TCP, put};
use crate::odd::{Before, Odd, mended, odd};

pub(crate) fn odds() -> Vec<Odd> {
    let unsynchronised = [Before::Nothing, Before::Listener, Before::HalfOpen].into_iter();
    let everywhere = unsynchronised.chain(Before::SYNCHRONISED);
    let connected = [Before::HalfOpen].into_iter().chain(Before::SYNCHRONISED);
    let with_text = connected.clone().flat_map(text);
    everywhere
        .flat_map(flags)
        .chain(connected.clone().flat_map(places))
        .chain(with_text)
        .chain(connected.flat_map(urgent))
        .collect()
}

fn flags(before: Before) -> Vec<Odd> {
    vec![
        odd(before, "no flags", ""),
        odd(before, "all of FIN PSH URG", "FPU"),
        odd(before, "SYN FIN", "SF"),
        odd(before, "SYN RST", "SR"),
        odd(before, "SYN FIN ACK", "SFA"),
        odd(before, "a lone FIN", "F"),
        odd(before, "a lone RST", "R"),
        odd(before, "RST ACK", "RA"),
        odd(before, "RST with text", "RA").text(10),
        odd(before, "every flag", "FSRPAU"),
        odd(before, "SYN", "S"),
        odd(before, "SYN ACK", "SA"),
        odd(before, "ACK", "A"),
        odd(before, "ACK with text", "A").text(10),
        odd(before, "FIN ACK", "FA"),
        odd(before, "FIN ACK with text", "FA").text(10),
    ]
}

fn places(before: Before) -> Vec<Odd> {
    vec![
        odd(before, "RST in the window", "R").at(10, 0),
        odd(before, "RST before the window", "R").at(-10, 0),
        odd(before, "RST one before the window", "R").at(-1, 0),
        odd(before, "RST far away", "R").at(1 << 30, 0),
        odd(before, "SYN in the window", "S").at(10, 0),
        odd(before, "SYN before the window", "S").at(-1, 0),
        odd(before, "SYN far away", "S").at(1 << 30, 0),
        odd(before, "SYN ACK before the window", "SA").at(-1, 0),
        odd(before, "ACK of the future", "A").at(0, 1000),
        odd(before, "ACK of one before", "A").at(0, -1),
        odd(before, "an old ACK", "A").at(0, -(1 << 30)),
        odd(before, "ACK from before the window", "A").at(-10, 0),
        odd(before, "ACK from behind the window", "A").at(1 << 28, 0),
        odd(before, "FIN ahead of a gap", "FA").at(100, 0),
        odd(before, "FIN from before the window", "FA").at(-10, 0),
        odd(before, "FIN behind the window", "FA").at(1 << 28, 0),
        odd(before, "FIN with an ACK of the future", "FA").at(0, 1000),
        odd(before, "a keepalive without text", "A").at(-1, 0),
        odd(before, "a keepalive with a byte", "A").at(-1, 0).text(1),
    ]
}

fn text(before: Before) -> Vec<Odd> {
    vec![
        odd(before, "text with an ACK of the future", "A").at(0, 1000).text(10),
        odd(before, "text with an old ACK", "A").at(0, -(1 << 30)).text(10),
        odd(before, "text without ACK", "").text(10),
        odd(before, "text behind the window", "A").at(1 << 28, 0).text(10),
        odd(before, "old text", "A").at(-10, 0).text(10),
        odd(before, "text half old", "A").at(-5, 0).text(10),
        odd(before, "text ahead of a gap", "A").at(100, 0).text(10),
        odd(before, "an option of length 0", "A").options(&[8, 0, 0, 0]).text(10),
        odd(before, "an option of length 1", "A").options(&[8, 1, 0, 0]).text(10),
        odd(before, "an option behind the end", "A").options(&[1, 1, 5, 34]).text(10),
        odd(before, "SACK of nothing", "A").options(&options::sack(&[(7, 7)])),
        odd(before, "SACK backwards", "A").options(&options::sack(&[(900, 7)])),
        odd(before, "SACK of a wrong length", "A").options(&[5, 9, 0, 0, 0, 0, 0, 0, 0]).text(10),
        odd(before, "options of a SYN", "A").options(&options::mss(100)).text(10),
        odd(before, "forty bytes of options", "A").options(&[1; 40]).text(10),
    ]
}

fn urgent(before: Before) -> Vec<Odd> {
    vec![
        odd(before, "URG without text", "UA"),
        odd(before, "URG with text, pointer 0", "UA").text(10),
        odd(before, "URG with text, pointer 1", "UA").text(10).spoilt(|frame| point(frame, 1)),
        odd(before, "URG with text, pointer to its end", "UA").text(10).spoilt(|frame| point(frame, 10)),
        odd(before, "URG with text, pointer beyond", "UA").text(10).spoilt(|frame| point(frame, 500)),
        odd(before, "URG with text, pointer as far as it goes", "UA")
            .text(10)
            .spoilt(|frame| point(frame, 0xffff)),
        odd(before, "URG without text, pointer beyond", "UA").spoilt(|frame| point(frame, 500)),
        odd(before, "URG with FIN, pointer beyond", "UFA").spoilt(|frame| point(frame, 500)),
        odd(before, "URG with RST", "URA").spoilt(|frame| point(frame, 5)),
        odd(before, "a pointer without URG", "A").text(10).spoilt(|frame| point(frame, 5)),
    ]
}

fn point(frame: &mut [u8], to: u16) {
    mended(frame, |frame| put(frame, TCP + 18, to));
}
