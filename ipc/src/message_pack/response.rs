//! Responses as maps: the envelope, and every kind of result.
//!
//! ```text
//! kind          result
//! done          none                     missing      none
//! written       receipt                  value        the value
//! versioned     {value?, version, ..}    values       list of [value] or [] for a hole
//! flag          bool                     count        u64
//! deleted       {count, receipt}         incremented  {value, receipt}
//! mismatch      {actual, is_tombstone}   replaced     {previous?, receipt}
//! page          {entries, cursor, ..}    history      {versions, has_more}
//! version       version                  run_begun    {run, receipt}
//! run_status    {status}                 run          the Object of the run
//! runs          {runs, cursor, ..}       run_id       bin of 16 bytes
//! txn_begun     {txn_id, ..}             txn          {txn_id, ..}
//! batch         {receipt, effects}       info         {server_version, ..}
//! capabilities  {server_version, ..}     subscribed   {subscription_id, ..}
//! health        {state, faults, ..}      metrics      str
//! description   {info, health, ..}       checkpoint   {watermark_txn, ..}
//! compacted     {mode, ..}               snapshots    list of {snapshot_id, ..}
//! retention     {own?, effective}        retention_stats {policy, watermark, ..}
//! exported      {path, digest, ..}
//! ```
//!
//! A receipt is {"version", "commit_version", "level"}. An effect is a map with one key: "put" with
//! true, "deleted" and "put_if_absent" with what happened, "incremented" with the sum. An error has
//! its "class" and "sub" as stable numbers and as the name "code"; "details", and all named
//! numbers, are lists of [name, value].

use super::form::{
    Defaulted, Flag, Form, Id, Key, Many, Message, Name, Object, Opaque, Optional, Presence,
    Required, Signed, Unsigned, Value, Words, array, key, map, message, names, once, text,
    unknown_key, unknown_name, wrong_type,
};
use super::observe::Boxed;
use super::reader::{Item, Reader};
use super::writer::Writer;
use super::{Fault, Refusal, label};
use crate::bytes::Text;
use crate::request::version::TaggedVersion;
use crate::response::db::{CheckpointInfo, CompactInfo, ExportInfo, SnapshotInfo, Subscribed};
use crate::response::kv::{
    BatchEffect, BatchResult, Deleted, Entry, History, Incremented, Mismatch, Page, Replaced, Slot,
    Versioned,
};
use crate::response::run::{RunBegun, RunPage, RunStatusReply, TxnBegun, TxnInfo, TxnState};
use crate::response::system::{
    Capabilities, CommitOutcome, Detail, DetailValue, ErrorBody, Health, Info, Measure, RetryAdvice,
};
use crate::response::{Flavour, ReachedLevel, Receipt, Response};

/// Every kind of result, with its name and its form.
macro_rules! responses {
    (without: $($bare_name:literal $bare:ident)* ; with: $($name:literal $full:ident $form:ty)*) => {
        pub(super) fn write(response: &Response<'_>, out: &mut Writer<'_>) {
            match response {
                Response::Error(error) => {
                    out.map(2);
                    out.text("ok");
                    out.flag(false);
                    out.text("error");
                    error.write(out);
                }
                $(Response::$bare => write_kind($bare_name, 2, out),)*
                $(Response::$full(result) => {
                    write_kind($name, 3, out);
                    out.text("result");
                    <$form>::write(result, out);
                })*
            }
        }

        fn read_result<'a>(
            kind: &str,
            result: Option<&'a [u8]>,
        ) -> Result<Response<'a>, Fault> {
            match (kind, result.map(Reader::new)) {
                $(($bare_name, None) => Ok(Response::$bare),)*
                $(($bare_name, Some(_)) => Err(unknown_key("result")),)*
                $(($name, Some(mut result)) => <$form>::read(&mut result).map(Response::$full),)*
                $(($name, None) => Err(Refusal::MissingKey { key: "result" }.into()),)*
                (other, _) => Err(unknown_name(other).in_field("kind")),
            }
        }
    };
}

responses! {
    without:
        "done" Done
        "missing" Missing;
    with:
        "written" Written Object
        "value" Value Value
        "versioned" Versioned Object
        "values" Values Many<SlotForm>
        "flag" Flag Flag
        "count" Count Unsigned
        "deleted" Deleted Object
        "incremented" Incremented Object
        "mismatch" Mismatch Object
        "replaced" Replaced Object
        "page" Page Object
        "history" History Object
        "version" Version Object
        "run_begun" RunBegun Object
        "run_status" RunStatus Object
        "run" Run Value
        "runs" Runs Object
        "run_id" RunId Id
        "txn_begun" TxnBegun Object
        "txn" Txn Object
        "batch" Batch Object
        "info" Info Object
        "capabilities" Capabilities Object
        "subscribed" Subscribed Object
        "health" Health Object
        "metrics" Metrics Words
        "description" Description Boxed
        "checkpoint" Checkpoint Object
        "compacted" Compacted Object
        "snapshots" Snapshots Many<Object>
        "retention" Retention Object
        "retention_stats" RetentionStats Object
        "exported" Exported Object
}

fn write_kind(kind: &str, key_count: usize, out: &mut Writer<'_>) {
    out.map(key_count);
    out.text("ok");
    out.flag(true);
    out.text("kind");
    out.text(kind);
}

pub(super) fn read<'a>(input: &mut Reader<'a>) -> Result<Response<'a>, Fault> {
    let (mut is_ok, mut kind, mut result, mut error) = (None, None, None, None);
    for _ in 0..map(input)? {
        match key(input)? {
            "ok" => once(&mut is_ok, "ok", || Flag::read(input))?,
            "kind" => once(&mut kind, "kind", || text(input))?,
            "result" => once(&mut result, "result", || input.skip())?,
            "error" => once(&mut error, "error", || Message::read(input))?,
            other => return Err(unknown_key(other)),
        }
    }
    match (is_ok, kind, result, error) {
        (Some(true), Some(kind), result, None) => {
            read_result(kind, result).map_err(|fault| fault.in_field("result"))
        }
        (Some(false), None, None, Some(error)) => Ok(Response::Error(error)),
        (None, ..) => Err(Refusal::MissingKey { key: "ok" }.into()),
        (Some(true), None, ..) => Err(Refusal::MissingKey { key: "kind" }.into()),
        (Some(false), _, _, None) => Err(Refusal::MissingKey { key: "error" }.into()),
        (Some(true), .., Some(_)) => Err(unknown_key("error")),
        (Some(false), ..) => Err(unknown_key("result")),
    }
}

/// A hole is an empty list, so that it is not the value Null.
struct SlotForm;

impl<'a> Form<'a, Slot<'a>> for SlotForm {
    fn write(field: &Slot<'a>, out: &mut Writer<'_>) {
        match field {
            Slot::Absent => out.array(0),
            Slot::Present(value) => {
                out.array(1);
                Value::write(value, out);
            }
        }
    }

    fn read(input: &mut Reader<'a>) -> Result<Slot<'a>, Fault> {
        match array(input)? {
            0 => Ok(Slot::Absent),
            1 => Value::read(input).map(Slot::Present),
            _ => Err(wrong_type("lists of one value or none")),
        }
    }
}

names!(ReachedLevel {
    "nothing" Nothing,
    "volatile" Volatile,
    "logged" Logged,
    "synced" Synced,
});
names!(TxnState {
    "active" Active,
    "committing" Committing,
});
names!(CommitOutcome {
    "not_committed" NotCommitted,
    "outcome_unknown" OutcomeUnknown,
});
names!(RetryAdvice {
    "no" No,
    "yes" Yes,
    "after_reread" AfterReread,
    "later" Later,
    "after_reopen" AfterReopen,
    "if_not_committed" IfNotCommitted,
});
names!(Health {
    "ok" Ok,
    "draining" Draining,
    "poisoned" Poisoned,
    "read_only" ReadOnly,
    "degraded" Degraded,
});

message!(Subscribed {
    "subscription_id" subscription_id: Required<Unsigned>,
    "durable_version" durable_version: Required<Unsigned>,
});
message!(CheckpointInfo {
    "watermark_txn" watermark_txn: Required<Unsigned>,
    "snapshot_id" snapshot_id: Required<Unsigned>,
    "timestamp_us" timestamp_us: Required<Unsigned>,
    "size_bytes" size_bytes: Required<Unsigned>,
});
message!(CompactInfo<'a> {
    "mode" mode: Required<Words>,
    "reclaimed_bytes" reclaimed_bytes: Required<Unsigned>,
    "wal_segments_removed" wal_segments_removed: Required<Unsigned>,
    "versions_removed" versions_removed: Required<Unsigned>,
    "snapshot_watermark" snapshot_watermark: Required<Unsigned>,
    "duration_ms" duration_ms: Required<Unsigned>,
    "timestamp_us" timestamp_us: Required<Unsigned>,
});
message!(ExportInfo<'a> {
    "path" path: Required<Words>,
    "checkpoint_watermark" checkpoint_watermark: Required<Unsigned>,
    "watermark_txn" watermark_txn: Required<Unsigned>,
    "size_bytes" size_bytes: Required<Unsigned>,
    "digest" digest: Required<Words>,
});
message!(SnapshotInfo<'a> {
    "snapshot_id" snapshot_id: Required<Unsigned>,
    "watermark" watermark: Required<Unsigned>,
    "created_at_us" created_at_us: Required<Unsigned>,
    "size_bytes" size_bytes: Required<Unsigned>,
    "path" path: Required<Words>,
});
message!(Versioned<'a> {
    "value" value: Optional<Value>,
    "version" version: Required<Object>,
    "timestamp_us" timestamp_us: Required<Unsigned>,
});
message!(Deleted {
    "count" count: Required<Unsigned>,
    "receipt" receipt: Required<Object>,
});
message!(Incremented {
    "value" value: Required<Signed>,
    "receipt" receipt: Required<Object>,
});
message!(Mismatch {
    "actual" actual: Required<Object>,
    "is_tombstone" is_tombstone: Required<Flag>,
});
message!(Replaced<'a> {
    "previous" previous: Optional<Value>,
    "receipt" receipt: Required<Object>,
});
message!(Entry<'a> {
    "key" key: Required<Key>,
    "value" value: Optional<Value>,
    "version" version: Required<Unsigned>,
});
message!(Page<'a> {
    "entries" entries: Required<Many<Object>>,
    "cursor" cursor: Defaulted<Opaque>,
    "has_more" has_more: Required<Flag>,
});
message!(History<'a> {
    "versions" versions: Required<Many<Object>>,
    "has_more" has_more: Required<Flag>,
});
message!(BatchResult {
    "receipt" receipt: Required<Object>,
    "effects" effects: Required<Many<Object>>,
});
message!(RunBegun<'a> {
    "run" run: Required<Value>,
    "receipt" receipt: Required<Object>,
});
message!(RunStatusReply {
    "status" status: Required<Name>,
});
message!(RunPage<'a> {
    "runs" runs: Required<Many<Value>>,
    "cursor" cursor: Defaulted<Opaque>,
    "has_more" has_more: Required<Flag>,
});
message!(TxnBegun {
    "txn_id" txn_id: Required<Unsigned>,
    "start_version" start_version: Required<Unsigned>,
});
message!(TxnInfo {
    "txn_id" txn_id: Required<Unsigned>,
    "start_version" start_version: Required<Unsigned>,
    "started_at_us" started_at_us: Required<Unsigned>,
    "operation_count" operation_count: Required<Unsigned>,
    "run" run: Required<Id>,
    "state" state: Required<Name>,
    "read_only" read_only: Required<Flag>,
    "durability" durability: Required<Name>,
});
message!(Info<'a> {
    "server_version" server_version: Required<Words>,
    "uptime_us" uptime_us: Required<Unsigned>,
    "run_count" run_count: Required<Unsigned>,
    "key_count" key_count: Required<Unsigned>,
    "durability" durability: Required<Words>,
    "health" health: Required<Name>,
    "health_reason" health_reason: Required<Words>,
    "measures" measures: Required<Many<MeasureForm>>,
});
message!(Capabilities<'a> {
    "server_version" server_version: Required<Words>,
    "protocol_version" protocol_version: Required<Unsigned>,
    "operations" operations: Required<Many<Words>>,
    "limits" limits: Required<Many<MeasureForm>>,
    "encodings" encodings: Required<Many<Words>>,
    "features" features: Required<Many<Words>>,
    "durability_modes" durability_modes: Required<Many<Words>>,
    "transports" transports: Required<Many<Words>>,
    "analyser" analyser: Optional<Words>,
});

/// A receipt, the version and its flavour together.
struct ReceiptMap {
    version: TaggedVersion,
    commit_version: u64,
    level: ReachedLevel,
}

message!(ReceiptMap {
    "version" version: Required<Object>,
    "commit_version" commit_version: Required<Unsigned>,
    "level" level: Required<Name>,
});

impl<'a> Message<'a> for Receipt {
    fn write(&self, out: &mut Writer<'_>) {
        let receipt = ReceiptMap {
            version: self.tagged_version(),
            commit_version: self.commit_version,
            level: self.level,
        };
        receipt.write(out);
    }

    fn read(input: &mut Reader<'a>) -> Result<Self, Fault> {
        let receipt = ReceiptMap::read(input)?;
        let (flavour, version) = match receipt.version {
            TaggedVersion::Txn(version) => (Flavour::Txn, version),
            TaggedVersion::Sequence(version) => (Flavour::Sequence, version),
            TaggedVersion::Counter(version) => (Flavour::Counter, version),
        };
        Ok(Self {
            version,
            commit_version: receipt.commit_version,
            flavour,
            level: receipt.level,
        })
    }
}

impl<'a> Message<'a> for BatchEffect {
    fn write(&self, out: &mut Writer<'_>) {
        out.map(1);
        match self {
            Self::Put => {
                out.text("put");
                out.flag(true);
            }
            Self::Deleted(existed) => {
                out.text("deleted");
                out.flag(*existed);
            }
            Self::PutIfAbsent(was_put) => {
                out.text("put_if_absent");
                out.flag(*was_put);
            }
            Self::Incremented(sum) => {
                out.text("incremented");
                out.signed(*sum);
            }
        }
    }

    fn read(input: &mut Reader<'a>) -> Result<Self, Fault> {
        if map(input)? != 1 {
            return Err(wrong_type("a list of maps with one key each"));
        }
        match key(input)? {
            "put" if Flag::read(input)? => Ok(Self::Put),
            "put" => Err(wrong_type("true")),
            "deleted" => Flag::read(input).map(Self::Deleted),
            "put_if_absent" => Flag::read(input).map(Self::PutIfAbsent),
            "incremented" => Signed::read(input).map(Self::Incremented),
            other => Err(unknown_key(other)),
        }
    }
}

/// A named number: a list of the two.
struct MeasureForm;

impl<'a> Form<'a, Measure<'a>> for MeasureForm {
    fn write(field: &Measure<'a>, out: &mut Writer<'_>) {
        out.array(2);
        out.text(&field.name);
        out.unsigned(field.value);
    }

    fn read(input: &mut Reader<'a>) -> Result<Measure<'a>, Fault> {
        if array(input)? != 2 {
            return Err(wrong_type("a list of [name, value]"));
        }
        Ok(Measure {
            name: Words::read(input)?,
            value: Unsigned::read(input)?,
        })
    }
}

/// A named detail of an error: a list of the two; the type of the value says what it is.
struct DetailForm;

impl<'a> Form<'a, Detail<'a>> for DetailForm {
    fn write(field: &Detail<'a>, out: &mut Writer<'_>) {
        out.array(2);
        out.text(&field.name);
        match &field.value {
            DetailValue::Text(text) => out.text(text),
            DetailValue::Number(number) => out.unsigned(*number),
            DetailValue::Version(version) => version.write(out),
            DetailValue::Flag(flag) => out.flag(*flag),
        }
    }

    fn read(input: &mut Reader<'a>) -> Result<Detail<'a>, Fault> {
        if array(input)? != 2 {
            return Err(wrong_type("a list of [name, value]"));
        }
        let name = Words::read(input)?;
        let value = match input.clone().item()? {
            Item::Str(_) => DetailValue::Text(Words::read(input)?),
            Item::Unsigned(_) => DetailValue::Number(Unsigned::read(input)?),
            Item::Flag(_) => DetailValue::Flag(Flag::read(input)?),
            _ => DetailValue::Version(Message::read(input)?),
        };
        Ok(Detail { name, value })
    }
}

/// An error with the name of its code beside the numbers.
struct ErrorMap<'a> {
    class: u8,
    sub: u16,
    code: Text<'a>,
    message: Text<'a>,
    outcome: Option<CommitOutcome>,
    retry: RetryAdvice,
    details: Vec<Detail<'a>>,
}

message!(ErrorMap<'a> {
    "class" class: Required<Unsigned>,
    "sub" sub: Defaulted<Unsigned>,
    "code" code: Required<Words>,
    "message" message: Required<Words>,
    "outcome" outcome: Optional<Name>,
    "retry" retry: Required<Name>,
    "details" details: Defaulted<Many<DetailForm>>,
});

impl<'a> Message<'a> for ErrorBody<'a> {
    fn write(&self, out: &mut Writer<'_>) {
        let class = in_mem_model::ErrorClass::from_number(self.class);
        let sub = in_mem_model::SubCode::from_number(self.sub);
        let name = sub.map(in_mem_model::SubCode::name);
        let code = name.or(class.map(in_mem_model::ErrorClass::name));
        let error = ErrorMap {
            class: self.class,
            sub: self.sub,
            code: label(code.unwrap_or("unknown")),
            message: Text(self.message.0.as_ref().into()),
            outcome: self.outcome,
            retry: self.retry,
            details: self.details.clone(),
        };
        error.write(out);
    }

    fn read(input: &mut Reader<'a>) -> Result<Self, Fault> {
        let error = ErrorMap::read(input)?;
        Ok(Self {
            class: error.class,
            sub: error.sub,
            outcome: error.outcome,
            retry: error.retry,
            message: error.message,
            details: error.details,
        })
    }
}
