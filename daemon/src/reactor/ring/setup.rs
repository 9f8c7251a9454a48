//! Building the reactor's ring: the best set of flags the kernel takes, and the restriction of
//! the ring to the operations the reactor uses.
//!
//! A refusal that lies with the machine is reported; a flag that is merely too new is dropped and
//! the next step is tried.

use std::io;

use io_uring::{IoUring, opcode, register::Restriction, squeue};

use super::refusal::SetupError;

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

/// Entries of the two queues.
#[derive(Debug, Clone, Copy)]
pub(super) struct QueueSizes {
    pub(super) submission_count: u32,
    pub(super) completion_count: u32,
}

impl QueueSizes {
    pub(super) const DEFAULT: Self = Self {
        submission_count: SUBMISSION_COUNT,
        completion_count: COMPLETION_COUNT,
    };
}

/// Builds a disabled ring with the best flags. `enable` must follow, on the same thread.
pub(super) fn build(sizes: QueueSizes) -> Result<(IoUring, RingStep), SetupError> {
    let mut refused = io::Error::from_raw_os_error(libc::EINVAL);
    for step in RingStep::ALL {
        let mut builder = IoUring::builder();
        builder
            .setup_r_disabled()
            .setup_submit_all()
            .setup_cqsize(sizes.completion_count);
        match step {
            RingStep::DeferTaskrun => {
                builder.setup_single_issuer().setup_defer_taskrun();
            }
            RingStep::CoopTaskrun => {
                builder.setup_coop_taskrun().setup_taskrun_flag();
            }
            RingStep::Plain => {}
        }
        match builder.build(sizes.submission_count) {
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
