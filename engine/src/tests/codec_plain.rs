//! What of keys and values can be found in the files of a database: nothing, with a codec that hides
//! them, wherever bytes come to lie.

use std::collections::BTreeSet;

use in_mem_model::{RetentionPolicy, Value, encode};
use in_mem_wal::disk::{SimRng, SimWorld};

use super::checkpoint::SEED;
use super::codec::{ENCRYPTING, cloned, over_with};
use super::{text, world};
use crate::{BeginRun, CompactMode, Database, OnceRequest};

/// What a client has written, in parts that no drawing of a format has by itself.
const WRITTEN: [&str; 6] = [
    "plain-key-",
    "plain-value-",
    "plain-run-",
    "plain-tag",
    "plain-meta",
    "plain-reason",
];

/// The kinds of files of a directory in which something written was found, and all kinds seen.
#[derive(Debug, Default, PartialEq, Eq)]
struct Search {
    found: BTreeSet<String>,
    seen: BTreeSet<&'static str>,
}

impl Search {
    fn look(&mut self, world: &SimWorld) {
        for path in world.paths() {
            let bytes = world.read_file(&path).unwrap();
            self.seen.insert(kind_of(&path));
            let firsts = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'p');
            for (at, _) in firsts {
                let rest = &bytes[at..];
                for written in WRITTEN.iter().filter(|it| rest.starts_with(it.as_bytes())) {
                    self.found.insert(format!("{} {written}", kind_of(&path)));
                }
            }
        }
    }
}

fn kind_of(path: &str) -> &'static str {
    match path {
        path if path.ends_with(".seg") => "segment",
        path if path.ends_with(".chk") => "snapshot",
        path if path.starts_with("QUARANTINE/") => "quarantine",
        path if path.starts_with("WAL/spare") => "spare",
        path if path.starts_with("RESERVE") => "reserve",
        "MANIFEST" => "manifest",
        "LOCK" => "lock",
        _ => "other",
    }
}

/// Commits of every kind: their keys, values and names.
fn write(database: &Database, rng: &mut SimRng) {
    let begin = BeginRun {
        name: Some(format!("plain-run-{}", rng.next_u64())),
        tags: vec!["plain-tag".to_owned()],
        ..BeginRun::default()
    };
    let (info, _) = database.runs().begin_run(begin).unwrap();
    let run = database.run(info.id).unwrap();
    let runs = database.runs();
    let object = [("plain-meta".to_owned(), Value::Bool(true))];
    let metadata = encode(&Value::Object(object.into())).unwrap();
    runs.update_metadata(run.id(), metadata).unwrap();
    for number in 0..12 {
        let key = format!("plain-key-{}", rng.below(40));
        let value = format!("plain-value-{number}").repeat(1 + rng.index(900));
        run.kv().put(&key, &text(&value)).unwrap();
        if number % 4 == 0 {
            run.kv().delete(&key).unwrap();
        }
    }
    let once = OnceRequest {
        ..super::once::of_client(rng.below(4), database.version() + 1)
    };
    let key = b"plain-key-once".as_slice();
    let value = text("plain-value-once");
    let step = crate::Step::Put {
        key,
        value: value.as_ref(),
    };
    super::once::step(&run, step, &once).unwrap();
    let newest = RetentionPolicy::keep_last(1).unwrap();
    runs.set_retention_policy(run.id(), &newest).unwrap();
    runs.abort_run(run.id(), "plain-reason").unwrap();
}

/// Several lives in one directory: crashes with a torn tail, which goes to quarantine and has the
/// last segment written anew; checkpoints; versions and segments that are given up and used again;
/// an export.
fn live(codec: &str) -> Search {
    let mut search = Search::default();
    let mut rng = SimRng::new(SEED);
    let mut world = world();
    for life in 0..3 {
        let database = over_with(&world, codec).open().unwrap();
        for _ in 0..8 {
            write(&database, &mut rng);
            search.look(&world);
        }
        database.checkpoint().unwrap();
        write(&database, &mut rng);
        database.checkpoint().unwrap();
        database.compact(CompactMode::WALOnly).unwrap();
        write(&database, &mut rng);
        let compacted = database.compact(CompactMode::Full).unwrap();
        assert_ne!(compacted.versions_removed, 0);
        search.look(&world);
        write(&database, &mut rng);
        search.look(&world);
        search.look(&cloned(&database));
        let killed = world.kill(life);
        drop(database);
        tear(&killed);
        world = killed;
    }
    let database = over_with(&world, codec).open().unwrap();
    assert_ne!(database.last_recovery_result().unwrap().truncated_bytes, 0);
    database.shutdown().unwrap();
    search.look(&world);
    search
}

/// Changes the last byte of the log, as a write that was cut short does.
fn tear(world: &SimWorld) {
    let paths = world.paths();
    let last = paths.iter().filter(|path| path.ends_with(".seg")).max();
    let last = last.unwrap();
    let bytes = world.read_file(last).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    assert!(world.flip_byte(last, end as u64, 1));
}

#[test]
fn storage_invariant_s8_no_plain_key_or_value_rests_in_any_file_of_a_codec_that_hides_them() {
    // Without one they are everywhere, or the search would prove nothing.
    let plain = live("identity");
    for kind in ["segment", "snapshot", "quarantine"] {
        for written in WRITTEN {
            let expected = format!("{kind} {written}");
            let is_rare = kind == "quarantine" || written == "plain-reason";
            assert!(
                is_rare || plain.found.contains(&expected),
                "{expected}: {plain:?}"
            );
        }
    }
    assert!(
        plain.found.iter().any(|it| it.starts_with("quarantine")),
        "{plain:?}"
    );
    for codec in ["scramble"].into_iter().chain(ENCRYPTING) {
        let hidden = live(codec);
        assert_eq!(hidden.found, BTreeSet::new(), "{codec}");
        for kind in ["manifest", "quarantine", "segment", "snapshot"] {
            assert!(hidden.seen.contains(kind), "{codec}: {hidden:?}");
        }
    }
}
