//! Two nodes, a cable, and the program under test.

use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::{Output, Stdio};
use std::time::Duration;

use ringwire_lab::{Child, Command, Lab, Link, Node};

pub(crate) const PORT: u16 = 9000;
const PATIENCE: Duration = Duration::from_secs(20);
const SIGTERM: i32 = 15;

/// The server's side runs Ringwire, the client's its kernel.
pub(crate) struct Rig {
    pub(crate) server: Node,
    pub(crate) client: Node,
    pub(crate) link: Link,
    // Last: it ends what runs in the nodes.
    _lab: Lab,
}

impl Rig {
    pub(crate) fn new() -> Rig {
        let lab = Lab::new().unwrap();
        let (server, client) = (lab.node("server").unwrap(), lab.node("client").unwrap());
        let link = lab.link(&server, &client).direct().up().unwrap();
        Rig { server, client, link, _lab: lab }
    }

    /// An address that only Ringwire can have, as --address wants it.
    pub(crate) fn own_address(&self, node: &Node) -> String {
        format!("{}/{}", self.link.spare_addr(node), self.link.prefix_len())
    }

    /// `ringwire` in a node, its arguments split at blanks.
    pub(crate) fn ringwire(&self, node: &Node, args: &str) -> Command {
        let mut command = node.command(env!("CARGO_BIN_EXE_ringwire"));
        command.args(args.split(' ')).stdin(Stdio::null());
        command
    }

    pub(crate) fn output(&self, node: &Node, args: &str) -> Output {
        self.ringwire(node, args).output().unwrap()
    }

    /// Starts a server and waits until it serves.
    pub(crate) fn serve(&self, args: &str) -> Serving {
        let ifname = self.link.name(&self.server);
        let mut command = self.ringwire(&self.server, &format!("serve {args} -i {ifname}"));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut banner = String::new();
        stdout.read_line(&mut banner).unwrap();
        let mut serving = Serving { child, banner };
        assert!(serving.banner.starts_with("serving "), "{}", serving.stderr());
        serving
    }

    /// A connection of the client's kernel.
    pub(crate) fn connect(&self, address: IpAddr) -> TcpStream {
        let target = SocketAddr::new(address, PORT);
        let stream = self.client.run(|| TcpStream::connect_timeout(&target, PATIENCE)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }
}

/// A running server.
pub(crate) struct Serving {
    child: Child,
    pub(crate) banner: String,
}

impl Serving {
    fn stderr(&mut self) -> String {
        let mut text = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        text
    }

    /// Asks it to end; it must do so in order, and have nothing to complain about.
    pub(crate) fn end(mut self) {
        self.child.signal(SIGTERM).unwrap();
        let status = self.child.wait().unwrap();
        assert_eq!(status.code(), Some(0), "{}", self.stderr());
    }
}
