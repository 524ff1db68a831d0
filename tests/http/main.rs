//! The JSON API: its decoder cut at every byte, its replies, its limits, and what curl sees.

#[path = "../fuzz/decode.rs"]
mod decode;

mod decoder;
mod limits;
mod replies;
mod server;
