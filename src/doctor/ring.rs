//! Whether the host gives us the ring.
//!
//! In: a [`Host`], whose moving figures were read twice. Out: a [`Look`] for each function. What must stay true: a file
//! that is not there means that the host does not tell, never that all is well or ill.

use super::{Host, Look};
use crate::config::Io;

/// Major and minor version that brought what the ring needs.
const KERNEL_MIN: (u32, u32) = (6, 1);

pub(super) fn works(host: &Host) -> Look {
    match &host.plan.ring {
        Some(Ok(())) => Look::good("a ring was set up as the workers' are; it received, sent and woke"),
        _ if host.plan.io == Io::Epoll => Look::good("not needed with io epoll"),
        None => Look::Unknown("no ring was set up"),
        Some(Err(refusal)) => Look::costs(
            refusal.clone(),
            "in a container: --security-opt seccomp=FILE with a profile that allows io_uring_setup, io_uring_enter and \
             io_uring_register; else see the findings below",
        ),
    }
}

pub(super) fn io(host: &Host) -> Look {
    match (host.plan.io, &host.plan.ring) {
        (Io::Uring, _) => Look::good("uring"),
        (Io::Epoll, None) => Look::costs("io is epoll", "corering doctor, which sets a ring up; then --io uring"),
        (Io::Epoll, Some(Ok(()))) => Look::costs("io is epoll, and io_uring is to be had here", "--io uring"),
        (Io::Epoll, Some(Err(refusal))) => Look::costs(
            format!("io is epoll; {refusal}"),
            "allow io_uring, in a container: --security-opt seccomp=tuning/service/seccomp.json; then --io uring",
        ),
    }
}

pub(super) fn kernel(host: &Host) -> Look {
    let Some(release) = host.text("proc/sys/kernel/osrelease") else { return Look::Unknown("no kernel release") };
    let mut numbers = release.split(['.', '-']).map(|number| number.parse().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version >= KERNEL_MIN {
        Look::good(format!("Linux {release}"))
    } else {
        Look::costs(format!("Linux {release}"), "apt install linux-image-amd64 of a newer release, and reboot")
    }
}

pub(super) fn disabled(host: &Host) -> Look {
    match host.number("proc/sys/kernel/io_uring_disabled") {
        None => Look::good("this kernel has no such switch"),
        Some(0) => Look::good("0"),
        Some(value) => {
            Look::costs(format!("kernel.io_uring_disabled is {value}"), "sysctl -w kernel.io_uring_disabled=0")
        }
    }
}

pub(super) fn memlock(host: &Host) -> Look {
    let Some(limit) = host.limit("Max locked memory", false) else { return Look::Unknown("no limits") };
    let needed = host.plan.ring_bytes;
    if limit >= needed {
        return Look::good(format!("{needed} bytes are needed"));
    }
    let what = format!("{limit} bytes may be locked, the rings have {needed}");
    Look::costs(what, "LimitMEMLOCK=infinity in the service, or ulimit -l unlimited")
}
