//! Any sequence of operations, with any budget and policy: what the shard returns is what a map would, or nothing when
//! it had to evict; the budget holds.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../shard/model.rs"]
mod model;

fuzz_target!(|bytes: &[u8]| model::check(bytes));
