//! The arrows between crates, from the manifests.

use std::collections::BTreeSet;
use std::fs;

use super::source::{report, root};

/// Every arrow that exists, and no other: who, and whom it may depend on.
const ARROWS: [(&str, &[&str]); 7] = [
    ("model", &[]),
    ("wal", &[]),
    ("snapshot", &["wal"]),
    ("ipc", &["model"]),
    ("engine", &["model", "snapshot", "wal"]),
    ("daemon", &["engine", "ipc", "model", "wal"]),
    ("client", &["ipc", "model"]),
];

/// Integration test binaries allowed; each links everything.
const TEST_COUNT_MAX: usize = 15;

fn manifest(folder: &str) -> toml::Table {
    let path = root().join(folder).join("Cargo.toml");
    let text = fs::read_to_string(&path).expect("every crate has a manifest");
    text.parse()
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn own_dependencies(manifest: &toml::Table, table: &str) -> BTreeSet<String> {
    let names = manifest
        .get(table)
        .and_then(toml::Value::as_table)
        .into_iter()
        .flatten();
    names
        .filter_map(|(name, _)| name.strip_prefix("in-mem-").map(str::to_owned))
        .collect()
}

#[test]
fn the_arrows_between_crates_are_exactly_the_eleven_of_the_map() {
    let mut places = Vec::new();
    let mut arrow_count = 0;
    for (folder, allowed) in ARROWS {
        let manifest = manifest(folder);
        let allowed: BTreeSet<String> = allowed.iter().map(|name| (*name).to_owned()).collect();
        let found = own_dependencies(&manifest, "dependencies");
        arrow_count += found.len();
        for name in found.symmetric_difference(&allowed) {
            places.push(format!("{folder}/Cargo.toml: {name}"));
        }
        for table in ["dev-dependencies", "build-dependencies"] {
            for name in own_dependencies(&manifest, table).difference(&allowed) {
                places.push(format!("{folder}/Cargo.toml [{table}]: {name}"));
            }
        }
    }
    report("an arrow is missing, or outside the map", &places);
    assert_eq!(arrow_count, 11);
}

#[test]
fn every_member_of_the_workspace_is_on_the_map_and_inherits_the_lints() {
    let workspace = manifest("");
    let members = workspace["workspace"]["members"]
        .as_array()
        .expect("a list of members");
    let members: Vec<&str> = members.iter().filter_map(toml::Value::as_str).collect();
    let mut places = Vec::new();
    for member in &members {
        if !ARROWS.iter().any(|(folder, _)| folder == member) {
            places.push(format!("{member}: not on the map"));
        }
        let manifest = manifest(member);
        if manifest
            .get("lints")
            .and_then(|lints| lints["workspace"].as_bool())
            != Some(true)
        {
            places.push(format!(
                "{member}/Cargo.toml: [lints] workspace = true is missing"
            ));
        }
        for (name, value) in manifest["dependencies"].as_table().into_iter().flatten() {
            if value.get("workspace").and_then(toml::Value::as_bool) != Some(true) {
                places.push(format!(
                    "{member}/Cargo.toml: {name} is not from the workspace table"
                ));
            }
        }
    }
    report("a member does not follow the workspace", &places);
    assert_eq!(members.len(), ARROWS.len());
}

#[test]
fn every_integration_test_has_an_entry_and_there_are_few() {
    let workspace = manifest("");
    let entries = workspace["test"].as_array().expect("the test targets");
    let paths: BTreeSet<String> = entries
        .iter()
        .filter_map(|entry| entry.get("path")?.as_str().map(str::to_owned))
        .collect();
    let mut places = Vec::new();
    for entry in fs::read_dir(root().join("tests"))
        .expect("the tests")
        .flatten()
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("tests/{name}");
        if name.ends_with(".rs") && !paths.contains(&path) {
            places.push(format!("{path}: no [[test]] entry, so it never runs"));
        }
    }
    report("a test that never runs", &places);
    assert!(
        entries.len() <= TEST_COUNT_MAX,
        "{} test binaries",
        entries.len()
    );
}
