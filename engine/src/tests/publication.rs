//! The queue of pending commits: who is told what, by whom, and what is kept.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::errors::CommitError;
use crate::limits::KEPT_QUEUE_COUNT_MAX;
use crate::program::{Completion, CompletionSink, Outcome};
use crate::publication::{Answer, PUBLISH_BATCH_COUNT, Publication, Queued};

/// Collects answers, and when the first comes commits one more, as another thread may.
#[derive(Default)]
struct Sink {
    publication: Mutex<Option<Arc<Publication>>>,
    given: Mutex<Vec<(u64, u64)>>,
}

const LATE: u64 = 100;

fn outcome(version: u64) -> Answer {
    Ok(Outcome {
        version,
        ..Outcome::nothing()
    })
}

impl CompletionSink for Sink {
    fn complete(&self, token: u64, result: Answer) {
        let version = result.map_or(0, |outcome| outcome.version);
        self.given.lock().push((token, version));
        let publication = self.publication.lock().take();
        let Some(publication) = publication else {
            return;
        };
        publication.push(LATE, true).unwrap();
        let completion = Completion {
            sink: Arc::new(Self::default()),
            token: LATE,
        };
        match publication.installed(LATE, &completion, outcome(LATE)) {
            Queued::Ready(answer) => self.given.lock().push((LATE, answer.unwrap().version)),
            // Its completion is called by whoever publishes it.
            Queued::Waits => {}
            Queued::Dead => panic!("nothing failed"),
        }
    }
}

/// Lost before: a commit that was installed between two batches of answers was told the answer
/// of an older one, whose committer then waited for ever.
#[test]
fn a_commit_installed_between_two_batches_of_answers_gets_its_own() {
    let publication = Arc::new(Publication::new());
    let sink = Arc::new(Sink::default());
    let count = 2 * PUBLISH_BATCH_COUNT as u64 + 1;
    for version in 1..=count {
        publication.push(version, version != 1).unwrap();
        let completion = Completion {
            sink: sink.clone(),
            token: version,
        };
        let queued = publication.installed(version, &completion, outcome(version));
        assert!(matches!(queued, Queued::Waits));
    }
    *sink.publication.lock() = Some(Arc::clone(&publication));
    publication.promise_met(1);

    assert_eq!(publication.visible(), LATE);
    let mut given = sink.given.lock().clone();
    assert!(
        given.iter().all(|(token, version)| token == version),
        "{given:?}"
    );
    given.sort_unstable();
    let told: Vec<u64> = given
        .iter()
        .map(|(token, _)| *token)
        .filter(|token| *token != LATE)
        .collect();
    assert_eq!(told, (1..=count).collect::<Vec<u64>>());
}

struct Panics;

impl CompletionSink for Panics {
    fn complete(&self, _token: u64, _result: Answer) {
        panic!("on purpose")
    }
}

/// Lost before: the thread that met the last condition took the panic for its own, poisoned
/// the database, and left the answers behind it ungiven.
#[test]
fn a_completion_that_panics_takes_no_other_answer_along() {
    for fails in [false, true] {
        let publication = Publication::new();
        let sink = Arc::new(Sink::default());
        for version in 1..=3 {
            publication.push(version, version != 1).unwrap();
            let completion = Completion {
                sink: match version {
                    2 => Arc::new(Panics),
                    _ => sink.clone(),
                },
                token: version,
            };
            let answer = outcome(version);
            let queued = publication.installed(version, &completion, answer);
            assert!(matches!(queued, Queued::Waits));
        }
        if fails {
            publication.fail(&CommitError::Internal);
        } else {
            publication.promise_met(1);
        }
        let tokens: Vec<u64> = sink.given.lock().iter().map(|given| given.0).collect();
        assert_eq!(tokens, [1, 3]);
        assert_eq!(publication.visible(), if fails { 0 } else { 3 });
    }
}

#[test]
fn a_queue_that_was_long_gives_its_memory_back_once_it_is_empty() {
    let publication = Publication::new();
    let sink = Arc::new(Sink::default());
    let count = 4 * KEPT_QUEUE_COUNT_MAX as u64;
    for version in 1..=count {
        assert!(publication.reserve());
        publication.push(version, version != 1).unwrap();
        let completion = Completion {
            sink: sink.clone(),
            token: version,
        };
        publication.installed(version, &completion, outcome(version));
    }
    let capacity = || publication.queue.lock().capacity();
    assert!(KEPT_QUEUE_COUNT_MAX < capacity());
    publication.promise_met(1);
    assert_eq!(publication.visible(), count);
    assert!(capacity() <= 2 * KEPT_QUEUE_COUNT_MAX);
}
