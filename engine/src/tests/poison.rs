//! After the log has failed: no write from any entry point, reads go on, reopening is consistent.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use in_mem_model::{Durability, EncodedValue, RunId};
use in_mem_wal::Stage;
use in_mem_wal::disk::{Fault, FaultRule, OpKind};

use super::{Collector, MODES, drive, driven, int, over, text, world};
use crate::faults::{Point, panic_at};
use crate::{
    BeginRun, CommitError, CommitOptions, CompletionSink, Database, DurabilityMode, Program, Run,
    ShutdownError, Step, Storage, Submitted, WriteSet,
};

fn is_refused<T>(result: Result<T, CommitError>) -> bool {
    matches!(
        result,
        Err(CommitError::Poisoned {
            is_outcome_unknown: false,
            ..
        })
    )
}

#[test]
fn correctness_tx6_a_failed_sync_fails_the_commit_and_every_entry_point_after_it() {
    let world = world();
    {
        let database = over(&world, DurabilityMode::Strict).open().unwrap();
        let run = database.default_run();
        let (info, _) = database.runs().begin_run(BeginRun::default()).unwrap();
        run.kv().put("k", &int(1)).unwrap();
        let mut open = database.begin_transaction(RunId::DEFAULT).unwrap();
        open.put(b"t", int(1).as_ref()).unwrap();
        world.add_rule(FaultRule::new(Fault::Io).on(OpKind::WriteSynced));
        world.add_rule(FaultRule::new(Fault::Io).on(OpKind::Sync));
        let failed = run.kv().put("k", &int(2)).unwrap_err();
        assert!(failed.is_outcome_unknown(), "{failed:?}");
        assert!(database.is_poisoned());
        assert!(database.poison_cause().is_some());
        assert!(is_refused(run.kv().put("x", &int(1))));
        assert!(is_refused(run.kv().delete("k")));
        assert!(is_refused(run.kv().incr("n", 1)));
        assert!(is_refused(
            run.kv()
                .with_durability(Durability::InMemory)
                .put("x", &int(1))
        ));
        assert!(is_refused(database.runs().begin_run(BeginRun::default())));
        assert!(is_refused(database.runs().end_run(info.id)));
        assert!(is_refused(open.commit()));
        assert!(is_refused(Storage::put(
            &database,
            RunId::DEFAULT,
            b"x",
            &int(1)
        )));
        let mut write_set = WriteSet::new(info.id);
        write_set.writes.insert(b"x".to_vec(), Some(int(1)));
        assert!(is_refused(database.apply(&write_set)));
        assert!(database.flush().is_err());
        assert_eq!(
            run.kv().get("k").unwrap().unwrap(),
            int(1).as_bytes(),
            "reads go on"
        );
        assert_eq!(run.kv().list("").unwrap(), [b"k".to_vec()]);
        assert!(matches!(
            database.shutdown(),
            Err(ShutdownError::Poisoned(_))
        ));
    }
    world.clear_faults();
    let database = over(&world, MODES[2]).open_existing().unwrap();
    let found = database.default_run().kv().get("k").unwrap().unwrap();
    assert!(
        [int(1), int(2)]
            .iter()
            .any(|value| value.as_bytes() == found)
    );
    database.default_run().kv().put("k", &int(3)).unwrap();
}

/// Lost before: what the failure dropped counted as published.
#[test]
fn the_global_watermark_stays_below_what_a_failure_dropped() {
    let world = world();
    let (database, mut driver) = driven(&world);
    let run = database.default_run();
    let collector = Arc::new(Collector::default());
    let put = |key: &[u8], token| {
        let value = int(1);
        let steps = [Step::Put {
            key,
            value: value.as_ref(),
        }];
        let program = Program {
            checks: &[],
            steps: &steps,
        };
        let completion = collector.completion(token);
        run.submit(&program, CommitOptions::default(), &completion)
    };
    assert!(matches!(put(b"kept", 1), Submitted::Pending));
    drive(&mut driver);
    let published = database.version();
    assert_eq!(database.global_watermark(), published);
    assert!(matches!(put(b"lost", 2), Submitted::Pending));
    assert!(matches!(put(b"lost too", 3), Submitted::Pending));
    assert_eq!(database.global_watermark(), published);
    world.add_rule(FaultRule::new(Fault::Io).on(OpKind::WriteSynced));
    world.add_rule(FaultRule::new(Fault::Io).on(OpKind::Sync));
    drive(&mut driver);
    assert!(database.is_poisoned());
    assert_eq!(run.visible_version(), published);
    assert_eq!(database.global_watermark(), published);
}

/// Submits a put without waiting.
fn submit(run: &Run, collector: &Arc<Collector>, token: u64, value: &EncodedValue) -> Submitted {
    let steps = [Step::Put {
        key: b"k",
        value: value.as_ref(),
    }];
    let program = Program {
        checks: &[],
        steps: &steps,
    };
    let completion = collector.completion(token);
    run.submit(&program, CommitOptions::default(), &completion)
}

/// Submits until there is no more room in a log that nobody drives; how many were taken.
fn fill(database: &Database, collector: &Arc<Collector>) -> u64 {
    let value = text(&"x".repeat(10_000));
    let run = database.default_run();
    for token in 0..1_000 {
        if matches!(submit(&run, collector, token, &value), Submitted::Busy) {
            return token;
        }
    }
    panic!("the log was never full");
}

fn listen(database: &Database, collector: &Arc<Collector>) {
    let sink: Arc<dyn CompletionSink> = Arc::<Collector>::clone(collector);
    database.add_listener(&sink);
}

fn refused_at_once(submitted: &Submitted) -> bool {
    matches!(
        submitted,
        Submitted::Done(Err(CommitError::Poisoned {
            is_outcome_unknown: false,
            ..
        }))
    )
}

/// What was lost: nobody told a request that waited for room in the log that there would be none.
#[test]
fn a_request_that_waits_for_room_is_told_to_ask_again_when_the_log_fails() {
    let world = world();
    let (database, mut driver) = driven(&world);
    let collector = Arc::new(Collector::default());
    listen(&database, &collector);
    let taken_count = fill(&database, &collector);
    let announced_count = collector.room_count.load(Ordering::SeqCst);
    world.add_rule(FaultRule::new(Fault::Io).on(OpKind::WriteSynced));
    world.add_rule(FaultRule::new(Fault::Io).on(OpKind::Sync));
    drive(&mut driver);
    assert!(database.is_poisoned());
    assert!(announced_count < collector.room_count.load(Ordering::SeqCst));
    assert_eq!(collector.take().len() as u64, taken_count);
    let again = submit(&database.default_run(), &collector, 7, &int(1));
    assert!(refused_at_once(&again), "{again:?}");
}

/// As above, and the log never gets to say so itself.
#[test]
fn a_request_that_waits_for_room_is_told_of_a_failure_beside_the_log() {
    let world = world();
    let (database, _driver) = driven(&world);
    let collector = Arc::new(Collector::default());
    listen(&database, &collector);
    fill(&database, &collector);
    let announced_count = collector.room_count.load(Ordering::SeqCst);
    let shared = &database.inner.shared;
    shared.poison_at(Stage::Manifest, io::Error::other("planted"));
    assert!(announced_count < collector.room_count.load(Ordering::SeqCst));
    let again = submit(&database.default_run(), &collector, 7, &int(1));
    assert!(refused_at_once(&again), "{again:?}");
}

#[test]
fn a_thread_that_waits_for_room_ends_when_something_beside_the_log_fails() {
    let world = world();
    let (database, _driver) = driven(&world);
    let collector = Arc::new(Collector::default());
    fill(&database, &collector);
    std::thread::scope(|scope| {
        let run = database.default_run();
        let waiting = scope.spawn(move || run.kv().put("k", &text(&"x".repeat(10_000))));
        let shared = &database.inner.shared;
        shared.poison_at(Stage::Manifest, io::Error::other("planted"));
        assert!(is_refused(waiting.join().unwrap()));
    });
}

#[test]
fn a_panic_before_the_version_is_an_error_of_that_request_alone() {
    let world = world();
    let (database, mut driver) = driven(&world);
    let run = database.default_run();
    let collector = Arc::new(Collector::default());
    panic_at(Point::CommitValidated);
    let broken = submit(&run, &collector, 1, &int(1));
    assert!(
        matches!(broken, Submitted::Done(Err(CommitError::Internal))),
        "{broken:?}"
    );
    assert!(!database.is_poisoned());
    let next = submit(&run, &collector, 2, &int(2));
    assert!(matches!(next, Submitted::Pending), "{next:?}");
    drive(&mut driver);
    assert!(matches!(collector.take().as_slice(), [(2, Ok(_))]));
}

#[test]
fn a_panic_after_the_version_poisons_and_the_log_acknowledges_nothing_any_more() {
    for point in [Point::CommitHandedOff, Point::CommitInstalled] {
        let world = world();
        let (database, mut driver) = driven(&world);
        let collector = Arc::new(Collector::default());
        let id = RunId::new_random();
        let begun = database
            .runs()
            .submit_begin(id, BeginRun::default(), &collector.completion(0));
        assert!(matches!(begun, Submitted::Pending), "{begun:?}");
        drive(&mut driver);
        assert_eq!(collector.take().len(), 1);
        let (run, other) = (database.default_run(), database.run(id).unwrap());
        let before = submit(&run, &collector, 1, &int(1));
        let elsewhere = submit(&other, &collector, 2, &int(1));
        assert!(matches!(before, Submitted::Pending), "{before:?}");
        assert!(matches!(elsewhere, Submitted::Pending), "{elsewhere:?}");
        let sync_count = database.log_metrics().unwrap().sync_count;
        panic_at(point);
        let broken = submit(&run, &collector, 3, &int(3));
        assert!(
            matches!(&broken, Submitted::Done(Err(error)) if error.is_outcome_unknown()),
            "{point:?}: {broken:?}"
        );
        assert!(database.is_poisoned(), "{point:?}");
        for run in [&run, &other] {
            let after = submit(run, &collector, 4, &int(4));
            assert!(refused_at_once(&after), "{point:?}: {after:?}");
        }
        drive(&mut driver);
        let mut told = collector.take();
        told.sort_by_key(|(token, _)| *token);
        let tokens: Vec<u64> = told.iter().map(|(token, _)| *token).collect();
        assert_eq!(tokens, [1, 2], "{point:?}");
        for (_, result) in told {
            assert!(result.unwrap_err().is_outcome_unknown(), "{point:?}");
        }
        assert_eq!(database.log_metrics().unwrap().sync_count, sync_count);
        assert_eq!(run.kv().get("k").unwrap(), None, "{point:?}");
    }
}
