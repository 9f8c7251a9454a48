//! Refusals that tell what a run holds: nobody hears of a state that may still be lost.

use std::sync::Arc;
use std::thread;

use in_mem_model::{RunId, RunStatus};
use in_mem_wal::disk::{Fault, FaultRule, OpKind, SimWorld};

use super::{Collector, Told, drive, driven, in_memory, int, text, world};
use crate::{
    BeginRun, CommitError, CommitOptions, Database, Driver, Expected, Program, ReadCheck, Run,
    RunChange, Seen, Step, Submitted,
};

/// A run whose beginning is published, and a log that moves only when driven.
struct Driven {
    world: SimWorld,
    database: Database,
    driver: Driver,
    run: Run,
    collector: Arc<Collector>,
}

impl Driven {
    fn new() -> Self {
        let world = world();
        let (database, mut driver) = driven(&world);
        let collector = Arc::new(Collector::default());
        let id = RunId::new_random();
        let begun = database
            .runs()
            .submit_begin(id, BeginRun::default(), &collector.completion(0));
        assert!(matches!(begun, Submitted::Pending));
        drive(&mut driver);
        assert!(matches!(collector.take().as_slice(), [(0, Ok(_))]));
        let run = database.run(id).unwrap();
        Self {
            world,
            database,
            driver,
            run,
            collector,
        }
    }

    fn submit(&self, token: u64, step: Step<'_>) -> Submitted {
        let program = Program {
            checks: &[],
            steps: &[step],
        };
        let completion = self.collector.completion(token);
        self.run
            .submit(&program, CommitOptions::default(), &completion)
    }

    /// Submits what has to wait.
    fn submit_pending(&self, token: u64, step: Step<'_>) {
        let submitted = self.submit(token, step);
        assert!(matches!(submitted, Submitted::Pending), "{submitted:?}");
    }

    /// Lets the log move and takes what was told then.
    fn drive(&mut self) -> Vec<Told> {
        assert!(self.collector.take().is_empty(), "nobody is told before");
        drive(&mut self.driver);
        self.collector.take()
    }

    fn fail_the_log(&self) {
        self.world
            .add_rule(FaultRule::new(Fault::Io).on(OpKind::WriteSynced));
        self.world
            .add_rule(FaultRule::new(Fault::Io).on(OpKind::Sync));
    }
}

/// Submits, behind a pending pause, one program for each refusal that tells of the pause, and one
/// behind a pending put for each that tells of its value.
fn submit_refused(driven: &Driven) {
    let (value, words, most) = (int(1), text("x"), int(i64::MAX));
    let put = |key: &'static [u8], value| Step::Put { key, value };
    driven.submit_pending(1, put(b"s", words.as_ref()));
    driven.submit_pending(2, put(b"n", most.as_ref()));
    let increment = |key: &'static [u8]| Step::Increment { key, delta: 1 };
    driven.submit_pending(3, increment(b"s"));
    driven.submit_pending(4, increment(b"n"));
    driven.submit_pending(5, Step::Run(&RunChange::Pause));
    driven.submit_pending(6, put(b"k", value.as_ref()));
    driven.submit_pending(7, Step::Run(&RunChange::Pause));
    driven.submit_pending(8, Step::Run(&RunChange::AddTags { tags: Vec::new() }));
    let again = Step::Run(&RunChange::Begin(BeginRun::default()));
    driven.submit_pending(9, again);
}

/// Lost before: these were told at once, and a power loss then took back what they told of.
#[test]
fn a_refusal_that_depends_on_a_pending_commit_is_told_once_that_is_published() {
    let mut driven = Driven::new();
    submit_refused(&driven);
    let told = driven.drive();
    let tokens: Vec<u64> = told.iter().map(|(token, _)| *token).collect();
    assert_eq!(tokens, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    let error = |token: usize| told[token - 1].1.as_ref().unwrap_err();
    assert!(matches!(error(3), CommitError::WrongType { .. }));
    assert!(matches!(error(4), CommitError::Overflow { .. }));
    assert!(matches!(error(6), CommitError::RunClosed { .. }));
    assert!(matches!(error(7), CommitError::InvalidTransition { .. }));
    assert!(matches!(error(8), CommitError::RunClosed { .. }));
    assert!(matches!(error(9), CommitError::AlreadyExists { .. }));
    let status = driven.database.runs().run_status(driven.run.id());
    assert_eq!(status, Some(RunStatus::Paused));
    let value = int(1);
    let put = Step::Put {
        key: b"k",
        value: value.as_ref(),
    };
    let refused = driven.submit(10, put);
    assert!(
        matches!(
            refused,
            Submitted::Done(Err(CommitError::RunClosed {
                status: RunStatus::Paused,
                ..
            }))
        ),
        "what is published is told at once"
    );
}

#[test]
fn a_refusal_is_a_failure_when_what_it_depends_on_is_lost() {
    let mut driven = Driven::new();
    submit_refused(&driven);
    driven.fail_the_log();
    let told = driven.drive();
    assert_eq!(told.len(), 9);
    for (token, answer) in &told {
        let error = answer.as_ref().unwrap_err();
        assert!(
            matches!(error, CommitError::Poisoned { .. }),
            "{token}: {error:?}"
        );
        let wrote = [1, 2, 5].contains(token);
        assert_eq!(error.is_outcome_unknown(), wrote, "{token}: {error:?}");
    }
    let status = driven.database.runs().run_status(driven.run.id());
    assert_eq!(status, Some(RunStatus::Active));
}

/// Lost before: who asked for a name between its claim and the failure of the claim's commit was
/// told that it is taken, by a run that never was.
#[test]
fn a_name_that_is_given_back_is_free_for_who_asked_meanwhile() {
    let database = in_memory();
    let store = database.store();
    let holder = RunId::new_random();
    let shard = store.shard_or_new(holder);
    let collector = Arc::new(Collector::default());
    for asks_for_an_answer in [false, true] {
        let name = format!("agent-{asks_for_an_answer}");
        let begin = || BeginRun {
            name: Some(name.clone()),
            ..BeginRun::default()
        };
        let section = shard.commit.lock();
        let claim = store.names.claim(&name, holder).unwrap();
        thread::scope(|scope| {
            let asked = scope.spawn(|| {
                let runs = database.runs();
                if asks_for_an_answer {
                    runs.begin_run(begin()).map(|(info, _)| info.id)
                } else {
                    let id = RunId::new_random();
                    let completion = collector.completion(0);
                    match runs.submit_begin(id, begin(), &completion) {
                        Submitted::Done(answer) => answer.map(|_| id),
                        submitted => panic!("{submitted:?}"),
                    }
                }
            });
            // Time to be refused: the answer is right without it, but then it proves nothing.
            (0..10_000).for_each(|_| thread::yield_now());
            drop(claim);
            drop(section);
            let begun = asked.join().unwrap().unwrap();
            assert_eq!(database.runs().resolve(&name), Some(begun));
        });
    }
}

#[test]
fn a_taken_name_is_told_once_its_holder_is_published_and_not_if_it_is_lost() {
    for is_lost in [false, true] {
        let mut driven = Driven::new();
        let begin = || BeginRun {
            name: Some("agent".into()),
            ..BeginRun::default()
        };
        let holder = RunId::new_random();
        for (token, id) in [(1, holder), (2, RunId::new_random())] {
            let completion = driven.collector.completion(token);
            let runs = driven.database.runs();
            let begun = runs.submit_begin(id, begin(), &completion);
            assert!(matches!(begun, Submitted::Pending), "{begun:?}");
        }
        if is_lost {
            driven.fail_the_log();
        }
        let told = driven.drive();
        assert_eq!(told.len(), 2);
        match &told[1].1 {
            Err(CommitError::AlreadyExists { run }) => assert!(!is_lost && *run == holder),
            answer => assert!(is_lost, "{answer:?}"),
        }
        assert_eq!(told[0].1.is_ok(), !is_lost);
    }
}

#[test]
fn a_commit_that_is_refused_or_writes_nothing_gives_its_buffer_back() {
    let driven = Driven::new();
    let log = &driven.database.inner.log.get().unwrap().handle;
    let value = int(1);
    let put = |key: &'static [u8]| Step::Put {
        key,
        value: value.as_ref(),
    };
    let cas = Step::CasVersion {
        key: b"none",
        expected: Expected::Version(1),
        value: value.as_ref(),
    };
    let swap = |version| ReadCheck {
        key: b"none",
        seen: Seen::Version(version),
    };
    let cases: [(&[ReadCheck<'_>], Step<'_>, usize); 4] = [
        (&[], cas, 1),
        (&[swap(1)], put(b"k"), 1),
        (&[], Step::Run(&RunChange::Resume), 1),
        (&[], put(b""), 0),
    ];
    for (checks, step, used_count) in cases {
        while log.take_buffer().capacity() != 0 {}
        let steps = [step];
        let program = Program {
            checks,
            steps: &steps,
        };
        let completion = driven.collector.completion(1);
        let submitted = driven
            .run
            .submit(&program, CommitOptions::default(), &completion);
        assert!(matches!(submitted, Submitted::Done(_)), "{submitted:?}");
        let given_count = usize::from(log.take_buffer().capacity() != 0);
        assert_eq!(given_count, used_count, "{submitted:?}");
    }
}
