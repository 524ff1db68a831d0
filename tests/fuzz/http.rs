//! Any bytes on the HTTP port, cut anywhere, decode to the same requests as the whole.

#![no_main]

use corering::command::Front;
use libfuzzer_sys::fuzz_target;

mod decode;

fuzz_target!(|bytes: &[u8]| decode::check(Front::Http, bytes));
