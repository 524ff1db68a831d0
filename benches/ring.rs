//! What does the data path's ring save, against tokio-uring and against an epoll loop?
//!
//! `cargo bench --bench ring -- [ROUNDS]`. The same minimal echo (`side/echo.rs`) on each, one thread on CPU 0, in one
//! rotation (`side/rounds.rs`). The first sleeps as soon as nothing is to do, as the other two must; the last spins
//! before it sleeps, as workers do.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the table is what it is for")]

use std::time::Duration;

use corering::load::report;

#[path = "side/distance.rs"]
mod distance;
#[path = "side/echo.rs"]
mod echo;
#[path = "side/rounds.rs"]
mod rounds;
#[path = "side/server.rs"]
mod server;
#[path = "side/spread.rs"]
mod spread;

use rounds::{Method, WORKLOADS, Workload};

/// What each is called in the table, and its kind.
const ECHOES: [(&str, &str); 4] =
    [("own ring", "ring-asleep"), ("tokio-uring", "tokio-uring"), ("epoll", "epoll"), ("ring, spins", "ring")];

fn main() {
    echo::serve_if_asked();
    let rounds = std::env::args().skip(1).find(|word| !word.starts_with('-'));
    let rounds = rounds.map_or(Ok(40), |text| {
        let number = text.parse().ok().filter(|rounds| *rounds > 0);
        number.ok_or_else(|| format!("{text:?} is no number of rounds"))
    });
    if let Err(what) = rounds.and_then(compare) {
        eprintln!("ring: {what}");
        std::process::exit(1);
    }
}

fn compare(rounds: usize) -> Result<(), String> {
    let method = Method { rounds, window: Duration::from_millis(100) };
    let workloads: Vec<Workload> = WORKLOADS.into_iter().filter(Workload::suits_an_echo).collect();
    let entrants = ECHOES.map(|(name, kind)| echo::entrant(name, kind));
    let found = rounds::rotate(method, &workloads, &entrants)?;
    println!("{}", rounds::table(&found, &workloads, &entrants));
    println!("{}, {}, windows of {:?}", report::host(), report::date(), method.window);
    Ok(())
}
