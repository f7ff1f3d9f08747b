//! Wireshark's opinion of a capture.

use std::io;
use std::path::Path;
use std::process::Command;

use crate::End;

/// What the link was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quality {
    /// It lost, reordered and repeated nothing.
    LossFree,
    /// It, or who received from it, may have.
    Any,
}

/// Of packets from the judged address: also whatever Wireshark takes for an error. Checksums are looked at only when asked for, see
/// [`tshark`].
const MUST_NOT_SEND: &str = "_ws.malformed || _ws.expert.severity == 8388608 || ip.checksum.status == 0 || \
    tcp.checksum.status == 0 || udp.checksum.status == 0 || tcp.options.wscale.shift.invalid";

/// Of either end.
const NOT_WITHOUT_LOSS: &str = "tcp.analysis.retransmission || tcp.analysis.fast_retransmission || \
    tcp.analysis.spurious_retransmission || tcp.analysis.out_of_order || tcp.analysis.lost_segment || \
    tcp.analysis.ack_lost_segment || tcp.analysis.duplicate_ack";

/// The packets of `path` that must not be there, a line each, which begins with its number and its time since 1970: what `ours` sent malformed or with a wrong checksum, and on a loss-free
/// link whatever either end repeated.
///
/// # Errors
/// tshark cannot be run, or does not understand the file.
pub fn tshark(path: &Path, ours: impl Into<End>, quality: Quality) -> io::Result<Vec<String>> {
    let mut filter = format!("({} && ({MUST_NOT_SEND}))", ours.into().sent());
    if quality == Quality::LossFree {
        filter = format!("{filter} || {NOT_WITHOUT_LOSS}");
    }
    let mut command = Command::new("tshark");
    command.arg("-n").arg("-r").arg(path).args(["-Y", &filter, "-T", "fields"]);
    // What streams and datagrams carry is nobody's protocol: by its port it would be taken for one, and found malformed.
    command.args(["-d", "tcp.port==0-65535,data", "-d", "udp.port==0-65535,data"]);
    // Wireshark does not validate by itself.
    for option in ["ip.check_checksum", "tcp.check_checksum", "udp.check_checksum"] {
        command.arg("-o").arg(format!("{option}:TRUE"));
    }
    for field in ["frame.number", "frame.time_epoch", "_ws.col.Info", "_ws.expert.message"] {
        command.args(["-e", field]);
    }
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    // A capture that was ended in the middle of a packet is one that was ended.
    if !output.status.success() && !said.contains("cut short") {
        let first = said.lines().find(|line| line.starts_with("tshark:")).unwrap_or(&said);
        return Err(io::Error::other(first.to_owned()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}
