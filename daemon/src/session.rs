//! One session: a connection, who is behind it, its defaults, and everything it owns.
//!
//! A session is owned by the reactor thread and dies with its connection, taking its open
//! transactions with it. It holds state and limits; what requests mean is decided elsewhere.

use std::sync::Arc;

use in_mem_ipc::Encoding;
use in_mem_ipc::close::{Close, CloseReason};
use in_mem_ipc::frame::{FRAME_LEN_BYTES_MAX, FrameError};
use in_mem_ipc::request::version::TaggedVersion;
use in_mem_ipc::response::Response;
use in_mem_ipc::response::system::ErrorBody;
use in_mem_model::Error;

use crate::caller::Caller;
use crate::config::Limits;
use crate::inbound::{Expects, Inbound, InboundError, OwnedFrame};
use crate::metrics::{Metrics, SessionLoad};
use crate::outbound::Outbound;
use crate::shares::{Bounds, Resource, Share, Taken};

/// Jobs of one session on the workers at once.
const JOB_COUNT_MAX: u32 = 16;

/// How long the last replies of a closing session may take to leave, microseconds.
const CLOSING_US: u64 = 5_000_000;

/// Who is behind a connection, as the kernel says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Credentials {
    /// Process id at the time of connecting.
    pub(crate) process: u32,
    /// User id.
    pub(crate) user: u32,
    /// Group id.
    pub(crate) group: u32,
}

/// Names a session for as long as the daemon runs; slots are used again, ids are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SessionId {
    /// The slot of its connection.
    pub(crate) slot: u32,
    /// Distinguishes the sessions of one slot.
    pub(crate) number: u64,
}

impl SessionId {
    /// Names no session: their numbers begin with 1.
    pub(crate) const NOBODY: Self = Self { slot: 0, number: 0 };
}

/// What a session is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The hello has not come.
    Greeting,
    /// Requests are served.
    Open,
    /// The last replies leave; nothing more is read.
    Closing,
}

/// A subscription to the durable version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DurableSubscription {
    /// Its id; the pushes carry it.
    pub(crate) id: u64,
    /// The version told last.
    pub(crate) told_version: u64,
}

/// A request whose reply has no room yet.
pub(crate) struct AwaitingReply {
    /// The request.
    pub(crate) frame: OwnedFrame,
    /// When it is refused, microseconds of the monotonic clock.
    pub(crate) until_us: u64,
}

/// One session.
pub(crate) struct Session {
    pub(crate) id: SessionId,
    pub(crate) credentials: Credentials,
    /// What its user has taken of what all share.
    pub(crate) share: Share,
    /// It is one of the connections of its user.
    _connection: Taken,
    pub(crate) phase: Phase,
    /// Of its requests and replies, as the hello agreed.
    pub(crate) encoding: Encoding,
    pub(crate) inbound: Inbound,
    pub(crate) outbound: Outbound,
    pub(crate) caller: Caller,
    /// Requests started and not answered.
    pub(crate) in_flight_count: u64,
    /// Their frames, bytes.
    pub(crate) in_flight_len_bytes: u64,
    /// Those of them that are on the workers.
    pub(crate) job_count: u32,
    /// Those of them that may commit something, as far as is known.
    pub(crate) commit_job_count: u32,
    /// Reserved for the replies of its jobs, bytes.
    pub(crate) reserved_len_bytes: u64,
    /// The request that waits until there is room for its reply.
    pub(crate) awaiting_reply: Option<AwaitingReply>,
    /// A request must finish before the next may start.
    pub(crate) is_blocked: bool,
    /// Memory reserved for the large frame on its way in.
    pub(crate) gathered: Option<Taken>,
    /// The large frame waits for memory: nothing more is read.
    pub(crate) waits_to_gather: bool,
    /// The request that waits for room in the log.
    pub(crate) parked: Option<OwnedFrame>,
    /// It is told how far commits are durable.
    pub(crate) durable_subscription: Option<DurableSubscription>,
    /// The last word, said once everything in flight is answered.
    pub(crate) farewell: Option<Close>,
    /// When the hello, the frame being received or the closing must be done.
    pub(crate) deadline_us: Option<u64>,
    /// When the last bytes came or the last replies left, microseconds of the monotonic clock.
    pub(crate) used_us: u64,
    /// Already in the list of touched sessions of this turn.
    pub(crate) is_touched: bool,
    /// Where its load is counted, and what was counted last.
    counted: Option<(Arc<Metrics>, SessionLoad)>,
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some((metrics, before)) = self.counted.take() {
            let queued = before.reply_len_bytes;
            self.share.change(Resource::QueuedReplies, queued, 0);
            metrics.session_moved(before, SessionLoad::default());
        }
    }
}

impl Session {
    /// A session that waits for its hello.
    pub(crate) fn new(
        id: SessionId,
        credentials: Credentials,
        caller: Caller,
        deadline_us: u64,
    ) -> Self {
        Self {
            id,
            credentials,
            _connection: caller.share.take(Resource::Connections, 1),
            share: caller.share.clone(),
            phase: Phase::Greeting,
            encoding: Encoding::default(),
            inbound: Inbound::default(),
            outbound: Outbound::default(),
            caller,
            in_flight_count: 0,
            in_flight_len_bytes: 0,
            job_count: 0,
            commit_job_count: 0,
            reserved_len_bytes: 0,
            awaiting_reply: None,
            is_blocked: false,
            gathered: None,
            waits_to_gather: false,
            parked: None,
            durable_subscription: None,
            farewell: None,
            deadline_us: Some(deadline_us),
            used_us: 0,
            is_touched: false,
            counted: None,
        }
    }

    /// Has its load counted here from now on.
    pub(crate) fn counts_in(&mut self, metrics: &Arc<Metrics>) {
        metrics.session_begun();
        self.counted = Some((Arc::clone(metrics), SessionLoad::default()));
    }

    /// Counts what it has in flight now; at the end of each turn that touched it.
    pub(crate) fn count_load(&mut self) {
        let now = SessionLoad {
            in_flight_count: self.in_flight_count,
            reply_len_bytes: self.outbound.queued_len_bytes() as u64,
        };
        if let Some((metrics, before)) = &mut self.counted {
            let (was, is) = (before.reply_len_bytes, now.reply_len_bytes);
            self.share.change(Resource::QueuedReplies, was, is);
            metrics.session_moved(std::mem::replace(before, now), now);
        }
    }

    /// Whether its user has more unread replies than it may. One without any of them is served.
    fn is_held_back(&self, limits: &Limits) -> bool {
        let queued = [Resource::QueuedReplies];
        !self.outbound.is_empty()
            && !self
                .share
                .fit(&queued, 1, Bounds::of_replies(limits))
                .is_there()
    }

    /// Whether another request may start now.
    pub(crate) fn may_start(&self, limits: &Limits) -> bool {
        self.phase != Phase::Closing
            && !self.is_blocked
            && self.job_count < JOB_COUNT_MAX
            && self.reserved_len_bytes < u64::from(FRAME_LEN_BYTES_MAX)
            && !self.is_held_back(limits)
            && self.in_flight_count < limits.in_flight_count_max
            && self.in_flight_len_bytes < limits.in_flight_len_bytes_max
            && (self.outbound.queued_len_bytes() as u64) < limits.reply_len_bytes_max
    }

    /// When it has rested too long: nothing asked, nothing open, nothing waited for, every reply
    /// taken. None while it
    /// does not rest, or may for ever.
    pub(crate) fn idle_deadline_us(&self, limits: &Limits) -> Option<u64> {
        let is_resting = self.phase == Phase::Open
            && self.in_flight_count == 0
            && self.durable_subscription.is_none()
            && self.parked.is_none()
            && self.awaiting_reply.is_none()
            && !self.waits_to_gather
            // Whoever still reads a long reply does not rest.
            && self.outbound.is_empty()
            && self.caller.transactions.is_empty();
        let idle_us = limits.idle_timeout_ms.saturating_mul(1_000);
        (is_resting && idle_us != 0).then(|| self.used_us.saturating_add(idle_us))
    }

    /// Whether what it sent waits for us, and not for what its peer still has to send or to read.
    pub(crate) fn waits_for_us(&self, limits: &Limits) -> bool {
        self.phase == Phase::Open
            && !self.may_start(limits)
            && !self.is_held_back(limits)
            && (self.outbound.queued_len_bytes() as u64) < limits.reply_len_bytes_max
    }

    /// Pushes a durable version that was not told yet, or why there will be no more, unless
    /// replies are on their way: then what is newest when they have left is pushed.
    pub(crate) fn push_durable(&mut self, version: u64, failure: Option<Error>) {
        if self.phase != Phase::Open || self.outbound.is_sending() {
            return;
        }
        let Some(subscription) = &mut self.durable_subscription else {
            return;
        };
        let id = subscription.id;
        // A message of ours always fits a frame.
        if subscription.told_version < version {
            subscription.told_version = version;
            let version = Response::Version(TaggedVersion::Txn(version));
            let buffer = self.outbound.buffer();
            let _ = self.encoding.encode_push(&version, id, buffer);
        }
        if let Some(failure) = failure {
            let body = Response::Error(ErrorBody::from(&failure));
            let buffer = self.outbound.buffer();
            let _ = self.encoding.encode_push(&body, id, buffer);
            self.durable_subscription = None;
        }
    }

    /// Says the last word if everything in flight is answered.
    pub(crate) fn say_farewell(&mut self) {
        if self.phase == Phase::Closing
            && self.in_flight_count == 0
            && let Some(farewell) = self.farewell.take()
        {
            // A message of ours always fits; without it the close alone must do.
            let _ = farewell.encode(self.outbound.buffer());
        }
    }

    /// Whether everything was said and the connection can be closed.
    pub(crate) fn is_finished(&self) -> bool {
        self.phase == Phase::Closing
            && self.in_flight_count == 0
            && self.farewell.is_none()
            && self.outbound.is_empty()
    }

    /// What may come next on the wire.
    pub(crate) fn expects(&self) -> Expects {
        match self.phase {
            Phase::Greeting => Expects::Hello,
            Phase::Open | Phase::Closing => Expects::Requests,
        }
    }

    /// Reads nothing more, rolls back what is open, and closes once the replies in flight have
    /// left.
    pub(crate) fn begin_closing(&mut self, farewell: Option<Close>, now_us: u64) {
        self.phase = Phase::Closing;
        self.farewell = farewell;
        self.inbound = Inbound::default();
        self.parked = None;
        self.awaiting_reply = None;
        self.caller.transactions.roll_back_all();
        self.deadline_us = Some(now_us.saturating_add(CLOSING_US));
    }

    /// A request was started that is answered later.
    pub(crate) fn started(&mut self, frame_len_bytes: u64) {
        self.in_flight_count += 1;
        self.in_flight_len_bytes += frame_len_bytes;
    }

    /// The same of one that is on the workers, with so much reserved for its reply.
    pub(crate) fn job_started(&mut self, frame_len_bytes: u64, reserved_len_bytes: u64) {
        self.started(frame_len_bytes);
        self.job_count += 1;
        self.reserved_len_bytes += reserved_len_bytes;
    }

    /// A request that was started is answered now.
    pub(crate) fn finished(&mut self, frame_len_bytes: u64) {
        assert!(self.in_flight_count > 0);
        self.in_flight_count -= 1;
        self.in_flight_len_bytes -= frame_len_bytes;
    }
}

/// What a peer whose bytes make no sense is told before its connection is closed.
pub(crate) fn complaint(error: InboundError) -> (CloseReason, String) {
    let reason = match error {
        InboundError::Frame(FrameError::Version { .. }) => CloseReason::ProtocolMismatch,
        InboundError::Frame(FrameError::TooLarge { .. }) => CloseReason::LimitExceeded,
        InboundError::Frame(_) | InboundError::Unexpected { .. } => CloseReason::Malformed,
    };
    (reason, error.to_string())
}
