//! A kernel that refuses rings to the log and grants them to the reactor.
//!
//! The daemon has no switch for its disk: it takes plain calls where io_uring is refused. The
//! reactor cannot do without a ring, so the filter looks at the size asked for.
#![expect(
    unsafe_code,
    reason = "what a child does between fork and exec has no safe form"
)]

use std::collections::BTreeMap;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter,
};

/// The rings of the log and of the background have fewer submission entries than this, that of the
/// reactor has more.
const ENTRY_COUNT_MIN: u64 = 256;

/// Makes the process see EPERM when it asks for a smaller ring than that of the reactor.
pub fn refuse_rings_of_the_log(command: &mut Command) {
    let is_smaller = SeccompCondition::new(
        0,
        SeccompCmpArgLen::Dword,
        SeccompCmpOp::Lt,
        ENTRY_COUNT_MIN,
    );
    let rule = SeccompRule::new(vec![is_smaller.expect("a condition")]).expect("a rule");
    let filter = SeccompFilter::new(
        BTreeMap::from([(libc::SYS_io_uring_setup, vec![rule])]),
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
