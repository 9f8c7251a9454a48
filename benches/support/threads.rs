//! Throughput of several threads, and whether this machine can show it.

use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use super::neighbours::cpu_count;

/// Cores that a figure of `thread_count` threads needs: one each, and one for the driver when
/// there is more than one thread to drive.
pub(crate) fn cores_needed(thread_count: usize) -> usize {
    if thread_count == 1 {
        1
    } else {
        thread_count + 1
    }
}

/// True when the machine has them. That they are idle is for the reader of the figure to judge.
pub(crate) fn is_measurable(thread_count: usize) -> bool {
    cores_needed(thread_count) <= cpu_count()
}

/// Calls per second over all threads. Threads are started and warmed up before a barrier lets
/// them go; the time ends with the last of them.
pub(crate) fn throughput(
    thread_count: usize,
    call_count: usize,
    operation: impl Fn(usize, usize) + Sync,
) -> f64 {
    let barrier = Barrier::new(thread_count + 1);
    let seconds = thread::scope(|scope| {
        let threads: Vec<_> = (0..thread_count)
            .map(|thread| {
                let (operation, barrier) = (&operation, &barrier);
                scope.spawn(move || {
                    for call in 0..call_count / 10 {
                        operation(thread, call);
                    }
                    barrier.wait();
                    for call in 0..call_count {
                        operation(thread, call);
                    }
                    Instant::now()
                })
            })
            .collect();
        barrier.wait();
        let started = Instant::now();
        let ends = threads
            .into_iter()
            .map(|thread| thread.join().expect("a worker ends"));
        let last = ends.max().expect("at least one thread");
        (last - started).as_secs_f64()
    });
    (thread_count * call_count) as f64 / seconds
}
