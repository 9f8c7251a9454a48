//! Full compaction: what goes, what stays, who is waited for, and what a crash leaves.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use in_mem_model::{Durability, RetentionPolicy, RunId, Version};
use in_mem_wal::disk::{Fault, FaultRule, OpKind, SimRng, SimWorld};
use in_mem_wal::names::RESERVE_FILE;

use super::checkpoint::{SEED, STRICT, act, log_alone, open, reopened};
use super::{int, over, world};
use crate::index::KeyRef;
use crate::recovery::len_of;
use crate::version_node::VersionNode;
use crate::{
    BeginRun, CasOutcome, CompactError, CompactInfo, CompactMode, CompactRequest, Database,
    Expected, HistoryEntry, ReadError,
};

const FULL: CompactMode = CompactMode::Full;

fn keep_last(count: u64) -> RetentionPolicy {
    RetentionPolicy::keep_last(count).unwrap()
}

fn govern(database: &Database, policy: &RetentionPolicy) -> u64 {
    let runs = database.runs();
    runs.set_retention_policy(RunId::DEFAULT, policy).unwrap()
}

/// `count` versions of a key, oldest first.
fn write(database: &Database, key: &str, count: i64) -> Vec<u64> {
    let run = database.default_run();
    let put = |number| run.kv().put(key, &int(number)).unwrap();
    (0..count).map(put).collect()
}

fn get_at(database: &Database, key: &str, version: u64) -> Result<Option<u64>, ReadError> {
    let run = database.default_run();
    let found = run.kv().get_at(key, Version::Txn(version))?;
    Ok(found.map(|entry| entry.version))
}

fn history(database: &Database, run: RunId, key: &[u8]) -> Vec<HistoryEntry> {
    let run = database.run(run).unwrap();
    run.kv().history(key, None, None).unwrap()
}

/// Every key of every run with its history, newest first, as a reader gets it.
fn dump(database: &Database) -> BTreeMap<(RunId, Vec<u8>), Vec<HistoryEntry>> {
    let mut dump = BTreeMap::new();
    for shard in database.store().shards() {
        database.store().for_each_chain(&shard, |key, _, _| {
            if let Some(KeyRef {
                tag: in_mem_model::TypeTag::Kv,
                user_key,
            }) = key.key_ref()
                && !in_mem_model::keys::is_system_key(user_key)
            {
                let entries = history(database, shard.run_id, user_key);
                dump.insert((shard.run_id, user_key.to_vec()), entries);
            }
        });
    }
    dump
}

#[test]
fn test_compaction_read_equivalence() {
    for seed in SEED..SEED + 20 {
        println!("seed {seed}");
        let mut rng = SimRng::new(seed);
        let world = world();
        let database = open(&world);
        let policy = keep_last(1 + rng.below(3));
        govern(&database, &policy);
        for _ in 0..150 {
            act(&database, &mut rng);
        }
        let before = dump(&database);
        let info = database.compact(FULL).unwrap();
        let after = dump(&database);
        let count = |dump: &BTreeMap<_, Vec<HistoryEntry>>| {
            dump.values()
                .map(|history| history.len() as u64)
                .sum::<u64>()
        };
        assert_eq!(count(&before) - count(&after), info.versions_removed);
        for (entity, entries) in &after {
            let was = &before[entity];
            assert_eq!(entries[..], was[..entries.len()], "seed {seed}: {entity:?}");
            assert!(!entries.is_empty() || was.is_empty());
            if entity.0 != RunId::DEFAULT {
                assert_eq!(entries, was, "a run without a policy keeps everything");
            }
        }
        let digest = database.digest().unwrap();
        drop(database);
        let database = reopened(&world).unwrap();
        assert_eq!(
            database.digest().unwrap().sha256,
            digest.sha256,
            "seed {seed}"
        );
    }
}

#[test]
fn test_trimmed_version_error() {
    let world = world();
    let database = open(&world);
    let versions = write(&database, "k", 6);
    govern(&database, &keep_last(2));
    let info = database.compact(FULL).unwrap();
    assert_eq!(info.versions_removed, 4);
    assert_eq!(info.mode, FULL);
    let check = |database: &Database| {
        let trimmed = |requested| {
            Err(ReadError::HistoryTrimmed {
                requested,
                earliest_retained: versions[4],
            })
        };
        assert_eq!(get_at(database, "k", versions[5]), Ok(Some(versions[5])));
        assert_eq!(get_at(database, "k", versions[4]), Ok(Some(versions[4])));
        assert_eq!(
            get_at(database, "k", versions[4] - 1),
            trimmed(versions[4] - 1)
        );
        assert_eq!(get_at(database, "k", versions[0]), trimmed(versions[0]));
        let before = Some(versions[4]);
        let older = database.default_run().kv().history("k", None, before);
        assert_eq!(
            older.unwrap_err().as_history_trimmed(),
            Some((versions[4] - 1, versions[4]))
        );
        assert!(database.default_run().read_view_at(versions[0]).is_err());
        // A key that was never trimmed begins where it began.
        assert_eq!(get_at(database, "other", 1), Ok(None));
    };
    check(&database);
    drop(database);
    check(&reopened(&world).unwrap());
}

#[test]
fn retention_invariant_rt3_a_floor_stands_after_restart_and_under_a_policy_that_keeps_all() {
    let world = world();
    let database = open(&world);
    let versions = write(&database, "k", 5);
    govern(&database, &keep_last(1));
    database.compact(FULL).unwrap();
    govern(&database, &RetentionPolicy::KeepAll);
    let newer = write(&database, "k", 3);
    assert_eq!(database.compact(FULL).unwrap().versions_removed, 0);
    drop(database);
    let database = reopened(&world).unwrap();
    assert!(
        get_at(&database, "k", versions[3])
            .unwrap_err()
            .is_history_trimmed()
    );
    for version in versions[4..].iter().chain(&newer) {
        assert_eq!(get_at(&database, "k", *version), Ok(Some(*version)));
    }
    // And it rises with the next one.
    govern(&database, &keep_last(2));
    assert_eq!(database.compact(FULL).unwrap().versions_removed, 2);
    drop(database);
    let database = reopened(&world).unwrap();
    let error = get_at(&database, "k", newer[0]).unwrap_err();
    assert_eq!(error.as_history_trimmed(), Some((newer[0], newer[1])));
}

#[test]
fn retention_invariant_rt1_and_rt2_what_is_kept_keeps_its_order_and_no_neighbour_is_read() {
    let world = world();
    let database = open(&world);
    let mut all = BTreeMap::new();
    for key in ["a", "b", "c"] {
        all.insert(key, write(&database, key, 7));
    }
    govern(&database, &keep_last(3));
    database.compact(FULL).unwrap();
    for (key, versions) in &all {
        let kept = history(&database, RunId::DEFAULT, key.as_bytes());
        let kept: Vec<u64> = kept.iter().map(|entry| entry.version).collect();
        assert_eq!(kept, [versions[6], versions[5], versions[4]]);
        for version in 1..versions[4] {
            assert!(
                get_at(&database, key, version)
                    .unwrap_err()
                    .is_history_trimmed()
            );
        }
        for version in versions[4]..=database.version() {
            let newest = versions.iter().rev().find(|it| **it <= version);
            assert_eq!(get_at(&database, key, version), Ok(newest.copied()));
        }
    }
}

#[test]
fn compaction_invariant_c2_a_compare_and_set_ends_as_before_also_on_a_deleted_key() {
    let world = world();
    let database = open(&world);
    let versions = write(&database, "k", 4);
    write(&database, "gone", 3);
    let run = database.default_run();
    run.kv().delete("gone").unwrap();
    let tombstone = database.version();
    govern(&database, &keep_last(1));
    database.compact(FULL).unwrap();
    drop(run);
    drop(database);
    let database = reopened(&world).unwrap();
    let run = database.default_run();
    let cas = |key: &str, expected| run.kv().cas_version(key, expected, &int(9)).unwrap();
    let at = Expected::Version;
    assert!(
        matches!(cas("gone", at(0)), CasOutcome::Mismatch(_)),
        "it existed"
    );
    assert!(matches!(cas("k", at(versions[0])), CasOutcome::Mismatch(_)));
    assert!(matches!(cas("gone", at(tombstone)), CasOutcome::Written(_)));
    assert!(matches!(cas("k", at(versions[3])), CasOutcome::Written(_)));
}

#[test]
fn compaction_invariant_c4_nothing_above_the_watermark_goes_and_the_newest_always_stays() {
    let world = world();
    let database = open(&world);
    write(&database, "k", 5);
    govern(&database, &keep_last(1));
    let stopped = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&stopped);
    let writer = database.clone();
    let writer = thread::spawn(move || {
        let run = writer.default_run();
        let mut written = Vec::new();
        while !stop.load(Ordering::SeqCst) {
            written.push(run.kv().put("k", &int(1)).unwrap());
        }
        written
    });
    let mut watermarks = Vec::new();
    for _ in 0..20 {
        watermarks.push(database.compact(FULL).unwrap().snapshot_watermark);
    }
    stopped.store(true, Ordering::SeqCst);
    let written = writer.join().unwrap();
    let watermark = *watermarks.last().unwrap();
    let kept: Vec<u64> = history(&database, RunId::DEFAULT, b"k")
        .iter()
        .map(|entry| entry.version)
        .collect();
    let above = written.iter().rev().filter(|version| watermark < **version);
    let at = written.iter().rev().find(|version| **version <= watermark);
    let expected: Vec<u64> = above.chain(at).copied().collect();
    assert!(
        kept == expected || at.is_none(),
        "{} of {}",
        kept.len(),
        expected.len()
    );
}

#[test]
fn compaction_invariant_c3_c5_c6_recovery_from_the_snapshot_alone_gives_what_memory_became() {
    for seed in SEED..SEED + 12 {
        println!("seed {seed}");
        let mut rng = SimRng::new(seed);
        let world = world();
        let database = open(&world);
        govern(&database, &keep_last(1 + rng.below(2)));
        for _ in 0..80 {
            act(&database, &mut rng);
        }
        let info = database.compact(FULL).unwrap();
        let volatile = |entries: &Vec<HistoryEntry>| entries.is_empty();
        let at_watermark = database.digest_at(info.snapshot_watermark).unwrap();
        let log_free = world.kill(seed);
        drop(database);
        let recovered = reopened(&log_free).unwrap();
        let again = recovered.digest_at(info.snapshot_watermark).unwrap();
        assert_eq!(again.sha256, at_watermark.sha256, "seed {seed}");
        assert!(!dump(&recovered).values().any(volatile));
        let result = recovered.last_recovery_result().unwrap();
        assert_eq!(result.records_applied, 0, "all of it is in the snapshot");
    }
}

#[test]
fn a_dry_run_counts_what_would_go_and_changes_nothing() {
    let world = world();
    let database = open(&world);
    let versions = write(&database, "k", 10);
    govern(&database, &keep_last(4));
    let request = CompactRequest {
        mode: FULL,
        is_dry_run: true,
    };
    let before = database.digest().unwrap();
    world.add_rule(
        FaultRule::new(Fault::Io)
            .on(OpKind::Create)
            .under("SNAPSHOTS")
            .times(1),
    );
    let counted = database.compact(request).unwrap();
    assert_eq!(counted.versions_removed, 6);
    assert_eq!(database.digest().unwrap(), before);
    assert_eq!(get_at(&database, "k", versions[0]), Ok(Some(versions[0])));
    assert!(database.default_run().read_view_at(versions[0]).is_ok());
    assert!(database.list_snapshots().unwrap().is_empty());
    assert!(database.compact(FULL).is_err(), "that one would write");
    let done = database.compact(FULL).unwrap();
    let of = |info: CompactInfo| (info.versions_removed, info.snapshot_watermark);
    assert_eq!(of(done), of(counted));
}

#[test]
fn correctness_tx11_views_and_transactions_hold_their_run_back_and_are_named() {
    let world = world();
    let database = open(&world);
    let other = database.runs().begin_run(BeginRun::default()).unwrap().0.id;
    let first = write(&database, "k", 3);
    let other_run = database.run(other).unwrap();
    for number in 0..3 {
        other_run.kv().put("k", &int(number)).unwrap();
    }
    govern(&database, &keep_last(1));
    database
        .runs()
        .set_retention_policy(other, &keep_last(1))
        .unwrap();
    let view = database.default_run().read_view();
    let mut transaction = database.begin_transaction(RunId::DEFAULT).unwrap();
    write(&database, "k", 3);
    let info = database.compact(FULL).unwrap();
    assert_eq!(info.versions_removed, 2, "of the other run alone");
    let held = database.compaction_held_back();
    assert_eq!(held.len(), 1);
    assert_eq!((held[0].run, held[0].view_count), (RunId::DEFAULT, 2));
    let key = KeyRef::kv(b"k");
    assert_eq!(view.get(key).unwrap().version, first[2]);
    assert_eq!(transaction.get(b"k").unwrap().unwrap().version, first[2]);
    // Their clones hold as well, and one that begins now does not.
    let clone = view.clone();
    drop(view);
    drop(transaction);
    let later = database.default_run().read_view();
    assert_eq!(database.compact(FULL).unwrap().versions_removed, 0);
    assert_eq!(clone.get(key).unwrap().version, first[2]);
    drop(clone);
    drop(later);
    assert_eq!(database.compact(FULL).unwrap().versions_removed, 5);
    assert!(database.compaction_held_back().is_empty());
}

#[test]
fn correctness_tx11_readers_see_one_version_all_the_while_compactions_go_on() {
    let world = world();
    let database = open(&world);
    let keys: Vec<String> = (0..20).map(|number| format!("k{number}")).collect();
    let write_all = |database: &Database, number: i64| {
        let value = int(number);
        let entries: Vec<_> = keys.iter().map(|key| (key.as_bytes(), &value)).collect();
        database.default_run().kv().put_many(&entries).unwrap();
    };
    write_all(&database, 0);
    govern(&database, &keep_last(1));
    let stopped = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let run = database.default_run();
                while !stopped.load(Ordering::SeqCst) {
                    let view = run.read_view();
                    let seen: Vec<_> = keys
                        .iter()
                        .map(|key| {
                            view.get(KeyRef::kv(key.as_bytes()))
                                .map(|found| found.version)
                        })
                        .collect();
                    assert!(
                        seen.iter()
                            .all(|version| version.is_some() && *version == seen[0])
                    );
                    let newest = run.kv().get(&keys[0]).unwrap();
                    assert!(newest.is_some());
                }
            });
        }
        scope.spawn(|| {
            let mut number = 0;
            while !stopped.load(Ordering::SeqCst) {
                number += 1;
                write_all(&database, number);
            }
        });
        let mut removed = 0;
        for _ in 0..30 {
            removed += database.compact(FULL).unwrap().versions_removed;
        }
        stopped.store(true, Ordering::SeqCst);
        assert_ne!(removed, 0);
    });
}

#[test]
fn what_is_trimmed_is_given_back_to_the_memory_account_and_to_the_allocator() {
    let world = world();
    let database = over(&world, STRICT).open().unwrap();
    database.store().memory.limit(1 << 30);
    let run = database.default_run();
    write(&database, "k", 50);
    let weak = run.shard.index.with_newest(KeyRef::kv(b"k"), |head| {
        let mut oldest = head.unwrap().clone();
        while let Some(older) = (*oldest.older()).clone() {
            oldest = older;
        }
        oldest
    });
    govern(&database, &keep_last(1));
    let before = database.memory_len_bytes();
    assert_eq!(database.compact(FULL).unwrap().versions_removed, 49);
    let freed = before - database.memory_len_bytes();
    let of_one = crate::limits::VERSION_COST_BYTES + int(0).as_ref().as_bytes().len() as u64;
    assert_eq!(freed, 49 * of_one);
    assert_eq!(
        triomphe::ThinArc::strong_count(&weak),
        1,
        "nobody else holds it"
    );
}

#[test]
fn compaction_invariant_c1_a_volatile_version_on_top_keeps_the_logged_one_below_it() {
    let world = world();
    let database = open(&world);
    let logged = write(&database, "k", 3);
    let volatile = database.default_run();
    let volatile = volatile.kv().with_durability(Durability::InMemory);
    let top = volatile.put("k", &int(7)).unwrap();
    govern(&database, &keep_last(1));
    assert_eq!(database.compact(FULL).unwrap().versions_removed, 2);
    assert_eq!(get_at(&database, "k", top), Ok(Some(top)));
    assert_eq!(get_at(&database, "k", logged[2]), Ok(Some(logged[2])));
    let world = world.kill(SEED);
    drop(database);
    let database = reopened(&world).unwrap();
    assert_eq!(get_at(&database, "k", top), Ok(Some(logged[2])));
}

#[test]
fn the_policies_own_history_and_the_metadata_of_runs_are_never_trimmed() {
    let world = world();
    let database = open(&world);
    let run = database.runs().begin_run(BeginRun::default()).unwrap().0.id;
    for number in 1..6 {
        govern(&database, &keep_last(number));
        database
            .runs()
            .add_tags(run, &[format!("t{number}").as_str()])
            .unwrap();
        database
            .runs()
            .set_retention_policy(run, &keep_last(1))
            .unwrap();
    }
    let oldest = database
        .runs()
        .get_retention_policy(RunId::DEFAULT)
        .unwrap()
        .unwrap();
    govern(&database, &keep_last(1));
    assert_eq!(database.compact(FULL).unwrap().versions_removed, 0);
    let Version::Txn(version) = oldest.version else {
        panic!("a policy has commit versions");
    };
    let then = database.runs().retention_policy_at(RunId::DEFAULT, version);
    assert_eq!(then.unwrap().unwrap().value, oldest.value);
}

#[test]
fn without_a_log_or_beside_another_errand_it_is_refused_and_nothing_goes() {
    let database = super::in_memory();
    assert!(matches!(
        database.compact(FULL),
        Err(CompactError::Refused(_))
    ));
    let world = world();
    let database = over(&world, STRICT).manual().open().unwrap();
    let done = |_| {};
    database.start_compaction(FULL, Box::new(done)).unwrap();
    let second = database.start_compaction(FULL, Box::new(done));
    assert!(matches!(second, Err(CompactError::AlreadyInProgress)));
}

#[test]
fn a_snapshot_that_cannot_be_written_leaves_every_version_and_the_error_says_why() {
    let world = world();
    let database = open(&world);
    let versions = write(&database, "k", 5);
    govern(&database, &keep_last(1));
    world.add_rule(
        FaultRule::new(Fault::Io)
            .on(OpKind::Rename)
            .under("SNAPSHOTS")
            .times(1),
    );
    let refused = database.compact(FULL).unwrap_err();
    assert!(matches!(refused, CompactError::NotTaken(_)), "{refused:?}");
    assert_eq!(get_at(&database, "k", versions[0]), Ok(Some(versions[0])));
    assert!(database.default_run().read_view_at(versions[0]).is_ok());
    assert_eq!(database.compact(FULL).unwrap().versions_removed, 4);
}

#[test]
fn a_full_compaction_frees_segments_and_the_snapshot_before_the_last() {
    let world = world();
    let database = open(&world);
    govern(&database, &keep_last(1));
    let fill = || {
        for number in 0..200 {
            let key = format!("k{}", number % 4);
            let value = super::text(&"v".repeat(8_000));
            database.default_run().kv().put(&key, &value).unwrap();
        }
    };
    fill();
    database.checkpoint().unwrap();
    fill();
    let first = database.compact(FULL).unwrap();
    assert_ne!(
        first.wal_segments_removed, 0,
        "those below the first snapshot"
    );
    fill();
    let second = database.compact(FULL).unwrap();
    assert_ne!(second.wal_segments_removed, 0);
    let snapshots = database.list_snapshots().unwrap();
    assert_eq!(snapshots.len(), 2);
    assert!(
        snapshots
            .iter()
            .all(|snapshot| snapshot.size_bytes < 100_000)
    );
    assert!(
        second.reclaimed_bytes > 1_000_000,
        "the uncompacted snapshot is gone"
    );
    let alone = log_alone(&world);
    assert!(
        reopened(&alone).is_err(),
        "the log does not reach back any more"
    );
}

#[test]
fn on_a_full_disk_a_full_compaction_gives_up_the_reserve_and_makes_it_again() {
    let world = world();
    let database = open(&world);
    govern(&database, &keep_last(1));
    for number in 0..300 {
        let key = format!("k{}", number % 20);
        let value = super::text(&"v".repeat(4_000));
        database.default_run().kv().put(&key, &value).unwrap();
    }
    let reserve = |world: &SimWorld| {
        let disk = &mut world.disk();
        len_of(disk, RESERVE_FILE).ok()
    };
    let made = reserve(&world).unwrap();
    assert!(80_000 < made, "the snapshot fits the reserve");
    // Nothing is left but what is there.
    world.set_capacity(Some(world.used_bytes()));
    let info = database.compact(FULL).unwrap();
    assert_eq!(info.versions_removed, 280);
    assert!(!database.is_poisoned());
    drop(database);
    world.set_capacity(None);
    let database = reopened(&world).unwrap();
    assert_eq!(database.state_counts().entities, 20);
    assert_eq!(reserve(&world), Some(made));
}
