//! The pure decision of one step: given the newest version of its key, what is to be written and
//! what is to be answered. No locks, no effects.

use in_mem_model::{ValueRef, ValueType, as_int, encoded_equal, type_of};

use crate::program::{Actual, Expected, Seen, Step, StepOutcome};

/// The newest version of a key, pending ones and earlier steps of the program included.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Newest<'a> {
    /// The newest commit version in the store; 0 when the key never existed.
    pub(crate) version: u64,
    /// The value, unless deleted or never written.
    pub(crate) value: Option<&'a [u8]>,
    /// An older value may come back unless a tombstone covers it. A restart does it where the key is
    /// deleted by a volatile commit and the one being decided is logged, a clock that is set back
    /// where the value has expired.
    pub(crate) may_return: bool,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) effect: Effect,
    pub(crate) outcome: StepOutcome,
}

/// What a step writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing.
    Nothing,
    /// The value it carries.
    Given,
    /// This Int.
    Int(i64),
    /// A tombstone.
    Tombstone,
}

/// Why a step has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StepError {
    /// The value is not an Int.
    NotInt {
        /// What it is.
        actual: &'static str,
    },
    /// The sum or difference leaves the range of i64.
    Overflow {
        /// What was to be done.
        operation: &'static str,
        /// The value before.
        value: i64,
    },
}

/// True when a read is still what it was.
pub(crate) fn holds(seen: Seen, newest_version: u64) -> bool {
    match seen {
        Seen::Version(version) => version == newest_version,
        Seen::NotAfter(version) => newest_version <= version,
    }
}

/// Decides one step on a key. A step on the run itself is decided by its change instead.
pub(crate) fn decide(step: &Step<'_>, newest: Newest<'_>) -> Result<Decision, StepError> {
    Ok(match step {
        Step::Put { .. } | Step::PutExpiring { .. } | Step::SetRetention(_) => {
            write(StepOutcome::Written)
        }
        Step::Delete { .. } | Step::ClearRetention => {
            tombstone(newest, StepOutcome::Deleted(newest.value.is_some()))
        }
        Step::PutIfAbsent { .. } => write_if(newest.value.is_none(), newest),
        Step::CasVersion { expected, .. } => write_if(is_expected(*expected, newest), newest),
        Step::CasValue { expected, .. } => write_if(is_equal(*expected, newest.value), newest),
        Step::Increment { delta, .. } => int(newest, "incr", |value| value.checked_add(*delta))?,
        Step::Decrement { delta, .. } => int(newest, "decr", |value| value.checked_sub(*delta))?,
        Step::GetAndSet { .. } => write(StepOutcome::Previous(newest.value.map(<[u8]>::to_vec))),
        Step::GetAndDelete { .. } => tombstone(
            newest,
            StepOutcome::Previous(newest.value.map(<[u8]>::to_vec)),
        ),
        Step::Run(_) => Decision {
            effect: Effect::Given,
            outcome: StepOutcome::Written,
        },
    })
}

fn write(outcome: StepOutcome) -> Decision {
    Decision {
        effect: Effect::Given,
        outcome,
    }
}

fn write_if(holds: bool, newest: Newest<'_>) -> Decision {
    if holds {
        return write(StepOutcome::Written);
    }
    let actual = Actual {
        version: newest.version,
        is_absent: newest.value.is_none(),
    };
    Decision {
        effect: Effect::Nothing,
        outcome: StepOutcome::Mismatch(actual),
    }
}

/// Deleting what is not there writes nothing, unless it would be there again after a restart.
fn tombstone(newest: Newest<'_>, outcome: StepOutcome) -> Decision {
    let effect = if newest.value.is_some() || newest.may_return {
        Effect::Tombstone
    } else {
        Effect::Nothing
    };
    Decision { effect, outcome }
}

/// True when the key is as expected.
pub(crate) fn is_expected(expected: Expected, newest: Newest<'_>) -> bool {
    match expected {
        Expected::Version(version) => version == newest.version,
        Expected::Absent => newest.value.is_none(),
    }
}

fn is_equal(expected: Option<ValueRef<'_>>, actual: Option<&[u8]>) -> bool {
    match (expected, actual) {
        (None, None) => true,
        (Some(expected), Some(actual)) => encoded_equal(expected.as_bytes(), actual),
        _ => false,
    }
}

/// Computes an Int from the one there is.
fn int(
    newest: Newest<'_>,
    operation: &'static str,
    compute: impl FnOnce(i64) -> Option<i64>,
) -> Result<Decision, StepError> {
    let value = match newest.value {
        None => 0,
        Some(bytes) => as_int(bytes).ok_or(StepError::NotInt {
            actual: type_name(bytes),
        })?,
    };
    let result = compute(value).ok_or(StepError::Overflow { operation, value })?;
    Ok(Decision {
        effect: Effect::Int(result),
        outcome: StepOutcome::Incremented(result),
    })
}

fn type_name(bytes: &[u8]) -> &'static str {
    type_of(bytes).map_or("Unknown", ValueType::name)
}
