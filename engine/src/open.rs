//! Opening and creating databases, and making the files of one that had none.
//!
//! Existence is judged by MANIFEST. The lock is taken before anything is changed; MANIFEST is
//! written last. A database whose default mode is InMemory touches no disk until a commit asks for
//! more, except that a MANIFEST found at its path is always recovered.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use in_mem_wal::StorageCodec;
use in_mem_wal::disk::{
    DirectoryLock, DiskPreference, LockError, OpenDisk, RealDisk, RealRoot, RootError,
    SharedDirectoryLock,
};
use parking_lot::Mutex;

use crate::codec::codec_for;
use crate::config::{DatabaseConfig, Place, Setup, TimeSource};
use crate::database::{Database, DatabaseInner};
use crate::errors::OpenError;
use crate::log_state::{Log, LogSetup};
use crate::recovery::{Found, RecoveryContext, RecoveryResult, create_files, look, recover};
use crate::registry::PrimitiveRegistry;
use crate::shared::Shared;
use crate::ticker::Ticker;

/// What an opener expects to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OpenMode {
    Open,
    Create,
    OpenOrCreate,
}

/// The files of a database, as far as they have been touched.
pub(crate) struct Files {
    place: Place,
    /// The disk, once the directory is open.
    opener: OnceLock<Arc<dyn OpenDisk>>,
    /// What is stored there is encoded with, once the log is open.
    codec: OnceLock<Arc<dyn StorageCodec>>,
    lock: Mutex<Option<Lock>>,
}

/// The right to a directory, until it is dropped.
enum Lock {
    /// Nobody else has it.
    Exclusive { _lock: DirectoryLock },
    /// Others may read.
    Shared { _lock: SharedDirectoryLock },
}

/// How a directory is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    /// For reading alone; nothing in it is changed.
    Read,
    /// It must be there.
    Write,
    /// It is created if it is not there.
    Create,
}

impl Files {
    pub(crate) fn new(place: Place) -> Self {
        let opener = OnceLock::new();
        if let Place::Disk(disk) = &place {
            let _ = opener.set(Arc::clone(disk));
        }
        Self {
            place,
            opener,
            codec: OnceLock::new(),
            lock: Mutex::new(None),
        }
    }

    /// The directory's path, if it has one of its own.
    pub(crate) fn path(&self) -> Option<&Path> {
        match &self.place {
            Place::Path(path, _) => Some(path),
            Place::Disk(_) => None,
        }
    }

    /// The disk, if the directory is open.
    pub(crate) fn opener(&self) -> Option<&Arc<dyn OpenDisk>> {
        self.opener.get()
    }

    /// The codec of what is stored, if the log is open.
    pub(crate) fn codec(&self) -> Option<&Arc<dyn StorageCodec>> {
        self.codec.get()
    }

    /// Opens the directory and takes its lock.
    fn open_and_lock(&self, access: Access) -> Result<Arc<dyn OpenDisk>, OpenError> {
        let Place::Path(path, preference) = &self.place else {
            return Ok(Arc::clone(self.opener.get().expect("a given disk is open")));
        };
        let root = open_root(path, access == Access::Create)?;
        let mut lock = self.lock.lock();
        if lock.is_none() {
            let taken = match access {
                Access::Read => root.lock_shared().map(|_lock| Lock::Shared { _lock }),
                Access::Write | Access::Create => {
                    root.lock().map(|_lock| Lock::Exclusive { _lock })
                }
            };
            *lock = Some(taken.map_err(|error| match error {
                LockError::Locked { .. } => OpenError::DatabaseLocked,
                LockError::Io { source, .. } => OpenError::Io(source),
            })?);
        }
        // The files are read once, by the open: no ring is worth its set-up, and its trial sync.
        let preference = match access {
            Access::Read => DiskPreference::Thread,
            Access::Write | Access::Create => *preference,
        };
        Ok(Arc::clone(
            self.opener.get_or_init(|| probe(root, preference)),
        ))
    }

    /// Opens the directory for reading, and shares its lock with other readers.
    pub(crate) fn open_for_reading(&self) -> Result<Arc<dyn OpenDisk>, OpenError> {
        self.open_and_lock(Access::Read)
    }

    /// Gives the directory free for another opener.
    pub(crate) fn unlock(&self) {
        self.lock.lock().take();
    }
}

fn open_root(path: &Path, may_create: bool) -> Result<RealRoot, OpenError> {
    let opened = if may_create {
        RealRoot::open_or_create(path)
    } else {
        RealRoot::open(path)
    };
    opened.map_err(|error| match error {
        RootError::NotFound { .. } => OpenError::NotFound,
        error => OpenError::Root(error),
    })
}

fn probe(root: RealRoot, preference: DiskPreference) -> Arc<dyn OpenDisk> {
    let disk = RealDisk::probe(root, preference);
    if let Some(refusal) = disk.refusal() {
        tracing::warn!(target: "db", %refusal, "io_uring is not used");
    }
    Arc::new(disk)
}

/// Opens or creates a database.
pub(crate) fn open_database(setup: Setup, mode: OpenMode) -> Result<Database, OpenError> {
    let Setup {
        config,
        place,
        clock,
        registry,
        progress,
    } = setup;
    config.limits.check()?;
    let shared = Arc::new(Shared::new(clock, config.planted));
    shared
        .default_retention
        .write()
        .clone_from(&config.default_retention);
    shared.store.memory.limit(config.memory_len_bytes_max);
    if let Some(progress) = progress {
        let _ = shared.recovery_progress.set(progress);
    }
    let files = place.map(Files::new);
    let found = match &files {
        Some(files) => find(files, &config, mode)?,
        None => Found::Nothing,
    };
    match (found, mode) {
        (Found::DataWithoutManifest, _) => return Err(OpenError::MissingManifest),
        (Found::Nothing, _) if config.only_reads() => return Err(OpenError::NotFound),
        (Found::Nothing, OpenMode::Open) => return Err(OpenError::NotFound),
        (Found::Database, OpenMode::Create) => return Err(OpenError::AlreadyExists),
        _ => {}
    }
    let log = OnceLock::new();
    let mut recovery = None;
    if let Some(files) = &files
        && (found == Found::Database || config.durability.requires_wal())
    {
        let (started, result) = open_log(&shared, files, &config, &registry, LogUse::Opened)?;
        recovery = Some(result);
        match started {
            Some(started) => {
                let _ = log.set(started);
            }
            None => shared.set_read_only(),
        }
    }
    let ticker = match config.time_source {
        TimeSource::Ticker => Some(Ticker::start(Arc::clone(&shared)).map_err(OpenError::Io)?),
        TimeSource::External => None,
    };
    let mode_name = config.durability.mode_name();
    match files.as_ref().map(Files::path) {
        Some(Some(path)) => {
            tracing::info!(target: "db", mode = mode_name, path = %path.display(), "open");
        }
        // Whoever opened the directory has named it.
        Some(None) | None => tracing::info!(target: "db", mode = mode_name, "open"),
    }
    let inner = DatabaseInner::new(shared, config, registry, files, log, recovery, ticker);
    Ok(Database::from_inner(inner))
}

/// Looks what is there, taking the lock when the files are going to be used.
fn find(files: &Files, config: &DatabaseConfig, mode: OpenMode) -> Result<Found, OpenError> {
    let may_create =
        mode != OpenMode::Open && config.durability.requires_wal() && !config.only_reads();
    if let (Place::Path(path, _), false) = (&files.place, may_create) {
        // Look before locking: a directory that is not used is left as it is.
        let root = match open_root(path, false) {
            Ok(root) => root,
            Err(OpenError::NotFound) => return Ok(Found::Nothing),
            Err(error) => return Err(error),
        };
        let disk = probe(root, DiskPreference::Thread);
        let found = look(&mut *disk.open_disk().map_err(OpenError::Io)?)?;
        if found != Found::Database {
            return Ok(found);
        }
    }
    let opener = files.open_and_lock(match may_create {
        true => Access::Create,
        false if config.only_reads() => Access::Read,
        false => Access::Write,
    })?;
    look(&mut *opener.open_disk().map_err(OpenError::Io)?)
}

/// When the log of a database is first used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogUse {
    /// By the open itself: what the log holds is the database.
    Opened,
    /// By a commit of a database that had no files when it was opened: versions have been issued
    /// and others may read and write, so no record of somebody else can become part of it. Files
    /// without records may stand there, left by an attempt of its own that failed.
    Later,
}

/// Recovers the log, creating the files first if there are none, and starts it. Without a log the
/// database can only be read.
pub(crate) fn open_log(
    shared: &Arc<Shared>,
    files: &Files,
    config: &DatabaseConfig,
    registry: &PrimitiveRegistry,
    log_use: LogUse,
) -> Result<(Option<Log>, RecoveryResult), OpenError> {
    let opener = files.open_and_lock(match config.only_reads() {
        true => Access::Read,
        false => Access::Create,
    })?;
    let mut log_config = config.log_config();
    if files.path().is_some() {
        log_config.log_block_len_bytes = opener.block_bytes();
    }
    let codec;
    let recovered = {
        let mut disk = opener.open_disk().map_err(OpenError::Io)?;
        let found = look(&mut *disk)?;
        codec = codec_for(&mut *disk, config)?;
        match found {
            Found::Database => {}
            Found::Nothing => create_files(&mut *disk, codec.codec_id())?,
            Found::DataWithoutManifest => return Err(OpenError::MissingManifest),
        }
        let codec = Arc::clone(&codec);
        let context = RecoveryContext {
            shared,
            only_reads: config.only_reads(),
            skips_unknown: config.skips_unknown_entries,
            is_permissive: false,
            registry,
            config: log_config,
            codec,
            takes_records: log_use == LogUse::Opened,
        };
        recover(&mut *disk, &context)?
    };
    let _ = files.codec.set(Arc::clone(&codec));
    let Some(settled) = &recovered.settled else {
        return Ok((None, recovered.result));
    };
    let setup = LogSetup {
        shared,
        opener,
        config: log_config,
        codec,
        registry,
        driving: config.driving,
    };
    let log = Log::start(&setup, recovered.manifest, settled)?;
    Ok((Some(log), recovered.result))
}

/// The path a database would use, for messages.
pub(crate) fn path_of(files: Option<&Files>) -> Option<PathBuf> {
    files.and_then(Files::path).map(Path::to_owned)
}
