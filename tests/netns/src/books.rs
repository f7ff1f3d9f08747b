//! The accounts of an engine that has ended: no frame is missing, every packet is somewhere, drops have known reasons.

use ringwire::frame::{Counts, FrameState};
use ringwire::{DropReason, Metrics, QueueMode};

/// Repeats of what had arrived: a peer sends them whenever this machine is slow to let the engine answer.
const REPEATS: [DropReason; 2] = [DropReason::TcpDuplicate, DropReason::TcpTimeWait];

/// What an engine leaves behind.
#[derive(Clone, Debug)]
pub struct Books {
    /// One entry per worker.
    pub frames: Vec<Counts>,
    /// All counters.
    pub metrics: Metrics,
    /// What the kernel gave.
    pub modes: Vec<QueueMode>,
}

impl Books {
    /// Everything is home and accounted for, and packets were only dropped for the reasons in `expected`, or because they
    /// were repeats.
    ///
    /// # Panics
    /// With all counters, when it is not so.
    #[track_caller]
    pub fn assert_balanced(&self, expected: &[DropReason]) {
        let metrics = &self.metrics;
        for counts in &self.frames {
            assert!(frames_are_home(counts), "frames are missing: {counts:?}\n{metrics}");
        }
        assert_eq!(metrics.sum(|worker| worker.connections), 0, "connections are left\n{metrics}");
        assert_eq!(
            metrics.sum(|worker| worker.protocol_errors),
            0,
            "the kernel's rings made no sense\n{metrics}"
        );
        assert!(rings_got_all(metrics), "what was redirected was not all received\n{metrics}");
        let is_expected = |reason| expected.contains(reason) || REPEATS.contains(reason);
        let unexpected: Vec<_> = metrics.drops.iter().filter(|(reason, _)| !is_expected(reason)).collect();
        assert!(unexpected.is_empty(), "drops that should not be: {unexpected:?}\n{metrics}");
        let received = metrics.sum(|worker| worker.rx_packets);
        let handled = metrics.sum(|worker| worker.delivered + worker.control_packets);
        let dropped: u64 = metrics.drops.iter().map(|(_, count)| count).sum();
        // Not equal, for what was dropped on the way out is there too.
        assert!((handled..=handled + dropped).contains(&received), "packets are unaccounted for\n{metrics}");
    }

    /// The count of one verdict of the steering program.
    pub fn steered(&self, verdict: &str) -> u64 {
        steered(&self.metrics, |name| name == verdict)
    }
}

/// Nothing is in use, nothing is lost, nothing is counted twice.
pub(crate) fn frames_are_home(counts: &Counts) -> bool {
    let home = counts.of(FrameState::Free) + counts.of(FrameState::Fill);
    counts.check() && home == counts.total()
}

/// Whether an engine that nobody uses any more has nothing left to do.
pub(crate) fn is_settled(metrics: &Metrics) -> bool {
    metrics.sum(|worker| worker.connections) == 0 && rings_got_all(metrics)
}

fn rings_got_all(metrics: &Metrics) -> bool {
    if metrics.steering.is_empty() {
        // No program, so nothing was redirected.
        return true;
    }
    let redirected = steered(metrics, |name| name.starts_with("redirect"));
    let received = metrics.sum(|worker| worker.rx_packets - worker.kernel_packets - worker.looped_packets);
    // What the kernel could not put into a ring is counted late, once a second.
    (received..=received + metrics.sum(|worker| worker.port_rx_dropped)).contains(&redirected)
}

fn steered(metrics: &Metrics, wanted: impl Fn(&str) -> bool) -> u64 {
    metrics.steering.iter().filter(|(name, _)| wanted(name)).map(|(_, count)| count).sum()
}
