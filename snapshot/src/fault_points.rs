//! A process killed at every point of a MANIFEST update leaves the old one or the new one, on a
//! real disk.
//!
//! The test runs itself again as a child with a point armed and a directory to work in.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus};

use in_mem_wal::disk::{Disk, DiskPreference, OpenDisk, RealDisk, RealRoot};
use in_mem_wal::faults::Point;

use crate::{Manifest, load, publish};

const POINT: &str = "INMEM_FAULT_POINT";
const DIRECTORY: &str = "INMEM_TEST_DIRECTORY";
const SIGABRT: i32 = 6;

fn disk_at(path: &Path) -> Box<dyn Disk> {
    let root = RealRoot::open_or_create(path).unwrap();
    let disk = RealDisk::probe(root, DiskPreference::Thread);
    disk.open_disk().unwrap()
}

/// Makes MANIFEST name `segment`.
fn update(path: &Path, segment: u64) {
    let manifest = Manifest {
        active_wal_segment: segment,
        ..Manifest::new([5; 16], "identity")
    };
    publish(&mut *disk_at(path), &manifest).unwrap();
}

fn run_child(path: &Path, point: &str) -> ExitStatus {
    let name = "fault_points::storage_invariant_s7_a_kill_at_every_point_of_an_update_leaves_the_old_or_the_new_one";
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", name, "--test-threads", "1"]);
    child.env(POINT, point).env(DIRECTORY, path);
    child.output().unwrap().status
}

#[test]
fn storage_invariant_s7_a_kill_at_every_point_of_an_update_leaves_the_old_or_the_new_one() {
    if let Some(path) = std::env::var_os(DIRECTORY) {
        update(Path::new(&path), 2);
        return;
    }
    let rows = [
        (Point::DuringManifestUpdateBeforeWrite, 1),
        (Point::DuringManifestUpdateBeforeFsync, 1),
        (Point::DuringManifestUpdateBeforeRename, 1),
        (Point::DuringManifestUpdateAfterRename, 2),
    ];
    for (point, expected) in rows {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("database");
        update(&path, 1);
        let status = run_child(&path, &point.name());
        assert_eq!(status.signal(), Some(SIGABRT), "{point:?}");
        let loaded = load(&mut *disk_at(&path)).unwrap().expect("never neither");
        assert_eq!(loaded.active_wal_segment, expected, "{point:?}");
        assert!(run_child(&path, "none").success());
        let loaded = load(&mut *disk_at(&path)).unwrap().expect("published");
        assert_eq!(loaded.active_wal_segment, 2, "after {point:?}");
    }
}
