//! The list of out-of-order pieces against a model of one byte each.

use std::collections::BTreeMap;
use std::vec::Vec;

use super::host::Bytes;
use super::net::Rng;
use crate::SeqNum;
use crate::tcp::Payload;
use crate::tcp::reassembly::{Reassembly, Stored};

/// What is stored at which offset; the rule, byte by byte: the first gap of a piece is filled.
#[derive(Default)]
struct Model {
    bytes: BTreeMap<u32, u8>,
}

impl Model {
    fn store(&mut self, at: u32, text: &[u8]) -> usize {
        let held = |model: &Self, n: usize| model.bytes.contains_key(&(at + n as u32));
        let Some(start) = (0..text.len()).find(|&n| !held(self, n)) else { return 0 };
        let end = (start..text.len()).find(|&n| held(self, n)).unwrap_or(text.len());
        self.bytes.extend((start..end).map(|n| (at + n as u32, text[n])));
        end - start
    }

    fn take(&mut self, from: u32) -> Vec<u8> {
        (from..).map_while(|at| self.bytes.remove(&at)).collect()
    }
}

fn drain(list: &mut Reassembly<Bytes>, base: SeqNum, from: u32) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(piece) = list.pop_in_order(base + from + all.len() as u32) {
        assert!(!piece.is_empty());
        all.extend_from_slice(piece.bytes());
    }
    all
}

#[test]
fn any_order_and_overlap_agrees_with_the_model() {
    for seed in 0..5000 {
        let mut rng = Rng(seed);
        // Half of them across the wrap.
        let base = SeqNum(if rng.chance(500) { u32::MAX - rng.below(100) as u32 } else { rng.next() as u32 });
        let (mut list, mut model, mut next) = (Reassembly::new(), Model::default(), 0);
        for _ in 0..rng.below(60) {
            let at = next + rng.below(120) as u32;
            let text: Vec<u8> = (0..1 + rng.below(40)).map(|_| rng.next() as u8).collect();
            let kept = model.store(at, &text);
            let stored = list.store(base + at, Bytes::new(&text), usize::MAX);
            assert_eq!(stored == Stored::Kept, kept > 0, "seed {seed}");
            assert_eq!(list.first(), model.bytes.keys().next().map(|&at| base + at), "seed {seed}");
            if rng.chance(300) {
                let got = drain(&mut list, base, next);
                assert_eq!(got, model.take(next), "seed {seed}");
                next += got.len() as u32;
            }
        }
        while let Some((&at, _)) = model.bytes.iter().next() {
            assert_eq!(drain(&mut list, base, at), model.take(at), "seed {seed}");
        }
        assert!(list.is_empty(), "seed {seed}");
    }
}

#[test]
fn a_full_list_never_grows_and_keeps_what_comes_first() {
    let mut rng = Rng(7);
    let mut list = Reassembly::new();
    let mut lowest = u32::MAX;
    for _ in 0..1000 {
        let at = rng.below(100_000) as u32 * 2;
        let stored = list.store(SeqNum(at), Bytes::new(b"x"), 8);
        assert!(list.segs() <= 8);
        if stored != Stored::Full {
            lowest = lowest.min(at);
        }
        assert_eq!(list.first(), Some(SeqNum(lowest)));
    }
}

#[test]
fn a_stale_piece_is_skipped_when_the_stream_has_passed_it() {
    let mut list = Reassembly::new();
    assert_eq!(list.store(SeqNum(10), Bytes::new(b"abc"), 8), Stored::Kept);
    assert_eq!(list.store(SeqNum(20), Bytes::new(b"def"), 8), Stored::Kept);
    let rest = list.pop_in_order(SeqNum(21)).expect("the second, cut");
    assert_eq!(rest.bytes(), b"ef");
    assert!(list.is_empty());
    assert_eq!(list.store(SeqNum(30), Bytes::new(b"gh"), 8), Stored::Kept);
    assert!(list.pop_in_order(SeqNum(32)).is_none(), "the stream has just passed it");
}
