//! What a cache should answer, in the simplest words: a map of one client's keys.

use std::collections::HashMap;

use corering::ring::sim::Random;

use crate::pipelines::Script;
use crate::table::array;

/// Keys that a client uses.
const KEYS: usize = 12;

/// A client's keys, the requests drawn so far, and the replies to them.
pub(crate) struct Model {
    prefix: String,
    items: HashMap<String, Vec<u8>>,
    pub(crate) script: Script,
}

impl Model {
    /// Without keys; all will begin with `prefix`.
    pub(crate) fn new(prefix: String) -> Self {
        Self { prefix, items: HashMap::new(), script: Script::default() }
    }

    /// Draws one more request and answers it.
    pub(crate) fn draw(&mut self, random: &mut Random) {
        let key = self.key(random);
        match random.below(12) {
            0..=2 => self.get(&key),
            3 | 4 => {
                let value = value(random);
                self.set(&[(key, value)], "SET");
            }
            5 => self.increase(&key),
            6 => self.append(&key, b"+tail"),
            7 => {
                let keys = self.keys(random);
                self.mget(&keys);
            }
            8 => {
                let pairs: Vec<_> = self.keys(random).into_iter().map(|key| (key, value(random))).collect();
                self.set(&pairs, "MSET");
            }
            9 => {
                let keys = self.keys(random);
                self.delete(&keys);
            }
            10 => {
                let keys = self.keys(random);
                self.exists(&keys);
            }
            _ => {
                let to = self.key(random);
                self.rename(&key, &to);
            }
        }
        self.script.end();
    }

    fn key(&self, random: &mut Random) -> String {
        format!("{}{}", self.prefix, random.below(KEYS))
    }

    fn keys(&self, random: &mut Random) -> Vec<String> {
        (0..=random.below(5)).map(|_| self.key(random)).collect()
    }

    fn request(&mut self, name: &str, words: &[&[u8]]) {
        let words: Vec<&[u8]> = [name.as_bytes()].into_iter().chain(words.iter().copied()).collect();
        array(&mut self.script.requests, words.into_iter());
    }

    fn request_keys(&mut self, name: &str, keys: &[String]) {
        let words: Vec<&[u8]> = keys.iter().map(String::as_bytes).collect();
        self.request(name, &words);
    }

    fn reply(&mut self, text: &str) {
        self.script.hear(text);
    }

    fn reply_value(&mut self, key: &str) {
        match self.items.get(key).cloned() {
            None => self.reply("$-1"),
            Some(value) => {
                self.reply(&format!("${}", value.len()));
                self.script.replies.extend(value);
                self.script.hear("");
            }
        }
    }

    fn get(&mut self, key: &str) {
        self.request("GET", &[key.as_bytes()]);
        self.reply_value(key);
    }

    fn mget(&mut self, keys: &[String]) {
        self.request_keys("MGET", keys);
        self.reply(&format!("*{}", keys.len()));
        keys.iter().for_each(|key| self.reply_value(key));
    }

    fn set(&mut self, pairs: &[(String, Vec<u8>)], name: &str) {
        let words: Vec<&[u8]> = pairs.iter().flat_map(|(key, value)| [key.as_bytes(), value]).collect();
        self.request(name, &words);
        self.items.extend(pairs.iter().cloned());
        self.reply("+OK");
    }

    fn increase(&mut self, key: &str) {
        self.request("INCR", &[key.as_bytes()]);
        let present = self.items.get(key).map_or(Some(0), |value| std::str::from_utf8(value).ok()?.parse::<i64>().ok());
        match present {
            None => self.reply("-ERR value is not an integer or out of range"),
            Some(number) => {
                self.items.insert(key.to_owned(), (number + 1).to_string().into_bytes());
                self.reply(&format!(":{}", number + 1));
            }
        }
    }

    fn append(&mut self, key: &str, tail: &[u8]) {
        self.request("APPEND", &[key.as_bytes(), tail]);
        let value = self.items.entry(key.to_owned()).or_default();
        value.extend_from_slice(tail);
        let len = value.len();
        self.reply(&format!(":{len}"));
    }

    fn delete(&mut self, keys: &[String]) {
        self.request_keys("DEL", keys);
        let count = keys.iter().filter(|key| self.items.remove(*key).is_some()).count();
        self.reply(&format!(":{count}"));
    }

    fn exists(&mut self, keys: &[String]) {
        self.request_keys("EXISTS", keys);
        let count = keys.iter().filter(|key| self.items.contains_key(*key)).count();
        self.reply(&format!(":{count}"));
    }

    fn rename(&mut self, from: &str, to: &str) {
        self.request("RENAME", &[from.as_bytes(), to.as_bytes()]);
        match self.items.remove(from) {
            None => self.reply("-ERR no such key"),
            Some(value) => {
                self.items.insert(to.to_owned(), value);
                self.reply("+OK");
            }
        }
    }
}

/// A number, a word, or now and then something that fills buffers.
fn value(random: &mut Random) -> Vec<u8> {
    match random.below(20) {
        0 => vec![b'L'; 20_000 + random.below(40_000)],
        1 | 2 => vec![b'm'; 100 + random.below(3000)],
        3..=8 => random.below(1_000_000).to_string().into_bytes(),
        _ => format!("value {}\r\n", random.below(1000)).into_bytes(),
    }
}
