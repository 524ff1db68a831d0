//! The JSON API: its decoder cut at every byte, its replies, its limits, and what curl sees.

#[path = "../fuzz/decode.rs"]
mod decode;
#[path = "../clients/installed.rs"]
mod installed;
#[path = "../fronts/server.rs"]
mod server;

mod clients;
mod decoder;
mod limits;
mod replies;
