//! What the clients of a simulated engine ask for.

use in_mem_client::check::{Call, Datum, Found, Mode, Sight, Write};
use in_mem_engine::model::{Durability, EncodedValue, RunId, Value, ValueRef, encode};
use in_mem_engine::{
    BeginRun, CommitOptions, DurabilityMode, Expected, Program, ReadCheck, Seen, Step,
};
use in_mem_wal::disk::SimRng;

use super::shown::{entries, see};
use super::{Engine, KEYS, RUN_COUNT, Recorded, STATUS_KEY};

/// A request in the words of the engine and in those of the checker.
struct Request<'a> {
    steps: Vec<Step<'a>>,
    checks: Vec<ReadCheck<'a>>,
    expects: Vec<Sight>,
    writes: Vec<Write>,
}

impl<'a> Request<'a> {
    fn new(steps: Vec<Step<'a>>, writes: Vec<Write>) -> Self {
        let (checks, expects) = (Vec::new(), Vec::new());
        Self {
            steps,
            checks,
            expects,
            writes,
        }
    }

    /// One of the kinds, on `key`, whose newest entry its client has `seen`.
    fn drawn(
        rng: &mut SimRng,
        key: &'a str,
        value: ValueRef<'a>,
        datum: &Datum,
        seen: Sight,
    ) -> Self {
        let version = seen.version.unwrap_or(0);
        let name = key.as_bytes();
        let put = Write::Put(key.to_owned(), datum.clone());
        match rng.below(8) {
            0 => {
                let step = Step::Increment {
                    key: b"n",
                    delta: 1,
                };
                Self::new(vec![step], vec![Write::Add("n".into(), 1)])
            }
            1 | 2 => {
                let steps = [b"p/1", b"p/2"].map(|key| Step::Put { key, value });
                let writes = ["p/1", "p/2"].map(|key| Write::Put(key.into(), datum.clone()));
                Self::new(steps.to_vec(), writes.to_vec())
            }
            3 => {
                let step = Step::Delete { key: name };
                Self::new(vec![step], vec![Write::Delete(key.to_owned())])
            }
            4 => {
                let expected = Expected::Version(version);
                let step = Step::CasVersion {
                    key: name,
                    expected,
                    value,
                };
                Self {
                    expects: vec![seen],
                    ..Self::new(vec![step], vec![put])
                }
            }
            5 => {
                let steps = vec![Step::Put { key: name, value }, Step::Delete { key: b"p/1" }];
                let writes = vec![put, Write::Delete("p/1".into())];
                let checks = vec![ReadCheck {
                    key: name,
                    seen: Seen::Version(version),
                }];
                Self {
                    checks,
                    expects: vec![seen],
                    ..Self::new(steps, writes)
                }
            }
            6 => Self::new(vec![Step::GetAndSet { key: name, value }], vec![put]),
            _ => Self::new(vec![Step::Put { key: name, value }], vec![put]),
        }
    }
}

impl Engine {
    fn default_mode(&self) -> Mode {
        match self.options.mode {
            DurabilityMode::InMemory => Mode::InMemory,
            DurabilityMode::Buffered { .. } => Mode::Buffered,
            DurabilityMode::Strict => Mode::Strict,
        }
    }

    fn mode(&self, rng: &mut SimRng) -> (Mode, CommitOptions) {
        let default = self.default_mode();
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

    pub(super) fn begin_run(&mut self, rng: &mut SimRng) {
        if usize::from(RUN_COUNT) < self.runs.len() + self.begun.len() {
            return;
        }
        let id = RunId([1 + u8::try_from(rng.below(200)).expect("small"); 16]);
        let mode = self.default_mode();
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

    /// Puts a text of this length in the default run; in flight when this returns.
    pub(crate) fn put_text(&mut self, key: &str, len_bytes: usize) {
        let run = self.runs[0].clone();
        let value =
            encode(&Value::from("t".repeat(len_bytes).as_str())).expect("within the limits");
        let datum = Datum::Bytes(value.as_bytes().to_vec());
        let mode = self.default_mode();
        let token = self.note(Call::Write {
            run: *run.id().as_bytes(),
            mode,
            expects: Vec::new(),
            writes: vec![Write::Put(key.to_owned(), datum)],
        });
        let completion = self.completion(token);
        let steps = [Step::Put {
            key: key.as_bytes(),
            value: value.as_ref(),
        }];
        let program = Program {
            checks: &[],
            steps: &steps,
        };
        let submitted = run.submit(&program, CommitOptions::default(), &completion);
        self.finish_submit(token, submitted);
    }

    pub(super) fn request(&mut self, rng: &mut SimRng) {
        let run = self.runs[rng.index(self.runs.len())].clone();
        let (mode, options) = self.mode(rng);
        let key = KEYS[rng.index(5)];
        let (value, datum) = self.value();
        let seen = see(&run.read_view(), key);
        let request = Request::drawn(rng, key, value.as_ref(), &datum, seen);
        let token = self.note(Call::Write {
            run: *run.id().as_bytes(),
            mode,
            expects: request.expects,
            writes: request.writes,
        });
        let completion = self.completion(token);
        let (checks, steps) = (request.checks.as_slice(), request.steps.as_slice());
        let submitted = run.submit(&Program { checks, steps }, options, &completion);
        self.finish_submit(token, submitted);
    }

    pub(super) fn read(&mut self, rng: &mut SimRng) {
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
