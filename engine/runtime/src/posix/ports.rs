//! Who stands on which local TCP port: what `bind` and `listen` ask before they take one (socket(7), SO_REUSEADDR).

use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, SocketAddrV4};

/// Where a socket stands, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) addr: SocketAddrV4,
    pub(super) manner: Manner,
}

/// Whom a socket tolerates beside itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// Those who say `SO_REUSEADDR` too.
    Sharing,
    /// Nobody.
    Alone,
}

/// All places, by port and address.
#[derive(Debug, Default)]
pub(super) struct Ports {
    by_port: HashMap<u16, BTreeMap<Ipv4Addr, Crowd>>,
}

/// How many stand on one address.
#[derive(Debug, Default)]
struct Crowd {
    sharing: u32,
    alone: u32,
}

impl Crowd {
    fn count(&mut self, manner: Manner) -> &mut u32 {
        match manner {
            Manner::Sharing => &mut self.sharing,
            Manner::Alone => &mut self.alone,
        }
    }
}

impl Ports {
    pub(super) fn enter(&mut self, place: Place) {
        let crowd = self.by_port.entry(place.addr.port()).or_default().entry(*place.addr.ip()).or_default();
        *crowd.count(place.manner) += 1;
    }

    pub(super) fn leave(&mut self, place: Place) {
        let Some(addrs) = self.by_port.get_mut(&place.addr.port()) else { return };
        let Some(crowd) = addrs.get_mut(place.addr.ip()) else { return };
        let count = crowd.count(place.manner);
        *count = count.saturating_sub(1);
        if crowd.sharing + crowd.alone == 0 {
            addrs.remove(place.addr.ip());
        }
        if addrs.is_empty() {
            self.by_port.remove(&place.addr.port());
        }
    }

    pub(super) fn is_used(&self, port: u16) -> bool {
        self.by_port.contains_key(&port)
    }

    /// Whether those who stand there already let one more in.
    pub(super) fn may_enter(&self, wanted: Place) -> bool {
        let Some(addrs) = self.by_port.get(&wanted.addr.port()) else { return true };
        let overlaps = |ip: &Ipv4Addr| {
            ip == wanted.addr.ip() || ip.is_unspecified() || wanted.addr.ip().is_unspecified()
        };
        let mut met = addrs.iter().filter(|(ip, _)| overlaps(ip)).map(|(_, crowd)| crowd);
        met.all(|crowd| wanted.manner == Manner::Sharing && crowd.alone == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
    const A: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const B: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

    fn place(ip: Ipv4Addr, manner: Manner) -> Place {
        Place { addr: SocketAddrV4::new(ip, 80), manner }
    }

    #[test]
    fn who_may_stand_beside_whom() {
        use Manner::{Alone, Sharing};
        let cases = [
            ((A, Alone), (B, Alone), true),
            ((A, Alone), (A, Alone), false),
            ((A, Alone), (A, Sharing), false),
            ((A, Sharing), (A, Alone), false),
            ((A, Sharing), (A, Sharing), true),
            ((ANY, Alone), (A, Sharing), false),
            ((A, Sharing), (ANY, Alone), false),
            ((A, Sharing), (ANY, Sharing), true),
        ];
        for ((ip, manner), (wanted_ip, wanted_manner), is_free) in cases {
            let mut ports = Ports::default();
            let (first, wanted) = (place(ip, manner), place(wanted_ip, wanted_manner));
            ports.enter(first);
            assert_eq!(ports.may_enter(wanted), is_free, "{first:?} {wanted:?}");
            ports.leave(first);
            assert!(ports.may_enter(wanted) && !ports.is_used(80), "as before");
        }
    }
}
