//! Cache line separation.

/// Keeps what one core writes out of the cache lines of others, adjacent-line prefetch included.
#[repr(align(128))]
pub(crate) struct Padded<T>(pub(crate) T);
