//! Any bytes are a reply, part of one, or refused; what is parsed is skipped alike.

#![no_main]

use corering::protocol::resp::{parse, skip};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(Some((_, len))) = parse(bytes) {
        assert_eq!(skip(bytes), Ok(Some(len)));
    }
});
