//! Counters: plain integers on the worker, published by relaxed stores, read by anybody.
//!
//! Every received packet is delivered, passed on, or counted under exactly one [`DropReason`]: the sums agree.

use core::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam::utils::CachePadded;
use ringwire_proto::DropReason;

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// Counters of one worker, all since start.
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct WorkerCounters { $($(#[doc = $doc])+ pub $name: u64,)+ }

        const COUNTER_NAMES: &[&str] = &[$(stringify!($name),)+];

        impl WorkerCounters {
            fn values(&self) -> [u64; COUNTER_NAMES.len()] {
                [$(self.$name,)+]
            }

            fn from_values(values: [u64; COUNTER_NAMES.len()]) -> WorkerCounters {
                let [$($name,)+] = values;
                WorkerCounters { $($name,)+ }
            }
        }
    };
}

counters! {
    /// Packets received.
    rx_packets,
    /// Those of them that came by no ring but by way of the kernel: from local clients, or in fragments.
    kernel_packets,
    /// Those of them that this worker has sent to itself, with dedicated addresses.
    looped_packets,
    /// Bytes of the packets received, with headers.
    rx_bytes,
    /// Packets put on the rings.
    tx_packets,
    /// Bytes of those packets, with headers.
    tx_bytes,
    /// Payload bytes copied by the engine: 0 for received in-order payload and for `into_tx`, once for `send(&[u8])`.
    copied_bytes,
    /// TCP segments and UDP datagrams handed to a socket.
    delivered,
    /// Packets given to the worker whose socket they are for; delivered or dropped there.
    handed_over,
    /// ARP and ICMP packets handled.
    control_packets,
    /// ICMP errors about datagrams of sockets without a peer; a connected socket's next call returns the error instead.
    datagram_errors,
    /// Connections opened by peers.
    accepted,
    /// Connections opened by the application.
    connected,
    /// Connections that ended.
    closed,
    /// Connections held now, in any state but CLOSED.
    connections,
    /// Those of them that are only remembered: closed by the application, in TIME-WAIT.
    time_waits,
    /// Bytes on the heap that sockets hold now, for want of frames.
    heap_bytes,
    /// Turns during which memory was short, so that no receive buffer grew.
    short_turns,
    /// SYNs and cookies that opened nothing because memory was short; dropped as `no_memory`.
    syns_refused,
    /// Pieces ahead of a gap that were given up because memory was short.
    early_shed,
    /// Writes that found no memory.
    writes_refused,
    /// Connections reset because their peers took nothing for long while memory for sending was short.
    stalled_cut,
    /// Connections reset because too many had been closed by the application and not by their peers.
    orphans_cut,
    /// Connections forgotten before the end of TIME-WAIT, because there were too many.
    time_waits_cut,
    /// SYN-ACKs sent that left nothing behind, because the listener's SYN queue was full.
    cookies_sent,
    /// Connections made from what acknowledged one of those; counted in `accepted` too.
    cookies_accepted,
    /// Acknowledgements that no SYN-ACK of this time explains, met while cookies were out; answered by a reset.
    cookies_refused,
    /// Connections that the application got with their SYN (Fast Open); counted in `accepted` too.
    fast_opened,
    /// SYNs with a wrong Fast Open cookie, or one too many: they open in the ordinary way.
    fast_open_refused,
    /// Connections opened by the application whose peers took the text of the SYN; counted in `connected` too.
    fast_connected,
    /// Resets sent for segments without a connection.
    resets_sent,
    /// Turns of the loop.
    turns,
    /// The longest time between two turns, in nanoseconds.
    longest_turn_ns,
    /// Times that a frame was wanted and none could be had.
    frames_wanted,
    /// Packets the device or the kernel dropped before the rings.
    port_rx_dropped,
    /// Completions or addresses from the device that made no sense.
    protocol_errors,
}

/// One worker's counters as others see them. One writer: the worker.
#[derive(Debug)]
pub(crate) struct Published {
    values: CachePadded<[AtomicU64; COUNTER_NAMES.len()]>,
    drops: CachePadded<[AtomicU64; DropReason::COUNT]>,
}

impl Default for Published {
    fn default() -> Published {
        Published {
            values: CachePadded::new([const { AtomicU64::new(0) }; COUNTER_NAMES.len()]),
            drops: CachePadded::new([const { AtomicU64::new(0) }; DropReason::COUNT]),
        }
    }
}

impl Published {
    // Relaxed throughout: each counter stands for itself; a snapshot may mix two turns.
    fn load(&self) -> (WorkerCounters, Vec<u64>) {
        let mut values = [0; COUNTER_NAMES.len()];
        for (value, published) in values.iter_mut().zip(self.values.iter()) {
            *value = published.load(Ordering::Relaxed);
        }
        let drops = self.drops.iter().map(|drop| drop.load(Ordering::Relaxed)).collect();
        (WorkerCounters::from_values(values), drops)
    }
}

/// The worker's own side.
#[derive(Debug, Clone)]
pub(crate) struct Counters {
    pub(crate) now: WorkerCounters,
    drops: [u64; DropReason::COUNT],
    drops_changed: bool,
}

impl Default for Counters {
    fn default() -> Counters {
        Counters { now: WorkerCounters::default(), drops: [0; DropReason::COUNT], drops_changed: false }
    }
}

impl Counters {
    #[inline]
    pub(crate) fn drop_packet(&mut self, reason: DropReason) {
        if let Some(count) = self.drops.get_mut(reason.index()) {
            *count += 1;
        }
        self.drops_changed = true;
    }

    /// Called once per turn.
    pub(crate) fn publish(&mut self, to: &Published) {
        for (value, published) in self.now.values().into_iter().zip(to.values.iter()) {
            published.store(value, Ordering::Relaxed);
        }
        if core::mem::take(&mut self.drops_changed) {
            for (value, published) in self.drops.iter().zip(to.drops.iter()) {
                published.store(*value, Ordering::Relaxed);
            }
        }
    }
}

/// What the XDP program decided, packets since start, by verdict.
pub type SteeringCounters = Vec<(&'static str, u64)>;

/// A snapshot of an engine's counters. `Display` is Prometheus text.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Metrics {
    /// One entry per worker.
    pub workers: Vec<WorkerCounters>,
    /// Drops by reason, summed over the workers; reasons that never happened are left out.
    pub drops: Vec<(DropReason, u64)>,
    /// Verdicts of the XDP program; empty over in-memory ports.
    pub steering: SteeringCounters,
}

impl Metrics {
    pub(crate) fn collect<'a>(
        workers: impl Iterator<Item = &'a Published>,
        steering: SteeringCounters,
    ) -> Metrics {
        let mut metrics = Metrics { steering, ..Metrics::default() };
        let mut sums = [0_u64; DropReason::COUNT];
        for published in workers {
            let (counters, drops) = published.load();
            metrics.workers.push(counters);
            for (sum, drop) in sums.iter_mut().zip(drops) {
                *sum += drop;
            }
        }
        metrics.drops = DropReason::ALL.iter().copied().zip(sums).filter(|(_, count)| *count > 0).collect();
        metrics
    }

    /// The count of one drop reason.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops.iter().find(|(r, _)| *r == reason).map_or(0, |(_, count)| *count)
    }

    /// The sum of one counter over all workers.
    pub fn sum(&self, counter: impl Fn(&WorkerCounters) -> u64) -> u64 {
        self.workers.iter().map(counter).sum()
    }
}

impl fmt::Display for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, name) in COUNTER_NAMES.iter().enumerate() {
            for (worker, counters) in self.workers.iter().enumerate() {
                let value = counters.values().get(index).copied().unwrap_or(0);
                writeln!(f, "ringwire_{name}{{worker=\"{worker}\"}} {value}")?;
            }
        }
        for (reason, count) in &self.drops {
            writeln!(f, "ringwire_drops{{reason=\"{}\"}} {count}", reason.name())?;
        }
        for (verdict, count) in &self.steering {
            writeln!(f, "ringwire_steering{{verdict=\"{verdict}\"}} {count}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_shows_what_was_published() {
        let published = Published::default();
        let mut counters = Counters::default();
        counters.now.rx_packets = 3;
        counters.drop_packet(DropReason::NoFrame);
        counters.publish(&published);
        let metrics = Metrics::collect([&published].into_iter(), vec![("pass", 1)]);
        assert_eq!(metrics.sum(|worker| worker.rx_packets), 3);
        assert_eq!(metrics.dropped(DropReason::NoFrame), 1);
        let text = metrics.to_string();
        assert!(text.contains("ringwire_rx_packets{worker=\"0\"} 3\n"), "{text}");
        assert!(text.contains("ringwire_drops{reason=\"no_frame\"} 1\n"), "{text}");
        assert!(text.contains("ringwire_steering{verdict=\"pass\"} 1\n"), "{text}");
    }
}
