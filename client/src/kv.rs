//! Keys and values of one run.
//!
//! Every method is one request and one transaction of its own, or one step of the transaction it
//! was taken from. Values are anything serde can encode; [`in_mem_model::Value`] for those whose
//! type is not known beforehand.

use std::time::Duration;

use in_mem_ipc::Bytes;
use in_mem_ipc::request::Operation;
use in_mem_ipc::request::kv::{
    CasValue, CasVersion, ExpectedVersion, GetAt, History as HistoryRequest, Increment, Key,
    KeyValue, KeyValueTtl, KeyValues, Keys, List, Prefix, Scan,
};
use in_mem_model::{Durability, Version};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::answer;
use crate::error::ClientError;
use crate::results::{
    Conditional, Cursor, Deleted, Entry, Expected, History, Incremented, Page, Receipt, Replaced,
    Versioned,
};
use crate::scope::Scope;
use crate::value::encode;

/// What of a listing to return.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ListOptions<'a> {
    /// Only keys that begin with this.
    pub prefix: &'a str,
    /// Only keys from this one on; a scan honours it.
    pub start: &'a str,
    /// Most entries wanted; 0 for the server's limit.
    pub limit: u32,
    /// Where the page before ended.
    pub cursor: Option<&'a Cursor>,
}

/// The keys and values of one run.
#[derive(Debug, Clone)]
pub struct Kv {
    scope: Scope,
}

impl Kv {
    pub(crate) const fn new(scope: Scope) -> Self {
        Self { scope }
    }

    /// The same, with another durability for its writes.
    #[must_use]
    pub fn with_durability(&self, durability: Durability) -> Self {
        Self::new(self.scope.with_durability(durability))
    }

    /// Puts a value; a new version even if the value is the same.
    ///
    /// # Errors
    ///
    /// The key or value is not valid, the run does not exist or is closed, or the connection was
    /// lost: then [`ClientError::outcome`] says whether the value may be there.
    pub fn put<T: Serialize + ?Sized>(&self, key: &str, value: &T) -> Result<Receipt, ClientError> {
        let operation = Operation::KvPut(KeyValue {
            key: key.into(),
            value: encode(value)?,
        });
        self.scope.call(operation, answer::written)
    }

    /// Puts a value that expires `time_to_live` after the timestamp of its commit, whole
    /// microseconds. From then on it reads as absent, also after a restart of the server; its version
    /// stays the newest of the key, like that of a deletion. A later write of the key that does not
    /// say how long it lives makes it stay, an increment leaves the expiry as it is.
    ///
    /// # Errors
    ///
    /// Those of [`Self::put`]; `invalid_argument` for less than a microsecond or more than 285
    /// years.
    pub fn put_with_ttl<T: Serialize + ?Sized>(
        &self,
        key: &str,
        value: &T,
        time_to_live: Duration,
    ) -> Result<Receipt, ClientError> {
        let operation = Operation::KvPutWithTtl(KeyValueTtl {
            key: key.into(),
            value: encode(value)?,
            ttl_us: u64::try_from(time_to_live.as_micros()).unwrap_or(u64::MAX),
        });
        self.scope.call(operation, answer::written)
    }

    /// When a key expires, microseconds since the epoch; none if it stays, or does not exist. What
    /// an open transaction has put itself expires at the end of time until it commits.
    ///
    /// # Errors
    ///
    /// The key is not valid, or the server is lost.
    pub fn expires_at(&self, key: &str) -> Result<Option<u64>, ClientError> {
        let operation = Operation::KvExpiresAt(Key { key: key.into() });
        self.scope.call(operation, answer::expiry)
    }

    /// Puts a value, and says nothing about it.
    ///
    /// # Errors
    ///
    /// Those of [`Self::put`].
    pub fn set<T: Serialize + ?Sized>(&self, key: &str, value: &T) -> Result<(), ClientError> {
        self.put(key, value).map(drop)
    }

    /// Puts several values: all or none, under one commit version.
    ///
    /// # Errors
    ///
    /// Those of [`Self::put`].
    pub fn put_many<'k, T: Serialize + 'k>(
        &self,
        entries: impl IntoIterator<Item = (&'k str, &'k T)>,
    ) -> Result<Receipt, ClientError> {
        let entries = entries
            .into_iter()
            .map(|(key, value)| {
                Ok(KeyValue {
                    key: key.into(),
                    value: encode(value)?,
                })
            })
            .collect::<Result<_, ClientError>>()?;
        self.scope
            .call(Operation::KvPutMany(KeyValues { entries }), answer::written)
    }

    /// The value of a key; `None` if the key does not exist.
    ///
    /// # Errors
    ///
    /// The run does not exist, the value is not a `T`, or the server is lost.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, ClientError> {
        self.scope.call(Operation::KvGet(one(key)), answer::value)
    }

    /// The value of a key with its version and time.
    ///
    /// # Errors
    ///
    /// Those of [`Self::get`].
    pub fn get_versioned<T: DeserializeOwned>(
        &self,
        key: &str,
    ) -> Result<Option<Versioned<T>>, ClientError> {
        self.scope
            .call(Operation::KvGetVersioned(one(key)), answer::versioned)
    }

    /// The newest value at or below a version.
    ///
    /// # Errors
    ///
    /// The version is no commit version, or lies below what is still readable; else those of
    /// [`Self::get`].
    pub fn get_at<T: DeserializeOwned>(
        &self,
        key: &str,
        version: Version,
    ) -> Result<Option<Versioned<T>>, ClientError> {
        let operation = Operation::KvGetAt(GetAt {
            key: key.into(),
            version: version.into(),
        });
        self.scope.call(operation, answer::versioned)
    }

    /// The values of several keys at one point in time, in the order asked.
    ///
    /// # Errors
    ///
    /// Those of [`Self::get`].
    pub fn get_many<'k, T: DeserializeOwned>(
        &self,
        keys: impl IntoIterator<Item = &'k str>,
    ) -> Result<Vec<Option<T>>, ClientError> {
        self.scope
            .call(Operation::KvGetMany(many(keys)), answer::values)
    }

    /// Whether a key exists.
    ///
    /// # Errors
    ///
    /// The run does not exist, or the server is lost.
    pub fn exists(&self, key: &str) -> Result<bool, ClientError> {
        self.scope.call(Operation::KvExists(one(key)), answer::flag)
    }

    /// How many of the keys exist, at one point in time.
    ///
    /// # Errors
    ///
    /// The run does not exist, or the server is lost.
    pub fn exists_many<'k>(
        &self,
        keys: impl IntoIterator<Item = &'k str>,
    ) -> Result<u64, ClientError> {
        self.scope
            .call(Operation::KvExistsMany(many(keys)), answer::count)
    }

    /// Deletes a key. A key that does not exist is no error; `count` tells.
    ///
    /// # Errors
    ///
    /// Those of [`Self::put`].
    pub fn delete(&self, key: &str) -> Result<Deleted, ClientError> {
        self.scope
            .call(Operation::KvDelete(one(key)), answer::deleted)
    }

    /// Deletes several keys: all or none.
    ///
    /// # Errors
    ///
    /// Those of [`Self::put`].
    pub fn delete_many<'k>(
        &self,
        keys: impl IntoIterator<Item = &'k str>,
    ) -> Result<Deleted, ClientError> {
        self.scope
            .call(Operation::KvDeleteMany(many(keys)), answer::deleted)
    }

    /// Adds to an integer; a missing key counts as 0. Never lost, never a conflict.
    ///
    /// # Errors
    ///
    /// The value is no integer, or the sum is out of range; else those of [`Self::put`].
    pub fn incr(&self, key: &str, delta: i64) -> Result<Incremented, ClientError> {
        let operation = Operation::KvIncr(Increment {
            key: key.into(),
            delta,
        });
        self.scope.call(operation, answer::incremented)
    }

    /// Subtracts from an integer; a missing key counts as 0.
    ///
    /// # Errors
    ///
    /// Those of [`Self::incr`], and the one delta that has no negative.
    pub fn decr(&self, key: &str, delta: i64) -> Result<Incremented, ClientError> {
        let negative = delta
            .checked_neg()
            .ok_or_else(|| crate::error::overflow("decr", delta))?;
        self.incr(key, negative)
    }

    /// Puts a value if the newest version is the expected one.
    ///
    /// # Errors
    ///
    /// Those of [`Self::put`]. A mismatch is not one of them.
    pub fn cas_version<T: Serialize + ?Sized>(
        &self,
        key: &str,
        expected: Expected,
        value: &T,
    ) -> Result<Conditional, ClientError> {
        let operation = Operation::KvCasVersion(CasVersion {
            key: key.into(),
            value: encode(value)?,
            expected: expected_version(expected),
        });
        self.scope.call(operation, answer::conditional)
    }

    /// Puts a value if the current value is the expected one; `None`: if there is none.
    ///
    /// # Errors
    ///
    /// Those of [`Self::put`]. A mismatch is not one of them.
    pub fn cas_value<E: Serialize + ?Sized, T: Serialize + ?Sized>(
        &self,
        key: &str,
        expected: Option<&E>,
        value: &T,
    ) -> Result<Conditional, ClientError> {
        let operation = Operation::KvCasValue(CasValue {
            key: key.into(),
            value: encode(value)?,
            expected: expected.map(encode).transpose()?,
        });
        self.scope.call(operation, answer::conditional)
    }

    /// Puts a value if the key does not exist.
    ///
    /// # Errors
    ///
    /// Those of [`Self::put`]. A key that exists is not one of them.
    pub fn put_if_absent<T: Serialize + ?Sized>(
        &self,
        key: &str,
        value: &T,
    ) -> Result<Conditional, ClientError> {
        let entry = KeyValue {
            key: key.into(),
            value: encode(value)?,
        };
        self.scope
            .call(Operation::KvPutIfAbsent(entry), answer::conditional)
    }

    /// Puts a value and returns the one before.
    ///
    /// # Errors
    ///
    /// Those of [`Self::put`]; the one before is not an `O`.
    pub fn get_and_set<O: DeserializeOwned, T: Serialize + ?Sized>(
        &self,
        key: &str,
        value: &T,
    ) -> Result<Replaced<O>, ClientError> {
        let entry = KeyValue {
            key: key.into(),
            value: encode(value)?,
        };
        self.scope
            .call(Operation::KvGetAndSet(entry), answer::replaced)
    }

    /// Deletes a key and returns its value.
    ///
    /// # Errors
    ///
    /// Those of [`Self::put`]; the value is not an `O`.
    pub fn get_and_delete<O: DeserializeOwned>(
        &self,
        key: &str,
    ) -> Result<Replaced<O>, ClientError> {
        self.scope
            .call(Operation::KvGetAndDelete(one(key)), answer::replaced)
    }

    /// A page of keys, sorted.
    ///
    /// # Errors
    ///
    /// The run does not exist, the cursor is not of this session, or the server is lost.
    pub fn list(&self, options: ListOptions<'_>) -> Result<Page<String>, ClientError> {
        let operation = Operation::KvList(list(options, false));
        self.scope
            .call(operation, |answer| answer::page(answer, answer::entry_key))
    }

    /// A page of keys with their values, sorted by key.
    ///
    /// # Errors
    ///
    /// Those of [`Self::list`]; a value is not a `T`.
    pub fn list_with_values<T: DeserializeOwned>(
        &self,
        options: ListOptions<'_>,
    ) -> Result<Page<Entry<T>>, ClientError> {
        let operation = Operation::KvList(list(options, true));
        self.scope.call(operation, |answer| {
            answer::page(answer, answer::entry_with_value)
        })
    }

    /// A page of keys with their values from a start key on, sorted by key.
    ///
    /// # Errors
    ///
    /// Those of [`Self::list`]; a value is not a `T`.
    pub fn scan<T: DeserializeOwned>(
        &self,
        options: ListOptions<'_>,
    ) -> Result<Page<Entry<T>>, ClientError> {
        let operation = Operation::KvScan(Scan {
            prefix: options.prefix.into(),
            start: options.start.into(),
            cursor: cursor(options.cursor),
            limit: options.limit,
        });
        self.scope.call(operation, |answer| {
            answer::page(answer, answer::entry_with_value)
        })
    }

    /// How many keys begin with a prefix.
    ///
    /// # Errors
    ///
    /// The run does not exist, or the server is lost.
    pub fn count(&self, prefix: &str) -> Result<u64, ClientError> {
        self.scope.call(
            Operation::KvCount(Prefix {
                prefix: prefix.into(),
            }),
            answer::count,
        )
    }

    /// Versions of a key, newest first: at most `limit` (0 for the server's limit), only those
    /// below `before`.
    ///
    /// # Errors
    ///
    /// Those of [`Self::get`].
    pub fn history<T: DeserializeOwned>(
        &self,
        key: &str,
        limit: u32,
        before: Option<u64>,
    ) -> Result<History<T>, ClientError> {
        let operation = Operation::KvHistory(HistoryRequest {
            key: key.into(),
            limit,
            before,
        });
        self.scope.call(operation, answer::history)
    }

    /// The newest version of a key; `None` if the key does not exist.
    ///
    /// # Errors
    ///
    /// The run does not exist, or the server is lost.
    pub fn latest_version(&self, key: &str) -> Result<Option<Version>, ClientError> {
        self.scope
            .call(Operation::KvLatestVersion(one(key)), answer::version)
    }
}

fn one(key: &str) -> Key<'_> {
    Key { key: key.into() }
}

fn many<'k>(keys: impl IntoIterator<Item = &'k str>) -> Keys<'k> {
    Keys {
        keys: keys.into_iter().map(Bytes::from).collect(),
    }
}

fn list<'a>(options: ListOptions<'a>, with_values: bool) -> List<'a> {
    List {
        prefix: options.prefix.into(),
        cursor: cursor(options.cursor),
        limit: options.limit,
        with_values,
    }
}

fn cursor(cursor: Option<&Cursor>) -> Bytes<'_> {
    cursor.map_or_else(Bytes::default, |cursor| cursor.as_bytes().into())
}

/// An expectation as the wire names it.
pub(crate) const fn expected_version(expected: Expected) -> ExpectedVersion {
    match expected {
        Expected::Version(number) => ExpectedVersion::Raw(number),
        Expected::Absent => ExpectedVersion::Absent,
    }
}
