//! Runs: identity, statuses, names, lists, and what a closed run takes.

use in_mem_model::{RunId, RunStatus, Value, encode};
use in_mem_wal::disk::{Fault, FaultRule, OpKind};

use super::{Collector, MODES, drive, driven, in_memory, int, over, small_log, world};
use crate::limits::RUN_PAGE_LEN_BYTES_MAX;
use crate::{
    BeginRun, CommitError, DurabilityMode, Program, RunChange, RunFilter, RunPage, Step, Submitted,
};

fn named(name: &str) -> BeginRun {
    BeginRun {
        name: Some(name.to_owned()),
        ..BeginRun::default()
    }
}

#[test]
fn a_run_lives_from_begin_to_archive_in_every_mode() {
    for mode in MODES {
        let world = world();
        let database = over(&world, mode).open().unwrap();
        let runs = database.runs();
        let (info, version) = runs.begin_run(named("agent")).unwrap();
        assert_eq!((info.status, info.version), (RunStatus::Active, version));
        assert_eq!(runs.resolve("agent"), Some(info.id));
        let run = database.run(info.id).unwrap();
        run.kv().put("k", &int(1)).unwrap();
        runs.pause(info.id).unwrap();
        assert!(matches!(
            run.kv().put("k", &int(2)),
            Err(CommitError::RunClosed {
                status: RunStatus::Paused,
                ..
            })
        ));
        runs.resume(info.id).unwrap();
        run.kv().put("k", &int(2)).unwrap();
        runs.end_run(info.id).unwrap();
        assert!(matches!(
            run.kv().put("k", &int(3)),
            Err(CommitError::RunClosed { .. })
        ));
        assert_eq!(run.kv().get("k").unwrap().unwrap(), int(2).as_bytes());
        let again = runs.end_run(info.id);
        assert!(matches!(again, Err(CommitError::InvalidTransition { .. })));
        runs.archive(info.id).unwrap();
        assert_eq!(runs.list_ids(), [RunId::DEFAULT]);
        let all = RunFilter {
            include_archived: true,
            ..RunFilter::default()
        };
        assert_eq!(runs.list_runs(&all).runs.len(), 2);
        assert!(runs.get(info.id).unwrap().completed_at_us.is_some());
        database.shutdown().unwrap();
    }
}

#[test]
fn names_are_unique_and_a_failed_begin_leaves_nothing() {
    let database = in_memory();
    let runs = database.runs();
    let (first, _) = runs.begin_run(named("a")).unwrap();
    let taken = runs.begin_run(named("a"));
    assert!(matches!(taken, Err(CommitError::AlreadyExists { run }) if run == first.id));
    assert!(matches!(
        runs.begin_run(named("default")),
        Err(CommitError::AlreadyExists { .. })
    ));
    assert!(matches!(
        runs.begin_run(named("a b")),
        Err(CommitError::InvalidArgument { .. })
    ));
    let orphan = BeginRun {
        parent: Some(RunId::new_random()),
        ..named("child")
    };
    assert!(matches!(
        runs.begin_run(orphan),
        Err(CommitError::RunNotFound { .. })
    ));
    assert_eq!(runs.resolve("child"), None);
    assert!(
        runs.begin_run(named("child")).is_ok(),
        "the name was given back"
    );
    assert_eq!(
        database.store().run_ids().len(),
        3,
        "the default run and two begun ones"
    );
}

#[test]
fn the_default_run_always_exists_and_cannot_be_moved() {
    let database = in_memory();
    let runs = database.runs();
    assert_eq!(runs.run_status(RunId::DEFAULT), Some(RunStatus::Active));
    assert_eq!(runs.resolve("default"), Some(RunId::DEFAULT));
    for change in [
        RunChange::End,
        RunChange::Pause,
        RunChange::Archive,
        RunChange::Cancel,
        RunChange::Fail {
            message: "x".to_owned(),
        },
        RunChange::Resume,
    ] {
        let refused = runs.change_existing(RunId::DEFAULT, change);
        assert!(matches!(
            refused,
            Err(CommitError::InvalidTransition { .. })
        ));
    }
    runs.add_tags(RunId::DEFAULT, &["x"]).unwrap();
    assert_eq!(runs.get_tags(RunId::DEFAULT).unwrap(), ["x"]);
}

#[test]
fn an_unknown_run_is_not_found_for_handles_and_writes_and_reads_as_empty_in_the_store() {
    let database = in_memory();
    let unknown = RunId::new_random();
    assert!(database.run(unknown).is_err());
    assert!(matches!(
        database.runs().end_run(unknown),
        Err(CommitError::RunNotFound { .. })
    ));
    assert!(matches!(
        database.begin_transaction(unknown),
        Err(CommitError::RunNotFound { .. })
    ));
    assert_eq!(database.store().count(unknown), 0);
    assert_eq!(database.runs().run_status(unknown), None);
}

#[test]
fn metadata_and_tags_are_versioned_and_repeats_are_ignored() {
    let database = in_memory();
    let runs = database.runs();
    let begin = BeginRun {
        tags: vec!["a".into(), "b".into(), "a".into()],
        metadata: Some(encode(&Value::Object(vec![("k".into(), Value::Int(1))])).unwrap()),
        ..BeginRun::default()
    };
    let (info, begun) = runs.begin_run(begin).unwrap();
    assert_eq!(info.tags, ["a", "b"]);
    let version = runs.add_tags(info.id, &["b", "c"]).unwrap();
    assert!(begun < version);
    runs.remove_tags(info.id, &["a", "none"]).unwrap();
    assert_eq!(runs.get_tags(info.id).unwrap(), ["b", "c"]);
    assert!(runs.update_metadata(info.id, int(1)).is_err());
    let null = encode(&Value::Null).unwrap();
    runs.update_metadata(info.id, null).unwrap();
    assert_eq!(runs.get(info.id).unwrap().metadata, Value::Null);
    assert!(matches!(
        runs.fail(info.id, ""),
        Err(CommitError::InvalidArgument { .. })
    ));
    runs.abort_run(info.id, "no luck").unwrap();
    let info = runs.get(info.id).unwrap();
    assert_eq!(
        (info.status, info.error.as_deref()),
        (RunStatus::Failed, Some("no luck"))
    );
}

#[test]
fn lists_go_page_by_page_in_order_of_the_ids() {
    let database = in_memory();
    let runs = database.runs();
    for _ in 0..10 {
        runs.begin_run(BeginRun::default()).unwrap();
    }
    let mut seen = Vec::new();
    let mut filter = RunFilter {
        limit: 3,
        ..RunFilter::default()
    };
    loop {
        let page = runs.list_runs(&filter);
        seen.extend(page.runs.iter().map(|info| info.id));
        filter.after = page.cursor;
        if !page.has_more {
            break;
        }
    }
    assert_eq!(seen.len(), 11, "the default run is listed too");
    assert!(seen.is_sorted());
}

/// What was lost: a list of runs decoded the metadata of every one before it looked at a size.
#[test]
fn a_page_of_runs_ends_behind_a_megabyte_of_metadata_and_has_one_run_at_least() {
    let world = world();
    let large = |len_bytes: usize| {
        let text = Value::String("m".repeat(len_bytes));
        encode(&Value::Object(vec![("m".into(), text)])).unwrap()
    };
    let mut config = small_log();
    config.segment_len_bytes = 16 << 20;
    config.record_len_bytes_max = 2 << 20;
    config.batch_len_bytes_max = 4 << 20;
    let open = || over(&world, DurabilityMode::Strict).wal_config(config);
    let mut ids = Vec::new();
    {
        let database = open().open().unwrap();
        let runs = database.runs();
        for len_bytes in [300_000, 1_000_000, 1_000_000, 300_000, 300_000, 10] {
            let (info, _) = runs.begin_run(BeginRun::default()).unwrap();
            runs.update_metadata(info.id, large(len_bytes)).unwrap();
            ids.push(info.id);
        }
    }
    let database = open().open_existing().unwrap();
    let runs = database.runs();
    ids.sort_unstable();
    let mut filter = RunFilter::default();
    let (mut listed, mut orphaned, mut cursor) = (Vec::new(), Vec::new(), None);
    loop {
        let page = runs.list_runs(&filter);
        assert_bounded(&page);
        listed.extend(page.runs.iter().map(|info| info.id));
        filter.after = page.cursor;
        if !page.has_more {
            break;
        }
    }
    assert_eq!(listed.split_off(1), ids, "behind the default run");
    assert_eq!(runs.list_ids().len(), 1 + ids.len());
    loop {
        let page = runs.orphaned_page(cursor);
        assert_bounded(&page);
        orphaned.extend(page.runs.iter().map(|info| info.id));
        cursor = page.cursor;
        if !page.has_more {
            break;
        }
    }
    assert_eq!(orphaned, ids);
    assert!(runs.orphaned_page(None).has_more);
}

/// One run alone may be as large as it is; together they keep to the bound.
fn assert_bounded(page: &RunPage) {
    let len_bytes: usize = page
        .runs
        .iter()
        .map(|info| info.encode().unwrap().as_bytes().len())
        .sum();
    assert!(!page.runs.is_empty());
    assert!(
        page.runs.len() == 1 || len_bytes <= RUN_PAGE_LEN_BYTES_MAX,
        "{len_bytes} bytes of {} runs",
        page.runs.len()
    );
}

#[test]
fn a_run_recovered_with_an_owner_is_orphaned_until_someone_moves_it() {
    let world = world();
    let (owned, free);
    {
        let database = over(&world, DurabilityMode::Strict).open().unwrap();
        let runs = database.runs();
        let begin = BeginRun {
            owner: Some("pid 1".into()),
            ..BeginRun::default()
        };
        owned = runs.begin_run(begin).unwrap().0.id;
        free = runs.begin_run(BeginRun::default()).unwrap().0.id;
        assert!(
            runs.orphaned_runs().is_empty(),
            "never orphaned while its process lives"
        );
    }
    let database = over(&world, DurabilityMode::Strict)
        .open_existing()
        .unwrap();
    let runs = database.runs();
    assert_eq!(runs.run_status(owned), Some(RunStatus::Orphaned));
    assert_eq!(runs.run_status(free), Some(RunStatus::Active));
    assert_eq!(runs.orphaned_runs().len(), 2);
    assert_eq!(database.last_recovery_result().unwrap().orphaned_runs, 2);
    let run = database.run(owned).unwrap();
    assert!(matches!(
        run.kv().put("k", &int(1)),
        Err(CommitError::RunClosed {
            status: RunStatus::Orphaned,
            ..
        })
    ));
    assert!(matches!(
        runs.end_run(owned),
        Err(CommitError::InvalidTransition { .. })
    ));
    runs.resume(owned).unwrap();
    run.kv().put("k", &int(1)).unwrap();
    assert_eq!(runs.orphaned_runs().len(), 1);
}

/// Lost before: a pending resume already showed the run as Active, a state nobody had published
/// and that the failure of the log took back.
#[test]
fn an_orphaned_run_stays_orphaned_until_who_moves_it_is_published() {
    for is_lost in [false, true] {
        let world = world();
        let id = {
            let database = over(&world, DurabilityMode::Strict).open().unwrap();
            let begin = BeginRun {
                owner: Some("pid 1".into()),
                ..BeginRun::default()
            };
            database.runs().begin_run(begin).unwrap().0.id
        };
        let (database, mut driver) = driven(&world);
        let runs = database.runs();
        let run = database.run(id).unwrap();
        let before = run.visible_version();
        let check = |is_orphaned: bool, when: &str| {
            let expected = if is_orphaned {
                RunStatus::Orphaned
            } else {
                RunStatus::Active
            };
            assert_eq!(runs.run_status(id), Some(expected), "{when}");
            let listed = RunFilter {
                status: Some(RunStatus::Orphaned),
                ..RunFilter::default()
            };
            let count = usize::from(is_orphaned);
            assert_eq!(runs.list_runs(&listed).runs.len(), count, "{when}");
            assert_eq!(runs.orphaned_runs().len(), count, "{when}");
        };
        check(true, "recovered");
        let collector = std::sync::Arc::new(Collector::default());
        let steps = [Step::Run(&RunChange::Resume)];
        let program = Program {
            checks: &[],
            steps: &steps,
        };
        let submitted = run.submit(&program, Default::default(), &collector.completion(1));
        assert!(matches!(submitted, Submitted::Pending));
        check(true, "pending");
        if is_lost {
            world.add_rule(FaultRule::new(Fault::Io).on(OpKind::WriteSynced));
            world.add_rule(FaultRule::new(Fault::Io).on(OpKind::Sync));
        }
        drive(&mut driver);
        check(is_lost, "decided");
        let earlier = crate::runs::info_at(&run.shard, before).unwrap();
        assert_eq!(earlier.status, RunStatus::Orphaned, "a view keeps its own");
    }
}

/// Lost before: of two beginnings of one id at once, the failure of the one dropped the run that
/// the other had looked up and not yet entered: its acknowledged run was nowhere.
#[test]
fn a_beginning_that_fails_drops_no_run_that_another_begins_under_the_same_id() {
    let database = in_memory();
    let runs = database.runs();
    let collector = std::sync::Arc::new(Collector::default());
    let begin = RunChange::Begin(BeginRun::default());
    let steps = [Step::Run(&begin)];
    let program = Program {
        checks: &[],
        steps: &steps,
    };
    let id = RunId::new_random();
    let shard = database.store().shard_or_new(id);
    let looked_up = crate::Run::new(std::sync::Arc::clone(&database.inner), shard);
    let failing = || BeginRun {
        parent: Some(RunId::new_random()),
        ..BeginRun::default()
    };
    let failed = runs.submit_begin(id, failing(), &collector.completion(1));
    assert!(matches!(failed, Submitted::Done(Err(_))));
    let stale = looked_up.submit(&program, Default::default(), &collector.completion(2));
    assert!(matches!(stale, Submitted::Busy), "{stale:?}");
    assert!(!runs.exists(id));
    for _ in 0..500 {
        let id = RunId::new_random();
        std::thread::scope(|scope| {
            scope.spawn(|| runs.submit_begin(id, failing(), &collector.completion(1)));
            let begun = runs.submit_begin(id, BeginRun::default(), &collector.completion(2));
            assert!(matches!(begun, Submitted::Done(Ok(_))), "{begun:?}");
        });
        assert!(runs.exists(id));
    }
}

#[test]
fn all_entries_are_listed_by_run_and_key() {
    let database = in_memory();
    let (other, _) = database.runs().begin_run(BeginRun::default()).unwrap();
    let run = database.run(other.id).unwrap();
    run.kv().put("b", &int(2)).unwrap();
    run.kv().put("a", &int(1)).unwrap();
    database.default_run().kv().put("z", &int(3)).unwrap();
    run.kv().put("gone", &int(4)).unwrap();
    run.kv().delete("gone").unwrap();
    let listed: Vec<_> = database
        .list_all()
        .into_iter()
        .map(|(run, (key, _))| (run, key))
        .collect();
    let expected = [
        (RunId::DEFAULT, b"z".to_vec()),
        (other.id, b"a".to_vec()),
        (other.id, b"b".to_vec()),
    ];
    assert_eq!(format!("{listed:?}"), format!("{expected:?}"));
}
