//! The engine with its log on a simulated disk, without threads, and the history its clients keep.
//!
//! Up to four requests are in flight at once; the log and the background work move only when the
//! harness turns them. Time is a count of events. Each event also notes how many operations the
//! disk had seen, so that the history as of any moment of the disk can be cut out afterwards.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use in_mem_client::check::{Call, Operation, Outcome as Recorded};
use in_mem_engine::faults::Planted;
use in_mem_engine::model::RunId;
use in_mem_engine::{
    BufferedAck, CommitError, CompactMode, Completion, CompletionSink, Database, DatabaseBuilder,
    Driver, DurabilityMode, OpenError, Outcome, Run, Submitted,
};
use in_mem_wal::clock::{Clock, SimClock};
use in_mem_wal::codec::{CodecKey, KEY_LEN_BYTES, needs_key};
use in_mem_wal::disk::{OpenDisk, SimRng, SimWorld};
use in_mem_wal::{LogConfig, Turn};

#[path = "engine_requests.rs"]
mod requests;
#[path = "engine_shown.rs"]
mod shown;

pub(crate) use shown::{check_image, dump, history_at, judge_image, judge_opened};

use shown::recorded;

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
    durable: Mutex<Vec<ToldDurable>>,
}

/// A durable version that was told, and when, in operations of the disk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ToldDurable {
    /// The version.
    pub(crate) version: u64,
    /// Operations the disk had seen.
    pub(crate) ops: u64,
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

    fn durable(&self, version: u64) {
        let ops = self.world.op_count();
        let mut durable = self.durable.lock().expect("no panic");
        durable.push(ToldDurable { version, ops });
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
    /// What its files are stored with.
    pub(crate) codec: &'static str,
    /// A mistake planted in it.
    pub(crate) planted: Planted,
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
    takes_errands: bool,
}

/// Settings of an engine on a simulated disk.
fn builder(world: &SimWorld, options: &EngineOptions) -> DatabaseBuilder {
    let builder = Database::builder()
        .disk(Arc::new(world.clone()) as Arc<dyn OpenDisk>)
        .manual()
        .durability(options.mode)
        .buffered_ack(BufferedAck::Written)
        .wal_config(options.log)
        .codec(options.codec)
        .planted(options.planted);
    match needs_key(options.codec) {
        true => builder.key(CodecKey::from_bytes(&[7; KEY_LEN_BYTES])),
        false => builder,
    }
}

/// Opens what is on a disk, only to look at it.
///
/// # Errors
/// Whatever opening says.
pub(crate) fn open_to_look(
    world: &SimWorld,
    options: &EngineOptions,
) -> Result<Database, OpenError> {
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
            durable: Mutex::new(Vec::new()),
        });
        database.add_listener(&(Arc::clone(&inbox) as Arc<dyn CompletionSink>));
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
            takes_errands: false,
        };
        engine.take_driver();
        Ok(engine)
    }

    /// Random actions of clients, log, background and clock.
    pub(crate) fn act(&mut self, rng: &mut SimRng, count: usize) {
        for _ in 0..count {
            if self.takes_errands && rng.below(12) == 0 {
                self.ask_errand(rng);
            }
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

    /// Among the actions from now on are checkpoints and compactions.
    pub(crate) fn take_errands(&mut self) {
        self.takes_errands = true;
    }

    /// Asks for a checkpoint or a compaction, which the background work does when it is turned. It
    /// may be refused: one is under way, or there is no log.
    fn ask_errand(&mut self, rng: &mut SimRng) {
        if rng.below(3) == 0 {
            let mode = CompactMode::WALOnly;
            let _ = self.database.start_compaction(mode, Box::new(drop));
        } else {
            let _ = self.database.start_checkpoint(Box::new(drop));
        }
    }

    /// Takes a checkpoint, which must succeed.
    pub(crate) fn checkpoint(&mut self) {
        let (sender, told) = std::sync::mpsc::channel();
        let done = Box::new(move |result| sender.send(result).expect("somebody listens"));
        self.database
            .start_checkpoint(done)
            .expect("none is under way");
        self.settle_down();
        told.try_recv().expect("it is over").expect("no fault");
    }

    /// Compacts the log, which must succeed.
    pub(crate) fn compact(&mut self) {
        let (sender, told) = std::sync::mpsc::channel();
        let done = Box::new(move |result| sender.send(result).expect("somebody listens"));
        self.database
            .start_compaction(CompactMode::WALOnly, done)
            .expect("none is under way");
        self.settle_down();
        told.try_recv().expect("it is over").expect("no fault");
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

    /// The durable versions that were told.
    #[must_use]
    pub(crate) fn told_durable(&self) -> Vec<ToldDurable> {
        self.inbox.durable.lock().expect("no panic").clone()
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
}
