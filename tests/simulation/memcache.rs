//! Long pipelines of memcached clients over several workers: every reply in its place, as a simple model says.

use std::collections::HashMap;
use std::fmt::Write;
use std::time::Duration;

use corering::config::Settings;
use corering::instance::Phase;
use corering::ring::sim::{Faults, Options, Random};

use crate::cluster::Cluster;

/// Requests of each client, and keys that it uses.
const REQUESTS: usize = 300;
const KEYS: usize = 10;

/// A client's items with their flags, the requests drawn so far, and the replies to them.
#[derive(Default)]
struct Model {
    prefix: String,
    items: HashMap<String, (u32, String)>,
    requests: String,
    replies: String,
}

impl Model {
    fn key(&self, random: &mut Random) -> String {
        format!("{}{}", self.prefix, random.below(KEYS))
    }

    fn draw(&mut self, random: &mut Random) {
        let key = self.key(random);
        match random.below(8) {
            0 | 1 => self.store(random, &key, "set"),
            2 => self.store(random, &key, "add"),
            3 => {
                let keys: Vec<String> = (0..1 + random.below(5)).map(|_| self.key(random)).collect();
                self.say(&format!("get {}", keys.join(" ")));
                for key in keys {
                    if let Some((flags, value)) = self.items.get(&key) {
                        let _ = write!(self.replies, "VALUE {key} {flags} {}\r\n{value}\r\n", value.len());
                    }
                }
                self.replies.push_str("END\r\n");
            }
            4 => {
                self.say(&format!("delete {key}"));
                let was_there = self.items.remove(&key).is_some();
                self.hear(if was_there { "DELETED" } else { "NOT_FOUND" });
            }
            5 => {
                self.say(&format!("mg {key} v f k q"));
                if let Some((flags, value)) = self.items.get(&key) {
                    let _ = write!(self.replies, "VA {} f{flags} k{key}\r\n{value}\r\n", value.len());
                }
            }
            6 => {
                let value = "m".repeat(random.below(40_000));
                self.say(&format!("ms {key} {} q\r\n{value}", value.len()));
                self.items.insert(key, (0, value));
            }
            _ => {
                self.say(&format!("set {key} nonsense 0 3"));
                self.hear("CLIENT_ERROR bad command line format");
            }
        }
    }

    fn store(&mut self, random: &mut Random, key: &str, verb: &str) {
        let (flags, value) = (random.below(3) as u32, "v".repeat(random.below(300)));
        let is_quiet = random.chance(0.3);
        let noreply = if is_quiet { " noreply" } else { "" };
        self.say(&format!("{verb} {key} {flags} 0 {}{noreply}\r\n{value}", value.len()));
        let is_stored = verb == "set" || !self.items.contains_key(key);
        if is_stored {
            self.items.insert(key.to_owned(), (flags, value));
        }
        if !is_quiet {
            self.hear(if is_stored { "STORED" } else { "NOT_STORED" });
        }
    }

    fn say(&mut self, line: &str) {
        let _ = write!(self.requests, "{line}\r\n");
    }

    fn hear(&mut self, line: &str) {
        let _ = write!(self.replies, "{line}\r\n");
    }
}

#[test]
fn replies_come_in_order_and_as_the_model_says() {
    for seed in 0..40 {
        let mut random = Random::new(seed);
        let faults = if seed % 4 == 0 { Faults::none() } else { Faults { reset: 0.0, ..Faults::harsh() } };
        let buffer_bytes = if random.chance(0.5) { 16 } else { 4096 };
        let options = Options { seed, faults, buffer_bytes, buffers: 4, ..Options::default() };
        let settings = Settings { tick_requests: 1 + random.below(40) as u32, ..Settings::default() };
        let workers = 1 + random.below(4) as u16;
        let mut cluster = Cluster::with(workers, settings, options);
        let mut clients = Vec::new();
        for client in 0..3 {
            let peer = cluster.connect_memcache(random.below(4));
            let mut model = Model { prefix: format!("client{client}:"), ..Model::default() };
            (0..REQUESTS).for_each(|_| model.draw(&mut random));
            model.say("mn");
            model.hear("MN");
            cluster.say(peer, model.requests.as_bytes());
            clients.push((peer, model));
        }
        cluster.run(Duration::from_secs(600), |cluster| {
            clients.iter().all(|(peer, model)| cluster.heard(*peer).len() >= model.replies.len())
        });
        for (peer, model) in &clients {
            let (heard, expected) = (cluster.heard(*peer), model.replies.as_bytes());
            let same = heard.iter().zip(expected).take_while(|(heard, expected)| heard == expected).count();
            let show =
                |bytes: &[u8]| bytes[same.saturating_sub(60)..bytes.len().min(same + 60)].escape_ascii().to_string();
            assert!(heard == expected, "seed {seed}: from {same} on\n got {}\nwant {}", show(heard), show(expected));
            cluster.close(*peer);
        }
        cluster.end(Phase::Draining);
    }
}
