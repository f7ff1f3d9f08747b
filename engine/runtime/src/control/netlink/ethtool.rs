//! The queues a device really uses: ethtool's channels over generic netlink.

use std::io;

use netlink_packet_core::{DefaultNla, NLA_F_NESTED};

use super::genetlink::{Family, emitted};
use super::socket::Answers;

/// linux/ethtool_netlink_generated.h
const ETHTOOL_MSG_CHANNELS_GET: u8 = 17;
const ETHTOOL_A_HEADER_DEV_INDEX: u16 = 1;
const ETHTOOL_A_CHANNELS_HEADER: u16 = 1;
const ETHTOOL_A_CHANNELS_RX_COUNT: u16 = 6;
const ETHTOOL_A_CHANNELS_TX_COUNT: u16 = 7;
const ETHTOOL_A_CHANNELS_COMBINED_COUNT: u16 = 9;

#[derive(Debug)]
pub(super) struct Ethtool(Family);

/// Queues in use; a combined channel is one of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Channels {
    pub(super) rx: u32,
    pub(super) tx: u32,
}

impl Ethtool {
    pub(super) fn open() -> io::Result<Ethtool> {
        Family::open("ethtool").map(Ethtool)
    }

    /// None where the driver does not tell.
    pub(super) fn channels(&mut self, ifindex: u32) -> Option<Channels> {
        let device = DefaultNla::new(ETHTOOL_A_HEADER_DEV_INDEX, ifindex.to_ne_bytes().to_vec());
        let header = DefaultNla::new(ETHTOOL_A_CHANNELS_HEADER | NLA_F_NESTED, emitted(&device));
        let answer = self.0.request(ETHTOOL_MSG_CHANNELS_GET, &[header], Answers::One, |attributes| {
            let mut channels = Channels::default();
            for (kind, value) in attributes {
                let count = value.try_into().map_or(0, u32::from_ne_bytes);
                match kind {
                    ETHTOOL_A_CHANNELS_RX_COUNT => channels.rx += count,
                    ETHTOOL_A_CHANNELS_TX_COUNT => channels.tx += count,
                    ETHTOOL_A_CHANNELS_COMBINED_COUNT => {
                        channels.rx += count;
                        channels.tx += count;
                    }
                    _ => {}
                }
            }
            Some(channels)
        });
        answer.ok()?.into_iter().next().filter(|channels| channels.rx > 0 && channels.tx > 0)
    }
}
