//! Every limit of the engine that is not a limit of the data model, with its unit and its reason.

use in_mem_model::limits::{TRANSACTION_LEN_BYTES_MAX, TRANSACTION_MUTATION_COUNT_MAX};

/// Partitions of a run's index, count. The largest map of a run with ten million keys then clears
/// about 1 MiB when it grows, instead of 16 MiB.
pub(crate) const INDEX_PARTITION_COUNT: usize = 16;

/// Entries an insertion moves while a map grows, count.
pub(crate) const INDEX_RESIZE_STEP_COUNT: usize = 64;

/// Locks of the run registry, count; fixed so that it does not follow the machine.
pub(crate) const REGISTRY_SHARD_COUNT: usize = 64;

/// Contexts kept per thread, count.
pub const MAX_POOL_SIZE: usize = 8;

/// Entries and step states that rest with a thread between its commits, count: a larger
/// transaction gives its memory back when it is over.
pub(crate) const KEPT_ENTRY_COUNT_MAX: usize = 256;

/// Key bytes that rest with a pooled context, bytes.
pub(crate) const KEPT_KEY_LEN_BYTES_MAX: usize = 16 << 10;

/// Keys a transaction may read, count: as many as it may write.
pub const READ_SET_COUNT_MAX: usize = TRANSACTION_MUTATION_COUNT_MAX;

/// Keys a transaction may read, bytes: as many as it may write.
pub const READ_SET_LEN_BYTES_MAX: usize = TRANSACTION_LEN_BYTES_MAX;

/// Encoded metadata after which a page of a list of runs ends, bytes. Decoded it takes up to 32
/// times as much, and one run may have as much on its own.
pub const RUN_PAGE_LEN_BYTES_MAX: usize = 1 << 20;

/// Places the publication queue of a run keeps when nothing waits, count: a batch of the log.
pub(crate) const KEPT_QUEUE_COUNT_MAX: usize = 4_096;

/// What a key costs in memory beside its bytes, bytes: its slots in the index, its link, and the
/// allocation of its bytes. Used for the account of [`crate::DatabaseConfig::memory_len_bytes_max`].
pub const KEY_COST_BYTES: u64 = 96;

/// What a version costs in memory beside its value, bytes: its header and its allocation.
pub const VERSION_COST_BYTES: u64 = 64;

/// What a run costs in memory beside its metadata, bytes: its index, its queue and its name.
pub const RUN_COST_BYTES: u64 = 4_096;

/// What a key that an open transaction has read costs beside its bytes, bytes.
pub const TRANSACTION_READ_COST_BYTES: u64 = 96;

/// What a key that an open transaction is about to write costs beside its bytes and its value,
/// bytes. Not below what it takes once it is committed: what was admitted is admitted again then.
pub const TRANSACTION_WRITE_COST_BYTES: u64 = 192;

/// What taking a write of an open transaction back to a savepoint costs beside its value, bytes.
pub const TRANSACTION_UNDO_COST_BYTES: u64 = 96;

/// Gaps between logged commit versions that are kept one by one, count: the newest. At 16 bytes
/// each, 64 KiB.
pub const VERSION_GAP_COUNT_MAX: usize = 4_096;

/// Versions below those gaps of which it is kept whether they were logged, count: a bit each, 1 MiB
/// once they are needed.
pub const VERSION_WINDOW_COUNT: usize = 1 << 23;

/// How far recovery and the log thread raise the version floor at a time, versions.
pub(crate) const VERSION_FLOOR_STEP: u64 = 1 << 32;

/// Versions left below the floor at which it is raised again, versions: at a million commits a
/// second that is half an hour.
pub(crate) const VERSION_FLOOR_RESERVE: u64 = 1 << 31;

/// Keys one step of a listing looks at, at most, count: about 1 ms.
pub const LIST_STEP_KEY_COUNT_MAX: usize = 4_096;

/// Values one step of a listing copies, at most, bytes; a single one may exceed it. With a page of
/// as much before it the step still fits a frame.
pub const LIST_STEP_LEN_BYTES_MAX: usize = 1 << 20;

/// Keys one step of a run's first listing puts in order, at most, count: at five million keys
/// about 5 us each, 0.3 ms together.
pub(crate) const FILL_STEP_KEY_COUNT_MAX: usize = 64;

/// Versions one history call returns, at most, count.
pub const HISTORY_COUNT_MAX: usize = 10_000;

/// Commits that may wait for their promise in one run, count. Bounds the publication queue; the
/// log's own queue is the smaller bound for logged commits.
pub(crate) const PENDING_COUNT_MAX: usize = 1 << 17;

/// Length of a tag of a run, bytes.
pub const RUN_TAG_LEN_BYTES_MAX: usize = 256;

/// Tags of a run, count.
pub const RUN_TAG_COUNT_MAX: usize = 256;

/// Encoded metadata of a run, description and reason included, bytes.
pub const RUN_METADATA_LEN_BYTES_MAX: usize = 1 << 20;

/// What a lifecycle change adds to the encoded metadata of a run at most, beside the texts it
/// brings along, bytes.
pub(crate) const RUN_CHANGE_LEN_BYTES_MAX: usize = 512;

/// Results kept per client of a run for repeats of its requests, count: as many as a client may
/// have unanswered.
pub const ONCE_RESULT_COUNT_MAX: usize = 64;

/// Longest result kept whole, bytes; of a longer one its versions and counts are kept.
pub const ONCE_RESULT_LEN_BYTES_MAX: usize = 4 << 10;

/// Clients of a run whose results are kept, count.
pub const ONCE_CLIENT_COUNT_MAX: usize = 1_024;

/// Results of all clients of a run, with what keeping them costs, bytes.
pub const ONCE_LEN_BYTES_MAX: usize = 16 << 20;

/// What one kept result counts for beside its bytes, bytes.
pub(crate) const ONCE_RESULT_OVERHEAD_BYTES: usize = 64;

/// What one client counts for beside its results, bytes.
pub(crate) const ONCE_CLIENT_OVERHEAD_BYTES: usize = 128;

/// Longest key a snapshot is believed to hold, bytes. Far above the limit of keys, which is a
/// setting; it keeps a damaged length harmless.
pub(crate) const SNAPSHOT_KEY_LEN_BYTES_MAX: usize = 64 << 10;

/// Longest value a snapshot is believed to hold, bytes: the longest record of a log.
pub(crate) const SNAPSHOT_VALUE_LEN_BYTES_MAX: usize = 65 << 20;

/// Snapshots kept, count: the newest.
pub const SNAPSHOT_RETENTION_COUNT: usize = 2;

const _: () = assert!(1 <= SNAPSHOT_RETENTION_COUNT);

/// How often a checkpoint looks whether the commits below its watermark are published,
/// milliseconds; that takes as long as an install.
pub(crate) const CHECKPOINT_POLL_MS: u64 = 1;

/// How long a Full compaction waits for read views and transactions that began before it,
/// milliseconds; a run whose views go on is left as it is.
pub const COMPACTION_GRACE_MS: u64 = 1_000;

/// Keys and versions that trimming looks at before the background thread does what else is due,
/// count.
pub(crate) const TRIM_STEP_COUNT: u64 = 1_024;

/// How often the embedded clock is read while commits arrive, milliseconds.
pub(crate) const TICK_MS: u64 = 1;

/// Ticks without a commit after which the embedded clock stops until the next one, count.
pub(crate) const TICK_IDLE_COUNT_MAX: u32 = 100;

/// How long a shutdown waits for commits in flight, milliseconds.
pub const SHUTDOWN_DEADLINE_MS: u64 = 10_000;

// One client alone never takes the place of its own results.
const _: () = assert!(
    ONCE_CLIENT_OVERHEAD_BYTES
        + ONCE_RESULT_COUNT_MAX * (ONCE_RESULT_OVERHEAD_BYTES + ONCE_RESULT_LEN_BYTES_MAX)
        <= ONCE_LEN_BYTES_MAX
);
const _: () = assert!(VERSION_FLOOR_RESERVE < VERSION_FLOOR_STEP);
const _: () = assert!(INDEX_PARTITION_COUNT.is_power_of_two());
// The largest transaction fits a record whatever the codec.
const _: () = assert!(
    TRANSACTION_LEN_BYTES_MAX
        + in_mem_wal::format::record::RECORD_OVERHEAD_BYTES as usize
        + in_mem_wal::codec::ADDED_LEN_BYTES_MAX
        <= in_mem_wal::limits::RECORD_LEN_BYTES_MAX as usize
);
