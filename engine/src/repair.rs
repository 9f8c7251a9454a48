//! Repair: a new database of what can be read of a damaged one. The damaged one is left as it is.
//!
//! What is read (`salvage.rs`) is written as one snapshot, as a checkpoint does, beside a log that
//! begins anew, under a temporary name (`staging.rs`); it is read back as an open does, and gets its
//! name only if its digest is that of what was read. Versions go on above everything that can be
//! seen to have been issued, so none is issued twice.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use in_mem_snapshot::{Manifest, PublishError, publish, publish_snapshot};
use in_mem_wal::disk::{Disk, OpenDisk};
use in_mem_wal::names;
use in_mem_wal::recover::create_log;

use crate::builder::DatabaseBuilder;
use crate::check::CheckReport;
use crate::checkpoint::LogPoint;
use crate::checkpoint_job::CheckpointContext;
use crate::errors::OpenError;
use crate::export::ExportError;
use crate::logical_digest::{StateDigest, digest_of};
use crate::recovery::{RecoveryContext, read_back};
use crate::salvage::{Salvaged, salvage};
use crate::shared::Shared;
use crate::staging::{Staging, Target};

/// A database that was made from what could be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepairInfo {
    /// Where it is.
    pub path: PathBuf,
    /// Its digest, computed from what was read back.
    pub digest: StateDigest,
    /// Bytes of its snapshot, which holds all of it.
    pub size_bytes: u64,
    /// What was found in the damaged one, and what was lost.
    pub report: CheckReport,
}

/// Why there is no repaired database. The damaged one was not changed.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// The damaged one cannot be read at all.
    #[error("the database cannot be read")]
    Open(#[source] OpenError),
    /// No beginning of its history is left: neither a whole snapshot nor the start of the log.
    #[error("nothing can be recovered: neither a whole snapshot nor the start of the log is left")]
    Nothing {
        /// What was found.
        report: Box<CheckReport>,
    },
    /// The new one could not be written; what was made of it is removed as far as possible.
    #[error("the repaired database cannot be written")]
    Write(#[source] ExportError),
}

impl From<ExportError> for RepairError {
    fn from(error: ExportError) -> Self {
        Self::Write(error)
    }
}

impl DatabaseBuilder {
    /// Writes the longest beginning of the history of the database at the path that is whole into a
    /// new database at `dest`, a path that must not exist in a directory that does, and changes
    /// nothing of the damaged one; see [`Self::check`]. What was committed behind the first damage
    /// is lost, and the report says how much of it can be seen. The new one has the same identity
    /// and is durable when this returns.
    ///
    /// # Errors
    /// See [`RepairError`].
    pub fn repair(self, dest: impl AsRef<Path>) -> Result<RepairInfo, RepairError> {
        let target = Target::at_path(dest.as_ref())?;
        self.repair_into(&target)
    }

    /// The same onto a disk that the caller has opened, as a directory `name` of its root.
    ///
    /// # Errors
    /// See [`RepairError`].
    pub fn repair_to(self, disk: Arc<dyn OpenDisk>, name: &str) -> Result<RepairInfo, RepairError> {
        let target = Target::on_disk(disk, name)?;
        self.repair_into(&target)
    }

    fn repair_into(self, target: &Target) -> Result<RepairInfo, RepairError> {
        let setup = self.setup().map_err(RepairError::Open)?;
        let clock = Arc::clone(&setup.clock);
        let mut staging = Staging::begin(target, clock.wall_us())?;
        let salvaged = match salvage(setup) {
            Ok(salvaged) => salvaged,
            Err(error) => {
                staging.abandon();
                return Err(RepairError::Open(error));
            }
        };
        let Some(state) = salvaged.report.state else {
            staging.abandon();
            let report = Box::new(salvaged.report);
            return Err(RepairError::Nothing { report });
        };
        let filled = salvaged.write(&mut staging, state.digest.watermark);
        let filled = filled.and_then(|(manifest, size_bytes)| {
            let (digest, report) = salvaged.read_back(&mut staging, &manifest)?;
            match digest.sha256 == state.digest.sha256 {
                true => Ok((digest, size_bytes, report)),
                false => Err(ExportError::NotWhole {
                    reason: "its digest is another".to_owned(),
                }),
            }
        });
        match filled {
            Ok((digest, size_bytes, report)) => {
                staging.publish()?;
                Ok(RepairInfo {
                    path: target.path.clone(),
                    digest,
                    size_bytes,
                    report,
                })
            }
            Err(error) => {
                staging.abandon();
                Err(error.into())
            }
        }
    }
}

impl Salvaged {
    /// Fills the new directory; its MANIFEST, and the bytes of its snapshot.
    fn write(
        &self,
        staging: &mut Staging<'_>,
        watermark: u64,
    ) -> Result<(Manifest, u64), ExportError> {
        self.shared
            .store
            .sequencer
            .floor_durable(self.version_floor);
        let context = CheckpointContext {
            shared: &self.shared,
            registry: &self.registry,
            codec: &self.codec,
            spares: None,
            log_config: self.log_config,
        };
        let disk: &mut dyn Disk = &mut staging.disk();
        let manifest = Manifest {
            active_wal_segment: 1,
            snapshot_id: self.snapshot_id_highest + 1,
            snapshot_watermark: watermark,
            ..self.manifest.clone()
        };
        let (id, now_us) = (manifest.snapshot_id, self.shared.clock.wall_us());
        let point = LogPoint {
            version: watermark,
            record_count: self.record_count,
            ..LogPoint::first()
        };
        let size_bytes = context
            .write(disk, &manifest, (point, None), id, now_us)
            .map_err(ExportError::snapshot)?;
        let directory = in_mem_snapshot::SNAPSHOTS_DIR;
        publish_snapshot(disk, id).map_err(|source| ExportError::io(directory, source))?;
        create_log(disk, manifest.database_uuid)
            .map_err(|source| ExportError::io(names::WAL_DIR, source))?;
        publish(disk, &manifest).map_err(|error| match error {
            PublishError::Unchanged(source) | PublishError::Unknown(source) => {
                ExportError::io(in_mem_snapshot::MANIFEST_PATH, source)
            }
        })?;
        Ok((manifest, size_bytes))
    }

    /// Lets go of what was read, and reads what was written as an open does.
    fn read_back(
        self,
        staging: &mut Staging<'_>,
        manifest: &Manifest,
    ) -> Result<(StateDigest, CheckReport), ExportError> {
        let Self {
            shared,
            registry,
            codec,
            log_config,
            report,
            ..
        } = self;
        let (clock, planted) = (Arc::clone(&shared.clock), shared.planted);
        drop(shared);
        let shared = Shared::new(clock, planted);
        let context = RecoveryContext {
            shared: &shared,
            only_reads: true,
            skips_unknown: false,
            is_permissive: false,
            registry: &registry,
            config: log_config,
            codec,
            takes_records: true,
        };
        let not_whole = |error: &dyn std::error::Error| ExportError::NotWhole {
            reason: error.to_string(),
        };
        let read = read_back(&mut staging.disk(), &context, manifest);
        let read = read.map_err(|error| not_whole(&error))?;
        let digest = digest_of(&shared.store, &registry, read.last_txn_id);
        Ok((digest.map_err(|error| not_whole(&error))?, report))
    }
}
