//! The harness is tested: what it must catch is planted, and it is caught.

use std::collections::HashSet;
use std::os::unix::fs::FileExt;

use in_mem_client::check::{Call, Datum, Dump, History, Mode, Outcome, Rule, Violation};

use crate::kill::daemon::{Daemon, Place};
use crate::life::{Life, Manner};
use crate::scale::start_seed;

/// Bytes of a segment that holds a whole life.
const LARGE_SEGMENT_LEN_BYTES: u64 = 4 << 20;

/// Bytes looked at together at the end of the log.
const BLOCK_LEN_BYTES: usize = 4_096;

/// Blocks taken off the end of the log: more than the requests in flight can fill.
const LOST_BLOCK_COUNT: usize = 24;

/// Takes one thing away from, or adds one to, what was truly recovered.
pub fn lies_about_what_was_kept_are_caught() {
    let (mut life, daemon) = Life::begin(Manner::new(Mode::Strict, 3), start_seed());
    life.work(400);
    daemon.kill();
    let history = life.take_history();
    let _daemon = Daemon::start(&life.place);
    let truth = life.dump();

    let (mut lost, mut half) = (truth.clone(), truth.clone());
    let (run, key, _) = acked_strict(&history, &truth, 1);
    lost.runs.get_mut(&run).unwrap().remove(&key);
    let (run, key, _) = acked_strict(&history, &truth, 2);
    half.runs.get_mut(&run).unwrap().remove(&key);
    let mut changed = truth.clone();
    let (run, key, version) = acked_strict(&history, &truth, 1);
    changed.insert(run, &key, version, Datum::Bytes(b"changed".to_vec()));
    let mut extra = truth.clone();
    extra.insert(run, "nobody/put/this", version + 1_000_000, Datum::Int(1));
    let mut older = truth.clone();
    older.insert(run, "w0/again", 1, Datum::Int(1));

    for (what, lie) in [
        ("an acknowledged commit is gone", lost),
        ("half of a commit is gone", half),
        ("a value is another", changed),
        ("there is a key nobody put", extra),
        ("there is a key of an old version nobody put", older),
    ] {
        let report = life.check(&history, lie).expect_err(what);
        println!("{what}: {}", report.violations[0]);
    }
    life.check(&history, truth).expect("the truth passes");
}

/// A daemon whose disk loses the end of the log, and one that keeps nothing at all, are caught.
pub fn a_daemon_that_keeps_less_is_caught() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::new(dir.path(), Mode::Strict, LARGE_SEGMENT_LEN_BYTES);
    let (mut life, daemon) =
        Life::begin_at(place, None, Manner::new(Mode::Strict, 0), start_seed());
    life.work(600);
    daemon.kill();
    let history = life.take_history();
    forget_end_of_log(&life.place);
    let daemon = Daemon::start(&life.place);
    let report = life
        .try_verify(&history)
        .expect_err("the end of the log is gone");
    assert!(report.violations.iter().any(is_loss), "{report}");
    println!("the end of the log is gone: {}", report.violations[0]);
    daemon.kill();
    drop(life);

    let dir = tempfile::tempdir().unwrap();
    let place = Place::new(dir.path(), Mode::InMemory, LARGE_SEGMENT_LEN_BYTES);
    let (mut life, daemon) =
        Life::begin_at(place, None, Manner::new(Mode::Strict, 0), start_seed());
    life.work(200);
    daemon.kill();
    let history = life.take_history();
    let _daemon = Daemon::start(&life.place);
    let report = life.try_verify(&history).expect_err("nothing was logged");
    assert!(report.violations.iter().any(is_loss), "{report}");
    println!("nothing was logged: {}", report.violations[0]);
}

fn is_loss(violation: &Violation) -> bool {
    matches!(violation, Violation::AckLost { .. }) && violation.rule() == Rule::Prefix
}

/// The last acknowledged Strict commit of one change, or of at least so many, that the dump shows,
/// by its first key. No unanswered write changes that key: it could have deleted the key, and then
/// a dump without it would be no lie.
fn acked_strict(history: &History, dump: &Dump, count: usize) -> ([u8; 16], String, u64) {
    let unanswered: HashSet<_> = history
        .operations
        .iter()
        .filter(|operation| operation.outcome == Outcome::Unknown)
        .filter_map(|operation| match &operation.call {
            Call::Write { run, writes, .. } => Some((run, writes)),
            Call::Read { .. } | Call::Flush => None,
        })
        .flat_map(|(run, writes)| writes.iter().map(move |write| (*run, write.key())))
        .collect();
    let mut acked: Vec<_> = history
        .operations
        .iter()
        .filter_map(|operation| {
            let Call::Write {
                run,
                mode: Mode::Strict,
                writes,
                ..
            } = &operation.call
            else {
                return None;
            };
            let (key, version) = (writes.first()?.key(), operation.version()?);
            let shows = |write: &in_mem_client::check::Write| {
                dump.entry(run, write.key())
                    .is_some_and(|entry| entry.version == version)
            };
            let shown_count = writes.iter().filter(|write| shows(write)).count();
            let is_whole = shows(&writes[0]) && count <= shown_count;
            let is_single = writes.len() == 1;
            let is_certain = !unanswered.contains(&(*run, key));
            (is_certain && is_whole && is_single == (count == 1))
                .then(|| (*run, key.to_owned(), version))
        })
        .collect();
    acked.sort_by_key(|(_, _, version)| *version);
    acked.pop().expect("a commit that shows")
}

/// Fills the last blocks of the newest segment that hold anything with zeros.
fn forget_end_of_log(place: &Place) {
    let path = place.data_dir().join("WAL/wal-000001.seg");
    let bytes = std::fs::read(&path).unwrap();
    let used = bytes
        .chunks(BLOCK_LEN_BYTES)
        .rposition(|block| block.iter().any(|byte| *byte != 0));
    let used = used.expect("the header at least") + 1;
    let kept = used - LOST_BLOCK_COUNT;
    assert!(1 < kept, "a log of {used} blocks");
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    let zeros = vec![0; LOST_BLOCK_COUNT * BLOCK_LEN_BYTES];
    file.write_all_at(&zeros, (kept * BLOCK_LEN_BYTES) as u64)
        .unwrap();
}
