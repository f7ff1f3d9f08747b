//! How long the kernel leaves a device's packets to those who poll for them: NAPI settings, changed and put back.
//!
//! Per NAPI instance and over netlink (Linux 6.13), because the older files in /sys show the wrong namespace after setns(2).

use std::io;

use netlink_packet_core::DefaultNla;

use super::genetlink::Family;
use super::socket::Answers;

/// linux/netdev.h
const NETDEV_CMD_NAPI_GET: u8 = 11;
const NETDEV_CMD_NAPI_SET: u8 = 14;
const NETDEV_A_NAPI_IFINDEX: u16 = 1;
const NETDEV_A_NAPI_ID: u16 = 2;
const NETDEV_A_NAPI_DEFER_HARD_IRQS: u16 = 5;
const NETDEV_A_NAPI_GRO_FLUSH_TIMEOUT: u16 = 6;

/// Rounds without a poll after which interrupts come back, and the length of a round: what the kernel's own page on
/// AF_XDP recommends for busy polling.
const DEFER_HARD_IRQS: u32 = 2;
const GRO_FLUSH_TIMEOUT_NS: u64 = 200_000;

/// One NAPI instance and what it is set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Napi {
    id: u32,
    defer_hard_irqs: u32,
    gro_flush_timeout_ns: u64,
}

/// A device whose interrupts wait for those who poll; dropping it puts the settings back.
#[derive(Debug)]
pub(crate) struct PolledNapis {
    family: Family,
    before: Vec<Napi>,
}

impl PolledNapis {
    /// Changes all instances of a device of the calling thread's network namespace.
    ///
    /// # Errors
    /// `EOPNOTSUPP` where the kernel or the driver has no settings per instance.
    pub(crate) fn tune(ifindex: u32) -> io::Result<PolledNapis> {
        let unsupported = || io::Error::from(rustix::io::Errno::OPNOTSUPP);
        let mut family = Family::open("netdev").map_err(|_| unsupported())?;
        let device = DefaultNla::new(NETDEV_A_NAPI_IFINDEX, ifindex.to_ne_bytes().to_vec());
        let before = family.request(NETDEV_CMD_NAPI_GET, &[device], Answers::Dump, parse)?;
        if before.is_empty() {
            return Err(unsupported());
        }
        // Made first: what an error leaves half done is put back.
        let mut polled = PolledNapis { family, before };
        for napi in polled.before.clone() {
            let patient =
                Napi { defer_hard_irqs: DEFER_HARD_IRQS, gro_flush_timeout_ns: GRO_FLUSH_TIMEOUT_NS, ..napi };
            polled.set(patient)?;
        }
        Ok(polled)
    }

    fn set(&mut self, napi: Napi) -> io::Result<()> {
        let arguments = [
            DefaultNla::new(NETDEV_A_NAPI_ID, napi.id.to_ne_bytes().to_vec()),
            DefaultNla::new(NETDEV_A_NAPI_DEFER_HARD_IRQS, napi.defer_hard_irqs.to_ne_bytes().to_vec()),
            DefaultNla::new(
                NETDEV_A_NAPI_GRO_FLUSH_TIMEOUT,
                napi.gro_flush_timeout_ns.to_ne_bytes().to_vec(),
            ),
        ];
        let done =
            self.family.request(NETDEV_CMD_NAPI_SET, &arguments, Answers::Acknowledgement(0), |_| None::<()>);
        done.map(drop)
    }
}

impl Drop for PolledNapis {
    fn drop(&mut self) {
        for napi in std::mem::take(&mut self.before) {
            if let Err(error) = self.set(napi) {
                // The device is gone, and its settings with it.
                tracing::debug!(%error, id = napi.id, "NAPI settings not put back");
            }
        }
    }
}

fn parse(attributes: &mut dyn Iterator<Item = (u16, Vec<u8>)>) -> Option<Napi> {
    let (mut id, mut defer_hard_irqs, mut gro_flush_timeout_ns) = (None, None, None);
    for (kind, value) in attributes {
        match kind {
            NETDEV_A_NAPI_ID => id = number(&value).and_then(|id| u32::try_from(id).ok()),
            NETDEV_A_NAPI_DEFER_HARD_IRQS => {
                defer_hard_irqs = number(&value).and_then(|rounds| u32::try_from(rounds).ok());
            }
            NETDEV_A_NAPI_GRO_FLUSH_TIMEOUT => gro_flush_timeout_ns = number(&value),
            _ => {}
        }
    }
    Some(Napi { id: id?, defer_hard_irqs: defer_hard_irqs?, gro_flush_timeout_ns: gro_flush_timeout_ns? })
}

/// Netlink's `uint` has four or eight bytes.
fn number(value: &[u8]) -> Option<u64> {
    match *value {
        [a, b, c, d] => Some(u32::from_ne_bytes([a, b, c, d]).into()),
        _ => Some(u64::from_ne_bytes(value.try_into().ok()?)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::netns::testbed::{LINK, Testbed};
    use super::super::Netlink;
    use super::*;

    fn settings(ifindex: u32) -> Vec<(u32, u64)> {
        let mut family = Family::open("netdev").expect("Linux 6.13 or later");
        let device = DefaultNla::new(NETDEV_A_NAPI_IFINDEX, ifindex.to_ne_bytes().to_vec());
        let napis = family.request(NETDEV_CMD_NAPI_GET, &[device], Answers::Dump, parse).expect("a dump");
        napis.into_iter().map(|napi| (napi.defer_hard_irqs, napi.gro_flush_timeout_ns)).collect()
    }

    #[test]
    fn settings_are_changed_and_put_back() {
        let bed = Testbed::new();
        bed.here(|| {
            let ifindex = Netlink::open().unwrap().link_by_name(LINK).unwrap().index;
            let error = PolledNapis::tune(ifindex).expect_err("a veth has no NAPI before it needs one");
            assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::OPNOTSUPP.raw_os_error()));
            let gro = std::process::Command::new("ethtool").args(["-K", LINK, "gro", "on"]).status();
            assert!(gro.expect("ethtool is installed").success());
            let before = settings(ifindex);
            assert!(!before.is_empty() && before.iter().all(|(defer, _)| *defer == 0), "{before:?}");
            let polled = PolledNapis::tune(ifindex).expect("it has NAPIs now");
            assert_eq!(settings(ifindex), vec![(DEFER_HARD_IRQS, GRO_FLUSH_TIMEOUT_NS); before.len()]);
            drop(polled);
            assert_eq!(settings(ifindex), before);
        });
    }
}
