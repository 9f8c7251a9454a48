//! Every numbered invariant is in the name of a test that proves it, or is known not to be built.

use super::source::{FOLDERS, files, line_of, report};

/// Where an invariant stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// A test bears its number.
    Proven,
    /// The test of this name proves it: the specification names the test.
    ProvenBy(&'static str),
    /// What it is about does not exist yet. Its first test makes it `Proven`.
    NotBuilt,
}

use State::{NotBuilt, Proven, ProvenBy};

/// Every number there is.
const INVARIANTS: &[(&str, State)] = &[
    ("R1", Proven),
    ("R2", Proven),
    ("R3", Proven),
    ("R4", Proven),
    ("R5", Proven),
    ("R6", Proven),
    ("RS1", Proven),
    ("RS2", Proven),
    ("RS3", Proven),
    ("RS4", Proven),
    ("RS5", Proven),
    ("P1", NotBuilt),
    ("P2", NotBuilt),
    ("P3", NotBuilt),
    ("P4", NotBuilt),
    ("P5", NotBuilt),
    ("P6", NotBuilt),
    ("S1", Proven),
    ("S2", Proven),
    ("S3", Proven),
    ("S4", Proven),
    ("S5", Proven),
    ("S6", Proven),
    ("S7", Proven),
    ("S8", Proven),
    ("S9", Proven),
    ("RT1", Proven),
    ("RT2", Proven),
    ("RT3", Proven),
    ("RT4", Proven),
    ("C1", Proven),
    ("C2", Proven),
    ("C3", Proven),
    ("C4", Proven),
    ("C5", Proven),
    ("C6", Proven),
    ("Five-1", Proven),
    ("Five-2", Proven),
    ("Five-3", NotBuilt),
    ("Five-4", Proven),
    ("Five-5", Proven),
    ("Eight-1", Proven),
    ("Eight-2", Proven),
    ("Eight-3", Proven),
    ("Eight-4", ProvenBy("test_compaction_read_equivalence")),
    ("Eight-5", Proven),
    ("Eight-6", Proven),
    ("Eight-7", Proven),
    ("Eight-8", Proven),
    ("TX1", Proven),
    ("TX2", Proven),
    ("TX3", Proven),
    ("TX4", Proven),
    ("TX5", Proven),
    ("TX6", Proven),
    ("TX7", Proven),
    ("TX8", Proven),
    ("TX9", NotBuilt),
    ("TX10", Proven),
    ("TX11", Proven),
    ("VAL-1", Proven),
    ("VAL-2", Proven),
    ("VAL-3", Proven),
    ("VAL-4", Proven),
    ("VAL-5", Proven),
    ("PI-1", Proven),
    ("PI-2", Proven),
    ("PI-3", Proven),
    ("PI-4", Proven),
    ("PI-5", Proven),
    ("PI-6", Proven),
    ("PI-7", Proven),
];

/// What the name of a test of an invariant begins with.
const PREFIXES: [&str; 5] = [
    "storage_invariant_",
    "recovery_invariant_",
    "retention_invariant_",
    "compaction_invariant_",
    "correctness_",
];

/// Tests that the specification names.
const NAMED: [(&str, State); 3] = [
    ("test_snapshot_wal_equivalence", Proven),
    ("test_compaction_read_equivalence", Proven),
    ("test_trimmed_version_error", Proven),
];

/// A number as it stands in a name: `Five-1` is `five_1`.
fn in_name(id: &str) -> String {
    id.to_lowercase().replace('-', "_")
}

/// Every test: the name, and the file and line it stands in. Those of a test program without
/// libtest are the strings of its table.
fn tests() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (path, text) in files(&FOLDERS, &["rs"]) {
        let mut add = |name: &str, at: usize| {
            let place = format!("{path}:{}", line_of(&text, at));
            found.push((name.to_owned(), place));
        };
        for (at, _) in text.match_indices("#[test]\n") {
            let rest = &text[at..];
            let begin = rest.find("fn ").map_or(rest.len(), |begin| begin + 3);
            let name = rest[begin..].split(['(', '<']).next().unwrap_or("");
            add(name, at);
        }
        if text.contains("const TESTS: [(&str, fn());") {
            for prefix in PREFIXES {
                for (at, _) in text.match_indices(&format!("\"{prefix}")) {
                    let name = text[at + 1..].split('"').next().unwrap_or("");
                    add(name, at);
                }
            }
        }
    }
    found
}

/// The numbers a name bears: those directly behind its prefix.
fn borne<'a>(name: &str, ids: &'a [(&'a str, State)]) -> Vec<&'a str> {
    let Some(mut rest) = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix)) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    while let Some((id, behind)) = ids.iter().find_map(|(id, _)| {
        let behind = rest.strip_prefix(&in_name(id))?.strip_prefix('_')?;
        Some((*id, behind))
    }) {
        found.push(id);
        rest = behind.strip_prefix("and_").unwrap_or(behind);
    }
    found
}

#[test]
fn every_invariant_is_in_the_name_of_a_test_or_not_built() {
    let tests = tests();
    let mut places = Vec::new();
    for (id, state) in INVARIANTS {
        let bearers = tests
            .iter()
            .filter(|(name, _)| borne(name, INVARIANTS).contains(id));
        let bearers: Vec<&String> = bearers.map(|(_, place)| place).collect();
        match (state, bearers.first()) {
            (ProvenBy(by), _) if !tests.iter().any(|(name, _)| name == by) => {
                places.push(format!("{id}: there is no test {by}"));
            }
            (Proven, None) => places.push(format!("{id}: no test bears `_{}_`", in_name(id))),
            (NotBuilt, Some(place)) => {
                places.push(format!(
                    "{id}: {place} is a test of it: make it Proven here"
                ));
            }
            _ => {}
        }
    }
    for (named, state) in NAMED {
        let is_there = tests.iter().any(|(name, _)| name == named);
        if is_there != (state == Proven) {
            places.push(format!(
                "{named}: there: {is_there}, in the table: {state:?}"
            ));
        }
    }
    report(
        "the table of invariants and the names of the tests differ",
        &places,
    );
}

/// The table is read right: one number is not taken for another that it begins with.
#[test]
fn a_number_in_a_name_is_the_whole_number() {
    let borne = |name| borne(name, INVARIANTS);
    assert_eq!(borne("correctness_tx10_volatile"), ["TX10"]);
    assert_eq!(borne("correctness_pi_4_pi_6_entities"), ["PI-4", "PI-6"]);
    assert_eq!(
        borne("recovery_invariant_five_1_and_r1_x"),
        ["Five-1", "R1"]
    );
    assert!(borne("recovery_invariant_what_r1_x").is_empty());
    assert!(borne("r1_two_copies").is_empty());
}
