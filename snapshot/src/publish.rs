//! Loading and publishing MANIFEST.
//!
//! Publication: write `MANIFEST.new`, sync it, rename it over `MANIFEST`, sync the root directory.
//! A crash between any two steps leaves the old file or the new one, never neither. A left-over
//! `MANIFEST.new` is removed when MANIFEST is loaded.

use std::io;

use in_mem_wal::disk::{Disk, OpenMode};
use in_mem_wal::faults::{self, Point};
use in_mem_wal::files;

use crate::manifest::{MANIFEST_LEN_BYTES_MAX, Manifest, ManifestError};

/// The name of MANIFEST in the database directory. Its presence means the database exists.
pub const MANIFEST_PATH: &str = "MANIFEST";
const TEMP_PATH: &str = "MANIFEST.new";
const ROOT_DIR: &str = "";

/// Why MANIFEST was not loaded. Nothing was changed but a left-over temporary file.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The kernel said no.
    #[error("manifest could not be read")]
    Io(#[source] io::Error),
    /// The file is there and is no MANIFEST; it is never re-created over data.
    #[error("manifest is damaged")]
    Damaged(#[source] ManifestError),
}

/// Why MANIFEST was not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The new file did not come to be; the old MANIFEST is in force.
    #[error("manifest could not be written")]
    Unchanged(#[source] io::Error),
    /// The rename, or the directory sync behind it, failed: which of the two is in force is known
    /// after the next open only. The database takes no more writes and deletes nothing.
    #[error("manifest may be old or new")]
    Unknown(#[source] io::Error),
}

/// Loads MANIFEST; `None` when there is none. Removes a left-over temporary file.
///
/// # Errors
/// See [`LoadError`].
pub fn load(disk: &mut dyn Disk) -> Result<Option<Manifest>, LoadError> {
    files::unlink_if_there(disk, TEMP_PATH).map_err(LoadError::Io)?;
    peek(disk)
}

/// Reads MANIFEST and changes nothing, a left-over temporary file included; `None` when there is
/// none.
///
/// # Errors
/// See [`LoadError`].
pub fn peek(disk: &mut dyn Disk) -> Result<Option<Manifest>, LoadError> {
    let bytes = match files::read_file(disk, MANIFEST_PATH, u64::from(u16::MAX)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(LoadError::Io(error)),
    };
    Manifest::decode(&bytes)
        .map(Some)
        .map_err(LoadError::Damaged)
}

/// Replaces MANIFEST, durably.
///
/// # Errors
/// See [`PublishError`]: before the rename nothing has changed, from the rename on the database
/// must be poisoned.
pub fn publish(disk: &mut dyn Disk, manifest: &Manifest) -> Result<(), PublishError> {
    faults::pass(Point::DuringManifestUpdateBeforeWrite);
    let bytes = manifest.encode();
    assert!(
        bytes.len() <= MANIFEST_LEN_BYTES_MAX,
        "a manifest keeps its bound"
    );
    if let Err(error) = write_temp(disk, &bytes) {
        files::remove_leftover(disk, TEMP_PATH);
        return Err(PublishError::Unchanged(error));
    }
    faults::pass(Point::DuringManifestUpdateBeforeRename);
    files::rename(disk, TEMP_PATH, MANIFEST_PATH).map_err(PublishError::Unknown)?;
    faults::pass(Point::DuringManifestUpdateAfterRename);
    files::sync_dir(disk, ROOT_DIR).map_err(PublishError::Unknown)
}

fn write_temp(disk: &mut dyn Disk, bytes: &[u8]) -> io::Result<()> {
    let file = files::open(disk, TEMP_PATH, OpenMode::CreateTruncate)?;
    let result = files::write_all(disk, file, 0, bytes).and_then(|()| {
        faults::pass(Point::DuringManifestUpdateBeforeFsync);
        files::sync(disk, file)
    });
    files::close(disk, file);
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use in_mem_wal::disk::{CrashMode, Fault, OpKind, SimOptions, SimWorld};

    const SEED: u64 = 42;

    fn numbered(segment: u64) -> Manifest {
        Manifest {
            active_wal_segment: segment,
            ..Manifest::new([5; 16], "identity")
        }
    }

    fn world() -> SimWorld {
        let world = SimWorld::new(SimOptions::new(SEED));
        assert!(matches!(load(&mut world.disk()), Ok(None)));
        publish(&mut world.disk(), &numbered(1)).unwrap();
        world
    }

    #[test]
    fn what_was_published_survives_a_power_loss() {
        let world = world();
        for image in 0..20 {
            let after = world.crash(image, CrashMode::Subset);
            assert_eq!(
                load(&mut after.disk()).unwrap(),
                Some(numbered(1)),
                "image {image}"
            );
        }
    }

    #[test]
    fn a_crash_at_every_step_leaves_the_old_or_the_new_one() {
        let mut step = 0;
        let mut images = 0;
        loop {
            let world = world();
            world.crash_at(world.op_count() + step);
            let result = publish(&mut world.disk(), &numbered(2));
            if !world.has_crashed() {
                assert!(result.is_ok());
                break;
            }
            for image in 0..40 {
                for mode in [CrashMode::Prefix, CrashMode::Subset] {
                    let after = world.crash(image, mode);
                    let loaded = load(&mut after.disk()).unwrap();
                    let segment = loaded.expect("never neither").active_wal_segment;
                    assert!((1..=2).contains(&segment), "step {step}, image {image}");
                    images += 1;
                }
            }
            step += 1;
        }
        assert!(step >= 6, "every step was crashed, {step}");
        println!("{images} images over {step} steps, seed {SEED}");
    }

    #[test]
    fn a_fault_at_every_step_says_truly_what_is_in_force() {
        for fault in Fault::ALL {
            let mut step = 0;
            loop {
                let world = world();
                let first = world.op_count();
                world.fail_at(first + step, fault);
                let result = publish(&mut world.disk(), &numbered(2));
                let is_over = first + step >= world.op_count();
                world.clear_faults();
                let loaded = load(&mut world.disk()).unwrap().expect("never neither");
                match result {
                    Ok(()) => assert_eq!(loaded, numbered(2), "{fault:?} at {step}"),
                    Err(PublishError::Unchanged(_)) => {
                        assert_eq!(loaded, numbered(1), "{fault:?} at {step}");
                    }
                    Err(PublishError::Unknown(_)) => {}
                }
                if is_over {
                    break;
                }
                step += 1;
            }
        }
    }

    /// What failed, operation by operation: its kind, and what was said about it. Ends with the
    /// first run that no failure reached.
    fn failing_at_each_step(act: fn(&SimWorld) -> Option<&'static str>) -> Vec<(OpKind, String)> {
        let mut said = Vec::new();
        for step in 0.. {
            let world = world();
            world.write_file(TEMP_PATH, b"half");
            let failing = world.op_count() + step;
            world.fail_at(failing, Fault::Io);
            let error = act(&world);
            let is_over = world.op_count() <= failing;
            if let Some(fired) = world.fired().first() {
                println!("{:?} {}: {error:?}", fired.kind, fired.path);
                said.push((fired.kind, error.expect("reported").to_owned()));
            }
            world.clear_faults();
            publish(&mut world.disk(), &numbered(3)).unwrap();
            assert_eq!(load(&mut world.disk()).unwrap(), Some(numbered(3)));
            if is_over {
                break;
            }
        }
        said
    }

    #[test]
    fn every_operation_that_fails_is_reported_for_what_it_leaves() {
        let loading = failing_at_each_step(|world| match load(&mut world.disk()) {
            Ok(_) => None,
            Err(LoadError::Io(_)) => Some("io"),
            Err(LoadError::Damaged(_)) => Some("damaged"),
        });
        let expected = [OpKind::Unlink, OpKind::Open, OpKind::FileLen, OpKind::Read];
        assert_eq!(loading, expected.map(|kind| (kind, "io".to_owned())));
        let publishing =
            failing_at_each_step(|world| match publish(&mut world.disk(), &numbered(2)) {
                Ok(()) => None,
                Err(PublishError::Unchanged(_)) => Some("unchanged"),
                Err(PublishError::Unknown(_)) => Some("unknown"),
            });
        let expected = [
            (OpKind::Create, "unchanged"),
            (OpKind::Write, "unchanged"),
            (OpKind::Sync, "unchanged"),
            (OpKind::Rename, "unknown"),
            (OpKind::SyncDir, "unknown"),
        ];
        assert_eq!(
            publishing,
            expected.map(|(kind, said)| (kind, said.to_owned()))
        );
    }

    #[test]
    fn a_stale_temporary_file_is_removed_and_a_damaged_manifest_is_refused() {
        let world = world();
        world.write_file(TEMP_PATH, b"half");
        assert!(load(&mut world.disk()).unwrap().is_some());
        assert_eq!(world.read_file(TEMP_PATH), None);
        assert!(world.flip_byte(MANIFEST_PATH, 30, 0x10));
        assert!(matches!(
            load(&mut world.disk()),
            Err(LoadError::Damaged(_))
        ));
        world.write_file(MANIFEST_PATH, &vec![0; 1 << 20]);
        assert!(matches!(load(&mut world.disk()), Err(LoadError::Io(_))));
    }
}
