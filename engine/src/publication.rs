//! Pending commits of one run, and how they become visible: in version order, by one store.
//!
//! Each commit that cannot be published at once waits here for two conditions, in any order: its
//! promise (the log says so) and its complete install (the committer says so). Whoever meets the
//! last condition of the oldest commits publishes them. Negative answers that depend on a pending
//! version wait in the same queue, behind it, as followers.
//!
//! After a failure of the log the queue is dead for good: nothing is published any more, since
//! publishing a later version would show the dropped ones below it.
//!
//! Lock order: the run's critical section, then the log's hand-off lock, then this queue.
//! Completions are called with none of them held.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::errors::CommitError;
use crate::limits::{KEPT_QUEUE_COUNT_MAX, PENDING_COUNT_MAX};
use crate::padded::Padded;
use crate::program::{Completion, Outcome};

use super::sync::{AtomicBool, AtomicU64, AtomicUsize, Mutex, Ordering};

/// Completions made per hold of the lock, count.
pub(crate) const PUBLISH_BATCH_COUNT: usize = 8;

/// The published version of a run and what waits to be published.
pub(crate) struct Publication {
    /// The highest published commit version. Release on store, Acquire by readers: whoever sees
    /// it sees every install of that commit and the ones before.
    visible: Padded<AtomicU64>,
    /// Entries in the queue. Written under its lock; read without it, in the critical section.
    waiting_count: AtomicUsize,
    is_dead: AtomicBool,
    /// A commit was refused because too many wait, and nobody has been told of room since.
    is_refused: AtomicBool,
    /// Once dead: the lowest version that will never be published. Written before `is_dead`.
    first_dropped: AtomicU64,
    pub(crate) queue: Mutex<VecDeque<Waiting>>,
}

/// One commit or one answer that waits.
pub(crate) struct Waiting {
    /// Its commit version; 0 for a follower, which has met both conditions.
    version: u64,
    /// Something was committed, now or by the pending request that this one repeats.
    is_effect: bool,
    is_promise_met: bool,
    is_installed: bool,
    /// Given with the install.
    answer: Option<(Completion, Answer)>,
}

/// What a commit or follower answers once it is published.
pub(crate) type Answer = Result<Outcome, CommitError>;

/// The log failed while commits of this run waited: nothing is published any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dead;

/// What became of an answer given to the queue.
#[derive(Debug)]
pub(crate) enum Queued {
    /// It may be given at once.
    Ready(Answer),
    /// The completion will be called.
    Waits,
    /// The log failed: the effect will never be published.
    Dead,
}

impl Publication {
    pub(crate) fn new() -> Self {
        Self {
            visible: Padded(AtomicU64::new(0)),
            waiting_count: AtomicUsize::new(0),
            is_dead: AtomicBool::new(false),
            is_refused: AtomicBool::new(false),
            first_dropped: AtomicU64::new(u64::MAX),
            queue: Mutex::new(VecDeque::new()),
        }
    }

    /// The highest published commit version.
    #[inline]
    pub(crate) fn visible(&self) -> u64 {
        self.visible.0.load(Ordering::Acquire)
    }

    /// True when nothing waits. Stays true inside the critical section, where alone commits are
    /// queued.
    pub(crate) fn is_idle(&self) -> bool {
        self.waiting_count.load(Ordering::Acquire) == 0
    }

    /// True when the log failed while commits of this run waited.
    pub(crate) fn is_dead(&self) -> bool {
        self.is_dead.load(Ordering::Acquire)
    }

    /// Publishes a commit whose conditions are both met, when nothing waits. The caller is in the
    /// critical section and has seen [`Self::is_idle`] there. Recovery publishes the same way.
    pub(crate) fn publish_now(&self, version: u64) {
        debug_assert!(self.visible() <= version, "versions are published in order");
        self.visible.0.store(version, Ordering::Release);
    }

    /// Commits and answers that wait, count.
    pub(crate) fn waiting_count(&self) -> usize {
        self.waiting_count.load(Ordering::Acquire)
    }

    /// The lowest version assigned and not published: still pending, or dropped for good.
    pub(crate) fn first_unpublished(&self) -> Option<u64> {
        let queue = self.queue.lock();
        if self.is_dead() {
            return Some(self.first_dropped.load(Ordering::Relaxed));
        }
        first_version(&queue)
    }

    /// How much of `watermark` is left, in this run: the version below the first one that is not
    /// published. In the critical section, after the versions up to `watermark` were issued.
    pub(crate) fn lowered(&self, watermark: u64) -> u64 {
        let first = self.first_unpublished();
        first.map_or(watermark, |first| watermark.min(first.saturating_sub(1)))
    }

    /// Makes room for one commit, so that [`Self::push`] allocates nothing; false when too many
    /// wait. Before a version is assigned, in the critical section.
    pub(crate) fn reserve(&self) -> bool {
        let mut queue = self.queue.lock();
        queue.reserve(1);
        let has_room = queue.len() < PENDING_COUNT_MAX;
        if !has_room {
            // Relaxed, under the lock: whoever publishes next took it after this and looks then.
            self.is_refused.store(true, Ordering::Relaxed);
        }
        has_room
    }

    /// True once when a commit has been refused for lack of room and need not be any more. To be
    /// asked after each publication and failure, outside every lock.
    pub(crate) fn take_refusal(&self) -> bool {
        self.is_refused.load(Ordering::Relaxed)
            && (self.waiting_count() < PENDING_COUNT_MAX || self.is_dead())
            && self.is_refused.swap(false, Ordering::Relaxed)
    }

    /// Queues a commit, before its record is handed to the log. In the critical section.
    ///
    /// # Errors
    /// [`Dead`] when the log has failed; nothing may be installed.
    pub(crate) fn push(&self, version: u64, is_promise_met: bool) -> Result<(), Dead> {
        let mut queue = self.queue.lock();
        if self.is_dead() {
            return Err(Dead);
        }
        queue.push_back(Waiting {
            version,
            is_effect: true,
            is_promise_met,
            is_installed: false,
            answer: None,
        });
        self.waiting_count.store(queue.len(), Ordering::Release);
        Ok(())
    }

    /// The install of `version` is complete, and `answer` is what its committer is to be told.
    /// Called outside the critical section.
    pub(crate) fn installed(
        &self,
        version: u64,
        completion: &Completion,
        answer: Answer,
    ) -> Queued {
        let mut ready = Ready::default();
        {
            let mut queue = self.queue.lock();
            if self.is_dead() {
                return Queued::Dead;
            }
            let found = queue
                .iter_mut()
                .rev()
                .find(|waiting| waiting.version == version);
            let waiting = found.expect("a commit stays queued until it is installed");
            waiting.is_installed = true;
            waiting.answer = Some((completion.clone(), answer));
            self.publish_ready(&mut queue, &mut ready);
        }
        // Older commits may stand before it: whoever made them ready may be between two batches.
        let own = ready.take(version);
        self.finish(ready);
        own.map_or(Queued::Waits, Queued::Ready)
    }

    /// An answer that depends on what is pending now: given at once when nothing is. In the
    /// critical section.
    pub(crate) fn follow(&self, completion: &Completion, answer: Answer) -> Queued {
        self.wait_behind(completion, answer, false)
    }

    /// The answer of a pending commit, for a repeat of its request: given once it is published,
    /// and its failure if it fails. In the critical section.
    pub(crate) fn share_fate(&self, completion: &Completion, answer: Answer) -> Queued {
        self.wait_behind(completion, answer, true)
    }

    fn wait_behind(&self, completion: &Completion, answer: Answer, is_effect: bool) -> Queued {
        let mut queue = self.queue.lock();
        if self.is_dead() {
            return Queued::Dead;
        }
        if queue.is_empty() {
            return Queued::Ready(answer);
        }
        queue.push_back(Waiting {
            version: 0,
            is_effect,
            is_promise_met: true,
            is_installed: true,
            answer: Some((completion.clone(), answer)),
        });
        self.waiting_count.store(queue.len(), Ordering::Release);
        Queued::Waits
    }

    /// The promise of `version` is met. Called by the log, in version order.
    pub(crate) fn promise_met(&self, version: u64) {
        let mut ready = Ready::default();
        {
            let mut queue = self.queue.lock();
            if self.is_dead() {
                return;
            }
            // In log order: among the first.
            let found = queue.iter_mut().find(|waiting| waiting.version == version);
            let Some(waiting) = found else { return };
            waiting.is_promise_met = true;
            self.publish_ready(&mut queue, &mut ready);
        }
        self.finish(ready);
    }

    /// The log failed: drops everything that waits and fails it with `error`; followers wrote
    /// nothing, and are told so, unless they repeat a request that did.
    pub(crate) fn fail(&self, error: &CommitError) {
        let dropped = {
            let mut queue = self.queue.lock();
            if !self.is_dead() {
                // A commit that panicked before it was queued had the next version at the lowest.
                let first = first_version(&queue).unwrap_or_else(|| self.visible() + 1);
                self.first_dropped.store(first, Ordering::Relaxed);
            }
            self.is_dead.store(true, Ordering::Release);
            // The count stays: a commit that looks now must not take the queue for idle.
            std::mem::take(&mut *queue)
        };
        for waiting in dropped {
            let error = match waiting.is_effect {
                false => error.without_effect(),
                true => error.clone(),
            };
            if let Some((completion, _)) = waiting.answer {
                give(&completion, Err(error));
            }
        }
    }

    /// Publishes from the front while both conditions hold, up to what `ready` takes.
    fn publish_ready(&self, queue: &mut VecDeque<Waiting>, ready: &mut Ready) {
        while ready.has_room() {
            let is_ready = queue
                .front()
                .is_some_and(|first| first.is_promise_met && first.is_installed);
            let Some(waiting) = (if is_ready { queue.pop_front() } else { None }) else {
                break;
            };
            if waiting.version != 0 {
                self.publish_now(waiting.version);
            }
            ready.push(waiting.version, waiting.answer);
        }
        if queue.is_empty() && KEPT_QUEUE_COUNT_MAX < queue.capacity() {
            queue.shrink_to(KEPT_QUEUE_COUNT_MAX);
        }
        self.waiting_count.store(queue.len(), Ordering::Release);
    }

    /// Gives the answers, and goes on publishing if there was more than fitted.
    fn finish(&self, mut ready: Ready) {
        loop {
            let was_full = !ready.has_room();
            for (_, completion, answer) in ready.answers.iter_mut().filter_map(Option::take) {
                give(&completion, answer);
            }
            if !was_full {
                return;
            }
            ready.count = 0;
            let mut queue = self.queue.lock();
            if self.is_dead() {
                return;
            }
            self.publish_ready(&mut queue, &mut ready);
        }
    }
}

/// Gives one answer. What its sink does with it is not this thread's commit and not this log's:
/// a panic there ends there.
fn give(completion: &Completion, answer: Answer) {
    let complete = || completion.sink.complete(completion.token, answer);
    if catch_unwind(AssertUnwindSafe(complete)).is_err() {
        let token = completion.token;
        tracing::error!(target: "txn", token, "a completion panicked");
    }
}

/// The oldest commit that waits; followers have no version.
fn first_version(queue: &VecDeque<Waiting>) -> Option<u64> {
    let mut versions = queue.iter().map(|waiting| waiting.version);
    versions.find(|version| *version != 0)
}

/// Answers taken from the queue and not yet given.
#[derive(Default)]
struct Ready {
    answers: [Option<(u64, Completion, Answer)>; PUBLISH_BATCH_COUNT],
    count: usize,
}

impl Ready {
    fn has_room(&self) -> bool {
        self.count < PUBLISH_BATCH_COUNT
    }

    fn push(&mut self, version: u64, answer: Option<(Completion, Answer)>) {
        if let Some(place) = self.answers.get_mut(self.count) {
            *place = answer.map(|(completion, answer)| (version, completion, answer));
            self.count += 1;
        }
    }

    /// The answer of the commit of `version`, if it is among them.
    fn take(&mut self, version: u64) -> Option<Answer> {
        let is_own = |place: &&mut Option<(u64, Completion, Answer)>| {
            place
                .as_ref()
                .is_some_and(|(found, _, _)| *found == version)
        };
        let own = self.answers.iter_mut().find(is_own).and_then(Option::take);
        own.map(|(_, _, answer)| answer)
    }
}
