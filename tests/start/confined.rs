//! Children that the host gives less than it gives us: a seccomp filter, a limit of locked memory.
#![allow(unsafe_code, reason = "what happens between fork and exec is the caller's promise")]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Where a seccomp filter finds the system call's number (seccomp_data, seccomp(2)).
const NUMBER_OFFSET: u32 = 0;

/// Lets the child do everything but io_uring_setup(2), which fails with EPERM, as container runtimes have it.
pub(crate) fn deny_io_uring(command: &mut Command) {
    let denied = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    let mut filter = [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, NUMBER_OFFSET, 0),
        statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, libc::SYS_io_uring_setup as u32, 1),
        statement(libc::BPF_RET | libc::BPF_K, denied, 0),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0),
    ];
    let install = move || {
        let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
        // SAFETY: needs integers only; holds because this option takes no address.
        checked(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })?;
        // SAFETY: needs a program that is valid during the call; holds because both live in this frame and closure.
        checked(unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) })
    };
    // SAFETY: needs a closure that neither allocates nor locks; holds because it makes two system calls.
    unsafe { command.pre_exec(install) };
}

/// Lets the child lock `bytes` of memory, and no more.
pub(crate) fn limit_locked_memory(command: &mut Command, bytes: u64) {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    let install = move || {
        // SAFETY: needs a limit that is valid during the call; holds because the closure owns it.
        checked(unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) })
    };
    // SAFETY: needs a closure that neither allocates nor locks; holds because it makes one system call.
    unsafe { command.pre_exec(install) };
}

/// One instruction; `skipped_unless` are passed over when a comparison does not hold.
fn statement(code: u32, operand: u32, skipped_unless: u8) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: 0, jf: skipped_unless, k: operand }
}

fn checked(result: i32) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
