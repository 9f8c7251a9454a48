//! Every limit of the data model, named, with its unit; and the set of them a database opens with.
//!
//! The constants are the defaults and at the same time the highest a database may be opened with:
//! the sizes of a WAL record and of a frame are derived from them, and a value that one process
//! could store must fit the frame of every other. [`Limits`] may lower each, never raise it.
//! Exactly at a limit passes; one more fails.

/// Longest user key, bytes of UTF-8. Keys live in memory beside their value, so they stay short.
pub const KEY_LEN_BYTES_MAX: usize = 1024;

/// Longest string in a value, bytes of UTF-8; also the longest object key.
pub const STRING_LEN_BYTES_MAX: usize = 16 << 20;

/// Longest byte string in a value.
pub const BYTES_LEN_BYTES_MAX: usize = 16 << 20;

/// Longest encoded value, bytes. Two of them fit one transaction.
pub const VALUE_LEN_BYTES_MAX: usize = 32 << 20;

/// Most elements of one array.
pub const ARRAY_COUNT_MAX: usize = 1_000_000;

/// Most entries of one object.
pub const OBJECT_COUNT_MAX: usize = 1_000_000;

/// Most values below the root of a value, in total; object keys are not counted. Bounds the memory
/// of a decoded value: one node costs at most 64 bytes beyond its own text.
pub const NODE_COUNT_MAX: usize = 1_000_000;

/// Deepest nesting of a value, the root being at depth 0. Bounds every recursion over a value.
pub const DEPTH_MAX: usize = 128;

/// Longest JSON document, bytes encoded.
pub const DOCUMENT_LEN_BYTES_MAX: usize = 16 << 20;

/// Deepest nesting of a JSON document, the root being at depth 0.
pub const DOCUMENT_DEPTH_MAX: usize = 100;

/// Most segments of a JSON path.
pub const PATH_SEGMENT_COUNT_MAX: usize = 256;

/// Most elements of one array of a JSON document.
pub const DOCUMENT_ARRAY_COUNT_MAX: usize = 1_000_000;

/// Highest dimension of a vector; the lowest is 1.
pub const VECTOR_DIMENSION_MAX: usize = 8192;

/// Longest name of a vector collection, bytes.
pub const COLLECTION_NAME_LEN_BYTES_MAX: usize = 255;

/// Longest event type, bytes.
pub const EVENT_TYPE_LEN_BYTES_MAX: usize = 256;

/// Longest run name, bytes.
pub const RUN_NAME_LEN_BYTES_MAX: usize = 255;

/// Most mutations of one transaction.
pub const TRANSACTION_MUTATION_COUNT_MAX: usize = 100_000;

/// Longest encoded writeset of one transaction, bytes, before the codec.
pub const TRANSACTION_LEN_BYTES_MAX: usize = 64 << 20;

/// Bytes of a WAL record around its writeset.
pub const WAL_RECORD_OVERHEAD_BYTES: usize = 41;

/// Longest WAL record, bytes, whatever the codec.
pub const WAL_RECORD_LEN_BYTES_MAX: usize = 65 << 20;

/// Longest frame on the socket, bytes: a batch of the largest transaction fits.
pub const FRAME_LEN_BYTES_MAX: usize = 65 << 20;

const _: () = assert!(0 < KEY_LEN_BYTES_MAX);
const _: () = assert!(KEY_LEN_BYTES_MAX < STRING_LEN_BYTES_MAX);
// The five bytes are the longest header of a string or a byte string.
const _: () = assert!(STRING_LEN_BYTES_MAX + 5 <= VALUE_LEN_BYTES_MAX);
const _: () = assert!(BYTES_LEN_BYTES_MAX + 5 <= VALUE_LEN_BYTES_MAX);
const _: () = assert!(ARRAY_COUNT_MAX <= NODE_COUNT_MAX);
const _: () = assert!(OBJECT_COUNT_MAX <= NODE_COUNT_MAX);
// The smallest node is one byte, the smallest object entry two.
const _: () = assert!(2 * NODE_COUNT_MAX + 5 <= VALUE_LEN_BYTES_MAX);
// Offsets and lengths inside a value are kept as u32.
const _: () = assert!(VALUE_LEN_BYTES_MAX <= u32::MAX as usize);
const _: () = assert!(DOCUMENT_LEN_BYTES_MAX <= VALUE_LEN_BYTES_MAX);
const _: () = assert!(DOCUMENT_DEPTH_MAX <= DEPTH_MAX);
const _: () = assert!(DOCUMENT_DEPTH_MAX <= PATH_SEGMENT_COUNT_MAX);
const _: () = assert!(DOCUMENT_ARRAY_COUNT_MAX <= ARRAY_COUNT_MAX);
const _: () = assert!(VECTOR_DIMENSION_MAX * 4 <= VALUE_LEN_BYTES_MAX);
const _: () = assert!(VALUE_LEN_BYTES_MAX + KEY_LEN_BYTES_MAX < TRANSACTION_LEN_BYTES_MAX);
const _: () =
    assert!(TRANSACTION_LEN_BYTES_MAX + WAL_RECORD_OVERHEAD_BYTES <= WAL_RECORD_LEN_BYTES_MAX);
const _: () = assert!(TRANSACTION_LEN_BYTES_MAX < FRAME_LEN_BYTES_MAX);

/// A limit that was set outside its range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("limit {name} is {value}, outside 1 to {max}")]
pub struct LimitOutOfRange {
    /// Name of the limit.
    pub name: &'static str,
    /// The value asked for.
    pub value: usize,
    /// The highest allowed.
    pub max: usize,
}

macro_rules! limits {
    ($($(#[$doc:meta])* $field:ident = $max:ident,)*) => {
        /// The limits a database is opened with. They hold in every durability mode.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct Limits {
            $($(#[$doc])* pub $field: usize,)*
        }

        impl Limits {
            /// The default of every limit, which is also its highest value.
            pub const DEFAULT: Self = Self { $($field: $max,)* };

            /// Refuses a limit that is zero or above its default.
            ///
            /// # Errors
            /// [`LimitOutOfRange`], naming the first such limit.
            pub fn check(&self) -> Result<(), LimitOutOfRange> {
                $(if self.$field == 0 || $max < self.$field {
                    return Err(LimitOutOfRange {
                        name: stringify!($field),
                        value: self.$field,
                        max: $max,
                    });
                })*
                Ok(())
            }

            /// Every limit with its name, for `capabilities`.
            #[must_use]
            pub fn entries(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($field), self.$field as u64),)*]
            }
        }
    };
}

limits! {
    /// Longest user key, bytes.
    key_len_bytes_max = KEY_LEN_BYTES_MAX,
    /// Longest string, bytes.
    string_len_bytes_max = STRING_LEN_BYTES_MAX,
    /// Longest byte string, bytes.
    bytes_len_bytes_max = BYTES_LEN_BYTES_MAX,
    /// Longest encoded value, bytes.
    value_len_bytes_max = VALUE_LEN_BYTES_MAX,
    /// Most elements of one array.
    array_count_max = ARRAY_COUNT_MAX,
    /// Most entries of one object.
    object_count_max = OBJECT_COUNT_MAX,
    /// Most values below the root of a value.
    node_count_max = NODE_COUNT_MAX,
    /// Deepest nesting, the root being at 0.
    depth_max = DEPTH_MAX,
    /// Longest JSON document, bytes encoded.
    document_len_bytes_max = DOCUMENT_LEN_BYTES_MAX,
    /// Deepest nesting of a JSON document.
    document_depth_max = DOCUMENT_DEPTH_MAX,
    /// Most segments of a JSON path.
    path_segment_count_max = PATH_SEGMENT_COUNT_MAX,
    /// Most elements of one array of a JSON document.
    document_array_count_max = DOCUMENT_ARRAY_COUNT_MAX,
    /// Highest dimension of a vector.
    vector_dimension_max = VECTOR_DIMENSION_MAX,
    /// Longest collection name, bytes.
    collection_name_len_bytes_max = COLLECTION_NAME_LEN_BYTES_MAX,
    /// Longest event type, bytes.
    event_type_len_bytes_max = EVENT_TYPE_LEN_BYTES_MAX,
    /// Longest run name, bytes.
    run_name_len_bytes_max = RUN_NAME_LEN_BYTES_MAX,
    /// Most mutations of one transaction.
    transaction_mutation_count_max = TRANSACTION_MUTATION_COUNT_MAX,
    /// Longest encoded writeset, bytes.
    transaction_len_bytes_max = TRANSACTION_LEN_BYTES_MAX,
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_pass_their_own_check() {
        assert_eq!(Limits::default().check(), Ok(()));
        assert!(
            Limits::DEFAULT
                .entries()
                .contains(&("key_len_bytes_max", 1024))
        );
    }

    #[test]
    fn a_limit_of_zero_or_above_its_default_is_refused_by_name() {
        let zero = Limits {
            depth_max: 0,
            ..Limits::DEFAULT
        };
        let above = Limits {
            key_len_bytes_max: KEY_LEN_BYTES_MAX + 1,
            ..Limits::DEFAULT
        };
        assert_eq!(zero.check().unwrap_err().name, "depth_max");
        assert_eq!(above.check().unwrap_err().name, "key_len_bytes_max");
    }
}
