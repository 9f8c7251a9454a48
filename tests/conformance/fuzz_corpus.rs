//! What the fuzzer found worth keeping, fed to every decoder again.
//!
//! The checks, and how much memory each may ask for, are those of the fuzz targets. A new finding
//! is one more file under `tests/fuzz/corpus/`.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected is to fail where it does"
)]

use std::fs;
use std::path::{Path, PathBuf};

use crate::counting::assert_that_a_box_is_counted;
use crate::fuzz_checks::{TARGETS, run};

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fuzz/corpus")
        .join(target)
}

/// The inputs kept for a target.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let files = fs::read_dir(folder(target)).expect("every target has a corpus");
    let mut inputs: Vec<_> = files
        .map(|file| {
            let path = file.expect("a folder that can be listed").path();
            let name = path.display().to_string();
            (name, fs::read(path).expect("a file that can be read"))
        })
        .collect();
    inputs.sort();
    assert!(!inputs.is_empty(), "{target} has no corpus");
    inputs
}

#[test]
fn nothing_that_was_ever_fuzzed_makes_a_decoder_panic_disagree_or_ask_for_much_memory() {
    assert_that_a_box_is_counted();
    for (target, ..) in TARGETS {
        for (name, bytes) in corpus(target) {
            // The name is what is left to see when the check panics.
            println!("{name}");
            run(target, &bytes);
        }
    }
}

#[test]
fn every_fuzz_target_has_a_program_and_a_corpus_and_there_are_no_others() {
    let names = |folder: &Path| {
        let files = fs::read_dir(folder).expect("it is there");
        let mut names: Vec<_> = files
            .map(|file| file.unwrap().path().file_stem().unwrap().to_owned())
            .collect();
        names.sort();
        names
    };
    let mut targets: Vec<_> = TARGETS.iter().map(|target| target.0).collect();
    targets.sort_unstable();
    assert_eq!(names(&folder("").join("../fuzz_targets")), targets);
    assert_eq!(names(&folder("")), targets);
    let size: usize = targets
        .iter()
        .flat_map(|target| corpus(target))
        .map(|(_, bytes)| bytes.len())
        .sum();
    assert!(size < 400 << 10, "{size} bytes are more than a few");
}
