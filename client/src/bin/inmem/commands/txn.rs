//! Commands of the transaction that stays open between lines of the pipe or the shell.

use crate::cli::arguments::{Options, TxnCommand};
use crate::cli::commands::Source;
use crate::cli::failure::Failure;
use crate::cli::json;
use crate::cli::outcome::Outcome;
use crate::cli::session::Session;

pub(super) fn execute(
    session: &mut Session,
    options: &Options,
    command: &TxnCommand,
    source: Source,
) -> Result<Outcome, Failure> {
    if source == Source::Shell {
        return Err(Failure::usage(
            "a transaction lasts as long as its session: open it in the shell (`inmem` on a \
             terminal) or the pipe (`inmem --json`), or send its changes at once with `inmem batch`",
        ));
    }
    match command {
        TxnCommand::Begin(args) => {
            let start_version = session.begin_transaction(options, args)?;
            let result = json::object([("start_version", start_version.to_string())]);
            Ok(Outcome::json(result))
        }
        TxnCommand::Commit => {
            let receipt = session.take_transaction()?.commit()?;
            Ok(Outcome::done("OK").with_receipt(receipt))
        }
        TxnCommand::Rollback => {
            session.take_transaction()?.rollback()?;
            Ok(Outcome::done("OK"))
        }
        TxnCommand::Info => {
            let info = session.transaction()?.info()?;
            let result = json::object([
                ("txn_id", info.txn_id.to_string()),
                ("start_version", info.start_version.to_string()),
                ("started_at_us", info.started_at_us.to_string()),
                ("operation_count", info.operation_count.to_string()),
                ("read_only", info.read_only.to_string()),
            ]);
            Ok(Outcome::json(result))
        }
    }
}
