//! Group commit inside the log: which write form is the default, and how near it is to the device.
//!
//! Commits are outstanding records: the log's own sink appends the next one when one has come
//! back, so no wake-up of a committer is in the figures ("in the log"). The last column has one
//! thread that is woken once per batch and appends anew, as a reactor does. Closed loop both.
//! The floor is a loop of direct dsync writes of one block, depth 1, in the same rounds, on a
//! thread with the same short slice. All cells are interleaved, `ROUND_COUNT` times.

mod support;

use std::convert::Infallible;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use in_mem_wal::clock::SystemClock;
use in_mem_wal::disk::{DiskPreference, OpenDisk, RealDisk, RealRoot, short_slice};
use in_mem_wal::recover::{ScanOptions, SettleOptions, create_log, scan, settle};
use in_mem_wal::{
    Append, IdentityCodec, LogConfig, LogHandle, Lsn, Need, PoisonCause, Sink, WriteForm,
    spawn_log_thread, start,
};
use support::device::RawDevice;
use support::machine::{machine_line, profile};
use support::neighbours::{BusyNeighbours, CpuWatch};
use support::rounds::{Distribution, spread};

const ROUND_COUNT: usize = 5;
const WARM_UP: Duration = Duration::from_millis(20);
const MEASURED: Duration = Duration::from_millis(150);
const DATABASE_UUID: [u8; 16] = [7; 16];

/// A 16-byte key, a 100-byte value and their framing.
const WRITESET_LEN_BYTES: usize = 150;

/// Room for everything one set of cells writes, bytes, so that no rotation is in the figures.
const SEGMENT_LEN_BYTES: u32 = 64 << 20;

/// How commits come in.
#[derive(Clone, Copy, PartialEq)]
enum Source {
    /// The sink appends the next one.
    Log { outstanding_count: usize },
    /// A thread does, woken once per batch.
    Thread { outstanding_count: usize },
}

const SOURCES: [Source; 4] = [
    Source::Log {
        outstanding_count: 1,
    },
    Source::Log {
        outstanding_count: 16,
    },
    Source::Log {
        outstanding_count: 64,
    },
    Source::Thread {
        outstanding_count: 16,
    },
];

/// One way to write batches.
#[derive(Clone, Copy)]
struct Way {
    preference: DiskPreference,
    form: WriteForm,
}

/// What one cell of the table has seen.
struct Cell {
    /// Commits per second, round by round.
    rates: Vec<f64>,
    latencies: Distribution,
}

impl Cell {
    fn new() -> Self {
        Self {
            rates: Vec::new(),
            latencies: Distribution::new(),
        }
    }

    /// Commits per second over all rounds, which are equally long. Not their median: one stall of
    /// a scheduler tick decides a round, and stalls belong to the form.
    fn rate(&self) -> f64 {
        self.rates.iter().sum::<f64>() / self.rates.len() as f64
    }
}

/// What the sink and the measuring thread share.
struct Meter {
    is_running: AtomicBool,
    state: Mutex<MeterState>,
    is_drained: Condvar,
    /// Commits that came back to the committing thread.
    returned: Mutex<Vec<Instant>>,
    has_returned: Condvar,
}

struct MeterState {
    latencies: Distribution,
    outstanding_count: usize,
    to_thread: bool,
}

struct MeterSink {
    meter: Arc<Meter>,
    handle: LogHandle<Instant>,
    batch: Vec<Instant>,
}

impl Sink<Instant> for MeterSink {
    fn reached(&mut self, appended: Instant, _end_lsn: Lsn) {
        let mut state = self.meter.state.lock().expect("no holder panics");
        state.latencies.record(appended.elapsed());
        if state.to_thread {
            self.batch.push(appended);
            return;
        }
        if self.meter.is_running.load(Ordering::Relaxed) {
            drop(state);
            append(&self.handle);
            return;
        }
        state.outstanding_count -= 1;
        self.meter.is_drained.notify_all();
    }

    fn batch_end(&mut self) {
        if !self.batch.is_empty() {
            let mut returned = self.meter.returned.lock().expect("no holder panics");
            returned.append(&mut self.batch);
            self.meter.has_returned.notify_one();
        }
    }

    fn poisoned(&mut self, cause: &PoisonCause) {
        panic!("the log failed: {cause}");
    }

    fn failed(&mut self, _appended: Instant) {}
}

fn append(handle: &LogHandle<Instant>) {
    let reservation = handle
        .reserve(WRITESET_LEN_BYTES)
        .expect("the segment is large enough");
    let mut writeset = handle.take_buffer();
    writeset.resize(WRITESET_LEN_BYTES, 7);
    let token = Instant::now();
    let mut appender = handle.appender().expect("the log is open");
    let txn_id = appender.last_txn_id() + 1;
    let record = Append {
        txn_id,
        run_id: [0; 16],
        timestamp_us: 0,
        writeset,
        need: Need::Synced,
        token,
    };
    appender.append(reservation, record);
}

/// Opens a new log in an own directory, measures every source on it, and removes it.
fn measure_way(directory: &Path, way: Way, cells: &mut [Cell]) {
    let place = tempfile::tempdir_in(directory).expect("a directory");
    let root = RealRoot::open(place.path()).expect("opens");
    let config = LogConfig {
        segment_len_bytes: SEGMENT_LEN_BYTES,
        log_block_len_bytes: root.block_bytes(),
        write_form: way.form,
        ..LogConfig::default()
    };
    let opener = RealDisk::probe(root, way.preference);
    let mut disk = opener.open_disk().expect("a disk");
    create_log(&mut *disk, DATABASE_UUID).expect("creates");
    let scanned = scan(&mut *disk, &scan_options(&config), &IdentityCodec, |_| {
        Ok::<(), Infallible>(())
    });
    let scanned = scanned.expect("scans");
    let options = SettleOptions {
        config,
        database_uuid: DATABASE_UUID,
        version_floor: 0,
        now_us: 0,
    };
    let settled = settle(&mut *disk, scanned, &options, &mut |_, _| Ok(())).expect("settles");
    let (handle, seed) =
        start(config, Arc::new(IdentityCodec), &settled).expect("the settings are valid");
    let meter = Arc::new(Meter {
        is_running: AtomicBool::new(false),
        state: Mutex::new(MeterState {
            latencies: Distribution::new(),
            outstanding_count: 0,
            to_thread: false,
        }),
        is_drained: Condvar::new(),
        returned: Mutex::new(Vec::new()),
        has_returned: Condvar::new(),
    });
    let sink = MeterSink {
        meter: Arc::clone(&meter),
        handle: handle.clone(),
        batch: Vec::new(),
    };
    let log = spawn_log_thread(seed, Arc::new(opener), Arc::new(SystemClock), sink)
        .expect("the log thread starts");
    for (source, cell) in SOURCES.into_iter().zip(cells) {
        match source {
            Source::Log { outstanding_count } => {
                measure_in_log(&handle, &meter, outstanding_count, cell);
            }
            Source::Thread { outstanding_count } => {
                thread::scope(|scope| {
                    let committing =
                        scope.spawn(|| measure_thread(&handle, &meter, outstanding_count, cell));
                    committing.join().expect("the committing thread ends");
                });
            }
        }
    }
    drop(log);
}

fn scan_options(config: &LogConfig) -> ScanOptions {
    ScanOptions {
        database_uuid: DATABASE_UUID,
        record_len_bytes_max: config.record_len_bytes_max,
        snapshot_end: Lsn::ZERO,
        manifest_active_segment: 1,
        is_permissive: false,
        planted: config.planted,
    }
}

/// Lets time pass while the log thread works.
fn pass(time: Duration) {
    let until = Instant::now() + time;
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        thread::park_timeout(left);
    }
}

fn measure_in_log(
    handle: &LogHandle<Instant>,
    meter: &Meter,
    outstanding_count: usize,
    cell: &mut Cell,
) {
    {
        let mut state = meter.state.lock().expect("no holder panics");
        state.outstanding_count = outstanding_count;
        state.to_thread = false;
    }
    meter.is_running.store(true, Ordering::Relaxed);
    for _ in 0..outstanding_count {
        append(handle);
    }
    pass(WARM_UP);
    meter
        .state
        .lock()
        .expect("no holder panics")
        .latencies
        .clear();
    let started = Instant::now();
    pass(MEASURED);
    let mut state = meter.state.lock().expect("no holder panics");
    cell.rates
        .push(state.latencies.count() as f64 / started.elapsed().as_secs_f64());
    cell.latencies.merge(&state.latencies);
    meter.is_running.store(false, Ordering::Relaxed);
    while state.outstanding_count != 0 {
        state = meter.is_drained.wait(state).expect("no holder panics");
    }
}

fn measure_thread(
    handle: &LogHandle<Instant>,
    meter: &Meter,
    outstanding_count: usize,
    cell: &mut Cell,
) {
    short_slice();
    meter.state.lock().expect("no holder panics").to_thread = true;
    let started = Instant::now();
    let (mut measuring_since, mut returned_count) = (None, 0_u64);
    let mut in_flight_count = 0;
    let mut collected = Vec::new();
    loop {
        let is_over = WARM_UP + MEASURED < started.elapsed();
        while !is_over && in_flight_count < outstanding_count {
            append(handle);
            in_flight_count += 1;
        }
        if measuring_since.is_none() && WARM_UP < started.elapsed() {
            measuring_since = Some(Instant::now());
            returned_count = 0;
            meter
                .state
                .lock()
                .expect("no holder panics")
                .latencies
                .clear();
        }
        if is_over {
            break;
        }
        let mut returned = meter.returned.lock().expect("no holder panics");
        while returned.is_empty() {
            returned = meter.has_returned.wait(returned).expect("no holder panics");
        }
        collected.append(&mut returned);
        drop(returned);
        in_flight_count -= collected.len();
        returned_count += collected.len() as u64;
        collected.clear();
    }
    let time = measuring_since.unwrap_or(started).elapsed();
    cell.rates.push(returned_count as f64 / time.as_secs_f64());
    cell.latencies
        .merge(&meter.state.lock().expect("no holder panics").latencies);
    while in_flight_count != 0 {
        let mut returned = meter.returned.lock().expect("no holder panics");
        while returned.is_empty() {
            returned = meter.has_returned.wait(returned).expect("no holder panics");
        }
        in_flight_count -= returned.len();
        returned.clear();
    }
}

/// One load: the floor and all ways, round after round.
fn measure_load(directory: &Path, ways: &[Way], device: &mut RawDevice, is_busy: bool) {
    let mut floor = Cell::new();
    let mut table: Vec<Vec<Cell>> = ways
        .iter()
        .map(|_| SOURCES.iter().map(|_| Cell::new()).collect())
        .collect();
    let watch = CpuWatch::begin();
    for _ in 0..ROUND_COUNT {
        let _neighbours = is_busy.then(BusyNeighbours::on_every_cpu);
        let rate = thread::scope(|scope| {
            let floor_thread = scope.spawn(|| {
                short_slice();
                device.measure(MEASURED, &mut floor.latencies)
            });
            floor_thread.join().expect("the floor is measured")
        });
        floor.rates.push(rate);
        for (way, cells) in ways.iter().zip(&mut table) {
            measure_way(directory, *way, cells);
        }
    }
    let load = if is_busy {
        "a busy neighbour on every CPU"
    } else {
        "no neighbour of our own"
    };
    println!(
        "\n## {load}; other processes used {:.0} % of the CPUs",
        100.0 * watch.foreign_share()
    );
    print_table(ways, &floor, &table);
}

fn print_table(ways: &[Way], floor: &Cell, table: &[Vec<Cell>]) {
    println!(
        "floor (direct dsync, one block, depth 1): {:.0} writes/s, {}, rounds {:.0} % apart",
        floor.rate(),
        floor.latencies.summary(),
        100.0 * spread(&floor.rates),
    );
    println!(
        "{:<25} | {:<34} | {:<23} | {:<32} | {:<23}",
        "", "1 outstanding", "16", "64", "16, a thread woken per batch"
    );
    println!(
        "{:<9} {:<15} | {:>7} {:>7} {:>8} {:>9} | {:>7} {:>6} {:>8} | {:>7} {:>6} {:>8} {:>8} \
         | {:>7} {:>6} {:>8}",
        "disk",
        "form",
        "per s",
        "p50 us",
        "p99",
        "p50/floor",
        "per s",
        "p50",
        "p99",
        "per s",
        "p50",
        "p99",
        "/64x one",
        "per s",
        "p50",
        "p99",
    );
    for (way, cells) in ways.iter().zip(table) {
        let [one, sixteen, many, threaded] = cells.as_slice() else {
            continue;
        };
        let rate = Cell::rate;
        let us = |cell: &Cell, quantile| cell.latencies.us(quantile);
        println!(
            "{:<9} {:<15} | {:>7.0} {:>7.0} {:>8.0} {:>9.2} | {:>7.0} {:>6.0} {:>8.0} \
             | {:>7.0} {:>6.0} {:>8.0} {:>8.2} | {:>7.0} {:>6.0} {:>8.0}",
            disk_name(way.preference),
            way.form.name(),
            rate(one),
            us(one, 0.5),
            us(one, 0.99),
            us(one, 0.5) / floor.latencies.us(0.5),
            rate(sixteen),
            us(sixteen, 0.5),
            us(sixteen, 0.99),
            rate(many),
            us(many, 0.5),
            us(many, 0.99),
            rate(many) / (64.0 * rate(one)),
            rate(threaded),
            us(threaded, 0.5),
            us(threaded, 0.99),
        );
    }
}

fn disk_name(preference: DiskPreference) -> &'static str {
    match preference {
        DiskPreference::Auto => "io_uring",
        DiskPreference::Thread => "thread",
    }
}

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("not measured: run with cargo bench");
        return;
    }
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    println!("{}\nprofile: {}", machine_line(place.path()), profile());
    let root = RealRoot::open(place.path()).expect("opens");
    let probed = RealDisk::probe(root, DiskPreference::Auto);
    let mut preferences = vec![DiskPreference::Thread];
    match probed.refusal() {
        Some(refusal) => println!("SKIPPED: io_uring: {refusal}"),
        None => preferences.insert(0, DiskPreference::Auto),
    }
    let ways: Vec<Way> = preferences
        .iter()
        .flat_map(|preference| {
            WriteForm::ALL.into_iter().map(|form| Way {
                preference: *preference,
                form,
            })
        })
        .collect();
    println!(
        "default form: {}; {WRITESET_LEN_BYTES}-byte writesets, {ROUND_COUNT} rounds of {} ms, \
         closed loop; aims: p50/floor <= 1.15 (io_uring 1.25), 64 outstanding >= 0.8 x 64 x one",
        LogConfig::default().write_form.name(),
        MEASURED.as_millis(),
    );
    let mut device = RawDevice::new(place.path());
    for is_busy in [false, true] {
        measure_load(place.path(), &ways, &mut device, is_busy);
    }
}
