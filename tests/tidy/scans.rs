//! Words and calls that may not occur, or only in their place.

use super::source::{FOLDERS, Source, files, line_of, report, root, sources, words};

/// Every use of `pattern` in the code of files whose path `is_scanned` picks.
fn uses(pattern: &str, is_scanned: impl Fn(&str) -> bool) -> Vec<String> {
    let mut places = Vec::new();
    for source in sources().iter().filter(|source| is_scanned(&source.path)) {
        for at in words(&source.code, pattern) {
            let number = line_of(&source.code, at);
            places.push(format!("{}:{number}: {pattern}", source.path));
        }
    }
    places
}

/// Sources of the product; tests beside them included, integration tests and benches not.
fn is_product(path: &str) -> bool {
    !path.starts_with("tests/") && !path.starts_with("benches/") && !path.contains("/benches/")
}

fn is_test(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/") || path.starts_with("tests/")
}

/// The part of a path's file that is not its inline tests.
fn without_tests(source: &Source) -> &str {
    let end = source
        .code
        .find("#[cfg(test)]\nmod tests {")
        .unwrap_or(source.code.len());
    &source.code[..end]
}

#[test]
fn files_are_touched_only_behind_the_disk_seam() {
    let mut places = Vec::new();
    for source in sources().iter().filter(|source| is_product(&source.path)) {
        let is_excepted = source.path.starts_with("wal/src/disk/")
            || source.path.starts_with("client/")
            || is_test(&source.path);
        for pattern in ["std::fs", "use std::{fs"] {
            for (at, _) in without_tests(source).match_indices(pattern) {
                if !is_excepted {
                    let number = line_of(&source.code, at);
                    places.push(format!("{}:{number}: {pattern}", source.path));
                }
            }
        }
    }
    report(
        "files belong behind wal/src/disk: take a Disk, or a function of its root",
        &places,
    );
}

#[test]
fn time_is_read_only_behind_the_clock_seam() {
    let mut places = Vec::new();
    for source in sources().iter().filter(|source| is_product(&source.path)) {
        // The command line and its demo measure what they show; nothing they do depends on it.
        let is_excepted = source.path == "wal/src/clock.rs"
            || source.path.starts_with("client/src/bin/")
            || is_test(&source.path);
        for pattern in ["Instant::now", "SystemTime::now"] {
            for (at, _) in without_tests(source).match_indices(pattern) {
                if !is_excepted {
                    let number = line_of(&source.code, at);
                    places.push(format!("{}:{number}: {pattern}", source.path));
                }
            }
        }
    }
    report("time comes from wal/src/clock.rs: take a Clock", &places);
}

#[test]
fn nothing_sleeps_instead_of_waiting_for_an_event() {
    // A client waits between tries; whatever else waits, waits for something.
    let places = uses("sleep", |path| !path.starts_with("client/src/"));
    report(
        "wait for an event with a deadline, or step the clock",
        &places,
    );
}

#[test]
fn nothing_is_left_for_later() {
    let mut places = Vec::new();
    for (marker, is_code) in [
        (concat!("TO", "DO"), false),
        (concat!("FIX", "ME"), false),
        (concat!("XX", "X"), false),
        ("dbg!", true),
        ("todo!", true),
        ("unimplemented!", true),
        ("#[ignore", true),
        ("#[should_panic", true),
    ] {
        for source in sources() {
            let text = if is_code { &source.code } else { &source.text };
            for (at, _) in text.match_indices(marker) {
                places.push(format!("{}:{}: {marker}", source.path, line_of(text, at)));
            }
        }
    }
    report("do it, or leave it out", &places);
}

#[test]
fn sources_are_plain_ascii_with_short_lines_and_no_stray_space() {
    let mut places = Vec::new();
    for source in sources() {
        for (index, line) in source.text.lines().enumerate() {
            if !line.is_ascii() {
                places.push(format!("{}:{}: not ASCII", source.path, index + 1));
            }
            if line.ends_with([' ', '\t']) {
                places.push(format!("{}:{}: ends with a space", source.path, index + 1));
            }
        }
    }
    report(
        "write \\u{..} in strings and plain words in comments",
        &places,
    );
}

/// What is banned, where, and what to do instead.
const BANNED: [(&str, &[&str], &str); 7] = [
    (
        "next_txn_id",
        &["wal/", "snapshot/"],
        "storage never assigns versions",
    ),
    (
        "generate_version",
        &["wal/", "snapshot/"],
        "storage never assigns versions",
    ),
    ("update_record", &FOLDERS, "records are immutable"),
    ("modify_segment", &FOLDERS, "closed segments are immutable"),
    ("skip_fsync", &FOLDERS, "no promise without its sync"),
    ("optimization_hack", &FOLDERS, "say what it does"),
    (
        "batch_buffer.push",
        &FOLDERS,
        "records reach a batch through the appender",
    ),
];

#[test]
fn words_of_known_mistakes_do_not_occur() {
    let mut places = Vec::new();
    for source in sources()
        .iter()
        .filter(|source| !source.path.starts_with("tests/tidy"))
    {
        for (word, folders, instead) in BANNED {
            if !folders.iter().any(|folder| source.path.starts_with(folder)) {
                continue;
            }
            for (at, _) in source.text.match_indices(word) {
                let number = line_of(&source.text, at);
                places.push(format!("{}:{number}: {word}: {instead}", source.path));
            }
        }
    }
    report("a name that stands for a mistake", &places);
}

#[test]
fn no_other_product_and_no_plan_is_named() {
    let reserved = concat!("stra", "ta");
    let mut folders = FOLDERS.to_vec();
    folders.extend(["docs", "systemd"]);
    let mut places = Vec::new();
    let mut reserved_count = 0;
    for (path, text) in files(&folders, &["rs", "md", "toml", "service", "socket", "sh"]) {
        let lower = text.to_lowercase();
        let own = lower
            .find("#[cfg(test)]\nmod tests {")
            .unwrap_or(lower.len());
        for (at, _) in lower[..own].match_indices(reserved) {
            reserved_count += 1;
            if !path.starts_with("model/src/") {
                let number = line_of(&lower, at);
                places.push(format!("{path}:{number}: use model::SYSTEM_NAMESPACE"));
            }
        }
        let is_source = path.ends_with(".rs");
        for word in [
            "milestone",
            "epic",
            "sprint",
            "roadmap",
            "workaround for issue",
        ] {
            for at in words(&lower, word).filter(|_| is_source && !path.starts_with("tests/tidy")) {
                places.push(format!("{path}:{}: {word}", line_of(&lower, at)));
            }
        }
    }
    report(
        "the product is in-mem, and code outlives every plan",
        &places,
    );
    assert_eq!(
        reserved_count, 1,
        "the reserved prefix is written down once"
    );
}

#[test]
fn crates_do_not_hand_each_other_on() {
    let mut places = Vec::new();
    for source in sources() {
        for (at, _) in source.code.match_indices("pub use in_mem_") {
            let line = source.code[at..].lines().next().unwrap_or("");
            let is_named = matches!(
                source.path.as_str(),
                "client/src/lib.rs" | "engine/src/lib.rs"
            ) && line == "pub use in_mem_model as model;";
            if !is_named {
                places.push(format!(
                    "{}:{}: {line}",
                    source.path,
                    line_of(&source.code, at)
                ));
            }
        }
    }
    report(
        "depend on the crate that owns it; only `model` is handed on",
        &places,
    );
}

#[test]
fn recovery_replays_versions_and_the_commit_path_names_every_mode() {
    let all = sources();
    let engine = |source: &&Source| source.path.starts_with("engine/src/");
    let has = |word: &str| {
        all.iter()
            .filter(engine)
            .any(|source| source.code.contains(word))
    };
    assert!(
        has("fn apply_versioned"),
        "replay applies the version found in the record"
    );
    let is_path_named = |source: &&Source| {
        source.code.contains("fn wal_path") || source.code.contains("fn storage_path")
    };
    let leaks: Vec<String> = all
        .iter()
        .filter(engine)
        .filter(is_path_named)
        .map(|found| found.path.clone())
        .collect();
    report("no storage path in the primitive API", &leaks);
}

#[test]
fn limits_carry_their_unit() {
    const UNITS: [&str; 11] = [
        "BYTES",
        "COUNT",
        "US",
        "MS",
        "DEPTH",
        "DIMENSION",
        "MILLE",
        "STEP",
        "OFFSET",
        "FACTOR",
        // The name of the specification: contexts kept for each thread.
        "SIZE",
    ];
    let mut places = Vec::new();
    for source in sources()
        .iter()
        .filter(|source| source.path.ends_with("/limits.rs"))
    {
        for (at, _) in source.code.match_indices("pub const ") {
            let name = source.code[at + 10..]
                .split(':')
                .next()
                .unwrap_or("")
                .trim();
            let is_number = source.code[at..]
                .split_once(':')
                .is_some_and(|(_, kind)| kind.trim_start().starts_with(['u', 'i', 'f']));
            let has_unit = name.split('_').any(|part| UNITS.contains(&part));
            if is_number && !has_unit {
                places.push(format!(
                    "{}:{}: {name}",
                    source.path,
                    line_of(&source.code, at)
                ));
            }
        }
    }
    report("a limit ends with its unit", &places);
}

#[test]
fn the_readme_and_the_licences_are_there() {
    for name in ["README.md", "LICENSE-MIT", "LICENSE-APACHE", "Cargo.lock"] {
        assert!(root().join(name).is_file(), "{name} is missing");
    }
}
