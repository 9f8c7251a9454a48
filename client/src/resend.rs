//! Sending many requests until each is answered or given up.
//!
//! What a lost connection left unanswered is sent again over the next one, in the order it was
//! queued: a write under the sequence it had, so that it has one effect. Without a server that
//! remembers writes, nothing is sent again unless nothing at all was sent.

use in_mem_ipc::FrameBuffer;
use in_mem_ipc::frame::{HEADER_LEN_BYTES, Header, parse_header};
use in_mem_ipc::once::{UNANSWERED_COUNT_MAX, stamp_sequence};
use in_mem_ipc::operation::OperationKind;
use in_mem_ipc::request::RequestHeader;

use crate::attempt::RESEND_COUNT_MAX;
use crate::connection::{Fault, Outgoing, Progress, ProtocolError};
use crate::error::{self, ClientError};
use crate::identity::is_remembered;
use crate::link::{Binding, Link};

/// Requests as they are queued: encoded, with consecutive ids.
pub(crate) struct Queued<'a> {
    pub(crate) frames: &'a mut FrameBuffer,
    pub(crate) ends: &'a [usize],
    pub(crate) kinds: &'a [OperationKind],
    pub(crate) request_id_first: u64,
    pub(crate) header: RequestHeader,
    pub(crate) binding: Binding,
}

/// How sending ended.
pub(crate) struct Sent {
    /// Of each request: whether an attempt without an answer may have committed it.
    pub(crate) in_doubt: Vec<bool>,
    /// What ended the first connection that was lost.
    pub(crate) fault: Option<Fault>,
}

/// Requests on their way over one connection.
struct Round {
    /// Where each stands in the queue.
    positions: Vec<usize>,
    frames: FrameBuffer,
    ends: Vec<usize>,
    request_id_first: u64,
}

/// Sends what is queued; hands the position of each request and the body of its answer to
/// `collect`, which tells whether a position is answered.
///
/// # Errors
/// There was no connection to be had; nothing was sent by this call.
pub(crate) fn send(
    link: &mut Link,
    queued: Queued<'_>,
    answers: &mut impl Answered,
) -> Result<Sent, ClientError> {
    let Queued { kinds, header, .. } = queued;
    let binding = queued.binding;
    // What has a sequence already was sent before.
    let is_repeat =
        |kind: &OperationKind| header.client_sequence != 0 && is_remembered(*kind, &header);
    let mut sent = Sent {
        in_doubt: kinds.iter().map(is_repeat).collect(),
        fault: None,
    };
    let mut round = Round::of(queued);
    link.ready(binding).map_err(|error| sent.refused(error))?;
    let numbered = round.number(link, kinds, &header);
    let mut is_numbered = numbered.map_err(|error| sent.refused(error))?;
    if let Some(kind) = sent.write_in_doubt(kinds)
        && !is_numbered
    {
        return Err(error::in_doubt(error::not_remembered(kind)));
    }
    let mut resend_count = 0;
    loop {
        let outgoing = Outgoing {
            frames: &round.frames,
            ends: &round.ends,
            request_id_first: round.request_id_first,
            spread_max: is_numbered.then_some(UNANSWERED_COUNT_MAX),
        };
        let positions = &round.positions;
        let mut collect = |at: usize, body: &[u8]| {
            let position = positions.get(at).copied();
            answers.collect(
                position.ok_or(ProtocolError::UnknownRequest(at as u64))?,
                body,
            )
        };
        let (progress, fault) = match link.exchange(outgoing, binding, &mut collect) {
            Ok(exchanged) => exchanged,
            Err(error) if resend_count == 0 => return Err(sent.refused(error)),
            Err(_) => return Ok(sent),
        };
        let Some(fault) = fault else { return Ok(sent) };
        round.doubt(&progress, answers, &mut sent.in_doubt);
        let may_resend = may_resend(&fault, is_numbered);
        sent.fault.get_or_insert(fault);
        let is_free = binding == Binding::Free && link.resends();
        if !is_free || !may_resend || RESEND_COUNT_MAX <= resend_count {
            return Ok(sent);
        }
        resend_count += 1;
        round = round.rest(link, answers);
        // By what the server of the next connection says, not that of the last.
        if link.ready(binding).is_err() {
            return Ok(sent);
        }
        if sent.write_in_doubt(kinds).is_none() {
            let Ok(numbered) = round.number(link, kinds, &header) else {
                return Ok(sent);
            };
            is_numbered = numbered;
        } else if !link.remembers() {
            return Ok(sent);
        }
    }
}

/// Whether what a fault left unanswered may go over another connection.
fn may_resend(fault: &Fault, is_numbered: bool) -> bool {
    match fault {
        Fault::NotSent(_) => true,
        Fault::Silence(_) | Fault::Protocol(_) => false,
        fault => is_numbered && fault.is_transient(),
    }
}

impl Sent {
    /// A write that may have been committed, if there is one.
    fn write_in_doubt(&self, kinds: &[OperationKind]) -> Option<OperationKind> {
        let in_doubt = kinds.iter().zip(&self.in_doubt).filter(|(_, is)| **is);
        in_doubt.map(|(kind, _)| *kind).find(|kind| kind.is_write())
    }

    /// Why nothing was sent by this call.
    fn refused(&self, error: ClientError) -> ClientError {
        match self.in_doubt.contains(&true) {
            true => error::in_doubt(error),
            false => error,
        }
    }
}

/// Takes answers by position.
pub(crate) trait Answered {
    fn collect(&mut self, position: usize, body: &[u8]) -> Result<(), ProtocolError>;
    fn is_answered(&self, position: usize) -> bool;
}

impl Round {
    /// All that is queued.
    fn of(queued: Queued<'_>) -> Self {
        Self {
            positions: (0..queued.ends.len()).collect(),
            frames: std::mem::take(queued.frames),
            ends: queued.ends.to_vec(),
            request_id_first: queued.request_id_first,
        }
    }

    /// Gives each write its sequence, as the last thing before all are sent; false when the server
    /// of the connection would not remember them.
    fn number(
        &mut self,
        link: &mut Link,
        kinds: &[OperationKind],
        header: &RequestHeader,
    ) -> Result<bool, ClientError> {
        let mut first = None;
        let mut start = 0;
        for (position, end) in self.positions.iter().zip(&self.ends) {
            let frame_at = start..*end;
            start = *end;
            let kind = kinds.get(*position);
            if !kind.is_some_and(|kind| is_remembered(*kind, header)) {
                continue;
            }
            let Some(frame) = self.frames.get_mut(frame_at) else {
                continue;
            };
            let Some(sequence) = link.sequence_of(header)? else {
                stamp_sequence(frame, 0, 0);
                continue;
            };
            // Those before it in the queue may be unanswered, as far as they may be at once.
            let lag = sequence - *first.get_or_insert(sequence);
            let lag = lag.min(UNANSWERED_COUNT_MAX as u64 - 1);
            stamp_sequence(frame, sequence, u16::try_from(lag).unwrap_or(u16::MAX));
        }
        Ok(first.is_some())
    }

    /// Notes which requests may have been committed by the connection that was lost.
    fn doubt(&self, progress: &Progress, answers: &impl Answered, in_doubt: &mut [bool]) {
        for (position, end) in self.positions.iter().zip(&self.ends) {
            let was_sent = *end <= progress.sent_len_bytes;
            if was_sent
                && !answers.is_answered(*position)
                && let Some(in_doubt) = in_doubt.get_mut(*position)
            {
                *in_doubt = true;
            }
        }
    }

    /// The requests that have no answer, with new ids.
    fn rest(self, link: &mut Link, answers: &impl Answered) -> Self {
        let mut rest = Self {
            positions: Vec::new(),
            frames: FrameBuffer::new(),
            ends: Vec::new(),
            request_id_first: link.reserve_request_ids(self.positions.len() as u64),
        };
        let mut start = 0;
        for (position, end) in self.positions.iter().zip(&self.ends) {
            let frame = self.frames.get(start..*end).unwrap_or_default();
            start = *end;
            let Ok(Some(header)) = parse_header(frame) else {
                continue;
            };
            if answers.is_answered(*position) {
                continue;
            }
            let header = Header {
                request_id: rest.request_id_first + rest.positions.len() as u64,
                ..header
            };
            rest.frames.extend_from_slice(&header.encode());
            rest.frames
                .extend_from_slice(frame.get(HEADER_LEN_BYTES..).unwrap_or_default());
            rest.positions.push(*position);
            rest.ends.push(rest.frames.len());
        }
        rest
    }
}
