//! A cluster client of the simplest kind: it follows MOVED, and puts together what concerns all nodes.

use corering::cluster::SLOTS;
use corering::command::slot::{CURSOR_BITS, cursor, slot_of};
use corering::command::table;
use corering::protocol::Requests;
use corering::protocol::resp::{Value, parse};

use crate::generate::Request;
use crate::peer::Connection;

/// A connection to every node.
pub(crate) struct Nodes {
    nodes: Vec<(u16, Connection)>,
    /// For each slot the node that was right the last time.
    owners: Vec<usize>,
}

/// Where a request's keys are among its arguments, as the command table says; none when it fits no command.
pub(crate) fn key_positions(request: &Request) -> Vec<usize> {
    let mut requests = Requests::default();
    request.iter().for_each(|argument| requests.push_copy(argument));
    requests.finish();
    let args = requests.get(0, &[]);
    table::find(args).map(|command| command.spec().keys.positions(args.len()).collect()).unwrap_or_default()
}

impl Nodes {
    /// Connects to these ports.
    pub(crate) fn new(ports: &[u16]) -> Self {
        let nodes = ports.iter().map(|port| (*port, Connection::new(*port))).collect();
        Self { nodes, owners: vec![0; SLOTS as usize] }
    }

    /// The reply to a request, whichever nodes have to be asked.
    pub(crate) fn ask(&mut self, request: &Request) -> Vec<u8> {
        if let Some(key) = key_positions(request).first() {
            return self.ask_owner(request, slot_of(&request[*key]) as usize);
        }
        if request[0].eq_ignore_ascii_case(b"scan") {
            return self.scan(request);
        }
        let replies: Vec<Vec<u8>> = self.nodes.iter_mut().map(|(_, node)| node.ask(request)).collect();
        let values = replies.iter().map(|reply| parse(reply).expect("a reply").expect("a whole one").0);
        let values: Vec<Value> = values.collect();
        match (&request[0].to_ascii_lowercase()[..], &values[0]) {
            (b"dbsize", Value::Integer(_)) => {
                let sizes = values.iter().map(|value| if let Value::Integer(size) = value { *size } else { 0 });
                format!(":{}\r\n", sizes.sum::<i64>()).into_bytes()
            }
            (b"keys", Value::Array(_)) => {
                let count = values.iter().map(|value| if let Value::Array(keys) = value { keys.len() } else { 0 });
                let bodies = replies.iter().map(|reply| {
                    let line = reply.iter().position(|byte| *byte == b'\n').expect("a line");
                    &reply[line + 1..]
                });
                [format!("*{}\r\n", count.sum::<usize>()).as_bytes(), &bodies.collect::<Vec<_>>().concat()].concat()
            }
            (b"randomkey", _) => {
                let found = values.iter().position(|value| matches!(value, Value::Bulk(_)));
                replies[found.unwrap_or(0)].clone()
            }
            _ => replies[0].clone(),
        }
    }

    fn ask_owner(&mut self, request: &Request, slot: usize) -> Vec<u8> {
        for _ in 0..2 {
            let reply = self.nodes[self.owners[slot]].1.ask(request);
            let Some(moved) = reply.strip_prefix(b"-MOVED ") else { return reply };
            let text = String::from_utf8_lossy(moved);
            let port: u16 = text.trim().rsplit_once(':').expect("an address").1.parse().expect("a port");
            self.owners[slot] = self.nodes.iter().position(|(known, _)| *known == port).expect("a node");
        }
        panic!("slot {slot} is nobody's");
    }

    /// A node's cursors name its worker, so that they lead from node to node.
    fn scan(&mut self, request: &Request) -> Vec<u8> {
        let node = request.get(1).and_then(|text| cursor(text)).map_or(0, |cursor| (cursor >> CURSOR_BITS) as usize);
        let node = if node < self.nodes.len() { node } else { 0 };
        let reply = self.nodes[node].1.ask(request);
        let next = b"*2\r\n$1\r\n0\r\n";
        if node + 1 < self.nodes.len() && reply.starts_with(next) {
            let cursor = ((node as u64 + 1) << CURSOR_BITS).to_string();
            let header = format!("*2\r\n${}\r\n{cursor}\r\n", cursor.len());
            return [header.as_bytes(), &reply[next.len()..]].concat();
        }
        reply
    }
}
