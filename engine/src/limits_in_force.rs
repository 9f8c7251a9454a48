//! The limits of the data model as a database was opened with them.
//!
//! Keys and values come in checked against the highest limits there are; here they are held against
//! lower ones, which costs nothing while none is lower.

use in_mem_model::keys::KeyError;
use in_mem_model::{Limits, validate};

use crate::disk_room::DiskRoom;
use crate::errors::CommitError;
use crate::prepare::{given_value, step_key};
use crate::program::Step;
use crate::run_change::RunChange;

/// The limits of one database.
pub(crate) struct LimitsInForce {
    pub(crate) values: Limits,
    /// Whether the disk has room for the data to grow.
    pub(crate) disk: DiskRoom,
    /// Some limit is lower than what was checked already.
    has_lower: bool,
}

impl LimitsInForce {
    pub(crate) fn new(values: Limits) -> Self {
        let has_lower = values != Limits::DEFAULT;
        let disk = DiskRoom::default();
        Self {
            values,
            disk,
            has_lower,
        }
    }

    /// Holds one step against the limits that are lower than the highest.
    #[inline]
    pub(crate) fn check(&self, step: &Step<'_>) -> Result<(), CommitError> {
        if self.has_lower {
            return self.check_lower(step);
        }
        Ok(())
    }

    #[cold]
    fn check_lower(&self, step: &Step<'_>) -> Result<(), CommitError> {
        let limits = &self.values;
        if let Step::Run(change) = step {
            return match change {
                RunChange::Begin(begin) => self.check_run_name(begin.name.as_deref()),
                _ => Ok(()),
            };
        }
        if step.is_retention() {
            return Ok(());
        }
        let len_bytes = step_key(step).user_key.len();
        if limits.key_len_bytes_max < len_bytes {
            let len_bytes_max = limits.key_len_bytes_max;
            return Err(CommitError::InvalidKey(KeyError::TooLong {
                len_bytes,
                len_bytes_max,
            }));
        }
        if let Some(value) = given_value(step) {
            validate(value, limits)?;
        }
        Ok(())
    }

    fn check_run_name(&self, name: Option<&str>) -> Result<(), CommitError> {
        if name.is_some_and(|name| self.values.run_name_len_bytes_max < name.len()) {
            return Err(CommitError::InvalidArgument { what: "run name" });
        }
        Ok(())
    }
}
