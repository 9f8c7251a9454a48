//! Which crash images have been seen, and the table of moments by modes.
//!
//! An image counts only if it differs from every earlier one of its test and something was
//! unsynced when it was made; all others prove nothing new.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::sync::Mutex;

use in_mem_wal::disk::{Moment, OpKind};

/// Sets the fingerprints are spread over, so that threads seldom meet.
const SHARD_COUNT: usize = 32;

/// Fingerprints of all images of a test, and how many of each kind counted.
#[derive(Default)]
pub(crate) struct Images {
    seen: [Mutex<HashSet<u64>>; SHARD_COUNT],
    table: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
}

impl Images {
    /// Notes an image made at `moment` in `mode`; true when it counts.
    pub(crate) fn note(&self, moment: &'static str, mode: &'static str, fingerprint: u64) -> bool {
        let shard = usize::try_from(fingerprint % SHARD_COUNT as u64).expect("small");
        let is_new = self.seen[shard]
            .lock()
            .expect("no test panics here")
            .insert(fingerprint);
        if is_new {
            let mut table = self.table.lock().expect("no test panics here");
            *table.entry((moment, mode)).or_default() += 1;
        }
        is_new
    }

    /// Images that counted.
    #[must_use]
    pub(crate) fn count(&self) -> u64 {
        self.table
            .lock()
            .expect("no test panics here")
            .values()
            .sum()
    }

    /// Fails unless at least so many images of every one of the moments counted in every one of the
    /// modes.
    pub(crate) fn assert_each(&self, moments: &[&'static str], modes: &[&'static str], least: u64) {
        let table = self.table.lock().expect("no test panics here");
        for moment in moments {
            for mode in modes {
                let count = table.get(&(moment, mode)).copied().unwrap_or(0);
                assert!(
                    least <= count,
                    "{count} images of the moment {moment:?} in the mode {mode}, {least} are due"
                );
            }
        }
    }

    /// The table, one row for each moment, one column for each mode.
    #[must_use]
    pub(crate) fn table(&self) -> String {
        let table = self.table.lock().expect("no test panics here");
        let modes: Vec<&str> = {
            let mut modes: Vec<_> = table.keys().map(|(_, mode)| *mode).collect();
            modes.sort_unstable();
            modes.dedup();
            modes
        };
        let mut text = format!("{:<34}", "moment");
        modes
            .iter()
            .for_each(|mode| write!(text, "{mode:>12}").expect("a string"));
        let mut moments: Vec<_> = table.keys().map(|(moment, _)| *moment).collect();
        moments.dedup();
        for moment in moments {
            write!(text, "\n{moment:<34}").expect("a string");
            for mode in &modes {
                let count = table.get(&(moment, *mode)).copied().unwrap_or(0);
                write!(text, "{count:>12}").expect("a string");
            }
        }
        text
    }
}

/// The moment an operation belongs to, in the words of the fault matrix.
#[must_use]
pub(crate) fn moment_name(moment: &Moment) -> &'static str {
    let path: &str = &moment.path;
    let is_segment = path.starts_with("WAL/wal-");
    let is_spare = path.starts_with("WAL/") && path.ends_with(".tmp");
    let is_snapshot = path.starts_with("SNAPSHOTS");
    match moment.kind {
        OpKind::Write if is_snapshot => "snapshot write",
        OpKind::Sync if is_snapshot => "sync of a snapshot",
        OpKind::Rename if is_snapshot => "snapshot rename",
        OpKind::SyncDir if is_snapshot => "directory sync of the snapshots",
        OpKind::Unlink if is_snapshot => "unlink of a snapshot",
        _ if is_snapshot => "snapshot, other",
        OpKind::Write if is_segment => "batch write",
        OpKind::WriteSynced if is_segment => "batch write with its sync",
        OpKind::Sync if is_segment => "sync of the log",
        OpKind::Rename if path.starts_with("WAL") => "segment rename",
        OpKind::SyncDir if path.starts_with("WAL") => "directory sync of the log",
        OpKind::Unlink if is_segment => "unlink of a segment",
        OpKind::Unlink => "unlink",
        OpKind::Rename => "manifest rename",
        OpKind::SyncDir => "directory sync",
        _ if is_spare => "spare preparation, tail rewrite",
        _ if path.starts_with("MANIFEST") => "manifest write",
        _ if path.starts_with("QUARANTINE") => "quarantine",
        _ if path.starts_with("RESERVE") => "reserve file",
        _ => "other",
    }
}
