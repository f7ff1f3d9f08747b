//! The queues a device really uses: ethtool's channels over generic netlink.

use std::io;

use netlink_packet_core::{DefaultNla, Emitable, NLA_F_NESTED, NlasIterator};
use netlink_sys::protocols::NETLINK_GENERIC;

use super::invalid;
use super::socket::{Answers, Socket};

/// linux/genetlink.h
const GENL_ID_CTRL: u16 = 16;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
/// linux/ethtool_netlink_generated.h
const ETHTOOL_GENL_VERSION: u8 = 1;
const ETHTOOL_MSG_CHANNELS_GET: u8 = 17;
const ETHTOOL_A_HEADER_DEV_INDEX: u16 = 1;
const ETHTOOL_A_CHANNELS_HEADER: u16 = 1;
const ETHTOOL_A_CHANNELS_RX_COUNT: u16 = 6;
const ETHTOOL_A_CHANNELS_TX_COUNT: u16 = 7;
const ETHTOOL_A_CHANNELS_COMBINED_COUNT: u16 = 9;

/// Command, version and two reserved bytes stand before the attributes.
const GENL_HEADER_LEN: usize = 4;

#[derive(Debug)]
pub(super) struct Ethtool {
    socket: Socket,
    family: u16,
}

/// Queues in use; a combined channel is one of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Channels {
    pub(super) rx: u32,
    pub(super) tx: u32,
}

impl Ethtool {
    pub(super) fn open() -> io::Result<Ethtool> {
        let mut socket = Socket::open(NETLINK_GENERIC)?;
        let name = DefaultNla::new(CTRL_ATTR_FAMILY_NAME, b"ethtool\0".to_vec());
        let body = request(CTRL_CMD_GETFAMILY, &name);
        let found = socket.request(GENL_ID_CTRL, Answers::One, &body, |_, body| {
            let id = attributes(body)?.find_map(|(kind, value)| match (kind, value.as_slice()) {
                (CTRL_ATTR_FAMILY_ID, &[a, b]) => Some(u16::from_ne_bytes([a, b])),
                _ => None,
            });
            Ok(id)
        })?;
        let family = found.into_iter().next().ok_or_else(|| invalid("ethtool family without an id"))?;
        Ok(Ethtool { socket, family })
    }

    /// None where the driver does not tell.
    pub(super) fn channels(&mut self, ifindex: u32) -> Option<Channels> {
        let device = DefaultNla::new(ETHTOOL_A_HEADER_DEV_INDEX, ifindex.to_ne_bytes().to_vec());
        let header = DefaultNla::new(ETHTOOL_A_CHANNELS_HEADER | NLA_F_NESTED, emitted(&device));
        let body = request(ETHTOOL_MSG_CHANNELS_GET, &header);
        let answer = self.socket.request(self.family, Answers::One, &body, |_, body| {
            let mut channels = Channels::default();
            for (kind, value) in attributes(body)? {
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
            Ok(Some(channels))
        });
        answer.ok()?.into_iter().next().filter(|channels| channels.rx > 0 && channels.tx > 0)
    }
}

fn request(command: u8, attribute: &DefaultNla) -> Vec<u8> {
    let mut body = vec![command, ETHTOOL_GENL_VERSION, 0, 0];
    body.extend(emitted(attribute));
    body
}

fn emitted(attribute: &DefaultNla) -> Vec<u8> {
    let mut bytes = vec![0; attribute.buffer_len()];
    attribute.emit(&mut bytes);
    bytes
}

fn attributes(body: &[u8]) -> io::Result<impl Iterator<Item = (u16, Vec<u8>)>> {
    let attributes = body.get(GENL_HEADER_LEN..).ok_or_else(|| invalid("short generic netlink message"))?;
    let attributes: Result<Vec<_>, _> =
        NlasIterator::new(attributes).map(|nla| nla.map(|nla| (nla.kind(), nla.value().to_vec()))).collect();
    Ok(attributes.map_err(invalid)?.into_iter())
}
