//! `--so_flags`: what packetdrill cannot tell the library by its interface.

use std::net::Ipv4Addr;
use std::time::Duration;

use ringwire::{Cidr, CongestionControl, Ecn, FastOpenKeys, Pacing, TcpOptions};

/// Whose clock the test runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Time {
    /// The library's, which jumps to whatever happens next.
    Virtual,
    /// The system's.
    Real,
}

/// Everything that can be set.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The clock.
    pub time: Time,
    /// The stack's own address.
    pub address: Cidr,
    /// The router to all others.
    pub gateway: Ipv4Addr,
    /// Bytes of the longest IP packet.
    pub mtu: u16,
    /// How long `netdev_receive` waits for a packet.
    pub patience: Duration,
    /// What a socket begins with.
    pub tcp: TcpOptions,
}

/// Linux's tcp_rmem and tcp_wmem as Google's scripts set them, so that the window scale is 8.
const RECV_BUFFER_MAX_BYTES: u32 = 15_728_640;
/// Linux's TCP_MAX_QUICKACKS.
const QUICK_ACKS: u8 = 16;
/// `tcp_fastopen_key` in Linux's and Google's scripts.
const FAST_OPEN_KEY: [u8; 16] = *b"\xa1\xa1\xa1\xa1\xb2\xb2\xb2\xb2\xc3\xc3\xc3\xc3\xd4\xd4\xd4\xd4";
/// Longer than the longest retransmission timeout.
const PATIENCE: Duration = Duration::from_secs(130);

impl Default for Settings {
    fn default() -> Settings {
        let mut tcp = TcpOptions::default();
        tcp.recv_buffer_max_bytes = RECV_BUFFER_MAX_BYTES;
        tcp.quick_acks = QUICK_ACKS;
        // As Linux without fq.
        tcp.pacing = Pacing::Off;
        tcp.fast_open_keys = FastOpenKeys::from_bytes(&FAST_OPEN_KEY);
        let address = Cidr { address: Ipv4Addr::new(192, 168, 0, 1), prefix_len: 16 };
        Settings {
            time: Time::Virtual,
            address,
            gateway: Ipv4Addr::new(192, 168, 0, 2),
            mtu: 1500,
            patience: PATIENCE,
            tcp,
        }
    }
}

impl Settings {
    /// Reads `name=value,name=value`; nothing is the default of everything.
    ///
    /// # Errors
    /// A sentence that names what is wrong.
    pub fn parse(flags: &str) -> Result<Settings, String> {
        let mut settings = Settings::default();
        for flag in flags.split(',').map(str::trim).filter(|flag| !flag.is_empty()) {
            let (name, value) = flag.split_once('=').unwrap_or((flag, ""));
            settings.set(name, value).map_err(|what| format!("--so_flags: '{flag}': {what}"))?;
        }
        if settings.gateway == settings.address.address || !settings.address.contains(settings.gateway) {
            return Err(format!(
                "--so_flags: gateway {} is no neighbour of {}",
                settings.gateway, settings.address
            ));
        }
        Ok(settings)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let tcp = &mut self.tcp;
        match name {
            "time" => {
                self.time = one_of(value, &[("virtual", Time::Virtual), ("real", Time::Real)])?;
            }
            "address" => self.address = value.parse().map_err(|error| format!("{error}"))?,
            "gateway" => self.gateway = value.parse().map_err(|_| "not an IPv4 address".to_owned())?,
            "mtu" => self.mtu = number(value)?,
            "patience" => self.patience = Duration::from_secs(number(value)?),
            "cc" => {
                let names = [
                    ("cubic", CongestionControl::Cubic),
                    ("reno", CongestionControl::NewReno),
                    ("dctcp", CongestionControl::Dctcp),
                    ("bbr", CongestionControl::Bbr),
                ];
                tcp.congestion_control = one_of(value, &names)?;
            }
            "ecn" => {
                let names = [("off", Ecn::Off), ("answer", Ecn::Answer), ("ask", Ecn::Ask)];
                tcp.ecn = one_of(value, &names)?;
            }
            "pacing" => tcp.pacing = one_of(value, &Pacing::ALL.map(|pacing| (pacing.name(), pacing)))?,
            "timestamps" => tcp.timestamps = switch(value)?,
            "sack" => tcp.sack = switch(value)?,
            "wscale" => tcp.window_scaling = switch(value)?,
            "fastopen" => tcp.fast_open = switch(value)?,
            "fastopen_key" => {
                let keys = value.replace(':', ",").parse();
                tcp.fast_open_keys = Some(keys.map_err(|_| "not a key such as 1-2-3-4".to_owned())?);
            }
            "fastopen_cookie" => tcp.fast_open_no_cookie = !switch(value)?,
            "quickack" => tcp.quick_acks = number(value)?,
            "rcvbuf" => tcp.recv_buffer_bytes = number(value)?,
            "rcvbuf_max" => tcp.recv_buffer_max_bytes = number(value)?,
            "sndbuf" => tcp.send_buffer_bytes = number(value)?,
            "sndbuf_max" => tcp.send_buffer_max_bytes = number(value)?,
            "time_wait" => tcp.time_wait = Duration::from_secs(number(value)?),
            _ => {
                return Err(
                    "unknown; there are time, address, gateway, mtu, patience, cc, ecn, timestamps, sack, \
                            wscale, fastopen, fastopen_key, fastopen_cookie, quickack, rcvbuf, rcvbuf_max, sndbuf, sndbuf_max, time_wait"
                        .to_owned(),
                );
            }
        }
        Ok(())
    }
}

fn switch(value: &str) -> Result<bool, String> {
    one_of(value, &[("on", true), ("off", false)])
}

fn one_of<T: Copy>(value: &str, names: &[(&str, T)]) -> Result<T, String> {
    names.iter().find(|(name, _)| *name == value).map(|(_, choice)| *choice).ok_or_else(|| {
        let names: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
        format!("there are {}", names.join(", "))
    })
}

fn number<T: std::str::FromStr>(value: &str) -> Result<T, String> {
    value.parse().map_err(|_| "not a number that fits".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_is_taken() {
        let all = "time=real,address=10.1.0.1/24, gateway=10.1.0.9,mtu=1280,patience=7,cc=reno,ecn=ask,pacing=on,timestamps=off,\
                   sack=off,wscale=off,fastopen=on,fastopen_key=1-0-0-0:0-0-0-80000000,fastopen_cookie=off,quickack=0,rcvbuf=1,rcvbuf_max=2,sndbuf=3,sndbuf_max=4,time_wait=5";
        let settings = Settings::parse(all).unwrap();
        let mut tcp = TcpOptions::default();
        (tcp.congestion_control, tcp.ecn) = (CongestionControl::NewReno, Ecn::Ask);
        (tcp.timestamps, tcp.sack, tcp.window_scaling, tcp.quick_acks) = (false, false, false, 0);
        (tcp.recv_buffer_bytes, tcp.recv_buffer_max_bytes) = (1, 2);
        (tcp.send_buffer_bytes, tcp.send_buffer_max_bytes) = (3, 4);
        tcp.time_wait = Duration::from_secs(5);
        (tcp.fast_open, tcp.fast_open_no_cookie, tcp.pacing) = (true, true, Pacing::On);
        let mut keys = [0; 32];
        (keys[0], keys[31]) = (1, 0x80);
        tcp.fast_open_keys = FastOpenKeys::from_bytes(&keys);
        let expected = Settings {
            time: Time::Real,
            address: "10.1.0.1/24".parse().unwrap(),
            gateway: Ipv4Addr::new(10, 1, 0, 9),
            mtu: 1280,
            patience: Duration::from_secs(7),
            tcp,
        };
        assert_eq!(settings, expected);
        assert_eq!(Settings::parse(""), Ok(Settings::default()));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (flags, part) in [
            ("speed=9", "'speed=9': unknown; there are time"),
            ("time=slow", "there are virtual, real"),
            ("mtu=70000", "'mtu=70000': not a number"),
            ("address=1.2.3.4", "prefix length"),
            ("sack", "there are on, off"),
            ("fastopen_key=1-2-3", "not a key such as"),
            ("address=10.0.0.1/24", "gateway 192.168.0.2 is no neighbour of 10.0.0.1/24"),
        ] {
            let error = Settings::parse(flags).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
