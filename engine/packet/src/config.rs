//! What a packet port is opened with.

use std::net::Ipv4Addr;

/// Smallest slot; holds a packet of 1,500 bytes and its link header.
const MIN_SLOT_BYTES: usize = 2048;
/// Ring memory is the kernel's and not swappable: this much, but never fewer than [`MIN_SLOTS`].
const RING_BYTES: usize = 4 << 20;
const MIN_SLOTS: usize = 64;

/// How an interface is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PacketConfig {
    /// The interface, of the calling thread's network namespace.
    pub ifindex: u32,
    /// Its name, for messages.
    pub interface: String,
    /// Longest IP packet of the link: bytes. Longer ones, from a sender that left segmentation to a device, cost a system call.
    pub mtu_bytes: u32,
    /// Packets that may wait to be received; `None` chooses by the MTU.
    pub slots: Option<u32>,
    /// Only ARP, and IPv4 to these addresses; `None` takes every packet.
    pub only_for: Option<Vec<Ipv4Addr>>,
    /// Takes frames for other hardware addresses too.
    pub promiscuous: bool,
    /// Sends past the interface's queueing discipline, as a driver's ring would. On one queue then: the discipline is also what
    /// spreads flows over several.
    pub bypass_qdisc: bool,
}

impl PacketConfig {
    /// All packets for this interface.
    #[must_use]
    pub fn new(ifindex: u32, interface: impl Into<String>) -> PacketConfig {
        PacketConfig {
            ifindex,
            interface: interface.into(),
            mtu_bytes: 1500,
            slots: None,
            only_for: None,
            promiscuous: false,
            bypass_qdisc: true,
        }
    }

    /// One slot: the kernel's header, the link header with two tags, the packet.
    pub(crate) fn slot_bytes(&self) -> usize {
        const LINK_BYTES: usize = 22;
        const KERNEL_BYTES: usize = 96;
        (self.mtu_bytes as usize + LINK_BYTES + KERNEL_BYTES).next_power_of_two().max(MIN_SLOT_BYTES)
    }

    pub(crate) fn slot_count(&self) -> usize {
        let wanted = self.slots.map_or(RING_BYTES / self.slot_bytes(), |slots| slots as usize);
        wanted.max(MIN_SLOTS).next_power_of_two()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_hold_the_longest_packet() {
        let sized = |mtu_bytes| {
            let config = PacketConfig { mtu_bytes, ..PacketConfig::new(1, "x") };
            (config.slot_bytes(), config.slot_count())
        };
        assert_eq!(sized(1500), (2048, 2048));
        assert_eq!(sized(9000), (16_384, 256));
        assert_eq!(sized(65_535), (131_072, 64));
    }
}
