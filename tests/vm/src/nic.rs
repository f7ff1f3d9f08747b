//! What the driver says of itself, and how it shows that it copies nothing.

use ringwire::Metrics;
use ringwire_lab::Node;
use ringwire_netns::Books;

use crate::scene::{OURS, PEERS, Scene, run};

/// Packets that the program gave to an AF_XDP socket, copied or not.
const REDIRECTED: &str = "rx0_xdp_redirects";
/// Packets that the driver sent from packet memory; what the kernel has copied into buffers of its own is not here.
const SENT_FROM_FRAMES: &str = "tx0_xdp_tx";

/// The driver's counters of a card, by name.
#[derive(Clone, Debug)]
pub(crate) struct DriverCounters(String);

impl DriverCounters {
    /// Of the engine's card.
    pub(crate) fn ours() -> DriverCounters {
        DriverCounters(run(&["ethtool", "-S", OURS]))
    }

    /// Of the card at the peer.
    pub(crate) fn peers(peer: &Node) -> DriverCounters {
        let output = peer.command("ethtool").args(["-S", PEERS]).output().expect("ethtool is here");
        DriverCounters(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// One counter.
    ///
    /// # Panics
    /// When the driver has none of that name.
    pub(crate) fn get(&self, name: &str) -> u64 {
        let mut lines = self.0.lines().filter_map(|line| line.trim().split_once(": "));
        let found = lines.find(|(key, _)| *key == name).and_then(|(_, value)| value.parse().ok());
        found.unwrap_or_else(|| panic!("no {name} in {}", self.0))
    }
}

/// A card before a test.
#[derive(Clone, Debug)]
pub(crate) struct Watched(DriverCounters);

impl Watched {
    /// The engine's.
    pub(crate) fn ours() -> Watched {
        Watched(DriverCounters::ours())
    }

    /// The one at the peer.
    pub(crate) fn peers(scene: &Scene) -> Watched {
        Watched(DriverCounters::peers(&scene.peer))
    }

    /// An engine on this card had zero-copy: the kernel says so of its sockets, and the driver has counted every packet of its.
    ///
    /// # Panics
    /// When it was otherwise.
    pub(crate) fn assert_zero_copy(&self, books: &Books, now: &DriverCounters) {
        assert!(
            books.modes.iter().all(|mode| mode.zero_copy && mode.attach == "native"),
            "{:?}",
            books.modes
        );
        let moved = |name| now.get(name) - self.0.get(name);
        let metrics = &books.metrics;
        assert_eq!(moved(REDIRECTED), redirected(metrics), "{now:?}\n{metrics}");
        assert_eq!(moved(SENT_FROM_FRAMES), metrics.sum(|worker| worker.tx_packets), "{now:?}\n{metrics}");
    }

    /// The kernel has copied what was sent.
    pub(crate) fn assert_copied(&self, books: &Books, now: &DriverCounters) {
        assert!(books.modes.iter().all(|mode| !mode.zero_copy), "{:?}", books.modes);
        assert!(books.metrics.sum(|worker| worker.tx_packets) > 0, "nothing was sent\n{}", books.metrics);
        assert_eq!(now.get(SENT_FROM_FRAMES), self.0.get(SENT_FROM_FRAMES), "{now:?}");
    }
}

fn redirected(metrics: &Metrics) -> u64 {
    metrics.steering.iter().filter(|(name, _)| name.starts_with("redirect")).map(|(_, count)| count).sum()
}
