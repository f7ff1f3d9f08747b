//! Where descriptors get their numbers.

use std::collections::{BTreeSet, HashMap};
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};

use super::{Errno, Fd};

/// Gives each descriptor a number that nothing else in the process has.
pub trait Numbers: Send {
    /// A number that is not in use.
    ///
    /// # Errors
    /// [`Errno::MFILE`]: none is left.
    fn take(&mut self) -> Result<Fd, Errno>;

    /// The descriptor was closed.
    fn give_back(&mut self, fd: Fd);
}

/// The lowest free number, as POSIX promises it: for a program whose sockets are all here.
#[derive(Debug)]
pub struct LowestFree {
    first: Fd,
    limit: Fd,
    /// Never taken yet, nor is any behind it.
    next: Fd,
    /// Given back, all before `next`.
    free: BTreeSet<Fd>,
}

impl LowestFree {
    /// Numbers from `first` to below `limit`.
    pub fn new(first: Fd, limit: Fd) -> LowestFree {
        LowestFree { first, limit, next: first, free: BTreeSet::new() }
    }
}

impl Numbers for LowestFree {
    fn take(&mut self) -> Result<Fd, Errno> {
        if let Some(free) = self.free.pop_first() {
            return Ok(free);
        }
        if self.next >= self.limit {
            return Err(Errno::MFILE);
        }
        self.next += 1;
        Ok(self.next - 1)
    }

    fn give_back(&mut self, fd: Fd) {
        if (self.first..self.next).contains(&fd) {
            self.free.insert(fd);
        }
    }
}

/// Numbers of real descriptors: an eventfd holds each, so that no file or socket of the kernel gets it.
///
/// Those still held when this goes stay open: others of the process may have closed them behind our back, as libc's `close` does, and
/// the number may be somebody else's by now.
#[derive(Debug, Default)]
pub struct Reserved {
    held: HashMap<Fd, ManuallyDrop<OwnedFd>>,
}

impl Numbers for Reserved {
    fn take(&mut self) -> Result<Fd, Errno> {
        let held = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|errno| Errno::from_raw(errno.raw_os_error()))?;
        let fd = held.as_raw_fd();
        self.held.insert(fd, ManuallyDrop::new(held));
        Ok(fd)
    }

    fn give_back(&mut self, fd: Fd) {
        if let Some(held) = self.held.remove(&fd) {
            drop(ManuallyDrop::into_inner(held));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_number_is_taken_whatever_the_order_they_came_back_in() {
        let mut numbers = LowestFree::new(3, 8);
        let taken: Vec<Fd> = std::iter::from_fn(|| numbers.take().ok()).collect();
        assert_eq!(taken, [3, 4, 5, 6, 7]);
        assert_eq!(numbers.take(), Err(Errno::MFILE));
        for fd in [6, 4, 7, 4, 2, 8] {
            numbers.give_back(fd);
        }
        let again: Vec<Fd> = std::iter::from_fn(|| numbers.take().ok()).collect();
        assert_eq!(again, [4, 6, 7], "strangers and repetitions change nothing");
    }
}
