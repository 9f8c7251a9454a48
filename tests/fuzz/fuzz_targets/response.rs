//! The target `response` of the checks that plain tests share.

#![no_main]

#[path = "../../../benches/zero_alloc/counting.rs"]
#[allow(dead_code, reason = "the bench of the same allocator proves it")]
mod counting;
#[path = "../../support/fuzz_checks.rs"]
mod fuzz_checks;

#[global_allocator]
static COUNTING: counting::Counting = counting::Counting;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz_checks::run("response", bytes));
