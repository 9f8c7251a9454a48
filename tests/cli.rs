//! The command line from outside: what is typed, what is printed, what code it ends with.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "a test that meets the unexpected is to fail where it does"
)]

#[path = "cli/bench.rs"]
mod bench;
#[path = "cli/commands.rs"]
mod commands;
#[path = "cli/demo.rs"]
mod demo;
#[path = "cli/exports.rs"]
mod exports;
#[path = "support/exposition.rs"]
mod exposition;
#[path = "cli/help.rs"]
mod help;
#[path = "cli/import.rs"]
mod import;
#[path = "cli/observe.rs"]
mod observe;
#[path = "cli/offline.rs"]
mod offline;
#[path = "cli/pipe.rs"]
mod pipe;
#[path = "cli/retention.rs"]
mod retention;
#[path = "cli/shell.rs"]
mod shell;
#[path = "cli/snapshots.rs"]
mod snapshots;
#[path = "cli/store.rs"]
mod store;
#[path = "support/stuck_server.rs"]
mod stuck_server;
#[path = "support/terminal.rs"]
mod terminal;
