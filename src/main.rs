//! The process: settings, log, server, exit code.

fn main() {}
