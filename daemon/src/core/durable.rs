//! Who waits for commits to be durable: requests that are parked, and subscriptions.
//!
//! Both cost nothing while they wait. The log thread wakes the reactor after a sync only while
//! somebody waits; the reactor then looks how far commits are durable, answers what is reached, and
//! has the subscribed sessions told. Only the newest version matters: a session gets at most one
//! push in each send, made when the send begins, so a peer that does not read holds back one
//! number and never the log.

use std::collections::BTreeMap;
use std::sync::Arc;

use in_mem_engine::WaitDurableError;
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
    /// By the version waited for, then in the order they came.
    parked: BTreeMap<(u64, u64), DurableWait>,
    parked_number: u64,
    subscribed: Vec<SessionId>,
    subscription_id: u64,
    /// The durable version when it was last looked at.
    looked_at: u64,
}

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
        self.parked
            .values()
            .filter_map(|wait| wait.deadline_us)
            .min()
    }
}

/// Whether this is one of the requests handled here.
pub(super) fn is_about_durable(kind: OperationKind) -> bool {
    matches!(
        kind,
        OperationKind::DbWaitDurable
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
            match &request.operation {
                ArchivedOperation::DbWaitDurable(wait) => {
                    let deadline_us = (header.deadline_us != 0).then(|| {
                        self.monotonic_us()
                            .saturating_add(u64::from(header.deadline_us))
                    });
                    let wait = Wait {
                        version: wait.version.to_native(),
                        frame_len_bytes: u64::from(frame.header.frame_len_bytes()),
                        deadline_us,
                    };
                    self.wait_durable(slot, request_id, wait)
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
        request_id: u64,
        wait: Wait,
    ) -> Result<Option<Response<'static>>, Error> {
        // Set before the look: a sync that comes in between wakes the reactor.
        self.log_inbox.watch_durable(true);
        let answer = self.is_durable(wait.version);
        if matches!(answer, Ok(false)) {
            let fit = self.fit_durable_wait(slot);
            if fit.is_there() {
                self.park_durable(slot, request_id, wait);
                self.store.database.start_flush();
                return Ok(None);
            }
            self.watch_durable_if_needed();
            return Err(self.too_many_durable_waits(fit));
        }
        self.watch_durable_if_needed();
        match answer {
            Ok(_) => Ok(Some(self.durable_version())),
            Err(error) => Err(errors::of_wait_durable(&error)),
        }
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

    fn park_durable(&mut self, slot: u32, request_id: u64, wait: Wait) {
        if let Some(deadline_us) = wait.deadline_us {
            self.lower_deadline(deadline_us);
        }
        let Some(session) = self.session_mut(slot) else {
            return;
        };
        session.started(wait.frame_len_bytes);
        let taken = session.share.take(Resource::DurableWaits, 1);
        let session = session.id;
        self.durable.parked_number += 1;
        let place = (wait.version, self.durable.parked_number);
        let wait = DurableWait {
            session,
            request_id,
            frame_len_bytes: wait.frame_len_bytes,
            deadline_us: wait.deadline_us,
            _taken: taken,
        };
        self.durable.parked.insert(place, wait);
    }

    fn subscribe_durable(&mut self, slot: u32) -> Result<Response<'static>, Error> {
        self.log_inbox.watch_durable(true);
        if self.store.is_poisoned() {
            self.watch_durable_if_needed();
            let cause = self.store.database.poison_cause();
            let error = WaitDurableError::Poisoned(cause);
            return Err(errors::of_wait_durable(&error));
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
        let version = self.store.database.durable_version();
        let is_poisoned = self.store.is_poisoned();
        if version == self.durable.looked_at && !is_poisoned {
            return;
        }
        self.durable.looked_at = version;
        let beyond = self.durable.parked.split_off(&(version + 1, 0));
        let reached = std::mem::replace(&mut self.durable.parked, beyond);
        for wait in reached.into_values() {
            self.answer_durable(&wait, Ok(self.durable_version()));
        }
        if is_poisoned {
            self.fail_durable();
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

    /// The log failed: what is not durable now is not going to be.
    fn fail_durable(&mut self) {
        let parked = std::mem::take(&mut self.durable.parked);
        let cause = self.store.database.poison_cause();
        let error = errors::of_wait_durable(&WaitDurableError::Poisoned(cause));
        for wait in parked.into_values() {
            self.answer_durable(&wait, Err(error.clone()));
        }
    }

    fn answer_durable(&mut self, wait: &DurableWait, answer: Result<Response<'static>, Error>) {
        let Some(session) = self.session_of(wait.session) else {
            return;
        };
        session.finished(wait.frame_len_bytes);
        let kind = OperationKind::DbWaitDurable;
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
        let is_late = |wait: &DurableWait| wait.deadline_us.is_some_and(|us| us <= now_us);
        let late: Vec<(u64, u64)> = self
            .durable
            .parked
            .iter()
            .filter(|(_, wait)| is_late(wait))
            .map(|(place, _)| *place)
            .collect();
        for place in late {
            let Some(wait) = self.durable.parked.remove(&place) else {
                continue;
            };
            let error = errors::of_wait_durable(&WaitDurableError::TimedOut {
                version: place.0,
                durable_version: self.store.database.durable_version(),
            });
            self.answer_durable(&wait, Err(error));
        }
        self.watch_durable_if_needed();
    }

    /// The session is gone, and with it what it waited for.
    pub(super) fn forget_durable(&mut self, id: SessionId) {
        if self.durable.is_empty() {
            return;
        }
        self.durable.parked.retain(|_, wait| wait.session != id);
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

/// What a request to wait says.
struct Wait {
    version: u64,
    frame_len_bytes: u64,
    deadline_us: Option<u64>,
}
