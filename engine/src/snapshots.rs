//! The snapshots there are, as the owner of a database sees them: their list, their sizes beside
//! that of the log, and the removal of one.

use std::io;
use std::sync::{Arc, mpsc};

use in_mem_snapshot::{
    SNAPSHOTS_DIR, SnapshotError, SnapshotReader, list_snapshots, remove_snapshot, snapshot_path,
};
use in_mem_wal::disk::{Disk, OpenMode};
use in_mem_wal::{Lsn, StorageCodec, files, limits, names};

use crate::checkpoint::{CheckpointError, CheckpointInfo, Errand, damage_of};
use crate::checkpoint_job::CheckpointContext;
use crate::database::Database;
use crate::open::Files;
use crate::recovery::len_of;

/// A snapshot that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// Its number.
    pub snapshot_id: u64,
    /// Every logged commit at or below it is inside, none above it.
    pub watermark: u64,
    /// When it was begun, microseconds since the epoch.
    pub created_at_us: u64,
    /// Its length, bytes.
    pub size_bytes: u64,
    /// Where it lies, inside the directory of the database.
    pub path: String,
}

/// Why the snapshots could not be listed: one of them cannot be read, or is none.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct ListSnapshotsError(#[from] SnapshotError);

impl ListSnapshotsError {
    /// The file that is damaged, and the offset, bytes, if that is why.
    #[must_use]
    pub fn damage(&self) -> Option<(&str, u64)> {
        damage_of(&self.0)
    }
}

/// Why a snapshot was not removed. It is as it was, unless it says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum DeleteSnapshotError {
    /// The next open begins with it.
    #[error("snapshot {snapshot_id} is the newest one, which the next start begins with")]
    InUse {
        /// Its number.
        snapshot_id: u64,
    },
    /// The database has no log, is closed, was opened for reading only, its log has failed, or a
    /// checkpoint or a compaction is under way.
    #[error("the removal was refused")]
    Refused(#[source] CheckpointError),
    /// The disk refused a step; after a power loss the snapshot may be there again.
    #[error("input or output failed")]
    Io(#[source] io::Error),
}

/// Called with whether there was such a snapshot, on the background thread.
pub(crate) type DeleteDone = Box<dyn FnOnce(Result<bool, DeleteSnapshotError>) + Send>;

/// The snapshot that the next open begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NewestSnapshot {
    pub(crate) info: CheckpointInfo,
    /// The log behind it begins there.
    pub(crate) wal_offset: Lsn,
}

impl Database {
    /// Every snapshot in the directory, the oldest first, also one that MANIFEST never named.
    /// Reads the beginning of each file and checks no more of it.
    ///
    /// # Errors
    /// When one of them cannot be read, or is none.
    pub fn list_snapshots(&self) -> Result<Vec<SnapshotInfo>, ListSnapshotsError> {
        let of_directory = |source| SnapshotError::Io {
            path: SNAPSHOTS_DIR.to_owned(),
            source,
        };
        let Some(mut disk) = self.spare_disk().map_err(of_directory)? else {
            return Ok(Vec::new());
        };
        // Without a log there is no database in the directory yet.
        let Some(codec) = self.inner.files.as_ref().and_then(Files::codec) else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        for id in list_snapshots(&mut *disk).map_err(of_directory)? {
            match snapshot_info(&mut *disk, id, Arc::clone(codec)) {
                Ok(info) => found.push(info),
                // A checkpoint has removed it since.
                Err(SnapshotError::Io { source, .. })
                    if source.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(found)
    }

    /// Removes a snapshot, and waits for it on the calling thread; true if there was one of that
    /// number. When it returns, the removal is durable. Not for a database built with `manual`: see
    /// [`Self::start_delete_snapshot`].
    ///
    /// # Errors
    /// See [`DeleteSnapshotError`]: the newest one is never removed.
    pub fn delete_snapshot(&self, snapshot_id: u64) -> Result<bool, DeleteSnapshotError> {
        let (sender, receiver) = mpsc::channel();
        self.start_delete_snapshot(
            snapshot_id,
            Box::new(move |result| {
                // The receiver waits below for as long as it takes.
                let _ = sender.send(result);
            }),
        )?;
        let closed = Err(DeleteSnapshotError::Refused(CheckpointError::Closed));
        receiver.recv().unwrap_or(closed)
    }

    /// Asks for the removal of a snapshot and returns at once; `done` is called with whether there
    /// was one, on the background thread. It must be short.
    ///
    /// # Errors
    /// When it is refused at once; `done` is not called then.
    pub fn start_delete_snapshot(
        &self,
        snapshot_id: u64,
        done: Box<dyn FnOnce(Result<bool, DeleteSnapshotError>) + Send>,
    ) -> Result<(), DeleteSnapshotError> {
        self.ask_background(Errand::DeleteSnapshot(snapshot_id, done))
            .map_err(DeleteSnapshotError::Refused)
    }

    /// The newest snapshot: the one this open began with, or one taken since.
    #[must_use]
    pub fn newest_snapshot(&self) -> Option<CheckpointInfo> {
        let newest = self.inner.shared.checkpoint.newest.lock();
        newest.map(|newest| newest.info)
    }

    /// The length of the newest snapshot, bytes; 0 without one.
    #[must_use]
    pub fn snapshot_size(&self) -> u64 {
        self.newest_snapshot().map_or(0, |info| info.size_bytes)
    }

    /// The length of all segments of the log, bytes, the room of the last one that is not written
    /// yet included. Asks the disk.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn wal_size(&self) -> io::Result<u64> {
        let Some(mut disk) = self.spare_disk()? else {
            return Ok(0);
        };
        let mut len_bytes = 0;
        for name in files::list(&mut *disk, names::WAL_DIR)? {
            let Some(number) = names::parse_segment_name(&name) else {
                continue;
            };
            len_bytes += match len_of(&mut *disk, &names::segment_path(number)) {
                Ok(len_bytes) => len_bytes,
                // A compaction has removed it since.
                Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
                Err(error) => return Err(error),
            };
        }
        Ok(len_bytes)
    }

    /// Whether a compaction is worth it: there is a snapshot, and the log takes more than it does.
    ///
    /// # Errors
    /// As [`Self::wal_size`].
    pub fn should_compact(&self) -> io::Result<bool> {
        match self.newest_snapshot() {
            Some(info) => Ok(info.size_bytes < self.wal_size()?),
            None => Ok(false),
        }
    }

    /// How much log has been written behind the newest snapshot, bytes: about what the next open
    /// has to read. Costs a few loads; 0 as long as there is no log.
    #[must_use]
    pub fn log_len_bytes_behind_snapshot(&self) -> u64 {
        let Some((written, _)) = self.log_positions() else {
            return 0;
        };
        let newest = *self.inner.shared.checkpoint.newest.lock();
        let from = newest.map_or(Lsn::new(1, limits::SEGMENT_DATA_OFFSET), |newest| {
            newest.wal_offset
        });
        let segment_len = u64::from(self.inner.config.log_config().segment_len_bytes);
        let position = |lsn: Lsn| lsn.segment() * segment_len + u64::from(lsn.offset());
        position(written).saturating_sub(position(from))
    }

    /// A disk of its own, on which nothing else is in flight; none as long as there is no log.
    fn spare_disk(&self) -> io::Result<Option<Box<dyn Disk>>> {
        let files = self.inner.files.as_ref();
        match (self.is_on_disk(), files.and_then(Files::opener)) {
            (true, Some(opener)) => opener.open_background_disk().map(Some),
            _ => Ok(None),
        }
    }

    /// Whether there are files of this database.
    fn is_on_disk(&self) -> bool {
        self.inner.log.get().is_some() || self.last_recovery_result().is_some()
    }
}

impl CheckpointContext<'_> {
    /// Removes a snapshot that the next open does not begin with.
    pub(crate) fn delete_snapshot(
        &self,
        disk: &mut dyn Disk,
        id: u64,
        named: u64,
    ) -> Result<bool, DeleteSnapshotError> {
        self.shared
            .refuse_checkpoint()
            .map_err(DeleteSnapshotError::Refused)?;
        let newest = *self.shared.checkpoint.newest.lock();
        // Not the same when the named one could not be read at the last open.
        if id == named || newest.is_some_and(|newest| newest.info.snapshot_id == id) {
            return Err(DeleteSnapshotError::InUse { snapshot_id: id });
        }
        let listed = list_snapshots(disk).map_err(DeleteSnapshotError::Io)?;
        if !listed.contains(&id) {
            return Ok(false);
        }
        remove_snapshot(disk, id)
            .and_then(|()| files::sync_dir(disk, SNAPSHOTS_DIR))
            .map_err(DeleteSnapshotError::Io)?;
        tracing::info!(target: "checkpoint", id, "snapshot removed");
        Ok(true)
    }
}

/// The beginning of a snapshot's file.
fn snapshot_info(
    disk: &mut dyn Disk,
    id: u64,
    codec: Arc<dyn StorageCodec>,
) -> Result<SnapshotInfo, SnapshotError> {
    let path = snapshot_path(id);
    let (reader, meta) = SnapshotReader::open(disk, &path, OpenMode::Read, codec)?;
    let info = SnapshotInfo {
        snapshot_id: id,
        watermark: meta.watermark_txn,
        created_at_us: reader.header().timestamp_us,
        size_bytes: reader.len_bytes(),
        path,
    };
    reader.close(disk);
    Ok(info)
}
