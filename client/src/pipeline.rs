//! Many requests on their way at once.
//!
//! Requests are encoded as they are queued, sent together, and answered in any order. Each gets
//! an answer or an error of its own. What a lost connection left unanswered is sent again where
//! that has no second effect, see `resend.rs`. Its requests are separate: for all or none, use a batch.

use std::marker::PhantomData;
use std::ops::Range;

use in_mem_ipc::FrameBuffer;
use in_mem_ipc::codec::{access_response, encode_request};
use in_mem_ipc::operation::OperationKind;
use in_mem_ipc::request::kv::{Increment, Key, KeyValue, KeyValues};
use in_mem_ipc::request::{Operation, Request};
use in_mem_ipc::response::ArchivedResponse;
use in_mem_model::{Outcome, SubCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::answer::{self, Answer};
use crate::batch::Batch;
use crate::connection::{Fault, ProtocolError};
use crate::durable::Fence;
use crate::error::{self, ClientError};
use crate::identity::is_remembered;
use crate::link::{Binding, Link, lock};
use crate::resend::{self, Answered, Queued, Sent};
use crate::results::{Conditional, Deleted, Incremented, Receipt, Versioned};
use crate::scope::Scope;
use crate::value::encode;

/// Most requests in one pipeline.
pub const PIPELINE_REQUEST_COUNT_MAX: usize = 65_536;

/// Most bytes in one pipeline: one frame of the largest size always fits.
pub const PIPELINE_LEN_BYTES_MAX: usize = 128 << 20;

const _: () = assert!(in_mem_ipc::frame::FRAME_LEN_BYTES_MAX as usize <= PIPELINE_LEN_BYTES_MAX);

/// Requests that are queued and sent together.
#[derive(Debug)]
pub struct Pipeline {
    scope: Scope,
    request_id_first: u64,
    frames: FrameBuffer,
    ends: Vec<usize>,
    kinds: Vec<OperationKind>,
    /// The position of the one write that is repeated, if the pipeline is for one.
    repeated: Option<usize>,
}

/// Which answer of a pipeline is meant, and how to read it.
#[derive(Debug)]
pub struct Ticket<T> {
    position: usize,
    read: fn(&Answer) -> Result<T, ClientError>,
    answer: PhantomData<fn() -> T>,
}

/// The answers of a pipeline.
#[derive(Debug)]
pub struct Answers {
    bodies: FrameBuffer,
    answers: Vec<Result<Range<usize>, ClientError>>,
    kinds: Vec<OperationKind>,
}

impl Pipeline {
    pub(crate) fn new(scope: Scope) -> Self {
        let count = PIPELINE_REQUEST_COUNT_MAX as u64;
        let request_id_first = lock(&scope.link).reserve_request_ids(count);
        Self {
            scope,
            request_id_first,
            frames: FrameBuffer::new(),
            ends: Vec::new(),
            kinds: Vec::new(),
            repeated: None,
        }
    }

    /// How many requests are queued.
    #[must_use]
    pub fn request_count(&self) -> usize {
        self.ends.len()
    }

    /// How many bytes are queued.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.frames.len()
    }

    /// Queues a put.
    ///
    /// # Errors
    ///
    /// The value cannot be encoded, or the pipeline is full; nothing was queued.
    pub fn put<T: Serialize + ?Sized>(
        &mut self,
        key: &str,
        value: &T,
    ) -> Result<Ticket<Receipt>, ClientError> {
        let entry = KeyValue {
            key: key.into(),
            value: encode(value)?,
        };
        self.queue(Operation::KvPut(entry), answer::written)
    }

    /// Queues a put if the key does not exist.
    ///
    /// # Errors
    ///
    /// Those of [`Self::put`].
    pub fn put_if_absent<T: Serialize + ?Sized>(
        &mut self,
        key: &str,
        value: &T,
    ) -> Result<Ticket<Conditional>, ClientError> {
        let entry = KeyValue {
            key: key.into(),
            value: encode(value)?,
        };
        self.queue(Operation::KvPutIfAbsent(entry), answer::conditional)
    }

    /// Queues several puts that happen together, under one commit version.
    ///
    /// # Errors
    ///
    /// Those of [`Self::put`].
    pub fn put_many<'k, T: Serialize + 'k>(
        &mut self,
        entries: impl IntoIterator<Item = (&'k str, &'k T)>,
    ) -> Result<Ticket<Receipt>, ClientError> {
        let entries = entries
            .into_iter()
            .map(|(key, value)| {
                Ok(KeyValue {
                    key: key.into(),
                    value: encode(value)?,
                })
            })
            .collect::<Result<_, ClientError>>()?;
        self.queue(Operation::KvPutMany(KeyValues { entries }), answer::written)
    }

    /// Queues a get.
    ///
    /// # Errors
    ///
    /// The pipeline is full; nothing was queued.
    pub fn get<T: DeserializeOwned>(
        &mut self,
        key: &str,
    ) -> Result<Ticket<Option<T>>, ClientError> {
        self.queue(Operation::KvGet(Key { key: key.into() }), answer::value)
    }

    /// Queues a get with version and time.
    ///
    /// # Errors
    ///
    /// The pipeline is full; nothing was queued.
    pub fn get_versioned<T: DeserializeOwned>(
        &mut self,
        key: &str,
    ) -> Result<Ticket<Option<Versioned<T>>>, ClientError> {
        self.queue(
            Operation::KvGetVersioned(Key { key: key.into() }),
            answer::versioned,
        )
    }

    /// Queues a delete.
    ///
    /// # Errors
    ///
    /// The pipeline is full; nothing was queued.
    pub fn delete(&mut self, key: &str) -> Result<Ticket<Deleted>, ClientError> {
        self.queue(
            Operation::KvDelete(Key { key: key.into() }),
            answer::deleted,
        )
    }

    /// Queues an addition to an integer.
    ///
    /// # Errors
    ///
    /// The pipeline is full; nothing was queued.
    pub fn incr(&mut self, key: &str, delta: i64) -> Result<Ticket<Incremented>, ClientError> {
        let increment = Increment {
            key: key.into(),
            delta,
        };
        self.queue(Operation::KvIncr(increment), answer::incremented)
    }

    /// Queues a batch: all of its changes happen, or none. It goes to the run of the pipeline, with
    /// the durability of the pipeline; its ticket gives the receipt without the single effects.
    ///
    /// # Errors
    ///
    /// The pipeline is full, or the batch is larger than a frame; nothing was queued.
    pub fn batch(&mut self, batch: Batch) -> Result<Ticket<Receipt>, ClientError> {
        self.queue(
            Operation::Batch(batch.into_request()),
            answer::batch_written,
        )
    }

    /// Sends what is queued and collects the answers.
    ///
    /// # Errors
    ///
    /// There was no connection to be had; nothing was sent. A connection lost on the way is an
    /// error of each request it left without an answer. A pipeline of [`crate::Client::repeat`] is
    /// also refused when the write in it is not the one the repeat was used for before.
    pub fn send(mut self) -> Result<Answers, ClientError> {
        self.claim_repeat()?;
        let mut answers = Collected::new(self.ends.len());
        let mut link = lock(&self.scope.link);
        let queued = Queued {
            frames: &mut self.frames,
            ends: &self.ends,
            kinds: &self.kinds,
            request_id_first: self.request_id_first,
            header: self.scope.header,
            binding: self.scope.binding,
        };
        let sent = resend::send(&mut link, queued, &mut answers)?;
        let is_bound = self.scope.binding != Binding::Free;
        let answers = settle(&mut link, self.kinds, is_bound, answers, sent);
        if let (Some(repeat), Some(position)) = (&self.scope.repeat, self.repeated) {
            repeat.settle(answers.outcome_of(position));
        }
        Ok(answers)
    }

    /// Takes the one write of a repeat for its one write, if there is one.
    fn claim_repeat(&self) -> Result<(), ClientError> {
        let (Some(repeat), Some(position)) = (&self.scope.repeat, self.repeated) else {
            return Ok(());
        };
        let before = position.checked_sub(1);
        let start = before.and_then(|before| self.ends.get(before));
        let start = start.copied().unwrap_or_default();
        let end = self.ends.get(position).copied().unwrap_or_default();
        let frame = self.frames.get(start..end).unwrap_or_default();
        repeat.claim(frame, &self.scope.header)
    }

    fn queue<T>(
        &mut self,
        operation: Operation<'_>,
        read: fn(&Answer) -> Result<T, ClientError>,
    ) -> Result<Ticket<T>, ClientError> {
        let position = self.ends.len();
        let kind = operation.kind();
        if PIPELINE_REQUEST_COUNT_MAX <= position {
            return Err(error::pipeline_full());
        }
        let start = self.frames.len();
        let request = Request {
            header: self.scope.header,
            operation,
        };
        let request_id = self.request_id_first + position as u64;
        encode_request(&request, request_id, &mut self.frames)
            .map_err(|too_large| error::too_large(kind, too_large))?;
        if PIPELINE_LEN_BYTES_MAX < self.frames.len() {
            self.frames.resize(start, 0);
            return Err(error::pipeline_full());
        }
        if self.scope.repeat.is_some() && is_remembered(kind, &self.scope.header) {
            if self.repeated.is_some() {
                self.frames.resize(start, 0);
                let sequence = self.scope.header.client_sequence;
                return Err(error::second_of_repeat(sequence));
            }
            self.repeated = Some(position);
        }
        self.ends.push(self.frames.len());
        self.kinds.push(kind);
        Ok(Ticket {
            position,
            read,
            answer: PhantomData,
        })
    }
}

/// Gives every request without an answer, or with one that does not settle it, its error.
fn settle(
    link: &mut Link,
    kinds: Vec<OperationKind>,
    is_bound: bool,
    collected: Collected,
    sent: Sent,
) -> Answers {
    let Collected { bodies, ranges } = collected;
    let was_lost = sent.fault.is_some();
    let mut fault = sent.fault;
    let mut is_expired = false;
    let mut answers = Vec::with_capacity(ranges.len());
    for ((range, kind), in_doubt) in ranges.into_iter().zip(&kinds).zip(sent.in_doubt) {
        let mut lose = || {
            error::lost(
                fault.take().unwrap_or(Fault::Ended),
                *kind,
                in_doubt,
                is_bound,
            )
        };
        let Some(range) = range else {
            answers.push(Err(lose()));
            continue;
        };
        let refusal = bodies.get(range.clone()).and_then(refusal);
        is_expired |= refusal
            .as_ref()
            .is_some_and(|error| error.sub() == Some(SubCode::SessionExpired));
        answers.push(match refusal {
            Some(error) if in_doubt && !error.is_decisive() => Err(match was_lost {
                true => lose(),
                // It is in doubt because of an attempt before this pipeline.
                false => error::in_doubt(error),
            }),
            Some(error) if !in_doubt && error.sub() == Some(SubCode::SessionExpired) => {
                Err(error::never_executed(*kind, &error))
            }
            _ => Ok(range),
        });
    }
    if is_expired {
        link.renew_identity();
    }
    Answers {
        bodies,
        answers,
        kinds,
    }
}

/// The error an answer is, if it is one.
fn refusal(body: &[u8]) -> Option<ClientError> {
    let answer = access_response(body).ok()?;
    matches!(answer, ArchivedResponse::Error(_)).then(|| error::from_server(answer))
}

impl Answers {
    /// Reads one answer.
    ///
    /// # Errors
    ///
    /// What the request met.
    pub fn take<T>(&mut self, ticket: Ticket<T>) -> Result<T, ClientError> {
        let Some(answer) = self.answers.get_mut(ticket.position) else {
            return Err(error::wrong_shape());
        };
        let range = match answer {
            Ok(range) => range.clone(),
            Err(_) => std::mem::replace(answer, Err(error::wrong_shape()))?,
        };
        (ticket.read)(self.read(range)?)
    }

    /// A fence around every write of the pipeline: [`crate::Client::pass`] waits until all of them
    /// are durable. Costs one look at each answer; tickets stay as they are.
    ///
    /// # Errors
    ///
    /// The first write that failed or has no answer: a fence without it would promise too much.
    pub fn fence(&self) -> Result<Fence, ClientError> {
        let mut fence = Fence::new();
        for (position, (answer, kind)) in self.answers.iter().zip(&self.kinds).enumerate() {
            if !kind.is_write() {
                continue;
            }
            match answer {
                Ok(range) => fence.add_answer(self.read(range.clone())?)?,
                Err(_) => return Err(error::unfenced(position)),
            }
        }
        Ok(fence)
    }

    /// What the error of a request says of it, if it met one.
    fn outcome_of(&self, position: usize) -> Option<Outcome> {
        match self.answers.get(position)? {
            Ok(range) => refusal(self.bodies.get(range.clone())?)?.outcome(),
            Err(error) => error.outcome(),
        }
    }

    fn read(&self, range: Range<usize>) -> Result<&Answer, ClientError> {
        let body = self.bodies.get(range).unwrap_or_default();
        access_response(body).map_err(|error| error::bad_answer(error.into()))
    }
}

/// Bodies of answers, each at a multiple of 16.
struct Collected {
    bodies: FrameBuffer,
    ranges: Vec<Option<Range<usize>>>,
}

impl Collected {
    fn new(count: usize) -> Self {
        Self {
            bodies: FrameBuffer::new(),
            ranges: vec![None; count],
        }
    }
}

impl Answered for Collected {
    fn is_answered(&self, position: usize) -> bool {
        self.ranges.get(position).is_some_and(Option::is_some)
    }

    fn collect(&mut self, position: usize, body: &[u8]) -> Result<(), ProtocolError> {
        let slot = self
            .ranges
            .get_mut(position)
            .filter(|slot| slot.is_none())
            .ok_or(ProtocolError::UnknownRequest(position as u64))?;
        let start = self.bodies.len();
        self.bodies.extend_from_slice(body);
        *slot = Some(start..self.bodies.len());
        let aligned_len = self.bodies.len().next_multiple_of(FrameBuffer::ALIGNMENT);
        self.bodies.resize(aligned_len, 0);
        Ok(())
    }
}
