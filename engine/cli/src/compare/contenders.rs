//! The processes of a comparison: servers that take turns, and the generator.

use std::io::{self, BufRead, BufReader, Read};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use ringwire_lab::{Child, Node};
use ringwire_load::compare::{Contender, Generator, Plan, Row, Running};
use ringwire_load::{Report, Work};
use signal_hook::consts::SIGTERM;

use crate::args::{CompareArgs, Extent};
use crate::refusal::{Exit, Refusal};

use super::Bench;
use super::testpmd::Testpmd;

const RINGWIRE: &str = "ringwire";
const KERNEL_BLOCKING: &str = "kernel-blocking";
const KERNEL_SPINNING: &str = "kernel-spinning";
const REFLECTOR: &str = "reflector";
pub(super) const TESTPMD: &str = "dpdk-testpmd";
/// In the order of the table.
const ALL: [&str; 5] = [REFLECTOR, TESTPMD, RINGWIRE, KERNEL_BLOCKING, KERNEL_SPINNING];
/// What ratios are taken to: the first gives the verdicts, the second shows how far the limit is.
pub(super) const REFERENCES: [&str; 2] = [KERNEL_BLOCKING, REFLECTOR];

pub(super) const PORT: u16 = 9000;
/// A server that is not ready by then is given up.
const START_LIMIT: Duration = Duration::from_secs(10);
/// One that does not end by then is killed.
const STOP_LIMIT: Duration = Duration::from_secs(3);
/// What a generator may need beyond its warm-up and its window.
const GENERATOR_SLACK: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(2);

/// Those that were asked for, in the order of the table.
pub(super) fn contenders(
    args: &CompareArgs,
    bench: &Bench,
    plan: &Plan,
) -> Result<Vec<Box<dyn Contender>>, Refusal> {
    if let Some(unknown) = args.stacks.iter().find(|name| !ALL.contains(&name.as_str())) {
        let what = format!("there is no contender '{unknown}'");
        return Err(Refusal::new(Exit::Usage, what, format!("--stacks {}", ALL.join(","))));
    }
    let unasked = |name: &str| name != TESTPMD || (args.extent == Extent::Full && Testpmd::is_installed());
    let wanted = |name: &str| match args.stacks.is_empty() {
        true => unasked(name),
        false => args.stacks.iter().any(|wanted| wanted == name),
    };
    let program = own_program()?;
    let chosen = ALL.into_iter().filter(|name| wanted(name));
    Ok(chosen.map(|name| contender(name, bench, plan, &program)).collect())
}

fn contender(name: &'static str, bench: &Bench, plan: &Plan, program: &Path) -> Box<dyn Contender> {
    let (node, link) = (bench.server.clone(), &bench.link);
    if name == TESTPMD {
        return Box::new(Testpmd::new(bench, plan));
    }
    let ifname = link.name(&node);
    let own = format!("{}/{}", link.spare_addr(&node), link.prefix_len());
    let (address, options): (IpAddr, &[&str]) = match name {
        REFLECTOR => (link.addr(&node), &["--stack", "reflector", "-i", ifname]),
        RINGWIRE => (link.spare_addr(&node), &["-i", ifname, "-a", &own, "--poll-mode", "busy"]),
        KERNEL_SPINNING => (link.addr(&node), &["--stack", "kernel", "--poll-mode", "busy"]),
        _ => (link.addr(&node), &["--stack", "kernel"]),
    };
    Box::new(LabServer {
        name,
        target: SocketAddr::new(address, PORT),
        options: options.iter().map(|option| (*option).to_owned()).collect(),
        node,
        program: program.to_owned(),
        cpu: plan.server_cpu,
    })
}

fn own_program() -> Result<PathBuf, Refusal> {
    std::env::current_exe().map_err(|error| {
        Refusal::new(
            Exit::Refused,
            format_args!("cannot find this program's own file: {error}"),
            "is /proc mounted?",
        )
    })
}

/// `ringwire serve echo` in the server's node.
struct LabServer {
    name: &'static str,
    target: SocketAddr,
    options: Vec<String>,
    node: Node,
    program: PathBuf,
    cpu: usize,
}

impl Contender for LabServer {
    fn name(&self) -> &str {
        self.name
    }

    fn serves(&self, work: Work) -> bool {
        self.name != REFLECTOR || work == Work::UdpRr
    }

    fn start(&mut self, row: &Row) -> Result<Box<dyn Running>, String> {
        let transport = if row.work == Work::UdpRr { "udp" } else { "tcp" };
        let mut command = self.node.command(&self.program);
        command.args(["serve", "echo", "--port", &PORT.to_string(), "--only", transport]);
        command.args(["--cpus", &self.cpu.to_string()]).args(&self.options);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().map_err(|error| format!("cannot start: {error}"))?;
        let mut process = Process { child };
        process.await_banner()?;
        Ok(Box::new(RunningServer { _process: process, target: self.target }))
    }
}

struct RunningServer {
    target: SocketAddr,
    _process: Process,
}

impl Running for RunningServer {
    fn target(&self) -> SocketAddr {
        self.target
    }
}

/// A child that is asked to end when dropped, and made to if it does not.
struct Process {
    child: Child,
}

impl Process {
    /// A server prints one line when it serves, and an error if it cannot.
    fn await_banner(&mut self) -> Result<(), String> {
        let stdout = self.child.stdout.take().ok_or("no output")?;
        let (sender, receiver) = mpsc::channel();
        // Not joined: it ends with the line, or with the process that it reads from.
        thread::spawn(move || {
            let mut line = String::new();
            let read = BufReader::new(stdout).read_line(&mut line);
            // The receiver has left if this comes too late.
            let _ = sender.send(read.map(|_| line));
        });
        match receiver.recv_timeout(START_LIMIT) {
            Ok(Ok(line)) if !line.is_empty() => Ok(()),
            Ok(_) => Err(self.complaint()),
            Err(_) => Err(format!("not ready after {} s", START_LIMIT.as_secs())),
        }
    }

    /// What the process said when it ended.
    fn complaint(&mut self) -> String {
        let mut text = String::new();
        if let Some(stderr) = &mut self.child.stderr {
            // What could be read is better than nothing.
            let _ = stderr.read_to_string(&mut text);
        }
        let line = text.trim_end().replace('\n', "; ");
        if line.is_empty() { "ended without a word".to_owned() } else { line }
    }

    /// Whether it ended in time.
    fn await_end(&self, limit: Duration) -> io::Result<bool> {
        let deadline = Instant::now() + limit;
        while self.child.try_wait()?.is_none() {
            if Instant::now() >= deadline {
                return Ok(false);
            }
            thread::sleep(POLL);
        }
        Ok(true)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nothing to do about errors: the lab's end kills what is left.
        let _ = self.child.signal(SIGTERM);
        if !matches!(self.await_end(STOP_LIMIT), Ok(true)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// `ringwire load` in the client's node, the same for every contender.
pub(super) struct LabGenerator {
    node: Node,
    program: PathBuf,
    ifname: String,
    address: String,
}

impl LabGenerator {
    pub(super) fn new(bench: &Bench) -> Result<LabGenerator, Refusal> {
        let (node, link) = (&bench.client, &bench.link);
        Ok(LabGenerator {
            node: node.clone(),
            program: own_program()?,
            ifname: link.name(node).to_owned(),
            address: format!("{}/{}", link.spare_addr(node), link.prefix_len()),
        })
    }
}

impl Generator for LabGenerator {
    fn measure(&mut self, target: SocketAddr, row: &Row, plan: &Plan) -> Result<Report, String> {
        let milliseconds = |time: Duration| format!("{}ms", time.as_millis());
        let mut command = self.node.command(&self.program);
        command.args(["--quiet", "load", row.work.name(), &target.to_string(), "--json"]);
        command.args(["-c", &row.in_flight.to_string(), "-s", &plan.size_bytes.to_string()]);
        command.args(["-d", &milliseconds(plan.duration), "--warmup", &milliseconds(plan.warmup)]);
        command.args(["-i", &self.ifname, "--cpus", &plan.client_cpu.to_string()]);
        if row.work != Work::UdpRr {
            // Its own address has all ports. Over UDP it shares the kernel's and so finds neighbours that do not
            // answer ARP, as testpmd does not.
            command.args(["-a", &self.address]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().map_err(|error| format!("cannot start the generator: {error}"))?;
        let mut process = Process { child };
        let limit = plan.warmup + plan.duration + GENERATOR_SLACK;
        if !process.await_end(limit).map_err(|error| format!("generator: {error}"))? {
            return Err(format!("the generator did not end within {} s", limit.as_secs()));
        }
        let mut json = String::new();
        if let Some(stdout) = &mut process.child.stdout {
            stdout.read_to_string(&mut json).map_err(|error| format!("generator: {error}"))?;
        }
        match serde_json::from_str::<Report>(&json) {
            Ok(report) if report.interrupted => Err("interrupted".to_owned()),
            Ok(report) => Ok(report),
            Err(_) => Err(format!("generator: {}", process.complaint())),
        }
    }
}
