//! Keys that a client chose to do harm.

use std::hash::BuildHasher;

use in_mem_model::EncodedValue;
use rustc_hash::FxBuildHasher;

use super::int;
use crate::{Database, DurabilityMode};

/// Puts in one batch, count.
const KEY_COUNT: usize = 20_000;

/// Keys of 32 letters and digits that have the same hash where the hash has no secret: the second
/// half of the state is wiped out by the last 8 bytes, whatever the 8 before them are.
fn colliding_keys() -> Vec<String> {
    let words = |bytes: &[u8]| {
        let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        (word(0), word(8))
    };
    let wiping = |head: &String| {
        let (first, second) = words(head.as_bytes());
        let product =
            u128::from(first ^ 0x243f_6a88_85a3_08d3) * u128::from(second ^ 0xa409_3822_299f_31d0);
        let (low, high) = words(&product.to_le_bytes());
        let mixed = low ^ high;
        let tail = String::from_utf8(mixed.to_le_bytes().to_vec()).ok()?;
        let is_plain = tail.bytes().all(|byte| byte.is_ascii_graphic());
        is_plain.then_some(tail)
    };
    let mut heads = (0..1_000_000).map(|number| format!("{number:016}"));
    let (head, tail) = heads
        .find_map(|head| wiping(&head).map(|tail| (head, tail)))
        .expect("one in some thousands");
    let keys = (0..KEY_COUNT).map(|number| format!("{head}{number:08}{tail}"));
    keys.collect()
}

/// Nanoseconds of processor time that this thread had so far: what others run beside it, and how
/// long it was stopped, does not count.
fn thread_cpu_ns() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    stat.split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn keys_made_to_collide_make_a_batch_no_slower() {
    let hash = |key: &String| FxBuildHasher.hash_one(key.as_bytes());
    let colliding = colliding_keys();
    let first = hash(&colliding[0]);
    assert!(
        colliding.iter().all(|key| hash(key) == first),
        "they collide"
    );
    let ordinary: Vec<String> = (0..KEY_COUNT)
        .map(|number| format!("{number:032}"))
        .collect();
    let database = Database::builder()
        .durability(DurabilityMode::InMemory)
        .open()
        .unwrap();
    let value = int(1);
    let put = |keys: &[String]| {
        let entries: Vec<(&[u8], &EncodedValue)> =
            keys.iter().map(|key| (key.as_bytes(), &value)).collect();
        let before = thread_cpu_ns();
        database.default_run().kv().put_many(&entries).unwrap();
        thread_cpu_ns() - before
    };
    let usual_ns = put(&ordinary);
    let hostile_ns = put(&colliding);
    assert!(
        hostile_ns < 10 * usual_ns,
        "{hostile_ns} ns instead of {usual_ns}"
    );
}
