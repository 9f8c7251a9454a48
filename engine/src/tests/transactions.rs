//! Transactions: what they see, when they conflict, and what they leave behind.

use in_mem_model::{RunId, Value, as_int, encode};

use super::{in_memory, int};
use crate::limits::KEPT_ENTRY_COUNT_MAX;
use crate::{
    BeginRun, CommitError, Expected, ListRequest, Program, ReadCheck, RunChange, Seen, Step,
    StepOutcome, TransactionOptions, clear_pool, pool_size,
};

#[test]
fn a_transaction_sees_its_start_and_its_own_writes_and_nothing_newer() {
    let database = in_memory();
    let run = database.default_run();
    run.kv().put("a", &int(1)).unwrap();
    run.kv().put("gone", &int(1)).unwrap();
    let mut context = database.begin_transaction(RunId::DEFAULT).unwrap();
    run.kv().put("a", &int(2)).unwrap();
    run.kv().put("late", &int(1)).unwrap();
    assert_eq!(context.get(b"a").unwrap().unwrap().value, int(1).as_bytes());
    assert!(!context.contains(b"late").unwrap());
    context.put(b"own", int(5).as_ref()).unwrap();
    assert!(context.delete(b"gone").unwrap());
    assert_eq!(
        context.get(b"own").unwrap().unwrap().value,
        int(5).as_bytes()
    );
    assert!(!context.contains(b"gone").unwrap());
    let keys: Vec<Vec<u8>> = context
        .list(b"", false)
        .unwrap()
        .into_iter()
        .map(|item| item.key)
        .collect();
    assert_eq!(keys, [b"a".to_vec(), b"own".to_vec()]);
    assert_eq!(context.count(b"").unwrap(), 2);
    database.end_transaction(context);
    assert!(
        !run.kv().contains("own").unwrap(),
        "an unfinished transaction leaves nothing"
    );
    assert!(run.kv().contains("gone").unwrap());
}

#[test]
fn reading_what_another_changed_is_a_conflict_and_a_blind_write_is_not() {
    let database = in_memory();
    let run = database.default_run();
    run.kv().put("a", &int(1)).unwrap();
    let mut reader = database.begin_transaction(RunId::DEFAULT).unwrap();
    let mut blind = database.begin_transaction(RunId::DEFAULT).unwrap();
    reader.get(b"a").unwrap();
    reader.put(b"b", int(1).as_ref()).unwrap();
    blind.put(b"a", int(7).as_ref()).unwrap();
    run.kv().put("a", &int(2)).unwrap();
    assert!(reader.commit().unwrap_err().is_conflict());
    assert!(!reader.is_active());
    assert!(matches!(
        reader.commit(),
        Err(CommitError::TransactionNotActive)
    ));
    blind.commit().unwrap();
    assert_eq!(run.kv().get("a").unwrap().unwrap(), int(7).as_bytes());
}

#[test]
fn a_key_read_as_missing_and_as_deleted_is_validated_too() {
    let database = in_memory();
    let run = database.default_run();
    run.kv().put("dead", &int(1)).unwrap();
    run.kv().delete("dead").unwrap();
    for key in ["never", "dead"] {
        let mut context = database.begin_transaction(RunId::DEFAULT).unwrap();
        assert!(context.get(key.as_bytes()).unwrap().is_none());
        context.put(b"x", int(1).as_ref()).unwrap();
        run.kv().put(key, &int(2)).unwrap();
        assert!(context.commit().unwrap_err().is_conflict(), "{key}");
    }
}

#[test]
fn an_empty_and_a_read_only_commit_take_no_version() {
    let database = in_memory();
    database.default_run().kv().put("a", &int(1)).unwrap();
    let before = database.version();
    let mut context = database.begin_transaction(RunId::DEFAULT).unwrap();
    context.get(b"a").unwrap();
    assert_eq!(context.commit().unwrap().version, 0);
    assert_eq!(database.version(), before);
    let run = database.default_run();
    let options = TransactionOptions {
        read_only: true,
        ..TransactionOptions::default()
    };
    let mut context = run.begin(options).unwrap();
    let refused = context.put(b"a", int(1).as_ref());
    assert!(matches!(refused, Err(CommitError::ReadOnly)));
}

#[test]
fn a_compare_and_swap_that_does_not_hold_at_commit_is_a_conflict() {
    let database = in_memory();
    let run = database.default_run();
    let version = run.kv().put("a", &int(1)).unwrap();
    let mut context = database.begin_transaction(RunId::DEFAULT).unwrap();
    context
        .cas_version(b"a", Expected::Version(version), int(2).as_ref())
        .unwrap();
    context.put(b"b", int(1).as_ref()).unwrap();
    run.kv().put("a", &int(3)).unwrap();
    assert!(context.commit().unwrap_err().is_conflict());
    assert!(!run.kv().contains("b").unwrap(), "all or nothing");
}

/// Lost before: a deletion forgot what a compare-and-swap before it expected, and a second
/// compare-and-swap replaced the expectation of the first.
#[test]
fn an_expectation_holds_whatever_the_transaction_does_to_the_key_afterwards() {
    let (old, now) = (Expected::Version(1), Expected::Version(2));
    let (never, absent) = (Expected::Version(0), Expected::Absent);
    let cases: [(&[u8], &[Expected], bool); 10] = [
        (b"a", &[old], false),
        (b"a", &[now], true),
        (b"a", &[absent], false),
        (b"new", &[absent], true),
        (b"a", &[old, now], false),
        (b"a", &[now, old], false),
        (b"a", &[now, now], true),
        (b"new", &[never, absent, never], true),
        (b"new", &[never, absent, now], false),
        (b"new", &[absent, never, now, never], false),
    ];
    for (key, expected, holds) in cases {
        for deletes in [false, true] {
            let database = in_memory();
            let run = database.default_run();
            run.kv().put("a", &int(1)).unwrap();
            run.kv().put("a", &int(2)).unwrap();
            let before = run.kv().get(key).unwrap();
            let mut context = database.begin_transaction(RunId::DEFAULT).unwrap();
            let value = int(3);
            for expected in expected {
                context.cas_version(key, *expected, value.as_ref()).unwrap();
            }
            if deletes {
                assert!(context.delete(key).unwrap());
            }
            let committed = context.commit();
            let case = format!("{key:?} {expected:?} {deletes}: {committed:?}");
            assert_eq!(committed.is_ok(), holds, "{case}");
            assert!(committed.is_ok() || committed.unwrap_err().is_conflict());
            let after = match (holds, deletes) {
                (false, _) => before,
                (true, false) => Some(value.as_bytes().to_vec()),
                (true, true) => None,
            };
            assert_eq!(run.kv().get(key).unwrap(), after, "{case}");
        }
    }
}

#[test]
fn a_transaction_is_bound_to_one_run_and_can_end_it() {
    let database = in_memory();
    let (info, _) = database.runs().begin_run(BeginRun::default()).unwrap();
    let mut context = database.begin_transaction(info.id).unwrap();
    let crossed = context.check_run(RunId::DEFAULT);
    assert!(matches!(crossed, Err(CommitError::CrossRunWrite { .. })));
    context.put(b"last", int(1).as_ref()).unwrap();
    context.change_run(RunChange::End).unwrap();
    let done = context.commit().unwrap();
    let run = database.run(info.id).unwrap();
    assert_eq!(
        run.kv().get_versioned("last").unwrap().unwrap().version,
        done.version
    );
    assert_eq!(database.runs().get(info.id).unwrap().version, done.version);
    assert!(matches!(
        run.kv().put("x", &int(1)),
        Err(CommitError::RunClosed { .. })
    ));
}

#[test]
fn a_closure_commits_on_ok_rolls_back_on_err_and_always_returns_its_context() {
    clear_pool();
    let database = in_memory();
    database
        .transaction(RunId::DEFAULT, |context| {
            context.put(b"a", int(1).as_ref())?;
            Ok::<_, CommitError>(())
        })
        .unwrap();
    assert_eq!(pool_size(), 1);
    let failed: Result<(), CommitError> = database.transaction(RunId::DEFAULT, |context| {
        context.put(b"b", int(1).as_ref())?;
        Err(CommitError::TransactionNotActive)
    });
    assert!(failed.is_err());
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        database.transaction(RunId::DEFAULT, |_| -> Result<(), CommitError> {
            panic!("on purpose")
        })
    }));
    assert!(panicked.is_err());
    assert_eq!(pool_size(), 1);
    let run = database.default_run();
    assert!(run.kv().contains("a").unwrap());
    assert!(!run.kv().contains("b").unwrap());
    let contexts: Vec<_> = (0..20)
        .map(|_| database.begin_transaction(RunId::DEFAULT).unwrap())
        .collect();
    for context in contexts {
        database.end_transaction(context);
    }
    assert_eq!(pool_size(), crate::limits::MAX_POOL_SIZE);
}

#[test]
fn a_pooled_context_keeps_no_database_alive() {
    clear_pool();
    let database = in_memory();
    let context = database.begin_transaction(RunId::DEFAULT).unwrap();
    let inner = std::sync::Arc::downgrade(&database.inner);
    database.end_transaction(context);
    drop(database);
    assert!(inner.upgrade().is_none());
    assert_eq!(pool_size(), 1);
}

#[test]
fn steps_of_a_batch_see_the_steps_before_them() {
    let database = in_memory();
    let run = database.default_run();
    run.kv().put("n", &int(10)).unwrap();
    let (one, two) = (int(1), int(2));
    let steps = [
        Step::Increment {
            key: b"n",
            delta: 5,
        },
        Step::Increment {
            key: b"n",
            delta: 5,
        },
        Step::Put {
            key: b"x",
            value: one.as_ref(),
        },
        Step::CasValue {
            key: b"x",
            expected: Some(one.as_ref()),
            value: two.as_ref(),
        },
        Step::Delete { key: b"n" },
        Step::PutIfAbsent {
            key: b"n",
            value: one.as_ref(),
        },
        Step::Delete { key: b"none" },
    ];
    let done = run
        .commit(
            &Program {
                checks: &[],
                steps: &steps,
            },
            Default::default(),
        )
        .unwrap();
    let expected = [
        StepOutcome::Incremented(15),
        StepOutcome::Incremented(20),
        StepOutcome::Written,
        StepOutcome::Written,
        StepOutcome::Deleted(true),
        StepOutcome::Written,
        StepOutcome::Deleted(false),
    ];
    assert_eq!(done.steps.as_slice(), expected);
    assert_eq!(run.kv().get("n").unwrap().unwrap(), one.as_bytes());
    assert_eq!(run.kv().get("x").unwrap().unwrap(), two.as_bytes());
    assert_eq!(run.kv().history("n", None, None).unwrap().len(), 2);
}

#[test]
fn a_version_expected_behind_an_earlier_step_is_the_stored_one() {
    let value = int(2);
    let put = Step::Put {
        key: b"a",
        value: value.as_ref(),
    };
    for (expected, holds) in [
        (Expected::Version(1), true),
        (Expected::Version(0), false),
        (Expected::Version(2), false),
        (Expected::Absent, false),
    ] {
        let cas = Step::CasVersion {
            key: b"a",
            expected,
            value: value.as_ref(),
        };
        let delete = Step::Delete { key: b"a" };
        let is_absent = expected == Expected::Absent;
        // After a deletion the key is absent, and its version still the stored one.
        for (steps, holds) in [([put, cas], holds), ([delete, cas], holds || is_absent)] {
            let database = in_memory();
            let run = database.default_run();
            run.kv().put("a", &int(1)).unwrap();
            let program = Program {
                checks: &[],
                steps: &steps,
            };
            let done = run.commit(&program, Default::default());
            assert_eq!(done.is_ok(), holds, "{steps:?}: {done:?}");
        }
    }
}

#[test]
fn a_batch_whose_check_or_condition_fails_does_nothing() {
    let database = in_memory();
    let run = database.default_run();
    let version = run.kv().put("a", &int(1)).unwrap();
    let value = int(2);
    let steps = [
        Step::Put {
            key: b"b",
            value: value.as_ref(),
        },
        Step::PutIfAbsent {
            key: b"a",
            value: value.as_ref(),
        },
    ];
    let failed = run.commit(
        &Program {
            checks: &[],
            steps: &steps,
        },
        Default::default(),
    );
    assert!(failed.unwrap_err().is_conflict());
    let put = [Step::Put {
        key: b"b",
        value: value.as_ref(),
    }];
    for (seen, holds) in [
        (Seen::Version(version), true),
        (Seen::Version(0), false),
        (Seen::NotAfter(version), true),
        (Seen::NotAfter(version - 1), false),
    ] {
        let checks = [ReadCheck { key: b"a", seen }];
        let done = run.commit(
            &Program {
                checks: &checks,
                steps: &put,
            },
            Default::default(),
        );
        assert_eq!(done.is_ok(), holds, "{seen:?}");
    }
}

#[test]
fn a_read_view_keeps_what_it_saw() {
    let database = in_memory();
    let run = database.default_run();
    let value = encode(&Value::Bytes(vec![1; 100])).unwrap();
    run.kv().put("a", &value).unwrap();
    let view = run.read_view();
    run.kv().put("a", &int(2)).unwrap();
    run.kv().delete("a").unwrap();
    run.kv().put("b", &int(2)).unwrap();
    let key = crate::KeyRef::kv(b"a");
    assert_eq!(view.get(key).unwrap().value, value.as_bytes());
    let request = ListRequest {
        prefix: b"",
        after: None,
        start: b"",
        limit: 10,
        with_values: false,
    };
    assert_eq!(crate::kv::scan(&view, &request).unwrap().items.len(), 1);
}

#[test]
fn rolling_back_to_a_savepoint_takes_back_what_was_written_since_and_nothing_else() {
    let database = in_memory();
    let run = database.default_run();
    run.kv().put("stored", &int(1)).unwrap();
    let mut context = database.begin_transaction(RunId::DEFAULT).unwrap();
    context.put(b"before", int(1).as_ref()).unwrap();
    context.put(b"twice", int(1).as_ref()).unwrap();
    let outer = context.savepoint().unwrap();
    context.put(b"twice", int(2).as_ref()).unwrap();
    assert!(context.delete(b"stored").unwrap());
    let inner = context.savepoint().unwrap();
    context.put(b"twice", int(3).as_ref()).unwrap();
    context.put(b"late", int(3).as_ref()).unwrap();
    context.change_run(RunChange::Pause).unwrap();

    context.rollback_to(inner).unwrap();
    let value = |context: &mut crate::TransactionContext, key: &[u8]| {
        context.get(key).unwrap().map(|found| found.value)
    };
    assert_eq!(value(&mut context, b"twice").unwrap(), int(2).as_bytes());
    assert!(!context.contains(b"late").unwrap());
    assert!(!context.contains(b"stored").unwrap());

    context.put(b"late", int(4).as_ref()).unwrap();
    context.rollback_to(outer).unwrap();
    assert!(context.contains(b"stored").unwrap());
    assert!(matches!(
        context.rollback_to(inner),
        Err(CommitError::InvalidArgument { .. })
    ));
    context.put(b"after", int(5).as_ref()).unwrap();
    context.release(outer).unwrap();
    assert!(context.rollback_to(outer).is_err());
    assert!(context.commit().is_ok());

    let kv = run.kv();
    let sum = |key| kv.get(key).unwrap().map(|value| as_int(&value).unwrap());
    assert_eq!(sum("before"), Some(1));
    assert_eq!(sum("twice"), Some(1));
    assert_eq!(sum("stored"), Some(1));
    assert_eq!(sum("after"), Some(5));
    assert_eq!(sum("late"), None);
    assert!(run.kv().put("x", &int(1)).is_ok(), "the run was not paused");
}

#[test]
fn a_read_made_after_a_savepoint_is_validated_although_it_was_rolled_back() {
    let database = in_memory();
    let run = database.default_run();
    let mut context = database.begin_transaction(RunId::DEFAULT).unwrap();
    let savepoint = context.savepoint().unwrap();
    context.get(b"k").unwrap();
    context.rollback_to(savepoint).unwrap();
    context.put(b"own", int(1).as_ref()).unwrap();
    run.kv().put("k", &int(1)).unwrap();
    assert!(context.commit().unwrap_err().is_conflict());
}

#[test]
fn a_large_transaction_leaves_no_more_memory_with_its_thread_than_an_ordinary_one() {
    clear_pool();
    let database = in_memory();
    let run = database.default_run();
    let value = int(1);
    for (count, keeps_it_all) in [(100, true), (20 * KEPT_ENTRY_COUNT_MAX, false)] {
        let mut context = run.begin(TransactionOptions::default()).unwrap();
        for n in 0..count {
            let key = format!("a key of some length {n}");
            context.get(key.as_bytes()).unwrap();
            context.put(key.as_bytes(), value.as_ref()).unwrap();
        }
        let grown = context.capacity();
        context.commit().unwrap();
        database.end_transaction(context);
        let context = run.begin(TransactionOptions::default()).unwrap();
        if keeps_it_all {
            assert_eq!(context.capacity(), grown);
        } else {
            assert!(context.capacity() <= 2 * KEPT_ENTRY_COUNT_MAX);
        }
        database.end_transaction(context);
        assert!(crate::prepare::kept_state_count() <= KEPT_ENTRY_COUNT_MAX);
        assert_eq!(pool_size(), 1);
    }
}
