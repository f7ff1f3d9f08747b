//! The configuration file: TOML, with keys named like the setters. An unknown key is an error, and so is one that this version
//! could only ignore.

mod entry;
mod keys;
#[cfg(test)]
mod tests;
pub mod units;

use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use crate::config::{AttachMode, BindMode, BusyPoll, Interface, NeedWakeup, PollMode, VerifyChecksum};
use crate::error::{SetupError, SetupErrorKind};
use crate::{Engine, EngineBuilder, TcpOptions};
use entry::{Entry, File};

/// Where [`Engine::from_env`] looks when `RINGWIRE_CONFIG` names no file.
const PLACES: [&str; 2] = ["ringwire.toml", "/etc/ringwire.toml"];

/// What a configuration file asks for; what it does not mention is `None` or the default. All keys, explained:
/// `deploy/ringwire.toml`.
///
/// ```
/// use ringwire::{PollMode, Settings, TcpOptions};
///
/// let text = r#"
/// workers = 2
/// poll_mode = "busy"
/// [[interface]]
/// name = "ens1"
/// address = ["10.0.0.50/24"]
/// [tcp]
/// time_wait = "30s"
/// "#;
/// let settings = Settings::parse(text, "ringwire.toml", TcpOptions::default())?;
/// assert_eq!((settings.workers, settings.poll_mode), (Some(2), Some(PollMode::Busy)));
/// assert_eq!(settings.tcp.time_wait.as_secs(), 30);
///
/// let error = Settings::parse("wokers = 2", "ringwire.toml", TcpOptions::default()).unwrap_err();
/// assert_eq!(error.to_string(), "ringwire.toml:1: unknown key 'wokers'\nhint: did you mean 'workers'?");
/// # Ok::<(), ringwire::SetupError>(())
/// ```
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Settings {
    /// `backend`.
    #[cfg(any(feature = "xdp", feature = "packet"))]
    pub backend: Option<crate::Backend>,
    /// `workers`.
    pub workers: Option<usize>,
    /// `cpus`: `"2-9"`.
    pub cpus: Option<Vec<usize>>,
    /// `poll_mode`.
    pub poll_mode: Option<PollMode>,
    /// `max_connections`.
    pub max_connections: Option<u32>,
    /// `max_orphans`.
    pub max_orphans: Option<u32>,
    /// `max_time_waits`.
    pub max_time_waits: Option<u32>,
    /// `shared_ports`.
    pub shared_ports: Option<u32>,
    /// `[memory] frames_per_worker`.
    pub frames_per_worker: Option<u32>,
    /// `[memory] ceiling`: of each worker.
    pub memory_ceiling_bytes: Option<u64>,
    /// `[[interface]]`.
    pub interface: Option<Interface>,
    /// `[tcp]`, over what was given to the reader.
    pub tcp: TcpOptions,
}

impl Settings {
    /// Reads a file. `tcp` is what holds for keys of `[tcp]` that are not there.
    ///
    /// # Errors
    /// [`SetupErrorKind::Config`]: the file cannot be read, is no TOML, or a key of it is unknown, of the wrong type or for something
    /// that this version does not have. The text begins with the file and the line.
    pub fn read(path: &Path, tcp: TcpOptions) -> Result<Settings, SetupError> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            let what = format!("cannot read the configuration {}: {error}", path.display());
            SetupError::new(SetupErrorKind::Config, what, "name a TOML file that this user can read")
                .with_errno(error.raw_os_error())
        })?;
        Settings::parse(&text, &path.display().to_string(), tcp)
    }

    /// Reads a text; `name` is what errors call it.
    ///
    /// # Errors
    /// As [`Settings::read`].
    pub fn parse(text: &str, name: &str, tcp: TcpOptions) -> Result<Settings, SetupError> {
        let file = File { name, text };
        let table = DeTable::parse(text).map_err(|error| {
            file.fault(
                error.span().map_or(0, |span| span.start),
                error.message(),
                "https://toml.io has the syntax",
            )
        })?;
        let mut settings = Settings { tcp, ..Settings::default() };
        for entry in file.entries("", table.get_ref()) {
            settings.take(&entry)?;
        }
        Ok(settings)
    }

    /// Reads the file that `RINGWIRE_CONFIG` names, else `./ringwire.toml`, else `/etc/ringwire.toml`.
    ///
    /// # Errors
    /// As [`Settings::read`], or there is none of them.
    pub fn from_env(tcp: TcpOptions) -> Result<Settings, SetupError> {
        let named = std::env::var_os("RINGWIRE_CONFIG").map(PathBuf::from);
        let path = named.or_else(|| PLACES.map(PathBuf::from).into_iter().find(|place| place.exists()));
        let path = path.ok_or_else(|| {
            let what = "no configuration: neither ./ringwire.toml nor /etc/ringwire.toml exists";
            SetupError::new(SetupErrorKind::Config, what, "write one, or name it in RINGWIRE_CONFIG")
        })?;
        Settings::read(&path, tcp)
    }

    /// Tells a builder all of it; what was said to it before stands where the file is silent.
    #[must_use]
    pub fn apply(self, builder: EngineBuilder) -> EngineBuilder {
        /// A setter is called for what is there.
        fn set<T>(
            builder: EngineBuilder,
            value: Option<T>,
            setter: impl FnOnce(EngineBuilder, T) -> EngineBuilder,
        ) -> EngineBuilder {
            match value {
                Some(value) => setter(builder, value),
                None => builder,
            }
        }
        let mut builder = builder.tcp(self.tcp);
        #[cfg(any(feature = "xdp", feature = "packet"))]
        {
            builder = set(builder, self.backend, EngineBuilder::backend);
        }
        builder = set(builder, self.workers, EngineBuilder::workers);
        builder = set(builder, self.cpus, EngineBuilder::cpus);
        builder = set(builder, self.poll_mode, EngineBuilder::poll_mode);
        builder = set(builder, self.max_connections, EngineBuilder::max_connections);
        builder = set(builder, self.max_orphans, EngineBuilder::max_orphans);
        builder = set(builder, self.max_time_waits, EngineBuilder::max_time_waits);
        builder = set(builder, self.shared_ports, EngineBuilder::shared_ports);
        builder = set(builder, self.frames_per_worker, EngineBuilder::frames_per_worker);
        builder = set(builder, self.memory_ceiling_bytes, EngineBuilder::memory_ceiling_bytes);
        set(builder, self.interface, EngineBuilder::interface)
    }

    fn take(&mut self, entry: &Entry<'_>) -> Result<(), SetupError> {
        match entry.key {
            "backend" => self.take_backend(entry)?,
            "workers" => self.workers = Some(entry.count()?),
            "cpus" => self.cpus = Some(entry.numbers()?.into_iter().map(|cpu| cpu as usize).collect()),
            "poll_mode" => self.poll_mode = Some(entry.choice(keys::POLL_MODES)?),
            "max_connections" => self.max_connections = Some(entry.count()?),
            "max_orphans" => self.max_orphans = Some(entry.count()?),
            "max_time_waits" => self.max_time_waits = Some(entry.count()?),
            "shared_ports" => self.shared_ports = Some(entry.count()?),
            "interface" => self.interface = Some(take_interfaces(entry)?),
            "memory" => {
                for entry in entry.table("[memory]")? {
                    match entry.key {
                        "frames_per_worker" => self.frames_per_worker = entry.count_or_auto()?,
                        "ceiling" => self.memory_ceiling_bytes = Some(entry.bytes()?),
                        _ => return Err(entry.unknown(keys::MEMORY)),
                    }
                }
            }
            "tcp" => {
                for entry in entry.table("[tcp]")? {
                    keys::take_tcp(&mut self.tcp, &entry)?;
                }
            }
            _ => return Err(entry.unknown(keys::TOP)),
        }
        Ok(())
    }

    #[cfg(any(feature = "xdp", feature = "packet"))]
    fn take_backend(&mut self, entry: &Entry<'_>) -> Result<(), SetupError> {
        self.backend = Some(entry.choice(keys::BACKENDS)?);
        Ok(())
    }

    #[cfg(not(any(feature = "xdp", feature = "packet")))]
    fn take_backend(&mut self, entry: &Entry<'_>) -> Result<(), SetupError> {
        Err(entry.absent("this build of ringwire has no backends"))
    }
}

/// The one `[[interface]]` of the file.
fn take_interfaces(entry: &Entry<'_>) -> Result<Interface, SetupError> {
    let DeValue::Array(interfaces) = entry.value else {
        return Err(entry.wrong("begin with [[interface]], in two pairs of brackets"));
    };
    let mut interfaces = interfaces.iter();
    match (interfaces.next(), interfaces.next()) {
        (None, _) => Err(entry.wrong("have one entry")),
        (Some(interface), None) => take_interface(&entry.item(interface)),
        (_, Some(second)) => Err(entry.item(second).absent("an engine has one interface so far")),
    }
}

fn take_interface(item: &Entry<'_>) -> Result<Interface, SetupError> {
    let entries = item.table("[[interface]]")?;
    let name = entries.iter().find(|entry| entry.key == "name");
    let name = name.ok_or_else(|| item.fault("[[interface]] has no name", "name = \"eth0\""))?.text()?;
    let mut interface = Interface::new(name);
    for entry in &entries {
        interface = match entry.key {
            "name" => interface,
            "queues" => match entry.value {
                DeValue::String(all) if all == "all" => interface,
                _ => interface.queues(entry.numbers()?),
            },
            "carve" => {
                entry.choice(keys::CARVES)?;
                interface
            }
            "attach_mode" => interface.attach_mode(entry.choice::<AttachMode>(keys::ATTACH_MODES)?),
            "bind_mode" => interface.bind_mode(entry.choice::<BindMode>(keys::BIND_MODES)?),
            "need_wakeup" => interface.need_wakeup(entry.choice::<NeedWakeup>(keys::NEED_WAKEUPS)?),
            "busy_poll" => interface.busy_poll(entry.choice::<BusyPoll>(keys::BUSY_POLLS)?),
            "verify_checksum" => {
                interface.verify_checksum(entry.choice::<VerifyChecksum>(keys::VERIFY_CHECKSUMS)?)
            }
            "address" => keys::addresses(entry)?.into_iter().fold(interface, Interface::address),
            "gateway" => interface.gateway(entry.parsed("an IPv4 address such as \"10.0.0.1\"")?),
            _ => return Err(entry.unknown(keys::INTERFACE)),
        };
    }
    Ok(interface)
}

impl Engine {
    /// Starts what the configuration file asks for: the one that `RINGWIRE_CONFIG` names, else `./ringwire.toml`, else
    /// `/etc/ringwire.toml`.
    ///
    /// Its `[tcp]` is [`Handle::tcp_options`](crate::Handle::tcp_options), which the application gives to `listen` and `connect`.
    ///
    /// # Errors
    /// As [`Settings::from_env`] and [`EngineBuilder::start`].
    #[cfg(any(feature = "xdp", feature = "packet"))]
    pub fn from_env() -> Result<Engine, SetupError> {
        Settings::from_env(TcpOptions::default())?.apply(Engine::builder()).start()
    }
}
