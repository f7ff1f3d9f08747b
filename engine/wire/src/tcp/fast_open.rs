//! The Fast Open option (RFC 7413 4.1.1), which only SYNs and SYN-ACKs carry, and the experimental one that was before it (RFC 6994).

/// Bytes of the longest cookie.
pub const MAX_COOKIE_LEN: usize = 16;
const MIN_COOKIE_LEN: usize = 4;
/// Kind and length.
const HEAD_LEN: usize = 2;
/// What follows them in the experimental option.
pub(super) const EXPERIMENT: [u8; 2] = [0xf9, 0x89];

/// A Fast Open cookie, or the request for one.
///
/// ```
/// use ringwire_wire::tcp::FastOpen;
/// let cookie = FastOpen::cookie(&[1, 2, 3, 4, 5, 6, 7, 8]).expect("an even length from 4 to 16");
/// assert_eq!(cookie.as_slice().len(), 8);
/// assert_eq!(FastOpen::cookie(&[1, 2, 3]), None);
/// assert!(FastOpen::REQUEST.is_request() && !cookie.is_request());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FastOpen {
    /// Zeros behind `len`.
    bytes: [u8; MAX_COOKIE_LEN],
    len: u8,
    form: Form,
}

/// In which option a cookie comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Form {
    /// The one of RFC 7413.
    #[default]
    Standard,
    /// That of Linux before 4.1, which newer ones fall back to.
    Experimental,
}

impl FastOpen {
    /// Asks for a cookie: the option without one.
    pub const REQUEST: FastOpen = FastOpen { bytes: [0; MAX_COOKIE_LEN], len: 0, form: Form::Standard };

    /// A cookie of 4 to 16 bytes, an even number of them; others do not exist.
    pub fn cookie(cookie: &[u8]) -> Option<FastOpen> {
        let is_legal =
            (MIN_COOKIE_LEN..=MAX_COOKIE_LEN).contains(&cookie.len()) && cookie.len().is_multiple_of(2);
        let mut bytes = [0; MAX_COOKIE_LEN];
        bytes.get_mut(..cookie.len()).filter(|_| is_legal)?.copy_from_slice(cookie);
        Some(FastOpen { bytes, len: cookie.len() as u8, form: Form::Standard })
    }

    /// The body of a received option; none for a length that must be ignored (RFC 7413 4.1.1).
    pub(super) fn parse(body: &[u8]) -> Option<FastOpen> {
        if body.is_empty() { Some(FastOpen::REQUEST) } else { FastOpen::cookie(body) }
    }

    /// In which option it came, or is to leave.
    pub fn form(&self) -> Form {
        self.form
    }

    /// The same in another option.
    pub fn in_form(self, form: Form) -> FastOpen {
        FastOpen { form, ..self }
    }

    /// Whether this asks for a cookie.
    pub fn is_request(&self) -> bool {
        self.len == 0
    }

    /// The cookie; empty for a request.
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&self.bytes)
    }

    /// Bytes on the wire, with the NOPs behind it that align it.
    pub(super) fn encoded_len(&self) -> usize {
        usize::from(self.option_len()).next_multiple_of(4)
    }

    /// Kind's neighbour on the wire.
    pub(super) fn option_len(&self) -> u8 {
        let head_len = match self.form {
            Form::Standard => HEAD_LEN,
            Form::Experimental => HEAD_LEN + EXPERIMENT.len(),
        };
        head_len as u8 + self.len
    }
}
