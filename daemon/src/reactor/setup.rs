//! Building the reactor's ring: the best set of flags the kernel takes, and the restriction of
//! the ring to the operations the reactor uses.
//!
//! A refusal that lies with the machine is reported with what to change; a flag that is merely
//! too new is dropped and the next step is tried.

use std::fmt;
use std::io;

use io_uring::{IoUring, opcode, register::Restriction, squeue};

/// Entries of the submission queue. One turn submits at most one receive and one send per ready
/// connection; when the queue is full it is handed to the kernel early.
const SUBMISSION_COUNT: u32 = 1024;

/// Entries of the completion queue. Beyond them the kernel keeps an overflow list and the ring
/// says so; nothing is lost.
const COMPLETION_COUNT: u32 = 4096;

/// The buffer-select flag of a submission (io_uring_enter(2), `IOSQE_BUFFER_SELECT`).
const BUFFER_SELECT_FLAG: u8 = 1 << 5;

/// `IORING_REGISTER_SYNC_CANCEL`: ends everything when the reactor is dropped.
const REGISTER_SYNC_CANCEL: u8 = 24;

/// The steps from the newest set of flags to none, tried in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RingStep {
    /// One issuer, completions deferred to the reactor's own wait (Linux 6.1).
    DeferTaskrun,
    /// Completions without an interrupt of the running thread (Linux 5.19).
    CoopTaskrun,
    /// No flags at all.
    Plain,
}

impl RingStep {
    const ALL: [Self; 3] = [Self::DeferTaskrun, Self::CoopTaskrun, Self::Plain];

    /// The name used in logs.
    #[must_use]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::DeferTaskrun => "defer_taskrun",
            Self::CoopTaskrun => "coop_taskrun",
            Self::Plain => "plain",
        }
    }
}

/// Why there is no ring. Its text says what to change.
#[derive(Debug)]
pub(crate) struct SetupError {
    /// The call that failed.
    pub(crate) call: &'static str,
    /// What the kernel answered.
    pub(crate) source: io::Error,
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "io_uring is refused ({}: {}): {}",
            self.call,
            self.source,
            self.remedy()
        )
    }
}

impl std::error::Error for SetupError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

impl SetupError {
    fn remedy(&self) -> &'static str {
        match self.source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => {
                "set `sysctl kernel.io_uring_disabled=0` (or add this user to the group named by \
                 kernel.io_uring_group); in a container, allow io_uring_setup, io_uring_enter and \
                 io_uring_register in its seccomp profile"
            }
            Some(libc::ENOSYS) => {
                "run Linux 6.1 or newer with CONFIG_IO_URING; in a container, allow \
                 io_uring_setup, io_uring_enter and io_uring_register in its seccomp profile"
            }
            Some(libc::ENOMEM) => {
                "raise the limit of locked memory (LimitMEMLOCK=, ulimit -l) or the memory limit \
                 of the control group"
            }
            Some(libc::EMFILE | libc::ENFILE) => {
                "raise the limit of open descriptors (LimitNOFILE=, ulimit -n)"
            }
            Some(libc::EINVAL) => "run Linux 6.1 or newer",
            _ => "see the error above",
        }
    }
}

/// Builds a disabled ring with the best flags. `enable` must follow, on the same thread.
pub(super) fn build() -> Result<(IoUring, RingStep), SetupError> {
    let mut refused = io::Error::from_raw_os_error(libc::EINVAL);
    for step in RingStep::ALL {
        let mut builder = IoUring::builder();
        builder
            .setup_r_disabled()
            .setup_submit_all()
            .setup_cqsize(COMPLETION_COUNT);
        match step {
            RingStep::DeferTaskrun => {
                builder.setup_single_issuer().setup_defer_taskrun();
            }
            RingStep::CoopTaskrun => {
                builder.setup_coop_taskrun().setup_taskrun_flag();
            }
            RingStep::Plain => {}
        }
        match builder.build(SUBMISSION_COUNT) {
            Ok(ring) => return Ok((ring, step)),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => refused = error,
            Err(source) => {
                return Err(SetupError {
                    call: "io_uring_setup",
                    source,
                });
            }
        }
    }
    Err(SetupError {
        call: "io_uring_setup",
        source: refused,
    })
}

/// Restricts the ring to what the reactor uses, where the kernel can, and enables it. Returns
/// whether the restriction holds.
pub(super) fn enable(ring: &IoUring) -> Result<bool, SetupError> {
    let mut allowed = [
        Restriction::sqe_op(opcode::Accept::CODE),
        Restriction::sqe_op(opcode::Recv::CODE),
        Restriction::sqe_op(opcode::Send::CODE),
        Restriction::sqe_op(opcode::Read::CODE),
        Restriction::sqe_op(opcode::PollAdd::CODE),
        Restriction::sqe_op(opcode::AsyncCancel::CODE),
        Restriction::sqe_flags_allowed(BUFFER_SELECT_FLAG),
        Restriction::register_op(REGISTER_SYNC_CANCEL),
    ];
    let restricted = ring.submitter().register_restrictions(&mut allowed).is_ok();
    ring.submitter()
        .register_enable_rings()
        .map_err(|source| SetupError {
            call: "io_uring_register",
            source,
        })?;
    Ok(restricted)
}

const _: () = assert!(squeue::Flags::BUFFER_SELECT.bits() == BUFFER_SELECT_FLAG);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_says_what_to_change() {
        for (errno, word) in [
            (libc::EPERM, "kernel.io_uring_disabled=0"),
            (libc::ENOSYS, "seccomp"),
            (libc::ENOMEM, "LimitMEMLOCK"),
            (libc::EMFILE, "LimitNOFILE"),
            (libc::EINVAL, "Linux 6.1"),
        ] {
            let source = io::Error::from_raw_os_error(errno);
            let text = SetupError {
                call: "io_uring_setup",
                source,
            }
            .to_string();
            assert!(text.contains(word), "{text}");
        }
    }
}
