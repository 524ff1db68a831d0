//! The commands, one request at a time: tables of requests and the bytes of their replies.

mod harness;
mod string;
