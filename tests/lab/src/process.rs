//! Programs inside nodes, and how they end.
//!
//! All programs of a lab live in one PID namespace, whose first process is a `cat` that reads a pipe
//! from this process. When the lab ends `cat` is killed; when this process dies in any way, also by
//! SIGKILL, the pipe closes and `cat` exits. Either way the kernel kills whatever is left in the PID
//! namespace: children, grandchildren and daemons alike.
//!
//! Where no PID namespace may be made, all of them have a mark in their environment, by which a guard finds them and their
//! offspring when the lab or this process ends. A program that starts another without its environment is not found.

use std::collections::hash_map::RandomState;
use std::ffi::OsStr;
use std::fs::File;
use std::hash::BuildHasher;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{self, ChildStderr, ChildStdin, ChildStdout, ExitStatus, Output, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use rustix::thread::LinkNameSpaceType;

use crate::guard::Guard;
use crate::level::Level;
use crate::node::{Node, Place, join};
use crate::sys;

/// The programs of one lab.
#[derive(Debug)]
pub(crate) struct Programs {
    state: Mutex<State>,
    level: Level,
}

#[derive(Debug, Default)]
enum State {
    /// No program was started yet.
    #[default]
    Idle,
    Running(Cradle),
    /// The lab is gone.
    Ended,
}

/// The children of ours, and the PID namespace that they live in, where one may be made.
#[derive(Debug)]
struct Cradle {
    held: Held,
    children: Vec<Arc<Mutex<process::Child>>>,
}

/// What ends the programs that their parents leave behind.
#[derive(Debug)]
enum Held {
    /// Process 1 of their namespace, which ends when its standard input closes, and the namespace.
    ByNamespace(process::Child, OwnedFd),
    /// Who kills whatever has this in its environment.
    ByMark(Guard, String),
}

/// The variable that marks programs.
const MARK: &str = "RINGWIRE_LAB_PROGRAM_OF";

impl Programs {
    pub(crate) fn new(level: Level) -> Programs {
        Programs { state: Mutex::default(), level }
    }

    /// Kills every program and waits until none is left.
    pub(crate) fn end(&self) {
        let State::Running(mut cradle) = std::mem::replace(&mut *lock(&self.state), State::Ended) else {
            return;
        };
        match &mut cradle.held {
            // Nothing to do about an error: it can only mean that the process is gone already.
            Held::ByNamespace(first, _) => drop(first.kill()),
            Held::ByMark(..) => {
                cradle.children.iter().for_each(|child| kill_with_offspring(&mut lock(child)))
            }
        }
        for child in &cradle.children {
            let _ = lock(child).wait();
        }
        match cradle.held {
            Held::ByNamespace(mut first, _) => drop(first.wait()),
            Held::ByMark(guard, _) => drop(guard),
        }
    }

    /// Starts `command` inside `node` and inside the lab's PID namespace.
    fn spawn(&self, node: &Node, command: &mut process::Command) -> io::Result<Arc<Mutex<process::Child>>> {
        let mut state = lock(&self.state);
        if node.place() == Place::Nowhere || node.place() == Place::Far {
            let lack = format!("node '{}' has no kernel: no program can run there", node.name());
            return Err(io::Error::new(io::ErrorKind::Unsupported, lack));
        }
        if matches!(*state, State::Idle) {
            *state = State::Running(Cradle::new(self.level)?);
        }
        let State::Running(cradle) = &mut *state else {
            return Err(io::Error::other("the lab has ended"));
        };
        command.process_group(0);
        let child = match &cradle.held {
            Held::ByNamespace(_, pids) => in_thread(|| {
                node.enter()?;
                let kind = Some(LinkNameSpaceType::ProcessID);
                rustix::thread::move_into_link_name_space(pids.as_fd(), kind)?;
                command.spawn()
            })?,
            Held::ByMark(_, mark) => command.env(MARK, mark).spawn()?,
        };
        let child = Arc::new(Mutex::new(child));
        cradle.children.push(Arc::clone(&child));
        Ok(child)
    }
}

impl Cradle {
    fn new(level: Level) -> io::Result<Cradle> {
        if !level.has_namespaces() {
            let random = RandomState::new();
            // 128 bits, so that no other lab's programs have the same.
            let mark = format!("{:016x}{:016x}", random.hash_one(0), random.hash_one(1));
            let guard = Guard::programs(&format!("{MARK}={mark}"))?;
            return Ok(Cradle { held: Held::ByMark(guard, mark), children: Vec::new() });
        }
        in_thread(|| {
            sys::unshare_children_pids()?;
            let first = process::Command::new("cat")
                .current_dir("/")
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()?;
            // The link can be opened only now: a PID namespace exists from its first process on.
            let pids = File::open("/proc/thread-self/ns/pid_for_children")?.into();
            Ok(Cradle { held: Held::ByNamespace(first, pids), children: Vec::new() })
        })
    }
}

/// A program to be run inside a node, with the methods of [`std::process::Command`].
#[derive(Debug)]
pub struct Command {
    command: process::Command,
    node: Node,
    deadline: Option<Duration>,
}

impl Command {
    pub(crate) fn new(program: &OsStr, node: Node) -> Command {
        Command { command: process::Command::new(program), node, deadline: None }
    }

    /// Adds one argument.
    pub fn arg(&mut self, arg: impl AsRef<OsStr>) -> &mut Command {
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    pub fn args(&mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> &mut Command {
        self.command.args(args);
        self
    }

    /// Sets an environment variable.
    pub fn env(&mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> &mut Command {
        self.command.env(name, value);
        self
    }

    /// Removes an environment variable.
    pub fn env_remove(&mut self, name: impl AsRef<OsStr>) -> &mut Command {
        self.command.env_remove(name);
        self
    }

    /// Sets the working directory.
    pub fn current_dir(&mut self, dir: impl AsRef<Path>) -> &mut Command {
        self.command.current_dir(dir);
        self
    }

    /// Sets the standard input.
    pub fn stdin(&mut self, stdio: impl Into<Stdio>) -> &mut Command {
        self.command.stdin(stdio);
        self
    }

    /// Sets the standard output.
    pub fn stdout(&mut self, stdio: impl Into<Stdio>) -> &mut Command {
        self.command.stdout(stdio);
        self
    }

    /// Sets the standard error.
    pub fn stderr(&mut self, stdio: impl Into<Stdio>) -> &mut Command {
        self.command.stderr(stdio);
        self
    }

    /// Gives the program so long in [`output`](Command::output) and [`status`](Command::status); then it is killed, and they
    /// return an error of kind [`TimedOut`](io::ErrorKind::TimedOut).
    pub fn deadline(&mut self, after: Duration) -> &mut Command {
        self.deadline = Some(after);
        self
    }

    /// Starts the program; it runs until it ends, is killed, or the lab ends.
    ///
    /// # Errors
    /// Those of [`std::process::Command::spawn`], and any after the lab has ended.
    pub fn spawn(&mut self) -> io::Result<Child> {
        let shared = self.node.programs().spawn(&self.node, &mut self.command)?;
        let mut child = lock(&shared);
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let id = child.id();
        drop(child);
        Ok(Child { shared, id, stdin, stdout, stderr })
    }

    /// Runs the program to its end, with its standard output and error collected and no input.
    pub fn output(&mut self) -> io::Result<Output> {
        self.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = self.spawn()?;
        let watched = Arc::clone(&child.shared);
        self.watch(&watched, || child.wait_with_output())
    }

    /// Runs the program to its end.
    pub fn status(&mut self) -> io::Result<ExitStatus> {
        let mut child = self.spawn()?;
        let watched = Arc::clone(&child.shared);
        self.watch(&watched, || child.wait())
    }

    /// Runs `wait`, which returns when the program has ended, and kills the program when its time is over.
    fn watch<T>(&self, child: &Mutex<process::Child>, wait: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let Some(deadline) = self.deadline else { return wait() };
        let (ended, is_over) = channel::<()>();
        let (result, was_killed) = thread::scope(|scope| {
            let watch = scope.spawn(move || {
                let was_killed = is_over.recv_timeout(deadline) == Err(RecvTimeoutError::Timeout);
                if was_killed {
                    kill_with_offspring(&mut lock(child));
                }
                was_killed
            });
            let result = wait();
            drop(ended);
            (result, join(watch))
        });
        if was_killed {
            let what = format!("{:?} has not ended within {deadline:?}", self.command.get_program());
            return Err(io::Error::new(io::ErrorKind::TimedOut, what));
        }
        result
    }
}

/// A running program. Dropping it lets the program run on; the end of the lab ends it.
#[derive(Debug)]
pub struct Child {
    shared: Arc<Mutex<process::Child>>,
    id: u32,
    /// The write end of the program's input, if piped.
    pub stdin: Option<ChildStdin>,
    /// The read end of the program's output, if piped.
    pub stdout: Option<ChildStdout>,
    /// The read end of the program's error output, if piped.
    pub stderr: Option<ChildStderr>,
}

impl Child {
    /// The process id, as this process sees it; the program itself sees another.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Sends SIGKILL; no error if the program has ended already.
    pub fn kill(&self) -> io::Result<()> {
        lock(&self.shared).kill()
    }

    /// Sends a signal by its number, as in kill(1); no error if the program has ended already.
    pub fn signal(&self, number: i32) -> io::Result<()> {
        let mut child = lock(&self.shared);
        // The id stays the program's own for as long as it was not waited for.
        if child.try_wait()?.is_some() {
            return Ok(());
        }
        let signal = Signal::from_named_raw(number).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(rustix::process::kill_process(pid_of(&child), signal)?)
    }

    /// The exit status if the program has ended.
    pub fn try_wait(&self) -> io::Result<Option<ExitStatus>> {
        lock(&self.shared).try_wait()
    }

    /// Closes the program's input and waits for its end.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        drop(self.stdin.take());
        let pid = {
            let mut child = lock(&self.shared);
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            pid_of(&child)
        };
        // Without the lock, so that kill() and the end of the lab get through; without reaping, so
        // that the process id stays valid until the lock is held again.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while let Err(rustix::io::Errno::INTR) = rustix::process::waitid(WaitId::Pid(pid), options) {}
        lock(&self.shared).wait()
    }

    /// Closes the program's input, collects its piped output and waits for its end.
    pub fn wait_with_output(mut self) -> io::Result<Output> {
        drop(self.stdin.take());
        let (stdout, stderr) = (self.stdout.take(), self.stderr.take());
        let (stdout, stderr) = thread::scope(|scope| {
            let stderr = scope.spawn(|| read_all(stderr));
            (read_all(stdout), join(stderr))
        });
        Ok(Output { status: self.wait()?, stdout: stdout?, stderr: stderr? })
    }
}

/// The program and, as it leads a group of its own, what it has started and not put elsewhere.
fn kill_with_offspring(child: &mut process::Child) {
    if let Ok(None) = child.try_wait() {
        // Not waited for, so the number is still the program's own; gone is as good as killed.
        let _ = rustix::process::kill_process_group(pid_of(child), Signal::KILL);
    }
}

fn read_all(pipe: Option<impl Read>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        pipe.read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

fn pid_of(child: &process::Child) -> Pid {
    Pid::from_child(child)
}

/// Runs `f` on a thread whose namespaces end with it.
fn in_thread<T: Send>(f: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| join(scope.spawn(f)))
}

/// Every critical section leaves its data whole, so a panic elsewhere does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
