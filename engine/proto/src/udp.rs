//! UDP input checks (RFC 768, RFC 1122 4.1).
//!
//! The length field is checked where the datagram is parsed; what is left is decided here.

use ringwire_wire::checksum::Sum;
use ringwire_wire::ipv4;
use ringwire_wire::udp::Datagram;

use crate::drop_reason::DropReason;
use crate::input::ChecksumPolicy;

/// Decides whether a socket may see this datagram; `sum` adds up its payload.
///
/// Source port 0 passes: RFC 768 gives it the meaning "no answer wanted".
#[inline]
pub fn check(
    policy: ChecksumPolicy,
    ip: &ipv4::Packet<'_>,
    datagram: &Datagram<'_>,
    sum: impl FnOnce(&[u8]) -> Sum,
) -> Result<(), DropReason> {
    if datagram.dst_port() == 0 {
        return Err(DropReason::UdpPortZero);
    }
    // RFC 1122 4.1.3.4: a checksum that is present and wrong means silent discard; absent is allowed on IPv4.
    let pseudo = Sum::pseudo_v4(ip.src(), ip.dst(), ip.protocol(), datagram.total_len());
    let is_right = datagram.verify_checksum_by(pseudo, sum)
        || policy == ChecksumPolicy::PartialOk && datagram.has_partial_checksum(pseudo);
    if is_right { Ok(()) } else { Err(DropReason::UdpChecksum) }
}
