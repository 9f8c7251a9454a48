//! A signal that interrupts what one thread of this process waits for, and does nothing else.
#![expect(
    unsafe_code,
    reason = "a signal handler, and a signal for one thread, have no safe form"
)]

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::unistd::Pid;

extern "C" fn nothing(_: libc::c_int) {}

/// Lets the signal interrupt, instead of ending the process.
pub(crate) fn prepare() {
    let handler = SigHandler::Handler(nothing);
    let action = SigAction::new(handler, SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does nothing, which it may do at any moment.
    unsafe { sigaction(Signal::SIGUSR1, &action) }.unwrap();
}

/// Interrupts a thread, by its id, once it sleeps in the kernel.
pub(crate) fn interrupt(thread: Pid) {
    let status = format!("/proc/self/task/{thread}/stat");
    let sleeps = |stat: String| {
        stat.rsplit(") ")
            .next()
            .is_some_and(|it| it.starts_with('S'))
    };
    while !sleeps(std::fs::read_to_string(&status).unwrap()) {
        std::thread::yield_now();
    }
    let process = std::process::id();
    // SAFETY: the call takes numbers only; the thread is ours and has not ended, or it fails.
    let sent = unsafe { libc::syscall(libc::SYS_tgkill, process, thread.as_raw(), libc::SIGUSR1) };
    assert_eq!(sent, 0, "{}", std::io::Error::last_os_error());
}
