//! testpmd as a contender: the limit again, by somebody else's hand.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::thread;
use std::time::Duration;

use ringwire_lab::Node;
use ringwire_load::Work;
use ringwire_load::compare::{Contender, Plan, Row, Running};
use ringwire_peers::testpmd::{self, TestpmdConfig, testpmd_command};

use super::Bench;
use super::contenders::{PORT, TESTPMD};

const START_LIMIT: Duration = Duration::from_secs(20);
/// Long enough for an answer to ARP over a veth.
const ARP_WAIT: Duration = Duration::from_millis(20);

pub(super) struct Testpmd {
    server: Node,
    client: Node,
    target: SocketAddr,
    config: TestpmdConfig,
}

impl Testpmd {
    pub(super) fn new(bench: &Bench, plan: &Plan) -> Testpmd {
        let config = TestpmdConfig {
            interface: bench.link.name(&bench.server).to_owned(),
            queue_id: 0,
            forward_cpu: plan.server_cpu,
            main_cpu: plan.client_cpu,
        };
        Testpmd {
            server: bench.server.clone(),
            client: bench.client.clone(),
            target: SocketAddr::new(bench.link.addr(&bench.server), PORT),
            config,
        }
    }

    pub(super) fn is_installed() -> bool {
        let config = TestpmdConfig { interface: String::new(), queue_id: 0, forward_cpu: 0, main_cpu: 0 };
        testpmd_command(&config).is_some()
    }

    /// Makes the client's kernel learn the server's hardware address while there still is a kernel to answer:
    /// the entry is good for 15 s at least (base_reachable_time), which outlasts a round.
    fn learn_neighbour(&self) -> io::Result<()> {
        self.client.run(|| {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
            socket.send_to(&[], self.target)?;
            thread::sleep(ARP_WAIT);
            Ok(())
        })
    }
}

impl Contender for Testpmd {
    fn name(&self) -> &str {
        TESTPMD
    }

    fn serves(&self, work: Work) -> bool {
        work == Work::UdpRr
    }

    fn start(&mut self, _: &Row) -> Result<Box<dyn Running>, String> {
        self.learn_neighbour().map_err(|error| format!("no neighbour entry: {error}"))?;
        let process = self.server.run(|| testpmd::Testpmd::start(&self.config, START_LIMIT));
        let _process = process.map_err(|error| error.to_string())?;
        Ok(Box::new(RunningTestpmd { target: self.target, _process }))
    }
}

struct RunningTestpmd {
    target: SocketAddr,
    _process: testpmd::Testpmd,
}

impl Running for RunningTestpmd {
    fn target(&self) -> SocketAddr {
        self.target
    }
}
