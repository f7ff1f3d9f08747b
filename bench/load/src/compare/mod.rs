//! Interleaved comparison.
