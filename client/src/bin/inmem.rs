//! The `inmem` command line.

#[path = "inmem/cli.rs"]
mod cli;

fn main() -> std::process::ExitCode {
    cli::run()
}
