//! What can be set about a database, checked once before it opens.

use std::path::PathBuf;
use std::sync::Arc;

use in_mem_model::{Limits, RetentionPolicy};
use in_mem_wal::clock::Clock;
use in_mem_wal::codec::CodecKey;
use in_mem_wal::disk::{DiskPreference, OpenDisk};
use in_mem_wal::{IdentityCodec, LogConfig, StorageCodec};

use crate::durability::DurabilityMode;
use crate::errors::OpenError;
use crate::faults::Planted;
use crate::limits::SHUTDOWN_DEADLINE_MS;

/// When a Buffered commit is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BufferedAck {
    /// Once handed to the log in order: the embedded promise.
    #[default]
    Appended,
    /// Once the kernel has the bytes, so that killing this process loses nothing acknowledged:
    /// the daemon's promise.
    Written,
}

/// Who stamps the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimeSource {
    /// A thread of the engine, awake while commits arrive.
    #[default]
    Ticker,
    /// The owner, with [`crate::Database::set_now`].
    External,
}

/// Who runs the log and the background work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Driving {
    /// Threads of the engine.
    #[default]
    Threads,
    /// The owner, turn by turn, with [`crate::Database::take_driver`].
    Manual,
}

/// Settings of one database.
#[derive(Debug, Clone)]
pub struct DatabaseConfig {
    /// The default mode of its commits.
    pub durability: DurabilityMode,
    /// Settings of the log.
    pub wal_config: LogConfig,
    /// The name of the storage codec: one of [`in_mem_wal::codec::CODEC_NAMES`], as this build was
    /// made, or the id of `custom_codec`. Whoever creates a database chooses it for life; an open
    /// that asks for another is refused.
    pub codec_id: String,
    /// The key of a codec that encrypts; none for one that does not.
    pub key: Option<CodecKey>,
    /// A codec that is none of this build's; its id is `codec_id`.
    pub custom_codec: Option<Arc<dyn StorageCodec>>,
    /// Opens an existing database with the codec it was made with, whatever `codec_id` says, which
    /// then holds only where MANIFEST cannot be read; see
    /// [`crate::DatabaseBuilder::stored_codec`].
    pub takes_stored_codec: bool,
    /// When a Buffered commit is acknowledged.
    pub buffered_ack: BufferedAck,
    /// Who stamps the time.
    pub time_source: TimeSource,
    /// Who runs the log.
    pub driving: Driving,
    /// Every run recovered as Active reports Orphaned, also without a recorded owner.
    pub orphan_on_recovery: bool,
    /// How long a shutdown waits for commits in flight, milliseconds.
    pub shutdown_deadline_ms: u64,
    /// Opens an existing database for reading only, and changes nothing in its directory: see
    /// [`crate::DatabaseBuilder::read_only`].
    pub is_read_only: bool,
    /// The same, without the mutations of entry types that no
    /// primitive of this build knows; see [`crate::RecoveryResult::entries_skipped`].
    pub skips_unknown_entries: bool,
    /// What a key, a value, a run name and a transaction may be; none above its default. They hold
    /// for what is written from now on: what is there stays readable.
    pub limits: Limits,
    /// Memory the data may take, bytes; 0 for no limit. By its own account of keys and versions, the
    /// metadata of runs included, of exactly-once results, and of what open transactions have read
    /// and are about to write; see [`crate::limits::KEY_COST_BYTES`] and its neighbours for what
    /// each costs beside its bytes. Beyond it writes that grow the data are refused: puts, the
    /// beginning of runs, their metadata, tags, pauses and resumptions. Reads, deletions, rollbacks
    /// and the end of runs go on. What is recovered may exceed it.
    pub memory_len_bytes_max: u64,
    /// What holds for runs without a retention policy of their own; see
    /// [`crate::Database::set_default_retention_policy`].
    pub default_retention: RetentionPolicy,
    /// A planted mistake, for tests of the tests; none in a product build.
    pub planted: Planted,
}

impl Default for DatabaseConfig {
    fn default() -> Self {
        Self {
            durability: DurabilityMode::default(),
            wal_config: LogConfig::default(),
            codec_id: IdentityCodec::ID.to_owned(),
            key: None,
            custom_codec: None,
            takes_stored_codec: false,
            buffered_ack: BufferedAck::default(),
            time_source: TimeSource::default(),
            driving: Driving::default(),
            orphan_on_recovery: false,
            shutdown_deadline_ms: SHUTDOWN_DEADLINE_MS,
            is_read_only: false,
            skips_unknown_entries: false,
            limits: Limits::DEFAULT,
            memory_len_bytes_max: 0,
            default_retention: RetentionPolicy::KeepAll,
            planted: Planted::NONE,
        }
    }
}

impl DatabaseConfig {
    /// Strict, with defaults.
    #[must_use]
    pub fn strict() -> Self {
        Self::default()
    }

    /// Buffered with 100 ms and 1000 writes.
    #[must_use]
    pub fn buffered() -> Self {
        Self::default().with_durability(DurabilityMode::buffered_default())
    }

    /// InMemory.
    #[must_use]
    pub fn in_memory() -> Self {
        Self::default().with_durability(DurabilityMode::InMemory)
    }

    /// With another default mode.
    #[must_use]
    pub fn with_durability(mut self, durability: DurabilityMode) -> Self {
        self.durability = durability;
        self
    }

    /// With another segment length, bytes.
    #[must_use]
    pub fn with_wal_segment_size(mut self, len_bytes: u32) -> Self {
        self.wal_config.segment_len_bytes = len_bytes;
        self
    }

    /// With another codec of this build, by its name: `identity`, `lz4`, `aes-256-gcm` or
    /// `lz4+aes-256-gcm`, as far as the features `lz4` and `encryption` are on. It is chosen when the
    /// database is created. The ones that encrypt need [`Self::with_key`].
    #[must_use]
    pub fn with_codec(mut self, codec_id: &str) -> Self {
        codec_id.clone_into(&mut self.codec_id);
        self.custom_codec = None;
        self
    }

    /// With the key of a codec that encrypts. A database keeps its key for life, as it keeps its
    /// codec; without it nothing of its data can be read.
    #[must_use]
    pub fn with_key(mut self, key: CodecKey) -> Self {
        self.key = Some(key);
        self
    }

    /// With a codec of the caller's. Its id is recorded in the database, which opens with a codec of
    /// that id alone.
    #[must_use]
    pub fn with_custom_codec(mut self, codec: Arc<dyn StorageCodec>) -> Self {
        codec.codec_id().clone_into(&mut self.codec_id);
        self.custom_codec = Some(codec);
        self
    }

    /// Checks every constraint.
    ///
    /// # Errors
    /// The first setting outside its constraint.
    pub fn validate(&self) -> Result<(), OpenError> {
        if let DurabilityMode::Buffered {
            flush_interval_ms,
            max_pending_writes,
        } = self.durability
            && (flush_interval_ms == 0 || max_pending_writes == 0)
        {
            return Err(OpenError::InvalidConfig {
                what: "a Buffered trigger of 0",
            });
        }
        crate::codec::check_codec(self)?;
        self.log_config().validate().map_err(OpenError::LogConfig)
    }

    /// Nothing in the directory is changed.
    pub(crate) fn only_reads(&self) -> bool {
        self.is_read_only || self.skips_unknown_entries
    }

    /// The log's settings with the triggers of the mode.
    pub(crate) fn log_config(&self) -> LogConfig {
        let mut config = self.wal_config;
        if let DurabilityMode::Buffered {
            flush_interval_ms,
            max_pending_writes,
        } = self.durability
        {
            config.buffered_sync_interval_us = flush_interval_ms.saturating_mul(1000);
            config.buffered_sync_count = u32::try_from(max_pending_writes).unwrap_or(u32::MAX);
        }
        config
    }
}

/// Where a database keeps its files.
pub(crate) enum Place {
    /// A directory, opened when it is needed.
    Path(PathBuf, DiskPreference),
    /// A disk that somebody opened already, and locked.
    Disk(Arc<dyn OpenDisk>),
}

/// Everything a database is opened with.
pub(crate) struct Setup {
    pub(crate) config: DatabaseConfig,
    pub(crate) place: Option<Place>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) registry: crate::registry::PrimitiveRegistry,
    pub(crate) progress: Option<std::sync::Arc<crate::progress::RecoveryProgress>>,
}
