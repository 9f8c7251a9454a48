//! From bytes to requests: cuts frames, starts them in order, stops where a limit says so.

use in_mem_ipc::close::{Close, CloseReason};
use in_mem_ipc::codec::access_request;
use in_mem_ipc::frame::{Frame, FrameKind};

use super::Core;
use crate::inbound::{InboundError, OwnedFrame};
use crate::session::{Phase, complaint};
use crate::slow::Steps;

/// What became of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    /// It was dealt with.
    Done,
    /// The log has no room: the frame is kept and started again later.
    Busy,
    /// It would hold the reactor too long: a worker does it.
    Offload,
    /// It is in the other encoding and too long to be translated on the reactor.
    Translate,
    /// It was translated, and set aside in that form.
    Kept,
}

impl Core {
    /// Bytes of a connection. What cannot be looked at now is held.
    pub(crate) fn receive(&mut self, slot: u32, bytes: &[u8]) {
        self.touch(slot);
        let now_us = self.monotonic_us();
        let Some(session) = self.session_mut(slot) else {
            return;
        };
        if session.phase == Phase::Closing {
            return;
        }
        session.used_us = now_us;
        let mut inbound = std::mem::take(&mut session.inbound);
        let mut fresh = bytes;
        let frame_count = self.turn_request_count;
        let result = loop {
            let Some(session) = self.session_mut(slot) else {
                return;
            };
            inbound.expect(session.expects());
            if !self.may_start(slot) {
                inbound.hold(fresh);
                break Ok(());
            }
            let before = fresh;
            let frame = match inbound.next_frame(&mut fresh) {
                Ok(Some(frame)) => frame,
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            };
            self.turn_request_count += 1;
            let len_bytes = frame.header.frame_len_bytes() as usize;
            let flow = self.on_frame(slot, &frame);
            if flow == Flow::Done {
                self.release_room_for_frame(slot);
            } else if flow != Flow::Kept {
                // A frame read in place is what was cut off the front of `fresh`.
                let cut = before.len() - fresh.len();
                let in_place = if cut == len_bytes {
                    before.get(..cut)
                } else {
                    None
                };
                let mut frame = inbound.detach(in_place, len_bytes);
                // What was reserved for it goes with it.
                frame.room = self.session_mut(slot).and_then(|s| s.gathered.take());
                self.set_aside(slot, frame, flow);
            }
        };
        let is_partial = inbound.held_len_bytes() > 0;
        let claimed_len_bytes = inbound.claimed_len_bytes();
        if let Some(session) = self.session_mut(slot)
            && session.phase != Phase::Closing
        {
            session.inbound = inbound;
        }
        match result {
            Ok(()) => {
                self.watch_frame(slot, is_partial, frame_count != self.turn_request_count);
                self.reserve_room_for_frame(slot, claimed_len_bytes);
            }
            Err(error) => self.complain(slot, error),
        }
    }

    /// Ends a connection with a reason its peer can read.
    pub(super) fn close_with(&mut self, slot: u32, reason: CloseReason, message: String) {
        let now_us = self.monotonic_us();
        let Some(session) = self.session_mut(slot) else {
            return;
        };
        if session.phase != Phase::Closing {
            session.begin_closing(Some(Close::new(reason, message)), now_us);
            if let Some(deadline_us) = session.deadline_us {
                self.deadlines.arm(slot, deadline_us);
            }
        }
        self.forget_reply_room(slot);
        self.touch(slot);
    }

    /// Looks again at sessions whose limits may have room now.
    pub(crate) fn resume_touched(&mut self) {
        // Resuming touches no other session.
        for index in 0..self.touched.len() {
            let Some(slot) = self.touched.get(index).copied() else {
                break;
            };
            let Some(session) = self.session_mut(slot) else {
                continue;
            };
            let is_held = session.parked.is_some() || session.awaiting_reply.is_some();
            if !is_held && session.inbound.held_len_bytes() > 0 {
                self.receive(slot, &[]);
            }
        }
    }

    fn may_start(&mut self, slot: u32) -> bool {
        let limits = self.store.limits_in_force();
        self.session_mut(slot)
            .is_some_and(|session| session.may_start(&limits))
    }

    fn on_frame(&mut self, slot: u32, frame: &Frame<'_>) -> Flow {
        match frame.header.kind {
            FrameKind::Hello => self.on_hello(slot, frame.body),
            FrameKind::Request => return self.on_encoded_request(slot, frame),
            FrameKind::Close => {
                let now_us = self.monotonic_us();
                if let Some(session) = self.session_mut(slot) {
                    session.begin_closing(None, now_us);
                    let deadline_us = session.deadline_us.unwrap_or(now_us);
                    self.deadlines.arm(slot, deadline_us);
                }
            }
            FrameKind::HelloReply | FrameKind::Response | FrameKind::Push => {}
        }
        Flow::Done
    }

    pub(super) fn set_aside(&mut self, slot: u32, mut frame: OwnedFrame, flow: Flow) {
        if flow == Flow::Translate {
            self.translate_on_worker(slot, frame);
            return;
        }
        frame.deadline_us = self.deadline_of(&frame);
        frame.steps = Steps::received(self.monotonic_us());
        frame.steps.queued_us = self.step_us();
        match flow {
            Flow::Done | Flow::Translate | Flow::Kept => {}
            Flow::Busy => self.wait_for_room(slot, frame, self.turn_room_count),
            Flow::Offload => self.offload(slot, frame),
        }
    }

    /// When a request that has come in this turn has waited for too long.
    fn deadline_of(&self, frame: &OwnedFrame) -> Option<u64> {
        let request = access_request(frame.frame()?.body).ok()?;
        match request.header.deadline_us.to_native() {
            0 => None,
            after_us => Some(self.monotonic_us().saturating_add(u64::from(after_us))),
        }
    }

    fn complain(&mut self, slot: u32, error: InboundError) {
        let (reason, message) = complaint(error);
        tracing::debug!(target: "ipc", slot, %message, "closing a connection");
        self.close_with(slot, reason, message);
    }

    /// A frame that has begun must be whole in time; so must the hello.
    fn watch_frame(&mut self, slot: u32, is_partial: bool, has_progress: bool) {
        let deadline_us = self.now_plus_ms(self.store.limits_in_force().frame_timeout_ms);
        let Some(session) = self.session_mut(slot) else {
            return;
        };
        if session.phase != Phase::Open || session.waits_to_gather {
            return;
        }
        if !is_partial {
            session.deadline_us = None;
        } else if has_progress || session.deadline_us.is_none() {
            session.deadline_us = Some(deadline_us);
            self.deadlines.arm(slot, deadline_us);
        }
    }
}
