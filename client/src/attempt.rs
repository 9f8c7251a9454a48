//! One request, sent until it is answered or given up.
//!
//! Promises that a write has at most one effect: it is sent again only when the kernel certainly
//! did not take it, or when the server remembers what it committed under the sequence of the write
//! and answers that again. Reads whose answer was lost are sent again. What is said of a write that
//! is given up speaks of all its attempts, also of those made before this call, which a caller
//! repeats by its sequence.

use in_mem_ipc::codec::access_response;
use in_mem_ipc::once::stamp_sequence;
use in_mem_ipc::operation::OperationKind;
use in_mem_ipc::request::RequestHeader;
use in_mem_ipc::response::ArchivedResponse;
use in_mem_model::SubCode;

use crate::connection::{Fault, Outgoing, ProtocolError};
use crate::error::{self, ClientError};
use crate::identity::is_remembered;
use crate::link::{Binding, Link};

/// How often one request is sent again. Each time a new connection was made, so the server is
/// there; a server that dies three times over one request may be dying of it.
pub(crate) const RESEND_COUNT_MAX: u32 = 3;

/// One request to be sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call {
    pub(crate) kind: OperationKind,
    pub(crate) request_id: u64,
    /// Of its frame.
    pub(crate) len_bytes: usize,
    pub(crate) header: RequestHeader,
    pub(crate) binding: Binding,
}

impl Call {
    /// Whether the server remembers what became of it.
    pub(crate) fn is_remembered(&self) -> bool {
        is_remembered(self.kind, &self.header)
    }

    /// Its one frame, to be sent.
    fn outgoing<'a>(&'a self, frames: &'a [u8]) -> Outgoing<'a> {
        Outgoing {
            frames,
            ends: std::slice::from_ref(&self.len_bytes),
            request_id_first: self.request_id,
            spread_max: None,
        }
    }

    /// What is known before it is sent at all.
    fn doubt(&self) -> Doubt {
        if self.is_remembered() && self.header.client_sequence != 0 {
            Doubt::Earlier
        } else {
            Doubt::None
        }
    }
}

/// Which attempt may have committed the request, whatever comes of the one under way.
enum Doubt {
    /// None.
    None,
    /// One before this call: the caller repeats it.
    Earlier,
    /// One of this call, that was lost so.
    Lost(ClientError),
}

impl Doubt {
    const fn is_there(&self) -> bool {
        !matches!(self, Self::None)
    }

    /// Notes an attempt that was lost; the first one says most.
    fn lose(&mut self, lost: ClientError) {
        if !matches!(self, Self::Lost(_)) {
            *self = Self::Lost(lost);
        }
    }

    /// What is said of the request when its last attempt ended so, and certainly did nothing.
    fn over(self, error: ClientError) -> ClientError {
        match self {
            Self::None => error,
            Self::Earlier => error::in_doubt(error),
            Self::Lost(lost) => lost,
        }
    }

    /// What an answer says of the request.
    fn settle<T>(self, answer: Result<T, ClientError>, call: &Call) -> Result<T, ClientError> {
        match answer {
            Err(error)
                if self.is_there()
                    && call.kind == OperationKind::TxnCommit
                    && error.is_not_active() =>
            {
                Err(error::unbound())
            }
            Err(error) if !error.is_decisive() => Err(match call.is_remembered() {
                true => self.over(error::unread(error)),
                false => self.over(error),
            }),
            answer => answer,
        }
    }
}

impl Link {
    /// Sends one encoded request, under a sequence if the server remembers it. A client that was
    /// forgotten before the request was sent at all sends it as a new one.
    pub(crate) fn call_encoded<T>(
        &mut self,
        frames: &mut [u8],
        call: Call,
        read: &impl Fn(&ArchivedResponse<'static>) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        let mut is_renewed = false;
        loop {
            let (result, is_in_doubt) = self.attempt(frames, call, read);
            match &result {
                Err(error)
                    if call.is_remembered() && error.sub() == Some(SubCode::SessionExpired) =>
                {
                    self.renew_identity();
                    if is_in_doubt {
                        return result;
                    }
                    if is_renewed || call.binding != Binding::Free {
                        return Err(error::never_executed(call.kind, error));
                    }
                    is_renewed = true;
                }
                _ => return result,
            }
        }
    }

    /// Sends one request until it is answered or given up; and whether another attempt than the
    /// last may have committed it.
    fn attempt<T>(
        &mut self,
        frames: &mut [u8],
        call: Call,
        read: &impl Fn(&ArchivedResponse<'static>) -> Result<T, ClientError>,
    ) -> (Result<T, ClientError>, bool) {
        let kind = call.kind;
        let is_bound = call.binding != Binding::Free;
        let mut binding = call.binding;
        let mut sequence = None;
        let mut doubt = call.doubt();
        let mut resend_count = 0;
        loop {
            let is_in_doubt = doubt.is_there();
            let is_remembered = match self.number(frames, &call, binding, &mut sequence) {
                Ok(is_remembered) if is_in_doubt && !is_remembered => {
                    return (Err(doubt.over(error::not_remembered(kind))), true);
                }
                Ok(is_remembered) => is_remembered,
                Err(error) => return (Err(doubt.over(error)), is_in_doubt),
            };
            let mut answer = None;
            let exchanged = self.exchange(call.outgoing(frames), binding, &mut |_, body| {
                if answer.is_some() {
                    return Err(ProtocolError::UnknownRequest(call.request_id));
                }
                answer = Some(read(access_response(body)?));
                Ok(())
            });
            let (progress, fault) = match exchanged {
                Ok(exchanged) => exchanged,
                Err(error) => return (Err(doubt.over(error)), is_in_doubt),
            };
            let Some(fault) = fault else {
                let answer = answer.unwrap_or_else(|| Err(error::unanswered(kind)));
                return (doubt.settle(answer, &call), is_in_doubt);
            };
            let was_sent = frames.len() <= progress.sent_len_bytes;
            let may_resend = match (&fault, kind.is_write()) {
                (Fault::NotSent(_), _) => true,
                (Fault::Silence(_) | Fault::GivenUp | Fault::Protocol(_), _) => false,
                (_, true) => is_remembered && fault.is_transient(),
                (_, false) => kind.is_idempotent(),
            };
            // A commit outlives the connection it began on, and is remembered; nothing else is.
            let is_free = !is_bound || (is_remembered && was_sent);
            let may_resend = may_resend && is_free && self.resends();
            let lost = error::lost(fault, kind, was_sent, is_bound);
            if !may_resend || RESEND_COUNT_MAX <= resend_count {
                return (Err(doubt.over(lost)), is_in_doubt);
            }
            if was_sent && kind.is_write() {
                doubt.lose(lost);
                binding = Binding::Free;
            }
            resend_count += 1;
        }
    }

    /// Gives a write its sequence, the same for each attempt, where the server of the connection
    /// that will carry it remembers; whether it does.
    fn number(
        &mut self,
        frames: &mut [u8],
        call: &Call,
        binding: Binding,
        sequence: &mut Option<u64>,
    ) -> Result<bool, ClientError> {
        self.ready(binding)?;
        if !call.is_remembered() {
            return Ok(false);
        }
        if sequence.is_none() {
            *sequence = self.sequence_of(&call.header)?;
        }
        let remembers = self.remembers();
        let carried = sequence.filter(|_| remembers);
        stamp_sequence(frames, carried.unwrap_or_default(), 0);
        Ok(remembers)
    }
}
