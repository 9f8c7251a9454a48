//! Waiting for what is pending in a run: for negative answers that depend on another run's commit.

use crate::errors::CommitError;
use crate::program::{Completion, Outcome, Submitted};
use crate::publication::{Answer, Queued};
use crate::shard::RunShard;
use crate::shared::Shared;
use crate::waiter::ThreadWaiter;

/// Gives `answer` once everything pending in `shard` now is published.
pub(crate) fn follow(
    shard: &RunShard,
    shared: &Shared,
    completion: &Completion,
    answer: Answer,
) -> Submitted {
    let _section = shard.commit.lock();
    match shard.publication.follow(completion, answer) {
        Queued::Ready(answer) => Submitted::Done(answer),
        Queued::Waits => Submitted::Pending,
        Queued::Dead => Submitted::Done(Err(shared.poisoned_error(false))),
    }
}

/// Waits on the calling thread until everything pending in `shard` now is published.
pub(crate) fn wait_until_published(shard: &RunShard, shared: &Shared) -> Answer {
    let waiter = ThreadWaiter::current();
    match follow(shard, shared, &waiter.completion(), Ok(Outcome::nothing())) {
        Submitted::Done(answer) => answer,
        Submitted::Pending => waiter.wait(),
        Submitted::Busy => Err(CommitError::Busy),
    }
}
