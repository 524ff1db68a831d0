//! Settings of servers in a test's own process: the defaults, on the ring that the environment names, so that
//! `CORERING_IO=epoll cargo test` tries everything on epoll.

use corering::config::{Settings, source};

pub(crate) fn defaults() -> Settings {
    let environment = |name: &str| (name == "CORERING_IO").then(|| std::env::var_os(name)).flatten();
    source::load(None, environment, &[]).expect("CORERING_IO is uring or epoll")
}
