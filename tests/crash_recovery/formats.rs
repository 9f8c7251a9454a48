//! The upgrade rule: this build opens what every earlier format wrote, with every version of every
//! key as it was, and refuses, whole and by name, what only a newer build can have written.
//!
//! `tests/fixtures/format-N/` holds directories written by the first build of format N, and beside
//! each what it must show. `IN_MEM_WRITE_FIXTURES=DIR cargo test --test crash_recovery formats`
//! writes those of this build into `DIR`.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use in_mem_engine::model::{Durability, RetentionPolicy, RunId, SYSTEM_NAMESPACE, Value, encode};
use in_mem_engine::{BeginRun, CompactMode, Database, DatabaseConfig, OpenError, RunFilter};

use super::real_files::copy_all;

/// The format directories that exist, and the format of this build last.
const FORMATS: [&str; 1] = ["format-1"];

/// The databases of a format.
const DATABASES: [&str; 3] = ["closed", "killed", "compacted"];

/// Offset of the first batch of a segment, bytes.
const DATA_OFFSET: usize = 4096;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// A copy of a fixture, with the directories that are empty and thus not kept.
fn take(kept: &Path, path: &Path) {
    copy_all(kept, path);
    fs::create_dir_all(path.join("SNAPSHOTS")).expect("a directory");
}

fn config() -> DatabaseConfig {
    let mut config = DatabaseConfig::strict();
    config.wal_config.segment_len_bytes = 64 << 10;
    config.wal_config.buffered_sync_len_bytes = 32 << 10;
    config.wal_config.record_len_bytes_max = 64 << 10;
    config
}

fn open(path: &Path) -> Result<Database, OpenError> {
    Database::builder().path(path).config(config()).open()
}

/// Batches begin at multiples of this, bytes.
const BATCH_ALIGN_BYTES: usize = 4096;

/// Any record with a mutation is longer, bytes.
const MARK_LEN_BYTES_MAX: usize = 80;

/// Every key the fixtures know, deleted ones too.
fn keys() -> Vec<String> {
    let named = [
        "null", "bool", "int", "float", "nan", "text", "bytes", "array", "object", "counter",
        "gone", "twice", "large",
    ];
    let many = (0..12).map(|number| format!("many/{number:02}"));
    named.iter().map(ToString::to_string).chain(many).collect()
}

/// Commits one of everything this build can store.
fn fill(database: &Database) {
    let run = database.default_run();
    let put = |key: &str, value: Value| {
        let value = encode(&value).expect("a value");
        run.kv().put(key, &value).expect("committed");
    };
    put("null", Value::Null);
    put("bool", Value::Bool(true));
    put("int", Value::Int(i64::MIN));
    put("float", Value::Float(-0.0));
    put("nan", Value::Float(f64::from_bits(0x7FF8_0000_0000_0001)));
    put("text", Value::from("caf\u{e9}\u{0}"));
    put("bytes", Value::Bytes((0..=255).collect()));
    put("array", Value::Array(vec![Value::Int(1), Value::Null]));
    let object = [("b", Value::Int(1)), ("a", Value::Bool(false))];
    let object = object.map(|(key, value)| (key.to_owned(), value));
    put("object", Value::Object(object.into()));
    for number in 0..5 {
        run.kv().incr("counter", number).expect("committed");
    }
    put("gone", Value::from("deleted below"));
    run.kv().delete("gone").expect("committed");
    put("twice", Value::from("first"));
    put("twice", Value::from("second"));
    let buffered = run.kv().with_durability(Durability::Buffered);
    let large = encode(&Value::from("x".repeat(6_000).as_str())).expect("a value");
    buffered.put("large", &large).expect("committed");
    for number in 0..12 {
        let text = format!("value {number} ").repeat(9);
        put(&format!("many/{number:02}"), Value::from(text.as_str()));
    }
    let one = encode(&Value::Int(1)).expect("a value");
    let pair: [(&[u8], _); 2] = [(b"many/00", &one), (b"many/01", &one)];
    run.kv().put_many(&pair).expect("committed");
    fill_runs(database);
    database.flush().expect("durable");
}

/// Two snapshots with commits between and behind them, and no more of the log than they need.
fn compact(database: &Database) {
    let run = database.default_run();
    for round in 0..2 {
        database.checkpoint().expect("a snapshot");
        for number in 0..12 {
            let text = format!("{round} and {number} ").repeat(500);
            let value = encode(&Value::from(text.as_str())).expect("a value");
            run.kv().put("large", &value).expect("committed");
        }
        run.kv().delete("large").expect("committed");
    }
    database.checkpoint().expect("a snapshot");
    let info = database.compact(CompactMode::WALOnly).expect("compacted");
    assert_ne!(info.wal_segments_removed, 0);
    run.kv().incr("counter", 1).expect("committed");
}

/// One run of every status.
fn fill_runs(database: &Database) {
    let runs = database.runs();
    let begin = |name: &str| {
        let metadata = Value::Object(vec![("model".to_owned(), Value::from("m"))]);
        let begin = BeginRun {
            name: Some(name.to_owned()),
            parent: Some(RunId::DEFAULT),
            tags: vec!["red".to_owned(), "blue".to_owned()],
            metadata: Some(encode(&metadata).expect("a value")),
            description: Some(format!("the run {name}")),
            owner: None,
        };
        let id = runs.begin_run(begin).expect("begun").0.id;
        let value = encode(&Value::from(name)).expect("a value");
        let run = database.run(id).expect("begun");
        run.kv().put("text", &value).expect("committed");
        id
    };
    begin("active");
    runs.end_run(begin("completed")).expect("ended");
    runs.fail(begin("failed"), "it broke").expect("failed");
    runs.cancel(begin("cancelled")).expect("cancelled");
    runs.pause(begin("paused")).expect("paused");
    let archived = begin("archived");
    runs.end_run(archived).expect("ended");
    runs.archive(archived).expect("archived");
    let changed = begin("changed");
    runs.add_tags(changed, &["green"]).expect("tagged");
    runs.remove_tags(changed, &["red"]).expect("tagged");
}

/// Everything a database shows, as text.
fn contents(database: &Database) -> String {
    let mut text = String::new();
    let mut runs = database.runs().list_runs(&RunFilter::default()).runs;
    runs.sort_by_key(|info| info.id);
    for info in &runs {
        let metadata = in_mem_engine::model::json::to_text(&info.metadata);
        writeln!(
            text,
            "{} {:?} parent {:?} {} {} {} {:?} {:?} {:?} {metadata} {:?} {:?} {}",
            info.id,
            info.name,
            info.parent.map(|parent| parent.to_string()),
            info.status.name(),
            info.created_at_us,
            info.updated_at_us,
            info.completed_at_us,
            info.description,
            info.tags,
            info.error,
            info.owner,
            info.version,
        )
        .expect("a string");
    }
    for id in database.store().run_ids() {
        let run = database.run(id).expect("it is listed");
        for key in keys() {
            let history = run.kv().history(&key, None, None).expect("readable");
            for entry in history {
                let (version, at) = (entry.version, entry.timestamp_us);
                write!(text, "{id} {key} {version} {at} ").expect("a string");
                match entry.value {
                    Some(value) => value.iter().for_each(|byte| {
                        write!(text, "{byte:02x}").expect("a string");
                    }),
                    None => text.push_str("deleted"),
                }
                text.push('\n');
            }
        }
    }
    text
}

/// Writes the databases of this build's format, and what they show.
fn write_fixtures(target: &Path) {
    for name in DATABASES {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("live.inmem");
        let database = open(&path).expect("created");
        fill(&database);
        if name == "compacted" {
            compact(&database);
        }
        let shown = contents(&database);
        if name != "killed" {
            database.close().expect("closed");
        }
        let kept = target.join(format!("{name}.inmem"));
        copy_all(&path, &kept);
        drop(database);
        let spares = fs::read_dir(kept.join("WAL"))
            .expect("a directory")
            .flatten();
        for file in spares.filter(|file| file.path().extension().is_some_and(|it| it == "tmp")) {
            fs::remove_file(file.path()).expect("a spare holds nothing");
        }
        fs::write(target.join(format!("{name}.txt")), shown).expect("written");
    }
}

#[test]
fn every_earlier_format_opens_and_shows_every_version_it_held() {
    if let Some(target) = std::env::var_os("IN_MEM_WRITE_FIXTURES") {
        write_fixtures(Path::new(&target));
    }
    for format in FORMATS {
        for name in DATABASES {
            let kept = fixtures().join(format);
            let expected = fs::read_to_string(kept.join(format!("{name}.txt"))).expect("kept");
            assert!(
                40 < expected.lines().count(),
                "{format} {name} shows little"
            );
            let directory = tempfile::tempdir().expect("a directory");
            let path = directory.path().join("data.inmem");
            take(&kept.join(format!("{name}.inmem")), &path);
            for opening in 1..=2 {
                let database = open(&path).expect("an earlier format opens");
                let shown = contents(&database);
                assert!(
                    shown == expected,
                    "{format} {name}, opening {opening}:\n{shown}"
                );
                database.close().expect("closed");
            }
            let database = open(&path).expect("opened");
            let before = database.version();
            let value = encode(&Value::from("new")).expect("a value");
            let version = database.default_run().kv().put("twice", &value);
            assert!(
                before < version.expect("an earlier format goes on"),
                "{format} {name}"
            );
        }
    }
}

/// The drawings of the formats are enough for a reader that shares no code with this build.
#[test]
fn a_reader_written_from_the_formats_alone_finds_every_version_of_every_key() {
    for name in ["closed", "compacted"] {
        let kept = fixtures().join("format-1");
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("data.inmem");
        take(&kept.join(format!("{name}.inmem")), &path);
        let reader = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/crash_recovery/reader.py");
        let Ok(output) = Command::new("python3").arg(reader).arg(&path).output() else {
            println!("SKIPPED: needs python3");
            return;
        };
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: {said}");
        let found = String::from_utf8(output.stdout).expect("text");
        let mut found: Vec<&str> = found.lines().collect();
        found.sort_unstable();
        let expected = fs::read_to_string(kept.join(format!("{name}.txt"))).expect("kept");
        // A run takes more words than a version.
        let is_version = |line: &&str| line.split(' ').count() == 5;
        let mut expected: Vec<&str> = expected.lines().filter(is_version).collect();
        expected.sort_unstable();
        assert!(30 < expected.len());
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn the_reader_shows_what_expires_and_what_a_full_compaction_left() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("data.inmem");
    let database = open(&path).expect("created");
    let policy = RetentionPolicy::keep_last(2).expect("not zero");
    let runs = database.runs();
    runs.set_retention_policy(RunId::DEFAULT, &policy)
        .expect("committed");
    let run = database.default_run();
    let hour = Duration::from_secs(3_600);
    let put = |number: i64| {
        let value = encode(&Value::Int(number)).expect("a value");
        run.kv().put("int", &value).expect("committed");
        run.kv()
            .put_with_ttl("text", &value, hour)
            .expect("committed");
    };
    (0..5).for_each(put);
    let info = database.compact(CompactMode::Full).expect("compacted");
    assert_eq!(info.versions_removed, 6);
    (5..7).for_each(put);
    let expected = contents(&database);
    let mut expected: Vec<&str> = expected.lines().collect();
    expected.retain(|line| line.split(' ').count() == 5);
    expected.sort_unstable();
    assert_eq!(expected.len(), 8);
    database.close().expect("closed");
    let reader = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/crash_recovery/reader.py");
    let Ok(output) = Command::new("python3").arg(reader).arg(&path).output() else {
        println!("SKIPPED: needs python3");
        return;
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let found = String::from_utf8(output.stdout).expect("text");
    let mut found: Vec<&str> = found.lines().collect();
    found.retain(|line| !line.contains(SYSTEM_NAMESPACE));
    found.sort_unstable();
    assert_eq!(found, expected);
}

#[test]
fn the_reader_refuses_what_another_codec_has_stored_and_names_the_codec() {
    let reader = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/crash_recovery/reader.py");
    for codec in ["lz4", "aes-256-gcm"] {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("data.inmem");
        let mut settings = config().with_codec(codec);
        if in_mem_wal::codec::needs_key(codec) {
            let key = in_mem_wal::codec::CodecKey::from_bytes(&[1; 32]);
            settings = settings.with_key(key);
        }
        let database = Database::builder().path(&path).config(settings).open();
        database.expect("created").close().expect("closed");
        let Ok(output) = Command::new("python3").arg(&reader).arg(&path).output() else {
            println!("SKIPPED: needs python3");
            return;
        };
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        let expected = format!("stored with the codec {codec}");
        assert!(
            said.contains(&expected) && !said.contains("Traceback"),
            "{said}"
        );
        assert!(output.stdout.is_empty());
    }
}

/// Whoever raises a format number keeps a directory of the old format first.
#[test]
fn the_formats_of_this_build_are_named_and_each_has_a_fixture() {
    let newest = [
        in_mem_wal::format::header::FORMAT_VERSION,
        u32::from(in_mem_wal::format::record::FORMAT_VERSION),
        u32::from(in_mem_engine::WRITESET_FORMAT_VERSION),
        in_mem_snapshot::FORMAT_VERSION,
        in_mem_snapshot::SNAPSHOT_FORMAT_VERSION,
    ];
    let highest = newest.into_iter().max().expect("five of them");
    assert_eq!(FORMATS.len(), usize::try_from(highest).expect("small"));
    for format in FORMATS {
        assert!(fixtures().join(format).is_dir(), "{format} has no fixture");
    }
    let output = Command::new(env!("CARGO_BIN_EXE_inmemd"))
        .arg("--version")
        .output();
    let printed = String::from_utf8(output.expect("it runs").stdout).expect("text");
    let [segment, record, writeset, manifest, snapshot] = newest;
    let protocol = in_mem_ipc::frame::PROTOCOL_VERSION;
    let expected = format!(
        "inmemd {}\nprotocol {protocol}\nlog segment {segment}\nlog record {record}\n\
         writeset {writeset}\nmanifest {manifest}\nsnapshot {snapshot}\n",
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(printed, expected);
}

/// Raises a number in a file and makes its checksum right again.
struct Newer {
    what: &'static str,
    database: &'static str,
    file: &'static str,
    change: fn(&mut Vec<u8>),
}

/// Changes the first record behind a mark, and its checksum.
fn newer_record(bytes: &mut [u8], change: fn(&mut [u8])) {
    let batches = (DATA_OFFSET..bytes.len()).step_by(BATCH_ALIGN_BYTES);
    let mut behind_marks = batches.map(|at| at + record_len(bytes, at));
    let at = behind_marks.find(|at| MARK_LEN_BYTES_MAX < record_len(bytes, *at));
    let at = at.expect("a record");
    let len = record_len(bytes, at);
    let record = &mut bytes[at..at + len];
    change(record);
    let crc = crc32fast::hash(&record[4..len - 4]).to_le_bytes();
    record[len - 4..].copy_from_slice(&crc);
}

fn record_len(bytes: &[u8], at: usize) -> usize {
    let field: [u8; 4] = bytes[at..at + 4].try_into().expect("four bytes");
    usize::try_from(u32::from_le_bytes(field)).expect("small") + 4
}

const NEWER: [Newer; 6] = [
    Newer {
        what: "manifest format 2",
        database: "closed",
        file: "MANIFEST",
        change: |bytes| {
            bytes[4] = 2;
            let end = bytes.len() - 4;
            let crc = crc32fast::hash(&bytes[..end]).to_le_bytes();
            bytes[end..].copy_from_slice(&crc);
        },
    },
    Newer {
        what: "snapshot format 2",
        database: "compacted",
        file: "SNAPSHOTS/snap-000003.chk",
        change: |bytes| bytes[10] = 2,
    },
    Newer {
        what: "log segment format 2",
        database: "closed",
        file: "WAL/wal-000001.seg",
        change: |bytes| bytes[4] = 2,
    },
    Newer {
        what: "log record format 2",
        database: "closed",
        file: "WAL/wal-000001.seg",
        change: |bytes| newer_record(bytes, |record| record[4] = 2),
    },
    Newer {
        what: "an entry type of a later primitive",
        database: "closed",
        file: "WAL/wal-000001.seg",
        change: |bytes| newer_record(bytes, |record| record[37 + 4 + 1] = 0xEE),
    },
    Newer {
        what: "a payload of a later version",
        database: "closed",
        file: "WAL/wal-000001.seg",
        change: |bytes| newer_record(bytes, |record| record[37 + 4 + 2] = 2),
    },
];

#[test]
fn what_a_newer_build_wrote_is_refused_with_a_message_and_left_as_it_is() {
    for newer in NEWER {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("data.inmem");
        let kept = format!("format-1/{}.inmem", newer.database);
        take(&fixtures().join(kept), &path);
        let file = path.join(newer.file);
        let mut bytes = fs::read(&file).expect("a file of the fixture");
        (newer.change)(&mut bytes);
        fs::write(&file, &bytes).expect("written");
        let before = files(&path);

        let error = open(&path).err().expect(newer.what);
        assert!(error.needs_newer_build(), "{}: {error:?}", newer.what);
        let output = Command::new(env!("CARGO_BIN_EXE_inmemd"))
            .arg("--data-dir")
            .arg(&path)
            .arg("--socket")
            .arg(directory.path().join("inmem.sock"))
            .output()
            .expect("it runs");
        assert_eq!(output.status.code(), Some(1), "{}", newer.what);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("a newer in-mem"), "{}: {said}", newer.what);
        assert_eq!(files(&path), before, "{} was changed", newer.what);
    }
}

/// Names and contents of all files but the lock.
fn files(path: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path).expect("a directory").flatten() {
        if entry.path().is_dir() {
            found.extend(files(&entry.path()));
        } else if entry.file_name() != "LOCK" {
            found.push((entry.path(), fs::read(entry.path()).expect("readable")));
        }
    }
    found.sort();
    found
}
