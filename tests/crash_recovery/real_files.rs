//! The same promises on a real file system, with the threads and the rings of the product.

use std::fs;
use std::path::Path;

use in_mem_engine::model::{RunId, Value, encode};
use in_mem_engine::{Database, DatabaseConfig, OpenError};

use super::engine::dump;

fn config() -> DatabaseConfig {
    let mut config = DatabaseConfig::strict();
    config.wal_config.segment_len_bytes = 64 << 10;
    config.wal_config.buffered_sync_len_bytes = 32 << 10;
    config.wal_config.record_len_bytes_max = 64 << 10;
    config
}

fn open(path: &Path) -> Result<Database, OpenError> {
    Database::builder().path(path).config(config()).open()
}

fn put(database: &Database, count: usize) {
    let run = database.default_run();
    for number in 0..count {
        let value = encode(&Value::from("v".repeat(number % 500).as_str())).expect("small");
        run.kv()
            .put(format!("k{}", number % 50), &value)
            .expect("committed");
    }
}

pub(crate) fn copy_all(source: &Path, target: &Path) {
    fs::create_dir_all(target).expect("a directory");
    for entry in fs::read_dir(source).expect("a directory").flatten() {
        let target = target.join(entry.file_name());
        if entry.path().is_dir() {
            copy_all(&entry.path(), &target);
        } else if entry.file_name() != "LOCK" {
            fs::copy(entry.path(), target).expect("copied");
        }
    }
}

/// R5 and R1: the files are copied while the database is open, so nothing was closed in order.
#[test]
fn recovery_invariant_r5_a_copy_of_live_files_has_every_strict_commit() {
    let directory = tempfile::tempdir().expect("a directory");
    let source = directory.path().join("source.inmem");
    let database = open(&source).expect("created");
    put(&database, 300);
    let (shown, digest) = (dump(&database), database.state_digest());
    let copy = directory.path().join("copy.inmem");
    copy_all(&source, &copy);
    let recovered = open(&copy).expect("recovered");
    assert_eq!(dump(&recovered), shown);
    assert_eq!(recovered.state_digest(), digest);
}

/// S9: versions, values and times come back as they were returned.
#[test]
fn storage_invariant_s9_versions_on_disk_are_those_returned_at_commit() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("data.inmem");
    let database = open(&path).expect("created");
    let run = database.default_run();
    let value = encode(&Value::from("v")).expect("small");
    let versions: Vec<u64> = (0..50)
        .map(|_| run.kv().put("k", &value).expect("committed"))
        .collect();
    let before = run.kv().history("k", None, None).expect("readable");
    drop(run);
    database.close().expect("closed");
    drop(database);
    let database = open(&path).expect("opened");
    let after = database
        .default_run()
        .kv()
        .history("k", None, None)
        .expect("readable");
    assert_eq!(before, after);
    let shown: Vec<u64> = after.iter().rev().map(|entry| entry.version).collect();
    assert_eq!(shown, versions);
}

/// TX8: numbering goes on above everything issued, over restarts in order and not.
#[test]
fn correctness_tx8_no_version_is_issued_twice_over_restarts() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut path = directory.path().join("0.inmem");
    let mut highest = 0;
    for round in 1..6 {
        let database = open(&path).expect("opened");
        let value = encode(&Value::from(round)).expect("small");
        let run = database.default_run();
        for _ in 0..5 {
            let version = run.kv().put("k", &value).expect("committed");
            assert!(
                highest < version,
                "round {round}: {version} after {highest}"
            );
            highest = version;
        }
        if round % 2 == 0 {
            let copy = directory.path().join(format!("{round}.inmem"));
            copy_all(&path, &copy);
            path = copy;
        }
    }
}

#[test]
fn correctness_a_second_opener_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("data.inmem");
    let database = open(&path).expect("created");
    assert!(matches!(open(&path), Err(OpenError::DatabaseLocked)));
    drop(database);
    open(&path).expect("free again");
}

/// A plain copy of a closed directory is a valid clone.
#[test]
fn correctness_a_copy_of_a_closed_directory_is_a_clone() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("data.inmem");
    let database = open(&path).expect("created");
    put(&database, 100);
    let (shown, uuid) = (dump(&database), database.uuid());
    database.close().expect("closed");
    let copy = directory.path().join("copy.inmem");
    copy_all(&path, &copy);
    let clone = open(&copy).expect("opened");
    assert_eq!((dump(&clone), clone.uuid()), (shown, uuid));
    assert_eq!(
        clone
            .last_recovery_result()
            .map(|result| result.truncated_bytes),
        Some(0)
    );
    assert!(clone.run(RunId::DEFAULT).is_ok());
}

/// Damage in the middle, found by a real read of a real file.
#[test]
fn correctness_a_flipped_byte_in_a_real_segment_is_refused_with_its_place() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("data.inmem");
    let database = open(&path).expect("created");
    put(&database, 100);
    database.close().expect("closed");
    drop(database);
    let segment = path.join("WAL/wal-000001.seg");
    let mut bytes = fs::read(&segment).expect("a segment");
    bytes[4096 + 20] ^= 1;
    fs::write(&segment, bytes).expect("written");
    let error = open(&path).err().expect("refused");
    let text = format!("{error:?}");
    assert!(text.contains("segment: 1"), "{text}");
    assert!(text.contains("offset: 4096"), "{text}");
}
