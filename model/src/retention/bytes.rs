//! Retention policies as bytes: what is stored in the governed run. Little-endian.
//!
//! ```text
//! policy    := 0x01                                        keep everything
//!            | 0x02 | count u64                            keep the newest, at least 1
//!            | 0x03 | age u128                             keep for so many microseconds, at least 1
//!            | 0x04 | part | count u32 | count overrides   a default, and primitives with their own
//!            | 0x05 | count u32 | count parts              whatever any of 1 to 16 keeps
//! part      := len u32 | policy, of the first three forms
//! override  := primitive id u8 | part                      ids ascending, each at most once
//! ```
//!
//! Each policy has exactly one such form. Nothing is allocated by an announced length or count:
//! every part takes bytes that must be there.

use std::num::{NonZeroU64, NonZeroU128};

use super::{CompositePolicy, RetentionError, RetentionPolicy, UNION_MEMBER_COUNT_MAX};
use crate::primitive::PrimitiveId;

const TAG_KEEP_ALL: u8 = 0x01;
const TAG_KEEP_LAST: u8 = 0x02;
const TAG_KEEP_FOR: u8 = 0x03;
const TAG_COMPOSITE: u8 = 0x04;
const TAG_UNION: u8 = 0x05;

impl RetentionPolicy {
    /// The policy as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.write(&mut bytes);
        bytes
    }

    /// The policy in `bytes`.
    ///
    /// # Errors
    /// What is wrong with them, and where.
    pub fn decode(bytes: &[u8]) -> Result<Self, RetentionError> {
        if bytes.is_empty() {
            return Err(RetentionError::Empty);
        }
        let mut reader = Reader { rest: bytes, at: 0 };
        let policy = reader.policy(true)?;
        if reader.rest.is_empty() {
            Ok(policy)
        } else {
            Err(RetentionError::TrailingBytes { offset: reader.at })
        }
    }

    fn write(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::KeepAll => bytes.push(TAG_KEEP_ALL),
            Self::KeepLast(count) => {
                bytes.push(TAG_KEEP_LAST);
                bytes.extend_from_slice(&count.get().to_le_bytes());
            }
            Self::KeepFor(age_us) => {
                bytes.push(TAG_KEEP_FOR);
                bytes.extend_from_slice(&age_us.get().to_le_bytes());
            }
            Self::Composite(composite) => {
                bytes.push(TAG_COMPOSITE);
                composite.default.write_part(bytes);
                write_len(composite.overrides.len(), bytes);
                for (primitive, policy) in &composite.overrides {
                    bytes.push(primitive.number());
                    policy.write_part(bytes);
                }
            }
            Self::Union(union) => {
                bytes.push(TAG_UNION);
                write_len(union.members.len(), bytes);
                for member in &union.members {
                    member.write_part(bytes);
                }
            }
        }
    }

    fn write_part(&self, bytes: &mut Vec<u8>) {
        let part = self.encode();
        write_len(part.len(), bytes);
        bytes.extend_from_slice(&part);
    }
}

fn write_len(len: usize, bytes: &mut Vec<u8>) {
    let len = u32::try_from(len).expect("a policy has few parts, and short ones");
    bytes.extend_from_slice(&len.to_le_bytes());
}

/// What is left of the bytes, and where it begins.
struct Reader<'a> {
    rest: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn policy(&mut self, may_be_composed: bool) -> Result<RetentionPolicy, RetentionError> {
        let offset = self.at;
        let [tag] = self.take()?;
        match tag {
            TAG_KEEP_ALL => Ok(RetentionPolicy::KeepAll),
            TAG_KEEP_LAST => {
                let count = NonZeroU64::new(u64::from_le_bytes(self.take()?));
                count
                    .map(RetentionPolicy::KeepLast)
                    .ok_or(RetentionError::ZeroLimit)
            }
            TAG_KEEP_FOR => {
                let age_us = NonZeroU128::new(u128::from_le_bytes(self.take()?));
                age_us
                    .map(RetentionPolicy::KeepFor)
                    .ok_or(RetentionError::ZeroLimit)
            }
            TAG_COMPOSITE | TAG_UNION if !may_be_composed => Err(RetentionError::NestingTooDeep),
            TAG_COMPOSITE => self.composite(),
            TAG_UNION => self.union(),
            tag => Err(RetentionError::InvalidTag { tag, offset }),
        }
    }

    fn composite(&mut self) -> Result<RetentionPolicy, RetentionError> {
        let default = Box::new(self.part()?);
        let count = self.len()?;
        let mut overrides: Vec<(PrimitiveId, RetentionPolicy)> = Vec::new();
        for _ in 0..count {
            let [number] = self.take()?;
            let primitive = PrimitiveId::from_number(number)
                .filter(|id| overrides.last().is_none_or(|(last, _)| last < id));
            let invalid = RetentionError::InvalidPrimitiveType { primitive: number };
            let policy = self.part()?;
            overrides.push((primitive.ok_or(invalid)?, policy));
        }
        Ok(RetentionPolicy::Composite(CompositePolicy {
            default,
            overrides,
        }))
    }

    fn union(&mut self) -> Result<RetentionPolicy, RetentionError> {
        let count = self.len()?;
        if UNION_MEMBER_COUNT_MAX < count {
            return Err(RetentionError::TooManyMembers { count });
        }
        let members = (0..count).map(|_| self.part()).collect::<Result<_, _>>()?;
        RetentionPolicy::union(members)
    }

    /// A policy of one of the three plain forms, behind its length, which it must fill.
    fn part(&mut self) -> Result<RetentionPolicy, RetentionError> {
        let len = self.len()?;
        let offset = self.at;
        let cut = RetentionError::InsufficientData { offset };
        let (part, behind) = self.rest.split_at_checked(len).ok_or(cut)?;
        let mut reader = Reader {
            rest: part,
            at: offset,
        };
        let policy = reader.policy(false)?;
        if !reader.rest.is_empty() {
            return Err(RetentionError::TrailingBytes { offset: reader.at });
        }
        (self.rest, self.at) = (behind, offset + len);
        Ok(policy)
    }

    fn len(&mut self) -> Result<usize, RetentionError> {
        let len = u32::from_le_bytes(self.take()?);
        Ok(usize::try_from(len).unwrap_or(usize::MAX))
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], RetentionError> {
        let cut = RetentionError::InsufficientData {
            offset: self.at + self.rest.len(),
        };
        let (taken, behind): (&[u8; N], _) = self.rest.split_first_chunk().ok_or(cut)?;
        (self.rest, self.at) = (behind, self.at + N);
        Ok(*taken)
    }
}
