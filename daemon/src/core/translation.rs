//! Requests in MessagePack: translated into the archives everything else reads.
//!
//! A session that speaks MessagePack has one more step on the way in, and its replies are written
//! in its encoding by [`crate::dispatch::Out`]; nothing between the two knows. A small request is
//! translated on the reactor, into one buffer that is used again. A large one is translated by a
//! worker, and holds back the later requests of its session until it has been started.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use in_mem_ipc::close::CloseReason;
use in_mem_ipc::codec::encode_request;
use in_mem_ipc::frame::{FRAME_LEN_BYTES_MAX, Frame, parse_frame};
use in_mem_ipc::message_pack::{MessageError, Refusal, decode_request};
use in_mem_ipc::{Encoding, FrameBuffer, OperationKind};
use in_mem_model::{Error, Outcome as CommitOutcome, SubCode};

use super::Core;
use super::frames::Flow;
use super::jobs::too_many_jobs;
use crate::completions::Inbox;
use crate::defect::Defect;
use crate::dispatch::{self, MANY_LEN_BYTES};
use crate::inbound::OwnedFrame;
use crate::reactor::Waker;
use crate::session::{Phase, SessionId};
use crate::shares::{Resource, Taken};
use crate::workers::Lane;

/// What translation needs beside the sessions.
pub(super) struct Translation {
    /// Where small requests are translated.
    buffer: FrameBuffer,
    pub(super) inbox: Arc<Inbox<Translated>>,
    done: Vec<Translated>,
}

/// A request a worker translated.
pub(super) struct Translated {
    session: SessionId,
    request_id: u64,
    /// Size of the frame that came, bytes.
    frame_len_bytes: u64,
    result: Result<OwnedFrame, Untranslated>,
    /// The memory that was reserved for the frame that came.
    room: Option<Taken>,
}

/// Why a request has no archive.
enum Untranslated {
    /// The body is not even MessagePack: the connection ends.
    Malformed(MessageError),
    /// The request is refused; the connection goes on.
    Refused(Error),
}

impl Translation {
    pub(super) fn new(waker: &Waker) -> Self {
        Self {
            buffer: FrameBuffer::new(),
            inbox: Arc::new(Inbox::new(waker.clone())),
            done: Vec::new(),
        }
    }
}

impl Core {
    /// Starts a request in whichever encoding its session speaks.
    pub(super) fn on_encoded_request(&mut self, slot: u32, frame: &Frame<'_>) -> Flow {
        match self.session_mut(slot).map(|session| session.encoding) {
            Some(Encoding::Rkyv) => self.on_request(slot, frame),
            Some(Encoding::MessagePack) => self.on_message_pack(slot, frame),
            None => Flow::Done,
        }
    }

    fn on_message_pack(&mut self, slot: u32, frame: &Frame<'_>) -> Flow {
        if MANY_LEN_BYTES < frame.header.frame_len_bytes() as usize {
            return Flow::Translate;
        }
        let mut buffer = std::mem::take(&mut self.translation.buffer);
        buffer.clear();
        let flow = match translate(frame, &mut buffer) {
            Ok(()) => match parse_frame(&buffer) {
                Ok(Some(archived)) => self.on_request(slot, &archived),
                Ok(None) | Err(_) => Flow::Done,
            },
            Err(untranslated) => {
                self.give_back(slot, frame.header.request_id, untranslated);
                Flow::Done
            }
        };
        if flow == Flow::Done {
            self.translation.buffer = buffer;
            return Flow::Done;
        }
        self.set_aside(slot, OwnedFrame::new(buffer, 0), flow);
        Flow::Kept
    }

    /// Has a worker translate a large request.
    pub(super) fn translate_on_worker(&mut self, slot: u32, frame: OwnedFrame) {
        let Some(whole) = frame.frame() else { return };
        let request_id = whole.header.request_id;
        let frame_len_bytes = u64::from(whole.header.frame_len_bytes());
        if self.has_too_many_jobs(slot) {
            // Which operation it is matters only to replies that are too large.
            let kind = OperationKind::SystemPing;
            self.refuse(slot, request_id, kind, too_many_jobs());
            return;
        }
        let Some(session) = self.session_mut(slot) else {
            return;
        };
        let id = session.id;
        let place = session.share.take(Resource::Jobs, 1);
        session.started(frame_len_bytes);
        session.job_count += 1;
        // What it is about is not known yet.
        session.commit_job_count += 1;
        session.is_blocked = true;
        let inbox = Arc::clone(&self.translation.inbox);
        let store = Arc::clone(&self.store);
        let work = move || {
            let mut frame = frame;
            let translated = catch_unwind(AssertUnwindSafe(|| {
                store.defects.strike(Defect::InTranslation);
                translate_owned(&frame)
            }));
            let result = translated.unwrap_or_else(|_| {
                tracing::error!(target: "ipc", "the translation of a request panicked");
                Err(Untranslated::Refused(dispatch::given_up(false)))
            });
            inbox.push(Translated {
                session: id,
                request_id,
                frame_len_bytes,
                result,
                room: frame.room.take(),
            });
            drop(place);
            inbox.wake();
        };
        if self.workers.run(Lane::Data, Box::new(work)).is_err() {
            let message = "too many long requests wait for a worker; nothing was done";
            self.finish_translation(Translated {
                session: id,
                request_id,
                frame_len_bytes,
                result: Err(refused(SubCode::ResourceExhausted, message)),
                room: None,
            });
        }
    }

    /// Starts what the workers translated.
    pub(super) fn take_translated(&mut self) {
        let mut done = std::mem::take(&mut self.translation.done);
        self.translation.inbox.take(&mut done);
        for translated in done.drain(..) {
            self.finish_translation(translated);
        }
        self.translation.done = done;
    }

    fn finish_translation(&mut self, translated: Translated) {
        let Some(session) = self.session_of(translated.session) else {
            // It was not started, and never will be.
            self.forget_departed(translated.session);
            return;
        };
        session.finished(translated.frame_len_bytes);
        session.job_count -= 1;
        session.commit_job_count -= 1;
        session.is_blocked = false;
        let slot = translated.session.slot;
        let is_served = session.phase != Phase::Closing || self.is_draining();
        self.touch(slot);
        match translated.result {
            Ok(mut frame) if is_served => {
                frame.room = translated.room;
                let flow = match frame.frame() {
                    Some(archived) => self.on_request(slot, &archived),
                    None => Flow::Done,
                };
                if flow != Flow::Done {
                    self.set_aside(slot, frame, flow);
                }
            }
            Ok(_) => {}
            Err(untranslated) => self.give_back(slot, translated.request_id, untranslated),
        }
    }

    fn give_back(&mut self, slot: u32, request_id: u64, untranslated: Untranslated) {
        match untranslated {
            Untranslated::Malformed(error) => {
                self.close_with(slot, CloseReason::Malformed, error.to_string());
            }
            // Which operation it is matters only to replies that are too large.
            Untranslated::Refused(error) => {
                self.refuse(slot, request_id, OperationKind::SystemPing, error);
            }
        }
    }
}

fn translate_owned(frame: &OwnedFrame) -> Result<OwnedFrame, Untranslated> {
    let mut buffer = FrameBuffer::new();
    if let Some(whole) = frame.frame() {
        translate(&whole, &mut buffer)?;
    }
    Ok(OwnedFrame::new(buffer, 0))
}

/// Appends the request of a frame as an archive.
fn translate(frame: &Frame<'_>, buffer: &mut FrameBuffer) -> Result<(), Untranslated> {
    let request = decode_request(frame.body).map_err(|error| match error {
        MessageError::Malformed { .. } => Untranslated::Malformed(error),
        MessageError::Refused(refusal) => refused_by(&refusal),
    })?;
    encode_request(&request, frame.header.request_id, buffer).map_err(|_too_large| {
        let message =
            format!("the request exceeds the largest frame of {FRAME_LEN_BYTES_MAX} bytes");
        refused(SubCode::InvalidArgument, &message)
    })
}

fn refused_by(refusal: &Refusal) -> Untranslated {
    let error = Error::new(SubCode::InvalidArgument, refusal.to_string())
        .with_outcome(CommitOutcome::NotCommitted);
    Untranslated::Refused(match refusal.key() {
        Some(key) => error.with_detail("key", key.to_owned()),
        None => error,
    })
}

fn refused(sub: SubCode, message: &str) -> Untranslated {
    Untranslated::Refused(Error::new(sub, message).with_outcome(CommitOutcome::NotCommitted))
}
