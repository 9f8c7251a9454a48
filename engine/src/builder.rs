//! How a database is opened, in a process of one's own: no daemon needed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use in_mem_model::{Limits, RunId};
use in_mem_wal::clock::{Clock, SystemClock};
use in_mem_wal::codec::CodecKey;
use in_mem_wal::disk::{DiskPreference, KeyFileError, OpenDisk, read_key_file};
use in_mem_wal::{LogConfig, StorageCodec};

use crate::config::{BufferedAck, DatabaseConfig, Driving, Place, Setup, TimeSource};
use crate::database::Database;
use crate::durability::DurabilityMode;
use crate::errors::OpenError;
use crate::faults::Planted;
use crate::open::{OpenMode, open_database};
use crate::progress::RecoveryProgress;
use crate::registry::{PrimitiveRegistry, PrimitiveStorageExt};

/// Collects the settings of one database. Strict unless told otherwise.
#[must_use = "a builder does nothing until it opens"]
pub struct DatabaseBuilder {
    config: DatabaseConfig,
    path: Option<PathBuf>,
    disk: Option<Arc<dyn OpenDisk>>,
    preference: DiskPreference,
    clock: Arc<dyn Clock>,
    primitives: Vec<Arc<dyn PrimitiveStorageExt>>,
    progress: Option<Arc<RecoveryProgress>>,
}

impl DatabaseBuilder {
    pub(crate) fn new() -> Self {
        Self {
            config: DatabaseConfig::default(),
            path: None,
            disk: None,
            preference: DiskPreference::default(),
            clock: Arc::new(SystemClock),
            primitives: Vec::new(),
            progress: None,
        }
    }

    /// The directory; conventionally named `*.inmem`.
    pub fn path(mut self, path: impl AsRef<Path>) -> Self {
        self.path = Some(path.as_ref().to_owned());
        self
    }

    /// The default durability mode.
    pub fn durability(mut self, mode: DurabilityMode) -> Self {
        self.config.durability = mode;
        self
    }

    /// Nothing survives; no file is made unless a commit asks for more.
    pub fn in_memory(self) -> Self {
        self.durability(DurabilityMode::InMemory)
    }

    /// Buffered with 100 ms and 1000 writes.
    pub fn buffered(self) -> Self {
        self.durability(DurabilityMode::buffered_default())
    }

    /// All settings at once.
    pub fn config(mut self, config: DatabaseConfig) -> Self {
        self.config = config;
        self
    }

    /// A planted mistake, for tests of the tests.
    pub fn planted(mut self, planted: Planted) -> Self {
        self.config.planted = planted;
        self
    }

    /// What a key, a value, a run name and a transaction may be; none above its default.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.config.limits = limits;
        self
    }

    /// The settings of the log.
    pub fn wal_config(mut self, config: LogConfig) -> Self {
        self.config.wal_config = config;
        self
    }

    /// The codec of what is stored, by its name; see [`DatabaseConfig::with_codec`].
    pub fn codec(mut self, codec_id: &str) -> Self {
        self.config = self.config.with_codec(codec_id);
        self
    }

    /// A codec of the caller's; see [`DatabaseConfig::with_custom_codec`].
    pub fn custom_codec(mut self, codec: Arc<dyn StorageCodec>) -> Self {
        self.config = self.config.with_custom_codec(codec);
        self
    }

    /// The key of a codec that encrypts; see [`DatabaseConfig::with_key`].
    pub fn key(mut self, key: CodecKey) -> Self {
        self.config = self.config.with_key(key);
        self
    }

    /// The key, from a file: 32 bytes, or 64 hexadecimal digits and at most one line end. It must
    /// belong to this user or to root, and be open to nobody else. It is read now, and wiped from
    /// memory with the database.
    ///
    /// # Errors
    /// See [`KeyFileError`]; none shows a byte of the file.
    pub fn key_file(self, path: impl AsRef<Path>) -> Result<Self, KeyFileError> {
        let key = read_key_file(path.as_ref())?;
        Ok(self.key(key))
    }

    /// Opens an existing database with whatever codec it was made with, as far as this build has it
    /// and the key fits: for whoever only looks. The codec set otherwise holds for a database that
    /// is created, and where MANIFEST cannot be read.
    pub fn stored_codec(mut self) -> Self {
        self.config.takes_stored_codec = true;
        self
    }

    /// When a Buffered commit is acknowledged.
    pub fn buffered_ack(mut self, ack: BufferedAck) -> Self {
        self.config.buffered_ack = ack;
        self
    }

    /// The owner stamps the time with [`Database::set_now`]; no clock thread is started.
    pub fn external_time(mut self) -> Self {
        self.config.time_source = TimeSource::External;
        self
    }

    /// Every run recovered as Active reports Orphaned, also without a recorded owner.
    pub fn orphan_on_recovery(mut self, orphan: bool) -> Self {
        self.config.orphan_on_recovery = orphan;
        self
    }

    /// How long a shutdown waits for commits in flight, milliseconds.
    pub fn shutdown_deadline_ms(mut self, deadline_ms: u64) -> Self {
        self.config.shutdown_deadline_ms = deadline_ms;
        self
    }

    /// Opens an existing database for reading only: `open` and `open_existing` read what is there
    /// and refuse every write afterwards. Nothing in the directory is created, changed, renamed or
    /// removed, neither by the open nor later, so it may lie on what cannot be written: left-over
    /// temporary files stay, a torn tail of the log is passed over and stays, and so does an empty
    /// newest segment. What the log holds without proof that it is durable is read, and answers that
    /// tell of exactly-once requests beyond that are refused.
    ///
    /// The directory is locked for reading: any number of readers share it, and nobody else may
    /// have it open, a daemon included, until the database is closed. A directory without a `LOCK`
    /// file, a copy for instance, is locked by itself; none is made.
    pub fn read_only(mut self) -> Self {
        self.config.is_read_only = true;
        self
    }

    /// Opens an existing database for reading only, and passes over what this build does not
    /// understand instead of refusing to open. What is read may be part of a transaction. Otherwise
    /// as [`Self::read_only`].
    pub fn read_only_skipping_unknown(mut self) -> Self {
        self.config.skips_unknown_entries = true;
        self
    }

    /// Which means of input and output to try first.
    pub fn disk_preference(mut self, preference: DiskPreference) -> Self {
        self.preference = preference;
        self
    }

    /// A disk that the caller has opened, and locked, instead of a path.
    pub fn disk(mut self, disk: Arc<dyn OpenDisk>) -> Self {
        self.disk = Some(disk);
        self
    }

    /// Another clock than the operating system's.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// No threads: the owner drives the log and the background work with
    /// [`Database::take_driver`], and commits with `submit`.
    pub fn manual(mut self) -> Self {
        self.config.driving = Driving::Manual;
        self.config.time_source = TimeSource::External;
        self
    }

    /// A primitive besides those built in.
    pub fn primitive(mut self, primitive: Arc<dyn PrimitiveStorageExt>) -> Self {
        self.primitives.push(primitive);
        self
    }

    /// Has the recovery say how far it has come, for another thread to read.
    pub fn progress(mut self, progress: Arc<RecoveryProgress>) -> Self {
        self.progress = Some(progress);
        self
    }

    /// Opens the database at the path, or creates it. Without a path: at a unique temporary one.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(self) -> Result<Database, OpenError> {
        if self.path.is_none() && self.disk.is_none() {
            return self.open_temp();
        }
        self.finish(OpenMode::OpenOrCreate)
    }

    /// Opens the database at the path; never creates one.
    ///
    /// # Errors
    /// [`OpenError::NotFound`] when there is none.
    pub fn open_existing(self) -> Result<Database, OpenError> {
        self.finish(OpenMode::Open)
    }

    /// Creates the database at the path.
    ///
    /// # Errors
    /// [`OpenError::AlreadyExists`] when there is one.
    pub fn create(self) -> Result<Database, OpenError> {
        self.finish(OpenMode::Create)
    }

    /// Opens a database at a unique path in the system's directory for temporary files. The files
    /// stay when it is closed.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open_temp(mut self) -> Result<Database, OpenError> {
        let name = format!("{}.inmem", RunId::new_random());
        self.path = Some(std::env::temp_dir().join(name));
        self.finish(OpenMode::OpenOrCreate)
    }

    fn finish(self, mode: OpenMode) -> Result<Database, OpenError> {
        open_database(self.setup()?, mode)
    }

    pub(crate) fn setup(self) -> Result<Setup, OpenError> {
        self.config.validate()?;
        let mut registry = PrimitiveRegistry::new();
        registry.register(Arc::new(crate::kv_storage::KvStorage))?;
        registry.register(Arc::new(crate::run_storage::RunStorage::new(
            self.config.orphan_on_recovery,
        )))?;
        for primitive in self.primitives {
            registry.register(primitive)?;
        }
        let place = match (self.disk, self.path) {
            (Some(disk), _) => Some(Place::Disk(disk)),
            (None, Some(path)) => Some(Place::Path(path, self.preference)),
            (None, None) => None,
        };
        Ok(Setup {
            config: self.config,
            place,
            clock: self.clock,
            registry,
            progress: self.progress,
        })
    }
}
