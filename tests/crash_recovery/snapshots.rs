//! Snapshots that were changed, cut, mixed up or taken from another database.
//!
//! Each damage is done twice: where an older snapshot and the whole log can stand in, the state is
//! whole; where nothing can, opening is refused with the file and the place. Never is an older state
//! shown.

use in_mem_engine::OpenError;
use in_mem_snapshot::snapshot_path;
use in_mem_wal::disk::SimWorld;

use super::damage::{BLOCK_LEN_BYTES, altered_blocks, changes, stride, write_byte};
use super::data_set::{DataSet, MANIFEST, Opened, options};
use super::engine::open_to_look;
use super::scale::{for_each_seed, scaled, start_seed};

/// The snapshot that MANIFEST names.
const NAMED: u64 = 2;

/// A database whose log reaches back to the beginning, and one that has nothing but its snapshot.
struct Both {
    whole: DataSet,
    compacted: DataSet,
}

impl Both {
    fn new() -> Self {
        Self {
            whole: DataSet::with_snapshots(start_seed(), false),
            compacted: DataSet::with_snapshots(start_seed(), true),
        }
    }

    /// What stands in the snapshot, the same in both.
    fn snapshot(&self) -> Vec<u8> {
        self.compacted.read_file(&snapshot_path(NAMED))
    }

    /// Damages the snapshot of both.
    fn damage(&self, damage: &dyn Fn(&SimWorld), line: &dyn Fn() -> String) {
        self.refused(damage, line);
        self.whole(damage, line);
    }

    /// Where nothing stands in for it.
    fn refused(&self, damage: &dyn Fn(&SimWorld), line: &dyn Fn() -> String) {
        let copy = self.compacted.copy();
        damage(&copy);
        match self.compacted.open(&copy, line) {
            Opened::Refused(error) => assert_names_the_place(&error, &line()),
            Opened::State(count) => panic!("{}: opened with {count} commits", line()),
        }
    }

    /// Where the older one and the log do.
    fn whole(&self, damage: &dyn Fn(&SimWorld), line: &dyn Fn() -> String) {
        let copy = self.whole.copy();
        damage(&copy);
        match self.whole.open(&copy, line) {
            Opened::State(count) => assert_eq!(count, self.whole.commit_count, "{}", line()),
            Opened::Refused(error) => panic!("{}: {error}", line()),
        }
    }
}

fn assert_names_the_place(error: &OpenError, line: &str) {
    let text = match error {
        OpenError::SnapshotUnrecoverable { reason, .. } => reason.clone().unwrap_or_default(),
        OpenError::Snapshot(error) => error.to_string(),
        error => panic!("{line}: {error}"),
    };
    assert!(text.contains(&snapshot_path(NAMED)), "{line}: {text}");
}

/// Every byte: one bit, all zeros, all ones.
#[test]
fn storage_invariant_every_changed_byte_of_a_snapshot_is_refused_or_replaced_by_older_one_and_log()
{
    let both = Both::new();
    let bytes = both.snapshot();
    let places: Vec<usize> = (0..bytes.len()).step_by(stride()).collect();
    let chunks: Vec<_> = places.chunks(512).collect();
    let first = start_seed();
    for_each_seed(
        "storage_invariant_every_changed_byte_of_a_snapshot",
        |index| index < chunks.len() as u64,
        |seed| {
            let chunk = chunks[usize::try_from(seed - first).expect("small")];
            for &place in chunk {
                let old = bytes[place];
                for new in changes(old, place) {
                    let line = || format!("snapshot byte {place}: {old:#04x} became {new:#04x}");
                    let damage =
                        |copy: &SimWorld| write_byte(copy, &snapshot_path(NAMED), place, old, new);
                    both.refused(&damage, &line);
                    // The whole log is applied each time.
                    if place % 16 == usize::from(new) % 16 {
                        both.whole(&damage, &line);
                    }
                }
            }
        },
    );
    println!("{} places of {} bytes", places.len(), bytes.len());
}

#[test]
fn storage_invariant_a_snapshot_cut_anywhere_is_refused_or_replaced_by_older_one_and_log() {
    let both = Both::new();
    let len_bytes = both.snapshot().len();
    let step = usize::try_from(scaled(97, 3, 1)).expect("small");
    let cuts = (0..len_bytes).step_by(step).chain(len_bytes - 8..len_bytes);
    for len in cuts {
        let damage = |copy: &SimWorld| {
            assert!(copy.truncate(&snapshot_path(NAMED), len as u64));
        };
        both.refused(&damage, &|| format!("cut to {len}"));
    }
    let damage = |copy: &SimWorld| {
        let bytes = [both.snapshot(), vec![0]].concat();
        copy.write_file(&snapshot_path(NAMED), &bytes);
    };
    both.damage(&damage, &|| "a byte more".to_owned());
    for len in [0, 1, 10, 42, 43, len_bytes / 2, len_bytes - 1] {
        let damage = |copy: &SimWorld| {
            assert!(copy.truncate(&snapshot_path(NAMED), len as u64));
        };
        both.whole(&damage, &|| format!("cut to {len}"));
    }
}

#[test]
fn storage_invariant_zeroed_doubled_and_exchanged_blocks_of_a_snapshot_never_show_wrong_data() {
    let both = Both::new();
    let bytes = both.snapshot();
    for block in 0..bytes.len() / BLOCK_LEN_BYTES - 1 {
        for (name, altered) in altered_blocks(&bytes, block) {
            if altered == bytes {
                continue;
            }
            let damage = |copy: &SimWorld| {
                copy.write_file(&snapshot_path(NAMED), &altered);
            };
            both.damage(&damage, &|| format!("block {block} {name}"));
        }
    }
}

/// A file that is whole, and not the one that MANIFEST means.
#[test]
fn recovery_invariant_the_snapshot_of_another_database_or_of_another_time_is_refused() {
    let both = Both::new();
    let other = DataSet::with_snapshots(start_seed() + 1, true);
    let foreign = other.read_file(&snapshot_path(NAMED));
    let older = both.whole.read_file(&snapshot_path(1));
    for (name, bytes) in [("another database's", foreign), ("an older one", older)] {
        let damage = |copy: &SimWorld| copy.write_file(&snapshot_path(NAMED), &bytes);
        both.damage(&damage, &|| name.to_owned());
    }
    let removed = |copy: &SimWorld| copy.remove_file(&snapshot_path(NAMED));
    both.damage(&removed, &|| "removed".to_owned());
}

/// The log must go on from the snapshot without a gap.
#[test]
fn recovery_invariant_a_segment_missing_behind_a_snapshot_is_refused() {
    let set = DataSet::with_snapshots(start_seed(), true);
    for segment in &set.segments {
        let copy = set.copy();
        copy.remove_file(segment);
        let opened = set.open(&copy, &|| format!("{segment} removed"));
        assert!(
            matches!(opened, Opened::Refused(_)),
            "{segment} removed: {opened:?}"
        );
    }
}

/// RS4, on the files of a database: MANIFEST without its snapshot leaves the log alone.
#[test]
fn test_snapshot_wal_equivalence() {
    for seed in start_seed()..start_seed() + 8 {
        println!("seed {seed}");
        let set = DataSet::with_snapshots(seed, false);
        let with = open_to_look(&set.copy(), &options()).expect("whole");
        let result = with.last_recovery_result().expect("it was recovered");
        assert_eq!(result.snapshot_used, NAMED);
        let alone = set.copy();
        let disk = &mut alone.disk();
        let mut manifest = in_mem_snapshot::load(disk).expect("read").expect("there");
        (manifest.snapshot_id, manifest.snapshot_watermark) = (0, 0);
        in_mem_snapshot::publish(disk, &manifest).expect("no fault");
        assert_ne!(
            set.read_file(MANIFEST),
            alone.read_file(MANIFEST).expect("there")
        );
        let without = open_to_look(&alone, &options()).expect("whole");
        let result = without.last_recovery_result().expect("it was recovered");
        assert_eq!(result.snapshot_used, 0);
        assert_eq!(with.state_digest(), without.state_digest());
    }
}
