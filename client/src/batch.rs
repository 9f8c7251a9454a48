//! The one-shot transaction: changes and conditions in one request.
//!
//! Nothing is held on the server between requests. All of it happens in one commit, or none.

use in_mem_ipc::request::Operation;
use in_mem_ipc::request::kv::{CasValue, CasVersion, Increment, Key, KeyValue};
use in_mem_ipc::request::txn::{Batch as BatchRequest, BatchOperation, BatchRead, ReadCheck};
use in_mem_ipc::response::ArchivedResponse;
use in_mem_ipc::response::kv::ArchivedBatchEffect;
use in_mem_model::Durability;
use serde::Serialize;

use crate::answer;
use crate::error::{self, ClientError};
use crate::kv::expected_version;
use crate::results::{Expected, Receipt};
use crate::scope::Scope;
use crate::value::encode;

/// What one change of a batch did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// A value was put.
    Put,
    /// Whether the key existed and was deleted.
    Deleted(bool),
    /// Whether the key did not exist and the value was put.
    PutIfAbsent(bool),
    /// The integer after the addition.
    Incremented(i64),
}

/// What a batch made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchCommitted {
    /// What the commit made.
    pub receipt: Receipt,
    /// One effect for each change, in order.
    pub effects: Vec<Effect>,
}

/// Changes of one run that happen together.
#[derive(Debug, Clone)]
pub struct Batch {
    scope: Scope,
    request: BatchRequest<'static>,
}

impl Batch {
    pub(crate) fn new(scope: Scope) -> Self {
        Self {
            scope,
            request: BatchRequest::default(),
        }
    }

    /// The same, with another durability for its commit.
    #[must_use]
    pub fn with_durability(mut self, durability: Durability) -> Self {
        self.scope = self.scope.with_durability(durability);
        self
    }

    /// What it asks for.
    pub(crate) fn into_request(self) -> BatchRequest<'static> {
        self.request
    }

    /// How many changes it holds.
    #[must_use]
    pub fn change_count(&self) -> usize {
        self.request.operations.len()
    }

    /// Requires that the newest version of a key is still this one; 0: it never existed.
    #[must_use]
    pub fn read(mut self, key: &str, version: u64) -> Self {
        let check = ReadCheck::Version(version);
        self.request.reads.push(BatchRead {
            key: owned(key),
            check,
        });
        self
    }

    /// Requires that a key did not change after a commit version; one version for all keys.
    #[must_use]
    pub fn unchanged_since(mut self, key: &str, start_version: u64) -> Self {
        self.request.start_version = Some(start_version);
        self.request.reads.push(BatchRead {
            key: owned(key),
            check: ReadCheck::SinceStart,
        });
        self
    }

    /// Puts a value.
    ///
    /// # Errors
    ///
    /// The value cannot be encoded.
    pub fn put<T: Serialize + ?Sized>(self, key: &str, value: &T) -> Result<Self, ClientError> {
        let entry = KeyValue {
            key: owned(key),
            value: encode(value)?,
        };
        Ok(self.with(BatchOperation::Put(entry)))
    }

    /// Deletes a key.
    #[must_use]
    pub fn delete(self, key: &str) -> Self {
        self.with(BatchOperation::Delete(Key { key: owned(key) }))
    }

    /// Puts a value; the whole batch is a conflict if the key exists.
    ///
    /// # Errors
    ///
    /// The value cannot be encoded.
    pub fn put_if_absent<T: Serialize + ?Sized>(
        self,
        key: &str,
        value: &T,
    ) -> Result<Self, ClientError> {
        let entry = KeyValue {
            key: owned(key),
            value: encode(value)?,
        };
        Ok(self.with(BatchOperation::PutIfAbsent(entry)))
    }

    /// Puts a value; the whole batch is a conflict if the version is not the expected one.
    ///
    /// # Errors
    ///
    /// The value cannot be encoded.
    pub fn cas_version<T: Serialize + ?Sized>(
        self,
        key: &str,
        expected: Expected,
        value: &T,
    ) -> Result<Self, ClientError> {
        let expected = expected_version(expected);
        let swap = CasVersion {
            key: owned(key),
            value: encode(value)?,
            expected,
        };
        Ok(self.with(BatchOperation::CasVersion(swap)))
    }

    /// Puts a value; the whole batch is a conflict if the current value is not the expected one.
    ///
    /// # Errors
    ///
    /// A value cannot be encoded.
    pub fn cas_value<E: Serialize + ?Sized, T: Serialize + ?Sized>(
        self,
        key: &str,
        expected: Option<&E>,
        value: &T,
    ) -> Result<Self, ClientError> {
        let expected = expected.map(encode).transpose()?;
        let swap = CasValue {
            key: owned(key),
            value: encode(value)?,
            expected,
        };
        Ok(self.with(BatchOperation::CasValue(swap)))
    }

    /// Adds to an integer; a missing key counts as 0.
    #[must_use]
    pub fn incr(self, key: &str, delta: i64) -> Self {
        self.with(BatchOperation::Increment(Increment {
            key: owned(key),
            delta,
        }))
    }

    /// Commits.
    ///
    /// # Errors
    ///
    /// A condition does not hold (`Conflict`), a key or value is not valid, the run does not
    /// exist or is closed, or the connection was lost: then [`ClientError::outcome`] says whether
    /// it may have happened.
    pub fn commit(self) -> Result<BatchCommitted, ClientError> {
        self.scope.call(Operation::Batch(self.request), committed)
    }

    fn with(mut self, operation: BatchOperation<'static>) -> Self {
        self.request.operations.push(operation);
        self
    }
}

fn owned(key: &str) -> in_mem_ipc::Bytes<'static> {
    key.as_bytes().to_vec().into()
}

fn committed(answer: &answer::Answer) -> Result<BatchCommitted, ClientError> {
    if let ArchivedResponse::Written(receipt) = answer {
        return Err(answer::not_kept(receipt));
    }
    let ArchivedResponse::Batch(result) = answer else {
        return answer::done(answer).and_then(|()| Err(error::wrong_shape()));
    };
    let effects = result.effects.iter().map(|effect| match effect {
        ArchivedBatchEffect::Put => Effect::Put,
        ArchivedBatchEffect::Deleted(existed) => Effect::Deleted(*existed),
        ArchivedBatchEffect::PutIfAbsent(put) => Effect::PutIfAbsent(*put),
        ArchivedBatchEffect::Incremented(value) => Effect::Incremented(value.to_native()),
    });
    Ok(BatchCommitted {
        receipt: answer::receipt_of(&result.receipt),
        effects: effects.collect(),
    })
}
