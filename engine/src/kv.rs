//! The KV primitive: a stateless facade over the engine.
//!
//! Every operation is one transaction of its own, with the durability of the facade. Contended
//! ones (`incr`, the compare-and-swaps) are decided in the commit step of the run: they lose no
//! update and never surface a conflict by themselves.

use std::time::Duration;

use in_mem_model::keys::{validate_prefix, validate_user_key};
use in_mem_model::{Durability, EncodedValue, TypeTag, Version};

use crate::errors::{CommitError, ReadError};
use crate::expiry::Lifetime;
use crate::index::KeyRef;
use crate::limits::{HISTORY_COUNT_MAX, LIST_STEP_KEY_COUNT_MAX};
use crate::program::{
    Actual, CommitOptions, Expected, Outcome, Program, Step, StepOutcome, StepOutcomes,
};
use crate::run::Run;
use crate::transaction::TransactionContext;
use crate::version_node::VersionedRef;
use crate::view::{HistoryEntry, ListItem, ListRequest, ReadView, Versioned};

/// The KV operations on one run.
#[derive(Clone, Copy)]
pub struct Kv<'a> {
    run: &'a Run,
    options: CommitOptions,
}

/// What a compare-and-swap came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CasOutcome {
    /// Written, with this version.
    Written(u64),
    /// The expectation did not hold; nothing was written.
    Mismatch(Actual),
}

/// A user key and its encoded value.
pub type KeyValue = (Vec<u8>, Vec<u8>);

/// One page of a scan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Live keys in order, with values.
    pub items: Vec<ListItem>,
    /// What to give to the next call; the last key looked at.
    pub cursor: Option<Vec<u8>>,
    /// True when there may be more.
    pub has_more: bool,
}

impl<'a> Kv<'a> {
    pub(crate) fn new(run: &'a Run) -> Self {
        Self {
            run,
            options: CommitOptions::default(),
        }
    }

    /// The same operations with another durability than the database's default.
    #[must_use]
    pub fn with_durability(self, durability: Durability) -> Self {
        Self {
            options: CommitOptions {
                durability: Some(durability),
            },
            ..self
        }
    }

    /// Writes a value; a new version even if it is equal.
    ///
    /// # Errors
    /// As any commit.
    pub fn put(&self, key: impl AsRef<[u8]>, value: &EncodedValue) -> Result<u64, CommitError> {
        self.one(Step::Put {
            key: key.as_ref(),
            value: value.as_ref(),
        })
        .map(|done| done.version)
    }

    /// Writes a value that expires `time_to_live` after the timestamp of its commit, whole
    /// microseconds, at most [`TTL_US_MAX`](crate::TTL_US_MAX) of them. From that moment it reads as
    /// absent, in this process and after every restart; a clock that is set back shows it again. Its
    /// version stays the newest of the key, like that of a tombstone: a compare-and-swap may expect
    /// that version, or absence. Whatever writes the key anew without saying how long it lives makes
    /// an entry that stays; only [`Self::incr`] and [`Self::decr`] leave the expiry as it is.
    ///
    /// # Errors
    /// `InvalidArgument` for a time to live outside the range; as any commit.
    pub fn put_with_ttl(
        &self,
        key: impl AsRef<[u8]>,
        value: &EncodedValue,
        time_to_live: Duration,
    ) -> Result<u64, CommitError> {
        self.one(Step::PutExpiring {
            key: key.as_ref(),
            value: value.as_ref(),
            lifetime: Lifetime::of(time_to_live)?,
        })
        .map(|done| done.version)
    }

    /// Writes several values as one commit, all or none.
    ///
    /// # Errors
    /// As any commit.
    pub fn put_many(&self, entries: &[(&[u8], &EncodedValue)]) -> Result<u64, CommitError> {
        let steps: Vec<Step<'_>> = entries
            .iter()
            .map(|&(key, value)| Step::Put {
                key,
                value: value.as_ref(),
            })
            .collect();
        self.commit(&steps).map(|done| done.version)
    }

    /// The live value.
    ///
    /// # Errors
    /// When the key is not allowed.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>, ReadError> {
        self.get_with(key, |found| found.map(|found| found.value.to_vec()))
    }

    /// The live value, copied into `target`, which is emptied first; false when there is none.
    /// Allocates nothing when `target` is large enough.
    ///
    /// # Errors
    /// When the key is not allowed.
    pub fn get_into(&self, key: impl AsRef<[u8]>, target: &mut Vec<u8>) -> Result<bool, ReadError> {
        target.clear();
        self.get_with(key, |found| {
            if let Some(found) = found {
                target.extend_from_slice(found.value);
            }
            found.is_some()
        })
    }

    /// Calls `read` with the live version, borrowed.
    ///
    /// # Errors
    /// When the key is not allowed.
    pub fn get_with<R>(
        &self,
        key: impl AsRef<[u8]>,
        read: impl FnOnce(Option<VersionedRef<'_>>) -> R,
    ) -> Result<R, ReadError> {
        let key = key.as_ref();
        validate_user_key(key)?;
        Ok(self.run.get_with(KeyRef::kv(key), read))
    }

    /// The live value with its version and time.
    ///
    /// # Errors
    /// When the key is not allowed.
    pub fn get_versioned(&self, key: impl AsRef<[u8]>) -> Result<Option<Versioned>, ReadError> {
        self.get_with(key, |found| found.map(Versioned::from))
    }

    /// The live values in the order of `keys`, all at one view.
    ///
    /// # Errors
    /// When a key is not allowed.
    pub fn get_many(&self, keys: &[&[u8]]) -> Result<Vec<Option<Versioned>>, ReadError> {
        get_many(&self.run.read_view(), keys)
    }

    /// True when the key has a live value.
    ///
    /// # Errors
    /// When the key is not allowed.
    pub fn contains(&self, key: impl AsRef<[u8]>) -> Result<bool, ReadError> {
        self.get_with(key, |found| found.is_some())
    }

    /// The same as [`Self::contains`].
    ///
    /// # Errors
    /// When the key is not allowed.
    pub fn exists(&self, key: impl AsRef<[u8]>) -> Result<bool, ReadError> {
        self.contains(key)
    }

    /// How many of `keys` have a live value, at one view.
    ///
    /// # Errors
    /// When a key is not allowed.
    pub fn exists_many(&self, keys: &[&[u8]]) -> Result<usize, ReadError> {
        Ok(self.get_many(keys)?.iter().flatten().count())
    }

    /// Deletes the key; false when there was nothing to delete.
    ///
    /// # Errors
    /// As any commit.
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Result<bool, CommitError> {
        let done = self.one(Step::Delete { key: key.as_ref() })?;
        Ok(matches!(first(&done), Some(StepOutcome::Deleted(true))))
    }

    /// Deletes several keys as one commit and returns how many existed.
    ///
    /// # Errors
    /// As any commit.
    pub fn delete_many(&self, keys: &[&[u8]]) -> Result<usize, CommitError> {
        let steps: Vec<Step<'_>> = keys.iter().map(|&key| Step::Delete { key }).collect();
        let done = self.commit(&steps)?;
        let existed = |outcome: &&StepOutcome| **outcome == StepOutcome::Deleted(true);
        Ok(done.steps.as_slice().iter().filter(existed).count())
    }

    /// Adds to an Int and returns the sum; a missing key counts from 0. When it expires stays as it
    /// is.
    ///
    /// # Errors
    /// `WrongType` when the value is no Int, `Overflow` when the sum leaves the range of i64.
    pub fn incr(&self, key: impl AsRef<[u8]>, delta: i64) -> Result<i64, CommitError> {
        self.one(Step::Increment {
            key: key.as_ref(),
            delta,
        })
        .and_then(|done| computed(&done))
    }

    /// Subtracts from an Int and returns the difference.
    ///
    /// # Errors
    /// As [`Self::incr`].
    pub fn decr(&self, key: impl AsRef<[u8]>, delta: i64) -> Result<i64, CommitError> {
        self.one(Step::Decrement {
            key: key.as_ref(),
            delta,
        })
        .and_then(|done| computed(&done))
    }

    /// Writes if the newest version is as expected.
    ///
    /// # Errors
    /// As any commit; a mismatch is no error.
    pub fn cas_version(
        &self,
        key: impl AsRef<[u8]>,
        expected: Expected,
        value: &EncodedValue,
    ) -> Result<CasOutcome, CommitError> {
        let step = Step::CasVersion {
            key: key.as_ref(),
            expected,
            value: value.as_ref(),
        };
        self.one(step).map(|done| cas_outcome(&done))
    }

    /// Writes if the newest value equals `expected`; `None` expects no value.
    ///
    /// # Errors
    /// As any commit; a mismatch is no error.
    pub fn cas_value(
        &self,
        key: impl AsRef<[u8]>,
        expected: Option<&EncodedValue>,
        value: &EncodedValue,
    ) -> Result<CasOutcome, CommitError> {
        let expected = expected.map(EncodedValue::as_ref);
        let step = Step::CasValue {
            key: key.as_ref(),
            expected,
            value: value.as_ref(),
        };
        self.one(step).map(|done| cas_outcome(&done))
    }

    /// Writes if there is no live value; returns the version, or none when there was one.
    ///
    /// # Errors
    /// As any commit.
    pub fn put_if_absent(
        &self,
        key: impl AsRef<[u8]>,
        value: &EncodedValue,
    ) -> Result<Option<u64>, CommitError> {
        let done = self.one(Step::PutIfAbsent {
            key: key.as_ref(),
            value: value.as_ref(),
        })?;
        Ok((done.version != 0).then_some(done.version))
    }

    /// Writes and returns the encoded value there was before.
    ///
    /// # Errors
    /// As any commit.
    pub fn get_and_set(
        &self,
        key: impl AsRef<[u8]>,
        value: &EncodedValue,
    ) -> Result<Option<Vec<u8>>, CommitError> {
        self.one(Step::GetAndSet {
            key: key.as_ref(),
            value: value.as_ref(),
        })
        .map(previous)
    }

    /// Deletes and returns the encoded value there was before.
    ///
    /// # Errors
    /// As any commit.
    pub fn get_and_delete(&self, key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>, CommitError> {
        self.one(Step::GetAndDelete { key: key.as_ref() })
            .map(previous)
    }

    /// Live keys that begin with `prefix`, sorted.
    ///
    /// # Errors
    /// When the prefix is not allowed.
    pub fn list(&self, prefix: impl AsRef<[u8]>) -> Result<Vec<Vec<u8>>, ReadError> {
        let items = list_all(&self.run.read_view(), prefix.as_ref(), false)?;
        Ok(items.into_iter().map(|item| item.key).collect())
    }

    /// Live keys that begin with `prefix`, with their encoded values, sorted.
    ///
    /// # Errors
    /// When the prefix is not allowed.
    pub fn list_with_values(&self, prefix: impl AsRef<[u8]>) -> Result<Vec<KeyValue>, ReadError> {
        let items = list_all(&self.run.read_view(), prefix.as_ref(), true)?;
        Ok(items
            .into_iter()
            .map(|item| (item.key, item.value.unwrap_or_default()))
            .collect())
    }

    /// One page of live keys with values: those that begin with `prefix`, at or after `start`,
    /// behind `cursor`.
    ///
    /// # Errors
    /// When the prefix is not allowed or the limit is 0.
    pub fn scan(
        &self,
        prefix: impl AsRef<[u8]>,
        start: Option<&[u8]>,
        limit: usize,
        cursor: Option<&[u8]>,
    ) -> Result<Page, ReadError> {
        let request = ListRequest {
            prefix: prefix.as_ref(),
            after: cursor,
            start: start.unwrap_or(&[]),
            limit,
            with_values: true,
        };
        scan(&self.run.read_view(), &request)
    }

    /// Live keys that begin with `prefix`, count.
    ///
    /// # Errors
    /// When the prefix is not allowed.
    pub fn count(&self, prefix: impl AsRef<[u8]>) -> Result<usize, ReadError> {
        count(&self.run.read_view(), prefix.as_ref())
    }

    /// The newest version at or below `version`; none before the key's creation. A deletion is an
    /// entry without a value.
    ///
    /// # Errors
    /// `WrongType` when the version is not a commit version; `HistoryTrimmed` when it is below what
    /// is kept of the key.
    pub fn get_at(
        &self,
        key: impl AsRef<[u8]>,
        version: Version,
    ) -> Result<Option<HistoryEntry>, ReadError> {
        get_at(&self.run.read_view(), key.as_ref(), version)
    }

    /// Versions of a key, newest first, below `before` if given.
    ///
    /// # Errors
    /// When the key is not allowed; `HistoryTrimmed` when everything below `before` was trimmed.
    pub fn history(
        &self,
        key: impl AsRef<[u8]>,
        limit: Option<usize>,
        before: Option<u64>,
    ) -> Result<Vec<HistoryEntry>, ReadError> {
        let key = key.as_ref();
        validate_user_key(key)?;
        let limit = limit.unwrap_or(HISTORY_COUNT_MAX);
        self.run.read_view().history(KeyRef::kv(key), limit, before)
    }

    /// The newest published version, a tombstone's too; none when the key never existed.
    ///
    /// # Errors
    /// When the key is not allowed.
    pub fn latest_version(&self, key: impl AsRef<[u8]>) -> Result<Option<Version>, ReadError> {
        let key = key.as_ref();
        validate_user_key(key)?;
        let version = self.run.read_view().version_of(KeyRef::kv(key));
        Ok((version != 0).then_some(Version::Txn(version)))
    }

    /// The slow way to [`Self::get`], for tests that compare the two.
    ///
    /// # Errors
    /// When the key is not allowed.
    #[doc(hidden)]
    pub fn get_with_transaction(
        &self,
        key: impl AsRef<[u8]>,
    ) -> Result<Option<Versioned>, ReadError> {
        let mut context = TransactionContext::begin(self.run);
        context.get(key.as_ref())
    }

    fn one(&self, step: Step<'_>) -> Result<Outcome, CommitError> {
        self.commit(std::slice::from_ref(&step))
    }

    fn commit(&self, steps: &[Step<'_>]) -> Result<Outcome, CommitError> {
        self.run
            .commit(&Program { checks: &[], steps }, self.options)
    }
}

fn first(done: &Outcome) -> Option<&StepOutcome> {
    done.steps.as_slice().first()
}

fn computed(done: &Outcome) -> Result<i64, CommitError> {
    match first(done) {
        Some(StepOutcome::Incremented(value)) => Ok(*value),
        _ => Err(CommitError::Internal),
    }
}

fn previous(done: Outcome) -> Option<Vec<u8>> {
    match done.steps {
        StepOutcomes::One(StepOutcome::Previous(value)) => value,
        _ => None,
    }
}

fn cas_outcome(done: &Outcome) -> CasOutcome {
    match first(done) {
        Some(StepOutcome::Mismatch(actual)) => CasOutcome::Mismatch(*actual),
        _ => CasOutcome::Written(done.version),
    }
}

/// The live values of `keys` at one view, in order.
pub(crate) fn get_many(
    view: &ReadView,
    keys: &[&[u8]],
) -> Result<Vec<Option<Versioned>>, ReadError> {
    for key in keys {
        validate_user_key(key)?;
    }
    Ok(keys.iter().map(|key| view.get(KeyRef::kv(key))).collect())
}

/// The newest version of a key at or below `version`, at one view.
pub(crate) fn get_at(
    view: &ReadView,
    key: &[u8],
    version: Version,
) -> Result<Option<HistoryEntry>, ReadError> {
    validate_user_key(key)?;
    let Version::Txn(bound) = version else {
        return Err(ReadError::WrongType {
            expected: "txn",
            actual: version.flavour(),
        });
    };
    let mut entries = view.history(KeyRef::kv(key), 1, bound.checked_add(1))?;
    Ok(entries.pop())
}

/// One page, of as many steps as it takes to fill it or to reach the end.
pub(crate) fn scan(view: &ReadView, request: &ListRequest<'_>) -> Result<Page, ReadError> {
    validate_prefix(request.prefix)?;
    if request.limit == 0 {
        return Err(ReadError::InvalidArgument {
            what: "a limit of 0",
        });
    }
    let mut page = Page {
        items: Vec::new(),
        cursor: request.after.map(<[u8]>::to_vec),
        has_more: true,
    };
    while page.has_more && page.items.len() < request.limit {
        let step = view.list_step(
            TypeTag::Kv,
            &ListRequest {
                after: page.cursor.as_deref(),
                limit: request.limit - page.items.len(),
                ..*request
            },
        )?;
        page.items.extend(step.items);
        page.has_more = !step.is_complete;
        page.cursor = step.after.or(page.cursor);
    }
    Ok(page)
}

/// Every live key that begins with `prefix`, at one view.
pub(crate) fn list_all(
    view: &ReadView,
    prefix: &[u8],
    with_values: bool,
) -> Result<Vec<ListItem>, ReadError> {
    let request = ListRequest {
        prefix,
        after: None,
        start: &[],
        limit: usize::MAX,
        with_values,
    };
    Ok(scan(view, &request)?.items)
}

/// Live keys that begin with `prefix`, at one view, count.
pub(crate) fn count(view: &ReadView, prefix: &[u8]) -> Result<usize, ReadError> {
    let mut count = 0;
    let mut cursor = None;
    loop {
        let limit = LIST_STEP_KEY_COUNT_MAX;
        let after: Option<&[u8]> = cursor.as_deref();
        let request = ListRequest {
            prefix,
            after,
            start: &[],
            limit,
            with_values: false,
        };
        let page = scan(view, &request)?;
        count += page.items.len();
        if !page.has_more {
            return Ok(count);
        }
        cursor = page.cursor;
    }
}
