//! Building an io_uring for one thread, with as much as the kernel grants and no more than is
//! used.
//!
//! The ring takes work from one thread only and runs its task work when that thread waits, so
//! nothing interrupts it. It is restricted to the operations of the disk before it is enabled, so
//! a program that got hold of it can do no more. Flags an older kernel refuses are left out step
//! by step. There is no polling kernel thread: it costs seven times the CPU and is slower.

use std::io;

use io_uring::register::Restriction;
use io_uring::{Builder, IoUring, opcode};
use rustix::io::Errno;

/// Submission entries of a ring: one for each operation in flight.
pub(super) const ENTRY_COUNT: u32 = IN_FLIGHT_COUNT_MAX;

/// Operations a ring holds at a time; more wait for room. The log has one batch in flight and
/// reads ahead a few blocks.
pub(super) const IN_FLIGHT_COUNT_MAX: u32 = 32;

const _: () = assert!(
    ENTRY_COUNT.is_power_of_two(),
    "the kernel would round it up"
);

/// A ring may do these things, and nothing else.
const OPERATIONS: [u8; 3] = [opcode::Read::CODE, opcode::Write::CODE, opcode::Fsync::CODE];

/// What is asked of the kernel, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wish {
    /// SINGLE_ISSUER and DEFER_TASKRUN (Linux 6.1).
    defers_task_work: bool,
    /// COOP_TASKRUN (Linux 5.19).
    is_cooperative: bool,
    /// R_DISABLED and restrictions (Linux 5.10).
    is_restricted: bool,
}

const WISHES: [Wish; 4] = [
    Wish {
        defers_task_work: true,
        is_cooperative: true,
        is_restricted: true,
    },
    Wish {
        defers_task_work: false,
        is_cooperative: true,
        is_restricted: true,
    },
    Wish {
        defers_task_work: false,
        is_cooperative: false,
        is_restricted: true,
    },
    Wish {
        defers_task_work: false,
        is_cooperative: false,
        is_restricted: false,
    },
];

/// A ring for the calling thread.
pub(super) fn build() -> io::Result<IoUring> {
    let mut refusal = io::Error::from(Errno::INVAL);
    for wish in WISHES {
        match build_as(wish) {
            Ok(ring) => return Ok(ring),
            // io_uring_setup(2), io_uring_register(2): the kernel does not know a flag.
            Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
                refusal = error;
            }
            Err(error) => return Err(error),
        }
    }
    Err(refusal)
}

fn build_as(wish: Wish) -> io::Result<IoUring> {
    let mut builder: Builder = IoUring::builder();
    builder.dontfork();
    if wish.defers_task_work {
        builder.setup_single_issuer().setup_defer_taskrun();
    }
    if wish.is_cooperative {
        builder.setup_coop_taskrun();
    }
    if wish.is_restricted {
        builder.setup_r_disabled();
    }
    let ring = builder.build(ENTRY_COUNT)?;
    if wish.is_restricted {
        let mut restrictions: Vec<Restriction> = OPERATIONS
            .iter()
            .map(|code| Restriction::sqe_op(*code))
            .collect();
        ring.submitter().register_restrictions(&mut restrictions)?;
        ring.submitter().register_enable_rings()?;
    }
    Ok(ring)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(
        unsafe_code,
        reason = "entries carry addresses the kernel will use later"
    )]
    fn an_operation_that_is_not_the_disks_is_refused_by_the_kernel() {
        let nobody = io_uring::types::Fd(-1);
        let strange = [
            opcode::Nop::new().build(),
            opcode::Close::new(nobody).build(),
            opcode::Shutdown::new(nobody, 2).build(),
        ];
        let mut refused_count = 0;
        for wish in WISHES {
            let Ok(mut ring) = build_as(wish) else {
                println!("SKIPPED: needs a kernel that grants {wish:?}");
                continue;
            };
            let mut result_of = |entry| {
                // SAFETY: the entry holds no address.
                unsafe { ring.submission().push(&entry) }.expect("room for one");
                ring.submit_and_wait(1).expect("enters");
                ring.completion().next().expect("an answer").result()
            };
            for entry in strange.clone() {
                let result = result_of(entry);
                let is_refused = result == -Errno::ACCESS.raw_os_error();
                assert_eq!(is_refused, wish.is_restricted, "{wish:?}: {result}");
                refused_count += usize::from(is_refused);
            }
            // What it is for is looked at: there is no such file.
            let sync = opcode::Fsync::new(nobody).build();
            assert_eq!(result_of(sync), -Errno::BADF.raw_os_error(), "{wish:?}");
        }
        println!("{refused_count} operations refused");
    }
}
