//! The `inmemd` daemon.

use std::process::ExitCode;

fn main() -> ExitCode {
    in_mem_daemon::main_with_args(std::env::args_os())
}
