//! Which requests are exactly-once requests, and what the engine is told about them. What a client
//! must send is drawn in `in_mem_ipc::once`.

use in_mem_engine::OnceRequest;
use in_mem_ipc::once::{fingerprint, xxh64};
use in_mem_ipc::request::RequestHeader;
use in_mem_model::{Error, RunId, SubCode};

use super::Call;
use crate::caller::Caller;

impl Call<'_> {
    /// The exactly-once request this write is, if it carries a sequence.
    pub(super) fn once(&self) -> Result<Option<OnceRequest>, Error> {
        let header = &self.header;
        if header.client_sequence == 0 {
            return Ok(None);
        }
        let client = self.caller.client.ok_or_else(|| {
            let message = "a client_sequence needs a client id in the hello";
            Error::new(SubCode::InvalidArgument, message)
        })?;
        Ok(Some(OnceRequest {
            user: self.caller.credentials.user,
            process: self.caller.credentials.process,
            client_id: client.id,
            registered_at: client.registered_at,
            sequence: header.client_sequence,
            lowest_awaited: lowest_awaited(header),
            fingerprint: fingerprint(self.body, header.txn_id),
        }))
    }
}

fn lowest_awaited(header: &RequestHeader) -> u64 {
    let lag = u64::from(header.client_sequence_lag);
    header.client_sequence.saturating_sub(lag)
}

/// The id of the run that a `run.begin` begins: a new one, unless it is an exactly-once request,
/// whose repeat must come to the same run.
pub(crate) fn begun_run(caller: &Caller, header: &RequestHeader) -> RunId {
    let Some(client) = caller.client.filter(|_| header.client_sequence != 0) else {
        return RunId::new_random();
    };
    let mut name = Vec::with_capacity(size_of::<[u8; 16]>() + size_of::<u64>());
    name.extend_from_slice(&client.id);
    name.extend_from_slice(&header.client_sequence.to_le_bytes());
    let user = u64::from(caller.credentials.user);
    let high = xxh64(&name, user);
    let low = xxh64(&name, !user);
    // UUID version 8, RFC 9562 section 5.8: made in a way of one's own; never zero.
    let high = (high & 0xFFFF_FFFF_FFFF_0FFF) | 0x8000;
    let low = (low & 0x3FFF_FFFF_FFFF_FFFF) | 0x8000_0000_0000_0000;
    let mut id = [0; 16];
    let (first, last) = id.split_at_mut(size_of::<u64>());
    first.copy_from_slice(&high.to_be_bytes());
    last.copy_from_slice(&low.to_be_bytes());
    RunId(id)
}
