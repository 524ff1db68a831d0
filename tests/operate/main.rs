//! Operating the server: what the admin port tells, and what tools of operators make of it.

mod admin;
mod browser;
mod console;
mod container;
mod doctor;
mod exporters;
mod findings;
mod host;
#[path = "../clients/installed.rs"]
mod installed;
mod monitor;
mod observed;
mod pages;
#[path = "../start/process.rs"]
#[allow(dead_code, reason = "other tests use the rest of it")]
mod process;
mod service;
mod stages;
mod tools;
