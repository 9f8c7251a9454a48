//! Export as its callers see it: a clone of a database in another directory, made while others
//! read and write.
//!
//! The work is done by the background thread (`export_job.rs`), in its turn with checkpoints and
//! compactions, so that no file is removed while it is copied. An import is an open of the clone.
//! A plain copy of the directory of a closed database, without its `LOCK`, is a clone as well.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;

use in_mem_snapshot::SnapshotError;
use in_mem_wal::disk::{OpenDisk, RootError};
use in_mem_wal::{PoisonCause, files};

use crate::checkpoint::{CheckpointError, Errand};
use crate::database::Database;
use crate::logical_digest::StateDigest;
use crate::staging::Target;

/// A clone that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportInfo {
    /// Where it is.
    pub path: PathBuf,
    /// The watermark of the snapshot inside; 0 when there is none, and the log is all of it.
    pub checkpoint_watermark: u64,
    /// Every logged commit at or below it is inside, none above it.
    pub watermark_txn: u64,
    /// Bytes of its files.
    pub size_bytes: u64,
    /// The digest of this database at that version, and so that of the clone.
    pub digest: StateDigest,
}

/// Why there is no clone. Nothing of the database was changed; what was made of the clone is
/// removed, as far as that can be done, and is not under the name asked for.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// Something has the name already.
    #[error("{} exists", path.display())]
    Exists {
        /// The path asked for.
        path: PathBuf,
    },
    /// The path cannot be that of a clone.
    #[error("{} cannot be made: {what}", path.display())]
    Destination {
        /// The path asked for.
        path: PathBuf,
        /// Why, in a few words.
        what: &'static str,
    },
    /// The directory above the clone is missing, or is not one to make a database in.
    #[error("the directory above cannot be used")]
    Directory(#[source] RootError),
    /// The database has no log, is closed, or was opened for reading only.
    #[error("export was refused")]
    Refused(#[source] CheckpointError),
    /// A checkpoint, a compaction or another export is under way.
    #[error("a checkpoint, a compaction or an export is under way")]
    AlreadyInProgress,
    /// The log failed.
    #[error("the log has failed; reopen the database")]
    Poisoned(#[source] Option<PoisonCause>),
    /// There is no room for the clone.
    #[error("no space for {path}")]
    NoSpace {
        /// Which file.
        path: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel does not permit it.
    #[error("no permission for {path}")]
    PermissionDenied {
        /// Which file.
        path: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel refused a step.
    #[error("{path}: input or output failed")]
    Io {
        /// Which file.
        path: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// What was copied is not whole: the source is damaged, or the copy is.
    #[error("the copy is not whole: {reason}")]
    NotWhole {
        /// What was found, and where.
        reason: String,
    },
    /// The clone is whole and has its name, which a power loss may take.
    #[error("{} is there, but its name is not durable", path.display())]
    Unsynced {
        /// Where it is.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

impl ExportError {
    /// What the kernel said about a file.
    pub(crate) fn io(path: &str, source: io::Error) -> Self {
        let path = path.to_owned();
        if files::is_no_space(&source) {
            return Self::NoSpace { path, source };
        }
        match source.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::PermissionDenied { path, source }
            }
            _ => Self::Io { path, source },
        }
    }
}

impl ExportError {
    /// What is wrong with a snapshot that was written or read back.
    pub(crate) fn snapshot(error: SnapshotError) -> Self {
        match error {
            SnapshotError::Io { path, source } => Self::io(&path, source),
            error => Self::NotWhole {
                reason: error.to_string(),
            },
        }
    }
}

impl From<CheckpointError> for ExportError {
    fn from(error: CheckpointError) -> Self {
        match error {
            CheckpointError::AlreadyInProgress => Self::AlreadyInProgress,
            CheckpointError::Poisoned(cause) => Self::Poisoned(cause),
            error => Self::Refused(error),
        }
    }
}

/// Called with what came of an export, on the background thread.
pub(crate) type ExportDone = Box<dyn FnOnce(Result<ExportInfo, ExportError>) + Send>;

/// An export that was asked for.
pub(crate) struct ExportRequest {
    pub(crate) target: Target,
    pub(crate) done: ExportDone,
}

impl Database {
    /// Makes a clone of the database at `dest`, a path that must not exist in a directory that
    /// does, while reads and writes go on, and waits for it on the calling thread. Inside is what
    /// logged commits have made up to one version, those before the call included; volatile
    /// versions are not. The clone has the same identity. It is read back and checked before it
    /// gets its name, and when this returns it is durable: open it to import it.
    ///
    /// It takes as long as the files take to be copied and read back: the snapshot that MANIFEST
    /// names, and the log behind it. Checkpoints and compactions are refused meanwhile, so take a
    /// checkpoint before, if the log is long. A crash leaves a directory beside `dest` whose name
    /// begins with a dot and ends with `.partial`; nobody needs it.
    ///
    /// Not for a database built with `manual`: see [`Self::start_export`].
    ///
    /// ```
    /// use in_mem_engine::{Database, model};
    /// # let directory = std::env::temp_dir().join(format!("in-mem-export-{}", std::process::id()));
    /// # let other = directory.with_extension("clone");
    /// let database = Database::open_or_create(&directory)?;
    /// let run = database.default_run();
    /// run.kv().put("step", &model::encode(&model::Value::from(1_i64))?)?;
    /// let exported = database.export(&other)?;
    /// let clone = Database::open(&other)?;
    /// assert_eq!(clone.digest()?.sha256, exported.digest.sha256);
    /// # drop((run, database, clone));
    /// # std::fs::remove_dir_all(&directory)?;
    /// # std::fs::remove_dir_all(&other)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// See [`ExportError`].
    pub fn export(&self, dest: impl AsRef<Path>) -> Result<ExportInfo, ExportError> {
        let (sender, receiver) = mpsc::channel();
        self.start_export(
            dest,
            Box::new(move |result| {
                // The receiver waits below for as long as it takes.
                let _ = sender.send(result);
            }),
        )?;
        let closed = Err(ExportError::Refused(CheckpointError::Closed));
        receiver.recv().unwrap_or(closed)
    }

    /// Asks for an export and returns at once; `done` is called with what came of it, on the
    /// background thread. It must be short.
    ///
    /// # Errors
    /// When it is refused at once; `done` is not called then.
    pub fn start_export(
        &self,
        dest: impl AsRef<Path>,
        done: Box<dyn FnOnce(Result<ExportInfo, ExportError>) + Send>,
    ) -> Result<(), ExportError> {
        let target = Target::at_path(dest.as_ref())?;
        Ok(self.ask_background(Errand::Export(ExportRequest { target, done }))?)
    }

    /// The same onto a disk that the caller has opened, as a directory `name` of its root.
    ///
    /// # Errors
    /// When it is refused at once; `done` is not called then.
    pub fn start_export_to(
        &self,
        disk: Arc<dyn OpenDisk>,
        name: &str,
        done: Box<dyn FnOnce(Result<ExportInfo, ExportError>) + Send>,
    ) -> Result<(), ExportError> {
        let target = Target::on_disk(disk, name)?;
        Ok(self.ask_background(Errand::Export(ExportRequest { target, done }))?)
    }
}
