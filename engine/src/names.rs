//! Which run has which name: derived from the metadata of the runs, rebuilt at recovery.
//!
//! A name is claimed inside the critical section of the run that is begun, before its commit is
//! assigned a version, and given back if the commit does not happen.

use std::collections::HashMap;

use in_mem_model::RunId;
use parking_lot::Mutex;

use crate::errors::CommitError;

/// The names of all runs, those whose beginning is pending included.
#[derive(Default)]
pub(crate) struct RunNames {
    names: Mutex<HashMap<String, RunId>>,
}

/// A name taken for a commit that may still fail; given back when dropped.
pub(crate) struct NameClaim<'a> {
    names: &'a RunNames,
    name: Option<String>,
}

impl RunNames {
    /// Takes `name` for `run`.
    pub(crate) fn claim(&self, name: &str, run: RunId) -> Result<NameClaim<'_>, CommitError> {
        let mut names = self.names.lock();
        if let Some(run) = names.get(name) {
            return Err(CommitError::AlreadyExists { run: *run });
        }
        names.insert(name.to_owned(), run);
        Ok(NameClaim {
            names: self,
            name: Some(name.to_owned()),
        })
    }

    /// Who has `name`; its beginning may be pending.
    pub(crate) fn get(&self, name: &str) -> Option<RunId> {
        self.names.lock().get(name).copied()
    }

    /// Recovery: false when another run has the name already.
    pub(crate) fn restore(&self, name: &str, run: RunId) -> bool {
        *self.names.lock().entry(name.to_owned()).or_insert(run) == run
    }
}

impl NameClaim<'_> {
    /// The commit will happen.
    pub(crate) fn keep(mut self) {
        self.name = None;
    }
}

impl Drop for NameClaim<'_> {
    fn drop(&mut self) {
        if let Some(name) = self.name.take() {
            self.names.names.lock().remove(&name);
        }
    }
}
