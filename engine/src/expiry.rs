//! When a KV entry expires, and how the log carries that.
//!
//! ```text
//! KvPut payload := value                               an entry that stays
//!                | 0xC1 | expires_at u64 | value       one that expires, microseconds since the epoch
//! ```
//!
//! Little-endian. 0xC1 begins no encoded value: `MessagePack` never uses it. A build that knows no
//! expiry refuses such a record rather than to forget it.
//!
//! An entry has expired once the time is at or past `expires_at`. It then reads as absent, and its
//! version stays what it was, like that of a tombstone. A commit decides by its own timestamp,
//! which its record keeps; recovery decides nothing by any time.

use std::num::NonZeroU64;

use in_mem_model::ValueRef;

use crate::errors::CommitError;
use crate::transaction::TransactionContext;

const MARKER: u8 = 0xC1;

/// What an expiry takes of a payload, bytes.
pub(crate) const EXPIRY_LEN_BYTES: usize = size_of::<u8>() + size_of::<u64>();

/// The longest time to live, microseconds: about 285 years, so that no sum of it with a time of
/// these centuries leaves the range of u64.
pub const TTL_US_MAX: u64 = 1 << 53;

/// How long an entry lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// So many microseconds from the timestamp of the commit that writes it.
    For(NonZeroU64),
    /// Until this moment, microseconds since the epoch.
    Until(u64),
}

impl Lifetime {
    /// From the timestamp of the commit on.
    ///
    /// # Errors
    /// `InvalidArgument` when it is shorter than a microsecond, or longer than [`TTL_US_MAX`].
    pub fn of(time_to_live: std::time::Duration) -> Result<Self, CommitError> {
        let micros = u64::try_from(time_to_live.as_micros()).unwrap_or(u64::MAX);
        Self::of_us(micros)
    }

    /// The same, in microseconds.
    ///
    /// # Errors
    /// As [`Self::of`].
    pub fn of_us(ttl_us: u64) -> Result<Self, CommitError> {
        let invalid = CommitError::InvalidArgument {
            what: "a time to live of 0, or of more than 285 years",
        };
        let ttl_us = NonZeroU64::new(ttl_us).filter(|ttl_us| ttl_us.get() <= TTL_US_MAX);
        ttl_us.map(Self::For).ok_or(invalid)
    }

    /// When an entry expires that a commit of this timestamp writes.
    pub(crate) fn ends_at(self, timestamp_us: u64) -> u64 {
        match self {
            Self::For(ttl_us) => timestamp_us.saturating_add(ttl_us.get()),
            Self::Until(expires_at_us) => expires_at_us,
        }
    }
}

/// What precedes the value of an entry that expires.
pub(crate) fn head(expires_at_us: u64) -> [u8; EXPIRY_LEN_BYTES] {
    let [a, b, c, d, e, f, g, h] = expires_at_us.to_le_bytes();
    [MARKER, a, b, c, d, e, f, g, h]
}

/// The expiry of a payload, if it has one, and its value. None when it is cut short.
pub(crate) fn split(payload: &[u8]) -> Option<(Option<u64>, &[u8])> {
    let Some((&MARKER, rest)) = payload.split_first() else {
        return Some((None, payload));
    };
    let (expires_at_us, value) = rest.split_first_chunk()?;
    Some((Some(u64::from_le_bytes(*expires_at_us)), value))
}

impl TransactionContext {
    /// Writes a value that expires; see [`Kv::put_with_ttl`](crate::Kv::put_with_ttl).
    ///
    /// # Errors
    /// As [`Self::put`].
    pub fn put_expiring(
        &mut self,
        key: &[u8],
        value: ValueRef<'_>,
        lifetime: Lifetime,
    ) -> Result<(), CommitError> {
        self.write_value(key, value, None, Some(lifetime))
    }
}
