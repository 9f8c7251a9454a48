//! The results about the retention policy of a run as maps.

use super::Fault;
use super::form::{
    Message, Object, Optional, Presence, Required, Unsigned, Words, key, map, message, once,
    unknown_key,
};
use super::reader::Reader;
use super::writer::Writer;
use crate::response::retention::{OwnPolicy, Retention, RetentionStats};

message!(OwnPolicy<'a> {
    "policy" policy: Required<Words>,
    "version" version: Required<Unsigned>,
    "timestamp_us" timestamp_us: Required<Unsigned>,
});
message!(Retention<'a> {
    "own" own: Optional<Object>,
    "effective" effective: Required<Words>,
});
message!(RetentionStats<'a> {
    "policy" policy: Required<Words>,
    "watermark" watermark: Required<Unsigned>,
    "now_us" now_us: Required<Unsigned>,
    "entity_count" entity_count: Required<Unsigned>,
    "version_count" version_count: Required<Unsigned>,
    "tombstone_count" tombstone_count: Required<Unsigned>,
    "value_len_bytes" value_len_bytes: Required<Unsigned>,
    "removable_count" removable_count: Required<Unsigned>,
    "removable_len_bytes" removable_len_bytes: Required<Unsigned>,
});
