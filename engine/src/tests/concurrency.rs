//! Many threads at once: nothing is lost, nothing is torn, nothing is shown too early.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use in_mem_model::{Durability, RunId, as_int};

use super::{Collector, MODES, drive, driven, in_memory, int, over, world};
use crate::CompletionSink;
use crate::limits::PENDING_COUNT_MAX;
use crate::{CommitOptions, Expected, KeyRef, Program, RetryPolicy, Step, StepOutcome, Submitted};

#[test]
fn correctness_tx8_concurrent_increments_are_all_counted_in_every_mode() {
    for mode in MODES {
        let world = world();
        let database = over(&world, mode).open().unwrap();
        let count = if mode.requires_immediate_fsync() {
            50
        } else {
            2_000
        };
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let run = database.default_run();
                    for _ in 0..count {
                        run.kv().incr("n", 1).unwrap();
                    }
                });
            }
        });
        let found = database.default_run().kv().get("n").unwrap().unwrap();
        assert_eq!(as_int(&found), Some(4 * count), "{mode:?}");
        database.shutdown().unwrap();
    }
}

#[test]
fn transactions_that_move_units_between_keys_keep_the_sum() {
    let database = in_memory();
    let run = database.default_run();
    for key in ["a", "b", "c"] {
        run.kv().put(key, &int(100)).unwrap();
    }
    let policy = RetryPolicy {
        retry_count_max: 10_000,
        delay_us_base: 0,
        delay_us_max: 0,
    };
    thread::scope(|scope| {
        for (from, to) in [("a", "b"), ("b", "c"), ("c", "a")] {
            let database = &database;
            scope.spawn(move || {
                for _ in 0..300 {
                    database
                        .transaction_with_retry(RunId::DEFAULT, policy, |context| {
                            context.increment(from.as_bytes(), -1)?;
                            context.increment(to.as_bytes(), 1).map(drop)
                        })
                        .unwrap();
                }
            });
        }
    });
    let many = run.kv().get_many(&[b"a", b"b", b"c"]).unwrap();
    let sum: i64 = many
        .iter()
        .flatten()
        .filter_map(|found| as_int(&found.value))
        .sum();
    assert_eq!(sum, 300);
}

#[test]
fn correctness_tx1_a_view_never_shows_half_of_a_commit() {
    let database = in_memory();
    let run = database.default_run();
    run.kv()
        .put_many(&[(b"x", &int(0)), (b"y", &int(0))])
        .unwrap();
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let run = database.default_run();
            for n in 1..20_000 {
                run.kv()
                    .put_many(&[(b"x", &int(n)), (b"y", &int(n))])
                    .unwrap();
            }
            is_done.store(true, Ordering::SeqCst);
        });
        let mut count = 0;
        while !is_done.load(Ordering::SeqCst) || count < 1000 {
            let pair = run.kv().get_many(&[b"x", b"y"]).unwrap();
            assert_eq!(pair[0], pair[1]);
            let mut context = database.begin_transaction(RunId::DEFAULT).unwrap();
            let x = context.get(b"x").unwrap();
            assert_eq!(x, context.get(b"y").unwrap());
            database.end_transaction(context);
            count += 1;
        }
    });
}

#[test]
fn listings_meet_every_key_while_the_list_is_being_built() {
    let database = in_memory();
    let run = database.default_run();
    for n in 0..2_000 {
        run.kv().put(format!("old{n:05}"), &int(n)).unwrap();
    }
    thread::scope(|scope| {
        for part in 0..2 {
            let database = &database;
            scope.spawn(move || {
                let run = database.default_run();
                for n in 0..2_000 {
                    run.kv().put(format!("new{part}{n:05}"), &int(n)).unwrap();
                }
            });
        }
        scope.spawn(|| assert_eq!(run.kv().count("old").unwrap(), 2_000));
    });
    assert_eq!(run.kv().count("").unwrap(), 6_000);
}

#[test]
fn pending_commits_are_seen_by_validators_and_by_no_reader_and_answers_wait_for_them() {
    let world = world();
    let (database, mut driver) = driven(&world);
    let run = database.default_run();
    let collector = Arc::new(Collector::default());
    let submit = |token, step, durability| {
        let options = CommitOptions { durability };
        let program = Program {
            checks: &[],
            steps: &[step],
        };
        run.submit(&program, options, &collector.completion(token))
    };
    let (one, two) = (int(1), int(2));
    let put = Step::Put {
        key: b"k",
        value: one.as_ref(),
    };
    assert!(matches!(submit(1, put, None), Submitted::Pending));
    assert_eq!(run.visible_version(), 0);
    assert!(
        !run.kv().contains("k").unwrap(),
        "a reader does not see a pending commit"
    );
    let cas = Step::CasVersion {
        key: b"k",
        expected: Expected::Absent,
        value: two.as_ref(),
    };
    assert!(
        matches!(submit(2, cas, None), Submitted::Pending),
        "the mismatch has to wait"
    );
    let volatile = Step::Put {
        key: b"v",
        value: two.as_ref(),
    };
    let in_memory = Some(Durability::InMemory);
    assert!(
        matches!(submit(3, volatile, in_memory), Submitted::Pending),
        "it is behind"
    );
    assert!(run.get_with(KeyRef::kv(b"v"), |found| found.is_none()));
    assert_eq!(database.global_watermark(), 0);
    drive(&mut driver);
    let answers = collector.take();
    let tokens: Vec<u64> = answers.iter().map(|(token, _)| *token).collect();
    assert_eq!(tokens, [1, 2, 3], "published in version order");
    let first = answers[0].1.as_ref().unwrap();
    let StepOutcome::Mismatch(actual) = &answers[1].1.as_ref().unwrap().steps.as_slice()[0] else {
        panic!("the key is there")
    };
    assert_eq!(actual.version, first.version);
    assert_eq!(run.visible_version(), first.version + 1);
    assert_eq!(database.global_watermark(), database.version());
}

/// Lost before: nobody told of the room that a full queue of pending commits got again.
#[test]
fn a_commit_refused_because_too_many_wait_is_told_when_there_is_room() {
    let world = world();
    let (database, mut driver) = driven(&world);
    let run = database.default_run();
    let collector = Arc::new(Collector::default());
    let listener: Arc<dyn CompletionSink> = Arc::<Collector>::clone(&collector);
    database.add_listener(&listener);
    let value = int(1);
    let steps = [Step::Put {
        key: b"k",
        value: value.as_ref(),
    }];
    let program = Program {
        checks: &[],
        steps: &steps,
    };
    let completion = collector.completion(1);
    let submit = |durability| run.submit(&program, CommitOptions { durability }, &completion);
    assert!(matches!(submit(None), Submitted::Pending));
    let mut pending_count = 1;
    while matches!(submit(Some(Durability::InMemory)), Submitted::Pending) {
        pending_count += 1;
    }
    assert_eq!(pending_count, PENDING_COUNT_MAX);
    assert!(matches!(
        submit(Some(Durability::InMemory)),
        Submitted::Busy
    ));
    assert_eq!(collector.room_count.load(Ordering::SeqCst), 0);
    drive(&mut driver);
    assert_eq!(collector.take().len(), PENDING_COUNT_MAX);
    // Once for the queue of the run, and perhaps once more for the log.
    assert_ne!(collector.room_count.load(Ordering::SeqCst), 0);
    let again = submit(Some(Durability::InMemory));
    assert!(matches!(again, Submitted::Done(Ok(_))), "{again:?}");
}
