//! Any bytes on the HTTP port, cut anywhere, decode to the same requests as the whole; the first byte says how they are cut.

#![no_main]

use corering::protocol::Decoder;
use libfuzzer_sys::fuzz_target;

mod decode;

fuzz_target!(|bytes: &[u8]| decode::check(|| Decoder::Http(Default::default()), bytes));
