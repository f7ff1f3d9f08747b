//! Descriptors' numbers, and the files behind them.
//!
//! ```text
//! number --> File <-- call that waits          closed: the number is free at once, the file goes when no call holds it any more
//! ```

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::epoll::Watcher;
use super::{Errno, Fd, Kind, Numbers};

/// Names a file as long as the process lives, unlike its descriptor's number.
pub(super) type FileId = u64;

/// An open file.
#[derive(Debug)]
pub(super) struct File {
    pub(super) kind: Kind,
    pub(super) is_nonblocking: bool,
    /// The epolls that watch it.
    pub(super) watchers: Vec<Watcher>,
    /// Grows with each thing that happens, for `poll`.
    pub(super) pulse: u64,
    /// Shared with the calls that hold it.
    held: Arc<()>,
}

/// Keeps a file while a call waits for it, whatever becomes of its number.
#[derive(Debug)]
pub(super) struct Hold {
    pub(super) file: FileId,
    _held: Arc<()>,
}

/// All open files, and the numbers of those that have one.
pub(super) struct Files {
    numbers: Box<dyn Numbers>,
    by_number: BTreeMap<Fd, FileId>,
    open: HashMap<FileId, File>,
    /// Without a number: they go when nobody holds them.
    closed: Vec<FileId>,
    next: FileId,
}

impl Files {
    pub(super) fn new(numbers: Box<dyn Numbers>) -> Files {
        Files { numbers, by_number: BTreeMap::new(), open: HashMap::new(), closed: Vec::new(), next: 0 }
    }

    pub(super) fn insert(&mut self, kind: Kind, is_nonblocking: bool) -> Result<Fd, Errno> {
        let fd = self.numbers.take()?;
        let file = File { kind, is_nonblocking, watchers: Vec::new(), pulse: 0, held: Arc::new(()) };
        self.by_number.insert(fd, self.next);
        self.open.insert(self.next, file);
        self.next += 1;
        Ok(fd)
    }

    /// The file that a descriptor names now.
    pub(super) fn id(&self, fd: Fd) -> Result<FileId, Errno> {
        self.by_number.get(&fd).copied().ok_or(Errno::BADF)
    }

    pub(super) fn get(&self, file: FileId) -> Result<&File, Errno> {
        self.open.get(&file).ok_or(Errno::BADF)
    }

    pub(super) fn get_mut(&mut self, file: FileId) -> Result<&mut File, Errno> {
        self.open.get_mut(&file).ok_or(Errno::BADF)
    }

    pub(super) fn ids(&self) -> Vec<FileId> {
        self.open.keys().copied().collect()
    }

    /// How much has happened at a file.
    pub(super) fn pulse(&self, file: FileId) -> u64 {
        self.get(file).map_or(0, |file| file.pulse)
    }

    pub(super) fn hold(&self, fd: Fd) -> Result<Hold, Errno> {
        let file = self.id(fd)?;
        Ok(Hold { file, _held: self.get(file)?.held.clone() })
    }

    /// Whether a call waits for the file.
    pub(super) fn is_held(&self, file: FileId) -> bool {
        self.get(file).is_ok_and(|file| Arc::strong_count(&file.held) > 1)
    }

    /// Gives the number back. The file follows by [`Files::take_released`].
    pub(super) fn close(&mut self, fd: Fd) -> Result<FileId, Errno> {
        let file = self.by_number.remove(&fd).ok_or(Errno::BADF)?;
        self.numbers.give_back(fd);
        self.closed.push(file);
        Ok(file)
    }

    /// A closed file that no call holds any more.
    pub(super) fn take_released(&mut self) -> Option<(FileId, File)> {
        let is_free = |id: &FileId| self.open.get(id).is_none_or(|file| Arc::strong_count(&file.held) == 1);
        let at = self.closed.iter().position(is_free)?;
        let id = self.closed.swap_remove(at);
        Some((id, self.open.remove(&id)?))
    }
}

impl std::fmt::Debug for Files {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Files")
            .field("by_number", &self.by_number)
            .field("open", &self.open)
            .finish_non_exhaustive()
    }
}
