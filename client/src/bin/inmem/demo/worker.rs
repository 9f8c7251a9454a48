//! One worker process of the demo.
//!
//! Draws what to do next from its seed, writes down what it is about to ask, asks, and writes
//! down what it was told, one line and one system call each. It never asks twice what it wrote
//! down once: after a lost connection it connects again first and then draws the next thing. So
//! the parent can tell from the time of a line which daemon was asked.

use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::Write as _;
use std::thread;
use std::time::{Duration, Instant};

use in_mem_client::check::{Call, Found, Mode, Outcome, Record, Sight, Write};
use in_mem_client::model::{self, Durability, Value};
use in_mem_client::{
    Client, ClientBuilder, ClientError, Conditional, Expected, Kv, ReconnectPolicy, Run,
    TransactionOptions, Versioned,
};
use rustix::time::{ClockId, clock_gettime};

use crate::cli::arguments::DemoWorkerArgs;
use crate::cli::demo::daemon::datum;
use crate::cli::failure::Failure;

/// Keys of each worker.
const KEY_COUNT: u64 = 200;
/// Keys all workers of a run put blindly.
const SHARED_KEY_COUNT: u64 = 20;
/// Counters of a run.
const COUNTER_COUNT: u64 = 4;
/// Accounts of a run; transfers keep their sum.
const ACCOUNT_COUNT: u64 = 16;
/// Length of a value, bytes.
const VALUE_LEN_BYTES: usize = 100;
/// How long a worker waits for a lost daemon.
const RECONNECT_MAX: Duration = Duration::from_secs(40);
/// How often it tries.
const RECONNECT_EVERY: Duration = Duration::from_millis(10);

/// Prefix of the keys of counters.
pub(super) const COUNTER_PREFIX: &str = "counter/";

/// Prefix of the keys of accounts.
pub(super) const ACCOUNT_PREFIX: &str = "account/";

/// Works until it is told to stop.
pub(crate) fn run(builder: &ClientBuilder, args: &DemoWorkerArgs) -> Result<(), Failure> {
    let client = builder
        .clone()
        .name("inmem demo worker")
        .reconnect(ReconnectPolicy::NONE)
        .connect()?;
    let shared = client.run(&args.shared_run)?;
    let own = args
        .own_run
        .as_deref()
        .map(|id| client.run(id))
        .transpose()?;
    let record = OpenOptions::new()
        .create_new(true)
        .append(true)
        .open(&args.record)
        .map_err(|error| Failure::file(&args.record, error))?;
    let mut worker = Worker {
        run: own.unwrap_or(shared),
        client,
        worker: args.worker,
        record,
        operation_id: 0,
        random: Random(args.seed),
    };
    while !args.stop_file.exists() {
        if let Err(error) = worker.step()? {
            worker.recover(&error)?;
        }
    }
    Ok(())
}

/// A seed drawn by chance.
pub(crate) fn random_seed() -> u64 {
    RandomState::new().hash_one(0_u8)
}

/// Nanoseconds of the clock all processes of this machine share.
pub(super) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    seconds * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or_default()
}

struct Worker {
    client: Client,
    run: Run,
    worker: u32,
    record: File,
    operation_id: u64,
    random: Random,
}

/// What came of one step: an error of the client is no failure of the worker.
type Step = Result<Result<(), ClientError>, Failure>;

impl Worker {
    /// Does one thing, drawn by chance.
    fn step(&mut self) -> Step {
        match self.random.below(100) {
            0..35 => {
                let key = format!("w{}/{}", self.worker, self.random.below(KEY_COUNT));
                self.put(&key)
            }
            35..40 => {
                let key = format!("shared/{}", self.random.below(SHARED_KEY_COUNT));
                self.put(&key)
            }
            40..65 => {
                let key = format!("w{}/{}", self.worker, self.random.below(KEY_COUNT));
                self.get(&key)
            }
            65..70 => {
                let key = format!("shared/{}", self.random.below(SHARED_KEY_COUNT));
                self.get(&key)
            }
            70..73 => {
                let key = format!("w{}/{}", self.worker, self.random.below(KEY_COUNT));
                self.delete(&key)
            }
            73..83 => self.increment(),
            83..88 => self.add(),
            _ => self.transfer(),
        }
    }

    fn put(&mut self, key: &str) -> Step {
        let (durability, mode) = self.draw_durability();
        let value = self.draw_value();
        let call = self.write(mode, Vec::new(), Write::Put(key.to_owned(), datum(&value)?));
        let kv = self.run.kv().with_durability(durability);
        self.ask(call, || {
            kv.put(key, &value)
                .map(|receipt| committed(receipt.commit_version))
        })
    }

    fn get(&mut self, key: &str) -> Step {
        let call = Call::Read {
            run: self.run.id().0,
        };
        let kv = self.run.kv();
        self.ask(call, || {
            let sight = look(&kv, key)?.0;
            Ok(Outcome::Saw {
                at: None,
                sights: vec![sight],
                listed: None,
            })
        })
    }

    fn delete(&mut self, key: &str) -> Step {
        let (durability, mode) = self.draw_durability();
        let call = self.write(mode, Vec::new(), Write::Delete(key.to_owned()));
        let kv = self.run.kv().with_durability(durability);
        self.ask(call, || {
            let deleted = kv.delete(key)?;
            Ok(match deleted.receipt.is_committed() {
                true => committed(deleted.receipt.commit_version),
                false => Outcome::Saw {
                    at: None,
                    sights: vec![Sight::absent(key)],
                    listed: None,
                },
            })
        })
    }

    /// Increments a counter by compare-and-set, as often as it takes.
    fn increment(&mut self) -> Step {
        let key = format!("{COUNTER_PREFIX}{}", self.random.below(COUNTER_COUNT));
        let (durability, mode) = self.draw_durability();
        let kv = self.run.kv().with_durability(durability);
        loop {
            let found = match kv.get_versioned::<i64>(&key) {
                Ok(found) => found,
                Err(error) => return Ok(Err(error)),
            };
            let (number, version) =
                found.map_or((0, 0), |found| (found.value, found.version.number()));
            let next = number + 1;
            let expects = vec![Sight::version(&key, version)];
            let call = self.write(
                mode,
                expects,
                Write::Put(key.clone(), datum(&Value::Int(next))?),
            );
            let mut is_written = false;
            let asked = self.ask(call, || {
                let swapped = kv.cas_version(&key, Expected::Version(version), &next)?;
                is_written = swapped.is_written();
                Ok(match swapped {
                    Conditional::Written(receipt) => committed(receipt.commit_version),
                    Conditional::Mismatch(mismatch) => {
                        let sights = vec![Sight::version(&key, mismatch.actual.number())];
                        Outcome::Saw {
                            at: None,
                            sights,
                            listed: None,
                        }
                    }
                })
            })?;
            if is_written || asked.is_err() {
                return Ok(asked);
            }
        }
    }

    /// Adds one to a counter in the commit step.
    fn add(&mut self) -> Step {
        let key = format!("{COUNTER_PREFIX}{}", self.random.below(COUNTER_COUNT));
        let (durability, mode) = self.draw_durability();
        let call = self.write(mode, Vec::new(), Write::Add(key.clone(), 1));
        let kv = self.run.kv().with_durability(durability);
        self.ask(call, || {
            let incremented = kv.incr(&key, 1)?;
            let version = incremented.receipt.commit_version;
            let value = in_mem_client::check::Datum::Int(incremented.value);
            let after = vec![Sight::value(&key, version, value)];
            Ok(Outcome::Committed {
                version,
                before: Vec::new(),
                after,
            })
        })
    }

    /// Moves an amount from one account to another in a transaction.
    fn transfer(&mut self) -> Step {
        let source = self.random.below(ACCOUNT_COUNT);
        let target = (source + 1 + self.random.below(ACCOUNT_COUNT - 1)) % ACCOUNT_COUNT;
        let amount = i64::try_from(1 + self.random.below(9)).unwrap_or(1);
        let (durability, mode) = self.draw_durability();
        let options = TransactionOptions {
            durability: Some(durability),
            ..TransactionOptions::default()
        };
        let transaction = match self.run.begin_transaction(&options) {
            Ok(transaction) => transaction,
            Err(error) => return Ok(Err(error)),
        };
        let kv = transaction.kv();
        let (mut expects, mut writes) = (Vec::new(), Vec::new());
        for (account, change) in [(source, -amount), (target, amount)] {
            let key = format!("{ACCOUNT_PREFIX}{account}");
            let prepared = look(&kv, &key).and_then(|(sight, found)| {
                let balance = match found {
                    Some(Versioned {
                        value: Value::Int(balance),
                        ..
                    }) => balance,
                    _ => 0,
                };
                let changed = balance + change;
                kv.put(&key, &changed).map(|_| (sight, changed))
            });
            match prepared {
                Ok((sight, changed)) => {
                    expects.push(sight);
                    writes.push(Write::Put(key, datum(&Value::Int(changed))?));
                }
                Err(error) => return Ok(Err(error)),
            }
        }
        let call = Call::Write {
            run: self.run.id().0,
            mode,
            expects,
            writes,
        };
        self.ask(call, || {
            transaction
                .commit()
                .map(|receipt| committed(receipt.commit_version))
        })
    }

    fn write(&self, mode: Mode, expects: Vec<Sight>, write: Write) -> Call {
        Call::Write {
            run: self.run.id().0,
            mode,
            expects,
            writes: vec![write],
        }
    }

    /// Writes a request down, makes it, and writes down what came of it.
    fn ask(&mut self, call: Call, make: impl FnOnce() -> Result<Outcome, ClientError>) -> Step {
        let id = self.operation_id;
        self.operation_id += 1;
        self.write_down(&Record::Sent {
            id,
            at_ns: now_ns(),
            call,
        })?;
        let made = make();
        let (outcome, answered) = match made {
            Ok(outcome) => (outcome, Ok(())),
            Err(error) if error.outcome() == Some(model::Outcome::OutcomeUnknown) => {
                (Outcome::Unknown, Err(error))
            }
            Err(error) if error.is_conflict() => (Outcome::Refused, Ok(())),
            Err(error) => (Outcome::Refused, Err(error)),
        };
        self.write_down(&Record::Done {
            id,
            at_ns: now_ns(),
            outcome,
        })?;
        Ok(answered)
    }

    fn write_down(&mut self, record: &Record) -> Result<(), Failure> {
        let written = self.record.write_all(record.to_line().as_bytes());
        written.map_err(|error| Failure::file("the record", error))
    }

    /// Waits for a lost daemon to come back. Any other error ends the worker.
    fn recover(&self, error: &ClientError) -> Result<(), Failure> {
        let is_lost = matches!(
            error,
            ClientError::ConnectionLost { .. } | ClientError::Unreachable { .. }
        );
        if !is_lost {
            return Err(Failure::Disproved(format!(
                "worker {}: {error}",
                self.worker
            )));
        }
        let deadline = Instant::now() + RECONNECT_MAX;
        loop {
            match self.client.ping() {
                Ok(()) => return Ok(()),
                Err(error) if deadline <= Instant::now() => return Err(error.into()),
                Err(_) => thread::sleep(RECONNECT_EVERY),
            }
        }
    }

    /// Three of four writes are Strict.
    fn draw_durability(&mut self) -> (Durability, Mode) {
        match self.random.below(4) {
            0 => (Durability::Buffered, Mode::Buffered),
            _ => (Durability::Strict, Mode::Strict),
        }
    }

    /// A value no other request puts.
    fn draw_value(&self) -> Value {
        let mut text = format!("worker {} request {} ", self.worker, self.operation_id);
        text.extend(std::iter::repeat_n(
            '.',
            VALUE_LEN_BYTES.saturating_sub(text.len()),
        ));
        Value::String(text)
    }
}

fn committed(version: u64) -> Outcome {
    Outcome::Committed {
        version,
        before: Vec::new(),
        after: Vec::new(),
    }
}

/// What a key holds, and how the record says it.
fn look(kv: &Kv, key: &str) -> Result<(Sight, Option<Versioned<Value>>), ClientError> {
    let found = kv.get_versioned::<Value>(key)?;
    let sight = match &found {
        None => Sight::absent(key),
        Some(found) => Sight {
            key: key.to_owned(),
            version: Some(found.version.number()),
            found: datum(&found.value).map_or(Found::Anything, Found::Value),
        },
    };
    Ok((sight, found))
}

/// SplitMix64: the seed alone decides what a worker draws.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }
}
