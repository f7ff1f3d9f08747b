//! What `recvmsg` gives beside bytes.

/// One control message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// `TCP_CM_INQ`: how many bytes are left to be read, with the end of the stream as one more.
    Unread(i32),
    /// `IP_RECVERR` of `MSG_ZEROCOPY`: the calls with these numbers, both included, do not need their memory any more. It was copied.
    Copied {
        /// The first one.
        first: u32,
        /// The last one.
        last: u32,
    },
}

/// Linux's TCP_CM_INQ.
const INQ: i32 = 36;
/// Linux's SO_EE_ORIGIN_ZEROCOPY and SO_EE_CODE_ZEROCOPY_COPIED (linux/errqueue.h).
const ORIGIN_ZEROCOPY: u8 = 5;
const CODE_COPIED: u8 = 1;
/// `struct sock_extended_err` and the `struct sockaddr_in` of the offender, who is nobody.
const EXTENDED_ERROR_LEN: usize = 32;
/// `struct cmsghdr`.
const HEADER_LEN: usize = 16;

impl Control {
    /// As it stands behind `msg_control`, padded as `CMSG_SPACE` says; cut short it is still one, with its length made true.
    pub fn encode(&self) -> Vec<u8> {
        let (level, kind, data) = match self {
            Control::Unread(bytes) => (libc::IPPROTO_TCP, INQ, bytes.to_ne_bytes().to_vec()),
            Control::Copied { first, last } => {
                let mut data = vec![0; 4];
                data.extend([ORIGIN_ZEROCOPY, 0, CODE_COPIED, 0]);
                data.extend(first.to_ne_bytes());
                data.extend(last.to_ne_bytes());
                data.resize(EXTENDED_ERROR_LEN, 0);
                (libc::IPPROTO_IP, libc::IP_RECVERR, data)
            }
        };
        let mut bytes = (HEADER_LEN + data.len()).to_ne_bytes().to_vec();
        bytes.extend(level.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(size_of::<usize>()), 0);
        bytes
    }
}

/// The calls of a socket with `MSG_ZEROCOPY`, and which of them the program has not been told of.
#[derive(Debug, Default)]
pub(super) struct CopiedSends {
    /// Wraps.
    next: u32,
    untold: u32,
}

impl CopiedSends {
    /// One more.
    pub(super) fn add(&mut self) {
        self.next = self.next.wrapping_add(1);
        self.untold = self.untold.saturating_add(1);
    }

    pub(super) fn is_any(&self) -> bool {
        self.untold > 0
    }

    /// All that the program has not been told of: they are of one kind and in a row, and Linux too makes one notice of such.
    pub(super) fn take(&mut self) -> Option<Control> {
        let count = std::mem::take(&mut self.untold);
        (count > 0).then(|| Control::Copied {
            first: self.next.wrapping_sub(count),
            last: self.next.wrapping_sub(1),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_is_linux_s_structure() {
        let mut sends = CopiedSends { next: u32::MAX, untold: 0 };
        assert_eq!((sends.is_any(), sends.take()), (false, None));
        sends.add();
        sends.add();
        let notice = sends.take().unwrap();
        assert_eq!(notice, Control::Copied { first: u32::MAX, last: 0 });
        let bytes = notice.encode();
        let mut expected = 48_u64.to_ne_bytes().to_vec();
        expected.extend([0, 11].into_iter().flat_map(i32::to_ne_bytes));
        expected.extend([0, 0, 0, 0, 5, 0, 1, 0, 255, 255, 255, 255, 0, 0, 0, 0]);
        expected.extend([0; 16]);
        assert_eq!(bytes, expected);
        let bytes = Control::Unread(9).encode();
        assert_eq!((bytes.len(), &bytes[..8]), (24, &20_u64.to_ne_bytes()[..]));
    }
}
