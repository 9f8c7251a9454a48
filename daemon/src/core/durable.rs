//! Who waits for commits to be durable: requests that are parked, and subscriptions.
//!
//! Both cost nothing while they wait, and neither holds a worker. The log thread wakes the reactor
//! after a sync only while somebody waits; the reactor then looks how far commits are durable,
//! answers what is reached, and has the subscribed sessions told. Only the newest version matters:
//! a session gets at most one push in each send, made when the send begins, so a peer that does not
//! read holds back one number and never the log.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use in_mem_engine::{Flush, WaitDurableError};
use in_mem_ipc::codec::access_request;
use in_mem_ipc::frame::Frame;
use in_mem_ipc::operation::OperationKind;
use in_mem_ipc::request::ArchivedOperation;
use in_mem_ipc::request::version::TaggedVersion;
use in_mem_ipc::response::Response;
use in_mem_ipc::response::db::Subscribed;
use in_mem_model::{Error, SubCode};

use super::Core;
use crate::dispatch::Out;
use crate::errors;
use crate::session::{DurableSubscription, SessionId};
use crate::shares::{Bounds, Fit, Resource, Taken};

/// Who waits, on one reactor.
#[derive(Debug, Default)]
pub(super) struct DurableWaits {
    /// By what they wait for, then in the order they came.
    parked: BTreeMap<Place, DurableWait>,
    parked_number: u64,
    /// Those with a deadline, the earliest first.
    deadlines: BTreeSet<(u64, Place)>,
    subscribed: Vec<SessionId>,
    subscription_id: u64,
    /// The durable version when it was last looked at.
    looked_at: u64,
}

/// What a parked request waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Until {
    /// A commit version is durable.
    Version(u64),
    /// Everything that was committed when the request came is.
    Flushed(Flush),
}

/// Where a parked request stands.
type Place = (Until, u64);

/// A parked request.
#[derive(Debug)]
struct DurableWait {
    session: SessionId,
    request_id: u64,
    frame_len_bytes: u64,
    deadline_us: Option<u64>,
    /// One of those that its user may have.
    _taken: Taken,
}

impl DurableWaits {
    fn is_empty(&self) -> bool {
        self.parked.is_empty() && self.subscribed.is_empty()
    }

    /// The earliest deadline of a parked request.
    pub(super) fn next_deadline_us(&self) -> Option<u64> {
        self.deadlines.first().map(|(deadline_us, _)| *deadline_us)
    }

    fn insert(&mut self, until: Until, wait: DurableWait) {
        self.parked_number += 1;
        let place = (until, self.parked_number);
        if let Some(deadline_us) = wait.deadline_us {
            self.deadlines.insert((deadline_us, place));
        }
        self.parked.insert(place, wait);
    }

    fn remove(&mut self, place: Place) -> Option<DurableWait> {
        let wait = self.parked.remove(&place)?;
        if let Some(deadline_us) = wait.deadline_us {
            self.deadlines.remove(&(deadline_us, place));
        }
        Some(wait)
    }

    /// The first that waits for a version, if it is at or below `version`.
    fn first_version(&self, version: u64) -> Option<Place> {
        let (place, _) = self.parked.first_key_value()?;
        let is_reached = matches!(place.0, Until::Version(wanted) if wanted <= version);
        is_reached.then_some(*place)
    }

    /// The first that waits for a flush.
    fn first_flush(&self) -> Option<(Place, Flush)> {
        let first = (Until::Version(u64::MAX), u64::MAX);
        match self.parked.range(first..).next()? {
            (place @ (Until::Flushed(flush), _), _) => Some((*place, *flush)),
            _ => None,
        }
    }
}

/// Whether this is one of the requests handled here.
pub(super) fn is_about_durable(kind: OperationKind) -> bool {
    matches!(
        kind,
        OperationKind::DbFlush
            | OperationKind::DbWaitDurable
            | OperationKind::DbSubscribeDurable
            | OperationKind::DbUnsubscribe
    )
}

impl Core {
    /// Answers or parks a request about durable versions.
    pub(super) fn on_durable_request(&mut self, slot: u32, frame: &Frame<'_>) {
        let Ok(request) = access_request(frame.body) else {
            return;
        };
        let kind = request.operation.kind();
        let header = request.header.to_native();
        let request_id = frame.header.request_id;
        let result = if header.txn_id != 0 {
            let message = format!("{} cannot run inside a transaction", kind.name());
            Err(Error::new(SubCode::NotInTransaction, message))
        } else {
            let deadline_us = (header.deadline_us != 0).then(|| {
                self.monotonic_us()
                    .saturating_add(u64::from(header.deadline_us))
            });
            let wait = Wait {
                request_id,
                frame_len_bytes: u64::from(frame.header.frame_len_bytes()),
                deadline_us,
            };
            match &request.operation {
                ArchivedOperation::DbFlush => self.flush_log(slot, wait),
                ArchivedOperation::DbWaitDurable(durable) => {
                    self.wait_durable(slot, durable.version.to_native(), wait)
                }
                ArchivedOperation::DbSubscribeDurable => self.subscribe_durable(slot).map(Some),
                ArchivedOperation::DbUnsubscribe(subscription) => {
                    self.unsubscribe(slot, subscription.subscription_id.to_native());
                    Ok(Some(Response::Done))
                }
                _ => return,
            }
        };
        match result {
            Ok(None) => {}
            Ok(Some(response)) => {
                if let Some(session) = self.session_mut(slot) {
                    let encoding = session.encoding;
                    Out::new(session.outbound.buffer(), encoding, request_id, kind)
                        .reply(&response);
                }
            }
            Err(error) => self.refuse(slot, request_id, kind, error),
        }
    }

    /// The answer, if there is one already; else the request is parked.
    fn wait_durable(
        &mut self,
        slot: u32,
        version: u64,
        wait: Wait,
    ) -> Result<Option<Response<'static>>, Error> {
        // Set before the look: a sync that comes in between wakes the reactor.
        self.log_inbox.watch_durable(true);
        let parked = match self.is_durable(version) {
            Ok(true) => Ok(false),
            Ok(false) => self
                .park_durable(slot, Until::Version(version), wait)
                .map(|()| true),
            Err(error) => Err(errors::of_wait_durable(&error)),
        };
        if matches!(parked, Ok(true)) {
            self.store.database.start_flush();
        }
        self.watch_durable_if_needed();
        Ok((!parked?).then(|| self.durable_version()))
    }

    /// Answers once everything that was committed before is durable.
    fn flush_log(&mut self, slot: u32, wait: Wait) -> Result<Option<Response<'static>>, Error> {
        self.log_inbox.watch_durable(true);
        let flush = self.store.database.start_flush();
        let parked = match self.store.database.is_flushed(flush) {
            Ok(true) => Ok(false),
            Ok(false) => self
                .park_durable(slot, Until::Flushed(flush), wait)
                .map(|()| true),
            Err(error) => Err(errors::of_flush(&error)),
        };
        self.watch_durable_if_needed();
        Ok((!parked?).then_some(Response::Done))
    }

    /// Whether one more may wait of the user of a session.
    fn fit_durable_wait(&mut self, slot: u32) -> Fit {
        let limits = self.store.limits_in_force();
        let bounds = Bounds {
            all_max: limits.durable_wait_count_max,
            user_max: limits.durable_wait_count_per_user_max,
        };
        let session = self.session_mut(slot);
        let is_none_allowed = bounds.all_max == 0 || bounds.user_max == 0;
        session
            .filter(|_| !is_none_allowed)
            .map_or(Fit::AllFull, |session| {
                session.share.fit(&[Resource::DurableWaits], 1, bounds)
            })
    }

    fn too_many_durable_waits(&self, fit: Fit) -> Error {
        let limits = self.store.limits_in_force();
        let (max, limit) = match fit {
            Fit::OwnFull => (
                limits.durable_wait_count_per_user_max,
                "durable_wait_count_per_user_max",
            ),
            _ => (limits.durable_wait_count_max, "durable_wait_count_max"),
        };
        let message = format!("{max} requests wait for commits to be durable already ({limit})");
        Error::new(SubCode::ResourceExhausted, message).with_detail("limit", limit)
    }

    fn is_durable(&self, version: u64) -> Result<bool, WaitDurableError> {
        self.store.database.is_durable(version)
    }

    fn durable_version(&self) -> Response<'static> {
        Response::Version(TaggedVersion::Txn(self.store.database.durable_version()))
    }

    /// Keeps a request, unless too many are kept already.
    fn park_durable(&mut self, slot: u32, until: Until, wait: Wait) -> Result<(), Error> {
        let fit = self.fit_durable_wait(slot);
        if !fit.is_there() {
            return Err(self.too_many_durable_waits(fit));
        }
        let Some(session) = self.session_mut(slot) else {
            return Ok(());
        };
        session.started(wait.frame_len_bytes);
        let taken = session.share.take(Resource::DurableWaits, 1);
        let wait = DurableWait {
            session: session.id,
            request_id: wait.request_id,
            frame_len_bytes: wait.frame_len_bytes,
            deadline_us: wait.deadline_us,
            _taken: taken,
        };
        self.durable.insert(until, wait);
        Ok(())
    }

    fn subscribe_durable(&mut self, slot: u32) -> Result<Response<'static>, Error> {
        self.log_inbox.watch_durable(true);
        if self.store.is_poisoned() {
            self.watch_durable_if_needed();
            let cause = self.store.database.poison_cause();
            let error = WaitDurableError::Poisoned(cause);
            return Err(errors::of_wait_durable(&error));
        }
        if self.store.is_read_only() {
            self.watch_durable_if_needed();
            return Err(errors::of_wait_durable(&WaitDurableError::Closed));
        }
        let durable_version = self.store.database.durable_version();
        self.durable.subscription_id += 1;
        let next_id = self.durable.subscription_id;
        let Some(session) = self.session_mut(slot) else {
            return Ok(Response::Done);
        };
        let id = session.id;
        // A session has one: asking again tells the same id.
        let is_new = session.durable_subscription.is_none();
        let subscription = session
            .durable_subscription
            .get_or_insert(DurableSubscription {
                id: next_id,
                told_version: durable_version,
            });
        let response = Response::Subscribed(Subscribed {
            subscription_id: subscription.id,
            durable_version,
        });
        if is_new {
            self.durable.subscribed.push(id);
        }
        Ok(response)
    }

    fn unsubscribe(&mut self, slot: u32, subscription_id: u64) {
        let Some(session) = self.session_mut(slot) else {
            return;
        };
        let is_own = |own: &DurableSubscription| own.id == subscription_id;
        if session.durable_subscription.as_ref().is_some_and(is_own) {
            session.durable_subscription = None;
            let id = session.id;
            self.durable
                .subscribed
                .retain(|subscribed| *subscribed != id);
            self.watch_durable_if_needed();
        }
    }

    /// Answers who waited for what is durable now, and has the subscribed told.
    pub(super) fn take_durable(&mut self) {
        if self.durable.is_empty() {
            return;
        }
        self.take_flushed();
        let version = self.store.database.durable_version();
        let is_poisoned = self.store.is_poisoned();
        if version == self.durable.looked_at && !is_poisoned {
            self.watch_durable_if_needed();
            return;
        }
        self.durable.looked_at = version;
        while let Some(place) = self.durable.first_version(version) {
            self.answer_durable(place, Ok(self.durable_version()));
        }
        if is_poisoned {
            let cause = self.store.database.poison_cause();
            let error = errors::of_wait_durable(&WaitDurableError::Poisoned(cause));
            // The log failed: what is not durable now is not going to be.
            while let Some(place) = self.durable.first_version(u64::MAX) {
                self.answer_durable(place, Err(error.clone()));
            }
        }
        for index in 0..self.durable.subscribed.len() {
            if let Some(id) = self.durable.subscribed.get(index).copied() {
                self.touch(id.slot);
            }
        }
        if is_poisoned {
            self.durable.subscribed.clear();
        }
        self.watch_durable_if_needed();
    }

    /// Answers who waited for a flush that is done. They stand in the order of what they cover.
    fn take_flushed(&mut self) {
        while let Some((place, flush)) = self.durable.first_flush() {
            match self.store.database.is_flushed(flush) {
                Ok(true) => self.answer_durable(place, Ok(Response::Done)),
                Ok(false) => return,
                Err(error) => self.answer_durable(place, Err(errors::of_flush(&error))),
            }
        }
    }

    /// Answers a parked request, which waits no longer.
    fn answer_durable(&mut self, place: Place, answer: Result<Response<'static>, Error>) {
        let Some(wait) = self.durable.remove(place) else {
            return;
        };
        let Some(session) = self.session_of(wait.session) else {
            return;
        };
        session.finished(wait.frame_len_bytes);
        let kind = match place.0 {
            Until::Version(_) => OperationKind::DbWaitDurable,
            Until::Flushed(_) => OperationKind::DbFlush,
        };
        let encoding = session.encoding;
        let mut out = Out::new(session.outbound.buffer(), encoding, wait.request_id, kind);
        match answer {
            Ok(response) => out.reply(&response),
            Err(error) => out.fail(error),
        }
        self.touch(wait.session.slot);
    }

    /// Refuses what has waited longer than its deadline.
    pub(super) fn expire_durable(&mut self) {
        let now_us = self.monotonic_us();
        while let Some((deadline_us, place)) = self.durable.deadlines.first().copied()
            && deadline_us <= now_us
        {
            let error = match place.0 {
                Until::Version(version) => errors::of_wait_durable(&WaitDurableError::TimedOut {
                    version,
                    durable_version: self.store.database.durable_version(),
                }),
                Until::Flushed(_) => {
                    let message = "the log was not synced within the deadline of the request";
                    Error::new(SubCode::Timeout, message)
                }
            };
            self.answer_durable(place, Err(error));
        }
        self.watch_durable_if_needed();
    }

    /// The session is gone, and with it what it waited for.
    pub(super) fn forget_durable(&mut self, id: SessionId) {
        if self.durable.is_empty() {
            return;
        }
        let its = |(place, wait): (&Place, &DurableWait)| (wait.session == id).then_some(*place);
        let places: Vec<Place> = self.durable.parked.iter().filter_map(its).collect();
        for place in places {
            self.durable.remove(place);
        }
        self.durable
            .subscribed
            .retain(|subscribed| *subscribed != id);
        self.watch_durable_if_needed();
    }

    fn watch_durable_if_needed(&self) {
        self.log_inbox.watch_durable(!self.durable.is_empty());
    }

    /// Puts the newest durable version behind the replies of a session that wants to know it.
    pub(crate) fn push_durable(&mut self, slot: u32) {
        let store = Arc::clone(&self.store);
        if let Some(session) = self.session_mut(slot)
            && session.durable_subscription.is_some()
        {
            let failure = store.is_poisoned().then(|| {
                let cause = store.database.poison_cause();
                errors::of_wait_durable(&WaitDurableError::Poisoned(cause))
            });
            session.push_durable(store.database.durable_version(), failure);
        }
    }
}

/// What a request that may have to wait says.
struct Wait {
    request_id: u64,
    frame_len_bytes: u64,
    deadline_us: Option<u64>,
}
