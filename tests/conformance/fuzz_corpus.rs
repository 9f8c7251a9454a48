//! What the fuzzer found worth keeping, fed to every decoder again.
//!
//! The checks, and how much memory each may ask for, are those of the fuzz targets. A new finding
//! is one more file under `tests/fuzz/corpus/`.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test that meets the unexpected is to fail where it does"
)]

use std::fs;
use std::path::{Path, PathBuf};

use crate::counting::assert_that_a_box_is_counted;
use crate::fuzz_checks::{TARGETS, run};
use crate::scale::{for_each_seed, scaled};
use in_mem_wal::disk::SimRng;

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

/// Processor time that one input may take at most, nanoseconds.
const INPUT_CPU_NS_MAX: i128 = 1_000_000_000;

/// Processor time that this thread had so far, nanoseconds: what runs beside it does not count.
fn thread_cpu_ns() -> i128 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
}

#[test]
fn nothing_that_was_ever_fuzzed_makes_a_decoder_panic_disagree_be_slow_or_ask_for_much_memory() {
    assert_that_a_box_is_counted();
    for (target, ..) in TARGETS {
        for (name, bytes) in corpus(target) {
            // The name is what is left to see when the check panics.
            println!("{name}");
            let before_ns = thread_cpu_ns();
            run(target, &bytes);
            let took_ns = thread_cpu_ns() - before_ns;
            assert!(took_ns < INPUT_CPU_NS_MAX, "{name} took {took_ns} ns");
        }
    }
}

/// Longest input that is made, bytes.
const MUTATED_LEN_BYTES_MAX: usize = 16 << 10;

/// Changes an input in one of the ways that a fuzzer would try first.
fn mutate(rng: &mut SimRng, bytes: &mut Vec<u8>, other: &[u8]) {
    let at = rng.index(bytes.len() + 1);
    let end = (at + 1 + rng.index(16)).min(bytes.len());
    let at = at.min(end);
    match rng.below(8) {
        0 | 1 if at < bytes.len() => bytes[at] ^= 1 << rng.below(8),
        2 if at < bytes.len() => bytes[at] = [0, 1, 0x7F, 0x80, 0xC1, 0xFF][rng.index(6)],
        3 => bytes.insert(at, rng.next_u64() as u8),
        4 => drop(bytes.drain(at..end)),
        5 => bytes.truncate(at),
        6 => {
            let copied = bytes[at..end].to_vec();
            bytes.splice(at..at, copied);
        }
        _ => {
            bytes.truncate(at);
            bytes.extend_from_slice(&other[rng.index(other.len() + 1)..]);
        }
    }
    bytes.truncate(MUTATED_LEN_BYTES_MAX);
}

#[test]
fn nothing_made_of_the_corpus_by_chance_makes_a_decoder_panic_disagree_or_ask_for_much_memory() {
    let test = "nothing_made_of_the_corpus_by_chance";
    for (target, ..) in TARGETS {
        let corpus = corpus(target);
        let each_count = 200;
        for_each_seed(
            test,
            |index| index < scaled(4, 16, 20_000),
            |seed| {
                let mut rng = SimRng::new(seed);
                for _ in 0..each_count {
                    let mut bytes = corpus[rng.index(corpus.len())].1.clone();
                    let other = &corpus[rng.index(corpus.len())].1;
                    for _ in 0..=rng.index(4) {
                        mutate(&mut rng, &mut bytes, other);
                    }
                    let met = std::panic::catch_unwind(|| run(target, &bytes));
                    if let Err(panic) = met {
                        eprintln!("{target}: {bytes:02x?}");
                        std::panic::resume_unwind(panic);
                    }
                }
            },
        );
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
