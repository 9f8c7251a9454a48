//! Retention policies: which old versions of an entity may go, and when.
//!
//! A policy is a pure decision over versions and times. Nothing is removed here, no clock is read
//! and nothing is stored. `bytes.rs` has its one form on disk and on the wire, `text.rs` the form
//! for people.
//!
//! Whatever a policy says, the newest version of an entity at or below the watermark stays, and so
//! does every version above it; what goes is always the oldest part of a history, so that one trim
//! floor describes what is left.

mod bytes;
#[cfg(test)]
mod tests;
mod text;

use std::num::{NonZeroU64, NonZeroU128};
use std::time::Duration;

pub use text::{PolicyTextError, age_us};

use crate::primitive::PrimitiveId;

/// Most members of a union, count. A union of more says nothing that fewer could not: each member
/// is a count or an age, and only the largest of each matters.
pub const UNION_MEMBER_COUNT_MAX: usize = 16;

/// Which versions of each entity of a run are kept. See [`Self::should_retain`] for what each form
/// keeps; the default keeps everything.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum RetentionPolicy {
    /// Everything.
    #[default]
    KeepAll,
    /// The newest versions of each entity, count, counted at or below the watermark.
    KeepLast(NonZeroU64),
    /// The versions not older than this, microseconds before the moment of the compaction.
    KeepFor(NonZeroU128),
    /// One policy for all primitives but those that have their own.
    Composite(CompositePolicy),
    /// Whatever any member keeps.
    Union(UnionPolicy),
}

/// A default and the primitives that have their own policy; none of them is itself composed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CompositePolicy {
    default: Box<RetentionPolicy>,
    /// By ascending id, each at most once.
    overrides: Vec<(PrimitiveId, RetentionPolicy)>,
}

/// Policies of which each may keep a version; none of them is itself composed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UnionPolicy {
    /// At least one.
    members: Vec<RetentionPolicy>,
}

/// Why something is no retention policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RetentionError {
    /// There are no bytes, or a union has no members: it would keep nothing.
    #[error("policy is empty")]
    Empty,
    /// The bytes end early.
    #[error("policy is cut short at byte {offset}")]
    InsufficientData {
        /// Where more was expected, bytes from the beginning of the policy.
        offset: usize,
    },
    /// No policy begins so.
    #[error("unknown policy tag {tag:#04x} at byte {offset}")]
    InvalidTag {
        /// What was found.
        tag: u8,
        /// Where, bytes from the beginning of the policy.
        offset: usize,
    },
    /// An override names no primitive, or one that has its own already, or they are out of order.
    #[error("override for primitive {primitive} is unknown, repeated or out of order")]
    InvalidPrimitiveType {
        /// The id found.
        primitive: u8,
    },
    /// A count or an age of 0 would keep nothing.
    #[error("a limit of 0")]
    ZeroLimit,
    /// A composed policy within a composed policy.
    #[error("a composed policy within a composed policy")]
    NestingTooDeep,
    /// More members than [`UNION_MEMBER_COUNT_MAX`].
    #[error("{count} members, more than {UNION_MEMBER_COUNT_MAX}")]
    TooManyMembers {
        /// How many, as announced.
        count: usize,
    },
    /// Bytes follow the policy.
    #[error("bytes follow the policy at byte {offset}")]
    TrailingBytes {
        /// Where they begin, bytes from the beginning of the policy.
        offset: usize,
    },
}

/// One version of an entity, as far as retention looks at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VersionAge {
    /// The commit that made it.
    pub commit_version: u64,
    /// Time of that commit, microseconds since the epoch.
    pub timestamp_us: u64,
    /// That commit was never logged: after a restart the version below it is the newest again.
    pub is_volatile: bool,
}

/// What a decision over the versions of one entity rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetentionMoment {
    /// The commit version up to which versions may go; those above it always stay.
    pub watermark: u64,
    /// The moment of the compaction, microseconds since the epoch, sampled once for all of it.
    pub now_us: u64,
}

impl RetentionPolicy {
    /// Keeps the `count` newest versions of each entity.
    ///
    /// # Errors
    /// [`RetentionError::ZeroLimit`] when `count` is 0.
    pub fn keep_last(count: u64) -> Result<Self, RetentionError> {
        let count = NonZeroU64::new(count).ok_or(RetentionError::ZeroLimit)?;
        Ok(Self::KeepLast(count))
    }

    /// Keeps the versions not older than `age`, of which whole microseconds count.
    ///
    /// # Errors
    /// [`RetentionError::ZeroLimit`] when `age` is shorter than a microsecond.
    pub fn keep_for(age: Duration) -> Result<Self, RetentionError> {
        let age_us = NonZeroU128::new(age.as_micros()).ok_or(RetentionError::ZeroLimit)?;
        Ok(Self::KeepFor(age_us))
    }

    /// `default` for all primitives but those in `overrides`, given in any order.
    ///
    /// # Errors
    /// [`RetentionError::NestingTooDeep`] when one of them is itself composed;
    /// [`RetentionError::InvalidPrimitiveType`] when a primitive occurs twice.
    pub fn composite(
        default: Self,
        mut overrides: Vec<(PrimitiveId, Self)>,
    ) -> Result<Self, RetentionError> {
        overrides.sort_by_key(|(primitive, _)| *primitive);
        let repeated = overrides.windows(2).find_map(|pair| match pair {
            [(first, _), (second, _)] if first == second => Some(*first),
            _ => None,
        });
        if let Some(primitive) = repeated {
            return Err(RetentionError::InvalidPrimitiveType {
                primitive: primitive.number(),
            });
        }
        if default.is_composed() || overrides.iter().any(|(_, policy)| policy.is_composed()) {
            return Err(RetentionError::NestingTooDeep);
        }
        Ok(Self::Composite(CompositePolicy {
            default: Box::new(default),
            overrides,
        }))
    }

    /// Keeps whatever any of `members` keeps.
    ///
    /// # Errors
    /// [`RetentionError::Empty`] without members, [`RetentionError::TooManyMembers`] with more than
    /// [`UNION_MEMBER_COUNT_MAX`], [`RetentionError::NestingTooDeep`] when one is itself composed.
    pub fn union(members: Vec<Self>) -> Result<Self, RetentionError> {
        if members.is_empty() {
            return Err(RetentionError::Empty);
        }
        if UNION_MEMBER_COUNT_MAX < members.len() {
            return Err(RetentionError::TooManyMembers {
                count: members.len(),
            });
        }
        if members.iter().any(Self::is_composed) {
            return Err(RetentionError::NestingTooDeep);
        }
        Ok(Self::Union(UnionPolicy { members }))
    }

    /// Whether this policy keeps one version of an entity of `primitive`. `rank` is 1 for the
    /// newest version at or below the watermark, 2 for the one before it; 0 is a version above the
    /// watermark, which always stays. For Event and Trace the rank is that within the log of the
    /// run. An age reaches back from `now_us`, that instant included: a version stamped in the
    /// future by a clock that ran ahead is kept longer, never shorter.
    #[must_use]
    #[expect(
        clippy::only_used_in_recursion,
        reason = "whoever decides has the version at hand; no policy looks at it yet"
    )]
    pub fn should_retain(
        &self,
        version: u64,
        timestamp_us: u64,
        rank: u64,
        now_us: u64,
        primitive: PrimitiveId,
    ) -> bool {
        match self {
            Self::KeepAll => true,
            Self::KeepLast(count) => rank <= count.get(),
            Self::KeepFor(age_us) => {
                u128::from(now_us) <= u128::from(timestamp_us).saturating_add(age_us.get())
            }
            Self::Composite(composite) => {
                let policy = composite.policy_for(primitive);
                policy.should_retain(version, timestamp_us, rank, now_us, primitive)
            }
            Self::Union(union) => union
                .members
                .iter()
                .any(|member| member.should_retain(version, timestamp_us, rank, now_us, primitive)),
        }
    }

    /// The lowest commit version that stays of one entity of `primitive`, whose versions are given
    /// newest first; none when there are no versions. Volatile versions take no rank, since none of
    /// them is there after a restart. Everything at or above it stays, everything
    /// below it may go. It is never above the newest version at or below the watermark, nor above
    /// the newest logged one there.
    pub fn earliest_retained_version(
        &self,
        versions: impl IntoIterator<Item = VersionAge>,
        moment: RetentionMoment,
        primitive: PrimitiveId,
    ) -> Option<u64> {
        let mut earliest = None;
        let mut rank = 0_u64;
        let mut has_newest = false;
        for version in versions {
            let at_or_below = version.commit_version <= moment.watermark;
            let is_newest = !at_or_below || !has_newest;
            has_newest |= at_or_below;
            let is_logged = at_or_below && !version.is_volatile;
            let own_rank = rank.saturating_add(u64::from(at_or_below));
            rank = rank.saturating_add(u64::from(is_logged));
            let is_newest_logged = is_logged && rank == 1;
            let (number, timestamp_us) = (version.commit_version, version.timestamp_us);
            if is_newest
                || is_newest_logged
                || self.should_retain(number, timestamp_us, own_rank, moment.now_us, primitive)
            {
                earliest = Some(number);
            }
        }
        earliest
    }

    /// The versions of one entity of `primitive` that may go, newest first like `versions`: all
    /// those below [`Self::earliest_retained_version`].
    #[must_use]
    pub fn compute_removable_versions(
        &self,
        versions: &[VersionAge],
        moment: RetentionMoment,
        primitive: PrimitiveId,
    ) -> Vec<u64> {
        let ages = versions.iter().copied();
        let Some(earliest) = self.earliest_retained_version(ages, moment, primitive) else {
            return Vec::new();
        };
        let numbers = versions.iter().map(|version| version.commit_version);
        numbers.filter(|number| *number < earliest).collect()
    }

    /// Whether `commit_version` stays, of the versions of one entity of `primitive`, given newest
    /// first.
    #[must_use]
    pub fn is_retained(
        &self,
        commit_version: u64,
        versions: &[VersionAge],
        moment: RetentionMoment,
        primitive: PrimitiveId,
    ) -> bool {
        let ages = versions.iter().copied();
        let earliest = self.earliest_retained_version(ages, moment, primitive);
        earliest.is_some_and(|earliest| earliest <= commit_version)
    }

    /// True when no version of any primitive ever goes under this policy.
    #[must_use]
    pub fn keeps_everything(&self) -> bool {
        match self {
            Self::KeepAll => true,
            Self::KeepLast(_) | Self::KeepFor(_) => false,
            Self::Composite(composite) => {
                let mut overrides = composite.overrides.iter();
                composite.default.keeps_everything()
                    && overrides.all(|(_, policy)| policy.keeps_everything())
            }
            Self::Union(union) => union.members.iter().any(Self::keeps_everything),
        }
    }

    /// Whether this policy is made of others.
    fn is_composed(&self) -> bool {
        matches!(self, Self::Composite(_) | Self::Union(_))
    }
}

impl CompositePolicy {
    /// What holds for the primitives without their own.
    #[must_use]
    pub fn default_policy(&self) -> &RetentionPolicy {
        &self.default
    }

    /// The primitives that have their own policy, by ascending id.
    #[must_use]
    pub fn overrides(&self) -> &[(PrimitiveId, RetentionPolicy)] {
        &self.overrides
    }

    /// What holds for `primitive`.
    #[must_use]
    pub fn policy_for(&self, primitive: PrimitiveId) -> &RetentionPolicy {
        let mut overrides = self.overrides.iter();
        let own = overrides.find(|(id, _)| *id == primitive);
        own.map_or(&*self.default, |(_, policy)| policy)
    }
}

impl UnionPolicy {
    /// Its members, in the order given.
    #[must_use]
    pub fn members(&self) -> &[RetentionPolicy] {
        &self.members
    }
}
