//! What a commit answered, as it is kept for a repeat of its request: attribute 3 of a record.
//! Little-endian.
//!
//! ```text
//! result  := version u8 (= 1) | level u8 | form u8 | body
//! level   := 0 volatile, 1 logged, 2 synced
//! form    := 0 complete: one group after another, until the end
//!            1 counted: deleted_count u32
//! group   := 0 | count u32           so many steps that wrote
//!            1 | count u32           so many deletes that found nothing
//!            2 | count u32           so many deletes that deleted
//!            3 | i64                 one increment, its sum
//!            4                       one exchange that found nothing
//!            5 | len u32 | bytes     one exchange, the encoded value before
//! ```
//!
//! The versions are those of the record. An answer longer than [`ONCE_RESULT_LEN_BYTES_MAX`] is
//! kept as its counts alone: versions and how many keys were deleted can be told again, values
//! and the answers of single steps cannot.

use std::sync::Arc;

use in_mem_model::Level;

use crate::limits::ONCE_RESULT_LEN_BYTES_MAX;
use crate::program::{Outcome, Step, StepOutcome, StepOutcomes};

const RESULT_VERSION: u8 = 1;
const FORM_COMPLETE: u8 = 0;
const FORM_COUNTED: u8 = 1;
const HEAD_LEN_BYTES: usize = 3;
const GROUP_WRITTEN: u8 = 0;
const GROUP_DELETED_NOTHING: u8 = 1;
const GROUP_DELETED: u8 = 2;
const GROUP_INCREMENTED: u8 = 3;
const GROUP_PREVIOUS_NONE: u8 = 4;
const GROUP_PREVIOUS: u8 = 5;

/// The longest group of a step whose answer is no value, bytes.
const GROUP_LEN_BYTES_MAX: usize = 1 + size_of::<i64>();

const _: () = assert!(HEAD_LEN_BYTES + GROUP_LEN_BYTES_MAX <= ONCE_RESULT_LEN_BYTES_MAX);

/// Upper bound of the encoded result of some steps, bytes.
pub(crate) fn result_len_max<'a>(steps: impl Iterator<Item = Step<'a>>) -> usize {
    let mut len = HEAD_LEN_BYTES;
    for step in steps {
        len += match step {
            Step::GetAndSet { .. } | Step::GetAndDelete { .. } => ONCE_RESULT_LEN_BYTES_MAX,
            _ => GROUP_LEN_BYTES_MAX,
        };
        if ONCE_RESULT_LEN_BYTES_MAX <= len {
            return ONCE_RESULT_LEN_BYTES_MAX;
        }
    }
    len
}

/// Encodes what a commit is about to answer.
pub(crate) fn encode_result(level: Level, steps: &StepOutcomes) -> Arc<[u8]> {
    let mut bytes = vec![RESULT_VERSION, level_byte(level), FORM_COMPLETE];
    let mut rest = steps.as_slice();
    while let Some(step) = rest.first() {
        let taken = match step {
            StepOutcome::Incremented(sum) => {
                bytes.push(GROUP_INCREMENTED);
                bytes.extend_from_slice(&sum.to_le_bytes());
                1
            }
            StepOutcome::Previous(None) => {
                bytes.push(GROUP_PREVIOUS_NONE);
                1
            }
            StepOutcome::Previous(Some(value)) => {
                let len = value.len();
                if ONCE_RESULT_LEN_BYTES_MAX < len {
                    return counted(level, steps);
                }
                bytes.push(GROUP_PREVIOUS);
                bytes.extend_from_slice(&count_u32(len).to_le_bytes());
                bytes.extend_from_slice(value);
                1
            }
            // A condition that does not hold commits nothing.
            StepOutcome::Written | StepOutcome::Mismatch(_) => {
                push_equal(&mut bytes, GROUP_WRITTEN, rest)
            }
            StepOutcome::Deleted(false) => push_equal(&mut bytes, GROUP_DELETED_NOTHING, rest),
            StepOutcome::Deleted(true) => push_equal(&mut bytes, GROUP_DELETED, rest),
        };
        if ONCE_RESULT_LEN_BYTES_MAX < bytes.len() {
            return counted(level, steps);
        }
        rest = rest.get(taken..).unwrap_or_default();
    }
    bytes.into()
}

/// True when the commit was logged: what a volatile one answered is on no disk.
pub(crate) fn is_logged(bytes: &[u8]) -> bool {
    matches!(bytes.get(1), Some(1 | 2))
}

/// What a request was told. Bytes of a later or another making tell no more than the versions.
pub(crate) fn decode_result(bytes: &[u8], version: u64, timestamp_us: u64) -> Outcome {
    let level = match bytes.get(1) {
        Some(1) => Level::Logged,
        Some(2) => Level::Synced,
        _ => Level::Volatile,
    };
    Outcome {
        version,
        timestamp_us,
        level,
        steps: decode_steps(bytes).unwrap_or(StepOutcomes::Counted { deleted_count: 0 }),
    }
}

fn decode_steps(bytes: &[u8]) -> Option<StepOutcomes> {
    let (head, mut rest) = bytes.split_first_chunk::<HEAD_LEN_BYTES>()?;
    let form = match *head {
        [RESULT_VERSION, _, form] => form,
        _ => return None,
    };
    if form == FORM_COUNTED {
        let deleted_count = u32::from_le_bytes(rest.try_into().ok()?);
        return Some(StepOutcomes::Counted { deleted_count });
    }
    let mut steps = Vec::new();
    while let Some((group, behind)) = rest.split_first() {
        rest = behind;
        let (outcome, count) = match *group {
            GROUP_WRITTEN => (StepOutcome::Written, take_u32(&mut rest)?),
            GROUP_DELETED_NOTHING => (StepOutcome::Deleted(false), take_u32(&mut rest)?),
            GROUP_DELETED => (StepOutcome::Deleted(true), take_u32(&mut rest)?),
            GROUP_INCREMENTED => {
                let (sum, behind) = rest.split_first_chunk()?;
                rest = behind;
                (StepOutcome::Incremented(i64::from_le_bytes(*sum)), 1)
            }
            GROUP_PREVIOUS_NONE => (StepOutcome::Previous(None), 1),
            GROUP_PREVIOUS => {
                let len = usize::try_from(take_u32(&mut rest)?).ok()?;
                let (value, behind) = rest.split_at_checked(len)?;
                rest = behind;
                (StepOutcome::Previous(Some(value.to_vec())), 1)
            }
            _ => return None,
        };
        // The count may come from a foreign file; no commit has more steps than this.
        let count = usize::try_from(count).ok()?;
        let len = steps.len().checked_add(count)?;
        if in_mem_model::limits::TRANSACTION_MUTATION_COUNT_MAX < len {
            return None;
        }
        steps.resize(len, outcome);
    }
    match <[StepOutcome; 1]>::try_from(steps) {
        Ok([step]) => Some(StepOutcomes::One(step)),
        Err(steps) => Some(StepOutcomes::Many(steps)),
    }
}

fn counted(level: Level, steps: &StepOutcomes) -> Arc<[u8]> {
    let deleted = |step: &&StepOutcome| matches!(step, StepOutcome::Deleted(true));
    let deleted_count = steps.as_slice().iter().filter(deleted).count();
    let mut bytes = vec![RESULT_VERSION, level_byte(level), FORM_COUNTED];
    bytes.extend_from_slice(&count_u32(deleted_count).to_le_bytes());
    bytes.into()
}

/// One group for the first of `rest` and those behind it that say the same; how many they are.
fn push_equal(bytes: &mut Vec<u8>, group: u8, rest: &[StepOutcome]) -> usize {
    let count = rest
        .iter()
        .take_while(|step| rest.first() == Some(*step))
        .count();
    bytes.push(group);
    bytes.extend_from_slice(&count_u32(count).to_le_bytes());
    count
}

fn take_u32(rest: &mut &[u8]) -> Option<u32> {
    let (number, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(u32::from_le_bytes(*number))
}

fn level_byte(level: Level) -> u8 {
    match level {
        Level::Volatile => 0,
        Level::Logged => 1,
        Level::Synced => 2,
    }
}

fn count_u32(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
