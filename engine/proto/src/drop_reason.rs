//! Why a packet was dropped. Every packet that is neither delivered, transmitted nor passed counts exactly one of these.

use ringwire_wire::Malformed;

macro_rules! drop_reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// The reason why one packet was dropped; its number indexes a per-worker array of [`DropReason::COUNT`] counters.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum DropReason { $($(#[doc = $doc])+ $variant,)+ }

        impl DropReason {
            /// Every reason, in the order of its number.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name under which the counter is published, in snake case.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

drop_reasons! {
    /// Shorter than its own headers.
    Truncated = "truncated",
    /// An IP version that does not fit the EtherType.
    BadVersion = "bad_version",
    /// A header length below the minimum or beyond the packet.
    BadHeaderLen = "bad_header_len",
    /// An IP total length below the header or beyond the frame.
    BadTotalLen = "bad_total_len",
    /// A transport length that contradicts the packet.
    BadLength = "bad_length",
    /// A wrong checksum, at a place where the protocol is not known.
    BadChecksum = "bad_checksum",
    /// Any other malformed field.
    BadField = "bad_field",

    /// The destination MAC address is not ours.
    EthNotForUs = "eth_not_for_us",
    /// The source MAC address is our own or a group address.
    EthBadSource = "eth_bad_source",
    /// An EtherType we do not speak.
    EthUnknownType = "eth_unknown_type",
    /// A VLAN we do not serve.
    EthVlan = "eth_vlan",

    /// ARP for something other than IPv4 over Ethernet, or with an unknown operation.
    ArpMalformed = "arp_malformed",
    /// An ARP packet about none of our addresses.
    ArpNotForUs = "arp_not_for_us",
    /// An ARP reply nobody asked for.
    ArpUnsolicited = "arp_unsolicited",
    /// An ARP sender with an impossible or our own IP or MAC address.
    ArpBadSender = "arp_bad_sender",
    /// A packet waited for a neighbour that never answered.
    NeighUnreachable = "neigh_unreachable",
    /// The neighbour cache or its queue of waiting packets was full.
    NeighFull = "neigh_full",

    /// Wrong IPv4 header checksum.
    IpChecksum = "ip_checksum",
    /// A source address no host may send from: unspecified, loopback, multicast, broadcast.
    IpMartianSource = "ip_martian_source",
    /// A link-layer group frame that carries a unicast packet.
    IpLinkGroup = "ip_link_group",
    /// A source address that is our own (LAND).
    IpOwnSource = "ip_own_source",
    /// A destination address that is not ours.
    IpNotForUs = "ip_not_for_us",
    /// LSRR or SSRR option: source-routed packets are refused.
    IpSourceRoute = "ip_source_route",
    /// Malformed IP options.
    IpBadOptions = "ip_bad_options",
    /// A fragment, which this path does not reassemble.
    IpFragment = "ip_fragment",
    /// A transport protocol we do not speak.
    IpUnknownProtocol = "ip_unknown_protocol",

    /// Wrong ICMP checksum.
    IcmpChecksum = "icmp_checksum",
    /// An echo request to a group address.
    IcmpToGroup = "icmp_to_group",
    /// An echo request longer than one reply may be.
    IcmpTooLong = "icmp_too_long",
    /// An error whose quoted packet is cut short, not ours, or not TCP or UDP.
    IcmpBadQuote = "icmp_bad_quote",
    /// "Fragmentation needed" with an MTU no IPv4 link may have.
    IcmpBadMtu = "icmp_bad_mtu",
    /// An error about a flow or a sequence number we do not know.
    IcmpUnknownFlow = "icmp_unknown_flow",
    /// An ICMP type we do not act on.
    IcmpUnknownType = "icmp_unknown_type",

    /// Wrong UDP checksum.
    UdpChecksum = "udp_checksum",
    /// UDP destination port 0.
    UdpPortZero = "udp_port_zero",
    /// No socket for this datagram.
    UdpNoSocket = "udp_no_socket",
    /// The socket's receive queue was full.
    UdpQueueFull = "udp_queue_full",

    /// Wrong TCP checksum.
    TcpChecksum = "tcp_checksum",
    /// TCP source or destination port 0.
    TcpPortZero = "tcp_port_zero",
    /// TCP from or to a group address.
    TcpGroupAddress = "tcp_group_address",
    /// No socket for this segment; it was answered by a RST unless it was one.
    TcpNoSocket = "tcp_no_socket",
    /// A flag combination that means nothing in this state.
    TcpBadFlags = "tcp_bad_flags",
    /// A segment to a listener that is no SYN.
    TcpListenNotSyn = "tcp_listen_not_syn",
    /// A SYN while the SYN queue was full.
    TcpSynQueueFull = "tcp_syn_queue_full",
    /// A SYN, or the last step of a handshake, while the application had not taken what it had accepted.
    TcpAcceptQueueFull = "tcp_accept_queue_full",
    /// In SYN-SENT, an ACK for something we did not send.
    TcpSynSentBadAck = "tcp_syn_sent_bad_ack",
    /// Outside the receive window.
    TcpOutOfWindow = "tcp_out_of_window",
    /// Wholly old data, received before.
    TcpDuplicate = "tcp_duplicate",
    /// An old timestamp (RFC 7323 PAWS).
    TcpPaws = "tcp_paws",
    /// A connection with timestamps got a segment without one.
    TcpMissingTimestamp = "tcp_missing_timestamp",
    /// A segment without the ACK bit where one is needed.
    TcpNoAck = "tcp_no_ack",
    /// An ACK for data never sent.
    TcpAckUnsent = "tcp_ack_unsent",
    /// An ACK too old to be from this connection's life (RFC 5961 5).
    TcpAckTooOld = "tcp_ack_too_old",
    /// A RST that is not exactly at RCV.NXT (RFC 5961 3).
    TcpRstChallenged = "tcp_rst_challenged",
    /// A SYN in a synchronised state (RFC 5961 4).
    TcpSynChallenged = "tcp_syn_challenged",
    /// Out-of-order data beyond the reassembly limits.
    TcpReassemblyFull = "tcp_reassembly_full",
    /// Data beyond the receive buffer's frames or bytes.
    TcpReceiveFull = "tcp_receive_full",
    /// Data after the application closed; answered by a RST.
    TcpAfterClose = "tcp_after_close",
    /// A segment to a connection in TIME-WAIT that it only confirmed.
    TcpTimeWait = "tcp_time_wait",

    /// The frame pool was empty.
    NoFrame = "no_frame",
    /// The memory ceiling was near or reached: a SYN, a datagram, or data that would have had to be copied.
    NoMemory = "no_memory",
    /// The transmit ring was full and the packet cannot wait.
    TxFull = "tx_full",
    /// No route to the destination.
    NoRoute = "no_route",
    /// The hand-over ring to the owning worker was full.
    HandOffFull = "hand_off_full",
    /// A limit on connections or sockets was reached.
    TableFull = "table_full",
    /// A SYN while the engine is shutting down.
    ShuttingDown = "shutting_down",
}

impl DropReason {
    /// How many reasons there are: the length of an array of counters.
    pub const COUNT: usize = Self::ALL.len();

    /// Index of this reason in an array of counters, below [`DropReason::COUNT`].
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl From<Malformed> for DropReason {
    fn from(malformed: Malformed) -> Self {
        match malformed {
            Malformed::Truncated => Self::Truncated,
            Malformed::BadVersion => Self::BadVersion,
            Malformed::BadHeaderLen => Self::BadHeaderLen,
            Malformed::BadTotalLen => Self::BadTotalLen,
            Malformed::BadLength => Self::BadLength,
            Malformed::BadChecksum => Self::BadChecksum,
            Malformed::BadOption => Self::IpBadOptions,
            Malformed::BadAddressFormat | Malformed::BadOperation => Self::ArpMalformed,
            Malformed::BadQuote => Self::IcmpBadQuote,
            // `Malformed` is non-exhaustive.
            _ => Self::BadField,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn numbers_are_dense_and_names_are_unique() {
        let mut names = HashSet::new();
        for (number, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), number);
            assert!(names.insert(reason.name()), "{} twice", reason.name());
        }
        assert_eq!(names.len(), DropReason::COUNT);
    }

    #[test]
    fn malformed_keeps_its_meaning() {
        assert_eq!(DropReason::from(Malformed::Truncated), DropReason::Truncated);
        assert_eq!(DropReason::from(Malformed::BadTotalLen), DropReason::BadTotalLen);
        assert_eq!(DropReason::from(Malformed::BadOption), DropReason::IpBadOptions);
        assert_eq!(DropReason::from(Malformed::BadOperation), DropReason::ArpMalformed);
        assert_eq!(DropReason::from(Malformed::BadQuote), DropReason::IcmpBadQuote);
    }
}
