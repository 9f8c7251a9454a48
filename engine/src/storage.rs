//! The store as the tests' reference model sees it: get, put, delete, list, apply.

use std::collections::BTreeMap;

use in_mem_model::{EncodedValue, RunId};

use crate::database::Database;
use crate::errors::CommitError;
use crate::index::KeyRef;
use crate::kv::{KeyValue, Kv};
use crate::program::{CommitOptions, Program, Step};
use crate::view::Versioned;

/// Writes to KV keys of one run, applied as one commit. No value means delete.
#[derive(Debug, Clone, PartialEq)]
pub struct WriteSet {
    /// The run.
    pub run: RunId,
    /// What each user key becomes.
    pub writes: BTreeMap<Vec<u8>, Option<EncodedValue>>,
}

impl WriteSet {
    /// Nothing to write yet.
    #[must_use]
    pub fn new(run: RunId) -> Self {
        Self {
            run,
            writes: BTreeMap::new(),
        }
    }
}

/// A store of KV keys by run. A missing run reads as empty.
pub trait Storage: Send + Sync {
    /// The newest published value.
    fn get(&self, run: RunId, key: &[u8]) -> Option<Versioned>;

    /// Writes one value and returns its version.
    ///
    /// # Errors
    /// As any commit.
    fn put(&self, run: RunId, key: &[u8], value: &EncodedValue) -> Result<u64, CommitError>;

    /// Deletes one key and returns the value it had.
    ///
    /// # Errors
    /// As any commit.
    fn delete(&self, run: RunId, key: &[u8]) -> Result<Option<Vec<u8>>, CommitError>;

    /// Live keys that begin with `prefix`, with their values, sorted by key.
    fn list(&self, run: RunId, prefix: &[u8]) -> Vec<KeyValue>;

    /// Applies a write set as one commit and returns its version; 0 when it changed nothing.
    ///
    /// # Errors
    /// As any commit.
    fn apply(&self, write_set: &WriteSet) -> Result<u64, CommitError>;
}

impl Storage for Database {
    fn get(&self, run: RunId, key: &[u8]) -> Option<Versioned> {
        self.run(run).ok()?.read_view().get(KeyRef::kv(key))
    }

    fn put(&self, run: RunId, key: &[u8], value: &EncodedValue) -> Result<u64, CommitError> {
        let run = self.run(run)?;
        Kv::new(&run).put(key, value)
    }

    fn delete(&self, run: RunId, key: &[u8]) -> Result<Option<Vec<u8>>, CommitError> {
        let run = self.run(run)?;
        Kv::new(&run).get_and_delete(key)
    }

    fn list(&self, run: RunId, prefix: &[u8]) -> Vec<KeyValue> {
        let Ok(run) = self.run(run) else {
            return Vec::new();
        };
        Kv::new(&run).list_with_values(prefix).unwrap_or_default()
    }

    fn apply(&self, write_set: &WriteSet) -> Result<u64, CommitError> {
        self.apply_with_options(write_set, CommitOptions::default())
    }
}

impl Database {
    /// Every live KV entry of every run, sorted by run and key. Each run is read at a view of its
    /// own; what is returned is copied whole.
    #[must_use]
    pub fn list_all(&self) -> Vec<(RunId, KeyValue)> {
        let mut ids = self.store().run_ids();
        ids.sort_unstable();
        let listed = ids.into_iter().flat_map(|id| {
            let entries = Storage::list(self, id, b"");
            entries.into_iter().map(move |entry| (id, entry))
        });
        listed.collect()
    }

    pub(crate) fn apply_with_durability(
        &self,
        write_set: &WriteSet,
        durability: in_mem_model::Durability,
    ) -> Result<u64, CommitError> {
        self.apply_with_options(
            write_set,
            CommitOptions {
                durability: Some(durability),
            },
        )
    }

    fn apply_with_options(
        &self,
        write_set: &WriteSet,
        options: CommitOptions,
    ) -> Result<u64, CommitError> {
        let run = self.run(write_set.run)?;
        let steps: Vec<Step<'_>> = write_set
            .writes
            .iter()
            .map(|(key, value)| match value {
                Some(value) => Step::Put {
                    key,
                    value: value.as_ref(),
                },
                None => Step::Delete { key },
            })
            .collect();
        Ok(run
            .commit(
                &Program {
                    checks: &[],
                    steps: &steps,
                },
                options,
            )?
            .version)
    }
}
