//! Hand-made histories, each breaking one promise, and random ones of a store that keeps them all.

use super::*;

const RUN: Run = [1; 16];
const OTHER: Run = [2; 16];

/// A history written by hand; every event is one tick later than the one before.
#[derive(Default)]
struct Script {
    history: History,
    now_ns: u64,
    dump: Dump,
}

fn text(value: &str) -> Datum {
    Datum::Bytes(value.as_bytes().to_vec())
}

fn put(key: &str, value: &str) -> Write {
    Write::Put(key.to_owned(), text(value))
}

impl Script {
    fn sent(&mut self, worker: u32, call: Call) -> usize {
        self.now_ns += 1;
        let id = self.history.operations.len() as u64;
        self.history.operations.push(Operation {
            worker,
            id,
            sent_at_ns: self.now_ns,
            done_at_ns: None,
            call,
            outcome: Outcome::Unknown,
        });
        usize::try_from(id).unwrap()
    }

    fn done(&mut self, place: usize, outcome: Outcome) {
        self.now_ns += 1;
        let operation = &mut self.history.operations[place];
        operation.done_at_ns = Some(self.now_ns);
        operation.outcome = outcome;
    }

    fn lose_answer(&mut self, mode: Mode, writes: Vec<Write>) -> usize {
        self.sent(
            9,
            Call::Write {
                run: RUN,
                mode,
                expects: Vec::new(),
                writes,
            },
        )
    }

    fn commit(&mut self, mode: Mode, version: u64, writes: Vec<Write>) -> usize {
        let place = self.lose_answer(mode, writes);
        self.ack(place, version, Vec::new());
        place
    }

    fn ack(&mut self, place: usize, version: u64, after: Vec<Sight>) {
        self.done(
            place,
            Outcome::Committed {
                version,
                before: Vec::new(),
                after,
            },
        );
    }

    fn strict(&mut self, version: u64, writes: Vec<Write>) -> usize {
        self.commit(Mode::Strict, version, writes)
    }

    fn add(&mut self, version: u64, key: &str, result: i64) {
        let place = self.lose_answer(Mode::Strict, vec![Write::Add(key.to_owned(), 1)]);
        self.ack(
            place,
            version,
            vec![Sight::value(key, version, Datum::Int(result))],
        );
    }

    fn read(&mut self, sights: Vec<Sight>) {
        let place = self.sent(1, Call::Read { run: RUN });
        self.done(
            place,
            Outcome::Saw {
                at: None,
                sights,
                listed: None,
            },
        );
    }

    fn shows(&mut self, key: &str, version: u64, value: &str) {
        self.dump.insert(RUN, key, version, text(value));
    }

    fn check(&self, survival: Survival) -> Result<Summary, Report> {
        Checker::new().check(
            &self.history,
            &End {
                survival,
                dump: self.dump.clone(),
            },
        )
    }

    fn after_power_loss(&self) -> Result<Summary, Report> {
        self.check(Survival::Restart {
            buffered_acked_before_ns: 0,
        })
    }

    fn after_kill(&self) -> Result<Summary, Report> {
        self.check(Survival::Restart {
            buffered_acked_before_ns: u64::MAX,
        })
    }
}

/// The only violation of a report.
fn only(result: Result<Summary, Report>) -> Violation {
    let report = result.expect_err("the planted violation went unseen");
    assert_eq!(report.count, 1, "{report}");
    assert!(report.to_string().contains("rule "), "{report}");
    report.violations.into_iter().next().unwrap()
}

fn sight(key: &str, version: u64, value: &str) -> Sight {
    Sight::value(key, version, text(value))
}

mod answers;
mod generated;
mod recovered;
