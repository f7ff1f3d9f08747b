//! Loss on a direct cable: two classifiers that share one map per direction.
//!
//! The sender's egress judges every packet that the sender's kernel sends and marks it as judged; the receiver's ingress
//! judges what came without the mark, which is what an AF_XDP socket sent past tc. Either way a packet is judged exactly
//! once, by its number in that direction, so one seed always loses the same packet numbers.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use crate::impair::{Counters, Impairment};
use crate::link::End;
use crate::netlink::Hook;
use crate::program::{self, Word};
use crate::sys::{self, Cell};

/// The programs and the map of one direction of a link.
#[derive(Debug)]
pub(crate) struct Injector {
    words: Cell<{ Word::COUNT }>,
}

impl Injector {
    pub(crate) fn attach(from: &End, to: &End, impairment: Impairment) -> io::Result<Injector> {
        let words = Cell::new()?;
        words.store(&words_of(impairment))?;
        let map_fd = words.as_fd().as_raw_fd();
        let egress = sys::load_classifier("ringwire_egress", &program::egress(map_fd))?;
        let ingress = sys::load_classifier("ringwire_ingress", &program::ingress(map_fd))?;
        // The receiver first: a packet is never judged twice, and both places judge alike.
        hook(to, Hook::Ingress, &ingress)?;
        hook(from, Hook::Egress, &egress)?;
        Ok(Injector { words })
    }

    pub(crate) fn set(&self, impairment: Impairment) -> io::Result<()> {
        self.words.store(&words_of(impairment))
    }

    pub(crate) fn counters(&self) -> io::Result<Counters> {
        let words = self.words.load()?;
        let (passed, dropped) = (words[Word::Passed as usize], words[Word::Dropped as usize]);
        Ok(Counters { received: passed + dropped, passed, dropped, lost: dropped, ..Counters::default() })
    }
}

fn hook(end: &End, hook: Hook, program: &OwnedFd) -> io::Result<()> {
    end.node.route(|route| {
        match route.add_clsact(end.ifindex) {
            // The other direction, or an attempt that failed later, put it there.
            Err(cause) if cause.raw_os_error() == Some(libc::EEXIST) => {}
            other => other?,
        }
        route.add_classifier(end.ifindex, hook, program.as_fd(), "ringwire-lab")
    })
}

fn words_of(impairment: Impairment) -> [u64; Word::COUNT] {
    let mut words = [0; Word::COUNT];
    words[Word::Seed as usize] = impairment.seed;
    words[Word::Threshold as usize] = impairment.loss_threshold();
    words
}
