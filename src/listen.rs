//! Listening sockets: one per worker and address, so that the kernel spreads connections over the workers.
//!
//! In: settings. Out: bound, listening descriptors, closed when [`Listeners`] is dropped. What must stay true: an
//! address that another process listens on is refused, although SO_REUSEPORT would let us share it.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, TcpKeepalive, Type};

use crate::cluster::Node;
use crate::command::Front;
use crate::config::{ClusterMode, Settings, SharedPortMode};
use crate::ring::Fd;

/// Descriptors that the process needs beside its clients': rings, listeners, log, control.
const DESCRIPTORS_RESERVED: u64 = 64;

/// What is listened for.
#[derive(Debug, PartialEq, Eq)]
pub struct Purpose {
    /// As people call it.
    name: &'static str,
    /// The flag that names the port.
    flag: &'static str,
    /// The flags that say where to listen.
    flags: &'static str,
}

const RESP: &Purpose = &Purpose { name: "RESP", flag: "--port", flags: "--bind or --port" };
const MEMCACHE: &Purpose = &Purpose { name: "memcache", flag: "--memcache-port", flags: "--bind or --memcache-port" };
const HTTP: &Purpose = &Purpose { name: "HTTP", flag: "--http-port", flags: "--bind or --http-port" };
const CORE: &Purpose =
    &Purpose { name: "core", flag: "--core-port-base", flags: "--bind, --core-port-base or the cluster-map" };
const ADMIN: &Purpose = &Purpose { name: "admin", flag: "--admin-port", flags: "--admin-bind or --admin-port" };
const UNIX: &Purpose = &Purpose { name: "unix", flag: "--unixsocket", flags: "--unixsocket" };

/// An address that is listened at, and for what.
pub type Bound = (&'static Purpose, SocketAddr);

/// Why an address cannot be listened on.
#[derive(Debug)]
pub struct ListenError {
    address: String,
    purpose: &'static Purpose,
    /// What this server listens for there already.
    rival: Option<&'static Purpose>,
    error: io::Error,
}

impl ListenError {
    fn new(address: SocketAddr, purpose: &'static Purpose, bound: &[Bound], error: io::Error) -> Self {
        let is_same = |other: &SocketAddr| {
            let is_any = address.ip().is_unspecified() || other.ip().is_unspecified();
            other.port() == address.port() && (is_any || other.ip() == address.ip())
        };
        let taken = bound.iter().find(|(_, other)| error.kind() == io::ErrorKind::AddrInUse && is_same(other));
        Self { address: address.to_string(), purpose, rival: taken.map(|(purpose, _)| *purpose), error }
    }
}

impl std::fmt::Display for ListenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let flags = self.purpose.flags;
        if let Some(rival) = self.rival {
            let (address, flag) = (&self.address, rival.flag);
            return write!(f, "cannot listen on {address} twice: {flag} has that port already; change it or {flags}");
        }
        let (cause, remedy) = match self.error.kind() {
            io::ErrorKind::AddrInUse => ("another process listens there", "stop it or change"),
            io::ErrorKind::PermissionDenied => ("ports below 1024 and protected folders need privileges", "change"),
            io::ErrorKind::AddrNotAvailable => ("this host has no such address", "see `ip address` and change"),
            _ => ("the address cannot be used", "change"),
        };
        write!(f, "cannot listen on {}: {}; {cause}; {remedy} {flags}", self.address, self.error)
    }
}

impl std::error::Error for ListenError {}

/// All listening sockets of a server.
#[derive(Debug)]
pub struct Listeners {
    /// For each worker, a socket per address, and what it is for.
    tcp: Vec<Vec<(Socket, Front)>>,
    /// The first worker owns it: a unix socket cannot be bound twice.
    unix: Option<(Socket, Front, PathBuf)>,
    /// The addresses, with the ports that the kernel chose where the setting was 0.
    pub addresses: Vec<SocketAddr>,
    /// These, and those for everybody else.
    pub bound: Vec<Bound>,
}

impl Listeners {
    /// Binds the shared port at every address once per worker, and the port of each of this process's nodes once for
    /// each of its workers. Nodes whose ports are left to the kernel get them.
    ///
    /// # Errors
    /// The first address that cannot be bound.
    pub fn bind(settings: &Settings, workers: u16, nodes: &mut [Node]) -> Result<Self, ListenError> {
        let tcp = (0..workers).map(|_| Vec::new()).collect();
        let mut listeners = Self { tcp, unix: None, addresses: Vec::new(), bound: Vec::new() };
        let front = match (settings.cluster_mode, settings.shared_port_mode) {
            (ClusterMode::Cores, SharedPortMode::Cluster) => Front::RespCluster,
            _ => Front::Resp,
        };
        listeners.addresses = listeners.bind_port(settings, settings.port, (front, RESP), 0..workers)?;
        if settings.cluster_mode == ClusterMode::Cores {
            for node in nodes.iter_mut().filter(|node| node.is_own()) {
                let front = (Front::RespCore, CORE);
                let bound = listeners.bind_port(settings, node.listen_port, front, node.workers.clone())?;
                node.listen_port = bound.first().map_or(0, SocketAddr::port);
                node.port = if node.port == 0 { node.listen_port } else { node.port };
            }
        }
        if settings.memcache_port != 0 {
            listeners.bind_port(settings, settings.memcache_port, (Front::Memcache, MEMCACHE), 0..workers)?;
        }
        if settings.http_port != 0 {
            listeners.bind_port(settings, settings.http_port, (Front::Http, HTTP), 0..workers)?;
        }
        let unix = settings.unixsocket.as_ref().map(|path| {
            let address = path.display().to_string();
            let failed = |error| ListenError { address: address.clone(), purpose: UNIX, rival: None, error };
            Ok((listen_unix(path, settings).map_err(failed)?, front, path.clone()))
        });
        listeners.unix = unix.transpose()?;
        Ok(listeners)
    }

    /// Binds a port at every address for each of `workers`; the addresses with the port that was bound.
    fn bind_port(
        &mut self,
        settings: &Settings,
        mut port: u16,
        (front, purpose): (Front, &'static Purpose),
        workers: Range<u16>,
    ) -> Result<Vec<SocketAddr>, ListenError> {
        let mut addresses = Vec::new();
        for ip in &settings.bind {
            let wanted = SocketAddr::new(*ip, port);
            let failed = |bound: &[Bound], error| ListenError::new(wanted, purpose, bound, error);
            let address = reserve(wanted).map_err(|error| failed(&self.bound, error))?;
            // Further addresses share a port that the kernel chose.
            port = address.port();
            for worker in workers.clone() {
                self.tcp[worker as usize].push((listen(address, settings).map_err(|error| failed(&[], error))?, front));
            }
            self.bound.push((purpose, address));
            addresses.push(address);
        }
        Ok(addresses)
    }

    /// The descriptors of one worker, and what each is for; valid as long as `self` lives.
    pub fn of_worker(&self, index: usize) -> Vec<(Fd, Front)> {
        let unix = self.unix.iter().filter(|_| index == 0).map(|(socket, front, _)| (socket, *front));
        let tcp = self.tcp[index].iter().map(|(socket, front)| (socket, *front));
        tcp.chain(unix).map(|(socket, front)| (Fd(socket.as_raw_fd()), front)).collect()
    }
}

/// Where a server listens, for people: its shared addresses, then the other ports.
pub fn describe(bound: &[Bound], unix: Option<&Path>) -> String {
    let of = |purpose| bound.iter().filter(move |(other, _)| *other == purpose).map(|(_, address)| address);
    let mut text = of(RESP).map(ToString::to_string).collect::<Vec<_>>().join(" ");
    for purpose in [MEMCACHE, HTTP, CORE] {
        let ports: BTreeSet<u16> = of(purpose).map(SocketAddr::port).collect();
        let ports: Vec<u16> = ports.into_iter().collect();
        let shown = match ports[..] {
            [] => continue,
            [port] => format!("port {port}"),
            [first, .., last] if usize::from(last - first) + 1 == ports.len() => format!("ports {first}-{last}"),
            _ => format!("ports {}", ports.iter().map(u16::to_string).collect::<Vec<_>>().join(" ")),
        };
        text.push_str(&format!(", {} {shown}", purpose.name));
    }
    of(ADMIN).for_each(|address| text.push_str(&format!(", admin port {address}")));
    unix.iter().for_each(|path| text.push_str(&format!(", unix socket {}", path.display())));
    text
}

/// Binds the port for operators at every address of its own; none when it is not set. `bound` is what the server has.
///
/// # Errors
/// The first address that cannot be bound.
pub fn bind_admin(settings: &Settings, bound: &mut Vec<Bound>) -> Result<Vec<TcpListener>, ListenError> {
    let addresses = settings.admin_bind.iter().filter(|_| settings.admin_port != 0);
    let bind = |ip: &IpAddr| {
        let address = SocketAddr::new(*ip, settings.admin_port);
        let listener = TcpListener::bind(address).map_err(|error| ListenError::new(address, ADMIN, bound, error))?;
        bound.push((ADMIN, listener.local_addr().unwrap_or(address)));
        Ok(listener)
    };
    addresses.map(bind).collect()
}

impl Drop for Listeners {
    fn drop(&mut self) {
        if let Some((_, _, path)) = &self.unix {
            // It may have been removed already.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Binds without SO_REUSEPORT, which fails when anybody listens there, and returns the address with its port.
fn reserve(address: SocketAddr) -> io::Result<SocketAddr> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Past connections in TIME_WAIT are no reason to refuse.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.local_addr()?.as_socket().ok_or_else(|| io::Error::other("the kernel gave no TCP address"))
}

fn listen(address: SocketAddr, settings: &Settings) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    // Accepted sockets inherit all of it.
    socket.set_tcp_nodelay(true)?;
    if settings.busy_poll > 0 {
        socket.set_busy_poll(settings.busy_poll)?;
    }
    if !settings.tcp_keepalive.is_zero() {
        let interval = settings.tcp_keepalive / 3;
        let keepalive = TcpKeepalive::new().with_time(settings.tcp_keepalive).with_interval(interval).with_retries(3);
        socket.set_tcp_keepalive(&keepalive)?;
    }
    socket.bind(&address.into())?;
    socket.listen(settings.tcp_backlog as i32)?;
    Ok(socket)
}

fn listen_unix(path: &Path, settings: &Settings) -> io::Result<Socket> {
    let address = SockAddr::unix(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    if path.exists() {
        let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        match probe.connect(&address) {
            Ok(()) => return Err(io::ErrorKind::AddrInUse.into()),
            // Nobody answers: left behind by a process that ended without removing it.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path)?,
            Err(error) => return Err(error),
        }
    }
    socket.bind(&address)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(settings.unixsocketperm))?;
    socket.listen(settings.tcp_backlog as i32)?;
    Ok(socket)
}

/// Whether sockets of this process may ask network devices for so long.
///
/// # Errors
/// One line with the cause and the remedy.
pub fn check_busy_poll(micros: u32) -> Result<(), String> {
    if micros == 0 {
        return Ok(());
    }
    let set = Socket::new(Domain::IPV4, Type::STREAM, None).and_then(|socket| socket.set_busy_poll(micros));
    set.map_err(|error| {
        let remedy = match error.kind() {
            io::ErrorKind::PermissionDenied => {
                "this kernel lets CAP_NET_ADMIN alone set more than net.core.busy_read: AmbientCapabilities= in \
                 systemd, or `sysctl -w net.core.busy_read` and busy-poll 0"
            }
            _ => "the kernel needs CONFIG_NET_RX_BUSY_POLL; leave busy-poll at 0",
        };
        format!("busy-poll {micros}: {error}; {remedy}")
    })
}

/// Raises the limit of open descriptors, as far as allowed, to what `maxclients` clients need.
pub fn raise_descriptor_limit(maxclients: u32) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let wanted = u64::from(maxclients) + DESCRIPTORS_RESERVED;
    let (Some(current), maximum) = (limit.current, limit.maximum) else { return };
    if current >= wanted {
        return;
    }
    let raised = maximum.map_or(wanted, |maximum| maximum.min(wanted));
    if raised > current && setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum }).is_err()
        || raised < wanted
    {
        tracing::warn!(
            "maxclients {maxclients} needs {wanted} descriptors and the limit is {raised}: raise LimitNOFILE or \
             `ulimit -n`, or lower maxclients"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings { port: 0, ..Settings::default() }
    }

    #[test]
    fn workers_share_a_port_and_others_do_not() {
        let listeners = Listeners::bind(&settings(), 3, &mut []).unwrap();
        let port = listeners.addresses[0].port();
        assert_ne!(port, 0);
        assert_eq!(listeners.of_worker(2).len(), 1);
        let error = Listeners::bind(&Settings { port, ..settings() }, 1, &mut []).unwrap_err().to_string();
        assert!(error.contains("--port"), "{error}");
        drop(listeners);
        Listeners::bind(&Settings { port, ..settings() }, 1, &mut []).unwrap();
    }

    #[test]
    fn accepted_sockets_do_not_delay() {
        let listeners = Listeners::bind(&settings(), 1, &mut []).unwrap();
        let _client = std::net::TcpStream::connect(listeners.addresses[0]).unwrap();
        let (accepted, _) = listeners.tcp[0][0].0.accept().unwrap();
        assert!(accepted.tcp_nodelay().unwrap());
    }

    #[test]
    fn accepted_sockets_ask_the_device_as_told() {
        const MICROS: u32 = 50;
        let listeners = match check_busy_poll(MICROS) {
            Ok(()) => Listeners::bind(&Settings { busy_poll: MICROS, ..settings() }, 1, &mut []).unwrap(),
            Err(line) => return assert!(line.contains("CAP_NET_ADMIN"), "{line}"),
        };
        let _client = std::net::TcpStream::connect(listeners.addresses[0]).unwrap();
        let (accepted, _) = listeners.tcp[0][0].0.accept().unwrap();
        assert_eq!(accepted.busy_poll().unwrap(), MICROS);
    }

    #[test]
    fn a_unix_socket_left_behind_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("corering.sock");
        let settings = Settings { bind: Vec::new(), unixsocket: Some(path.clone()), ..settings() };
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let listeners = Listeners::bind(&settings, 2, &mut []).unwrap();
        assert_eq!((listeners.of_worker(0).len(), listeners.of_worker(1).len()), (1, 0));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        let error = Listeners::bind(&settings, 1, &mut []).unwrap_err().to_string();
        assert!(error.contains("--unixsocket") && !error.contains("--port"), "{error}");
        drop(listeners);
        assert!(!path.exists());
    }
}
