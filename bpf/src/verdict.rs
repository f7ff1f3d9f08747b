//! What the program decided about packets: one [`Verdict`] per packet, counted per CPU.

use std::fmt;

use crate::abi::header;

/// What happens to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// The kernel gets it, as if the program were not there.
    Pass,
    /// An AF_XDP socket gets it.
    Redirect,
    /// Nobody gets it.
    Drop,
}

macro_rules! verdicts {
    ($($(#[$doc:meta])* $variant:ident = $number:ident, $name:literal, $action:ident;)*) => {
        /// Why a packet was passed, redirected or dropped; every packet has exactly one.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        #[repr(u32)]
        pub enum Verdict { $($(#[$doc])* $variant = header::$number,)* }

        impl Verdict {
            /// All of them, in the order of the ABI.
            pub const ALL: &[Verdict] = &[$(Verdict::$variant,)*];

            /// A stable name for metrics.
            pub const fn name(self) -> &'static str {
                match self { $(Verdict::$variant => $name,)* }
            }

            /// What became of the packet.
            pub const fn action(self) -> Action {
                match self { $(Verdict::$variant => Action::$action,)* }
            }
        }
    };
}

verdicts! {
    /// An Ethernet, ARP or IPv4 header is truncated or contradicts itself.
    PassMalformed = STEER_PASS_MALFORMED, "pass_malformed", Pass;
    /// Neither IPv4 nor ARP under at most two VLAN tags.
    PassEtherType = STEER_PASS_ETHERTYPE, "pass_ethertype", Pass;
    /// Not sent to this interface.
    PassMac = STEER_PASS_MAC, "pass_mac", Pass;
    /// The IP address is not ours.
    PassAddress = STEER_PASS_ADDRESS, "pass_address", Pass;
    /// ARP for a shared address, which the kernel answers.
    PassArp = STEER_PASS_ARP, "pass_arp", Pass;
    /// A fragment to a shared address, which the kernel reassembles.
    PassFragment = STEER_PASS_FRAGMENT, "pass_fragment", Pass;
    /// Source-routed, or with options that cannot be read.
    PassOptions = STEER_PASS_OPTIONS, "pass_options", Pass;
    /// To a shared address, and neither TCP, UDP nor an ICMP error about one of them.
    PassProtocol = STEER_PASS_PROTOCOL, "pass_protocol", Pass;
    /// To a shared address, and the port is not ours.
    PassPort = STEER_PASS_PORT, "pass_port", Pass;
    /// TCP to a port of ours.
    RedirectTcp = STEER_REDIRECT_TCP, "redirect_tcp", Redirect;
    /// UDP to a port of ours.
    RedirectUdp = STEER_REDIRECT_UDP, "redirect_udp", Redirect;
    /// An ICMP error that quotes a packet from a port of ours.
    RedirectIcmpError = STEER_REDIRECT_ICMP_ERROR, "redirect_icmp_error", Redirect;
    /// Any IPv4 packet to a dedicated address.
    RedirectDedicated = STEER_REDIRECT_DEDICATED, "redirect_dedicated", Redirect;
    /// ARP for a dedicated address.
    RedirectArp = STEER_REDIRECT_ARP, "redirect_arp", Redirect;
    /// Ours, but no socket is bound to the queue it came in on; passed on, the kernel would answer RST.
    DropNoSocket = STEER_DROP_NO_SOCKET, "drop_no_socket", Drop;
    /// Tagged for a VLAN: not to this interface but to one on top of it.
    PassVlan = STEER_PASS_VLAN, "pass_vlan", Pass;
}

pub(crate) const VERDICTS: usize = header::STEER_VERDICTS as usize;
const _: () = assert!(Verdict::ALL.len() == VERDICTS, "Verdict and steer_abi.h differ");

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Packets by verdict, over all CPUs, since the program was loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    packets: [u64; VERDICTS],
}

impl Counters {
    /// Packets with this verdict.
    pub fn get(&self, verdict: Verdict) -> u64 {
        self.packets[verdict as usize]
    }

    /// Every verdict with its packets.
    pub fn iter(&self) -> impl Iterator<Item = (Verdict, u64)> {
        Verdict::ALL.iter().map(|&verdict| (verdict, self.get(verdict)))
    }

    /// Packets that this became of.
    pub fn by_action(&self, action: Action) -> u64 {
        self.iter().filter(|(verdict, _)| verdict.action() == action).map(|(_, packets)| packets).sum()
    }

    /// All packets the program saw.
    pub fn total(&self) -> u64 {
        self.packets.iter().sum()
    }

    /// `number` is the verdict's in the ABI; one that this build does not know is left out.
    pub(crate) fn set(&mut self, number: u32, packets: u64) {
        if let Some(counter) = self.packets.get_mut(number as usize) {
            *counter = packets;
        }
    }

    /// What one packet added since `before`; None unless exactly one verdict moved by one.
    pub(crate) fn one_since(&self, before: &Counters) -> Option<Verdict> {
        let mut moved = self.iter().filter(|&(verdict, packets)| packets != before.get(verdict));
        let (verdict, packets) = moved.next()?;
        (moved.next().is_none() && packets == before.get(verdict) + 1).then_some(verdict)
    }
}
