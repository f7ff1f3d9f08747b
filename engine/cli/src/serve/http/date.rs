//! The `Date` field, written anew once a second.

use std::time::{Duration, SystemTime};

/// The current time as RFC 9110 5.6.7 writes it.
pub(super) struct DateText {
    written_at: SystemTime,
    text: String,
}

impl DateText {
    pub(super) fn new() -> DateText {
        DateText { written_at: SystemTime::UNIX_EPOCH, text: String::new() }
    }

    /// At most a second old.
    pub(super) fn now(&mut self) -> &str {
        let now = SystemTime::now();
        let is_fresh = now.duration_since(self.written_at).is_ok_and(|age| age < Duration::from_secs(1));
        if !is_fresh {
            self.written_at = now;
            self.text = httpdate::fmt_http_date(now);
        }
        &self.text
    }
}
