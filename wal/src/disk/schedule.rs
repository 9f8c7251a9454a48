//! Asking the scheduler for a short slice, so that a thread that wakes up runs soon.
#![expect(
    unsafe_code,
    reason = "sched_setattr(2) has no wrapper in rustix or nix"
)]

/// The slice asked for, nanoseconds: the shortest the kernel grants (kernel/sched/fair.c clamps to
/// 0.1 ms .. 100 ms). A thread with a shorter slice has an earlier deadline, so it preempts
/// CPU-bound neighbours instead of waiting for their tick: 4 ms at HZ=250.
const SLICE_NANOSECONDS: u64 = 100_000;

/// Gives the calling thread a 100 us slice, and says whether the kernel took it. It needs Linux
/// 6.12 and no privilege; older kernels ignore it, which is seen by reading it back. To be called
/// before a ring is built, since the ring's workers inherit the scheduling of the thread.
pub fn short_slice() -> bool {
    let Some(mut attributes) = attributes() else {
        return false;
    };
    if attributes.sched_policy != SCHED_OTHER {
        // Somebody gave the thread a policy of its own: theirs is better informed.
        return false;
    }
    attributes.sched_flags = 0;
    attributes.sched_runtime = SLICE_NANOSECONDS;
    let this_thread: libc::pid_t = 0;
    let no_flags: libc::c_uint = 0;
    // SAFETY: the structure is initialised, says its own size and lives during the call, which
    // only reads it.
    let result = unsafe {
        libc::syscall(
            libc::SYS_sched_setattr,
            this_thread,
            &raw const attributes,
            no_flags,
        )
    };
    result == 0 && self::attributes().is_some_and(|now| now.sched_runtime == SLICE_NANOSECONDS)
}

/// `SCHED_OTHER` as the field of `sched_attr` holds it.
const SCHED_OTHER: u32 = libc::SCHED_OTHER.cast_unsigned();

/// The calling thread's scheduling attributes.
fn attributes() -> Option<libc::sched_attr> {
    let size = u32::try_from(size_of::<libc::sched_attr>()).ok()?;
    // SAFETY: all fields are integers, for which zero is a value.
    let mut attributes: libc::sched_attr = unsafe { std::mem::zeroed() };
    let this_thread: libc::pid_t = 0;
    let no_flags: libc::c_uint = 0;
    // SAFETY: the kernel writes at most `size` bytes to a structure of that size that lives during
    // the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_sched_getattr,
            this_thread,
            &raw mut attributes,
            size,
            no_flags,
        )
    };
    attributes.size = size;
    (result == 0).then_some(attributes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slice_is_applied_to_the_calling_thread_only_where_the_kernel_knows_it() {
        let (applied, own, parent) = std::thread::scope(|scope| {
            let child = scope.spawn(|| (short_slice(), attributes().expect("attributes")));
            let (applied, own) = child.join().expect("joins");
            (applied, own, attributes().expect("attributes"))
        });
        let release = rustix::system::uname()
            .release()
            .to_string_lossy()
            .into_owned();
        let mut numbers = release
            .split(['.', '-'])
            .map(|part| part.parse::<u32>().unwrap_or(0));
        let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        println!("kernel {release}: applied {applied}");
        assert_eq!(applied, (6, 12) <= version, "kernel {release}");
        assert_eq!(own.sched_runtime == SLICE_NANOSECONDS, applied);
        assert_ne!(parent.sched_runtime, SLICE_NANOSECONDS);
        assert_eq!(own.sched_nice, parent.sched_nice);
    }
}
