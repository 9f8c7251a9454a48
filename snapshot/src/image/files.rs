//! The files of snapshots: their names, and the steps that make one count.
//!
//! ```text
//! SNAPSHOTS/snap-NNNNNN.chk     a snapshot; decimal, at least six digits, from 1
//! SNAPSHOTS/.snap-NNNNNN.tmp    one that is being written
//! ```
//!
//! A temporary file is deleted at the next open. A snapshot that MANIFEST does not name is used
//! only when the named one cannot be, and its id is never used again.

use std::io;

use in_mem_wal::disk::Disk;
use in_mem_wal::faults::{self, Point};
use in_mem_wal::files;

/// The directory of snapshots.
pub const SNAPSHOTS_DIR: &str = "SNAPSHOTS";

const PREFIX: &str = "snap-";
const SUFFIX: &str = ".chk";
const TEMP_PREFIX: &str = ".snap-";
const TEMP_SUFFIX: &str = ".tmp";

/// The path of snapshot `id`.
#[must_use]
pub fn snapshot_path(id: u64) -> String {
    format!("{SNAPSHOTS_DIR}/{PREFIX}{id:06}{SUFFIX}")
}

/// The path of snapshot `id` while it is written.
#[must_use]
pub fn temp_path(id: u64) -> String {
    format!("{SNAPSHOTS_DIR}/{TEMP_PREFIX}{id:06}{TEMP_SUFFIX}")
}

/// The id in a file name of `SNAPSHOTS/`, if it is the one name of a snapshot.
fn parse_name(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let id = digits.parse::<u64>().ok().filter(|id| *id != 0)?;
    // One number has one name, as with segments.
    (format!("{id:06}") == digits).then_some(id)
}

/// The ids of all snapshots, named by MANIFEST or not, ascending.
///
/// # Errors
/// What the kernel said.
pub fn list_snapshots(disk: &mut dyn Disk) -> io::Result<Vec<u64>> {
    let names = files::list(disk, SNAPSHOTS_DIR)?;
    let mut ids: Vec<u64> = names.iter().filter_map(|name| parse_name(name)).collect();
    ids.sort_unstable();
    Ok(ids)
}

/// Gives a written and synced snapshot its name, durably. MANIFEST may name it afterwards.
///
/// # Errors
/// What the kernel said. The file may have either name; neither counts.
pub fn publish_snapshot(disk: &mut dyn Disk, id: u64) -> io::Result<()> {
    faults::pass(Point::DuringSnapshotBeforeRename);
    files::rename(disk, &temp_path(id), &snapshot_path(id))?;
    faults::pass(Point::DuringSnapshotAfterRename);
    files::sync_dir(disk, SNAPSHOTS_DIR)?;
    faults::pass(Point::DuringSnapshotAfterSyncDir);
    Ok(())
}

/// Removes a snapshot that nobody needs. It may come back after a crash; then it is removed again.
///
/// # Errors
/// What the kernel said.
pub fn remove_snapshot(disk: &mut dyn Disk, id: u64) -> io::Result<()> {
    files::unlink_if_there(disk, &snapshot_path(id)).map(drop)
}

/// Removes what snapshots that were not finished have left.
///
/// # Errors
/// What the kernel said.
pub fn remove_temps(disk: &mut dyn Disk) -> io::Result<()> {
    for name in files::list(disk, SNAPSHOTS_DIR)? {
        if name.ends_with(TEMP_SUFFIX) {
            files::unlink_if_there(disk, &format!("{SNAPSHOTS_DIR}/{name}"))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_number_has_one_name() {
        assert_eq!(snapshot_path(7), "SNAPSHOTS/snap-000007.chk");
        assert_eq!(temp_path(7), "SNAPSHOTS/.snap-000007.tmp");
        for id in [1, 999_999, 1_000_000, u64::MAX] {
            let path = snapshot_path(id);
            let name = path.strip_prefix("SNAPSHOTS/").unwrap();
            assert_eq!(parse_name(name), Some(id));
        }
        let others = [
            "snap-.chk",
            "snap-000000.chk",
            "snap-1.chk",
            "snap-0000001.chk",
            "snap-00000a.chk",
            "snap-+00001.chk",
            ".snap-000001.tmp",
            "snap-000001.chk.tmp",
            "snap-99999999999999999999999.chk",
        ];
        for name in others {
            assert_eq!(parse_name(name), None, "{name}");
        }
    }
}
