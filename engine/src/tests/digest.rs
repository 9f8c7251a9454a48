//! The digest of the logged state.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use in_mem_model::Durability;
use in_mem_wal::clock::SimClock;
use in_mem_wal::disk::{CrashMode, SimRng, SimWorld};

use super::checkpoint::{SEED, STRICT, act, log_alone, open, reopened};
use super::once::{add, of_client};
use super::{in_memory, int, over, text, world};
use crate::{BeginRun, Database, DigestError};

fn hash(database: &Database) -> [u8; 32] {
    database.digest().unwrap().sha256
}

/// Made by hand (Python's struct and hashlib), not by this code.
#[test]
fn the_digest_is_the_one_that_is_drawn() {
    let world = world();
    let database = over(&world, STRICT)
        .clock(Arc::new(SimClock::new()))
        .external_time()
        .open()
        .unwrap();
    database.set_now(1_000_000);
    let empty = database.digest().unwrap().to_hex();
    assert_eq!(
        empty,
        "2764445831180a9cfb2bf6fa423761d78bfdf519b917b95ae020e9fff173b716"
    );
    let run = database.default_run();
    let first = run.kv().put("a", &int(1)).unwrap();
    let second = run.kv().put("b", &text("xy")).unwrap();
    run.kv().delete("a").unwrap();
    assert_eq!((first, second), (1, 2));
    let digest = database.digest().unwrap();
    assert_eq!(digest.watermark, 3);
    assert_eq!(
        digest.to_hex(),
        "0cc1b71d09953da0c8f2ff38db16f0237003f7f5905913c4085704b2eadff98a"
    );
    let counts = database.state_counts();
    assert_eq!((counts.runs, counts.entities), (1, 1));
    assert_eq!((counts.versions, counts.tombstones), (3, 1));
}

#[test]
fn recovery_invariant_five_1_every_split_of_the_state_into_snapshot_and_log_has_one_digest() {
    for seed in SEED..SEED + 8 {
        println!("seed {seed}");
        let mut rng = SimRng::new(seed);
        let mut world = world();
        for _ in 0..3 {
            let database = open(&world);
            for _ in 0..rng.below(120) {
                act(&database, &mut rng);
                if rng.below(40) == 0 {
                    let before = hash(&database);
                    database.checkpoint().unwrap();
                    assert_eq!(hash(&database), before, "seed {seed}");
                }
            }
            let digest = hash(&database);
            if rng.coin() {
                database.shutdown().unwrap();
            }
            drop(database);
            if rng.coin() {
                world = world.crash(rng.next_u64(), CrashMode::Subset);
            }
            let alone = reopened(&log_alone(&world)).unwrap();
            assert_eq!(hash(&alone), digest, "seed {seed}, log alone");
            assert_eq!(hash(&reopened(&world).unwrap()), digest, "seed {seed}");
        }
    }
}

#[test]
fn everything_a_reader_can_see_changes_the_digest_and_nothing_else_does() {
    let world = world();
    let database = open(&world);
    let run = database.default_run();
    let mut seen = vec![hash(&database)];
    let mut changed = |what: &str| {
        let digest = hash(&database);
        assert!(!seen.contains(&digest), "{what}");
        seen.push(digest);
    };
    run.kv().put("k", &int(1)).unwrap();
    changed("a value");
    run.kv().put("k", &int(1)).unwrap();
    changed("a version");
    run.kv().delete("k").unwrap();
    changed("a tombstone");
    let begin = BeginRun {
        name: Some("named".to_owned()),
        ..BeginRun::default()
    };
    let (other, _) = database.runs().begin_run(begin).unwrap();
    changed("a run");
    database.runs().add_tags(other.id, &["t"]).unwrap();
    changed("metadata of a run");
    database
        .run(other.id)
        .unwrap()
        .kv()
        .put("k", &int(1))
        .unwrap();
    changed("a key of another run");
    let before = hash(&database);
    let volatile = run.kv().with_durability(Durability::InMemory);
    volatile.put("k", &int(2)).unwrap();
    volatile.put("only", &int(2)).unwrap();
    assert_eq!(hash(&database), before, "volatile versions");
    assert_eq!(hash(&in_memory()), seen[0], "nothing is logged there");
    // The answer that is kept for a repeat is no reader's; the sum it made is.
    let at = database.version();
    add(&run, &of_client(1, 7)).unwrap();
    assert_ne!(hash(&database), before);
    assert_eq!(database.digest_at(at).unwrap().sha256, before);
}

#[test]
fn a_digest_is_of_one_version_while_others_go_on_committing() {
    let world = world();
    let database = open(&world);
    let is_over = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..2)
        .map(|writer| {
            let (database, is_over) = (database.clone(), Arc::clone(&is_over));
            thread::spawn(move || {
                let mut rng = SimRng::new(SEED + writer);
                while !is_over.load(Ordering::Relaxed) {
                    act(&database, &mut rng);
                }
            })
        })
        .collect();
    let digests: Vec<_> = (0..40).map(|_| database.digest().unwrap()).collect();
    is_over.store(true, Ordering::Relaxed);
    writers
        .into_iter()
        .for_each(|writer| writer.join().unwrap());
    let watermarks = digests.iter().map(|digest| digest.watermark);
    assert!(watermarks.is_sorted());
    for digest in digests {
        assert_eq!(database.digest_at(digest.watermark).unwrap(), digest);
    }
    let version = database.version() + 1;
    let refused = database.digest_at(version).unwrap_err();
    assert!(
        matches!(refused, DigestError::NotPublished { .. }),
        "{refused}"
    );
    drop::<SimWorld>(world);
}
