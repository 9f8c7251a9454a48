//! The operations that are measured, by layer: A0 a plain hash map, A1 the engine, B the facade.

use std::hint::black_box;
use std::time::{Duration, Instant};

use in_mem_engine::model::ValueRef;
use in_mem_engine::{CommitOptions, KeyRef, Program, Run, Step, TransactionOptions};
use rustc_hash::FxHashMap;

use super::fixture::{Data, Fixture, KEY_COUNT};
use super::rounds::{Distribution, median, spread, thread_cpu_ns};

/// A0: one map from key to value, both owned, with no store around it.
pub(crate) struct RawMap {
    map: FxHashMap<Bytes, Bytes>,
    /// What the coming calls insert.
    pairs: std::vec::IntoIter<(Bytes, Bytes)>,
}

type Bytes = Box<[u8]>;

impl RawMap {
    /// Filled, with the pairs of `call_count` calls built.
    pub(crate) fn new(data: &Data, call_count: usize) -> Self {
        let pair = |key: &[u8]| (Bytes::from(key), Bytes::from(data.value.as_bytes()));
        let map = data.keys.iter().map(|key| pair(key)).collect();
        let pairs: Vec<_> = (0..call_count).map(|call| pair(data.key(call))).collect();
        Self {
            map,
            pairs: pairs.into_iter(),
        }
    }

    /// Overwrites one key; what was there is freed.
    pub(crate) fn put(&mut self) {
        let (key, value) = self.pairs.next().expect("a pair was built for every call");
        black_box(self.map.insert(key, value));
    }

    /// Reads one key.
    pub(crate) fn get(&self, key: &[u8]) {
        black_box(self.map.get(key));
    }
}

/// A1: `engine/put_direct`, a transaction of one put.
pub(crate) fn put_direct(run: &Run, data: &Data, call: usize) {
    let steps = [Step::Put {
        key: data.key(call),
        value: data.value.as_ref(),
    }];
    let program = Program {
        checks: &[],
        steps: &steps,
    };
    black_box(
        run.commit(&program, CommitOptions::default())
            .expect("commits"),
    );
}

/// A1, with an explicit transaction from the pool.
pub(crate) fn put_transaction(run: &Run, data: &Data, call: usize) {
    let committed = run.transaction(TransactionOptions::default(), |context| {
        context.put(data.key(call), data.value.as_ref())
    });
    committed.expect("commits");
}

/// B: `kvstore/put`, which checks the bytes of the key and of the value.
pub(crate) fn kv_put(run: &Run, data: &Data, call: usize) {
    black_box(ValueRef::new(data.value.as_bytes()).expect("the value is valid"));
    black_box(run.kv().put(data.key(call), &data.value).expect("commits"));
}

/// `kvstore/get` without a copy.
pub(crate) fn kv_get(run: &Run, key: &[u8]) {
    run.kv()
        .get_with(key, |found| black_box(found.is_some()))
        .expect("the key is valid");
}

/// `kvstore/get` into an own `Vec`.
pub(crate) fn kv_get_copied(run: &Run, key: &[u8]) {
    black_box(run.kv().get(key).expect("the key is valid"));
}

/// `engine/get_direct`.
pub(crate) fn get_direct(run: &Run, key: &[u8]) {
    run.get_with(KeyRef::kv(key), |found| black_box(found.is_some()));
}

/// `get_many(10)`.
pub(crate) fn get_ten(run: &Run, data: &Data, call: usize) {
    let at = (call * 10) % (KEY_COUNT - 10);
    let keys: [&[u8]; 10] = std::array::from_fn(|offset| data.key(at + offset));
    black_box(run.kv().get_many(&keys).expect("the keys are valid"));
}

/// Only the `commit()` of an explicit transaction of one put, what it applies included.
pub(crate) fn commit_latency(fixture: &Fixture, call: usize) -> Duration {
    let mut context = fixture
        .run
        .begin(TransactionOptions::default())
        .expect("begins");
    context
        .put(fixture.data.key(call), fixture.data.value.as_ref())
        .expect("puts");
    let before = Instant::now();
    black_box(context.commit().expect("commits"));
    let latency = before.elapsed();
    fixture.database.end_transaction(context);
    latency
}

/// What one round of one row came to, nanoseconds per call.
#[derive(Clone, Copy)]
pub(crate) struct Round {
    /// On the wall.
    pub(crate) wall_ns: f64,
    /// Of the calling thread's CPU time: the figure that a shared machine does not distort, for
    /// operations that wait for nobody.
    pub(crate) cpu_ns: f64,
}

/// One round of one row: calls to warm up, a stretch without clocks, a stretch with one reading
/// of the clock per call.
pub(crate) fn measure_round(
    call_count: usize,
    latencies: &mut Distribution,
    mut operation: impl FnMut(usize),
) -> Round {
    for call in 0..call_count / 10 {
        operation(call);
    }
    let (started, cpu_started) = (Instant::now(), thread_cpu_ns());
    for call in 0..call_count {
        operation(call);
    }
    let round = Round {
        cpu_ns: (thread_cpu_ns() - cpu_started) / call_count as f64,
        wall_ns: started.elapsed().as_secs_f64() * 1e9 / call_count as f64,
    };
    let mut before = Instant::now();
    for call in 0..call_count {
        operation(call);
        let after = Instant::now();
        latencies.record(after - before);
        before = after;
    }
    round
}

/// One row of a table over all rounds.
pub(crate) struct Row {
    /// What is measured.
    pub(crate) name: &'static str,
    /// Per call, round by round, nanoseconds.
    pub(crate) wall_ns: Vec<f64>,
    /// Per call, round by round, nanoseconds.
    pub(crate) cpu_ns: Vec<f64>,
    /// Of single calls.
    pub(crate) latencies: Distribution,
}

impl Row {
    /// Without a round yet.
    pub(crate) fn new(name: &'static str) -> Self {
        let latencies = Distribution::new();
        Self {
            name,
            wall_ns: Vec::new(),
            cpu_ns: Vec::new(),
            latencies,
        }
    }

    /// Measures one round.
    pub(crate) fn round(&mut self, call_count: usize, operation: impl FnMut(usize)) {
        let round = measure_round(call_count, &mut self.latencies, operation);
        self.wall_ns.push(round.wall_ns);
        self.cpu_ns.push(round.cpu_ns);
    }

    /// The figures of the row on one line.
    pub(crate) fn line(&self) -> String {
        let cpu = match self.cpu_ns.as_slice() {
            [] => String::new(),
            figures => format!("{:.0}", median(figures)),
        };
        format!(
            "{:<38} {:>9.0} ns wall, +-{:>4.0} %  {cpu:>6} ns CPU  {}  p99/mean {:>5.1}",
            self.name,
            median(&self.wall_ns),
            50.0 * spread(&self.wall_ns),
            self.latencies.summary(),
            self.latencies.us(0.99) / self.latencies.mean_us(),
        )
    }
}

/// Calls that one [`measure_round`] makes.
pub(crate) fn calls_of_round(call_count: usize) -> usize {
    call_count / 10 + 2 * call_count
}
