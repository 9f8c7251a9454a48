//! Every override in every kind of database.

use in_mem_model::{Durability, Level};
use in_mem_wal::disk::{Fault, FaultRule};

use super::{MODES, int, over, small_log, world};
use crate::{
    BeginRun, CommitError, CommitOptions, Database, DurabilityMode, OpenError, Program, Step,
    Submitted,
};

const CHOICES: [Durability; 3] = [
    Durability::InMemory,
    Durability::Buffered,
    Durability::Strict,
];

#[test]
fn every_override_reaches_its_own_level_and_only_logged_commits_come_back() {
    for mode in MODES {
        for choice in CHOICES {
            let world = world();
            {
                let database = over(&world, mode).open().unwrap();
                assert_eq!(database.log_metrics().is_some(), mode.requires_wal());
                let value = int(1);
                let steps = [Step::Put {
                    key: b"k",
                    value: value.as_ref(),
                }];
                let options = CommitOptions {
                    durability: Some(choice),
                };
                let run = database.default_run();
                let done = run
                    .commit(
                        &Program {
                            checks: &[],
                            steps: &steps,
                        },
                        options,
                    )
                    .unwrap();
                let level = match choice {
                    Durability::InMemory => Level::Volatile,
                    Durability::Buffered => Level::Logged,
                    Durability::Strict => Level::Synced,
                };
                assert_eq!(done.level, level);
                run.kv().put("default", &int(2)).unwrap();
                assert_eq!(
                    database.durability_mode(),
                    mode,
                    "the default does not change"
                );
                let has_log = mode.requires_wal() || choice != Durability::InMemory;
                assert_eq!(database.log_metrics().is_some(), has_log);
                database.shutdown().unwrap();
            }
            if world.paths().is_empty() {
                assert!(!mode.requires_wal() && choice == Durability::InMemory);
                continue;
            }
            let database = over(&world, mode).open_existing().unwrap();
            let kv = |key: &str| database.default_run().kv().contains(key).unwrap();
            assert_eq!(
                kv("k"),
                choice != Durability::InMemory,
                "{mode:?} {choice:?}"
            );
            assert_eq!(kv("default"), mode.requires_wal(), "{mode:?} {choice:?}");
        }
    }
}

#[test]
fn an_in_memory_database_makes_no_file_until_a_commit_asks_for_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("m.inmem");
    let builder = || {
        Database::builder()
            .path(&path)
            .in_memory()
            .wal_config(small_log())
    };
    let database = builder().open().unwrap();
    let run = database.default_run();
    run.kv().put("volatile", &int(1)).unwrap();
    assert!(!path.exists());
    let before = database.version();
    let strict = run.kv().with_durability(Durability::Strict);
    assert_eq!(strict.put("kept", &int(1)).unwrap(), before + 1);
    assert!(path.join("MANIFEST").exists());
    database.shutdown().unwrap();
    drop(database);
    let again = builder().open().unwrap();
    assert!(
        again.default_run().kv().contains("kept").unwrap(),
        "a MANIFEST is always recovered"
    );
    assert!(!again.default_run().kv().contains("volatile").unwrap());
}

#[test]
fn lifecycle_changes_are_not_volatile_in_a_persistent_database() {
    for mode in [MODES[1], MODES[2]] {
        let world = world();
        let database = over(&world, mode).open().unwrap();
        let runs = database.runs().with_durability(Durability::InMemory);
        let refused = runs.begin_run(BeginRun::default());
        assert!(matches!(
            refused,
            Err(CommitError::VolatileDependency { .. })
        ));
        let (info, _) = database.runs().begin_run(BeginRun::default()).unwrap();
        assert!(matches!(
            runs.end_run(info.id),
            Err(CommitError::VolatileDependency { .. })
        ));
    }
}

#[test]
fn a_logged_write_into_a_volatile_run_is_refused_and_into_a_logged_one_is_not() {
    let world = world();
    let database = over(&world, DurabilityMode::InMemory).open().unwrap();
    let (volatile, _) = database.runs().begin_run(BeginRun::default()).unwrap();
    let run = database.run(volatile.id).unwrap();
    run.kv().put("k", &int(1)).unwrap();
    let refused = run
        .kv()
        .with_durability(Durability::Buffered)
        .put("k", &int(2));
    assert!(matches!(
        refused,
        Err(CommitError::VolatileDependency { .. })
    ));
    let strict = database.runs().with_durability(Durability::Strict);
    let (logged, _) = strict.begin_run(BeginRun::default()).unwrap();
    let run = database.run(logged.id).unwrap();
    run.kv().put("k", &int(1)).unwrap();
    run.kv()
        .with_durability(Durability::Strict)
        .put("k", &int(2))
        .unwrap();
}

/// Lost before: after recovery such a run named a parent that did not exist.
#[test]
fn a_logged_run_has_no_volatile_parent() {
    let world = world();
    let database = over(&world, DurabilityMode::InMemory).open().unwrap();
    let child_of = |parent| BeginRun {
        parent: Some(parent),
        ..BeginRun::default()
    };
    let volatile = database.runs();
    let strict = volatile.with_durability(Durability::Strict);
    let (first, _) = volatile.begin_run(BeginRun::default()).unwrap();
    let refused = strict.begin_run(child_of(first.id));
    assert!(
        matches!(refused, Err(CommitError::VolatileDependency { run }) if run == first.id),
        "{refused:?}"
    );
    volatile.begin_run(child_of(first.id)).unwrap();
    let (logged, _) = strict
        .begin_run(child_of(crate::model::RunId::DEFAULT))
        .unwrap();
    let (child, _) = strict.begin_run(child_of(logged.id)).unwrap();
    database.shutdown().unwrap();
    drop(database);
    let again = over(&world, DurabilityMode::InMemory).open().unwrap();
    let parent = again.runs().get(child.id).unwrap().parent.unwrap();
    assert!(again.runs().exists(parent));
}

#[test]
fn a_buffered_commit_does_not_sync_and_a_strict_one_covers_those_before_it() {
    let world = world();
    let database = over(&world, MODES[1]).open().unwrap();
    let run = database.default_run();
    let syncs = || database.log_metrics().unwrap().sync_count;
    let before = syncs();
    for n in 0..10 {
        run.kv().put("k", &int(n)).unwrap();
    }
    assert_eq!(syncs(), before);
    run.kv()
        .with_durability(Durability::Strict)
        .put("s", &int(1))
        .unwrap();
    assert_eq!(
        database.log_metrics().unwrap().pending_count,
        0,
        "all earlier ones are synced"
    );
    run.kv().put("k", &int(11)).unwrap();
    database.flush().unwrap();
    assert_eq!(database.log_metrics().unwrap().pending_count, 0);
}

#[test]
fn the_first_durable_commit_of_an_in_memory_database_orphans_no_live_run() {
    let world = world();
    let database = over(&world, DurabilityMode::InMemory)
        .orphan_on_recovery(true)
        .open()
        .unwrap();
    let runs = database.runs();
    let (info, _) = runs.begin_run(BeginRun::default()).unwrap();
    let first = database.default_run();
    let strict = first.kv().with_durability(Durability::Strict);
    strict.put("k", &int(1)).unwrap();

    assert!(runs.orphaned_runs().is_empty());
    assert_eq!(
        runs.run_status(info.id),
        Some(crate::model::RunStatus::Active)
    );
    let run = database.run(info.id).unwrap();
    run.kv().put("k", &int(2)).unwrap();
}

#[test]
fn volatile_commits_raise_the_version_floor_before_they_reach_it() {
    let world = world();
    let database = over(&world, DurabilityMode::Strict).open().unwrap();
    let run = database.default_run();
    let volatile = run.kv().with_durability(Durability::InMemory);
    let floor = crate::limits::VERSION_FLOOR_STEP;
    database.store().sequencer.recover(floor - 1);
    assert_eq!(volatile.put("k", &int(1)).unwrap(), floor);
    // Refused only until the log has made the next floor durable.
    let raised = (0..100_000).find_map(|_| {
        std::thread::yield_now();
        volatile.put("k", &int(2)).ok()
    });
    assert_eq!(raised, Some(floor + 1));
}

/// Lost before: the records of a database that another process had made at the path since were
/// applied over live data, under versions that had been issued already.
#[test]
fn a_database_made_at_the_path_since_is_not_taken_over_by_the_first_durable_commit() {
    let world = world();
    let database = over(&world, DurabilityMode::InMemory).open().unwrap();
    let run = database.default_run();
    run.kv().put("k", &int(1)).unwrap();
    {
        let other = over(&world, DurabilityMode::Strict).create().unwrap();
        other.default_run().kv().put("k", &int(2)).unwrap();
        other.default_run().kv().put("other", &int(2)).unwrap();
        other.shutdown().unwrap();
    }
    let strict = run.kv().with_durability(Durability::Strict);
    for _ in 0..2 {
        let refused = strict.put("k", &int(3)).unwrap_err();
        assert!(
            matches!(&refused, CommitError::Files(error)
                if matches!(**error, OpenError::AlreadyExists)),
            "{refused:?}"
        );
    }
    assert_eq!(run.kv().list("").unwrap(), [b"k".to_vec()]);
    assert_eq!(run.kv().history("k", None, None).unwrap().len(), 1);
    run.kv().put("k", &int(4)).unwrap();
    drop(database);
    let other = over(&world, DurabilityMode::Strict)
        .open_existing()
        .unwrap();
    let found = other.default_run().kv().get("k").unwrap().unwrap();
    assert_eq!(found, int(2).as_bytes(), "theirs is as it was");
}

#[test]
fn a_creation_that_failed_half_way_is_finished_by_the_next_durable_commit() {
    let mut failed_count = 0;
    for skip_count in 0..200 {
        let world = world();
        let database = over(&world, DurabilityMode::InMemory)
            .manual()
            .open()
            .unwrap();
        let run = database.default_run();
        let before = run.kv().put("k", &int(1)).unwrap();
        let rule = FaultRule::new(Fault::Io).after(skip_count).times(1);
        world.add_rule(rule);
        let sink = std::sync::Arc::new(super::Collector::default());
        let submit = |token| {
            let value = int(2);
            let steps = [Step::Put {
                key: b"k",
                value: value.as_ref(),
            }];
            let options = CommitOptions {
                durability: Some(Durability::Strict),
            };
            let program = Program {
                checks: &[],
                steps: &steps,
            };
            run.submit(&program, options, &sink.completion(token))
        };
        let first = submit(1);
        if database.log_metrics().is_some() {
            break;
        }
        assert!(
            matches!(&first, Submitted::Done(Err(CommitError::Files(_)))),
            "{skip_count}: {first:?}"
        );
        failed_count += 1;
        world.clear_faults();
        // The files are made by the attempt, the room in them by the background work.
        assert!(!matches!(submit(2), Submitted::Done(_)), "{skip_count}");
        let mut driver = database.take_driver().unwrap().unwrap();
        while driver.drive_background() {}
        super::drive(&mut driver);
        assert!(!matches!(submit(3), Submitted::Done(_)), "{skip_count}");
        super::drive(&mut driver);
        let told = sink.take();
        let (_, last) = told.last().unwrap();
        assert!(before < last.as_ref().unwrap().version, "{skip_count}");
    }
    assert!((1..200).contains(&failed_count), "{failed_count}");
}
