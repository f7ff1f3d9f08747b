//! The closed loop over kernel sockets: one thread, non-blocking, epoll for streams and
//! recvmmsg/sendmmsg for datagrams.

mod datagrams;
mod streams;

use crate::closed_loop::{self, LoadError, Waiting};
use crate::meter::{Measured, Watch};
use crate::scenario::{Scenario, Work};

/// Runs `scenario` on the calling thread.
pub fn run(scenario: &Scenario, waiting: Waiting, watch: Watch<'_>) -> Result<Measured, LoadError> {
    match scenario.work {
        Work::UdpRr => {
            let socket = datagrams::KernelDatagrams::open(scenario)?;
            closed_loop::datagrams::run(scenario, socket, watch, waiting.bound())
        }
        Work::TcpRr | Work::TcpCrr => {
            let streams = streams::KernelStreams::new(scenario)?;
            closed_loop::streams::run(scenario, streams, watch, waiting.bound())
        }
    }
}
