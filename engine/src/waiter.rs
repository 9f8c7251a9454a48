//! How a thread waits for its own commit: one waiter per thread, reused, so that an embedded
//! commit allocates nothing.

use std::sync::Arc;

use crate::errors::CommitError;
use crate::program::{Completion, CompletionSink, Outcome};

use super::publication::Answer;
use super::sync::{Condvar, Mutex};

/// Holds the answer of the one commit its thread waits for.
#[derive(Default)]
pub(crate) struct ThreadWaiter {
    answer: Mutex<Option<Answer>>,
    changed: Condvar,
}

thread_local! {
    static WAITER: Arc<ThreadWaiter> = Arc::new(ThreadWaiter::default());
}

impl ThreadWaiter {
    /// The waiter of the calling thread.
    pub(crate) fn current() -> Arc<Self> {
        WAITER.with(Arc::clone)
    }

    /// Where the log thread puts the answer.
    pub(crate) fn completion(self: &Arc<Self>) -> Completion {
        let sink: Arc<dyn CompletionSink> = Arc::<Self>::clone(self);
        Completion { sink, token: 0 }
    }

    /// Sleeps until the answer is there.
    pub(crate) fn wait(&self) -> Answer {
        let mut answer = self.answer.lock();
        loop {
            if let Some(answer) = answer.take() {
                return answer;
            }
            self.changed.wait(&mut answer);
        }
    }
}

impl CompletionSink for ThreadWaiter {
    fn complete(&self, _token: u64, result: Result<Outcome, CommitError>) {
        *self.answer.lock() = Some(result);
        self.changed.notify_one();
    }
}
