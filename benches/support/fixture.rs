//! A database filled with the keys that the benches overwrite and read.
//!
//! All history is kept, so every put grows the database: a round works on a fixture of its own and
//! makes a bounded number of versions. Keys, values and their order are built before anything is
//! timed.

use std::path::Path;

use in_mem_engine::model::{self, Durability, EncodedValue, Value};
use in_mem_engine::{BeginRun, Database, DurabilityMode, Run};
use in_mem_wal::codec::{CodecKey, KEY_LEN_BYTES, needs_key};
use tempfile::TempDir;

/// Keys of a fixture, count.
pub(crate) const KEY_COUNT: usize = 10_000;

/// Encoded value, bytes: a string of 98.
pub(crate) const VALUE_LEN_BYTES: usize = 100;

/// Length of the random order of keys, count; a power of two.
const ORDER_COUNT: usize = 1 << 16;

/// A filled database.
pub(crate) struct Fixture {
    /// The open database.
    pub(crate) database: Database,
    /// A cached handle on its default run.
    pub(crate) run: Run,
    /// What every call reads or writes.
    pub(crate) data: Data,
    /// Removed behind the database.
    _place: Option<TempDir>,
}

/// Prebuilt keys and values.
pub(crate) struct Data {
    /// 16 bytes each.
    pub(crate) keys: Vec<Vec<u8>>,
    /// The value of every put.
    pub(crate) value: EncodedValue,
    order: Vec<usize>,
}

impl Data {
    /// Builds them.
    pub(crate) fn new() -> Self {
        let text = "x".repeat(VALUE_LEN_BYTES - 2);
        let value = model::encode(&Value::from(text.as_str())).expect("a string encodes");
        assert_eq!(
            value.as_bytes().len(),
            VALUE_LEN_BYTES,
            "a two-byte header and the text"
        );
        let keys = (0..KEY_COUNT)
            .map(|number| format!("key-{number:012}").into_bytes())
            .collect();
        let mut random = 0x9E37_79B9_7F4A_7C15_u64;
        let order = (0..ORDER_COUNT)
            .map(|_| {
                // xorshift64: a fixed seed gives every round the same order.
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                usize::try_from(random % KEY_COUNT as u64).unwrap_or(0)
            })
            .collect();
        Self { keys, value, order }
    }

    /// The key of a call, in sequence.
    pub(crate) fn key(&self, call: usize) -> &[u8] {
        self.keys.get(call % KEY_COUNT).map_or(&[], Vec::as_slice)
    }

    /// The key of a call, uniformly random.
    pub(crate) fn random_key(&self, call: usize) -> &[u8] {
        let at = self.order.get(call % ORDER_COUNT).copied().unwrap_or(0);
        self.key(at)
    }
}

impl Fixture {
    /// Without files.
    pub(crate) fn in_memory() -> Self {
        let database = Database::builder().in_memory().open().expect("opens");
        Self::filled(database, None)
    }

    /// In a directory of its own below `directory`.
    pub(crate) fn persistent(directory: &Path, mode: DurabilityMode) -> Self {
        Self::stored(directory, mode, "identity")
    }

    /// The same with another codec.
    pub(crate) fn stored(directory: &Path, mode: DurabilityMode, codec: &str) -> Self {
        let place = tempfile::tempdir_in(directory).expect("a directory");
        let builder = Database::builder().path(place.path().join("bench.inmem"));
        let builder = match needs_key(codec) {
            true => builder.key(CodecKey::from_bytes(&[7; KEY_LEN_BYTES])),
            false => builder,
        };
        let builder = builder.codec(codec);
        let database = builder.durability(mode).open().expect("opens");
        Self::filled(database, Some(place))
    }

    fn filled(database: Database, place: Option<TempDir>) -> Self {
        let run = database.default_run();
        let data = Data::new();
        let kv = match place {
            Some(_) => run.kv().with_durability(Durability::Buffered),
            None => run.kv(),
        };
        for key in &data.keys {
            kv.put(key, &data.value)
                .expect("the key and the value are valid");
        }
        database.flush().expect("flushes");
        Self {
            database,
            run,
            data,
            _place: place,
        }
    }

    /// Another run of the same database, with the same keys.
    pub(crate) fn another_run(&self) -> Run {
        let begun = self
            .database
            .runs()
            .begin_run(BeginRun::default())
            .expect("a run begins");
        let run = self.database.run(begun.0.id).expect("it was begun");
        for key in &self.data.keys {
            run.kv()
                .put(key, &self.data.value)
                .expect("the key and the value are valid");
        }
        run
    }
}
