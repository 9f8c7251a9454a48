//! What is kept of exactly-once requests and for how long; what was let go is never executed.

use in_mem_model::Durability;

use super::once::{add, is_sum, of_client, request, step, sum};
use super::{MODES, in_memory, int, over, text, world};
use crate::limits::{
    ONCE_CLIENT_COUNT_MAX, ONCE_LEN_BYTES_MAX, ONCE_RESULT_COUNT_MAX, ONCE_RESULT_LEN_BYTES_MAX,
};
use crate::{
    CommitError, CommitOptions, Database, DurabilityMode, OnceRequest, Outcome, Program, Run, Step,
    StepOutcome, StepOutcomes,
};

#[test]
fn the_last_64_results_are_kept_and_older_requests_are_never_executed() {
    let world = world();
    let count = ONCE_RESULT_COUNT_MAX as u64 + 10;
    {
        let database = over(&world, MODES[1]).open().unwrap();
        let run = database.default_run();
        for sequence in 1..=count {
            add(&run, &request(sequence)).unwrap();
        }
        check_window(&run, count);
        database.shutdown().unwrap();
    }
    let database = over(&world, MODES[1]).open_existing().unwrap();
    check_window(&database.default_run(), count);
}

fn check_window(run: &Run, count: u64) {
    for sequence in 1..=count {
        let again = add(run, &request(sequence));
        if sequence <= count - ONCE_RESULT_COUNT_MAX as u64 {
            let refused = again.unwrap_err();
            assert!(matches!(refused, CommitError::SequenceTooOld { .. }));
            assert!(refused.is_outcome_unknown());
        } else {
            let sum = i64::try_from(sequence).unwrap();
            let steps = StepOutcomes::One(StepOutcome::Incremented(sum));
            assert_eq!(again.unwrap().steps, steps);
        }
    }
    is_sum(run, i64::try_from(count).unwrap());
}

#[test]
fn results_below_the_lowest_awaited_go_and_are_gone_after_recovery_too() {
    let world = world();
    let is_too_old = |run: &Run, sequence| {
        let refused = add(run, &request(sequence));
        matches!(refused, Err(CommitError::SequenceTooOld { .. }))
    };
    let check = |run: &Run| {
        for sequence in [1, 2, 5, 6] {
            assert!(is_too_old(run, sequence), "{sequence}");
        }
        for sequence in [7, 8] {
            add(run, &request(sequence)).unwrap();
        }
        is_sum(run, 4);
    };
    let digest;
    {
        let database = over(&world, DurabilityMode::Strict).open().unwrap();
        let run = database.default_run();
        // 3 to 6 are not used: what was never seen below the mark is not executed either.
        for sequence in [1, 2, 7] {
            add(&run, &request(sequence)).unwrap();
        }
        let lowest_awaited = OnceRequest {
            lowest_awaited: 7,
            ..request(8)
        };
        add(&run, &lowest_awaited).unwrap();
        check(&run);
        digest = database.state_digest();
    }
    let database = over(&world, DurabilityMode::Strict)
        .open_existing()
        .unwrap();
    assert_eq!(database.state_digest(), digest, "recovery forgets the same");
    check(&database.default_run());
}

#[test]
fn the_client_that_committed_longest_ago_goes_first_and_is_refused_from_then_on() {
    let world = world();
    let digest;
    {
        let database = over(&world, MODES[1]).open().unwrap();
        let run = database.default_run();
        let count = ONCE_CLIENT_COUNT_MAX as u64;
        for number in 0..count {
            add(&run, &of_client(number, 1)).unwrap();
        }
        // Client 0 is no longer the oldest.
        let kept = add(&run, &of_client(0, 2)).unwrap();
        add(&run, &of_client(count, 1)).unwrap();
        assert_eq!(add(&run, &of_client(0, 2)).unwrap(), kept);
        digest = database.state_digest();
        check_evicted(&database, count);
        database.shutdown().unwrap();
    }
    let database = over(&world, MODES[1]).open_existing().unwrap();
    assert_eq!(database.state_digest(), digest, "recovery evicts the same");
    check_evicted(&database, ONCE_CLIENT_COUNT_MAX as u64);
}

/// Client 1 is forgotten, the others are not.
fn check_evicted(database: &Database, count: u64) {
    let run = database.default_run();
    let before = sum(&run);
    for sequence in [1, 2] {
        let refused = add(&run, &of_client(1, sequence)).unwrap_err();
        assert!(matches!(refused, CommitError::SessionExpired { .. }));
        assert!(refused.is_outcome_unknown());
    }
    for number in [2, count - 1, count] {
        add(&run, &of_client(number, 1)).unwrap();
    }
    assert_eq!(sum(&run), before, "only answers were repeated");
    // One that registered after the last forgotten commit cannot be a forgotten one.
    let issued = database.version();
    let expired = OnceRequest {
        registered_at: 2,
        ..of_client(9_999, 1)
    };
    assert!(add(&run, &expired).is_err());
    assert_eq!(database.version(), issued);
}

#[test]
fn a_client_registered_after_the_last_eviction_is_new() {
    let database = in_memory();
    let run = database.default_run();
    for number in 0..=ONCE_CLIENT_COUNT_MAX as u64 {
        add(&run, &of_client(number, 1)).unwrap();
    }
    let new = OnceRequest {
        registered_at: database.version(),
        ..of_client(9_999, 1)
    };
    add(&run, &new).unwrap();
    is_sum(&run, ONCE_CLIENT_COUNT_MAX as i64 + 2);
}

#[test]
fn the_results_of_a_run_take_no_more_than_their_memory() {
    let database = in_memory();
    let run = database.default_run();
    let large = text(&"x".repeat(ONCE_RESULT_LEN_BYTES_MAX - 64));
    run.kv().put("k", &large).unwrap();
    let per_client = ONCE_RESULT_COUNT_MAX as u64;
    let clients = (ONCE_LEN_BYTES_MAX / (ONCE_RESULT_LEN_BYTES_MAX * ONCE_RESULT_COUNT_MAX)) as u64;
    let swap = || Step::GetAndSet {
        key: b"k",
        value: large.as_ref(),
    };
    for number in 0..clients + 8 {
        let registered_at = database.version();
        for sequence in 1..=per_client {
            let once = OnceRequest {
                registered_at,
                ..of_client(number, sequence)
            };
            step(&run, swap(), &once).unwrap();
        }
    }
    let is_expired = |number| {
        let again = step(&run, swap(), &of_client(number, per_client));
        matches!(again, Err(CommitError::SessionExpired { .. }))
    };
    assert!(is_expired(0));
    assert!(!is_expired(clients));
    let kept = (0..clients + 8)
        .filter(|number| !is_expired(*number))
        .count();
    assert!(clients as usize - 4 <= kept, "{kept} of {clients}");
    assert!(kept <= clients as usize, "{kept} of {clients}");
}

#[test]
fn an_answer_too_long_to_keep_is_repeated_as_its_counts() {
    let world = world();
    let told: Vec<Outcome>;
    let run_all = |run: &Run| {
        let large = text(&"y".repeat(2 * ONCE_RESULT_LEN_BYTES_MAX));
        let swap = Step::GetAndSet {
            key: b"k",
            value: large.as_ref(),
        };
        let keys: Vec<String> = (0..1000).map(|n| format!("many/{n}")).collect();
        let deletes: Vec<Step<'_>> = keys
            .iter()
            .map(|key| Step::Delete {
                key: key.as_bytes(),
            })
            .collect();
        let program = Program {
            checks: &[],
            steps: &deletes,
        };
        let deleted = run.commit_once(&program, CommitOptions::default(), &request(2));
        vec![step(run, swap, &request(1)).unwrap(), deleted.unwrap()]
    };
    {
        let database = over(&world, DurabilityMode::Strict).open().unwrap();
        let run = database.default_run();
        let large = text(&"x".repeat(2 * ONCE_RESULT_LEN_BYTES_MAX));
        run.kv().put("k", &large).unwrap();
        for n in (0..1000).filter(|n| n % 2 == 0) {
            let volatile = run.kv().with_durability(Durability::Buffered);
            volatile.put(format!("many/{n}"), &int(n)).unwrap();
        }
        told = run_all(&run);
        let value = StepOutcomes::One(StepOutcome::Previous(Some(large.as_bytes().to_vec())));
        assert_eq!(told[0].steps, value);
        check_counted(&told, &run_all(&run));
    }
    let database = over(&world, DurabilityMode::Strict)
        .open_existing()
        .unwrap();
    check_counted(&told, &run_all(&database.default_run()));
}

fn check_counted(told: &[Outcome], again: &[Outcome]) {
    for ((first, again), deleted_count) in told.iter().zip(again).zip([0, 500]) {
        assert_eq!(again.steps, StepOutcomes::Counted { deleted_count });
        assert_eq!(again.version, first.version);
        assert_eq!(again.timestamp_us, first.timestamp_us);
        assert_eq!(again.level, first.level);
    }
}
