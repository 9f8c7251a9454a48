//! Checks of the machine: kernel, io_uring, limits of the process, clock, memory settings.

use std::path::Path;

use rustix::process::{Resource, getrlimit};

use super::{Check, Grade};
use crate::config::{IoChoice, Settings};
use crate::control_group::{self, MemoryLimit};
use crate::metrics::read_small;
use crate::reactor::Ring;

/// The oldest kernel the daemon is made for.
const KERNEL_OLDEST: (u32, u32) = (6, 1);

/// From this kernel on the log thread may have a short time slice.
const KERNEL_SHORT_SLICE: (u32, u32) = (6, 12);

/// Locked memory that the rings of a daemon need at most, bytes.
const MEMLOCK_LEN_BYTES: u64 = 8 << 20;

/// Descriptors without which a daemon is of no use, count.
const DESCRIPTOR_COUNT_MIN: u64 = 64;

/// Descriptors that are not for connections, count.
const DESCRIPTOR_COUNT_OWN: u64 = 32;

/// Clock sources that are read without a system call.
const FAST_CLOCKS: [&str; 5] = [
    "tsc",
    "kvm-clock",
    "hyperv_clocksource_tsc_page",
    "xen",
    "arch_sys_counter",
];

pub(super) fn checks(settings: &Settings) -> Vec<Check> {
    let limit = |resource| getrlimit(resource).maximum.unwrap_or(u64::MAX);
    let clock = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    let pages = "/sys/kernel/mm/transparent_hugepage/enabled";
    let checks = [
        Some(kernel(rustix::system::uname().release().to_str().ok())),
        Some(ring(settings.io)),
        Some(memlock(getrlimit(Resource::Memlock).current)),
        Some(descriptors(
            limit(Resource::Nofile),
            settings.limits.connection_count_max,
        )),
        Some(memory(
            control_group::memory_limit().as_ref(),
            settings.limits.memory_max,
        )),
        read_small(Path::new(clock)).map(|name| clock_source(name.trim())),
        read_small(Path::new(pages)).map(|text| huge_pages(&text)),
    ];
    checks.into_iter().flatten().collect()
}

/// Major and minor number of a kernel release.
fn version_of(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

pub(super) fn kernel(release: Option<&str>) -> Check {
    let name = "kernel";
    let Some((release, version)) = release.and_then(|text| Some((text, version_of(text)?))) else {
        return Check::warn(
            name,
            "of an unknown version",
            "Linux 6.1 or newer is needed",
        );
    };
    let found = format!("Linux {release}");
    if version < KERNEL_OLDEST {
        return Check::fail(name, found, "run Linux 6.1 or newer");
    }
    if version < KERNEL_SHORT_SLICE {
        let advice = "run Linux 6.12 or newer: without its short time slice a sync waits for busy \
                      neighbours, up to a few milliseconds";
        return Check::warn(name, found, advice);
    }
    Check::ok(name, found)
}

fn ring(io: IoChoice) -> Check {
    let name = "io_uring";
    let disabled = read_small(Path::new("/proc/sys/kernel/io_uring_disabled"));
    let disabled = disabled.map_or_else(|| "absent".to_owned(), |text| text.trim().to_owned());
    let seccomp = read_small(Path::new("/proc/self/status")).unwrap_or_default();
    let is_filtered = seccomp
        .lines()
        .any(|line| line.strip_prefix("Seccomp:").map(str::trim) == Some("2"));
    let filter = if is_filtered {
        "; a seccomp filter is set"
    } else {
        ""
    };
    let setting = format!("kernel.io_uring_disabled {disabled}{filter}");
    match Ring::new() {
        Ok(ring) => Check::ok(name, format!("works, {} ({setting})", ring.step().name())),
        // Its text says what is wrong and, behind a colon, what to change.
        Err(error) if io == IoChoice::IoUring => Check::fail(name, setting, error.to_string()),
        Err(error) => {
            let advice = format!("{error}; until then the daemon does without, more slowly");
            Check::warn(name, setting, advice)
        }
    }
}

pub(super) fn memlock(limit: Option<u64>) -> Check {
    let name = "memlock";
    match limit {
        None => Check::ok(name, "unlimited"),
        Some(bytes) if bytes < MEMLOCK_LEN_BYTES => Check::warn(
            name,
            format!("{} KiB", bytes >> 10),
            "allow 8 MiB (LimitMEMLOCK=8M, ulimit -l 8192): with less a ring may be refused",
        ),
        Some(bytes) => Check::ok(name, format!("{} MiB", bytes >> 20)),
    }
}

/// The limit of the control group against that of the data.
pub(super) fn memory(limit: Option<&MemoryLimit>, memory_max: u64) -> Check {
    let name = "memory";
    let Some(limit) = limit else {
        return Check::ok(name, "the control group has no limit");
    };
    let found = limit.to_string();
    match limit.advice(memory_max) {
        Some(advice) => Check::warn(name, found, advice),
        None => Check::ok(name, found),
    }
}

pub(super) fn descriptors(limit: u64, connection_count_max: u64) -> Check {
    let name = "nofile";
    let found = match limit {
        u64::MAX => "unlimited".to_owned(),
        limit => limit.to_string(),
    };
    let needed = connection_count_max.saturating_add(DESCRIPTOR_COUNT_OWN);
    let advice = format!(
        "allow {needed} (LimitNOFILE={needed}, ulimit -Hn), or lower limits.connection_count_max"
    );
    match limit {
        limit if limit < DESCRIPTOR_COUNT_MIN => Check::fail(name, found, advice),
        limit if limit < needed => {
            let fewer = limit.saturating_sub(DESCRIPTOR_COUNT_OWN);
            let found = format!("{found}: at most {fewer} connections");
            Check::warn(name, found, advice)
        }
        _ => Check::ok(name, found),
    }
}

pub(super) fn clock_source(source: &str) -> Check {
    let name = "clock";
    if FAST_CLOCKS.iter().any(|fast| source.starts_with(fast)) {
        return Check::ok(name, source);
    }
    let advice = "each look at the clock is a system call with this source: prefer tsc or, in a \
                  virtual machine, its own clock (kernel parameter clocksource=)";
    Check::warn(name, source, advice)
}

/// The setting in force stands in brackets.
pub(super) fn huge_pages(text: &str) -> Check {
    let name = "huge_pages";
    let chosen = text.split(['[', ']']).nth(1).unwrap_or("unknown");
    let grade = if chosen == "always" {
        Grade::Warn
    } else {
        Grade::Ok
    };
    let advice = "a store of small values takes more memory with it: set \
                  /sys/kernel/mm/transparent_hugepage/enabled to madvise";
    Check {
        name,
        grade,
        found: format!("transparent huge pages: {chosen}"),
        advice: (grade != Grade::Ok).then(|| advice.to_owned()),
    }
}
