//! After the log has failed: no write from any entry point, reads go on, reopening is consistent.

use std::sync::Arc;

use in_mem_model::{Durability, RunId};
use in_mem_wal::disk::{Fault, FaultRule, OpKind};

use super::{Collector, MODES, drive, driven, int, over, world};
use crate::{
    BeginRun, CommitError, CommitOptions, DurabilityMode, Program, ShutdownError, Step, Storage,
    Submitted, WriteSet,
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
fn a_failed_sync_fails_the_commit_and_every_entry_point_after_it() {
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
