//! Long pipelines of HTTP clients over several workers: every reply in its place, as a simple model says.

use std::collections::HashMap;

use corering::command::Front;
use corering::ring::sim::Random;
use serde_json::{Value as Json, json};

use crate::pipelines::{self, REQUESTS, Script};

/// Keys of each client.
const KEYS: usize = 10;

/// A client's values with their types, the requests drawn so far, and the replies to them.
#[derive(Default)]
struct Model {
    prefix: String,
    items: HashMap<String, (&'static str, String)>,
    script: Script,
}

impl Model {
    fn key(&self, random: &mut Random) -> String {
        format!("{}{}", self.prefix, random.below(KEYS))
    }

    fn draw(&mut self, random: &mut Random) {
        let key = self.key(random);
        match random.below(10) {
            0..=2 => self.get(random, &key),
            3..=5 => self.put(random, key),
            6 => {
                self.ask(random, &format!("DELETE /v1/keys/{key}"), "", "");
                let was_there = self.items.remove(&key).is_some();
                if was_there { self.hear(204, &[], None) } else { self.refuse(404, "there is no such key") }
            }
            7 => {
                let keys: Vec<String> = (0..1 + random.below(5)).map(|_| self.key(random)).collect();
                self.ask(random, "POST /v1/mget", "", &json!({ "keys": keys }).to_string());
                let values: Vec<Option<&String>> =
                    keys.iter().map(|key| self.items.get(key).map(|(_, value)| value)).collect();
                self.tell(&json!({ "values": values }));
            }
            8 => self.run(random),
            _ => {
                self.ask(random, &format!("GET /v1/keys/{key}?"), "If-None-Match: *\r\n", "");
                let is_there = self.items.contains_key(&key);
                if is_there { self.hear(304, &[], None) } else { self.refuse(404, "there is no such key") }
            }
        }
    }

    fn get(&mut self, random: &mut Random, key: &str) {
        let is_head = random.chance(0.2);
        self.ask(random, &format!("{} /v1/keys/{key}", if is_head { "HEAD" } else { "GET" }), "", "");
        match self.items.get(key).cloned() {
            Some((kind, value)) if is_head => {
                self.hear(200, &[("Content-Type", kind), ("Content-Length", &value.len().to_string())], None);
            }
            Some((kind, value)) => self.hear(200, &[("Content-Type", kind)], Some(&value)),
            None => {
                self.refuse(404, "there is no such key");
                if is_head {
                    let end = self.script.replies.windows(4).rposition(|window| window == b"\r\n\r\n");
                    self.script.replies.truncate(end.expect("a head has its end") + 4);
                }
            }
        }
    }

    fn put(&mut self, random: &mut Random, key: String) {
        let is_large = random.chance(0.1);
        let value = "v".repeat(random.below(if is_large { 40_000 } else { 300 }));
        let needs_absent = random.chance(0.2);
        let path = format!("PUT /v1/keys/{key}{}", if needs_absent { "?nx" } else { "" });
        self.ask(random, &path, "Content-Type: text/plain\r\n", &value);
        let was_there = self.items.contains_key(&key);
        if was_there && needs_absent {
            return self.refuse(412, "the key's value is not the one that the condition names");
        }
        self.items.insert(key, ("text/plain", value));
        if was_there { self.hear(204, &[], None) } else { self.hear(201, &[], Some("")) }
    }

    /// Redis commands, one behind the other.
    fn run(&mut self, random: &mut Random) {
        let (mut commands, mut results) = (Vec::new(), Vec::new());
        for _ in 0..random.below(6) {
            let key = self.key(random);
            if random.chance(0.5) {
                let value = "w".repeat(random.below(100));
                commands.push(json!(["set", key, value]));
                results.push(json!({ "result": "OK" }));
                self.items.insert(key, ("application/octet-stream", value));
            } else {
                commands.push(json!(["get", key]));
                results.push(json!({ "result": self.items.get(&key).map(|(_, value)| value) }));
            }
        }
        self.ask(random, "POST /v1/commands", "", &Json::from(commands).to_string());
        self.tell(&Json::from(results));
    }

    /// A request; its body may come in chunks.
    fn ask(&mut self, random: &mut Random, request: &str, fields: &str, body: &str) {
        let head = format!("{request} HTTP/1.1\r\nHost: h\r\n{fields}");
        if body.is_empty() || random.chance(0.5) {
            self.script.say(&format!("{head}Content-Length: {}\r\n", body.len()));
            self.script.requests.extend(body.bytes());
            return;
        }
        self.script.say(&format!("{head}Transfer-Encoding: chunked\r\n"));
        let (first, second) = body.split_at(random.below(body.len()));
        for chunk in [first, second].into_iter().filter(|chunk| !chunk.is_empty()) {
            self.script.say(&format!("{:x}\r\n{chunk}", chunk.len()));
        }
        self.script.say("0\r\n");
    }

    fn hear(&mut self, status: u16, fields: &[(&str, &str)], body: Option<&str>) {
        let reason = corering::protocol::http::reply::reason(status);
        self.script.hear(&format!("HTTP/1.1 {status} {reason}"));
        for (name, value) in fields {
            self.script.hear(&format!("{name}: {value}"));
        }
        if let Some(body) = body {
            self.script.hear(&format!("Content-Length: {}", body.len()));
        }
        self.script.hear("");
        self.script.replies.extend(body.unwrap_or_default().bytes());
    }

    fn tell(&mut self, body: &Json) {
        self.hear(200, &[("Content-Type", "application/json")], Some(&body.to_string()));
    }

    fn refuse(&mut self, status: u16, detail: &str) {
        let body = corering::protocol::http::reply::problem(status, detail);
        self.hear(status, &[("Content-Type", "application/problem+json")], Some(&body));
    }
}

#[test]
fn replies_come_in_order_and_as_the_model_says() {
    pipelines::check(Front::Http, 30, |random, prefix| {
        let mut model = Model { prefix, ..Model::default() };
        for _ in 0..REQUESTS {
            model.draw(random);
            model.script.end();
        }
        model.script
    });
}
