//! Children that the host gives less than it gives us: a seccomp filter, a limit of locked memory.
#![allow(unsafe_code, reason = "what happens between fork and exec is the caller's promise")]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

/// Whose system calls.
#[cfg(target_arch = "x86_64")]
pub(crate) const TARGET: TargetArch = TargetArch::x86_64;
#[cfg(target_arch = "aarch64")]
pub(crate) const TARGET: TargetArch = TargetArch::aarch64;

/// Lets the child do everything but io_uring_setup(2), which fails with EPERM, as container runtimes have it.
pub(crate) fn deny_io_uring(command: &mut Command) {
    let rules = [(libc::SYS_io_uring_setup, Vec::new())].into();
    let denied = SeccompAction::Errno(libc::EPERM as u32);
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, denied, TARGET).expect("a filter");
    confine(command, vec![filter.try_into().expect("a small filter")]);
}

/// Puts the child behind these filters; of several verdicts on a call the strictest counts.
pub(crate) fn confine(command: &mut Command, filters: Vec<BpfProgram>) {
    let install = move || {
        filters.iter().try_for_each(|filter| seccompiler::apply_filter(filter).map_err(|_| io::Error::last_os_error()))
    };
    // SAFETY: needs a closure that neither allocates nor locks; holds because it makes system calls on what is there.
    unsafe { command.pre_exec(install) };
}

/// Gives the child `bytes` of a resource, such as `libc::RLIMIT_MEMLOCK`, and no more.
pub(crate) fn limit(command: &mut Command, resource: libc::__rlimit_resource_t, bytes: u64) {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    let install = move || {
        // SAFETY: needs a limit that is valid during the call; holds because the closure owns it.
        checked(unsafe { libc::setrlimit(resource, &raw const limit) })
    };
    // SAFETY: needs a closure that neither allocates nor locks; holds because it makes one system call.
    unsafe { command.pre_exec(install) };
}

fn checked(result: i32) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
