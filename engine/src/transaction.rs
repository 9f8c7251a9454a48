//! An explicit transaction: a view, what was read through it, and what is to be written.
//!
//! A context is bound to one run at begin and assigns nothing until it commits: reads are recorded
//! with the commit version seen, writes are kept aside, and the commit validates the one and
//! applies the other in one step. Listings see the transaction's own writes and are not tracked;
//! history reads see the view alone. Contexts are pooled per thread, see `pool.rs`.

use std::sync::Arc;

use in_mem_model::keys::validate_user_key;
use in_mem_model::{
    Durability, RunId, RunInfo, ValueRef, ValueType, Version, as_int, encode_int, encoded_equal,
    type_of,
};

use crate::errors::{CommitError, ReadError};
use crate::expiry::Lifetime;
use crate::index::KeyRef;
use crate::keyed_set::KeyedSet;
use crate::once::OnceRequest;
use crate::pins::Pin;
use crate::program::{Actual, CommitOptions, Completion, Expected, Outcome, Submitted};
use crate::run::Run;
use crate::run_change::RunChange;
use crate::savepoints::Savepoints;
use crate::transaction_memory::change_cost;
use crate::version_node::{Node, VersionNode, VersionedRef};
use crate::view::{HistoryEntry, HistoryPage, Versioned, get_with};

/// Where a context stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionStatus {
    /// Takes operations.
    Active,
    /// Its commit has been submitted.
    Committed,
    /// Rolled back, or its commit was refused.
    Aborted,
}

/// How a transaction is to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TransactionOptions {
    /// Writes are refused.
    pub read_only: bool,
    /// Refused at the next use after this long, milliseconds; 0 means never.
    pub timeout_ms: u64,
    /// Instead of the database's default.
    pub durability: Option<Durability>,
}

/// What is known of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransactionInfo {
    /// The run it is bound to.
    pub run: RunId,
    /// The version its view sees up to.
    pub start_version: u64,
    /// Where it stands.
    pub status: TransactionStatus,
    /// When it was begun, microseconds since the epoch.
    pub started_at_us: u64,
    /// Operations so far, count.
    pub operation_count: u64,
}

/// One transaction on one run.
pub struct TransactionContext {
    /// The run; none in the pool, so that a pooled context keeps nothing alive.
    pub(crate) run: Option<Run>,
    /// Keeps what its view sees; none in the pool.
    pub(crate) pin: Option<Pin>,
    pub(crate) run_id: RunId,
    pub(crate) start_version: u64,
    /// The commit version seen of each key that was read; 0 for one that never existed.
    pub(crate) read_set: KeyedSet<u64>,
    pub(crate) write_set: KeyedSet<Write>,
    pub(crate) run_change: Option<RunChange>,
    pub(crate) savepoints: Savepoints,
    pub(crate) status: TransactionStatus,
    pub(crate) options: TransactionOptions,
    pub(crate) started_at_us: u64,
    /// On the monotonic clock, microseconds; only with a timeout.
    pub(crate) begun_at_us: u64,
    pub(crate) operation_count: u64,
    /// Encoded value bytes kept aside.
    pub(crate) written_len_bytes: usize,
    /// What it has of the memory account, bytes; 0 without a limit.
    pub(crate) held_len_bytes: u64,
}

/// What becomes of one key.
pub(crate) struct Write {
    /// The version to install; none deletes, unless the commit has taken it.
    pub(crate) node: Option<Node>,
    pub(crate) is_delete: bool,
    /// What the key must be at commit, all of it.
    pub(crate) expected: [Option<Expected>; 2],
    /// How long it lives; none for ever.
    pub(crate) lifetime: Option<Lifetime>,
}

impl TransactionContext {
    pub(crate) fn empty() -> Self {
        Self {
            run: None,
            pin: None,
            run_id: RunId::DEFAULT,
            start_version: 0,
            read_set: KeyedSet::default(),
            write_set: KeyedSet::default(),
            run_change: None,
            savepoints: Savepoints::default(),
            status: TransactionStatus::Aborted,
            options: TransactionOptions::default(),
            started_at_us: 0,
            begun_at_us: 0,
            operation_count: 0,
            written_len_bytes: 0,
            held_len_bytes: 0,
        }
    }

    /// A context of its own, outside the pool.
    pub(crate) fn begin(run: &Run) -> Self {
        let mut context = Self::empty();
        context.reset(run, TransactionOptions::default());
        context
    }

    /// Binds the context to a run, a view and a version, and clears everything else; the sets keep
    /// their memory.
    pub(crate) fn reset(&mut self, run: &Run, options: TransactionOptions) {
        self.clear();
        self.run_id = run.id();
        // Before the version is read, so that nothing of that version is trimmed.
        self.pin = Some(Pin::new(Arc::clone(&run.shard)));
        self.start_version = run.visible_version();
        self.started_at_us = run.inner.shared.now.current_us();
        // Without a timeout no clock is read: beginning is on the hot path.
        self.begun_at_us = match options.timeout_ms {
            0 => 0,
            _ => run.inner.shared.clock.monotonic_us(),
        };
        self.run = Some(run.clone());
        self.options = options;
        self.status = TransactionStatus::Active;
    }

    /// Forgets everything, the run included; the sets keep their memory.
    pub(crate) fn clear(&mut self) {
        self.let_go_of_all();
        self.run = None;
        self.pin = None;
        self.read_set.clear();
        self.write_set.clear();
        self.run_change = None;
        self.savepoints.clear();
        self.status = TransactionStatus::Aborted;
        self.operation_count = 0;
        self.written_len_bytes = 0;
    }

    /// Entries the sets hold without allocating, count.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.read_set.capacity() + self.write_set.capacity()
    }

    /// True while it takes operations.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.status == TransactionStatus::Active
    }

    /// What is known of it.
    #[must_use]
    pub fn info(&self) -> TransactionInfo {
        TransactionInfo {
            run: self.run_id,
            start_version: self.start_version,
            status: self.status,
            started_at_us: self.started_at_us,
            operation_count: self.operation_count,
        }
    }

    /// Refuses a run the transaction is not bound to.
    ///
    /// # Errors
    /// `CrossRunWrite`.
    pub fn check_run(&self, run: RunId) -> Result<(), CommitError> {
        if run == self.run_id {
            return Ok(());
        }
        Err(CommitError::CrossRunWrite {
            run: self.run_id,
            other: run,
        })
    }

    /// The live value: the transaction's own, or what its view sees.
    ///
    /// # Errors
    /// When the key is not allowed or the transaction is over.
    pub fn get(&mut self, key: &[u8]) -> Result<Option<Versioned>, ReadError> {
        self.get_with(key, |found| found.map(Versioned::from))
    }

    /// Calls `read` with the live value, as [`Self::get`] finds it; copies nothing.
    fn get_with<R>(
        &mut self,
        key: &[u8],
        read: impl FnOnce(Option<VersionedRef<'_>>) -> R,
    ) -> Result<R, ReadError> {
        self.begin_read(key)?;
        if let Some(write) = self.write_set.get(key) {
            let own = write.node.as_ref().filter(|_| !write.is_delete);
            return Ok(read(own.map(VersionNode::versioned)));
        }
        let now_us = self.started_at_us;
        let run = self.run()?;
        let (version, found) =
            run.shard
                .index
                .with_version(KeyRef::kv(key), self.start_version, |node| {
                    let live = node.filter(|node| node.is_live(now_us));
                    let version = node.map_or(0, VersionNode::commit_version);
                    (version, read(live.map(VersionNode::versioned)))
                });
        self.record_read(key, version)?;
        Ok(found)
    }

    /// The live values of `keys`, in order.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn get_many(&mut self, keys: &[&[u8]]) -> Result<Vec<Option<Versioned>>, ReadError> {
        keys.iter().map(|key| self.get(key)).collect()
    }

    /// True when the key has a live value.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn contains(&mut self, key: &[u8]) -> Result<bool, ReadError> {
        self.get_with(key, |found| found.is_some())
    }

    /// How many of `keys` have a live value.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn exists_many(&mut self, keys: &[&[u8]]) -> Result<usize, ReadError> {
        let mut count = 0;
        for key in keys {
            count += usize::from(self.contains(key)?);
        }
        Ok(count)
    }

    /// Length of the live value that [`Self::get`] would copy, bytes; 0 without one. Not a read:
    /// nothing is recorded.
    #[must_use]
    pub fn value_len_bytes(&self, key: &[u8]) -> usize {
        if let Some(write) = self.write_set.get(key) {
            let own = write.node.as_ref().filter(|_| !write.is_delete);
            return own.map_or(0, |node| node.value().len());
        }
        let Some(run) = &self.run else { return 0 };
        let (bound, now_us) = (self.start_version, self.started_at_us);
        get_with(&run.shard, bound, now_us, KeyRef::kv(key), |found| {
            found.map_or(0, |found| found.value.len())
        })
    }

    /// Writes a value.
    ///
    /// # Errors
    /// When the key is not allowed, or the transaction takes no writes; `MemoryFull` where memory is
    /// at its limit, and the transaction goes on without this write.
    pub fn put(&mut self, key: &[u8], value: ValueRef<'_>) -> Result<(), CommitError> {
        self.write_value(key, value, None, None)
    }

    /// Writes several values.
    ///
    /// # Errors
    /// As [`Self::put`]; nothing is written then.
    pub fn put_many(&mut self, entries: &[(&[u8], ValueRef<'_>)]) -> Result<(), CommitError> {
        for (key, _) in entries {
            validate_user_key(key)?;
        }
        entries
            .iter()
            .try_for_each(|(key, value)| self.put(key, *value))
    }

    /// Deletes the key; false when there is nothing to delete.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub fn delete(&mut self, key: &[u8]) -> Result<bool, CommitError> {
        self.begin_write(key)?;
        let existed = self.contains(key).map_err(read_failed)?;
        // Recorded either way: whether a tombstone is needed is decided at the commit.
        self.record_write(key, None, None);
        Ok(existed)
    }

    /// Deletes several keys and returns how many existed.
    ///
    /// # Errors
    /// As [`Self::put`]; nothing is deleted then.
    pub fn delete_many(&mut self, keys: &[&[u8]]) -> Result<usize, CommitError> {
        for key in keys {
            validate_user_key(key)?;
        }
        let mut count = 0;
        for key in keys {
            count += usize::from(self.delete(key)?);
        }
        Ok(count)
    }

    /// Adds to an Int and returns the sum; a missing key counts from 0. When it expires stays as it
    /// is.
    ///
    /// # Errors
    /// `WrongType`, `Overflow`, and as [`Self::put`].
    pub fn increment(&mut self, key: &[u8], delta: i64) -> Result<i64, CommitError> {
        self.begin_write(key)?;
        let found = self.get(key).map_err(read_failed)?;
        let lifetime = match self.write_set.get(key) {
            Some(own) => own.lifetime,
            None => found
                .as_ref()
                .and_then(|found| found.expires_at_us)
                .map(Lifetime::Until),
        };
        let value = match found {
            None => 0,
            Some(found) => as_int(&found.value).ok_or_else(|| CommitError::WrongType {
                expected: ValueType::Int.name(),
                actual: type_of(&found.value).map_or("Unknown", ValueType::name),
            })?,
        };
        let overflow = CommitError::Overflow {
            operation: "incr",
            value,
        };
        let sum = value.checked_add(delta).ok_or(overflow)?;
        let mut room = [0; 9];
        let encoded = encode_int(sum, &mut room);
        self.write_value(key, ValueRef::new(encoded)?, None, lifetime)?;
        Ok(sum)
    }

    /// Writes if the key's newest version at commit is as expected; else the commit is a conflict.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub fn cas_version(
        &mut self,
        key: &[u8],
        expected: Expected,
        value: ValueRef<'_>,
    ) -> Result<(), CommitError> {
        self.write_value(key, value, Some(expected), None)
    }

    /// Writes if the value is as expected, now and at commit. Answers with what was found if not.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub fn cas_value(
        &mut self,
        key: &[u8],
        expected: Option<ValueRef<'_>>,
        value: ValueRef<'_>,
    ) -> Result<Result<(), Actual>, CommitError> {
        self.begin_write(key)?;
        let found = self.get(key).map_err(read_failed)?;
        let is_equal = match (expected, &found) {
            (None, None) => true,
            (Some(expected), Some(found)) => encoded_equal(expected.as_bytes(), &found.value),
            _ => false,
        };
        if !is_equal {
            let version = self.seen_version(key, found.as_ref());
            return Ok(Err(Actual {
                version,
                is_absent: found.is_none(),
            }));
        }
        self.put(key, value).map(Ok)
    }

    /// Writes if there is no live value; false when there is one.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub fn put_if_absent(&mut self, key: &[u8], value: ValueRef<'_>) -> Result<bool, CommitError> {
        Ok(self.cas_value(key, None, value)?.is_ok())
    }

    /// Writes and returns the encoded value there was before.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub fn get_and_set(
        &mut self,
        key: &[u8],
        value: ValueRef<'_>,
    ) -> Result<Option<Vec<u8>>, CommitError> {
        self.begin_write(key)?;
        let before = self.get(key).map_err(read_failed)?;
        self.put(key, value)?;
        Ok(before.map(|found| found.value))
    }

    /// Deletes and returns the encoded value there was before.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub fn get_and_delete(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, CommitError> {
        self.begin_write(key)?;
        let before = self.get(key).map_err(read_failed)?;
        self.record_write(key, None, None);
        Ok(before.map(|found| found.value))
    }

    /// The newest version at or below `version`, at the view; without the transaction's writes.
    ///
    /// # Errors
    /// `WrongType` when the version is not a commit version.
    pub fn get_at(
        &mut self,
        key: &[u8],
        version: Version,
    ) -> Result<Option<HistoryEntry>, ReadError> {
        self.begin_read(key)?;
        crate::kv::get_at(&self.view()?, key, version)
    }

    /// Versions of a key, newest first, at the view; without the transaction's writes.
    ///
    /// # Errors
    /// As [`Self::get`]; `HistoryTrimmed` when everything below `before` was trimmed.
    pub fn history(
        &mut self,
        key: &[u8],
        limit: usize,
        before: Option<u64>,
    ) -> Result<Vec<HistoryEntry>, ReadError> {
        self.begin_read(key)?;
        self.view()?.history(KeyRef::kv(key), limit, before)
    }

    /// One page of [`Self::history`], bounded in bytes as well; see [`ReadView::history_page`].
    ///
    /// # Errors
    /// As [`Self::history`].
    ///
    /// [`ReadView::history_page`]: crate::ReadView::history_page
    pub fn history_page(
        &mut self,
        key: &[u8],
        limit: usize,
        before: Option<u64>,
        len_bytes_max: usize,
    ) -> Result<HistoryPage, ReadError> {
        self.begin_read(key)?;
        let key = KeyRef::kv(key);
        self.view()?.history_page(key, limit, before, len_bytes_max)
    }

    /// The newest version at the view, a tombstone's too; without the transaction's writes.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn latest_version(&mut self, key: &[u8]) -> Result<Option<Version>, ReadError> {
        self.begin_read(key)?;
        let version = self.view()?.version_of(KeyRef::kv(key));
        Ok((version != 0).then_some(Version::Txn(version)))
    }

    /// Changes the run itself when the transaction commits.
    ///
    /// # Errors
    /// When a change was asked for already, or the transaction takes no writes.
    pub fn change_run(&mut self, change: RunChange) -> Result<(), CommitError> {
        self.check_writable()?;
        if matches!(change, RunChange::Begin(_)) || self.run_change.is_some() {
            return Err(CommitError::InvalidArgument {
                what: "one change of an existing run",
            });
        }
        if change.grows_data() {
            self.check_growth(change.text_len_bytes())?;
        }
        self.hold(change_cost(&change));
        self.run_change = Some(change);
        self.operation_count += 1;
        Ok(())
    }

    /// The metadata of the run, at the view; without a change the transaction is about to make.
    ///
    /// # Errors
    /// When the transaction is over.
    pub fn run_info(&mut self) -> Result<RunInfo, ReadError> {
        let run = self.run()?;
        let info = crate::runs::info_at(&run.shard, self.start_version);
        self.operation_count += 1;
        info.ok_or(ReadError::RunNotFound { run: self.run_id })
    }

    /// Forgets everything that was to be written. Writes nothing to the log.
    pub fn rollback(&mut self) {
        self.clear();
    }

    /// Commits and waits until the promise is met.
    ///
    /// # Errors
    /// `Conflict` when something read has changed; the transaction is over in any case.
    pub fn commit(&mut self) -> Result<Outcome, CommitError> {
        let (run, options) = self.begin_commit()?;
        let outcome = match self.read_only_outcome() {
            Some(outcome) => Ok(outcome),
            None => run.inner.commit(&run.shard, self, options, None),
        };
        self.finish_commit(outcome.is_ok());
        outcome
    }

    /// Commits without waiting: for a reactor. After [`Submitted::Busy`] the transaction is as it
    /// was and can be submitted again; in any other case it is over.
    pub fn submit(&mut self, completion: &Completion) -> Submitted {
        self.submit_as(None, completion)
    }

    /// The same for an exactly-once request, if it is one; see [`Run::submit_as`].
    pub fn submit_as(&mut self, once: Option<&OnceRequest>, completion: &Completion) -> Submitted {
        let (run, options) = match self.begin_commit() {
            Ok(begun) => begun,
            Err(error) => return Submitted::Done(Err(error)),
        };
        let submitted = match self.read_only_outcome() {
            Some(outcome) => Submitted::Done(Ok(outcome)),
            None => run
                .inner
                .submit(&run.shard, self, options, once, completion, false),
        };
        match &submitted {
            Submitted::Busy => {}
            Submitted::Pending => self.finish_commit(true),
            Submitted::Done(answer) => self.finish_commit(answer.is_ok()),
        }
        submitted
    }

    fn begin_commit(&self) -> Result<(Run, CommitOptions), CommitError> {
        self.check_active()?;
        let run = self.run.clone().ok_or(CommitError::TransactionNotActive)?;
        Ok((
            run,
            CommitOptions {
                durability: self.options.durability,
            },
        ))
    }

    /// A transaction that writes nothing always commits: no validation, no version, no record.
    fn read_only_outcome(&self) -> Option<Outcome> {
        (self.write_set.is_empty() && self.run_change.is_none()).then(Outcome::nothing)
    }

    fn finish_commit(&mut self, is_committed: bool) {
        self.clear();
        if is_committed {
            self.status = TransactionStatus::Committed;
        }
    }
}

fn read_failed(error: ReadError) -> CommitError {
    match error {
        ReadError::InvalidKey(error) => error.into(),
        ReadError::RunNotFound { run } => CommitError::RunNotFound { run },
        ReadError::TransactionTooLarge {
            read_count,
            len_bytes,
        } => CommitError::TransactionTooLarge {
            mutation_count: read_count,
            len_bytes,
        },
        _ => CommitError::TransactionNotActive,
    }
}
