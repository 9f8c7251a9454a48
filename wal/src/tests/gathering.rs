//! Appends that are gathered: who wakes the log thread, and when.

use std::thread;

use crate::disk::{SimOptions, SimWorld};
use crate::handle::LogHandle;
use crate::harness::{Harness, sound};
use crate::sink::Need;

fn is_asleep<T>(handle: &LogHandle<T>) -> bool {
    handle.shared.queue.lock().writer_is_waiting
}

#[test]
fn appends_that_are_gathered_wake_a_sleeping_log_thread_once_at_the_end() {
    let mut harness = Harness::create(&SimWorld::new(SimOptions::new(1)), &sound()).unwrap();
    let handle = harness.handle.clone();
    thread::scope(|scope| {
        let sleeper = scope.spawn(|| handle.shared.wait_for_work(None));
        while !is_asleep(&handle) {
            thread::yield_now();
        }
        handle.gather(true);
        for _ in 0..3 {
            harness.append(50, Need::Written).unwrap();
            assert!(is_asleep(&handle), "more will follow");
        }
        handle.gather(false);
        sleeper.join().unwrap();
    });
    assert_eq!(handle.shared.queue.lock().entries.len(), 3);
}

#[test]
fn a_gathering_without_an_append_leaves_the_log_thread_asleep() {
    let mut harness = Harness::create(&SimWorld::new(SimOptions::new(1)), &sound()).unwrap();
    let handle = harness.handle.clone();
    thread::scope(|scope| {
        let sleeper = scope.spawn(|| handle.shared.wait_for_work(None));
        while !is_asleep(&handle) {
            thread::yield_now();
        }
        handle.gather(true);
        handle.gather(false);
        assert!(is_asleep(&handle));
        // Alone, as an embedded committer is, an append is heard at once.
        harness.append(50, Need::Written).unwrap();
        sleeper.join().unwrap();
    });
}
