//! Where packets come from and go to, and the set-up that each way needs.

use std::os::fd::AsFd;
use std::str::FromStr;

use crate::config::Config;
use crate::control::netns;
use crate::engine::{Engine, config_error};
use crate::error::{SetupError, SetupErrorKind};

/// How an engine reaches the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Backend {
    /// AF_XDP (feature `xdp`): a program in the driver steers packets into the engine's rings.
    #[default]
    Xdp,
    /// AF_PACKET (feature `packet`): the kernel copies packets into a ring. Loads no program, so it works where none may be
    /// loaded, such as in a user namespace; for addresses of the engine's own only.
    Packet,
}

/// A text that names no backend.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no backend: xdp or packet")]
pub struct InvalidBackend(String);

impl FromStr for Backend {
    type Err = InvalidBackend;

    fn from_str(text: &str) -> Result<Backend, InvalidBackend> {
        match text {
            "xdp" => Ok(Backend::Xdp),
            "packet" => Ok(Backend::Packet),
            other => Err(InvalidBackend(other.to_owned())),
        }
    }
}

impl core::fmt::Display for Backend {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Backend::Xdp => "xdp",
            Backend::Packet => "packet",
        })
    }
}

/// Starts on the in-memory wire, or in the configured network namespace.
pub(crate) fn start(mut config: Config) -> Result<Engine, SetupError> {
    if let Some(connect) = config.wire.0.take() {
        return crate::memory::start(config, connect);
    }
    if config.mtu_bytes.is_some() {
        return Err(config_error(
            "an interface has its own MTU",
            "leave mtu(..) out, and set it with ip link",
        ));
    }
    check(&config)?;
    match config.netns.take() {
        Some(netns) => netns::run_in(netns.as_fd(), || set_up(&config)).map_err(|error| {
            SetupError::new(
                SetupErrorKind::Capability,
                format!("cannot enter the network namespace: {error}"),
                "run as root, or grant CAP_SYS_ADMIN",
            )
            .with_errno(error.raw_os_error())
        })?,
        None => set_up(&config),
    }
}

/// What would be without effect for these addresses.
fn check(config: &Config) -> Result<(), SetupError> {
    let Some(interface) = &config.interface else { return Ok(()) };
    let is_shared = interface.addresses.is_empty();
    if is_shared && interface.gateway.is_some() {
        return Err(config_error(
            "a gateway without an address of the engine's own: on shared addresses packets go where the kernel's routes lead",
            "give the engine an address such as --address 10.0.0.50/24, or leave the gateway out and see ip route",
        ));
    }
    if !is_shared && config.shared_ports.is_some() {
        return Err(config_error(
            "shared_ports limits what is reserved in the kernel, and this engine's addresses are its own",
            "leave shared_ports out, or the addresses",
        ));
    }
    Ok(())
}

fn set_up(config: &Config) -> Result<Engine, SetupError> {
    match config.backend {
        #[cfg(feature = "xdp")]
        Backend::Xdp => crate::xdp::set_up(config),
        #[cfg(feature = "packet")]
        Backend::Packet => crate::packet::set_up(config),
        #[cfg(not(all(feature = "xdp", feature = "packet")))]
        absent => Err(SetupError::new(
            SetupErrorKind::Unsupported,
            format!("this build has no backend '{absent}'"),
            format!("build the crate ringwire with --features {absent}, or choose the other backend"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_configuration() {
        for backend in [Backend::Xdp, Backend::Packet] {
            assert_eq!(backend.to_string().parse(), Ok(backend));
        }
        let error = "dpdk".parse::<Backend>().unwrap_err();
        assert_eq!(error.to_string(), "'dpdk' is no backend: xdp or packet");
    }

    #[cfg(not(feature = "xdp"))]
    #[test]
    fn an_absent_backend_is_refused_by_name() {
        let error = set_up(&Config::default()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "this build has no backend 'xdp'\n\
             hint: build the crate ringwire with --features xdp, or choose the other backend"
        );
    }
}
