//! Waiting for what is pending in a run: for negative answers that depend on another run's commit.

use parking_lot::MutexGuard;

use crate::program::{Completion, Submitted};
use crate::publication::{Answer, Queued};
use crate::shard::{CommitState, RunShard};
use crate::shared::Shared;

/// Gives `answer` once everything pending in `shard` now is published. The caller holds its
/// critical section.
pub(crate) fn follow(
    _section: &MutexGuard<'_, CommitState>,
    shard: &RunShard,
    shared: &Shared,
    completion: &Completion,
    answer: Answer,
) -> Submitted {
    match shard.publication.follow(completion, answer) {
        Queued::Ready(answer) => Submitted::Done(answer),
        Queued::Waits => Submitted::Pending,
        Queued::Dead => Submitted::Done(Err(shared.poisoned_error(false))),
    }
}
