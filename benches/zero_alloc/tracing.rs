//! System calls and clock readings of one thread, seen from outside.
//!
//! The bench runs itself again as a child below `strace`. The child makes a call that nothing else
//! makes, measures, and makes it again; what the trace shows of that thread between the two is
//! counted. Clock readings that never enter the kernel are caught too: during the stretch the
//! time stamp counter is unreadable for the thread (PR_SET_TSC), so that a reading kills the child.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// What the child is told to measure.
pub(crate) const CHILD_VARIABLE: &str = "IN_MEM_TRACED_LAYER";

/// What a trace showed.
pub(crate) enum Traced {
    /// Calls by name; empty is the aim.
    Calls(BTreeMap<String, u64>),
    /// The child was killed by reading the time stamp counter.
    ClockRead,
    /// It could not be traced, and why.
    Skipped(String),
}

/// Runs this executable again below strace and counts what `layer` calls.
pub(crate) fn trace(layer: &str, directory: &Path) -> Traced {
    let output = directory.join(format!("{layer}.trace"));
    let Ok(own_path) = std::env::current_exe() else {
        return Traced::Skipped("own executable is unknown".to_owned());
    };
    let status = Command::new("strace")
        .args(["-f", "-qq", "-o"])
        .arg(&output)
        .arg(own_path)
        .arg("--bench")
        .env(CHILD_VARIABLE, layer)
        .status();
    let status = match status {
        Ok(status) => status,
        Err(error) => return Traced::Skipped(format!("strace: {error}")),
    };
    let text = std::fs::read_to_string(&output).unwrap_or_default();
    if text.contains("--- SIGSEGV") {
        return Traced::ClockRead;
    }
    if !status.success() {
        return Traced::Skipped(format!("the traced child ended with {status}"));
    }
    match calls_between_marks(&text) {
        Some(calls) => Traced::Calls(calls),
        None => Traced::Skipped("the trace shows no marks".to_owned()),
    }
}

/// The calls of the marking thread between its first and its second mark.
fn calls_between_marks(text: &str) -> Option<BTreeMap<String, u64>> {
    let mut thread = None;
    let mut calls = BTreeMap::new();
    for line in text.lines() {
        let (id, call) = line.split_once(' ')?;
        let call = call.trim_start();
        match thread {
            None if call.starts_with(MARK) => thread = Some(id.to_owned()),
            Some(ref marked) if *marked == id => {
                if call.starts_with(MARK) {
                    return Some(calls);
                }
                let name = call.split(['(', ' ']).next().unwrap_or_default();
                // Preparing the stretch is not part of it; "<... resumed" ends a call that was
                // counted where it began.
                if name != "prctl" && name != "<..." {
                    *calls.entry(name.to_owned()).or_default() += 1;
                }
            }
            _ => {}
        }
    }
    None
}

/// How the trace shows a mark: an answer that nothing in the product asks for.
const MARK: &str = "getppid(";

/// Runs `body` between two marks, with the time stamp counter unreadable.
pub(crate) fn marked(body: impl FnOnce()) {
    mark();
    set_clock_readable(false);
    body();
    set_clock_readable(true);
    mark();
}

fn mark() {
    std::hint::black_box(rustix::process::getppid());
}

#[cfg(target_arch = "x86_64")]
fn set_clock_readable(is_readable: bool) {
    use rustix::process::{TimeStampCounterReadability, set_time_stamp_counter_readability};
    let wanted = if is_readable {
        TimeStampCounterReadability::Readable
    } else {
        TimeStampCounterReadability::RaiseSIGSEGV
    };
    set_time_stamp_counter_readability(wanted).expect("PR_SET_TSC works on x86-64");
}

/// Elsewhere a thread's clock cannot be taken away.
#[cfg(not(target_arch = "x86_64"))]
fn set_clock_readable(_is_readable: bool) {}

/// Whether clock readings that never enter the kernel are caught.
pub(crate) const CATCHES_CLOCK_READINGS: bool = cfg!(target_arch = "x86_64");

/// Page faults of the calling thread so far, minor and major (proc_pid_stat(5), fields 10 and 12).
pub(crate) fn page_faults() -> (u64, u64) {
    let text = std::fs::read_to_string("/proc/thread-self/stat").unwrap_or_default();
    let behind_name = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let mut fields = behind_name.split_whitespace().skip(7);
    let mut next = || {
        fields
            .next()
            .and_then(|field| field.parse().ok())
            .unwrap_or(0)
    };
    let minor = next();
    let _of_children: u64 = next();
    (minor, next())
}
