//! Real processes, really killed: a daemon under the load of eight client processes ends by
//! SIGKILL or abort at every kind of moment, again and again in the same directory, and after each
//! end the history checker holds what was recovered against what the clients were told.
//!
//! `IN_MEM_TEST` scales the number of kills, `IN_MEM_SEED` replaces the start value 42. The program
//! is its own client process, so it has its own `main`; the words of a command line name the tests
//! to run, as with any other test program. Its figures are printed as they come.
#![expect(
    unreachable_pub,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test program like any other, but for its main: the lints spare those of libtest"
)]

#[path = "crash_harness/client_kills.rs"]
mod client_kills;
#[path = "crash_harness/cut_clients.rs"]
mod cut_clients;
#[path = "crash_harness/exactly_once.rs"]
mod exactly_once;
#[path = "crash_harness/fault_points.rs"]
mod fault_points;
#[path = "crash_harness/full_disk.rs"]
mod full_disk;
#[path = "crash_harness/kills.rs"]
mod kills;
#[path = "crash_harness/lies.rs"]
mod lies;
#[path = "crash_harness/life.rs"]
mod life;
#[path = "crash_harness/mounted.rs"]
mod mounted;
#[path = "crash_harness/orders.rs"]
mod orders;
#[path = "crash_harness/power_loss.rs"]
mod power_loss;
#[path = "crash_harness/process_kill.rs"]
mod process_kill;
#[path = "crash_harness/python.rs"]
mod python;
#[path = "crash_harness/restart.rs"]
mod restart;

#[path = "support/kill/mod.rs"]
mod kill;
#[path = "support/python.rs"]
mod python_environment;
#[path = "support/raw_client.rs"]
mod raw_client;
#[path = "support/scale.rs"]
mod scale;

/// Where `raw_client` finds how long it may wait.
mod daemon_process {
    pub(crate) use crate::kill::daemon::DEADLINE;
}

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

/// Every test, by its claim.
const TESTS: [(&str, fn()); 20] = [
    (
        "lies_about_what_was_kept_are_caught",
        lies::lies_about_what_was_kept_are_caught,
    ),
    (
        "a_daemon_that_keeps_less_than_it_says_is_caught",
        lies::a_daemon_that_keeps_less_is_caught,
    ),
    (
        "an_order_by_value_alone_explains_what_a_living_daemon_answers",
        orders::living_daemons_are_linearizable,
    ),
    (
        "recovery_invariant_rs1_a_crash_at_every_fault_point_loses_nothing",
        fault_points::every_point_loses_nothing,
    ),
    (
        "what_one_client_had_in_flight_is_as_the_matrix_says",
        fault_points::one_client_by_the_matrix,
    ),
    (
        "a_crash_during_create_leaves_no_database",
        fault_points::creation_can_be_repeated,
    ),
    (
        "kills_at_every_moment_lose_nothing_acknowledged",
        kills::kills_lose_nothing,
    ),
    (
        "kills_of_a_daemon_without_io_uring_lose_nothing_acknowledged",
        kills::kills_without_io_uring,
    ),
    (
        "clients_killed_at_every_point_leave_all_or_nothing",
        client_kills::killed_clients_leave_all_or_nothing,
    ),
    (
        "clients_killed_at_every_byte_leave_all_or_nothing",
        cut_clients::cut_clients_leave_all_or_nothing,
    ),
    (
        "additions_repeated_through_kills_have_one_effect_and_one_answer_each",
        exactly_once::additions_through_kills_have_one_effect_each,
    ),
    (
        "a_killed_client_repeats_its_last_write_as_the_client_it_was",
        exactly_once::killed_clients_go_on_with_their_last_write,
    ),
    (
        "kills_under_python_workers_lose_nothing_acknowledged",
        python::kills_under_python_workers,
    ),
    (
        "python_additions_repeated_through_kills_have_one_effect_and_one_answer_each",
        python::additions_through_kills_have_one_effect_each,
    ),
    (
        "a_log_of_64_mib_is_recovered_within_a_second",
        restart::recovery_takes_less_than_a_second,
    ),
    (
        "a_full_disk_refuses_and_goes_on_when_there_is_room",
        full_disk::full_disk_refuses_and_goes_on,
    ),
    (
        "an_embedded_database_whose_process_is_killed_loses_nothing_acknowledged",
        process_kill::killed_workers_lose_nothing,
    ),
    (
        "power_lost_on_a_real_file_system_takes_nothing_acknowledged_before",
        power_loss::power_losses_take_nothing_acknowledged,
    ),
    (
        "power_lost_under_a_daemon_that_never_syncs_is_caught",
        power_loss::a_daemon_that_never_syncs_is_caught,
    ),
    (
        "a_file_system_that_turns_read_only_refuses_writes_and_goes_on_reading",
        power_loss::read_only_file_system_refuses_and_reads,
    ),
];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words
        .first()
        .is_some_and(|word| word == kill::client_process::WORD)
    {
        return kill::client_process::main(&words);
    }
    if words.first().is_some_and(|word| word == cut_clients::WORD) {
        return cut_clients::main(&words);
    }
    if words.first().is_some_and(|word| word == exactly_once::WORD) {
        return exactly_once::main(&words);
    }
    if words.first().is_some_and(|word| word == process_kill::WORD) {
        return process_kill::main(&words);
    }
    let wanted: Vec<&String> = words.iter().filter(|word| !word.starts_with('-')).collect();
    let is_wanted =
        |name: &str| wanted.is_empty() || wanted.iter().any(|word| name.contains(*word));
    let chosen = TESTS.iter().filter(|(name, _)| is_wanted(name));
    if words.iter().any(|word| word == "--list") {
        chosen.for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let mut failed = Vec::new();
    for (name, test) in chosen {
        let started = Instant::now();
        let is_passed = catch_unwind(AssertUnwindSafe(test)).is_ok();
        let seconds = started.elapsed().as_secs_f64();
        println!(
            "test {name} ... {} ({seconds:.1} s)",
            if is_passed { "ok" } else { "FAILED" }
        );
        if !is_passed {
            failed.push(*name);
        }
    }
    println!(
        "\ntest result: {}. {failed:?}",
        if failed.is_empty() { "ok" } else { "FAILED" }
    );
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
