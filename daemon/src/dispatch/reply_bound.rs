//! How long the reply to a request may become, told before it is made.

use in_mem_ipc::frame::FRAME_LEN_BYTES_MAX;
use in_mem_ipc::operation::OperationKind;
use in_mem_model::limits::VALUE_LEN_BYTES_MAX;

use super::kv_read::PAGE_LEN_BYTES_MAX;

/// Everything of a reply beside values, keys and metadata, bytes. Also the longest reply of an
/// operation that answers with none of them.
const REST_LEN_BYTES_MAX: u64 = 64 << 10;

/// What the frames around 10,000 entries of a page take, bytes.
const ENTRIES_LEN_BYTES_MAX: u64 = 1 << 20;

/// A page may be followed by one step of a listing, and that by one value.
const LISTING_LEN_BYTES_MAX: u64 =
    2 * PAGE_LEN_BYTES_MAX as u64 + VALUE_LEN_BYTES_MAX as u64 + ENTRIES_LEN_BYTES_MAX;

/// Metadata of one run, or a text about the server.
pub(crate) const TEXT_LEN_BYTES_MAX: u64 = 4 << 20;

const _: () = assert!(LISTING_LEN_BYTES_MAX <= FRAME_LEN_BYTES_MAX as u64);

/// The longest reply to a request of this kind and size, errors apart, bytes.
pub(crate) fn reply_len_bytes_max(kind: OperationKind, frame_len_bytes: u64) -> u64 {
    use OperationKind as Kind;
    match kind {
        Kind::KvGetMany | Kind::RunList | Kind::RunOrphaned => u64::from(FRAME_LEN_BYTES_MAX),
        Kind::KvList | Kind::KvScan | Kind::KvHistory => LISTING_LEN_BYTES_MAX,
        Kind::KvGet
        | Kind::KvGetVersioned
        | Kind::KvGetAt
        | Kind::KvGetAndSet
        | Kind::KvGetAndDelete => VALUE_LEN_BYTES_MAX as u64 + REST_LEN_BYTES_MAX,
        Kind::RunGet
        | Kind::RunBegin
        | Kind::SystemInfo
        | Kind::SystemHealth
        | Kind::SystemMetrics
        | Kind::SystemDescribe
        | Kind::SystemCapabilities => TEXT_LEN_BYTES_MAX,
        // An effect for each operation, which is shorter than the operation.
        Kind::Batch => frame_len_bytes + REST_LEN_BYTES_MAX,
        _ => REST_LEN_BYTES_MAX,
    }
}
