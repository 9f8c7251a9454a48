//! What every primitive obeys, for every primitive that is built, in every durability mode.
//!
//! One trait per test subject, one function per property: a new primitive adds an adapter and no
//! test. Over the socket, every operation answers the same in both encodings.

#![allow(
    unreachable_pub,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that panics has failed, as it should; support files serve several tests"
)]

#[path = "support/daemon_process.rs"]
mod daemon_process;
#[path = "conformance/encodings.rs"]
mod encodings;
#[path = "conformance/exports.rs"]
mod exports;
#[path = "conformance/python.rs"]
mod python;
#[path = "support/python.rs"]
mod python_environment;
#[path = "support/raw_client.rs"]
mod raw_client;

#[path = "../benches/zero_alloc/counting.rs"]
mod counting;
#[path = "support/fuzz_checks.rs"]
mod fuzz_checks;
#[path = "conformance/fuzz_corpus.rs"]
mod fuzz_corpus;
#[path = "support/scale.rs"]
mod scale;

use std::path::PathBuf;

use in_mem_engine::model::{RunId, RunStatus, Value, encode};
use in_mem_engine::{BeginRun, CommitError, Database, DurabilityMode};

/// Counts what the checks of hostile bytes ask for.
#[global_allocator]
static COUNTING: counting::Counting = counting::Counting;

/// A primitive under test. An entity is addressed by a number.
trait Primitive {
    /// Its name, for failures.
    const NAME: &'static str;

    /// Creates, or changes, the entity and returns the version.
    fn write(database: &Database, run: RunId, entity: u8, content: u8) -> Result<u64, CommitError>;

    /// The content and the version; none when there is no such entity.
    fn read(database: &Database, run: RunId, entity: u8) -> Option<(u8, u64)>;

    /// Whether it exists.
    fn exists(database: &Database, run: RunId, entity: u8) -> bool;

    /// Takes the entity away, as far as this primitive knows that.
    fn remove(database: &Database, run: RunId, entity: u8) -> Result<(), CommitError>;
}

/// Keys and values.
struct KvPrimitive;

fn key(entity: u8) -> String {
    format!("entity/{entity}")
}

impl Primitive for KvPrimitive {
    const NAME: &'static str = "KV";

    fn write(database: &Database, run: RunId, entity: u8, content: u8) -> Result<u64, CommitError> {
        let value = encode(&Value::from(i64::from(content))).expect("small");
        database.run(run)?.kv().put(key(entity), &value)
    }

    fn read(database: &Database, run: RunId, entity: u8) -> Option<(u8, u64)> {
        let found = database
            .run(run)
            .ok()?
            .kv()
            .get_versioned(key(entity))
            .expect("readable")?;
        let content = in_mem_engine::model::as_int(&found.value).expect("an integer");
        Some((u8::try_from(content).expect("small"), found.version))
    }

    fn exists(database: &Database, run: RunId, entity: u8) -> bool {
        database
            .run(run)
            .is_ok_and(|run| run.kv().exists(key(entity)).expect("readable"))
    }

    fn remove(database: &Database, run: RunId, entity: u8) -> Result<(), CommitError> {
        database.run(run)?.kv().delete(key(entity)).map(drop)
    }
}

/// Runs themselves: the entity is the run, its content a tag.
struct RunPrimitive;

impl Primitive for RunPrimitive {
    const NAME: &'static str = "Run";

    fn write(database: &Database, run: RunId, _: u8, content: u8) -> Result<u64, CommitError> {
        let runs = database.runs();
        let old = runs.get_tags(run).unwrap_or_default();
        let old: Vec<&str> = old.iter().map(String::as_str).collect();
        if !old.is_empty() {
            runs.remove_tags(run, &old)?;
        }
        runs.add_tags(run, &[&content.to_string()])
    }

    fn read(database: &Database, run: RunId, _: u8) -> Option<(u8, u64)> {
        let info = database.runs().get(run)?;
        let content = info.tags.first()?.parse().expect("a number");
        Some((content, info.version))
    }

    fn exists(database: &Database, run: RunId, _: u8) -> bool {
        database.runs().exists(run) && Self::read(database, run, 0).is_some()
    }

    fn remove(database: &Database, run: RunId, _: u8) -> Result<(), CommitError> {
        let tags = database.runs().get_tags(run).unwrap_or_default();
        let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
        database.runs().remove_tags(run, &tags).map(drop)
    }
}

const MODES: [DurabilityMode; 3] = [
    DurabilityMode::InMemory,
    DurabilityMode::buffered_default(),
    DurabilityMode::Strict,
];

/// A database of one mode in a directory of its own.
struct Subject {
    database: Database,
    path: PathBuf,
    mode: DurabilityMode,
    _directory: tempfile::TempDir,
}

impl Subject {
    fn new(mode: DurabilityMode) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("data.inmem");
        let database = Self::open(&path, mode);
        Self {
            database,
            path,
            mode,
            _directory: directory,
        }
    }

    fn open(path: &PathBuf, mode: DurabilityMode) -> Database {
        let mut log = in_mem_wal::LogConfig::tiny();
        log.log_block_len_bytes = 4096;
        log.segment_len_bytes = 128 << 10;
        Database::builder()
            .path(path)
            .durability(mode)
            .wal_config(log)
            .open()
            .expect("opened")
    }

    fn begin(&self) -> RunId {
        self.database
            .runs()
            .begin_run(BeginRun::default())
            .expect("begun")
            .0
            .id
    }

    /// Closes and opens again; an InMemory database is left open, since it has nothing to reopen.
    fn restart(&mut self) {
        if self.mode.requires_wal() {
            self.database.close().expect("closed");
            self.database = Self::open(&self.path, self.mode);
        }
    }
}

/// Calls `check` with a fresh subject and a fresh run for every mode.
fn in_every_mode(check: impl Fn(&mut Subject, RunId)) {
    for mode in MODES {
        let mut subject = Subject::new(mode);
        let run = subject.begin();
        check(&mut subject, run);
    }
}

/// PI-1.
fn one_reference_finds_one_entity_also_after_a_restart<P: Primitive>() {
    in_every_mode(|subject, run| {
        P::write(&subject.database, run, 1, 10).expect("written");
        let before = P::read(&subject.database, run, 1);
        assert_eq!(before.map(|(content, _)| content), Some(10), "{}", P::NAME);
        subject.restart();
        assert_eq!(
            P::read(&subject.database, run, 1),
            before,
            "{} {:?}",
            P::NAME,
            subject.mode
        );
    });
}

/// PI-2.
fn every_write_makes_a_higher_version_that_reads_report<P: Primitive>() {
    in_every_mode(|subject, run| {
        let mut last = 0;
        for content in [1, 2, 2, 3] {
            let version = P::write(&subject.database, run, 1, content).expect("written");
            assert!(last < version, "{}: {version} after {last}", P::NAME);
            assert_eq!(
                P::read(&subject.database, run, 1),
                Some((content, version)),
                "{}",
                P::NAME
            );
            last = version;
        }
        subject.restart();
        assert_eq!(
            P::read(&subject.database, run, 1),
            Some((3, last)),
            "{}",
            P::NAME
        );
    });
}

/// PI-5.
fn an_entity_belongs_to_one_run<P: Primitive>() {
    in_every_mode(|subject, run| {
        let other = subject.begin();
        P::write(&subject.database, run, 1, 10).expect("written");
        assert_eq!(P::read(&subject.database, other, 1), None, "{}", P::NAME);
        assert!(!P::exists(&subject.database, other, 1), "{}", P::NAME);
        P::write(&subject.database, other, 1, 20).expect("written");
        let content = |run| P::read(&subject.database, run, 1).map(|(content, _)| content);
        assert_eq!(
            (content(run), content(other)),
            (Some(10), Some(20)),
            "{}",
            P::NAME
        );
        subject.restart();
        let content = |run| P::read(&subject.database, run, 1).map(|(content, _)| content);
        assert_eq!(
            (content(run), content(other)),
            (Some(10), Some(20)),
            "{}",
            P::NAME
        );
    });
}

/// PI-4 and PI-6.
fn entities_are_created_read_changed_and_removed_and_say_whether_they_exist<P: Primitive>() {
    in_every_mode(|subject, run| {
        assert!(!P::exists(&subject.database, run, 1), "{}", P::NAME);
        P::write(&subject.database, run, 1, 1).expect("created");
        assert!(P::exists(&subject.database, run, 1), "{}", P::NAME);
        P::write(&subject.database, run, 1, 2).expect("changed");
        P::remove(&subject.database, run, 1).expect("removed");
        assert!(!P::exists(&subject.database, run, 1), "{}", P::NAME);
        assert_eq!(P::read(&subject.database, run, 1), None, "{}", P::NAME);
        subject.restart();
        assert!(!P::exists(&subject.database, run, 1), "{}", P::NAME);
        P::write(&subject.database, run, 1, 3).expect("created again");
        assert!(P::exists(&subject.database, run, 1), "{}", P::NAME);
    });
}

/// PI-7.
fn reads_change_nothing<P: Primitive>() {
    in_every_mode(|subject, run| {
        P::write(&subject.database, run, 1, 1).expect("written");
        let (digest, version) = (subject.database.state_digest(), subject.database.version());
        for _ in 0..10 {
            P::read(&subject.database, run, 1);
            P::exists(&subject.database, run, 2);
        }
        assert_eq!(subject.database.state_digest(), digest, "{}", P::NAME);
        assert_eq!(
            subject.database.version(),
            version,
            "{}: a read took a version",
            P::NAME
        );
    });
}

macro_rules! conformance {
    ($module:ident, $primitive:ty) => {
        mod $module {
            #[test]
            fn correctness_pi_1_one_reference_finds_one_entity_also_after_a_restart() {
                super::one_reference_finds_one_entity_also_after_a_restart::<$primitive>();
            }

            #[test]
            fn correctness_pi_2_every_write_makes_a_higher_version_that_reads_report() {
                super::every_write_makes_a_higher_version_that_reads_report::<$primitive>();
            }

            #[test]
            fn correctness_pi_5_an_entity_belongs_to_one_run() {
                super::an_entity_belongs_to_one_run::<$primitive>();
            }

            #[test]
            fn correctness_pi_4_pi_6_entities_are_created_changed_removed_and_say_whether_they_exist() {
                super::entities_are_created_read_changed_and_removed_and_say_whether_they_exist::<
                    $primitive,
                >();
            }

            #[test]
            fn correctness_pi_7_reads_change_nothing() {
                super::reads_change_nothing::<$primitive>();
            }
        }
    };
}

conformance!(kv, super::KvPrimitive);
conformance!(run, super::RunPrimitive);

/// PI-3 for both at once: a program that changes the run and a key happens whole or not at all.
#[test]
fn correctness_pi_3_a_commit_over_two_primitives_happens_whole_or_not_at_all() {
    use in_mem_engine::{CommitOptions, Program, ReadCheck, RunChange, Seen, Step};
    in_every_mode(|subject, run| {
        let handle = subject.database.run(run).expect("there");
        let value = encode(&Value::from("v")).expect("small");
        let change = RunChange::AddTags {
            tags: vec!["both".to_owned()],
        };
        let steps = [
            Step::Put {
                key: b"k",
                value: value.as_ref(),
            },
            Step::Run(&change),
        ];
        let stale = [ReadCheck {
            key: b"other",
            seen: Seen::Version(77),
        }];
        let program = Program {
            checks: &stale,
            steps: &steps,
        };
        let refused = handle.commit(&program, CommitOptions::default());
        assert!(refused.is_err_and(|error| error.is_conflict()));
        assert!(!handle.kv().exists("k").expect("readable"));
        assert_eq!(subject.database.runs().get_tags(run), Some(Vec::new()));

        let program = Program {
            checks: &[],
            steps: &steps,
        };
        let version = handle
            .commit(&program, CommitOptions::default())
            .expect("committed")
            .version;
        drop(handle);
        subject.restart();
        let handle = subject.database.run(run).expect("there");
        let found = handle
            .kv()
            .get_versioned("k")
            .expect("readable")
            .expect("there");
        let info = subject.database.runs().get(run).expect("there");
        assert_eq!((found.version, info.version), (version, version));
        assert_eq!(info.tags, ["both"]);
    });
}

/// A write into a run that is not Active is refused; reads go on.
#[test]
fn a_closed_run_is_read_and_not_written() {
    in_every_mode(|subject, run| {
        KvPrimitive::write(&subject.database, run, 1, 1).expect("written");
        subject.database.runs().end_run(run).expect("ended");
        assert!(KvPrimitive::write(&subject.database, run, 1, 2).is_err());
        assert_eq!(
            KvPrimitive::read(&subject.database, run, 1).map(|found| found.0),
            Some(1)
        );
        subject.restart();
        assert_eq!(
            subject.database.runs().run_status(run),
            Some(RunStatus::Completed)
        );
        assert!(KvPrimitive::write(&subject.database, run, 1, 2).is_err());
        assert_eq!(
            KvPrimitive::read(&subject.database, run, 1).map(|found| found.0),
            Some(1)
        );
    });
}

/// Equal calls give equal results in every mode, before and after a restart.
#[test]
fn storage_invariant_eight_1_results_are_equal_in_every_mode_and_after_a_restart() {
    let dump = |mode| {
        let mut subject = Subject::new(mode);
        let run = subject.database.default_run();
        for number in 0..50_u8 {
            let value = encode(&Value::from(i64::from(number))).expect("small");
            run.kv()
                .put(format!("k{}", number % 7), &value)
                .expect("committed");
            if number % 5 == 0 {
                run.kv()
                    .delete(format!("k{}", number % 3))
                    .expect("committed");
            }
            run.kv().incr("n", i64::from(number)).expect("committed");
        }
        drop(run);
        let before = subject
            .database
            .default_run()
            .kv()
            .list_with_values("")
            .expect("readable");
        subject.restart();
        let after = subject
            .database
            .default_run()
            .kv()
            .list_with_values("")
            .expect("readable");
        assert_eq!(before, after, "{mode:?}");
        after
    };
    let lists = MODES.map(dump);
    assert_eq!(lists[0], lists[1]);
    assert_eq!(lists[1], lists[2]);
}
