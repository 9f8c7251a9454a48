//! A kernel that refuses io_uring: the daemon then serves sockets by readiness and writes its log
//! by plain calls.
#![expect(
    unsafe_code,
    reason = "what a child does between fork and exec has no safe form"
)]

use std::collections::BTreeMap;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};

/// Makes the process see EPERM when it asks for a ring.
pub fn refuse_rings(command: &mut Command) {
    let filter = SeccompFilter::new(
        BTreeMap::from([(libc::SYS_io_uring_setup, Vec::new())]),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::EPERM as u32),
        std::env::consts::ARCH
            .try_into()
            .expect("a known architecture"),
    );
    let program: BpfProgram = filter.expect("a filter").try_into().expect("a program");
    let refuse = move || apply_filter(&program).map_err(|_| io::ErrorKind::PermissionDenied.into());
    // SAFETY: between fork and exec the closure makes two system calls and allocates nothing.
    unsafe { command.pre_exec(refuse) };
}
