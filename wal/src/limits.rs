//! Every limit of the log, with its unit, its reason and the relations between them.

/// Where the first batch of a segment starts, bytes: the header fills the first 4 KiB, so a log
/// can be walked whatever block the device has.
pub const SEGMENT_DATA_OFFSET: u32 = 4096;

/// Default length of a segment, bytes. Zeroing one takes 35 ms in the background.
pub const SEGMENT_LEN_BYTES: u32 = 64 << 20;

/// Largest record, bytes, framing included: the largest transaction's writeset (64 MiB) and
/// room for what a codec adds.
pub const RECORD_LEN_BYTES_MAX: u32 = 65 << 20;

/// A batch takes no further record once it is this long, bytes. At 1 GB/s it bounds a write to
/// 4 ms, so a small commit never waits longer than that behind large ones.
pub const BATCH_LEN_BYTES_MAX: u32 = 4 << 20;

/// What the batch buffer holds at first, bytes.
pub const WRITER_BUFFER_LEN_BYTES: usize = 64 << 10;

/// A batch buffer that had to grow beyond this, bytes, is given back after the batch.
pub const WRITER_BUFFER_KEPT_LEN_BYTES_MAX: usize = 8 << 20;

/// Buffered bytes that start a sync, bytes.
pub const BUFFERED_SYNC_LEN_BYTES: u32 = 4 << 20;

/// Buffered records that start a sync, count.
pub const BUFFERED_SYNC_COUNT: u32 = 1000;

/// How long a Buffered record waits for a sync at most, microseconds.
pub const BUFFERED_SYNC_INTERVAL_US: u64 = 100_000;

/// New records are refused as busy while this many times `BUFFERED_SYNC_COUNT` Buffered records
/// wait for a sync, a factor.
pub const BUFFERED_BACKLOG_FACTOR: u64 = 2;

/// Records reserved or queued and not yet written, count. Bounds the queue, which is allocated
/// once; 64 thousand entries of about 100 bytes are 6 MiB.
pub const QUEUE_COUNT_MAX: u32 = 65_536;

/// Writeset buffers kept for reuse, count.
pub const POOL_COUNT_MAX: usize = 1024;

/// A writeset buffer larger than this, bytes, is not kept: `POOL_COUNT_MAX` times this bounds
/// the pool's memory to 16 MiB.
pub const POOL_BUFFER_LEN_BYTES_MAX: usize = 16 << 10;

/// Idle time after which an empty batch states that the last one is durable, microseconds.
pub const IDLE_MARK_DELAY_US: u64 = 1_000_000;

/// How long a mark that found no room waits before it looks again, microseconds.
pub const MARK_RETRY_DELAY_US: u64 = 10_000;

/// How long a spare that could not be opened rests before it is opened again, microseconds.
pub const SPARE_OPEN_RETRY_DELAY_US: u64 = 1_000_000;

/// Bytes moved by one operation when files are read, zeroed or copied, bytes.
pub const CHUNK_LEN_BYTES: usize = 1 << 20;

/// Reads kept in flight while a segment is read, count.
pub const READ_DEPTH: usize = 4;

/// Largest segment, bytes: offsets are 32 bits.
pub const SEGMENT_LEN_BYTES_MAX: u64 = u32::MAX as u64 & !(SEGMENT_DATA_OFFSET as u64 - 1);

/// Smallest segment, in log blocks.
pub const SEGMENT_BLOCK_COUNT_MIN: u32 = 16;

/// The largest log block, bytes.
pub const LOG_BLOCK_LEN_BYTES_MAX: u32 = 4096;

/// The smallest log block, bytes. Marks are looked for at multiples of it.
pub const LOG_BLOCK_LEN_BYTES_MIN: u32 = 512;

const _: () = assert!(BUFFERED_SYNC_LEN_BYTES <= SEGMENT_LEN_BYTES);
const _: () = assert!(BATCH_LEN_BYTES_MAX <= SEGMENT_LEN_BYTES);
const _: () = assert!(SEGMENT_DATA_OFFSET.is_multiple_of(LOG_BLOCK_LEN_BYTES_MAX));
const _: () = assert!(LOG_BLOCK_LEN_BYTES_MAX.is_multiple_of(LOG_BLOCK_LEN_BYTES_MIN));
const _: () = assert!(CHUNK_LEN_BYTES.is_multiple_of(LOG_BLOCK_LEN_BYTES_MAX as usize));
// An enlarged segment (one record of the cap beside a whole ordinary segment) keeps 32-bit offsets.
const _: () = assert!(
    RECORD_LEN_BYTES_MAX as u64 + SEGMENT_LEN_BYTES as u64 + 3 * 4096 <= SEGMENT_LEN_BYTES_MAX
);
