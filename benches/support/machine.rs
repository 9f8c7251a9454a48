//! The machine line: what a figure means nothing without.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::neighbours::cpu_count;

/// CPU model, cores, kernel, file system, device and mount options, for files below `directory`;
/// and the load when it was asked.
pub(crate) fn machine_line(directory: &Path) -> String {
    let cpu = field_of("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown CPU".to_owned());
    let hypervisor = fs::read_to_string("/proc/cpuinfo")
        .unwrap_or_default()
        .contains(" hypervisor");
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let kernel = kernel.trim().split('-').next().unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    format!(
        "machine: {cpu}, {} cores{}; Linux {kernel}; {}; load average {load} at the start",
        cpu_count(),
        if hypervisor { " (virtual)" } else { "" },
        file_system_of(directory),
    )
}

fn field_of(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Looks the device of `directory` up in mountinfo (proc_pid_mountinfo(5)) and in sysfs.
fn file_system_of(directory: &Path) -> String {
    let Ok(metadata) = fs::metadata(directory) else {
        return "unknown file system".to_owned();
    };
    let (major, minor) = (
        rustix::fs::major(metadata.dev()),
        rustix::fs::minor(metadata.dev()),
    );
    let device = format!("{major}:{minor}");
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let Some(line) = mounts
        .lines()
        .find(|line| line.split(' ').nth(2) == Some(&device))
    else {
        return "unknown file system".to_owned();
    };
    let options = line.split(' ').nth(5).unwrap_or_default();
    let (kind, source, more) = match line.split_once(" - ") {
        Some((_, behind)) => {
            let mut fields = behind.split(' ');
            (fields.next(), fields.next(), fields.next())
        }
        None => (None, None, None),
    };
    let source = source
        .unwrap_or_default()
        .rsplit('/')
        .next()
        .unwrap_or_default();
    let queue = |name: &str| {
        let base = format!("/sys/dev/block/{device}");
        let read = |below: &str| fs::read_to_string(format!("{base}/{below}/{name}")).ok();
        read("queue")
            .or_else(|| read("../queue"))
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    format!(
        "{} ({options}; {}) on {source} (cache {}, FUA {}, physical block {} bytes)",
        kind.unwrap_or_default(),
        more.unwrap_or_default(),
        queue("write_cache"),
        queue("fua"),
        queue("physical_block_size"),
    )
}

/// Flushes that the device below `directory` has completed since it started, those of everyone
/// (field 16 of its stat file, Documentation/admin-guide/iostats.rst); 0 where it is not told.
pub(crate) fn device_flush_count(directory: &Path) -> u64 {
    let Ok(metadata) = fs::metadata(directory) else {
        return 0;
    };
    let (major, minor) = (
        rustix::fs::major(metadata.dev()),
        rustix::fs::minor(metadata.dev()),
    );
    let text = fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat"));
    let text = text.unwrap_or_default();
    text.split_whitespace()
        .nth(15)
        .and_then(|field| field.parse().ok())
        .unwrap_or(0)
}

/// What this build is, so that a debug figure is never taken for one.
pub(crate) fn profile() -> &'static str {
    if cfg!(debug_assertions) {
        "debug assertions on: NOT A FIGURE"
    } else {
        "optimised"
    }
}
