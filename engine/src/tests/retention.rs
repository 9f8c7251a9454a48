//! The retention policy of a run: an entry of that run that only its own operations see.

use std::time::Duration;

use in_mem_model::keys::KeyError;
use in_mem_model::{Durability, RetentionPolicy, RunId, SYSTEM_NAMESPACE, ValueRef, Version};
use in_mem_wal::disk::CrashMode;

use super::checkpoint::{SEED, open, reopened};
use super::{MODES, in_memory, int, over, world};
use crate::retention::policy_at;
use crate::{
    BeginRun, CommitError, CompactMode, Database, ListRequest, PolicyError, ReadError,
    TransactionOptions,
};

fn keep_last(count: u64) -> RetentionPolicy {
    RetentionPolicy::keep_last(count).unwrap()
}

fn begun(database: &Database) -> RunId {
    let begun = database.runs().begin_run(BeginRun::default()).unwrap();
    begun.0.id
}

fn policy_key() -> String {
    format!("{SYSTEM_NAMESPACE}retention_policy")
}

#[test]
fn retention_invariant_rt4_each_policy_update_raises_its_version_the_old_one_stays_readable_and_it_survives_a_crash()
 {
    let world = world();
    let database = open(&world);
    let run = begun(&database);
    let week = RetentionPolicy::keep_for(Duration::from_secs(7 * 24 * 60 * 60)).unwrap();
    let policies = [
        keep_last(3),
        week.clone(),
        keep_last(3),
        RetentionPolicy::KeepAll,
    ];
    let mut versions = vec![0];
    for (index, policy) in policies.iter().enumerate() {
        let version = database.runs().set_retention_policy(run, policy).unwrap();
        assert!(*versions.last().unwrap() < version);
        versions.push(version);
        if index == 1 {
            database.checkpoint().unwrap();
            database.compact(CompactMode::WALOnly).unwrap();
        }
    }
    let check = |database: &Database| {
        for (policy, version) in policies.iter().zip(&versions[1..]) {
            let at = database.runs().retention_policy_at(run, *version).unwrap();
            let at = at.unwrap();
            assert_eq!(
                (at.value, at.version),
                (policy.clone(), Version::Txn(*version))
            );
        }
        let newest = database.runs().get_retention_policy(run).unwrap().unwrap();
        assert_eq!(newest.value, RetentionPolicy::KeepAll);
        let before = database.runs().retention_policy_at(run, versions[1] - 1);
        assert_eq!(before.unwrap(), None);
    };
    check(&database);
    let crashed = world.crash(SEED, CrashMode::Prefix);
    drop(database);
    let database = reopened(&crashed).unwrap();
    check(&database);
    let version = database.runs().delete_retention_policy(run).unwrap();
    assert!(*versions.last().unwrap() < version);
    assert_eq!(database.runs().delete_retention_policy(run).unwrap(), 0);
    let crashed = crashed.crash(SEED, CrashMode::Prefix);
    drop(database);
    let database = reopened(&crashed).unwrap();
    assert_eq!(database.runs().get_retention_policy(run).unwrap(), None);
    let before = database
        .runs()
        .retention_policy_at(run, version - 1)
        .unwrap();
    assert_eq!(before.unwrap().value, RetentionPolicy::KeepAll);
}

#[test]
fn storage_invariant_eight_5_policies_are_found_in_the_system_namespace_and_manifest_does_not_change()
 {
    let world = world();
    let database = open(&world);
    let runs: Vec<RunId> = (0..3).map(|_| begun(&database)).collect();
    database.checkpoint().unwrap();
    let manifest = world.read_file("MANIFEST").unwrap();
    for (run, count) in runs.iter().zip(1..) {
        let set = database
            .runs()
            .set_retention_policy(*run, &keep_last(count));
        set.unwrap();
    }
    database.runs().delete_retention_policy(runs[0]).unwrap();
    database.flush().unwrap();
    assert_eq!(world.read_file("MANIFEST").unwrap(), manifest);
    let mut found = Vec::new();
    for shard in database.store().shards() {
        database.store().for_each_chain(&shard, |key, versions, _| {
            if key.user_key().starts_with(SYSTEM_NAMESPACE.as_bytes()) {
                assert_eq!(key.user_key(), policy_key().as_bytes());
                found.push((shard.run_id, versions[0].is_tombstone));
            }
        });
    }
    let mut expected = vec![(runs[0], true), (runs[1], false), (runs[2], false)];
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
}

#[test]
fn retention_invariant_a_policy_is_hidden_from_users_and_no_user_writes_it() {
    for mode in MODES {
        let database = over(&world(), mode).open().unwrap();
        let run = database.default_run();
        run.kv().put("_", &int(1)).unwrap();
        run.kv().put("a", &int(1)).unwrap();
        let counted = database.store().count(run.id());
        database
            .runs()
            .set_retention_policy(run.id(), &keep_last(1))
            .unwrap();
        let key = policy_key();
        let kv = run.kv();
        assert_eq!(kv.list("").unwrap(), [b"_".to_vec(), b"a".to_vec()]);
        assert_eq!(kv.list_with_values(SYSTEM_NAMESPACE).unwrap(), []);
        assert_eq!(kv.scan("", None, 10, None).unwrap().items.len(), 2);
        assert_eq!(kv.count("").unwrap(), 2);
        assert_eq!(database.store().count(run.id()), counted);
        assert_eq!(
            database.state_counts().entities,
            if mode == MODES[0] { 0 } else { 2 }
        );
        let is_reserved =
            |error: &ReadError| matches!(error, ReadError::InvalidKey(KeyError::ReservedPrefix));
        assert!(is_reserved(&kv.get(&key).unwrap_err()));
        assert!(is_reserved(&kv.history(&key, None, None).unwrap_err()));
        assert!(is_reserved(&kv.get_at(&key, Version::Txn(9)).unwrap_err()));
        assert!(is_reserved(&kv.latest_version(&key).unwrap_err()));
        let is_refused =
            |error: CommitError| matches!(error, CommitError::InvalidKey(KeyError::ReservedPrefix));
        assert!(is_refused(kv.put(&key, &int(1)).unwrap_err()));
        assert!(is_refused(kv.delete(&key).unwrap_err()));
        assert!(is_refused(kv.incr(&key, 1).unwrap_err()));
        assert!(is_refused(
            kv.put_many(&[(key.as_bytes(), &int(1))]).unwrap_err()
        ));
        let refused = database.transaction(run.id(), |context| {
            assert!(is_reserved(&context.get(key.as_bytes()).unwrap_err()));
            assert!(is_refused(context.delete(key.as_bytes()).unwrap_err()));
            let value = int(1);
            context.put(key.as_bytes(), ValueRef::new(value.as_bytes())?)
        });
        assert!(is_refused(refused.unwrap_err()));
        let own = database.runs().get_retention_policy(run.id()).unwrap();
        assert_eq!(own.unwrap().value, keep_last(1));
    }
}

#[test]
fn a_policy_commits_with_the_rest_of_its_transaction_or_not_at_all() {
    let database = in_memory();
    let run = database.default_run();
    let mut context = database.begin_transaction(run.id()).unwrap();
    context.put(b"a", int(1).as_ref()).unwrap();
    context.set_retention_policy(&keep_last(2)).unwrap();
    assert_eq!(
        context.retention_policy().unwrap().unwrap().value,
        keep_last(2)
    );
    let request = ListRequest {
        prefix: b"",
        after: None,
        start: b"",
        limit: 10,
        with_values: false,
    };
    assert_eq!(context.scan(&request).unwrap().items.len(), 1);
    assert_eq!(
        database.runs().get_retention_policy(run.id()).unwrap(),
        None
    );
    let version = context.commit().unwrap().version;
    let own = database
        .runs()
        .get_retention_policy(run.id())
        .unwrap()
        .unwrap();
    assert_eq!(
        (own.value, own.version),
        (keep_last(2), Version::Txn(version))
    );
    let mut context = database.begin_transaction(run.id()).unwrap();
    assert!(context.delete_retention_policy().unwrap());
    assert!(!context.delete_retention_policy().unwrap());
    assert_eq!(context.retention_policy().unwrap(), None);
    context.rollback();
    assert!(
        database
            .runs()
            .get_retention_policy(run.id())
            .unwrap()
            .is_some()
    );
}

#[test]
fn a_policy_is_refused_where_a_write_of_the_run_would_be_and_never_volatile_beside_durable_data() {
    let database = over(&world(), MODES[2]).open().unwrap();
    let unknown = RunId::new_random();
    let missing = database.runs().set_retention_policy(unknown, &keep_last(1));
    assert!(matches!(missing, Err(CommitError::RunNotFound { run }) if run == unknown));
    let missing = database.runs().get_retention_policy(unknown);
    assert_eq!(missing, Err(PolicyError::RunNotFound { run: unknown }));
    assert!(database.runs().effective_retention_policy(unknown).is_err());
    let run = begun(&database);
    let volatile = database.runs().with_durability(Durability::InMemory);
    let refused = volatile.set_retention_policy(run, &keep_last(1));
    assert!(matches!(
        refused,
        Err(CommitError::VolatileDependency { .. })
    ));
    let refused = volatile.delete_retention_policy(run);
    assert!(matches!(
        refused,
        Err(CommitError::VolatileDependency { .. })
    ));
    let options = TransactionOptions {
        durability: Some(Durability::InMemory),
        ..TransactionOptions::default()
    };
    let mut context = database.begin_transaction_with(run, options).unwrap();
    context.set_retention_policy(&keep_last(1)).unwrap();
    let refused = context.commit();
    assert!(matches!(
        refused,
        Err(CommitError::VolatileDependency { .. })
    ));
    database
        .runs()
        .set_retention_policy(run, &keep_last(1))
        .unwrap();
    database.runs().end_run(run).unwrap();
    let closed = database.runs().set_retention_policy(run, &keep_last(2));
    assert!(matches!(closed, Err(CommitError::RunClosed { .. })));
    let closed = database.runs().delete_retention_policy(run);
    assert!(matches!(closed, Err(CommitError::RunClosed { .. })));
    let own = database.runs().get_retention_policy(run).unwrap();
    assert_eq!(own.unwrap().value, keep_last(1));
}

#[test]
fn the_default_holds_for_a_run_without_its_own_policy_and_what_held_at_a_watermark_can_be_asked() {
    let database = in_memory();
    let run = begun(&database);
    let effective = || database.runs().effective_retention_policy(run).unwrap();
    assert_eq!(effective(), RetentionPolicy::KeepAll);
    database.set_default_retention_policy(keep_last(9));
    assert_eq!(effective(), keep_last(9));
    let first = database
        .runs()
        .set_retention_policy(run, &keep_last(1))
        .unwrap();
    let second = database.runs().delete_retention_policy(run).unwrap();
    assert_eq!(effective(), keep_last(9));
    let shard = database.run(run).unwrap().shard;
    let at = |version| policy_at(&shard, version, &keep_last(7)).unwrap();
    assert_eq!(at(first - 1), keep_last(7));
    assert_eq!(at(first), keep_last(1));
    assert_eq!(at(second), keep_last(7));
}

#[test]
fn a_preview_counts_what_a_policy_lets_go_and_changes_nothing() {
    let database = open(&world());
    let run = begun(&database);
    let kv = database.run(run).unwrap();
    for value in 0..5 {
        kv.kv().put("a", &int(value)).unwrap();
    }
    kv.kv().put("b", &int(1)).unwrap();
    kv.kv().delete("b").unwrap();
    let digest = database.state_digest();
    let stats = database.runs().retention_stats(run).unwrap();
    assert_eq!(stats.policy, RetentionPolicy::KeepAll);
    assert_eq!(stats.watermark, kv.visible_version());
    assert_eq!((stats.entity_count, stats.version_count), (2, 7));
    assert_eq!((stats.tombstone_count, stats.removable_count), (1, 0));
    let preview = |policy: &RetentionPolicy| {
        let preview = database.runs().retention_preview(run, Some(policy.clone()));
        let preview = preview.unwrap();
        assert_eq!(preview.value_len_bytes, stats.value_len_bytes);
        (preview.removable_count, preview.removable_len_bytes)
    };
    assert_eq!(preview(&keep_last(2)), (3, 3));
    assert_eq!(preview(&keep_last(1)), (5, 5));
    let week = RetentionPolicy::keep_for(Duration::from_secs(7 * 24 * 60 * 60)).unwrap();
    assert_eq!(preview(&week), (0, 0));
    let union = RetentionPolicy::union(vec![keep_last(4), keep_last(1)]).unwrap();
    assert_eq!(preview(&union), (1, 1));
    assert_eq!(database.state_digest(), digest);
    database
        .runs()
        .set_retention_policy(run, &keep_last(1))
        .unwrap();
    let stats = database.runs().retention_stats(run).unwrap();
    assert_eq!((stats.policy, stats.removable_count), (keep_last(1), 5));
}
