//! The hand-off of commits to their publication under ten thousand schedules: the files of the
//! product, compiled once more over locks and atomics whose every step a scheduler chooses.
//!
//! What stands around them is the least there can be: a section for each run, a log that meets its
//! promises in order, and two entities that every commit changes together.
#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "the files are whole, and a test uses a part of what they offer"
)]

#[path = "../publication.rs"]
mod publication;
#[path = "../sequencer.rs"]
mod sequencer;
#[path = "../../../wal/src/tests/scheduled/sync.rs"]
mod sync;
#[path = "../waiter.rs"]
mod waiter;

use std::collections::VecDeque;
use std::sync::Arc;

use shuttle::thread;

use self::publication::{Answer, Publication, Queued};
use self::sequencer::Sequencer;
use self::sync::{AtomicBool, Condvar, Mutex, Ordering, under_schedules};
use self::waiter::ThreadWaiter;
use crate::errors::CommitError;
use crate::program::Outcome;

const SEED: u64 = 42;

/// Schedules of each test: ten thousand together.
const SCHEDULE_COUNT: usize = 2_500;

/// One run: its critical section, its publication, and two entities with their versions.
struct Shard {
    section: Mutex<()>,
    publication: Publication,
    entities: [Mutex<Vec<u64>>; 2],
}

impl Shard {
    fn new() -> Self {
        Self {
            section: Mutex::new(()),
            publication: Publication::new(),
            entities: Default::default(),
        }
    }

    /// The newest version at or below a bound that an entity shows.
    fn seen(&self, entity: usize, bound: u64) -> u64 {
        let versions = self.entities[entity].lock();
        let below = versions.iter().filter(|version| **version <= bound);
        below.max().copied().unwrap_or(0)
    }

    /// Both entities as of a bound: whole commits only.
    fn assert_not_torn(&self, bound: u64) -> u64 {
        let pair = [self.seen(0, bound), self.seen(1, bound)];
        assert_eq!(pair[0], pair[1], "half of a commit is shown at {bound}");
        pair[0]
    }
}

/// Records on their way, and what becomes of them.
#[derive(Default)]
struct Queue {
    records: VecDeque<(usize, u64)>,
    is_over: bool,
}

/// Two runs over one log.
struct Store {
    sequencer: Sequencer,
    shards: [Shard; 2],
    queue: Mutex<Queue>,
    work: Condvar,
    /// No commit is admitted any more.
    is_closed: AtomicBool,
}

impl Store {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            sequencer: Sequencer::new(0),
            shards: [Shard::new(), Shard::new()],
            queue: Mutex::default(),
            work: Condvar::new(),
            is_closed: AtomicBool::new(false),
        })
    }

    /// Commits to a run and waits for the answer; none when it was not admitted.
    fn commit(&self, run: usize) -> Option<Answer> {
        let shard = &self.shards[run];
        let waiter = Arc::new(ThreadWaiter::default());
        let version = {
            let _section = shard.section.lock();
            if self.is_closed.load(Ordering::SeqCst) {
                return None;
            }
            // The version and its place in the log are one step.
            let mut queue = self.queue.lock();
            let version = self.sequencer.next_version().expect("no floor");
            if shard.publication.push(version, false).is_err() {
                return Some(Err(CommitError::Internal));
            }
            queue.records.push_back((run, version));
            self.work.notify_one();
            version
        };
        for entity in &shard.entities {
            entity.lock().push(version);
        }
        let answer = Ok(Outcome {
            version,
            ..Outcome::nothing()
        });
        let publication = &shard.publication;
        Some(
            match publication.installed(version, &waiter.completion(), answer) {
                Queued::Ready(answer) => answer,
                Queued::Waits => waiter.wait(),
                Queued::Dead => Err(CommitError::Internal),
            },
        )
    }

    /// The log: meets promises in the order of the records until it is over, or fails behind
    /// some of them.
    fn serve(&self, fails_after: usize) {
        let mut count = 0;
        loop {
            let (run, version) = {
                let mut queue = self.queue.lock();
                loop {
                    match queue.records.pop_front() {
                        Some(record) => break record,
                        None if queue.is_over => return,
                        None => self.work.wait(&mut queue),
                    }
                }
            };
            if count == fails_after {
                let error = CommitError::Internal;
                self.shards
                    .iter()
                    .for_each(|shard| shard.publication.fail(&error));
            } else {
                self.shards[run].publication.promise_met(version);
                count += 1;
            }
            if fails_after <= count && self.queue.lock().is_over {
                return;
            }
        }
    }

    fn end(&self) {
        self.queue.lock().is_over = true;
        self.work.notify_one();
    }

    /// What a checkpoint captures: as the store of the product computes it.
    fn watermark(&self) -> u64 {
        let mut watermark = self.sequencer.last_issued();
        for shard in &self.shards {
            let _section = shard.section.lock();
            watermark = shard.publication.lowered(watermark);
        }
        watermark
    }
}

/// What one thread does.
type Work = Box<dyn FnOnce(&Store) + Send>;

/// Runs `work` on threads of its own over one store with a log, and waits for all of them.
fn with_threads(fails_after: usize, work: Vec<Work>) -> Arc<Store> {
    let store = Store::new();
    let log = {
        let store = Arc::clone(&store);
        thread::spawn(move || store.serve(fails_after))
    };
    let spawn = |work: Box<dyn FnOnce(&Store) + Send>| {
        let store = Arc::clone(&store);
        thread::spawn(move || work(&store))
    };
    let threads: Vec<_> = work.into_iter().map(spawn).collect();
    for thread in threads {
        thread.join().unwrap();
    }
    store.end();
    log.join().unwrap();
    store
}

fn committer(run: usize, count: usize) -> Box<dyn FnOnce(&Store) + Send> {
    Box::new(move |store| {
        for _ in 0..count {
            let outcome = store.commit(run).expect("open").expect("nothing fails");
            let visible = store.shards[run].publication.visible();
            assert!(outcome.version <= visible, "told before it is published");
        }
    })
}

#[test]
fn under_any_schedule_commits_are_told_once_published_and_no_reader_sees_half_of_one() {
    under_schedules(SEED, SCHEDULE_COUNT, || {
        let reader = Box::new(|store: &Store| {
            let mut last = 0;
            for _ in 0..3 {
                let visible = store.shards[0].publication.visible();
                let seen = store.shards[0].assert_not_torn(visible);
                assert_eq!(seen, visible, "what is visible is installed");
                assert!(last <= visible, "a read goes back in time");
                last = visible;
            }
        });
        let store = with_threads(usize::MAX, vec![committer(0, 2), committer(0, 2), reader]);
        assert_eq!(store.shards[0].publication.visible(), 4);
        assert!(store.shards[0].publication.is_idle());
    });
}

#[test]
fn under_any_schedule_a_checkpoint_beside_writers_captures_whole_commits_up_to_its_watermark() {
    under_schedules(SEED + 1, SCHEDULE_COUNT, || {
        let checkpoint = Box::new(|store: &Store| {
            for _ in 0..2 {
                let watermark = store.watermark();
                let image = || [0, 1].map(|run| store.shards[run].assert_not_torn(watermark));
                let first = image();
                for run in [0, 1] {
                    let visible = store.shards[run].publication.visible();
                    assert!(first[run] <= visible, "nothing unpublished is captured");
                }
                thread::yield_now();
                assert_eq!(image(), first, "no commit at or below it comes later");
            }
        });
        let store = with_threads(
            usize::MAX,
            vec![committer(0, 2), committer(1, 2), checkpoint],
        );
        assert_eq!(store.watermark(), 4);
    });
}

#[test]
fn under_any_schedule_a_commit_beside_a_shutdown_is_refused_or_published_before_it_ends() {
    under_schedules(SEED + 2, SCHEDULE_COUNT, || {
        let admitted = Arc::new(Mutex::new(0_u64));
        let commits = |run: usize| -> Box<dyn FnOnce(&Store) + Send> {
            let admitted = Arc::clone(&admitted);
            Box::new(move |store| {
                for _ in 0..2 {
                    if let Some(answer) = store.commit(run) {
                        answer.expect("nothing fails");
                        *admitted.lock() += 1;
                    }
                }
            })
        };
        let shutdown = Box::new(|store: &Store| {
            // Admission first, then every section: what was admitted has its version then.
            store.is_closed.store(true, Ordering::SeqCst);
            for shard in &store.shards {
                drop(shard.section.lock());
            }
            let highest = store.sequencer.last_issued();
            thread::yield_now();
            assert_eq!(
                store.sequencer.last_issued(),
                highest,
                "a commit slipped past"
            );
        });
        let store = with_threads(usize::MAX, vec![commits(0), commits(1), shutdown]);
        assert_eq!(store.sequencer.last_issued(), *admitted.lock());
        assert_eq!(store.watermark(), *admitted.lock());
    });
}

#[test]
fn under_any_schedule_a_log_that_fails_leaves_no_committer_waiting_and_publishes_no_hole() {
    under_schedules(SEED + 3, SCHEDULE_COUNT, || {
        let fails_after = shuttle::rand::Rng::gen_range(&mut shuttle::rand::thread_rng(), 0..4);
        let told = Arc::new(Mutex::new(Vec::new()));
        let commits = || -> Box<dyn FnOnce(&Store) + Send> {
            let told = Arc::clone(&told);
            Box::new(move |store| {
                for _ in 0..2 {
                    if let Some(Ok(outcome)) = store.commit(0) {
                        told.lock().push(outcome.version);
                    }
                }
            })
        };
        let store = with_threads(fails_after, vec![commits(), commits()]);
        let visible = store.shards[0].publication.visible();
        let mut told = told.lock().clone();
        told.sort_unstable();
        // Exactly those before the failure, without a hole.
        assert_eq!(told, (1..=visible).collect::<Vec<u64>>());
        assert!(visible <= fails_after as u64);
    });
}
