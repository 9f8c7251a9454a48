//! Threads of another process that stand still: what a stuck job or a stuck disk looks like.
//!
//! Tracing stops one thread and leaves the others alone; a signal would stop them all.
#![expect(
    unsafe_code,
    reason = "tracing a thread has no safe form in the crates at hand"
)]
#![allow(
    dead_code,
    reason = "each test that includes this file uses a part of it"
)]

use std::io;
use std::sync::mpsc;

/// Stops the threads of a process whose name begins with `prefix`, until the process ends. None of
/// them are stopped where the kernel forbids it.
///
/// A thread that has just begun still bears the name of the one that began it: [`freeze_first`] stops
/// the thread the process is named after.
pub fn freeze(pid: u32, prefix: &str) -> io::Result<usize> {
    let mut threads = Vec::new();
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let path = task?.path();
        if std::fs::read_to_string(path.join("comm"))?.starts_with(prefix) {
            let name = path.file_name().and_then(|name| name.to_str());
            threads.push(name.and_then(|name| name.parse().ok()).unwrap_or_default());
        }
    }
    let count = threads.len();
    trace(pid, threads)?;
    Ok(count)
}

/// Stops the first thread of a process, until the process ends.
pub fn freeze_first(pid: u32) -> io::Result<()> {
    trace(pid, vec![pid.cast_signed()])
}

fn trace(pid: u32, mut threads: Vec<libc::pid_t>) -> io::Result<()> {
    let (sender, stopped) = mpsc::channel();
    // The thread that traces lasts as long as the traced ones: without it they would go on. It
    // collects them when they end, or their process could not.
    std::thread::spawn(move || {
        let result = threads.iter().try_for_each(|thread| stop(*thread));
        let _ = sender.send(result);
        // The kernel gives the end of the first thread only when those of all others are collected.
        threads.sort_by_key(|thread| *thread == pid.cast_signed());
        for thread in threads {
            while !has_ended(thread) {}
        }
    });
    stopped.recv().unwrap_or(Err(io::ErrorKind::Other.into()))
}

fn stop(thread: libc::pid_t) -> io::Result<()> {
    let none = std::ptr::null_mut::<libc::c_void>();
    for request in [libc::PTRACE_SEIZE, libc::PTRACE_INTERRUPT] {
        // SAFETY: these requests take no pointers.
        if unsafe { libc::ptrace(request, thread, none, none) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    has_ended(thread);
    Ok(())
}

/// Waits for the next news of a traced thread; whether they are of its end.
fn has_ended(thread: libc::pid_t) -> bool {
    let mut status = 0;
    // SAFETY: `status` outlives the call.
    let waited = unsafe { libc::waitpid(thread, &raw mut status, libc::__WALL) };
    waited != thread || libc::WIFEXITED(status) || libc::WIFSIGNALED(status)
}
