//! The engine with its log on a simulated disk, without threads, and the history its clients keep.
//!
//! Up to four requests are in flight at once; the log and the background work move only when the
//! harness turns them. Time is a count of events. Each event also notes how many operations the
//! disk had seen, so that the history as of any moment of the disk can be cut out afterwards.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use in_mem_client::check::{
    Call, Datum, Dump, End, Entry, Found, History, Mode, Operation, Sight, Survival, Write,
};
use in_mem_client::check::{Checker, Outcome as Recorded};
use in_mem_engine::model::{Durability, EncodedValue, RunId, Value, encode};
use in_mem_engine::{
    BeginRun, BufferedAck, CommitError, CommitOptions, Completion, CompletionSink, Database,
    DatabaseBuilder, Driver, DurabilityMode, Expected, KeyRef, ListRequest, OpenError, Outcome,
    Program, ReadCheck, ReadView, Run, Seen, Step, StepOutcome, Submitted,
};
use in_mem_wal::clock::{Clock, SimClock};
use in_mem_wal::disk::{OpenDisk, SimRng, SimWorld};
use in_mem_wal::{LogConfig, Turn};

/// Requests in flight at most: as many clients, one each.
const IN_FLIGHT_COUNT_MAX: usize = 4;

/// Runs of a life besides the default one.
const RUN_COUNT: u8 = 2;

/// Every key of a run: five for single requests, a pair that changes together, a counter.
const KEYS: [&str; 8] = ["a", "b", "c", "d", "e", "p/1", "p/2", "n"];

/// The key under which the status of a run is recorded; no client may write it.
const STATUS_KEY: &str = "\u{1}status";

/// A request and when, in operations of the disk, it was sent and answered.
#[derive(Debug, Clone)]
pub(crate) struct Noted {
    /// The request.
    pub(crate) operation: Operation,
    /// Operations the disk had seen when it was sent.
    pub(crate) sent_ops: u64,
    /// Operations the disk had seen when it was answered.
    pub(crate) done_ops: Option<u64>,
}

/// Collects answers on whichever thread makes them.
struct Inbox {
    world: SimWorld,
    ticks: AtomicU64,
    answers: Mutex<Vec<Answer>>,
}

struct Answer {
    token: u64,
    result: Result<Outcome, CommitError>,
    tick: u64,
    ops: u64,
}

impl Inbox {
    fn tick(&self) -> u64 {
        self.ticks.fetch_add(1, Ordering::Relaxed) + 1
    }
}

impl CompletionSink for Inbox {
    fn complete(&self, token: u64, result: Result<Outcome, CommitError>) {
        let (tick, ops) = (self.tick(), self.world.op_count());
        self.answers.lock().expect("no panic").push(Answer {
            token,
            result,
            tick,
            ops,
        });
    }
}

/// How an engine is opened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EngineOptions {
    /// The default mode of the database.
    pub(crate) mode: DurabilityMode,
    /// Its log.
    pub(crate) log: LogConfig,
    /// Of ten requests, so many override the mode.
    pub(crate) override_per_ten: u64,
}

/// An open engine, its clients, and what they noted.
pub(crate) struct Engine {
    /// Its disk.
    pub(crate) world: SimWorld,
    /// The database.
    pub(crate) database: Database,
    /// What its clients noted.
    pub(crate) notes: Vec<Noted>,
    options: EngineOptions,
    clock: Arc<SimClock>,
    driver: Option<Driver>,
    runs: Vec<Run>,
    begun: Vec<(u64, RunId)>,
    inbox: Arc<Inbox>,
    value_count: u64,
}

/// Settings of an engine on a simulated disk.
fn builder(world: &SimWorld, options: &EngineOptions) -> DatabaseBuilder {
    Database::builder()
        .disk(Arc::new(world.clone()) as Arc<dyn OpenDisk>)
        .manual()
        .durability(options.mode)
        .buffered_ack(BufferedAck::Written)
        .wal_config(options.log)
}

/// Opens what is on a disk, only to look at it.
///
/// # Errors
/// Whatever opening says.
pub(crate) fn open_to_look(world: &SimWorld, options: &EngineOptions) -> Result<Database, OpenError> {
    builder(world, options)
        .clock(Arc::new(SimClock::new()))
        .open()
}

impl Engine {
    /// Opens, or creates, a database; `value_count` makes its values differ from earlier ones.
    ///
    /// # Errors
    /// Whatever opening says.
    pub(crate) fn open(
        world: &SimWorld,
        options: EngineOptions,
        value_count: u64,
    ) -> Result<Self, OpenError> {
        let clock = Arc::new(SimClock::new());
        let database = builder(world, &options)
            .clock(Arc::clone(&clock) as Arc<dyn Clock>)
            .open()?;
        let inbox = Arc::new(Inbox {
            world: world.clone(),
            ticks: AtomicU64::new(0),
            answers: Mutex::new(Vec::new()),
        });
        let ids = database.store().run_ids();
        let mut runs = vec![database.default_run()];
        let begun = ids.into_iter().filter(|id| *id != RunId::DEFAULT);
        runs.extend(begun.filter_map(|id| database.run(id).ok()));
        let mut engine = Self {
            world: world.clone(),
            database,
            notes: Vec::new(),
            options,
            clock,
            driver: None,
            runs,
            begun: Vec::new(),
            inbox,
            value_count,
        };
        engine.take_driver();
        Ok(engine)
    }

    /// Random actions of clients, log, background and clock.
    pub(crate) fn act(&mut self, rng: &mut SimRng, count: usize) {
        for _ in 0..count {
            match rng.below(20) {
                0..=8 if self.in_flight_count() < IN_FLIGHT_COUNT_MAX => self.request(rng),
                9 | 10 => self.read(rng),
                11 | 12 => self.settle_down(),
                13 | 14 => {
                    self.turn_background();
                }
                15 => self.clock.advance_us(rng.below(200_000)),
                16 => self.begin_run(rng),
                _ => {
                    self.turn_log();
                }
            }
            self.collect();
        }
    }

    /// One request, answered before this returns; true when it committed something.
    pub(crate) fn commit_one(&mut self, rng: &mut SimRng) -> bool {
        self.request(rng);
        self.settle_down();
        self.notes
            .pop()
            .is_some_and(|noted| noted.operation.version().is_some())
    }

    /// Turns log and background until neither has anything to do.
    pub(crate) fn settle_down(&mut self) {
        while self.turn_log() || self.turn_background() {}
        self.collect();
    }

    /// Closes the database in order.
    pub(crate) fn shut_down(&mut self) {
        self.settle_down();
        let _ = self.database.shutdown();
        while self.turn_log() {}
        self.collect();
    }

    /// How many distinct values its clients have made.
    #[must_use]
    pub(crate) fn value_count(&self) -> u64 {
        self.value_count
    }

    fn in_flight_count(&self) -> usize {
        let unanswered = |noted: &&Noted| noted.done_ops.is_none();
        self.notes.iter().filter(unanswered).count()
    }

    fn take_driver(&mut self) {
        if self.driver.is_none() {
            self.driver = self.database.take_driver().ok().flatten();
        }
    }

    fn turn_log(&mut self) -> bool {
        self.take_driver();
        self.driver
            .as_mut()
            .is_some_and(|driver| driver.drive_log() == Turn::Worked)
    }

    fn turn_background(&mut self) -> bool {
        self.take_driver();
        self.driver.as_mut().is_some_and(Driver::drive_background)
    }

    fn note(&mut self, call: Call) -> u64 {
        let id = self.notes.len() as u64;
        let operation = Operation {
            worker: 0,
            id,
            sent_at_ns: self.inbox.tick(),
            done_at_ns: None,
            call,
            outcome: Recorded::Unknown,
        };
        let sent_ops = self.world.op_count();
        self.notes.push(Noted {
            operation,
            sent_ops,
            done_ops: None,
        });
        id
    }

    fn answer(&mut self, id: u64, outcome: Recorded, tick: u64, ops: u64) {
        let noted = &mut self.notes[usize::try_from(id).expect("small")];
        noted.operation.done_at_ns = (outcome != Recorded::Unknown).then_some(tick);
        noted.operation.outcome = outcome;
        noted.done_ops = Some(ops);
    }

    /// Takes in what has been answered.
    fn collect(&mut self) {
        let answers = std::mem::take(&mut *self.inbox.answers.lock().expect("no panic"));
        for answer in answers {
            let call = self.notes[usize::try_from(answer.token).expect("small")]
                .operation
                .call
                .clone();
            let outcome = recorded(&call, answer.result);
            self.answer(answer.token, outcome, answer.tick, answer.ops);
        }
        let begun = std::mem::take(&mut self.begun);
        for (token, id) in begun {
            match self.database.run(id) {
                Ok(run) => self.runs.push(run),
                Err(_) => self.begun.push((token, id)),
            }
        }
    }

    fn completion(&self, token: u64) -> Completion {
        Completion {
            sink: Arc::clone(&self.inbox) as Arc<dyn CompletionSink>,
            token,
        }
    }

    fn finish_submit(&mut self, id: u64, submitted: Submitted) {
        let (tick, ops) = (self.inbox.tick(), self.world.op_count());
        match submitted {
            Submitted::Pending => {}
            Submitted::Busy => {
                self.answer(id, Recorded::Refused, tick, ops);
                self.turn_background();
            }
            Submitted::Done(result) => {
                let call = self.notes[usize::try_from(id).expect("small")]
                    .operation
                    .call
                    .clone();
                self.answer(id, recorded(&call, result), tick, ops);
            }
        }
    }

    fn mode(&self, rng: &mut SimRng) -> (Mode, CommitOptions) {
        let default = match self.options.mode {
            DurabilityMode::InMemory => Mode::InMemory,
            DurabilityMode::Buffered { .. } => Mode::Buffered,
            DurabilityMode::Strict => Mode::Strict,
        };
        if self.options.override_per_ten <= rng.below(10) {
            return (default, CommitOptions::default());
        }
        let (mode, choice) = match rng.below(3) {
            0 => (Mode::InMemory, Durability::InMemory),
            1 => (Mode::Buffered, Durability::Buffered),
            _ => (Mode::Strict, Durability::Strict),
        };
        (
            mode,
            CommitOptions {
                durability: Some(choice),
            },
        )
    }

    fn begin_run(&mut self, rng: &mut SimRng) {
        if usize::from(RUN_COUNT) < self.runs.len() + self.begun.len() {
            return;
        }
        let id = RunId([1 + u8::try_from(rng.below(200)).expect("small"); 16]);
        let mode = match self.options.mode {
            DurabilityMode::InMemory => Mode::InMemory,
            DurabilityMode::Buffered { .. } => Mode::Buffered,
            DurabilityMode::Strict => Mode::Strict,
        };
        let writes = vec![Write::Put(
            STATUS_KEY.to_owned(),
            Datum::Bytes(b"active".to_vec()),
        )];
        let expects = Vec::new();
        let token = self.note(Call::Write {
            run: *id.as_bytes(),
            mode,
            expects,
            writes,
        });
        let completion = self.completion(token);
        let submitted = self
            .database
            .runs()
            .submit_begin(id, BeginRun::default(), &completion);
        self.begun.push((token, id));
        self.finish_submit(token, submitted);
    }

    fn value(&mut self) -> (EncodedValue, Datum) {
        self.value_count += 1;
        // Up to three log blocks, so that batches are torn inside records.
        let filler = "v".repeat(usize::try_from(self.value_count * 37 % 1_300).expect("small"));
        let text = format!("{}{filler}", self.value_count);
        let value = encode(&Value::from(text.as_str())).expect("within the limits");
        let datum = Datum::Bytes(value.as_bytes().to_vec());
        (value, datum)
    }

    fn request(&mut self, rng: &mut SimRng) {
        let run = self.runs[rng.index(self.runs.len())].clone();
        let (mode, options) = self.mode(rng);
        let key = KEYS[rng.index(5)];
        let (value, datum) = self.value();
        let value = value.as_ref();
        let put = Write::Put(key.to_owned(), datum.clone());
        let seen = see(&run.read_view(), key);
        let version = seen.version.unwrap_or(0);
        let checks = [ReadCheck {
            key: key.as_bytes(),
            seen: Seen::Version(version),
        }];
        let key_bytes = key.as_bytes();
        let add = [Step::Increment {
            key: b"n",
            delta: 1,
        }];
        let pair = [
            Step::Put { key: b"p/1", value },
            Step::Put { key: b"p/2", value },
        ];
        let (steps, checks, expects, writes): (Vec<Step<'_>>, &[ReadCheck<'_>], _, _) =
            match rng.below(8) {
                0 => (add.to_vec(), &[], vec![], vec![Write::Add("n".into(), 1)]),
                1 | 2 => {
                    let writes = ["p/1", "p/2"].map(|key| Write::Put(key.into(), datum.clone()));
                    (pair.to_vec(), &[], vec![], writes.to_vec())
                }
                3 => {
                    let delete = Step::Delete { key: key_bytes };
                    (
                        vec![delete],
                        &[],
                        vec![],
                        vec![Write::Delete(key.to_owned())],
                    )
                }
                4 => {
                    let expected = Expected::Version(version);
                    let step = Step::CasVersion {
                        key: key_bytes,
                        expected,
                        value,
                    };
                    (vec![step], &[], vec![seen], vec![put])
                }
                5 => {
                    let both = [
                        Step::Put {
                            key: key_bytes,
                            value,
                        },
                        Step::Delete { key: b"p/1" },
                    ];
                    let writes = vec![put, Write::Delete("p/1".into())];
                    (both.to_vec(), &checks, vec![seen], writes)
                }
                6 => (
                    vec![Step::GetAndSet {
                        key: key_bytes,
                        value,
                    }],
                    &[],
                    vec![],
                    vec![put],
                ),
                _ => (
                    vec![Step::Put {
                        key: key_bytes,
                        value,
                    }],
                    &[],
                    vec![],
                    vec![put],
                ),
            };
        let call = Call::Write {
            run: *run.id().as_bytes(),
            mode,
            expects,
            writes,
        };
        let token = self.note(call);
        let completion = self.completion(token);
        let submitted = run.submit(
            &Program {
                checks,
                steps: &steps,
            },
            options,
            &completion,
        );
        self.finish_submit(token, submitted);
    }

    fn read(&mut self, rng: &mut SimRng) {
        let run = self.runs[rng.index(self.runs.len())].clone();
        let token = self.note(Call::Read {
            run: *run.id().as_bytes(),
        });
        let view = run.read_view();
        let (sights, listed) = if rng.coin() {
            let live = entries(&view).into_iter();
            let sights = live.map(|(key, entry)| Sight {
                key,
                version: Some(entry.version),
                found: entry.datum.map_or(Found::Absent, Found::Value),
            });
            (sights.collect(), Some(String::new()))
        } else {
            (
                ["p/1", "p/2", "n"].map(|key| see(&view, key)).to_vec(),
                None,
            )
        };
        let (tick, ops) = (self.inbox.tick(), self.world.op_count());
        // What a listing leaves out is the status, which is no key.
        let listed = listed.filter(|_| *run.id().as_bytes() == [0; 16]);
        self.answer(
            token,
            Recorded::Saw {
                at: Some(view.version()),
                sights,
                listed,
            },
            tick,
            ops,
        );
    }
}

/// What a view shows of a key.
fn see(view: &ReadView, key: &str) -> Sight {
    let key_ref = KeyRef::kv(key.as_bytes());
    let version = view.version_of(key_ref);
    let found = view.get(key_ref).map_or(Found::Absent, |versioned| {
        Found::Value(Datum::from_encoded(&versioned.value))
    });
    Sight {
        key: key.to_owned(),
        version: Some(version),
        found,
    }
}

/// The answer of the engine in the words of the checker.
fn recorded(call: &Call, result: Result<Outcome, CommitError>) -> Recorded {
    let outcome = match result {
        Ok(outcome) => outcome,
        Err(error) if error.is_outcome_unknown() => return Recorded::Unknown,
        Err(_) => return Recorded::Refused,
    };
    let Call::Write { writes, .. } = call else {
        return Recorded::Refused;
    };
    let version = outcome.version;
    let (mut before, mut after, mut sights) = (Vec::new(), Vec::new(), Vec::new());
    for (write, step) in writes.iter().zip(outcome.steps.as_slice()) {
        let key = write.key();
        match step {
            StepOutcome::Written => {}
            StepOutcome::Deleted(false) => sights.push(Sight::absent(key)),
            StepOutcome::Deleted(true) => {}
            StepOutcome::Incremented(sum) => {
                after.push(Sight::value(key, version, Datum::Int(*sum)));
            }
            StepOutcome::Previous(previous) => {
                let found = previous.as_deref().map(Datum::from_encoded);
                let found = found.map_or(Found::Absent, Found::Value);
                before.push(Sight {
                    key: key.to_owned(),
                    version: None,
                    found,
                });
            }
            StepOutcome::Mismatch(actual) => {
                let found = if actual.is_absent {
                    Found::Absent
                } else {
                    Found::Anything
                };
                sights.push(Sight {
                    key: key.to_owned(),
                    version: Some(actual.version),
                    found,
                });
            }
        }
    }
    if version == 0 {
        return Recorded::Saw {
            at: None,
            sights,
            listed: None,
        };
    }
    Recorded::Committed {
        version,
        before,
        after,
    }
}

/// All live entries a view shows.
fn entries(view: &ReadView) -> Vec<(String, Entry)> {
    let mut entries = Vec::new();
    let mut after: Option<Vec<u8>> = None;
    loop {
        let request = ListRequest {
            prefix: b"",
            after: after.as_deref(),
            start: b"",
            limit: 1_000,
            with_values: true,
        };
        let step = view.list_step(in_mem_engine::model::TypeTag::Kv, &request);
        for item in step.items {
            let key = String::from_utf8(item.key).expect("keys are UTF-8");
            let datum = item.value.as_deref().map(Datum::from_encoded);
            entries.push((
                key,
                Entry {
                    version: item.version,
                    datum,
                },
            ));
        }
        if step.is_complete {
            return entries;
        }
        after = step.after;
    }
}

/// Everything a database shows: each run with its status and its keys.
#[must_use]
pub(crate) fn dump(database: &Database) -> Dump {
    let mut dump = Dump::default();
    for id in database.store().run_ids() {
        let Ok(run) = database.run(id) else { continue };
        let view = run.read_view();
        let mut keys: BTreeMap<_, _> = entries(&view).into_iter().collect();
        for key in KEYS {
            // Clients record the versions of tombstones, which no listing shows.
            let version = view.version_of(KeyRef::kv(key.as_bytes()));
            if version != 0 && !keys.contains_key(key) {
                keys.insert(
                    key.to_owned(),
                    Entry {
                        version,
                        datum: None,
                    },
                );
            }
        }
        if id != RunId::DEFAULT
            && let Some(info) = database.runs().get(id)
        {
            let datum = Some(Datum::Bytes(info.status.name().as_bytes().to_vec()));
            keys.insert(
                STATUS_KEY.to_owned(),
                Entry {
                    version: info.version,
                    datum,
                },
            );
        }
        if !keys.is_empty() {
            dump.runs.insert(*id.as_bytes(), keys);
        }
    }
    dump
}

/// The history as of the moment at which the operation with this number was submitted.
#[must_use]
pub(crate) fn history_at(notes: &[Noted], op_index: u64) -> History {
    let sent = notes.iter().filter(|noted| noted.sent_ops <= op_index);
    let operations = sent.map(|noted| {
        let mut operation = noted.operation.clone();
        if noted.done_ops.is_none_or(|done_ops| op_index < done_ops) {
            operation.done_at_ns = None;
            operation.outcome = Recorded::Unknown;
        }
        operation
    });
    History {
        operations: operations.collect(),
    }
}

/// Opens an image, holds what it shows against a history, opens it again and expects the same.
/// Gives the checker as it stands afterwards.
pub(crate) fn check_image(
    image: &SimWorld,
    options: &EngineOptions,
    checker: &Checker,
    history: &History,
    survival: Survival,
    line: &dyn Fn() -> String,
) -> (Checker, Dump) {
    let database = open_to_look(image, options)
        .unwrap_or_else(|why| panic!("{}: not opened: {why:?}", line()));
    let shown = dump(&database);
    let digest = database.state_digest();
    drop(database);
    let mut checker = checker.clone();
    let end = End {
        survival,
        dump: shown,
    };
    if let Err(report) = checker.check(history, &end) {
        panic!("{}: {report}", line());
    }
    let again = open_to_look(image, options)
        .unwrap_or_else(|why| panic!("{}: not opened again: {why:?}", line()));
    checker
        .check_again(&dump(&again))
        .unwrap_or_else(|report| panic!("{}: {report}", line()));
    assert_eq!(
        digest,
        again.state_digest(),
        "{}: recovered twice, two states",
        line()
    );
    (checker, end.dump)
}
