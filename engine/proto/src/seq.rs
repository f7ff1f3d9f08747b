//! TCP sequence numbers: a 32-bit ring, so there is no "less than", only "before" (RFC 9293 3.4).

use core::ops::{Add, AddAssign, Sub};

/// A TCP sequence number. It has no `Ord`: comparing is only meaningful for numbers less than 2^31 apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SeqNum(pub u32);

impl SeqNum {
    /// True if `self` lies strictly before `other` on the ring.
    pub const fn before(self, other: Self) -> bool {
        self.offset_from(other) < 0
    }

    /// True if `self` lies strictly after `other` on the ring.
    pub const fn after(self, other: Self) -> bool {
        other.before(self)
    }

    /// True if `self` is `other` or before it.
    pub const fn before_eq(self, other: Self) -> bool {
        !self.after(other)
    }

    /// True if `self` is `other` or after it.
    pub const fn after_eq(self, other: Self) -> bool {
        !self.before(other)
    }

    /// Numbers from `earlier` up to `self`: `snd.nxt.distance(snd.una)` is what is in flight.
    ///
    /// Counts forwards round the ring, so it is huge if `self` is before `earlier`; see [`SeqNum::offset_from`] then.
    pub const fn distance(self, earlier: Self) -> u32 {
        self.0.wrapping_sub(earlier.0)
    }

    /// Signed way from `other` to `self`, negative if `self` is before `other`.
    pub const fn offset_from(self, other: Self) -> i32 {
        self.0.wrapping_sub(other.0).cast_signed()
    }

    /// True if `self` is one of the `len` numbers that start at `start`.
    pub const fn in_window(self, start: Self, len: u32) -> bool {
        self.distance(start) < len
    }

    /// The later of two numbers.
    #[must_use]
    pub const fn later(self, other: Self) -> Self {
        if self.before(other) { other } else { self }
    }

    /// The earlier of two numbers.
    #[must_use]
    pub const fn earlier(self, other: Self) -> Self {
        if self.after(other) { other } else { self }
    }
}

impl Add<u32> for SeqNum {
    type Output = Self;
    fn add(self, count: u32) -> Self {
        Self(self.0.wrapping_add(count))
    }
}

impl AddAssign<u32> for SeqNum {
    fn add_assign(&mut self, count: u32) {
        *self = *self + count;
    }
}

impl Sub<u32> for SeqNum {
    type Output = Self;
    fn sub(self, count: u32) -> Self {
        Self(self.0.wrapping_sub(count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_survives_the_wrap() {
        let last = SeqNum(u32::MAX);
        let next = last + 1;
        assert_eq!(next, SeqNum(0));
        assert!(last.before(next) && next.after(last));
        assert!(last.before_eq(next) && last.before_eq(last) && !next.before_eq(last));
        assert!(next.after_eq(last) && next.after_eq(next) && !last.after_eq(next));
        assert_eq!(next.distance(last), 1);
        assert_eq!(last.offset_from(next), -1);
        assert_eq!(next - 1, last);
        assert_eq!(last.later(next), next);
        assert_eq!(last.earlier(next), last);
    }

    #[test]
    fn half_the_ring_is_before_and_half_is_after() {
        let zero = SeqNum(0);
        assert!(SeqNum(0x7fff_ffff).after(zero));
        assert!(SeqNum(0x8000_0001).before(zero));
    }

    #[test]
    fn a_window_may_wrap_and_an_empty_one_holds_nothing() {
        let start = SeqNum(u32::MAX - 1);
        assert!(start.in_window(start, 3) && SeqNum(0).in_window(start, 3));
        assert!(!SeqNum(1).in_window(start, 3) && !(start - 1).in_window(start, 3));
        assert!(!start.in_window(start, 0));
    }
}
