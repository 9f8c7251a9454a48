//! How much memory replies may take, of one user and in all, before they are made.
//!
//! A worker's reply is reserved at its longest before the job starts, and counted at its length
//! once it is made, until the peer has taken it. A request whose reply has no room holds back its
//! session and waits in line; one that waited as long as a frame may take, or longer than its own
//! deadline, is refused. What the reactor answers is at most a few hundred KiB and not reserved; of a
//! user that has too many unread replies only short answers are given.

use in_mem_ipc::operation::OperationKind;
use in_mem_model::{Error, Outcome as CommitOutcome, Retry, SubCode};

use super::Core;
use super::line::{Line, Waiter};
use crate::dispatch;
use crate::inbound::OwnedFrame;
use crate::session::AwaitingReply;
use crate::shares::{Bounds, Resource, Taken};
use crate::slow::Subject;

/// What replies take: those that are made and those to come.
const REPLIES: &[Resource] = &[Resource::QueuedReplies, Resource::ReservedReplies];

/// Those that are made.
const QUEUED: &[Resource] = &[Resource::QueuedReplies];

/// Answers up to this length are given to whoever has read the earlier ones, bytes, and are counted
/// with the end of the turn: who asks for little is served however much others of its user leave
/// unread.
const SHORT_LEN_BYTES_MAX: usize = 16 << 10;

/// Who waits.
#[derive(Debug)]
pub(super) struct Replies {
    line: Line,
}

impl Default for Replies {
    fn default() -> Self {
        Self {
            line: Line::new(REPLIES),
        }
    }
}

impl Core {
    fn reply_bounds(&self) -> Bounds {
        Bounds::of_replies(&self.store.limits_in_force())
    }

    /// How much is reserved for the reply to a request. A longer one than a user may have is
    /// refused once it is made.
    fn reply_amount(&self, kind: OperationKind, frame_len_bytes: u64) -> u64 {
        let bounds = self.reply_bounds();
        dispatch::reply_len_bytes_max(kind, frame_len_bytes)
            .min(bounds.user_max)
            .min(bounds.all_max)
    }

    /// Reserves room for the reply to a request that goes to a worker; none when it has to wait.
    pub(super) fn reserve_reply(
        &mut self,
        slot: u32,
        kind: OperationKind,
        frame_len_bytes: u64,
    ) -> Option<Taken> {
        let bounds = self.reply_bounds();
        let amount = self.reply_amount(kind, frame_len_bytes);
        let share = self.session_mut(slot)?.share.clone();
        // Writes, counts and what the server says of itself go on, whatever is left unread.
        let len_bytes_max = dispatch::reply_len_bytes_max(kind, frame_len_bytes);
        let has_room = len_bytes_max <= dispatch::TEXT_LEN_BYTES_MAX
            || self.replies.line.may_pass(&share, amount, bounds);
        if !has_room {
            return None;
        }
        Some(share.take(Resource::ReservedReplies, amount))
    }

    /// Keeps a request until its reply has room, and its session from starting another.
    pub(super) fn await_reply_room(
        &mut self,
        slot: u32,
        frame: OwnedFrame,
        kind: OperationKind,
        frame_len_bytes: u64,
    ) {
        let amount = self.reply_amount(kind, frame_len_bytes);
        let patience_us = self.now_plus_ms(self.store.limits_in_force().frame_timeout_ms);
        let until_us = frame.deadline_us.unwrap_or(patience_us).min(patience_us);
        self.deadlines.arm(slot, until_us);
        let Some(session) = self.session_mut(slot) else {
            return;
        };
        session.awaiting_reply = Some(AwaitingReply { frame, until_us });
        session.is_blocked = true;
        let (id, share) = (session.id, session.share.clone());
        self.replies.line.push(Waiter { id, share, amount });
    }

    /// Starts the requests whose replies have room now.
    pub(super) fn start_with_reply_room(&mut self) {
        let bounds = self.reply_bounds();
        while !self.replies.line.is_empty()
            && let Some(waiter) = self.replies.line.pop_fitting(bounds)
        {
            let Some(session) = self.session_of(waiter.id) else {
                continue;
            };
            let Some(awaiting) = session.awaiting_reply.take() else {
                continue;
            };
            session.is_blocked = false;
            let room = waiter.share.take(Resource::ReservedReplies, waiter.amount);
            self.touch(waiter.id.slot);
            self.start_job(waiter.id.slot, awaiting.frame, room);
        }
    }

    /// The session waits no longer for room.
    pub(super) fn forget_reply_room(&mut self, slot: u32) {
        if self.replies.line.is_empty() {
            return;
        }
        if let Some(id) = self.session_mut(slot).map(|session| session.id) {
            self.replies.line.forget(id);
        }
    }

    /// Takes back a request whose reply has no room, to be answered otherwise.
    pub(super) fn take_awaiting_reply(&mut self, slot: u32) -> Option<OwnedFrame> {
        let session = self.session_mut(slot)?;
        let awaiting = session.awaiting_reply.take()?;
        session.is_blocked = false;
        self.forget_reply_room(slot);
        Some(awaiting.frame)
    }

    /// Refuses the request of a session that waited too long for room.
    pub(super) fn give_up_reply_room(&mut self, slot: u32, now_us: u64) {
        let awaiting = self
            .session_mut(slot)
            .map(|session| &session.awaiting_reply);
        let is_late = awaiting
            .and_then(Option::as_ref)
            .is_some_and(|awaiting| awaiting.until_us <= now_us);
        if is_late && let Some(frame) = self.take_awaiting_reply(slot) {
            let error = self.no_room_for_reply(slot);
            self.refuse_frame(slot, &frame, error);
        }
    }

    /// Counts an answer that was made on the reactor, now if it is long; of a user that leaves too
    /// many replies unread it is replaced by the reason.
    pub(super) fn count_answer(&mut self, slot: u32, subject: &Subject, len_bytes: usize) {
        if len_bytes <= SHORT_LEN_BYTES_MAX {
            return;
        }
        let bounds = self.reply_bounds();
        let Some(session) = self.session_mut(slot) else {
            return;
        };
        // Whoever has unread replies itself waits before it is handled; see `Session::may_start`.
        if session.share.fit(QUEUED, 1, bounds).is_there() || subject.operation.is_write() {
            session.count_load();
            return;
        }
        session.outbound.retract(len_bytes);
        let error = self.no_room_for_reply(slot);
        self.refuse(slot, subject.request_id, subject.operation, error);
    }

    /// Why there is no room for another reply.
    pub(super) fn no_room_for_reply(&mut self, slot: u32) -> Error {
        let bounds = self.reply_bounds();
        let share = self.session_mut(slot).map(|session| session.share.clone());
        let (user, queued) = share.map_or((0, 0), |share| {
            (share.user(), share.get(Resource::QueuedReplies))
        });
        let is_own = bounds.user_max <= queued.saturating_add(bounds.user_max / 2);
        let limit = if is_own {
            "reply_len_bytes_per_user_max"
        } else {
            "reply_total_len_bytes_max"
        };
        let message = format!(
            "there is no room for the reply: the connections of user {user} have {queued} bytes of \
             replies that were not read ({limit}); read them or close those connections, and try \
             again; nothing was done"
        );
        Error::new(SubCode::ResourceExhausted, message)
            .with_outcome(CommitOutcome::NotCommitted)
            .with_retry(Retry::Later)
            .with_detail("resource", "replies")
            .with_detail("limit", limit)
            .with_detail("queued_len_bytes", queued)
    }
}
