//! Commits that find too much in flight before them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use in_mem_model::{Durability, ValueRef};
use in_mem_wal::Turn;

use super::{int, over, world};
use crate::limits::PENDING_COUNT_MAX;
use crate::{
    CommitError, CommitOptions, Completion, CompletionSink, DurabilityMode, Outcome, Program, Step,
    Submitted,
};

/// Counts what it is told.
#[derive(Default)]
struct Counter {
    completed: AtomicU64,
    announced: AtomicU64,
}

impl CompletionSink for Counter {
    fn complete(&self, _token: u64, result: Result<Outcome, CommitError>) {
        assert!(result.is_ok(), "{result:?}");
        self.completed.fetch_add(1, Ordering::SeqCst);
    }

    fn space_available(&self) {
        self.announced.fetch_add(1, Ordering::SeqCst);
    }
}

/// What was lost: a commit refused because too many waited to be published was never told that it
/// might be tried again, since it was not the log that had refused it.
#[test]
fn a_commit_refused_for_too_many_before_it_is_told_when_they_are_through() {
    let world = world();
    let database = over(&world, DurabilityMode::Strict)
        .manual()
        .open()
        .unwrap();
    let mut driver = database.take_driver().unwrap().unwrap();
    let mut drive = || {
        while driver.drive_background() || driver.drive_log() == Turn::Worked {}
    };
    drive();
    let counter = Arc::new(Counter::default());
    let sink: Arc<dyn CompletionSink> = Arc::<Counter>::clone(&counter);
    database.add_listener(&sink);
    let run = database.default_run();
    let value = int(1);
    let submit = |durability: Durability| {
        let step = Step::Put {
            key: b"key",
            value: ValueRef::new(value.as_bytes()).unwrap(),
        };
        let program = Program {
            checks: &[],
            steps: &[step],
        };
        let options = CommitOptions {
            durability: Some(durability),
        };
        let sink = Arc::clone(&sink);
        run.submit(&program, options, &Completion { sink, token: 1 })
    };
    assert!(matches!(submit(Durability::Strict), Submitted::Pending));
    for number in 1..PENDING_COUNT_MAX {
        let submitted = submit(Durability::InMemory);
        assert!(matches!(submitted, Submitted::Pending), "{number}");
    }
    let announced = counter.announced.load(Ordering::SeqCst);
    assert!(matches!(submit(Durability::InMemory), Submitted::Busy));
    drive();
    let completed = counter.completed.load(Ordering::SeqCst);
    assert_eq!(completed, PENDING_COUNT_MAX as u64);
    assert!(announced < counter.announced.load(Ordering::SeqCst));
    let submitted = submit(Durability::InMemory);
    assert!(matches!(submitted, Submitted::Done(Ok(_))), "{submitted:?}");
}
