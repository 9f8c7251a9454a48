//! A client process: works on a daemon, tells every request before and every answer after.
//!
//! It outlives the daemons: on a line `go <socket>` it connects and works until the connection is
//! lost, says how that ended, and waits for the next line. On standard output it writes the lines
//! of the checker's record and, at the end of each turn, one of `L` (lost), `F <why>` (refused for
//! lack of room), `W <why>` (the write-ahead log has failed) and `E <why>` (anything else: a failure
//! of the daemon). One that is there to be killed also says `P <step>` when a transaction has come to a step.

use std::io::{BufRead, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use in_mem_client::check::{Call, Datum, Mode, Outcome, Record, Sight, Write as Change};
use in_mem_client::model::{self, Durability, SubCode, Value};
use in_mem_client::{
    Answers, Client, ClientError, Conditional, Deleted, Effect, Incremented, ListOptions, Pipeline,
    Receipt, ReconnectPolicy, Run, Ticket, TransactionOptions, Versioned,
};
use in_mem_wal::disk::SimRng;
use rustix::time::{ClockId, clock_gettime};

use super::dump::datum;

/// The first argument of a process that is one.
pub const WORD: &str = "client-process";

/// Keys only this process puts.
const OWN_KEY_COUNT: u64 = 24;
/// Keys every process puts.
const SHARED_KEY_COUNT: u64 = 12;
/// Counters every process adds to.
const COUNTER_COUNT: u64 = 4;
/// Accounts between which transactions move amounts.
const ACCOUNT_COUNT: u64 = 8;
/// Largest amount moved: so large that no two transfers leave the same balance.
const AMOUNT_MAX: u64 = 1 << 40;

/// What a client process is told when it starts.
#[derive(Debug, Clone)]
pub struct Orders {
    /// Its number.
    pub number: u32,
    /// Decides what it asks.
    pub seed: u64,
    /// Requests on their way at once, at most.
    pub depth: u64,
    /// The mode of requests that name none.
    pub mode: Mode,
    /// Of ten requests, so many name a mode.
    pub override_per_ten: u64,
    /// Ids of the runs it works in.
    pub runs: Vec<String>,
    /// Puts of new values only, one at a time.
    pub only_puts: bool,
    /// Length of most values, bytes.
    pub value_len_bytes: u64,
    /// Says `P <step>` at each step of a transaction, so that it can be killed there.
    pub tells_steps: bool,
}

impl Orders {
    /// The words of its command line.
    pub fn to_words(&self) -> Vec<String> {
        let mode = match self.mode {
            Mode::InMemory => "M",
            Mode::Buffered => "B",
            Mode::Strict => "S",
        };
        let numbers = [
            u64::from(self.number),
            self.seed,
            self.depth,
            self.override_per_ten,
        ];
        let mut words = vec![WORD.to_owned()];
        words.extend(numbers.iter().map(u64::to_string));
        words.push(mode.to_owned());
        words.push(self.runs.join(","));
        words.push(u8::from(self.only_puts).to_string());
        words.push(self.value_len_bytes.to_string());
        words.push(u8::from(self.tells_steps).to_string());
        words
    }

    fn from_words(words: &[String]) -> Self {
        let number = |index: usize| words[index].parse::<u64>().expect("a number");
        Self {
            number: u32::try_from(number(1)).unwrap(),
            seed: number(2),
            depth: number(3),
            override_per_ten: number(4),
            mode: match words[5].as_str() {
                "M" => Mode::InMemory,
                "B" => Mode::Buffered,
                _ => Mode::Strict,
            },
            runs: words[6].split(',').map(str::to_owned).collect(),
            only_puts: words[7] == "1",
            value_len_bytes: number(8),
            tells_steps: words[9] == "1",
        }
    }
}

/// How a turn ended.
enum Ended {
    Lost,
    Full(String),
    Poisoned(String),
    Failed(String),
}

/// Runs a client process until its input ends.
pub fn main(words: &[String]) -> ExitCode {
    let orders = Orders::from_words(words);
    let mut rng = SimRng::new(orders.seed);
    let mut request_id = 0;
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let socket = line.strip_prefix("go ").expect("the one thing to be told");
        let ended = match Turn::begin(&orders, Path::new(socket), &mut rng, &mut request_id) {
            Err(error) => ended(&error).unwrap_or(Ended::Failed(error.to_string())),
            Ok(mut turn) => turn.work(),
        };
        say(&match ended {
            Ended::Lost => "L\n".to_owned(),
            Ended::Full(why) => format!("F {why}\n"),
            Ended::Poisoned(why) => format!("W {why}\n"),
            Ended::Failed(why) => format!("E {why}\n"),
        });
    }
    ExitCode::SUCCESS
}

/// One write, so that nothing is half said when this process dies.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    if out
        .write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .is_err()
    {
        // Nobody listens any more.
        std::process::exit(0);
    }
}

/// Nanoseconds of the clock all processes of this machine share.
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap() * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap()
}

/// Whether an error ends a turn, and how.
fn ended(error: &ClientError) -> Option<Ended> {
    let is_lost = matches!(
        error,
        ClientError::ConnectionLost { .. }
            | ClientError::Unreachable { .. }
            | ClientError::Rejected(_)
    );
    match error.sub() {
        _ if is_lost => Some(Ended::Lost),
        Some(SubCode::Unavailable | SubCode::DatabaseClosed) => Some(Ended::Lost),
        Some(SubCode::TransactionNotActive) => None,
        Some(SubCode::ResourceExhausted) => Some(Ended::Full(error.to_string())),
        Some(SubCode::WalPoisoned) => Some(Ended::Poisoned(error.to_string())),
        _ if error.is_conflict() => None,
        _ => Some(Ended::Failed(format!("{error:?}"))),
    }
}

/// What one request of a pipeline waits for.
enum Pending {
    Put(Ticket<Receipt>),
    Conditional(Ticket<Conditional>, String),
    Deleted(Ticket<Deleted>, String),
    Incremented(Ticket<Incremented>, String),
    Read(Ticket<Option<Versioned<Value>>>, String),
}

type Asked = Result<Outcome, ClientError>;

impl Pending {
    /// Its answer, in the words of the record.
    fn take(self, answers: &mut Answers) -> Asked {
        match self {
            Self::Put(ticket) => answers.take(ticket).map(committed),
            Self::Conditional(ticket, key) => {
                answers.take(ticket).map(|answer| conditional(&key, answer))
            }
            Self::Deleted(ticket, key) => answers.take(ticket).map(|answer| deleted(&key, answer)),
            Self::Incremented(ticket, key) => {
                answers.take(ticket).map(|answer| incremented(&key, answer))
            }
            Self::Read(ticket, key) => answers
                .take(ticket)
                .map(|found| saw(vec![sight(&key, found)])),
        }
    }
}

/// The work on one connection.
struct Turn<'a> {
    orders: &'a Orders,
    rng: &'a mut SimRng,
    request_id: &'a mut u64,
    client: Client,
    runs: Vec<Run>,
}

impl<'a> Turn<'a> {
    fn begin(
        orders: &'a Orders,
        socket: &Path,
        rng: &'a mut SimRng,
        request_id: &'a mut u64,
    ) -> Result<Self, ClientError> {
        let builder = Client::builder()
            .socket(socket)
            .name("crash harness client");
        let builder = builder.silence_max(Some(Duration::from_secs(30)));
        let client = builder.reconnect(ReconnectPolicy::NONE).connect()?;
        let runs = orders
            .runs
            .iter()
            .map(|id| client.run(id))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            orders,
            rng,
            request_id,
            client,
            runs,
        })
    }

    fn work(&mut self) -> Ended {
        loop {
            let (durability, mode) = self.draw_mode();
            let index = self.below(self.runs.len() as u64);
            let run = self.runs[usize::try_from(index).unwrap()].clone();
            let run = durability.map_or(run.clone(), |chosen| run.with_durability(chosen));
            let errors = match self.below(20) {
                _ if self.orders.only_puts => self.pipeline(&run, mode),
                0..=12 => self.pipeline(&run, mode),
                13..=15 => self.transfer(&run, durability, mode),
                16 | 17 => self.batch(&run, mode),
                18 => self.list(&run),
                _ => self.flush(),
            };
            let how = errors.iter().filter_map(ended);
            let worst = how.max_by_key(|how| match how {
                Ended::Lost => 0,
                Ended::Full(_) => 1,
                Ended::Poisoned(_) => 2,
                Ended::Failed(_) => 3,
            });
            if let Some(how) = worst {
                return how;
            }
        }
    }

    /// Several requests on their way at once.
    fn pipeline(&mut self, run: &Run, mode: Mode) -> Vec<ClientError> {
        let mut pipeline = run.pipeline();
        let mut pending = Vec::new();
        let mut sent = String::new();
        for _ in 0..=self.below(self.orders.depth) {
            let (call, ticket) = self.queue(&mut pipeline, run, mode);
            let (id, at_ns) = (self.next_id(), now_ns());
            sent.push_str(&Record::Sent { id, at_ns, call }.to_line());
            pending.push((id, ticket));
        }
        say(&sent);
        let mut answers = pipeline.send();
        let at_ns = now_ns();
        let mut errors = Vec::new();
        let mut done = String::new();
        for (id, ticket) in pending {
            let outcome = match &mut answers {
                Ok(answers) => outcome(ticket.take(answers), &mut errors),
                // Nothing was sent.
                Err(_) => Outcome::Refused,
            };
            done.push_str(&Record::Done { id, at_ns, outcome }.to_line());
        }
        say(&done);
        errors.extend(answers.err());
        errors
    }

    /// Draws one request and queues it.
    fn queue(&mut self, pipeline: &mut Pipeline, run: &Run, mode: Mode) -> (Call, Pending) {
        let kind = if self.orders.only_puts {
            0
        } else {
            self.below(20)
        };
        let key = self.draw_key();
        let write = |change| self::write(run, mode, Vec::new(), vec![change]);
        let queued = match kind {
            0..=9 => {
                let value = self.draw_value();
                let ticket = pipeline.put(&key, &value);
                ticket.map(|ticket| (write(Change::Put(key, datum(&value))), Pending::Put(ticket)))
            }
            10 | 11 => {
                let value = self.draw_value();
                let call = write(Change::Put(key.clone(), datum(&value)));
                let ticket = pipeline.put_if_absent(&key, &value);
                ticket.map(|ticket| (call, Pending::Conditional(ticket, key)))
            }
            12 | 13 => {
                let call = write(Change::Delete(key.clone()));
                pipeline
                    .delete(&key)
                    .map(|ticket| (call, Pending::Deleted(ticket, key)))
            }
            14..=16 => {
                let counter = format!("c/{}", self.below(COUNTER_COUNT));
                let amount = [1, 2, 7][usize::try_from(self.below(3)).unwrap()];
                let call = write(Change::Add(counter.clone(), amount));
                let ticket = pipeline.incr(&counter, amount);
                ticket.map(|ticket| (call, Pending::Incremented(ticket, counter)))
            }
            _ => {
                let call = Call::Read { run: run.id().0 };
                let ticket = pipeline.get_versioned(&key);
                ticket.map(|ticket| (call, Pending::Read(ticket, key)))
            }
        };
        queued.expect("there is room in the pipeline")
    }

    /// Moves an amount from one account to another in a transaction.
    fn transfer(
        &mut self,
        run: &Run,
        durability: Option<Durability>,
        mode: Mode,
    ) -> Vec<ClientError> {
        let source = self.below(ACCOUNT_COUNT);
        let target = (source + 1 + self.below(ACCOUNT_COUNT - 1)) % ACCOUNT_COUNT;
        let amount = i64::try_from(1 + self.below(AMOUNT_MAX)).unwrap();
        let options = TransactionOptions {
            durability,
            ..TransactionOptions::default()
        };
        let step = |name: &str| {
            if self.orders.tells_steps {
                say(&format!("P {name}\n"));
            }
        };
        step("begin");
        let prepared = run.begin_transaction(&options).and_then(|transaction| {
            let (mut expects, mut changes) = (Vec::new(), Vec::new());
            for (account, change) in [(source, -amount), (target, amount)] {
                let key = format!("a/{account}");
                step("read");
                let found = transaction.kv().get_versioned::<Value>(&key)?;
                let balance = match found.as_ref().map(|found| &found.value) {
                    Some(Value::Int(balance)) => *balance,
                    _ => 0,
                };
                step("write");
                transaction.kv().put(&key, &(balance + change))?;
                expects.push(sight(&key, found));
                changes.push(Change::Put(key, Datum::Int(balance + change)));
            }
            Ok((transaction, expects, changes))
        });
        match prepared {
            // Rolled back: nothing of it happens.
            Err(error) => vec![error],
            Ok((transaction, expects, changes)) => {
                let call = write(run, mode, expects, changes);
                self.ask(call, || transaction.commit().map(committed))
            }
        }
    }

    /// Several changes in one request.
    fn batch(&mut self, run: &Run, mode: Mode) -> Vec<ClientError> {
        let (first, second, gone) = (self.draw_key(), self.draw_key(), self.draw_key());
        // Of its own, so that what it left is told from what others left.
        let counter = format!("b/{}", self.orders.number);
        let (value, other) = (self.draw_value(), self.draw_value());
        if first == second || second == gone || first == gone {
            return Vec::new();
        }
        let changes = vec![
            Change::Put(first.clone(), datum(&value)),
            Change::Put(second.clone(), datum(&other)),
            Change::Delete(gone.clone()),
            Change::Add(counter.clone(), 1),
        ];
        let batch = run
            .batch()
            .put(&first, &value)
            .and_then(|batch| batch.put(&second, &other));
        let batch = batch
            .expect("values have encodings")
            .delete(&gone)
            .incr(&counter, 1);
        self.ask(write(run, mode, Vec::new(), changes), || {
            let committed = batch.commit()?;
            let version = committed.receipt.commit_version;
            let counted = committed.effects.iter().find_map(|effect| match effect {
                Effect::Incremented(number) => Some(Datum::Int(*number)),
                _ => None,
            });
            let after = counted.map(|number| Sight::value(&counter, version, number));
            let after = after.into_iter().collect();
            Ok(Outcome::Committed {
                version,
                before: Vec::new(),
                after,
            })
        })
    }

    /// Everything below a prefix.
    fn list(&mut self, run: &Run) -> Vec<ClientError> {
        let run = run.clone();
        self.ask(Call::Read { run: run.id().0 }, || {
            let options = ListOptions {
                prefix: "s/",
                ..ListOptions::default()
            };
            let page = run.kv().list_with_values::<Value>(options)?;
            assert!(page.cursor.is_none(), "so few keys fit on a page");
            let entries = page.entries.iter();
            let sights = entries
                .map(|entry| Sight::value(&entry.key, entry.version, datum(&entry.value)))
                .collect();
            Ok(Outcome::Saw {
                at: None,
                sights,
                listed: Some("s/".to_owned()),
            })
        })
    }

    fn flush(&mut self) -> Vec<ClientError> {
        let client = self.client.clone();
        self.ask(Call::Flush, || client.flush().map(|()| saw(Vec::new())))
    }

    /// Tells a request, makes it, and tells what came of it.
    fn ask(&mut self, call: Call, make: impl FnOnce() -> Asked) -> Vec<ClientError> {
        let id = self.next_id();
        say(&Record::Sent {
            id,
            at_ns: now_ns(),
            call,
        }
        .to_line());
        let mut errors = Vec::new();
        let outcome = outcome(make(), &mut errors);
        say(&Record::Done {
            id,
            at_ns: now_ns(),
            outcome,
        }
        .to_line());
        errors
    }

    fn next_id(&mut self) -> u64 {
        *self.request_id += 1;
        *self.request_id
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.rng.below(bound)
    }

    fn draw_mode(&mut self) -> (Option<Durability>, Mode) {
        if self.orders.override_per_ten <= self.below(10) {
            return (None, self.orders.mode);
        }
        match self.below(3) {
            0 => (Some(Durability::InMemory), Mode::InMemory),
            1 => (Some(Durability::Buffered), Mode::Buffered),
            _ => (Some(Durability::Strict), Mode::Strict),
        }
    }

    fn draw_key(&mut self) -> String {
        match self.below(3) {
            0 => format!("s/{}", self.below(SHARED_KEY_COUNT)),
            _ => format!("w{}/{}", self.orders.number, self.below(OWN_KEY_COUNT)),
        }
    }

    /// A value no other request puts; one of 50 is a block long.
    fn draw_value(&mut self) -> Value {
        let number = self.below(u64::MAX);
        let mut text = format!("{} {} {number:x} ", self.orders.number, self.request_id);
        let len = if self.below(50) == 0 {
            4_096
        } else {
            self.orders.value_len_bytes
        };
        let len = usize::try_from(len).unwrap();
        text.extend(std::iter::repeat_n('.', len.saturating_sub(text.len())));
        Value::String(text)
    }
}

fn write(run: &Run, mode: Mode, expects: Vec<Sight>, writes: Vec<Change>) -> Call {
    Call::Write {
        run: run.id().0,
        mode,
        expects,
        writes,
    }
}

/// The outcome of an answer or an error, which is kept.
fn outcome(asked: Asked, errors: &mut Vec<ClientError>) -> Outcome {
    match asked {
        Ok(outcome) => outcome,
        Err(error) => {
            let is_unknown = error.outcome() == Some(model::Outcome::OutcomeUnknown);
            errors.push(error);
            if is_unknown {
                Outcome::Unknown
            } else {
                Outcome::Refused
            }
        }
    }
}

fn committed(receipt: Receipt) -> Outcome {
    let version = receipt.commit_version;
    Outcome::Committed {
        version,
        before: Vec::new(),
        after: Vec::new(),
    }
}

fn saw(sights: Vec<Sight>) -> Outcome {
    Outcome::Saw {
        at: None,
        sights,
        listed: None,
    }
}

fn conditional(key: &str, answer: Conditional) -> Outcome {
    match answer {
        Conditional::Written(receipt) => Outcome::Committed {
            version: receipt.commit_version,
            before: vec![Sight::absent(key)],
            after: Vec::new(),
        },
        Conditional::Mismatch(mismatch) => saw(vec![Sight::version(key, mismatch.actual.number())]),
    }
}

fn deleted(key: &str, answer: Deleted) -> Outcome {
    if answer.receipt.is_committed() {
        committed(answer.receipt)
    } else {
        saw(vec![Sight::absent(key)])
    }
}

fn incremented(key: &str, answer: Incremented) -> Outcome {
    let version = answer.receipt.commit_version;
    let after = vec![Sight::value(key, version, Datum::Int(answer.value))];
    Outcome::Committed {
        version,
        before: Vec::new(),
        after,
    }
}

fn sight(key: &str, found: Option<Versioned<Value>>) -> Sight {
    match found {
        None => Sight::absent(key),
        Some(found) => Sight::value(key, found.version.number(), datum(&found.value)),
    }
}
