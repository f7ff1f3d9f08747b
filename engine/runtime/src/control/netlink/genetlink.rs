//! Generic netlink: families found by name, and their attributes.

use std::io;

use netlink_packet_core::{DefaultNla, Emitable, NlasIterator};
use netlink_sys::protocols::NETLINK_GENERIC;

use super::invalid;
use super::socket::{Answers, Socket};

/// linux/genetlink.h
const GENL_ID_CTRL: u16 = 16;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
/// Of every family spoken here.
const VERSION: u8 = 1;
/// Command, version and two reserved bytes stand before the attributes.
const HEADER_LEN: usize = 4;

/// A request socket for one family.
#[derive(Debug)]
pub(super) struct Family {
    socket: Socket,
    id: u16,
}

impl Family {
    pub(super) fn open(name: &str) -> io::Result<Family> {
        let mut socket = Socket::open(NETLINK_GENERIC)?;
        let name = DefaultNla::new(CTRL_ATTR_FAMILY_NAME, [name.as_bytes(), b"\0"].concat());
        let body = request(CTRL_CMD_GETFAMILY, &[name]);
        let found = socket.request(GENL_ID_CTRL, Answers::One, &body, |_, body| {
            let id = attributes(body)?.find_map(|(kind, value)| match (kind, value.as_slice()) {
                (CTRL_ATTR_FAMILY_ID, &[a, b]) => Some(u16::from_ne_bytes([a, b])),
                _ => None,
            });
            Ok(id)
        })?;
        let id = found.into_iter().next().ok_or_else(|| invalid("a netlink family without an id"))?;
        Ok(Family { socket, id })
    }

    /// Sends a command; what `take` makes of the attributes of each answer.
    pub(super) fn request<T>(
        &mut self,
        command: u8,
        arguments: &[DefaultNla],
        answers: Answers,
        take: impl Fn(&mut dyn Iterator<Item = (u16, Vec<u8>)>) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        let body = request(command, arguments);
        self.socket.request(self.id, answers, &body, |_, body| Ok(take(&mut attributes(body)?)))
    }
}

fn request(command: u8, arguments: &[DefaultNla]) -> Vec<u8> {
    let mut body = vec![command, VERSION, 0, 0];
    arguments.iter().for_each(|argument| body.extend(emitted(argument)));
    body
}

/// An attribute as it stands in a message.
pub(super) fn emitted(attribute: &DefaultNla) -> Vec<u8> {
    let mut bytes = vec![0; attribute.buffer_len()];
    attribute.emit(&mut bytes);
    bytes
}

fn attributes(body: &[u8]) -> io::Result<impl Iterator<Item = (u16, Vec<u8>)>> {
    let attributes = body.get(HEADER_LEN..).ok_or_else(|| invalid("short generic netlink message"))?;
    let attributes: Result<Vec<_>, _> =
        NlasIterator::new(attributes).map(|nla| nla.map(|nla| (nla.kind(), nla.value().to_vec()))).collect();
    Ok(attributes.map_err(invalid)?.into_iter())
}
