//! Connections to the server, and the first words on them.
//!
//! In: a plan. Out: connected sockets that speak the protocol, and what the server says about itself. Blocking, with
//! time limits; before the clock runs. What must stay true: a socket handed out has no unread bytes.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

use super::LoadError;
use super::engine::SlotMap;
use super::plan::{Plan, Protocol, Target};
use crate::command::slot::SLOTS;
use crate::protocol::Output;
use crate::protocol::resp::{Value, encode_request, parse};

/// How long a connection attempt and the first replies may take.
const GREETING_LIMIT: Duration = Duration::from_secs(5);

/// The same while it is found out what a server speaks.
const GUESS_LIMIT: Duration = Duration::from_millis(500);

/// Longest reply to a greeting.
const GREETING_BYTES_MAX: usize = 4 << 20;

/// What a server says about itself.
#[derive(Clone, Debug, Default)]
pub(super) struct ServerInfo {
    /// Name and version.
    pub(super) name: String,
    /// Its process and for how many seconds it runs.
    pub(super) process: Option<(u32, u64)>,
}

/// The servers of a run.
#[derive(Clone, Debug)]
pub(super) struct Nodes {
    pub(super) targets: Vec<Target>,
    /// Empty when there is one.
    pub(super) slots: SlotMap,
}

/// Looks at the server: does it speak the protocol, what is it, which nodes has it?
pub(super) fn look(plan: &Plan, target: &Target) -> Result<(Nodes, ServerInfo), LoadError> {
    look_as(plan, target).map_err(|error| match error {
        LoadError::Greeting { target: name, what } => {
            let remedy = |protocol| format!("; it speaks {protocol}: give --protocol {protocol}");
            let is_resp = matches!(plan.protocol, Protocol::Resp2 | Protocol::Resp3);
            let asked = if is_resp { Protocol::Resp2.name() } else { plan.protocol.name() };
            let other = spoken(target).filter(|protocol| *protocol != asked).map(remedy);
            LoadError::Greeting { target: name, what: what + &other.unwrap_or_default() }
        }
        error => error,
    })
}

/// The beginning of a reply, and who replies so.
const REPLIES: &[(&[u8], &str)] = &[
    (b"HTTP/1.", "http"),
    (b"VERSION ", "memcache"),
    (b"ERROR\r\n", "memcache"),
    (b"+PONG", "resp2"),
    (b"-", "resp2"),
];

/// What a server speaks that does not speak what was asked for: it is greeted in each way, on connections of their own.
fn spoken(target: &Target) -> Option<&'static str> {
    let greetings: [&[u8]; 3] = [b"PING\r\n", b"version\r\n", b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n"];
    greetings.iter().find_map(|greeting| {
        let socket = connect(target, GUESS_LIMIT).ok()?;
        socket.set_read_timeout(Some(GUESS_LIMIT)).and_then(|()| (&socket).write_all(greeting)).ok()?;
        let mut reply = [0; 16];
        let len = (&socket).read(&mut reply).ok()?;
        REPLIES.iter().find(|(begin, _)| reply[..len].starts_with(begin)).map(|(_, protocol)| *protocol)
    })
}

fn look_as(plan: &Plan, target: &Target) -> Result<(Nodes, ServerInfo), LoadError> {
    let mut client = Client::open(plan, target)?;
    let info = match plan.protocol {
        Protocol::Resp2 | Protocol::Resp3 => client.resp_info()?,
        Protocol::Memcache => client.memcache_info()?,
        Protocol::Http => client.http_info(&plan.http_prefix)?,
    };
    if !plan.cluster {
        return Ok((Nodes { targets: vec![target.clone()], slots: SlotMap::new() }, info));
    }
    let reply = client.call(&[b"CLUSTER", b"SLOTS"])?;
    let nodes = read_slots(&reply, target).ok_or_else(|| client.failed("has no complete map of CLUSTER SLOTS"))?;
    Ok((nodes, info))
}

/// A connection that has greeted.
pub(super) fn open(plan: &Plan, target: &Target) -> Result<Socket, LoadError> {
    let client = Client::open(plan, target)?;
    let set = client.socket.set_read_timeout(None).and_then(|()| client.socket.set_write_timeout(None));
    set.map_err(|error| LoadError::Connect { target: target.to_string(), error })?;
    Ok(client.socket)
}

struct Client {
    target: String,
    socket: Socket,
    limit: Duration,
}

impl Client {
    fn open(plan: &Plan, target: &Target) -> Result<Self, LoadError> {
        let failed = |error| LoadError::Connect { target: target.to_string(), error };
        let limit = plan.timeout.min(GREETING_LIMIT);
        let socket = connect(target, limit).map_err(failed)?;
        socket.set_read_timeout(Some(limit)).and_then(|()| socket.set_write_timeout(Some(limit))).map_err(failed)?;
        let mut client = Client { target: target.to_string(), socket, limit };
        let is_resp = matches!(plan.protocol, Protocol::Resp2 | Protocol::Resp3);
        if is_resp && !plan.password.is_empty() {
            client.call(&[b"AUTH", plan.password.as_bytes()])?;
        }
        if plan.protocol == Protocol::Resp3 {
            client.call(&[b"HELLO", b"3"])?;
        }
        Ok(client)
    }

    fn failed(&self, what: impl Into<String>) -> LoadError {
        LoadError::Greeting { target: self.target.clone(), what: what.into() }
    }

    /// A RESP request and its reply, which must be no error.
    fn call(&mut self, args: &[&[u8]]) -> Result<Value, LoadError> {
        let mut request = Output::new();
        encode_request(&mut request, args);
        match self.exchange(&request.to_vec(), |bytes| match parse(bytes) {
            Ok(parsed) => Ok(parsed.map(|(value, _)| value)),
            Err(error) => Err(error.0),
        })? {
            Value::Error(text) => {
                let text = String::from_utf8_lossy(&text).into_owned();
                let advice = if text.starts_with("NOAUTH") { "; give --password" } else { "" };
                let command = String::from_utf8_lossy(args[0]).into_owned();
                Err(LoadError::Refused { target: self.target.clone(), what: format!("{command}: {text}{advice}") })
            }
            value => Ok(value),
        }
    }

    /// Sends, and receives until `read` has what it wants.
    fn exchange<T>(
        &mut self,
        request: &[u8],
        read: impl Fn(&[u8]) -> Result<Option<T>, String>,
    ) -> Result<T, LoadError> {
        let answer = (&self.socket).write_all(request).and_then(|()| {
            let (mut received, mut buffer) = (Vec::new(), [0; 4096]);
            loop {
                let len = (&self.socket).read(&mut buffer)?;
                received.extend_from_slice(&buffer[..len]);
                match read(&received) {
                    Ok(Some(value)) => return Ok(Ok(value)),
                    Ok(None) if len > 0 && received.len() < GREETING_BYTES_MAX => {}
                    Ok(None) => return Err(io::ErrorKind::UnexpectedEof.into()),
                    Err(why) => return Ok(Err((why, received))),
                }
            }
        });
        match answer {
            Ok(Ok(value)) => Ok(value),
            Ok(Err((why, received))) => {
                let start = received[..received.len().min(40)].escape_ascii();
                Err(self.failed(format!("does not speak this protocol (--protocol): it answers \"{start}\": {why}")))
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                Err(self.failed(format!("takes connections but does not answer within {:?}", self.limit)))
            }
            Err(error) => Err(self.failed(format!("takes connections but closes them at the first request: {error}"))),
        }
    }

    /// Name, version and process. A server without INFO is only known to speak RESP.
    fn resp_info(&mut self) -> Result<ServerInfo, LoadError> {
        let text = match self.call(&[b"INFO", b"server"]) {
            Ok(Value::Bulk(text) | Value::Verbatim(_, text)) => String::from_utf8_lossy(&text).into_owned(),
            Err(LoadError::Refused { what, .. }) if !what.contains("NOAUTH") => String::new(),
            Ok(_) => String::new(),
            Err(error) => return Err(error),
        };
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let number = |name: &str| field(name).and_then(|value| value.trim().parse::<u64>().ok());
        let names = ["corering", "valkey", "redis"].iter();
        let name =
            names.filter_map(|name| Some(format!("{name} {}", field(&format!("{name}_version"))?.trim()))).next();
        let process = number("process_id").zip(number("uptime_in_seconds")).map(|(pid, age)| (pid as u32, age));
        Ok(ServerInfo { name: name.unwrap_or_else(|| "RESP server".to_owned()), process })
    }

    /// Any answer will do.
    fn http_info(&mut self, path: &str) -> Result<ServerInfo, LoadError> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.target);
        self.exchange(request.as_bytes(), |bytes| {
            let is_http = b"HTTP/1.".starts_with(&bytes[..bytes.len().min(7)]);
            if is_http { Ok((bytes.len() > 7).then_some(())) } else { Err("\"HTTP/1.\" was expected".to_owned()) }
        })?;
        Ok(ServerInfo { name: "HTTP server".to_owned(), process: None })
    }

    fn memcache_info(&mut self) -> Result<ServerInfo, LoadError> {
        let text = self.exchange(b"stats\r\n", |bytes| {
            let is_stats = b"STAT ".starts_with(&bytes[..bytes.len().min(5)]);
            match is_stats {
                true if bytes.ends_with(b"END\r\n") => Ok(Some(String::from_utf8_lossy(bytes).into_owned())),
                true => Ok(None),
                false => Err("\"STAT\" was expected".to_owned()),
            }
        })?;
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(&format!("STAT {name} ")));
        let number = |name: &str| field(name).and_then(|value| value.trim().parse::<u64>().ok());
        let process = number("pid").zip(number("uptime")).map(|(pid, age)| (pid as u32, age));
        Ok(ServerInfo { name: format!("memcached {}", field("version").unwrap_or("?").trim()), process })
    }
}

fn connect(target: &Target, limit: Duration) -> io::Result<Socket> {
    let address = match target {
        Target::Unix(path) => {
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
            socket.connect_timeout(&SockAddr::unix(path)?, limit)?;
            return Ok(socket);
        }
        Target::Tcp(address) => address,
    };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in address.to_socket_addrs()? {
        match connect_tcp(address, limit) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn connect_tcp(address: SocketAddr, limit: Duration) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_tcp_nodelay(true)?;
    socket.connect_timeout(&address.into(), limit)?;
    Ok(socket)
}

/// The nodes of a reply to CLUSTER SLOTS: the first address of each range; `None` when a slot has none.
fn read_slots(reply: &Value, asked: &Target) -> Option<Nodes> {
    let Value::Array(ranges) = reply else { return None };
    let mut nodes = Nodes { targets: Vec::new(), slots: vec![u16::MAX; SLOTS as usize] };
    for range in ranges {
        let Value::Array(range) = range else { return None };
        let [Value::Integer(first), Value::Integer(last), Value::Array(node), ..] = &range[..] else { return None };
        let [host, Value::Integer(port), ..] = &node[..] else { return None };
        let host = match (host, asked) {
            (Value::Bulk(host) | Value::Simple(host), _) if !host.is_empty() => {
                String::from_utf8_lossy(host).into_owned()
            }
            // "The address that you have asked."
            (_, Target::Tcp(address)) => address.rsplit_once(':')?.0.to_owned(),
            (_, Target::Unix(_)) => return None,
        };
        let host = if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host };
        let target = Target::Tcp(format!("{host}:{port}"));
        let known = nodes.targets.iter().position(|other| *other == target);
        let index = known.unwrap_or_else(|| {
            nodes.targets.push(target);
            nodes.targets.len() - 1
        });
        let slots = usize::try_from(*first).ok()?..=usize::try_from(*last).ok()?;
        nodes.slots.get_mut(slots)?.fill(index as u16);
    }
    nodes.slots.iter().all(|node| *node != u16::MAX).then_some(nodes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: i64, last: i64, host: &[u8], port: i64) -> Value {
        let node = Value::Array(vec![Value::Bulk(host.to_vec()), Value::Integer(port), Value::Bulk(b"id".to_vec())]);
        Value::Array(vec![Value::Integer(first), Value::Integer(last), node])
    }

    #[test]
    fn a_map_of_slots_is_read() {
        let asked = Target::Tcp("10.0.0.1:7000".to_owned());
        let reply = Value::Array(vec![
            range(0, 99, b"10.0.0.1", 7000),
            range(100, 16000, b"::1", 7001),
            range(16001, 16383, b"", 7000),
        ]);
        let nodes = read_slots(&reply, &asked).unwrap();
        assert_eq!(nodes.targets, [asked.clone(), Target::Tcp("[::1]:7001".to_owned())]);
        assert_eq!([0, 99, 100, 16000, 16001].map(|slot| nodes.slots[slot]), [0, 0, 1, 1, 0]);
        let bad = [
            Value::Null,
            Value::Array(vec![range(0, 16382, b"a", 1)]),
            Value::Array(vec![range(0, 16384, b"a", 1)]),
            Value::Array(vec![range(-1, 16383, b"a", 1)]),
        ];
        assert!(bad.iter().all(|reply| read_slots(reply, &asked).is_none()));
    }
}
