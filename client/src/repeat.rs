//! The one write that a scope of [`Client::repeat`](crate::Client::repeat) is for.
//!
//! A sequence names one write. Two different writes under it would be taken for one by the server,
//! and so would two equal ones, of which the second would do nothing: so a scope takes one write,
//! and takes it again as long as it has no answer.

use std::sync::{Mutex, MutexGuard, PoisonError};

use in_mem_ipc::frame::parse_frame;
use in_mem_ipc::once::fingerprint;
use in_mem_ipc::request::{RequestHeader, RunChoice};
use in_mem_model::Outcome;

use crate::error::{self, ClientError};

/// What a repeat is for. Handles made of one client of [`Client::repeat`](crate::Client::repeat)
/// share it.
#[derive(Debug, Default)]
pub(crate) struct Repeat {
    claim: Mutex<Option<Claim>>,
}

/// The write.
#[derive(Debug)]
struct Claim {
    fingerprint: u64,
    run: RunChoice,
    /// Whether its outcome is known.
    is_settled: bool,
}

impl Repeat {
    /// Takes a write, encoded in one whole frame, for the one that is repeated.
    ///
    /// # Errors
    /// It is another one, or the same one again after its answer.
    pub(crate) fn claim(&self, frame: &[u8], header: &RequestHeader) -> Result<(), ClientError> {
        let body = parse_frame(frame).ok().flatten().map(|frame| frame.body);
        let fingerprint = fingerprint(body.unwrap_or_default(), header.txn_id);
        let mut claim = self.lock();
        match claim.as_ref() {
            None => {
                *claim = Some(Claim {
                    fingerprint,
                    run: header.run,
                    is_settled: false,
                });
                Ok(())
            }
            Some(known)
                if known.fingerprint == fingerprint
                    && known.run == header.run
                    && !known.is_settled =>
            {
                Ok(())
            }
            Some(_) => Err(error::second_of_repeat(header.client_sequence)),
        }
    }

    /// Notes what its answer or error says of the write.
    pub(crate) fn settle(&self, outcome: Option<Outcome>) {
        if outcome != Some(Outcome::OutcomeUnknown)
            && let Some(claim) = self.lock().as_mut()
        {
            claim.is_settled = true;
        }
    }

    /// The claim is changed by one assignment, so a panic elsewhere leaves nothing half done.
    fn lock(&self) -> MutexGuard<'_, Option<Claim>> {
        self.claim.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
