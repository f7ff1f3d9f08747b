//! NAPI settings as the kernel tells them (generic netlink, family "netdev").

use std::io;

use netlink_packet_core::{DefaultNla, Emitable, NlasIterator};
use netlink_sys::protocols::NETLINK_GENERIC;
use netlink_sys::{Socket, SocketAddr};

const NLMSG_HEADER_LEN: usize = 16;
const GENL_HEADER_LEN: usize = 4;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;
const GENL_ID_CTRL: u16 = 16;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
const NETDEV_CMD_NAPI_GET: u8 = 11;
const NETDEV_A_NAPI_IFINDEX: u16 = 1;
const NETDEV_A_NAPI_DEFER_HARD_IRQS: u16 = 5;
const NETDEV_A_NAPI_GRO_FLUSH_TIMEOUT: u16 = 6;

/// Of one NAPI instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) defer_hard_irqs: u64,
    pub(crate) gro_flush_timeout_ns: u64,
}

/// Of all instances of a card in the guest's own namespace.
pub(crate) fn settings(card: &str) -> Vec<Settings> {
    let index = std::fs::read_to_string(format!("/sys/class/net/{card}/ifindex")).expect("a card");
    let index: u32 = index.trim().parse().expect("a number");
    let mut socket = Socket::new(NETLINK_GENERIC).expect("a socket");
    socket.bind_auto().expect("an address");
    socket.connect(&SocketAddr::new(0, 0)).expect("the kernel");
    let name = DefaultNla::new(CTRL_ATTR_FAMILY_NAME, b"netdev\0".to_vec());
    let family = ask(&socket, GENL_ID_CTRL, CTRL_CMD_GETFAMILY, 0, &name).expect("Linux 6.13 or later");
    let family = family.iter().flatten().find(|(kind, _)| *kind == CTRL_ATTR_FAMILY_ID).map(|(_, id)| *id);
    let family = u16::try_from(family.expect("an id")).expect("an id");
    let device = DefaultNla::new(NETDEV_A_NAPI_IFINDEX, index.to_ne_bytes().to_vec());
    let napis = ask(&socket, family, NETDEV_CMD_NAPI_GET, NLM_F_DUMP, &device).expect("a dump");
    napis.iter().map(|attributes| parse(attributes)).collect()
}

fn parse(attributes: &[(u16, u64)]) -> Settings {
    let mut settings = Settings::default();
    for (kind, value) in attributes {
        match *kind {
            NETDEV_A_NAPI_DEFER_HARD_IRQS => settings.defer_hard_irqs = *value,
            NETDEV_A_NAPI_GRO_FLUSH_TIMEOUT => settings.gro_flush_timeout_ns = *value,
            _ => {}
        }
    }
    settings
}

/// The numbers among the attributes of each answer.
fn ask(
    socket: &Socket,
    family: u16,
    command: u8,
    flags: u16,
    argument: &DefaultNla,
) -> io::Result<Vec<Vec<(u16, u64)>>> {
    let len = NLMSG_HEADER_LEN + GENL_HEADER_LEN + argument.buffer_len();
    let mut bytes = Vec::with_capacity(len);
    bytes.extend_from_slice(&(len as u32).to_ne_bytes());
    bytes.extend_from_slice(&family.to_ne_bytes());
    bytes.extend_from_slice(&(NLM_F_REQUEST | flags).to_ne_bytes());
    bytes.extend_from_slice(&[0; 8]);
    bytes.extend_from_slice(&[command, 1, 0, 0]);
    bytes.resize(len, 0);
    argument.emit(&mut bytes[NLMSG_HEADER_LEN + GENL_HEADER_LEN..]);
    socket.send(&bytes, 0)?;
    let mut answers = Vec::new();
    loop {
        let (bytes, _) = socket.recv_from_full()?;
        let mut rest = &bytes[..];
        while rest.len() >= NLMSG_HEADER_LEN {
            let len = u32::from_ne_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
            match u16::from_ne_bytes([rest[4], rest[5]]) {
                NLMSG_DONE => return Ok(answers),
                NLMSG_ERROR => return Err(io::Error::other("the kernel refuses")),
                _ => answers.push(numbers(&rest[NLMSG_HEADER_LEN + GENL_HEADER_LEN..len])),
            }
            rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        }
        if flags & NLM_F_DUMP == 0 {
            return Ok(answers);
        }
    }
}

fn numbers(attributes: &[u8]) -> Vec<(u16, u64)> {
    let attributes = NlasIterator::new(attributes).flatten();
    let number = |value: &[u8]| match *value {
        [a, b] => Some(u16::from_ne_bytes([a, b]).into()),
        [a, b, c, d] => Some(u32::from_ne_bytes([a, b, c, d]).into()),
        _ => value.try_into().ok().map(u64::from_ne_bytes),
    };
    attributes.filter_map(|attribute| Some((attribute.kind(), number(attribute.value())?))).collect()
}
