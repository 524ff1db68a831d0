//! Long pipelines of memcached clients over several workers: every reply in its place, as a simple model says.

use std::collections::HashMap;

use corering::command::Front;
use corering::ring::sim::Random;

use crate::pipelines::{self, REQUESTS, Script};

/// Keys of each client.
const KEYS: usize = 10;

/// A client's items with their flags, the requests drawn so far, and the replies to them.
#[derive(Default)]
struct Model {
    prefix: String,
    items: HashMap<String, (u32, String)>,
    script: Script,
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
                self.script.say(&format!("get {}", keys.join(" ")));
                for key in keys {
                    if let Some((flags, value)) = self.items.get(&key) {
                        self.script.hear(&format!("VALUE {key} {flags} {}\r\n{value}", value.len()));
                    }
                }
                self.script.hear("END");
            }
            4 => {
                self.script.say(&format!("delete {key}"));
                let was_there = self.items.remove(&key).is_some();
                self.script.hear(if was_there { "DELETED" } else { "NOT_FOUND" });
            }
            5 => {
                self.script.say(&format!("mg {key} v f k q"));
                if let Some((flags, value)) = self.items.get(&key) {
                    self.script.hear(&format!("VA {} f{flags} k{key}\r\n{value}", value.len()));
                }
            }
            6 => {
                let len_max = if random.chance(0.1) { 40_000 } else { 300 };
                let value = "m".repeat(random.below(len_max));
                self.script.say(&format!("ms {key} {} q\r\n{value}", value.len()));
                self.items.insert(key, (0, value));
            }
            _ => {
                self.script.say(&format!("set {key} nonsense 0 3"));
                self.script.hear("CLIENT_ERROR bad command line format");
            }
        }
    }

    fn store(&mut self, random: &mut Random, key: &str, verb: &str) {
        let (flags, value) = (random.below(3) as u32, "v".repeat(random.below(300)));
        let is_quiet = random.chance(0.3);
        let noreply = if is_quiet { " noreply" } else { "" };
        self.script.say(&format!("{verb} {key} {flags} 0 {}{noreply}\r\n{value}", value.len()));
        let is_stored = verb == "set" || !self.items.contains_key(key);
        if is_stored {
            self.items.insert(key.to_owned(), (flags, value));
        }
        if !is_quiet {
            self.script.hear(if is_stored { "STORED" } else { "NOT_STORED" });
        }
    }
}

#[test]
fn replies_come_in_order_and_as_the_model_says() {
    pipelines::check(Front::Memcache, 30, |random, prefix| {
        let mut model = Model { prefix, ..Model::default() };
        for _ in 0..REQUESTS {
            model.draw(random);
            model.script.end();
        }
        // What is quiet is over when this is answered.
        model.script.say("mn");
        model.script.hear("MN");
        model.script
    });
}
