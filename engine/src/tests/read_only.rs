//! Opening for reading only changes nothing.

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::thread;

use in_mem_wal::disk::{Fault, FaultRule, OpKind, SimRng, SimWorld};

use super::checkpoint::{SEED, STRICT, act, reopened};
use super::checkpoint_recovery::two_snapshots_in;
use super::{int, over, small_log, world};
use crate::{CommitError, Database, DatabaseBuilder, OpenError};

/// Everything that changes a disk.
const CHANGING: [OpKind; 12] = [
    OpKind::Create,
    OpKind::Write,
    OpKind::WriteSynced,
    OpKind::Sync,
    OpKind::SetLen,
    OpKind::Allocate,
    OpKind::Rename,
    OpKind::Unlink,
    OpKind::SyncDir,
    OpKind::CreateDir,
    OpKind::RenameDir,
    OpKind::RemoveDir,
];

/// A database with snapshots, a log behind them whose last record is torn, and everything that
/// crashes leave behind.
pub(super) fn untidy() -> SimWorld {
    untidy_with(|world| over(world, STRICT))
}

/// The same with other settings.
pub(super) fn untidy_with(builder: impl Fn(&SimWorld) -> DatabaseBuilder) -> SimWorld {
    let world = world();
    two_snapshots_in(&builder(&world).open().unwrap());
    let database = builder(&world).open_existing().unwrap();
    let mut rng = SimRng::new(SEED);
    (0..30).for_each(|_| act(&database, &mut rng));
    let killed = world.kill(SEED);
    drop(database);
    for path in [
        "MANIFEST.new",
        "SNAPSHOTS/.snap-000009.tmp",
        "SNAPSHOTS/snap-000008.chk",
        "WAL/spare-7.tmp",
        "WAL/rewrite-1.tmp",
    ] {
        killed.write_file(path, b"left over");
    }
    let paths = killed.paths();
    let segments = paths.iter().filter(|path| path.ends_with(".seg"));
    let last = segments.max().unwrap();
    let bytes = killed.read_file(last).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    assert!(killed.flip_byte(last, end as u64, 1));
    killed
}

#[test]
fn a_read_only_open_reads_what_an_open_would_and_asks_the_disk_for_no_change() {
    let world = untidy();
    let expected = reopened(&world.kill(SEED)).unwrap().digest().unwrap();
    let fingerprint = world.fingerprint();
    for kind in CHANGING {
        world.add_rule(FaultRule::new(Fault::Io).on(kind));
    }
    for _ in 0..2 {
        let database = over(&world, STRICT).read_only().open().unwrap();
        let result = database.last_recovery_result().unwrap();
        assert!(
            result.is_read_only && result.snapshot_used == 2,
            "{result:?}"
        );
        assert_eq!(database.digest().unwrap().sha256, expected.sha256);
        let refused = database.default_run().kv().put("k", &int(1)).unwrap_err();
        assert!(matches!(refused, CommitError::OpenedReadOnly), "{refused}");
        database.shutdown().unwrap();
    }
    assert!(world.fired().is_empty(), "{:?}", world.fired());
    assert_eq!(world.fingerprint(), fingerprint);
    let nothing = super::world();
    let refused = over(&nothing, STRICT).read_only().open().err().unwrap();
    assert!(matches!(refused, OpenError::NotFound), "{refused}");
    assert!(nothing.paths().is_empty());
}

/// Every file below a directory with its content and its time of change.
pub(super) fn files_of(directory: &Path) -> BTreeMap<PathBuf, (Vec<u8>, std::time::SystemTime)> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        let metadata = entry.metadata().unwrap();
        if metadata.is_dir() {
            found.extend(files_of(&path));
        }
        let bytes = std::fs::read(&path).unwrap_or_default();
        found.insert(path, (bytes, metadata.modified().unwrap()));
    }
    found
}

pub(super) fn at(path: &Path) -> DatabaseBuilder {
    Database::builder().path(path).wal_config(small_log())
}

/// A closed database with a snapshot and a log behind it.
pub(super) fn make(path: &Path) -> [u8; 32] {
    let database = at(path).create().unwrap();
    let mut rng = SimRng::new(SEED);
    (0..50).for_each(|_| act(&database, &mut rng));
    database.checkpoint().unwrap();
    (0..50).for_each(|_| act(&database, &mut rng));
    let digest = database.digest().unwrap().sha256;
    database.shutdown().unwrap();
    digest
}

/// Copies a directory as any tool would, without its lock.
pub(super) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    std::fs::set_permissions(to, std::fs::Permissions::from_mode(0o700)).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &target);
        } else if entry.file_name() != "LOCK" {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}

#[test]
fn a_plain_copy_of_a_closed_directory_is_a_clone() {
    let scratch = tempfile::tempdir().unwrap();
    let (path, clone) = (
        scratch.path().join("a.inmem"),
        scratch.path().join("b.inmem"),
    );
    let digest = make(&path);
    copy(&path, &clone);
    let original = at(&path).open_existing().unwrap();
    let database = at(&clone).open_existing().unwrap();
    assert_eq!(database.digest().unwrap().sha256, digest);
    assert_eq!(database.uuid(), original.uuid());
    database.default_run().kv().put("own", &int(1)).unwrap();
    assert_eq!(original.digest().unwrap().sha256, digest);
    assert_ne!(database.digest().unwrap().sha256, digest);
}

#[test]
fn readers_share_a_directory_that_a_writer_has_alone() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("a.inmem");
    let digest = make(&path);
    for has_lock in [true, false] {
        if !has_lock {
            std::fs::remove_file(path.join("LOCK")).unwrap();
        }
        let before = files_of(&path);
        let first = at(&path).read_only().open().unwrap();
        let second = at(&path).read_only().open().unwrap();
        assert_eq!(first.digest().unwrap().sha256, digest);
        assert_eq!(files_of(&path), before);
        let refused = at(&path).open_existing().err().unwrap();
        assert!(matches!(refused, OpenError::DatabaseLocked), "{refused}");
        drop((first, second));
        let writer = at(&path).open_existing().unwrap();
        let refused = at(&path).read_only().open().err().unwrap();
        assert!(matches!(refused, OpenError::DatabaseLocked), "{refused}");
        drop(writer);
    }
}

/// Takes the right to write from everything below a directory and gives it to a user.
fn forbid_writing(directory: &Path, user: u32) {
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            forbid_writing(&path, user);
        } else {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
            chown(&path, Some(user), None).unwrap();
        }
    }
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o500)).unwrap();
    chown(directory, Some(user), None).unwrap();
}

#[test]
fn a_directory_that_may_not_be_written_is_read_by_a_user_other_than_root() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("a.inmem");
    let digest = make(&path);
    std::fs::remove_file(path.join("LOCK")).unwrap();
    let is_root = rustix::process::geteuid().is_root();
    let user = match is_root {
        true => 65_534,
        false => rustix::process::geteuid().as_raw(),
    };
    chown(scratch.path(), Some(user), None).unwrap();
    forbid_writing(&path, user);
    let before = files_of(&path);
    let there = path.clone();
    // The user of a thread is its own; root's rights go with it.
    let read = thread::spawn(move || {
        if is_root {
            let user = rustix::process::Uid::from_raw(user);
            rustix::thread::set_thread_res_uid(user, user, user).unwrap();
        }
        assert!(std::fs::write(there.join("LOCK"), b"").is_err());
        let refused = at(&there).open_existing().err().unwrap();
        assert!(matches!(refused, OpenError::Io(_)), "{refused}");
        let database = at(&there).read_only().open().unwrap();
        database.digest().unwrap().sha256
    });
    assert_eq!(read.join().unwrap(), digest);
    assert_eq!(files_of(&path), before);
    // For whoever removes the directory.
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
    for directory in ["WAL", "SNAPSHOTS", "QUARANTINE"] {
        let mode = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(path.join(directory), mode).unwrap();
    }
}
