//! Exactly-once requests: one effect and one answer, whatever is repeated and when.

use std::sync::{Arc, Barrier};

use in_mem_model::{Durability, RunId};
use in_mem_wal::disk::{CrashMode, Fault, FaultRule, OpKind, SimWorld};

use super::{Collector, MODES, drive, driven, in_memory, int, over, world};
use crate::faults::{Point, panic_at};
use crate::{
    BeginRun, CommitError, CommitOptions, Database, DurabilityMode, OnceRequest, Outcome, Program,
    ReadCheck, Run, Seen, Step, StepOutcome, StepOutcomes, Submitted,
};

/// A request of client 1 that waits for all its answers.
pub(super) fn request(sequence: u64) -> OnceRequest {
    OnceRequest {
        user: 1000,
        process: 7,
        client_id: [1; 16],
        registered_at: 0,
        sequence,
        lowest_awaited: 0,
        fingerprint: 0xF00D,
    }
}

pub(super) fn of_client(number: u64, sequence: u64) -> OnceRequest {
    let mut client_id = [0; 16];
    client_id[..8].copy_from_slice(&number.to_le_bytes());
    OnceRequest {
        client_id,
        ..request(sequence)
    }
}

pub(super) fn step(run: &Run, step: Step<'_>, once: &OnceRequest) -> Result<Outcome, CommitError> {
    let program = Program {
        checks: &[],
        steps: &[step],
    };
    run.commit_once(&program, CommitOptions::default(), once)
}

pub(super) fn add(run: &Run, once: &OnceRequest) -> Result<Outcome, CommitError> {
    let key = b"n";
    step(run, Step::Increment { key, delta: 1 }, once)
}

pub(super) fn sum(run: &Run) -> Option<Vec<u8>> {
    run.kv().get("n").unwrap()
}

pub(super) fn is_sum(run: &Run, expected: i64) {
    assert_eq!(sum(run).as_deref(), Some(int(expected).as_bytes()));
}

#[test]
fn a_repeat_has_one_effect_and_the_first_answer_in_every_mode() {
    for mode in MODES {
        let database = over(&world(), mode).open().unwrap();
        let run = database.default_run();
        let first = add(&run, &request(1)).unwrap();
        run.kv().incr("n", 10).unwrap();
        let issued = database.version();
        for _ in 0..3 {
            assert_eq!(add(&run, &request(1)).unwrap(), first, "{mode:?}");
        }
        assert_eq!(
            database.version(),
            issued,
            "{mode:?}: a repeat takes no version"
        );
        is_sum(&run, 11);
        assert_ne!(add(&run, &request(2)).unwrap(), first);
        is_sum(&run, 12);
    }
}

#[test]
fn correctness_tx7_a_repeat_is_answered_after_a_crash_and_after_a_reopen() {
    let world = world();
    let seven = int(7);
    let mut told = Vec::new();
    {
        let database = over(&world, DurabilityMode::Strict).open().unwrap();
        let run = database.default_run();
        run.kv().put("gone", &int(5)).unwrap();
        for sequence in 1..=3 {
            told.push(add(&run, &request(sequence)).unwrap());
        }
        let swap = Step::GetAndSet {
            key: b"n",
            value: seven.as_ref(),
        };
        told.push(step(&run, swap, &request(4)).unwrap());
        let delete = Step::Delete { key: b"gone" };
        told.push(step(&run, delete, &request(5)).unwrap());
        assert_eq!(told[4].steps, StepOutcomes::One(StepOutcome::Deleted(true)));
    }
    let world = world.crash(42, CrashMode::Subset);
    for _ in 0..3 {
        let database = over(&world, DurabilityMode::Strict)
            .open_existing()
            .unwrap();
        let run = database.default_run();
        for sequence in 1..=3 {
            let again = add(&run, &request(sequence)).unwrap();
            assert_eq!(again, told[usize::try_from(sequence).unwrap() - 1]);
        }
        let swap = Step::GetAndSet {
            key: b"n",
            value: seven.as_ref(),
        };
        assert_eq!(step(&run, swap, &request(4)).unwrap(), told[3]);
        let delete = Step::Delete { key: b"gone" };
        assert_eq!(step(&run, delete, &request(5)).unwrap(), told[4]);
        is_sum(&run, 7);
    }
}

#[test]
fn another_request_with_the_same_sequence_is_refused_and_does_nothing() {
    let database = in_memory();
    let run = database.default_run();
    add(&run, &request(1)).unwrap();
    let other = OnceRequest {
        fingerprint: 0xBEEF,
        ..request(1)
    };
    let refused = add(&run, &other).unwrap_err();
    assert!(matches!(refused, CommitError::OtherRequest { sequence: 1 }));
    assert!(!refused.is_outcome_unknown());
    is_sum(&run, 1);
    // Another user, and another client, are not meant.
    let users = [
        OnceRequest { user: 1, ..other },
        OnceRequest {
            client_id: [2; 16],
            ..other
        },
    ];
    for once in users {
        add(&run, &once).unwrap();
    }
    is_sum(&run, 3);
    let senseless = [
        request(0),
        OnceRequest {
            lowest_awaited: 9,
            ..request(8)
        },
    ];
    for once in senseless {
        let refused = add(&run, &once).unwrap_err();
        assert!(matches!(refused, CommitError::InvalidArgument { .. }));
    }
    is_sum(&run, 3);
}

#[test]
fn what_committed_nothing_leaves_no_entry_and_its_repeat_runs_again() {
    let database = in_memory();
    let run = database.default_run();
    let one = int(1);
    let swap = Step::CasVersion {
        key: b"k",
        expected: crate::Expected::Version(99),
        value: one.as_ref(),
    };
    let mismatch = step(&run, swap, &request(1)).unwrap();
    assert!(matches!(
        mismatch.steps,
        StepOutcomes::One(StepOutcome::Mismatch(_))
    ));
    let delete = Step::Delete { key: b"k" };
    let nothing = step(&run, delete, &request(1)).unwrap();
    assert_eq!(nothing.version, 0);
    let checks = [ReadCheck {
        key: b"k",
        seen: Seen::Version(3),
    }];
    let program = Program {
        checks: &checks,
        steps: &[Step::Increment {
            key: b"n",
            delta: 1,
        }],
    };
    let conflict = run.commit_once(&program, CommitOptions::default(), &request(1));
    assert!(conflict.unwrap_err().is_conflict());
    // The same sequence, now with an effect.
    add(&run, &request(1)).unwrap();
    is_sum(&run, 1);
}

#[test]
fn a_repeat_of_a_pending_request_waits_for_it_and_is_told_the_same() {
    let world = world();
    let (database, mut driver) = driven(&world);
    let run = database.default_run();
    let collector = Arc::new(Collector::default());
    let submit = |token, once: &OnceRequest| submit_add(&run, &collector, token, once);
    for token in 1..=3 {
        assert!(matches!(submit(token, &request(1)), Submitted::Pending));
    }
    assert!(matches!(submit(4, &request(2)), Submitted::Pending));
    assert!(
        collector.take().is_empty(),
        "nobody is told before it is durable"
    );
    assert_eq!(sum(&run), None);
    drive(&mut driver);
    let told = collector.take();
    assert_eq!(told.len(), 4);
    let of = |token| told.iter().find(|told| told.0 == token).unwrap().1.clone();
    let first = of(1).unwrap();
    assert_eq!(of(2).unwrap(), first);
    assert_eq!(of(3).unwrap(), first);
    assert_ne!(of(4).unwrap(), first);
    is_sum(&run, 2);
    match submit(5, &request(1)) {
        Submitted::Done(answer) => assert_eq!(answer.unwrap(), first),
        other => panic!("{other:?}"),
    }
}

fn submit_add(run: &Run, collector: &Arc<Collector>, token: u64, once: &OnceRequest) -> Submitted {
    let program = Program {
        checks: &[],
        steps: &[Step::Increment {
            key: b"n",
            delta: 1,
        }],
    };
    let completion = collector.completion(token);
    run.submit_as(&program, CommitOptions::default(), Some(once), &completion)
}

fn fail_the_log(world: &SimWorld) {
    world.add_rule(FaultRule::new(Fault::Io).on(OpKind::WriteSynced));
    world.add_rule(FaultRule::new(Fault::Io).on(OpKind::Sync));
}

#[test]
fn a_repeat_of_a_request_that_the_log_lost_is_as_unknown_as_the_request() {
    let world = world();
    {
        let (database, mut driver) = driven(&world);
        let run = database.default_run();
        let collector = Arc::new(Collector::default());
        let submit = |token, sequence| submit_add(&run, &collector, token, &request(sequence));
        assert!(matches!(submit(1, 1), Submitted::Pending));
        drive(&mut driver);
        let first = collector.take().remove(0).1.unwrap();
        assert!(matches!(submit(2, 2), Submitted::Pending));
        assert!(matches!(submit(3, 2), Submitted::Pending));
        fail_the_log(&world);
        drive(&mut driver);
        for (token, answer) in collector.take() {
            assert!(answer.unwrap_err().is_outcome_unknown(), "{token}");
        }
        let Submitted::Done(Err(late)) = submit(4, 2) else {
            panic!("decided at once");
        };
        assert!(late.is_outcome_unknown(), "{late:?}");
        let Submitted::Done(Err(new)) = submit(5, 3) else {
            panic!("decided at once");
        };
        assert!(!new.is_outcome_unknown(), "{new:?}");
        let Submitted::Done(Ok(known)) = submit(6, 1) else {
            panic!("what was published is told also now");
        };
        assert_eq!(known, first);
    }
    world.clear_faults();
    let database = over(&world, DurabilityMode::Strict)
        .open_existing()
        .unwrap();
    let run = database.default_run();
    add(&run, &request(2)).unwrap();
    is_sum(&run, 2);
}

#[test]
fn a_repeat_of_a_commit_that_panicked_half_way_is_not_told_that_nothing_happened() {
    for point in [Point::CommitHandedOff, Point::CommitInstalled] {
        let world = world();
        {
            let database = over(&world, DurabilityMode::Strict).open().unwrap();
            let run = database.default_run();
            panic_at(point);
            let panicked = add(&run, &request(1)).unwrap_err();
            assert!(panicked.is_outcome_unknown(), "{point:?}");
            let repeated = add(&run, &request(1)).unwrap_err();
            assert!(repeated.is_outcome_unknown(), "{point:?} {repeated:?}");
            let new = add(&run, &request(2)).unwrap_err();
            assert!(!new.is_outcome_unknown(), "{point:?}");
        }
        let database = over(&world, DurabilityMode::Strict)
            .open_existing()
            .unwrap();
        let run = database.default_run();
        add(&run, &request(1)).unwrap();
        is_sum(&run, 1);
    }
}

#[test]
fn repeats_at_once_from_many_threads_have_one_effect() {
    const THREAD_COUNT: usize = 4;
    const REQUEST_COUNT: u64 = 50;
    for mode in [DurabilityMode::InMemory, MODES[1]] {
        let database = over(&world(), mode).open().unwrap();
        let run = database.default_run();
        let barrier = Barrier::new(THREAD_COUNT);
        let told: Vec<Vec<Outcome>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREAD_COUNT)
                .map(|_| {
                    scope.spawn(|| {
                        barrier.wait();
                        (1..=REQUEST_COUNT)
                            .map(|sequence| add(&run, &request(sequence)).unwrap())
                            .collect()
                    })
                })
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        is_sum(&run, REQUEST_COUNT as i64);
        for other in &told {
            assert_eq!(*other, told[0], "{mode:?}");
        }
    }
}

#[test]
fn a_volatile_request_is_remembered_as_long_as_its_effect() {
    let world = world();
    let volatile = CommitOptions {
        durability: Some(Durability::InMemory),
    };
    let add_volatile = |run: &Run| {
        let program = Program {
            checks: &[],
            steps: &[Step::Increment {
                key: b"n",
                delta: 1,
            }],
        };
        run.commit_once(&program, volatile, &request(1)).unwrap()
    };
    {
        let database = over(&world, DurabilityMode::Strict).open().unwrap();
        let run = database.default_run();
        let first = add_volatile(&run);
        assert_eq!(add_volatile(&run), first);
        is_sum(&run, 1);
    }
    let database = over(&world, DurabilityMode::Strict)
        .open_existing()
        .unwrap();
    let run = database.default_run();
    assert_eq!(sum(&run), None);
    add_volatile(&run);
    is_sum(&run, 1);
}

#[test]
fn a_closed_run_and_a_closed_database_still_tell_what_was_committed() {
    let database = in_memory();
    let (info, _) = database.runs().begin_run(BeginRun::default()).unwrap();
    let run = database.run(info.id).unwrap();
    let first = add(&run, &request(1)).unwrap();
    database.runs().end_run(info.id).unwrap();
    assert_eq!(add(&run, &request(1)).unwrap(), first);
    let refused = add(&run, &request(2)).unwrap_err();
    assert!(matches!(refused, CommitError::RunClosed { .. }));
    database.shutdown().unwrap();
    assert_eq!(add(&run, &request(1)).unwrap(), first);
    assert!(add(&run, &request(3)).is_err());
}

#[test]
fn a_transaction_carries_the_request_of_its_commit() {
    let world = world();
    let first;
    {
        let (database, mut driver) = driven(&world);
        let run = database.default_run();
        let collector = Arc::new(Collector::default());
        let mut context = database.begin_transaction(RunId::DEFAULT).unwrap();
        context.put(b"a", int(1).as_ref()).unwrap();
        context.increment(b"n", 1).unwrap();
        let submitted = context.submit_as(Some(&request(1)), &collector.completion(1));
        assert!(matches!(submitted, Submitted::Pending));
        // Its repeat has no transaction any more.
        let waited = run.submit_repeat(&request(1), &collector.completion(2));
        assert!(matches!(waited, Some(Submitted::Pending)));
        drive(&mut driver);
        let mut told = collector.take();
        first = told.remove(0).1.unwrap();
        assert_eq!(told.remove(0).1.unwrap(), first);
        assert!(
            run.submit_repeat(&request(2), &collector.completion(3))
                .is_none()
        );
        is_sum(&run, 1);
    }
    let database = over(&world, DurabilityMode::Strict)
        .open_existing()
        .unwrap();
    let run = database.default_run();
    let collector = Arc::new(Collector::default());
    match run.submit_repeat(&request(1), &collector.completion(1)) {
        Some(Submitted::Done(answer)) => assert_eq!(answer.unwrap(), first),
        other => panic!("{other:?}"),
    }
    is_sum(&run, 1);
}

#[test]
fn a_repeated_beginning_of_a_run_finds_the_run_it_began() {
    let world = world();
    let id = RunId([9; 16]);
    let begin = || BeginRun {
        name: Some("work".to_owned()),
        ..BeginRun::default()
    };
    let collector = Arc::new(Collector::default());
    let submit = |database: &Database| {
        let runs = database.runs();
        let completion = collector.completion(1);
        let submitted = runs.submit_begin_as(id, begin(), Some(&request(1)), &completion);
        database.flush().unwrap();
        match submitted {
            Submitted::Done(answer) => answer.unwrap(),
            Submitted::Pending => loop {
                if let Some(told) = collector.take().pop() {
                    break told.1.unwrap();
                }
                std::thread::yield_now();
            },
            Submitted::Busy => panic!("the log has room"),
        }
    };
    let first;
    {
        let database = over(&world, DurabilityMode::Strict).open().unwrap();
        first = submit(&database);
        database.runs().add_tags(id, &["later"]).unwrap();
        assert_eq!(submit(&database), first);
        let then = database.runs().get_at(id, first.version).unwrap();
        assert!(then.tags.is_empty());
    }
    let database = over(&world, DurabilityMode::Strict)
        .open_existing()
        .unwrap();
    assert_eq!(submit(&database), first);
}

/// What was lost: the run was dropped as one that had not begun, and with it what was noted of the
/// request; a repeat was told that nothing had happened.
#[test]
fn a_repeat_of_a_beginning_that_panicked_half_way_is_not_told_that_nothing_happened() {
    let database = over(&world(), DurabilityMode::Strict).open().unwrap();
    let collector = Arc::new(Collector::default());
    let begin = || {
        let (runs, completion) = (database.runs(), collector.completion(1));
        let once = Some(&request(1));
        let begin = BeginRun::default();
        match runs.submit_begin_as(RunId([9; 16]), begin, once, &completion) {
            Submitted::Done(answer) => answer.unwrap_err(),
            other => panic!("{other:?}"),
        }
    };
    panic_at(Point::CommitHandedOff);
    assert!(begin().is_outcome_unknown());
    assert!(begin().is_outcome_unknown());
}

#[test]
fn a_commit_without_a_request_leaves_nothing() {
    let world = world();
    let database = over(&world, DurabilityMode::Strict).open().unwrap();
    let run = database.default_run();
    run.kv().put("k", &int(1)).unwrap();
    assert!(run.shard.commit.lock().once.is_none());
    add(&run, &request(1)).unwrap();
    assert!(run.shard.commit.lock().once.is_some());
}
