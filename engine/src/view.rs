//! A point-in-time reader of one run.
//!
//! Acquiring a view counts it in and loads one number; it sees exactly the commits published at that
//! moment, for as long as it lives. The read view is never called a snapshot: that word is the disk image's.

use std::ops::Bound;
use std::sync::Arc;

use in_mem_model::{RunId, SYSTEM_NAMESPACE, TypeTag};

use crate::errors::ReadError;
use crate::index::{IndexKey, KeyRef};
use crate::limits::{HISTORY_COUNT_MAX, LIST_STEP_KEY_COUNT_MAX, LIST_STEP_LEN_BYTES_MAX};
use crate::pins::Pin;
use crate::shard::RunShard;
use crate::version_node::{Found, VersionNode, VersionedRef};

/// Sees one run as it was published at one version. Nothing it sees is trimmed as long as it lives.
#[derive(Clone)]
pub struct ReadView {
    pin: Pin,
    version: u64,
    /// The time by which entries have expired for it, microseconds since the epoch.
    now_us: u64,
}

/// One version of a value, copied out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned {
    /// The encoded value.
    pub value: Vec<u8>,
    /// The commit that made it.
    pub version: u64,
    /// Time of that commit, microseconds since the epoch.
    pub timestamp_us: u64,
    /// When it expires, microseconds since the epoch, if it does.
    pub expires_at_us: Option<u64>,
}

/// One version in a history; a deletion has no value. One that has expired since is told as it was
/// written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryEntry {
    /// The encoded value; none for a tombstone.
    pub value: Option<Vec<u8>>,
    /// The commit that made it.
    pub version: u64,
    /// Time of that commit, microseconds since the epoch.
    pub timestamp_us: u64,
    /// When it expires, or has, microseconds since the epoch, if it does.
    pub expires_at_us: Option<u64>,
}

/// A part of a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryPage {
    /// Versions, newest first.
    pub entries: Vec<HistoryEntry>,
    /// True when there are older ones.
    pub has_more: bool,
}

/// One step of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListStep {
    /// Live keys in order, with values if asked for.
    pub items: Vec<ListItem>,
    /// True when there is nothing left to list.
    pub is_complete: bool,
    /// What to give as [`ListRequest::after`] to go on.
    pub after: Option<Vec<u8>>,
}

/// One key of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListItem {
    /// The user key.
    pub key: Vec<u8>,
    /// The encoded value, if asked for.
    pub value: Option<Vec<u8>>,
    /// The commit that made it.
    pub version: u64,
    /// Time of that commit, microseconds since the epoch.
    pub timestamp_us: u64,
}

/// What a listing asks for.
#[derive(Debug, Clone, Copy)]
pub struct ListRequest<'a> {
    /// Keys begin with these bytes.
    pub prefix: &'a [u8],
    /// Keys come after this one, exclusive.
    pub after: Option<&'a [u8]>,
    /// Keys at or after this one.
    pub start: &'a [u8],
    /// At most so many items in this step; not 0.
    pub limit: usize,
    /// Copy the values as well.
    pub with_values: bool,
}

impl ReadView {
    /// What is published now.
    #[inline]
    pub(crate) fn now(shard: Arc<RunShard>) -> Self {
        let pin = Pin::new(shard);
        let version = pin.shard().visible();
        let now_us = pin.shard().now.current_us();
        Self {
            pin,
            version,
            now_us,
        }
    }

    /// What was published at `version`, or is now, if that is later.
    pub(crate) fn at(shard: Arc<RunShard>, version: u64) -> Result<Self, ReadError> {
        let view = Self::now(shard);
        let earliest_retained = view.shard().pins.trimmed_to();
        if version < earliest_retained {
            return Err(ReadError::HistoryTrimmed {
                requested: version,
                earliest_retained,
            });
        }
        let version = version.min(view.version);
        Ok(Self { version, ..view })
    }

    /// What `pin` keeps of a version that was read after it was made, with what had not expired at
    /// `now_us`.
    pub(crate) fn of_pin(pin: Pin, version: u64, now_us: u64) -> Self {
        Self {
            pin,
            version,
            now_us,
        }
    }

    #[inline]
    fn shard(&self) -> &Arc<RunShard> {
        self.pin.shard()
    }

    /// The commit version this view sees up to.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The run it sees.
    #[must_use]
    pub fn run_id(&self) -> RunId {
        self.shard().run_id
    }

    /// The live value of a key, copied out.
    #[must_use]
    pub fn get(&self, key: KeyRef<'_>) -> Option<Versioned> {
        self.get_with(key, |found| found.map(Versioned::from))
    }

    /// Calls `read` with the live version of a key; copies nothing and allocates nothing.
    pub fn get_with<R>(
        &self,
        key: KeyRef<'_>,
        read: impl FnOnce(Option<VersionedRef<'_>>) -> R,
    ) -> R {
        get_with(self.shard(), self.version, self.now_us, key, read)
    }

    /// The version of a key that this view sees, a tombstone's too; 0 when it never existed.
    #[must_use]
    pub fn version_of(&self, key: KeyRef<'_>) -> u64 {
        self.shard().index.with_version(key, self.version, |node| {
            node.map_or(0, VersionNode::commit_version)
        })
    }

    /// True when the key has a live value.
    #[must_use]
    pub fn contains(&self, key: KeyRef<'_>) -> bool {
        self.get_with(key, |found| found.is_some())
    }

    /// Versions of a key, newest first, below `before` if given, at most `limit`. Ends where the
    /// history was trimmed.
    ///
    /// # Errors
    /// `HistoryTrimmed` when everything below `before` was trimmed.
    pub fn history(
        &self,
        key: KeyRef<'_>,
        limit: usize,
        before: Option<u64>,
    ) -> Result<Vec<HistoryEntry>, ReadError> {
        let page = self.history_page(key, limit, before, usize::MAX)?;
        Ok(page.entries)
    }

    /// The same, with values of at most `len_bytes_max` together; the first may exceed that alone.
    ///
    /// # Errors
    /// As [`Self::history`].
    pub fn history_page(
        &self,
        key: KeyRef<'_>,
        limit: usize,
        before: Option<u64>,
        len_bytes_max: usize,
    ) -> Result<HistoryPage, ReadError> {
        let bound = before.map_or(self.version, |before| {
            before.saturating_sub(1).min(self.version)
        });
        let first = self.shard().index.find(key, bound, |found| match found {
            Found::Version(node) => Ok(Some(node.clone())),
            Found::Nothing => Ok(None),
            Found::Trimmed => Err(()),
        });
        let Ok(mut next) = first else {
            let floor = self.shard().index.trim_floor(key);
            return Err(ReadError::HistoryTrimmed {
                requested: bound,
                earliest_retained: floor.unwrap_or(bound),
            });
        };
        let mut entries = Vec::new();
        let mut len_bytes = 0_usize;
        while let Some(node) = &next
            && entries.len() < limit.min(HISTORY_COUNT_MAX)
        {
            len_bytes = len_bytes.saturating_add(node.value().len());
            if len_bytes_max < len_bytes && !entries.is_empty() {
                break;
            }
            entries.push(HistoryEntry {
                value: (!node.is_tombstone()).then(|| node.value().to_vec()),
                version: node.commit_version(),
                timestamp_us: node.timestamp_us(),
                expires_at_us: node.expires_at_us(),
            });
            next = (*node.older()).clone();
        }
        Ok(HistoryPage {
            entries,
            has_more: next.is_some(),
        })
    }

    /// True when no step of a listing has to put keys in order any more: a listing is then only as
    /// long as what it lists.
    #[must_use]
    pub fn is_ordered(&self) -> bool {
        self.shard().index.ordered.is_filled()
    }

    /// One bounded step of a listing in key order: at most `request.limit` items,
    /// [`LIST_STEP_KEY_COUNT_MAX`] keys looked at and [`LIST_STEP_LEN_BYTES_MAX`] of values, which
    /// the first of them may exceed alone. System keys are left out. The first listing of
    /// a run puts its keys in order, a few per step.
    ///
    /// # Errors
    /// When the limit is 0: such a step would never come to an end.
    pub fn list_step(
        &self,
        tag: TypeTag,
        request: &ListRequest<'_>,
    ) -> Result<ListStep, ReadError> {
        if request.limit == 0 {
            return Err(ReadError::InvalidArgument {
                what: "a limit of 0",
            });
        }
        let Some(keys) = self.shard().index.ordered.filled() else {
            let ordered = &self.shard().index.ordered;
            if !ordered.is_registered() {
                let _section = self.shard().commit.lock();
                ordered.register();
            }
            ordered.fill_step();
            let after = request.after.map(<[u8]>::to_vec);
            return Ok(ListStep {
                items: Vec::new(),
                is_complete: false,
                after,
            });
        };
        let mut step = ListStep {
            items: Vec::new(),
            is_complete: true,
            after: None,
        };
        let mut last_key = None;
        let mut len_bytes = 0;
        let from_first = keys.range((first_key(tag, request), Bound::Unbounded));
        for (looked_at_count, entry) in from_first.enumerate() {
            let key = entry.value();
            if key.tag_byte() != tag.number() || !key.user_key().starts_with(request.prefix) {
                break;
            }
            if step.items.len() == request.limit || looked_at_count == LIST_STEP_KEY_COUNT_MAX {
                step.is_complete = false;
                break;
            }
            if !key.user_key().starts_with(SYSTEM_NAMESPACE.as_bytes())
                && !self.push_item(key, request.with_values, &mut step.items, &mut len_bytes)
            {
                step.is_complete = false;
                break;
            }
            last_key = Some(entry);
        }
        step.after = last_key.map(|entry| entry.value().user_key().to_vec());
        Ok(step)
    }

    /// Adds a key if it is live; false when its value is too much for this step.
    fn push_item(
        &self,
        key: &IndexKey,
        with_values: bool,
        items: &mut Vec<ListItem>,
        len_bytes: &mut usize,
    ) -> bool {
        let Some(key_ref) = key.key_ref() else {
            return true;
        };
        self.get_with(key_ref, |found| {
            let Some(found) = found else { return true };
            if with_values {
                *len_bytes = len_bytes.saturating_add(found.value.len());
                if LIST_STEP_LEN_BYTES_MAX < *len_bytes && !items.is_empty() {
                    return false;
                }
            }
            items.push(ListItem {
                key: key.user_key().to_vec(),
                value: with_values.then(|| found.value.to_vec()),
                version: found.commit_version,
                timestamp_us: found.timestamp_us,
            });
            true
        })
    }
}

/// Calls `read` with the live version of a key at or below `bound`, if it has not expired at
/// `now_us`.
#[inline]
pub(crate) fn get_with<R>(
    shard: &RunShard,
    bound: u64,
    now_us: u64,
    key: KeyRef<'_>,
    read: impl FnOnce(Option<VersionedRef<'_>>) -> R,
) -> R {
    shard.index.with_version(key, bound, |node| {
        read(
            node.filter(|node| node.is_live(now_us))
                .map(VersionNode::versioned),
        )
    })
}

/// Where a listing begins.
fn first_key(tag: TypeTag, request: &ListRequest<'_>) -> Bound<IndexKey> {
    let lowest = request.prefix.max(request.start);
    let key = |user_key| IndexKey::new(KeyRef { tag, user_key }, None);
    match request.after {
        Some(after) if lowest <= after => Bound::Excluded(key(after)),
        _ => Bound::Included(key(lowest)),
    }
}

impl From<VersionedRef<'_>> for Versioned {
    fn from(found: VersionedRef<'_>) -> Self {
        Self {
            value: found.value.to_vec(),
            version: found.commit_version,
            timestamp_us: found.timestamp_us,
            expires_at_us: found.expires_at_us,
        }
    }
}
