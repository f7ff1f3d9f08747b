//! Ephemeral ports: which worker owns one, and where the search for a free one begins (RFC 6056).
//!
//! The range is dealt out in blocks of 64 ports, so that the owner of a port is one load from a small array. Workers allocate only from
//! their own blocks: no two can take the same port, and a segment that lands on the wrong worker names the right one by its port.

use std::sync::Arc;

/// Ports per block.
const BLOCK_PORTS: u16 = 64;
const BLOCK_COUNT: usize = 65_536 / BLOCK_PORTS as usize;
const NOBODY: u8 = u8::MAX;

/// Which worker owns which ephemeral port; made once, cheap to clone.
///
/// ```
/// use ringwire_table::PortMap;
///
/// let map = PortMap::split(32_768..=60_999, 4);
/// let worker = map.owner_of(40_000).expect("an ephemeral port");
/// assert!(map.allocator(worker).owns(40_000));
/// assert_eq!(map.owner_of(80), None);
/// ```
#[derive(Debug, Clone)]
pub struct PortMap {
    owners: Arc<[u8; BLOCK_COUNT]>,
    first: u16,
    last: u16,
}

/// Every port of this worker is taken for this destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exhausted;

impl core::fmt::Display for Exhausted {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("no free port towards this destination")
    }
}

impl core::error::Error for Exhausted {}

/// The ephemeral ports of one worker. One port serves many connections, as long as their destinations differ.
#[derive(Debug)]
pub struct PortAllocator {
    /// Sorted.
    ports: Vec<u16>,
    /// RFC 6056 3.3.3: counts allocations, so that consecutive ones to one destination take consecutive ports.
    next_ephemeral: u32,
}

impl PortMap {
    /// Deals the ports of a range to workers 0 to `workers` - 1 (at most 255), in blocks, round robin.
    ///
    /// Blocks at the ends of the range may be cut. With more workers than blocks the last workers get none.
    pub fn split(ports: core::ops::RangeInclusive<u16>, workers: u8) -> Self {
        let (first, last) = (*ports.start(), *ports.end());
        let mut owners = [NOBODY; BLOCK_COUNT];
        if !ports.is_empty() && workers > 0 {
            let blocks = &mut owners[block_of(first)..=block_of(last)];
            for (owner, worker) in blocks.iter_mut().zip((0..workers).cycle()) {
                *owner = worker;
            }
        }
        Self { owners: Arc::new(owners), first, last }
    }

    /// The worker whose connections use this local port; `None` for a port outside the range.
    #[inline]
    pub fn owner_of(&self, port: u16) -> Option<u8> {
        let owner = self.owners[block_of(port)];
        (owner != NOBODY && port >= self.first && port <= self.last).then_some(owner)
    }

    /// The allocator of one worker's ports.
    pub fn allocator(&self, worker: u8) -> PortAllocator {
        let is_its = |&port: &u16| self.owner_of(port) == Some(worker);
        PortAllocator { ports: (self.first..=self.last).filter(is_its).collect(), next_ephemeral: 0 }
    }
}

impl PortAllocator {
    /// A port that `is_free` accepts, trying all of them from an unpredictable one on.
    ///
    /// `offset` is the keyed hash of local address, remote address and remote port (RFC 6056 3.3.3). `is_free` answers whether a connection
    /// from this port to that destination can be made: no flow has the tuple, and the port is not a listener's.
    pub fn allocate(&mut self, offset: u32, mut is_free: impl FnMut(u16) -> bool) -> Result<u16, Exhausted> {
        let start = offset.wrapping_add(self.next_ephemeral) as usize % self.ports.len().max(1);
        let (before, from_start) = self.ports.split_at(start);
        let tried = from_start.iter().chain(before).zip(1u32..);
        let (port, tries) = tried.into_iter().find(|(port, _)| is_free(**port)).ok_or(Exhausted)?;
        self.next_ephemeral = self.next_ephemeral.wrapping_add(tries);
        Ok(*port)
    }

    /// True if this worker may allocate the port.
    pub fn owns(&self, port: u16) -> bool {
        self.ports.binary_search(&port).is_ok()
    }

    /// Number of ports.
    pub fn len(&self) -> usize {
        self.ports.len()
    }

    /// True if this worker has no port at all.
    pub fn is_empty(&self) -> bool {
        self.ports.is_empty()
    }
}

const fn block_of(port: u16) -> usize {
    (port / BLOCK_PORTS) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    const RANGE: core::ops::RangeInclusive<u16> = 32_768..=60_999;

    #[test]
    fn the_range_is_dealt_out_completely_and_evenly() {
        for workers in [1, 2, 3, 8, 255] {
            let map = PortMap::split(RANGE, workers);
            let sizes: Vec<usize> = (0..workers).map(|worker| map.allocator(worker).len()).collect();
            assert_eq!(sizes.iter().sum::<usize>(), RANGE.len());
            let spread = sizes.iter().max().unwrap() - sizes.iter().min().unwrap();
            assert!(spread <= 64, "{workers} workers get {sizes:?}");
        }
    }

    #[test]
    fn the_owner_is_who_may_allocate() {
        let map = PortMap::split(1_000..=1_200, 3);
        let allocators: Vec<PortAllocator> = (0..3).map(|worker| map.allocator(worker)).collect();
        for port in 0..=u16::MAX {
            let owners: Vec<u8> =
                (0..3).filter(|&worker| allocators[usize::from(worker)].owns(port)).collect();
            assert_eq!(map.owner_of(port).into_iter().collect::<Vec<_>>(), owners, "port {port}");
            assert_eq!(owners.is_empty(), !(1_000..=1_200).contains(&port));
        }
    }

    #[test]
    fn the_whole_number_space_and_odd_ranges_work() {
        assert_eq!(PortMap::split(0..=u16::MAX, 1).allocator(0).len(), 65_536);
        assert_eq!(PortMap::split(5..=5, 4).owner_of(5), Some(0));
        #[expect(clippy::reversed_empty_ranges, reason = "an empty range is the case at hand")]
        let empty = PortMap::split(9..=8, 4);
        assert_eq!(empty.owner_of(8), None);
        assert_eq!(empty.allocator(0).allocate(0, |_| true), Err(Exhausted));
        assert_eq!(PortMap::split(RANGE, 0).owner_of(40_000), None);
    }

    #[test]
    fn every_port_is_found_once_and_then_none() {
        let map = PortMap::split(2_000..=2_399, 2);
        let mut allocator = map.allocator(1);
        let mut taken = HashSet::new();
        for _ in 0..allocator.len() {
            let port = allocator.allocate(0xdead_beef, |port| !taken.contains(&port)).expect("one is left");
            assert!(allocator.owns(port) && taken.insert(port));
        }
        assert_eq!(allocator.allocate(1, |port| !taken.contains(&port)), Err(Exhausted));
        taken.remove(&2_100);
        assert_eq!(map.owner_of(2_100), Some(1));
        assert_eq!(allocator.allocate(1, |port| !taken.contains(&port)), Ok(2_100));
    }

    #[test]
    fn one_port_serves_many_destinations() {
        let mut allocator = PortMap::split(3_000..=3_000, 1).allocator(0);
        let mut flows = HashSet::new();
        for destination in 0..1_000 {
            let port = allocator.allocate(destination, |port| !flows.contains(&(port, destination))).unwrap();
            flows.insert((port, destination));
        }
        assert_eq!(allocator.allocate(5, |port| !flows.contains(&(port, 5))), Err(Exhausted));
        flows.remove(&(3_000, 5));
        assert_eq!(allocator.allocate(5, |port| !flows.contains(&(port, 5))), Ok(3_000));
    }

    #[test]
    fn the_offset_decides_where_the_search_starts() {
        let map = PortMap::split(RANGE, 1);
        let first = |offset| map.allocator(0).allocate(offset, |_| true).unwrap();
        assert_eq!(first(0), 32_768);
        assert_eq!(first(7), 32_775);
        assert_eq!(first(28_232), 32_768);
        let mut allocator = map.allocator(0);
        let mut next = || allocator.allocate(7, |_| true).unwrap();
        assert_eq!(
            [next(), next(), next()],
            [32_775, 32_776, 32_777],
            "RFC 6056 3.3.3: one step per allocation"
        );
    }
}
