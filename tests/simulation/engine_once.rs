//! Exactly-once requests under power loss and kills: one effect and one answer for each, whenever
//! the machine stops and whatever is sent again.
//!
//! Clients number their writes and send some of them twice, also while the first is on its way.
//! The machine stops at every moment; on what is left each request sent until then is sent again,
//! answered or not. A request counts its own executions in a key of its own, and all that are logged
//! in one that they share, so a second execution shows in the data and in the answer.

use std::sync::{Arc, Mutex};

use in_mem_engine::faults::{Mutant, Planted};
use in_mem_engine::model::{Durability, Level, Value, as_int, encode};
use in_mem_engine::{
    CommitError, CommitOptions, Completion, CompletionSink, Database, Driver, DurabilityMode,
    KeyRef, OnceRequest, Outcome, Program, Run, Step, StepOutcome, Submitted,
};
use in_mem_wal::disk::{Moment, SimOptions, SimRng, SimWorld};
use in_mem_wal::{LogConfig, Turn};

use super::engine::{EngineOptions, open_to_look};
use super::images::{Images, moment_name};
use super::log_scenario::crash_mode;
use super::scale::{for_each_seed, scaled, start_seed};

/// Actions of one life.
const ACTION_COUNT: usize = 50;

/// Clients of a life.
const CLIENT_COUNT: u8 = 3;

/// Requests of a client that wait for their answer, at most.
const WAITING_COUNT_MAX: usize = 3;

/// Images made of each moment; the last is that of a kill.
const IMAGES_PER_MOMENT: u64 = 3;

/// Of so many images one is crashed again, after everything was sent again.
const CRASHED_AGAIN_ONE_OF: u64 = 4;

/// Lives tried before a planted mistake counts as unseen.
const LIFE_COUNT_MAX: u64 = 50;

/// Tokens from here on are those of repeats.
const REPEAT: u64 = 1 << 32;

type Answer = Result<Outcome, CommitError>;

/// One request of a client.
#[derive(Debug, Clone)]
struct Sent {
    once: OnceRequest,
    durability: Option<Durability>,
    /// Operations the disk had seen when it was sent.
    sent_ops: u64,
    /// What its client was told, and how many operations the disk had seen then.
    told: Option<(Outcome, u64)>,
}

impl Sent {
    /// Where it counts its executions.
    fn key(&self) -> String {
        format!("r/{}/{}", self.once.client_id[0], self.once.sequence)
    }

    /// Where all of its kind count theirs: a logged sum must not contain volatile ones.
    fn shared_key(&self) -> &'static [u8] {
        if self.is_logged() { b"n" } else { b"v" }
    }

    fn is_logged(&self) -> bool {
        self.durability != Some(Durability::InMemory)
    }

    /// Its client has said that it waits for its answer no longer.
    fn is_given_up(&self, all: &[Self]) -> bool {
        all.iter().any(|other| {
            other.once.client_id == self.once.client_id
                && self.once.sequence < other.once.lowest_awaited
        })
    }
}

/// Collects answers.
struct Inbox {
    world: SimWorld,
    answers: Mutex<Vec<(u64, Answer, u64)>>,
}

impl CompletionSink for Inbox {
    fn complete(&self, token: u64, result: Answer) {
        let ops = self.world.op_count();
        let mut answers = self.answers.lock().expect("no panic");
        answers.push((token, result, ops));
    }
}

/// An open database whose log is driven by hand.
struct Server {
    database: Database,
    driver: Driver,
    run: Run,
    inbox: Arc<Inbox>,
}

impl Server {
    fn open(world: &SimWorld, planted: Planted) -> Result<Self, String> {
        let options = EngineOptions {
            codec: "identity",
            mode: DurabilityMode::Strict,
            log: LogConfig::tiny(),
            override_per_ten: 0,
            planted,
        };
        let opened = open_to_look(world, &options);
        let database = opened.map_err(|why| format!("not opened: {why:?}"))?;
        let driver = database.take_driver().ok().flatten();
        let driver = driver.ok_or("a Strict database has a log")?;
        let inbox = Arc::new(Inbox {
            world: world.clone(),
            answers: Mutex::default(),
        });
        let run = database.default_run();
        let mut server = Self {
            database,
            driver,
            run,
            inbox,
        };
        server.settle();
        Ok(server)
    }

    fn turn(&mut self) -> bool {
        self.driver.drive_log() == Turn::Worked || self.driver.drive_background()
    }

    fn settle(&mut self) {
        while self.turn() {}
    }

    fn send(&mut self, token: u64, sent: &Sent) {
        let own = sent.key();
        let number = i64::try_from(sent.once.fingerprint).expect("small");
        let value = encode(&Value::Int(number)).expect("within the limits");
        let value = value.as_ref();
        let count = |key| Step::Increment { key, delta: 1 };
        let steps = [
            count(own.as_bytes()),
            count(sent.shared_key()),
            Step::GetAndSet { key: b"s", value },
        ];
        let program = Program {
            checks: &[],
            steps: &steps,
        };
        let options = CommitOptions {
            durability: sent.durability,
        };
        let sink: Arc<dyn CompletionSink> = Arc::<Inbox>::clone(&self.inbox);
        let completion = Completion { sink, token };
        loop {
            let once = Some(&sent.once);
            match self.run.submit_as(&program, options, once, &completion) {
                Submitted::Pending => return,
                Submitted::Done(answer) => return self.inbox.complete(token, answer),
                Submitted::Busy => self.settle(),
            }
        }
    }

    fn take(&self) -> Vec<(u64, Answer, u64)> {
        std::mem::take(&mut *self.inbox.answers.lock().expect("no panic"))
    }

    fn int(&self, key: &str) -> i64 {
        let found = self.run.kv().get(key).expect("the key is valid");
        found.map_or(0, |value| as_int(&value).expect("it is a count"))
    }

    fn version_of(&self, sent: &Sent) -> u64 {
        let view = self.run.read_view();
        view.version_of(KeyRef::kv(sent.key().as_bytes()))
    }

    /// How often each request was executed: never or once.
    fn executed(&self, all: &[Sent]) -> Result<Vec<bool>, String> {
        let counts: Vec<i64> = all.iter().map(|sent| self.int(&sent.key())).collect();
        if let Some(at) = counts.iter().position(|count| 1 < *count) {
            return Err(format!("executed twice: {:?}", all[at]));
        }
        let logged = all.iter().zip(&counts).filter(|(sent, _)| sent.is_logged());
        let (sum, shared) = (logged.map(|(_, count)| count).sum::<i64>(), self.int("n"));
        if sum != shared {
            return Err(format!("{sum} requests executed, {shared} counted"));
        }
        Ok(counts.iter().map(|count| *count == 1).collect())
    }

    /// Sends every request once more, in any order; the answers.
    fn send_all(&mut self, all: &[Sent], rng: &mut SimRng) -> Result<Vec<Answer>, String> {
        let mut order: Vec<usize> = (0..all.len()).collect();
        for at in (1..order.len()).rev() {
            order.swap(at, rng.index(at + 1));
        }
        for at in order {
            self.send(at as u64, &all[at]);
            if rng.coin() {
                self.turn();
            }
        }
        self.settle();
        let mut answers = self.take();
        answers.sort_by_key(|(token, _, _)| *token);
        if answers.len() != all.len() {
            return Err(format!("{} of {} answered", answers.len(), all.len()));
        }
        Ok(answers.into_iter().map(|(_, answer, _)| answer).collect())
    }
}

/// A server and what its clients sent.
struct Life {
    world: SimWorld,
    server: Server,
    all: Vec<Sent>,
    /// By the place of the request.
    repeats: Vec<(usize, Answer)>,
}

impl Life {
    fn act(&mut self, rng: &mut SimRng) -> Result<(), String> {
        for _ in 0..ACTION_COUNT {
            match rng.below(16) {
                0..=5 => self.request(rng),
                6..=8 if !self.all.is_empty() => {
                    let at = rng.index(self.all.len());
                    self.server.send(REPEAT + at as u64, &self.all[at]);
                }
                9 => self.server.settle(),
                10 => {
                    self.server.database.start_flush();
                }
                _ => {
                    self.server.turn();
                }
            }
            self.collect()?;
        }
        Ok(())
    }

    fn request(&mut self, rng: &mut SimRng) {
        let client = u8::try_from(rng.below(u64::from(CLIENT_COUNT))).expect("small");
        let own = |sent: &&Sent| sent.once.client_id[0] == client;
        let sequence = self.all.iter().filter(own).count() as u64 + 1;
        let waiting = self.all.iter().filter(own);
        let waiting = waiting.filter(|sent| sent.told.is_none());
        let lowest = waiting.clone().map(|sent| sent.once.sequence).min();
        if WAITING_COUNT_MAX <= waiting.count() {
            return;
        }
        let durability = match rng.below(10) {
            0 => Some(Durability::InMemory),
            1..=3 => Some(Durability::Buffered),
            _ => None,
        };
        let sent = Sent {
            once: OnceRequest {
                user: 1_000,
                process: 1,
                client_id: [client; 16],
                registered_at: 0,
                sequence,
                lowest_awaited: lowest.unwrap_or(sequence),
                fingerprint: u64::from(client) << 16 | sequence,
            },
            durability,
            sent_ops: self.world.op_count(),
            told: None,
        };
        self.server.send(self.all.len() as u64, &sent);
        self.all.push(sent);
    }

    /// Takes in what was answered.
    fn collect(&mut self) -> Result<(), String> {
        for (token, answer, ops) in self.server.take() {
            let at = usize::try_from(token % REPEAT).expect("small");
            if REPEAT <= token {
                self.repeats.push((at, answer));
                continue;
            }
            let sent = &mut self.all[at];
            let outcome = answer.map_err(|why| format!("{sent:?} was refused: {why}"))?;
            sent.told = Some((outcome, ops));
        }
        Ok(())
    }

    /// Everything is answered now: repeats as what they repeat, or refused where nobody waited.
    fn check_repeats(&mut self) -> Result<(), String> {
        self.server.settle();
        self.collect()?;
        for (at, answer) in &self.repeats {
            check_repeat(&self.all[*at], true, answer, &self.all)?;
        }
        self.server.executed(&self.all).map(drop)
    }

    /// What was sent, and told, when the operation with this number was submitted.
    fn as_of(&self, op_index: u64) -> Vec<Sent> {
        let sent = self.all.iter().filter(|sent| sent.sent_ops <= op_index);
        let known = sent.cloned().map(|mut sent| {
            sent.told = sent.told.filter(|(_, ops)| *ops <= op_index);
            sent
        });
        known.collect()
    }
}

/// Holds the answer of a repeat against what was told before.
fn check_repeat(
    sent: &Sent,
    was_executed: bool,
    answer: &Answer,
    all: &[Sent],
) -> Result<(), String> {
    let told = sent.told.as_ref().map(|(outcome, _)| outcome);
    match answer {
        Ok(again) => {
            if again.steps.as_slice().first() != Some(&StepOutcome::Incremented(1)) {
                return Err(format!("executed twice: {sent:?}, {again:?}"));
            }
            match told {
                Some(told) if was_executed && told != again => {
                    Err(format!("another answer: {sent:?}, {again:?}"))
                }
                _ => Ok(()),
            }
        }
        Err(CommitError::SequenceTooOld { .. }) if told.is_some() && sent.is_given_up(all) => {
            Ok(())
        }
        Err(why) => Err(format!("{sent:?} was refused: {why}")),
    }
}

/// What must have survived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Survival {
    PowerLoss,
    Kill,
}

impl Survival {
    fn keeps(self, level: Level) -> bool {
        match level {
            Level::Volatile => false,
            Level::Logged => self == Self::Kill,
            Level::Synced => true,
        }
    }
}

/// Opens what is left, sends everything again, twice, and holds data and answers against what was
/// told; then, perhaps, crashes it once more.
fn judge(
    image: &SimWorld,
    planted: Planted,
    mut all: Vec<Sent>,
    survival: Survival,
    rng: &mut SimRng,
) -> Result<(), String> {
    let mut server = Server::open(image, planted)?;
    let before = server.executed(&all)?;
    let versions: Vec<u64> = all.iter().map(|sent| server.version_of(sent)).collect();
    for (sent, was_executed) in all.iter().zip(&before) {
        let told = sent.told.as_ref().map(|(outcome, _)| outcome.level);
        if !was_executed && told.is_some_and(|level| survival.keeps(level)) {
            return Err(format!("lost in a {survival:?}: {sent:?}"));
        }
    }
    let answers = server.send_all(&all, rng)?;
    for (at, answer) in answers.iter().enumerate() {
        check_repeat(&all[at], before[at], answer, &all)?;
        if let Ok(again) = answer
            && before[at]
            && again.version != versions[at]
        {
            return Err(format!("not its own commit: {:?}, {again:?}", all[at]));
        }
    }
    for (sent, answer) in all.iter_mut().zip(answers) {
        if let Ok(outcome) = answer {
            sent.told = Some((outcome, 0));
        }
    }
    server.executed(&all)?;
    let again = server.send_all(&all, rng)?;
    for (sent, answer) in all.iter().zip(&again) {
        check_repeat(sent, true, answer, &all)?;
    }
    server.executed(&all)?;
    drop(server);
    if rng.below(CRASHED_AGAIN_ONE_OF) == 0 {
        let after = image.crash(rng.next_u64(), crash_mode(rng.below(4)));
        return judge(&after, planted, all, Survival::PowerLoss, rng);
    }
    Ok(())
}

/// One life, and the end of it at every moment.
fn life(
    seed: u64,
    planted: Planted,
    is_wanted: &dyn Fn(&Moment, &SimWorld) -> bool,
) -> Result<(), String> {
    let mut rng = SimRng::new(seed);
    let world = SimWorld::new(SimOptions::new(seed));
    let mut life = Life {
        server: Server::open(&world, planted)?,
        world: world.clone(),
        all: Vec::new(),
        repeats: Vec::new(),
    };
    world.record_moments();
    life.act(&mut rng)?;
    life.check_repeats()?;
    for moment in world.take_moments() {
        for number in 0..IMAGES_PER_MOMENT {
            let (image, survival) = if number + 1 == IMAGES_PER_MOMENT {
                (moment.world.kill(rng.next_u64()), Survival::Kill)
            } else {
                let mode = crash_mode(rng.below(4));
                let image = moment.world.crash(rng.next_u64(), mode);
                (image, Survival::PowerLoss)
            };
            if is_wanted(&moment, &image) {
                let all = life.as_of(moment.op_index);
                let judged = judge(&image, planted, all, survival, &mut rng);
                judged.map_err(|why| format!("op {}: {why}", moment.op_index))?;
            }
        }
    }
    Ok(())
}

#[test]
fn a_request_sent_again_after_any_crash_has_one_effect_and_its_first_answer() {
    let target = scaled(300, 3_000, 500_000);
    let images = Images::default();
    let is_wanted = |moment: &Moment, image: &SimWorld| {
        images.note(moment_name(moment), "Strict", image.fingerprint())
    };
    for_each_seed(
        "a_request_sent_again_after_any_crash",
        |_| images.count() < target,
        |seed| {
            let lived = life(seed, Planted::NONE, &is_wanted);
            lived.unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        },
    );
    println!(
        "start seed {}: {} distinct images\n{}",
        start_seed(),
        images.count(),
        images.table()
    );
    assert!(target <= images.count());
}

#[test]
fn every_mistake_with_exactly_once_requests_is_caught() {
    for mutant in Mutant::ALL
        .into_iter()
        .filter(|mutant| mutant.is_about_once())
    {
        let of_seed = |seed, planted| life(seed, planted, &|_, _| true);
        let planted = Planted::new(mutant);
        let caught = (start_seed()..start_seed() + LIFE_COUNT_MAX)
            .find_map(|seed| of_seed(seed, planted).err().map(|why| (seed, why)));
        let (seed, why) = caught.unwrap_or_else(|| panic!("{mutant:?} went unseen"));
        println!("{mutant:?}: caught with seed {seed}: {why}");
        let is_told = why.contains("executed twice") || why.contains("another answer");
        assert!(is_told, "{mutant:?}: {why}");
        assert_eq!(of_seed(seed, Planted::NONE), Ok(()), "{mutant:?}");
    }
}
