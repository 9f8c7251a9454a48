//! The `txn.*` operations, and every operation that joins an open transaction.
//!
//! Inside a transaction reads are recorded, writes are kept aside and answer without a version;
//! everything is validated and committed by `txn.commit`.

use in_mem_engine::{Submitted, TransactionOptions, TransactionStatus};
use in_mem_ipc::Bytes;
use in_mem_ipc::request::txn::ArchivedTxnBegin;
use in_mem_ipc::request::{ArchivedOperation, RunChoice};
use in_mem_ipc::response::run::{RunStatusReply, TxnBegun, TxnInfo, TxnState};
use in_mem_ipc::response::{Receipt, Response};
use in_mem_model::{Error, Outcome, RunId, SubCode};

use super::{
    Call, Handled, LARGE_LEN_BYTES, METADATA_LEN_BYTES, Out, Verdict, retention, transaction_kv,
};
use crate::answer::encoded_run;
use crate::errors;
use crate::metrics::{Abort, LiveView};
use crate::shares::{Resource, Taken};
use crate::store::Store;
use crate::transactions::{OpenTransaction, not_active};

/// Handles an operation on a transaction, or one that joins it.
pub(super) fn route(
    call: &mut Call<'_>,
    operation: &ArchivedOperation<'_>,
    out: &mut Out<'_>,
) -> Handled {
    use ArchivedOperation as Op;
    let id = call.header.txn_id;
    if let Op::TxnBegin(begin) = operation {
        return self::begin(call, begin, out);
    }
    let mut named_run = match call.header.run {
        RunChoice::Session => None,
        RunChoice::Id(run) => Some(RunId(run)),
    };
    if let Op::TxnCommit = operation
        && let Some(once) = call.once()?
    {
        // Over a lost connection it is repeated where the transaction is not known any more: all
        // that a repeat tells is its run, so the run must be right the first time.
        let run = call.run()?.clone();
        named_run = Some(run.id());
        if let Some(submitted) = run.submit_repeat(&once, call.completion()?) {
            return call.settle(submitted, out);
        }
    }
    let limits = call.store.limits_in_force();
    let frame_len_bytes = call.frame_len_bytes;
    let is_worker = call.is_worker;
    let open = call.caller.transactions.use_one(id, call.now_us, &limits)?;
    if let Some(run) = named_run {
        open.context
            .check_run(run)
            .map_err(|error| errors::of_commit(&error))?;
    }
    let makes_log =
        matches!(operation, Op::TxnCommit) && call.store.database.makes_log(open.durability);
    if makes_log {
        super::check_place(call.store)?;
    }
    if !is_worker && (makes_log || is_long(call.store, open, operation)) {
        return Ok(Verdict::Offload);
    }
    match operation {
        Op::TxnCommit => commit(call, out),
        // They walk as many keys as the run has, and the first one puts them in order.
        Op::KvList(_) | Op::KvScan(_) | Op::KvCount(_) if !is_worker => Ok(Verdict::Offload),
        Op::TxnRollback => {
            if let Some(mut ended) = call.caller.transactions.remove(id) {
                ended.view.ends(Some(Abort::Rollback));
            }
            out.reply(&Response::Done);
            Ok(Verdict::Replied)
        }
        Op::TxnInfo => {
            out.reply(&Response::Txn(info(id, open)));
            Ok(Verdict::Replied)
        }
        _ if retention::is_about(operation.kind()) => {
            let default = call.store.database.default_retention_policy();
            retention::join(&mut open.context, &default, operation, out)
        }
        _ if super::is_run(operation) => run(open, operation, out),
        _ => {
            open.len_bytes = open.len_bytes.saturating_add(frame_len_bytes);
            transaction_kv::route(open, operation, out)
        }
    }
}

/// Whether an operation of a transaction holds its thread for long.
fn is_long(store: &Store, open: &OpenTransaction, operation: &ArchivedOperation<'_>) -> bool {
    match operation {
        ArchivedOperation::TxnCommit => LARGE_LEN_BYTES < open.len_bytes,
        _ if super::is_run(operation) => {
            let run = open.context.info().run;
            METADATA_LEN_BYTES < store.database.runs().info_len_bytes(run)
        }
        _ => LARGE_LEN_BYTES < transaction_kv::copied_len_bytes(&open.context, operation),
    }
}

fn begin(call: &mut Call<'_>, begin: &ArchivedTxnBegin, out: &mut Out<'_>) -> Handled {
    let limits = call.store.limits_in_force();
    let durability = begin
        .durability
        .durability()
        .unwrap_or_else(|| call.durability());
    let options = TransactionOptions {
        read_only: begin.read_only,
        // The server's own timer expires it, also when it is not used.
        timeout_ms: 0,
        durability: Some(durability),
    };
    let taken = one_more(call, limits.open_transaction_count_per_user_max)?;
    let context = call.run()?.begin(options).map_err(|error| {
        Error::new(SubCode::DatabaseClosed, error.to_string()).with_outcome(Outcome::NotCommitted)
    })?;
    let start_version = context.info().start_version;
    let id = call.store.next_txn_id();
    let open = OpenTransaction {
        context,
        durability,
        is_read_only: begin.read_only,
        len_bytes: 0,
        timeout_ms: u64::from(begin.timeout_ms.to_native()),
        begun_us: call.now_us,
        used_us: call.now_us,
        view: LiveView::of_transaction(&call.store.metrics, call.now_us),
        _taken: taken,
    };
    call.caller.transactions.insert(id, open, &limits)?;
    out.reply(&Response::TxnBegun(TxnBegun {
        txn_id: id,
        start_version,
    }));
    Ok(Verdict::Replied)
}

/// Takes one of the transactions that a user may have open.
fn one_more(call: &Call<'_>, count_max: u64) -> Result<Taken, Error> {
    let share = &call.caller.share;
    if share.get(Resource::Transactions) < count_max {
        return Ok(share.take(Resource::Transactions, 1));
    }
    let limit = "open_transaction_count_per_user_max";
    let user = share.user();
    let message = format!(
        "the connections of user {user} have {count_max} transactions open ({limit}): commit or \
         roll back some of them, and try again"
    );
    Err(Error::new(SubCode::ResourceExhausted, message)
        .with_outcome(Outcome::NotCommitted)
        .with_detail("limit", limit))
}

/// Commits. Unless the log has no room, the transaction is over whatever comes of it.
fn commit(call: &mut Call<'_>, out: &mut Out<'_>) -> Handled {
    let id = call.header.txn_id;
    let once = call.once()?;
    let mut open = call
        .caller
        .transactions
        .remove(id)
        .ok_or_else(|| not_active(id))?;
    call.is_submitted = true;
    let submitted = open.context.submit_as(once.as_ref(), call.completion()?);
    if matches!(submitted, Submitted::Busy) {
        call.caller
            .transactions
            .insert(id, open, &call.store.limits_in_force())?;
    } else {
        // Counted as what its commit comes to.
        open.view.ends(None);
    }
    call.settle(submitted, out)
}

fn info(id: u64, open: &OpenTransaction) -> TxnInfo {
    let info = open.context.info();
    TxnInfo {
        txn_id: id,
        start_version: info.start_version,
        started_at_us: info.started_at_us,
        operation_count: info.operation_count,
        run: info.run.0,
        state: match info.status {
            TransactionStatus::Active => TxnState::Active,
            TransactionStatus::Committed | TransactionStatus::Aborted => TxnState::Committing,
        },
        read_only: open.is_read_only,
        durability: open.durability.into(),
    }
}

/// Operations on the run of the transaction.
fn run(
    open: &mut OpenTransaction,
    operation: &ArchivedOperation<'_>,
    out: &mut Out<'_>,
) -> Handled {
    use ArchivedOperation as Op;
    match operation {
        Op::RunStatus | Op::RunGet | Op::RunExists => {
            let info = open
                .context
                .run_info()
                .map_err(|error| errors::of_read(&error))?;
            match operation {
                Op::RunStatus => {
                    let status = Some(info.status).into();
                    out.reply(&Response::RunStatus(RunStatusReply { status }));
                }
                Op::RunGet => {
                    let encoded: Bytes<'_> = encoded_run(&info)?;
                    out.reply(&Response::Run(encoded));
                }
                _ => out.reply(&Response::Flag(true)),
            }
        }
        _ => {
            let change = super::run::change_of(operation)?;
            open.context
                .change_run(change)
                .map_err(|error| errors::of_commit(&error))?;
            out.reply(&Response::Written(Receipt::NOTHING));
        }
    }
    Ok(Verdict::Replied)
}
