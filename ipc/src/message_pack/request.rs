//! Requests as maps: the envelope, and the parameters of every operation.
//!
//! The keys of "params" are the literals below; a field that is not `Required` may be left out. A
//! version is {"type": "txn" | "sequence" | "counter", "value": u64}. The expectation of a
//! compare-and-swap is left out to say that the key must be absent. An operation of a batch is a
//! map with one key, which says what it does.

use super::form::{
    Defaulted, Flag, Form, Id, Key, Many, Message, Name, Object, Opaque, Optional, Presence,
    Required, Signed, Unsigned, Value, Words, clipped, key, map, message, names, once, text,
    unknown_key, unknown_name, wrong_type,
};
use super::reader::Reader;
use super::writer::Writer;
use super::{Fault, Refusal};

use crate::operation::OperationKind;
use crate::request::db::{Compact, DeleteSnapshot, Export, Unsubscribe, WaitDurable};
use crate::request::kv::{
    CasValue, CasVersion, ExpectedVersion, GetAt, History, Increment, Key as OneKey, KeyValue,
    KeyValueTtl, KeyValues, Keys, List, Prefix, Scan,
};
use crate::request::retention::Policy;
use crate::request::run::{RunBegin, RunFailure, RunList, RunMetadata, RunName, RunState, RunTags};
use crate::request::txn::{Batch, BatchOperation, BatchRead, ReadCheck, TxnBegin};
use crate::request::version::TaggedVersion;
use crate::request::{DurabilityChoice, Operation, Request, RequestHeader, RunChoice};

/// What an operation without "params" is read from.
const EMPTY_MAP: &[u8] = &[0x80];

pub(super) fn write(request: &Request<'_>, out: &mut Writer<'_>) {
    let header = &request.header;
    let has_params = has_params(&request.operation);
    let run = match header.run {
        RunChoice::Session => None,
        RunChoice::Id(id) => Some(id),
    };
    let count = usize::from(run.is_some())
        + usize::from(header.durability != DurabilityChoice::Session)
        + usize::from(header.txn_id != 0)
        + usize::from(header.client_sequence != 0)
        + usize::from(header.client_sequence_lag != 0)
        + usize::from(header.deadline_us != 0);
    out.map(1 + count + usize::from(has_params));
    out.text("op");
    out.text(request.operation.kind().name());
    if let Some(run) = &run {
        out.text("run");
        Id::write(run, out);
    }
    if header.durability != DurabilityChoice::Session {
        out.text("durability");
        Name::write(&header.durability, out);
    }
    let numbers = [
        ("txn_id", header.txn_id),
        ("client_sequence", header.client_sequence),
        ("client_sequence_lag", header.client_sequence_lag.into()),
        ("deadline_us", header.deadline_us.into()),
    ];
    for (name, number) in numbers {
        if number != 0 {
            out.text(name);
            out.unsigned(number);
        }
    }
    if has_params {
        out.text("params");
        write_params(&request.operation, out);
    }
}

pub(super) fn read<'a>(input: &mut Reader<'a>) -> Result<Request<'a>, Fault> {
    let (mut op, mut params, mut run, mut durability) = (None, None, None, None);
    let (mut txn_id, mut client_sequence) = (None, None);
    let (mut client_sequence_lag, mut deadline_us) = (None, None);
    for _ in 0..map(input)? {
        match key(input)? {
            "op" => once(&mut op, "op", || text(input))?,
            "params" => once(&mut params, "params", || input.skip())?,
            "run" => once(&mut run, "run", || Id::read(input))?,
            "durability" => once(&mut durability, "durability", || Name::read(input))?,
            "txn_id" => once(&mut txn_id, "txn_id", || Unsigned::read(input))?,
            "client_sequence" => {
                once(&mut client_sequence, "client_sequence", || {
                    Unsigned::read(input)
                })?;
            }
            "client_sequence_lag" => {
                let field = &mut client_sequence_lag;
                once(field, "client_sequence_lag", || Unsigned::read(input))?;
            }
            "deadline_us" => once(&mut deadline_us, "deadline_us", || Unsigned::read(input))?,
            other => return Err(unknown_key(other)),
        }
    }
    let op: &str = op.ok_or(Refusal::MissingKey { key: "op" })?;
    let kind = OperationKind::from_name(op)
        .ok_or_else(|| Refusal::UnknownOperation { name: clipped(op) })?;
    let mut params = Reader::new(params.unwrap_or(EMPTY_MAP));
    Ok(Request {
        header: RequestHeader {
            txn_id: txn_id.unwrap_or_default(),
            client_sequence: client_sequence.unwrap_or_default(),
            deadline_us: deadline_us.unwrap_or_default(),
            client_sequence_lag: client_sequence_lag.unwrap_or_default(),
            durability: durability.unwrap_or_default(),
            run: run.map_or(RunChoice::Session, RunChoice::Id),
        },
        operation: read_params(kind, &mut params).map_err(|fault| fault.in_field("params"))?,
    })
}

/// Every operation, with or without parameters.
macro_rules! operations {
    (without: $($bare:ident)* ; with: $($full:ident)*) => {
        fn has_params(operation: &Operation<'_>) -> bool {
            match operation {
                $(Operation::$bare => false,)*
                $(Operation::$full(_) => true,)*
            }
        }

        fn write_params(operation: &Operation<'_>, out: &mut Writer<'_>) {
            match operation {
                $(Operation::$bare => out.map(0),)*
                $(Operation::$full(params) => params.write(out),)*
            }
        }

        fn read_params<'a>(
            kind: OperationKind,
            input: &mut Reader<'a>,
        ) -> Result<Operation<'a>, Fault> {
            match kind {
                $(OperationKind::$bare => read_nothing(input).map(|()| Operation::$bare),)*
                $(OperationKind::$full => Message::read(input).map(Operation::$full),)*
            }
        }
    };
}

operations! {
    without:
        SystemPing SystemInfo SystemCapabilities DbFlush
        RunEnd RunCancel RunPause RunResume RunArchive RunStatus RunGet RunExists RunOrphaned
        TxnCommit TxnRollback TxnInfo DbSubscribeDurable
        SystemHealth SystemMetrics SystemDescribe DbCheckpoint DbListSnapshots
        RunGetRetention RunClearRetention RunRetentionStats;
    with:
        KvPut KvGet KvGetVersioned KvGetMany KvExists KvExistsMany KvDelete KvDeleteMany KvPutMany
        KvIncr KvCasVersion KvCasValue KvPutIfAbsent KvGetAndSet KvGetAndDelete KvList KvScan
        KvCount KvGetAt KvHistory KvLatestVersion
        RunBegin RunFail RunAbort RunList RunResolve RunUpdateMetadata RunAddTags RunRemoveTags
        TxnBegin Batch DbWaitDurable DbUnsubscribe DbCompact DbDeleteSnapshot
        RunSetRetention RunRetentionPreview DbExport KvPutWithTtl KvExpiresAt
}

fn read_nothing(input: &mut Reader<'_>) -> Result<(), Fault> {
    match map(input)? {
        0 => Ok(()),
        _ => Err(unknown_key(key(input)?)),
    }
}

names!(DurabilityChoice {
    "session" Session,
    "in_memory" InMemory,
    "buffered" Buffered,
    "strict" Strict,
});

names!(RunState {
    "active" Active,
    "completed" Completed,
    "failed" Failed,
    "cancelled" Cancelled,
    "paused" Paused,
    "archived" Archived,
    "orphaned" Orphaned,
    "not_found" NotFound,
});

message!(WaitDurable {
    "version" version: Required<Unsigned>,
});
message!(Unsubscribe {
    "subscription_id" subscription_id: Required<Unsigned>,
});
message!(Compact<'a> {
    "mode" mode: Required<Words>,
});
message!(Export<'a> {
    "name" name: Required<Words>,
});
message!(DeleteSnapshot {
    "snapshot_id" snapshot_id: Required<Unsigned>,
});
message!(Policy<'a> {
    "policy" policy: Required<Words>,
});
message!(OneKey<'a> {
    "key" key: Required<Key>,
});
message!(Keys<'a> {
    "keys" keys: Required<Many<Key>>,
});
message!(KeyValue<'a> {
    "key" key: Required<Key>,
    "value" value: Required<Value>,
});
message!(KeyValueTtl<'a> {
    "key" key: Required<Key>,
    "value" value: Required<Value>,
    "ttl_us" ttl_us: Required<Unsigned>,
});
message!(KeyValues<'a> {
    "entries" entries: Required<Many<Object>>,
});
message!(Increment<'a> {
    "key" key: Required<Key>,
    "delta" delta: Required<Signed>,
});
message!(CasVersion<'a> {
    "key" key: Required<Key>,
    "value" value: Required<Value>,
    "expected" expected: Expected,
});
message!(CasValue<'a> {
    "key" key: Required<Key>,
    "value" value: Required<Value>,
    "expected" expected: Optional<Value>,
});
message!(List<'a> {
    "prefix" prefix: Defaulted<Key>,
    "cursor" cursor: Defaulted<Opaque>,
    "limit" limit: Defaulted<Unsigned>,
    "with_values" with_values: Defaulted<Flag>,
});
message!(Scan<'a> {
    "prefix" prefix: Defaulted<Key>,
    "start" start: Defaulted<Key>,
    "cursor" cursor: Defaulted<Opaque>,
    "limit" limit: Defaulted<Unsigned>,
});
message!(Prefix<'a> {
    "prefix" prefix: Defaulted<Key>,
});
message!(GetAt<'a> {
    "key" key: Required<Key>,
    "version" version: Required<Object>,
});
message!(History<'a> {
    "key" key: Required<Key>,
    "limit" limit: Defaulted<Unsigned>,
    "before" before: Optional<Unsigned>,
});
message!(RunBegin<'a> {
    "name" name: Optional<Words>,
    "parent" parent: Optional<Id>,
    "tags" tags: Defaulted<Many<Words>>,
    "metadata" metadata: Optional<Value>,
    "description" description: Optional<Words>,
    "if_missing" if_missing: Defaulted<Flag>,
});
message!(RunFailure<'a> {
    "message" message: Required<Words>,
});
message!(RunList<'a> {
    "status" status: Optional<Name>,
    "include_archived" include_archived: Defaulted<Flag>,
    "limit" limit: Defaulted<Unsigned>,
    "cursor" cursor: Defaulted<Opaque>,
});
message!(RunName<'a> {
    "name" name: Required<Words>,
});
message!(RunMetadata<'a> {
    "metadata" metadata: Required<Value>,
});
message!(RunTags<'a> {
    "tags" tags: Required<Many<Words>>,
});
message!(TxnBegin {
    "read_only" read_only: Defaulted<Flag>,
    "timeout_ms" timeout_ms: Defaulted<Unsigned>,
    "durability" durability: Defaulted<Name>,
});
message!(Batch<'a> {
    "start_version" start_version: Optional<Unsigned>,
    "reads" reads: Defaulted<Many<Object>>,
    "operations" operations: Defaulted<Many<Object>>,
});
message!(BatchRead<'a> {
    "key" key: Required<Key>,
    "version" check: Check,
});

/// What a compare-and-swap by version expects; left out: that the key is absent.
struct Expected;

impl<'a> Presence<'a, ExpectedVersion> for Expected {
    fn is_written(field: &ExpectedVersion) -> bool {
        *field != ExpectedVersion::Absent
    }

    fn write(field: &ExpectedVersion, out: &mut Writer<'_>) {
        if let ExpectedVersion::Raw(version) = field {
            out.unsigned(*version);
        }
    }

    fn read(input: &mut Reader<'a>) -> Result<ExpectedVersion, Fault> {
        Unsigned::read(input).map(ExpectedVersion::Raw)
    }

    fn absent(_: &'static str) -> Result<ExpectedVersion, Fault> {
        Ok(ExpectedVersion::Absent)
    }
}

/// What a read of a batch expects; left out: that the key did not change since the start version.
struct Check;

impl<'a> Presence<'a, ReadCheck> for Check {
    fn is_written(field: &ReadCheck) -> bool {
        *field != ReadCheck::SinceStart
    }

    fn write(field: &ReadCheck, out: &mut Writer<'_>) {
        if let ReadCheck::Version(version) = field {
            out.unsigned(*version);
        }
    }

    fn read(input: &mut Reader<'a>) -> Result<ReadCheck, Fault> {
        Unsigned::read(input).map(ReadCheck::Version)
    }

    fn absent(_: &'static str) -> Result<ReadCheck, Fault> {
        Ok(ReadCheck::SinceStart)
    }
}

impl<'a> Message<'a> for BatchOperation<'a> {
    fn write(&self, out: &mut Writer<'_>) {
        let mut tagged = |tag: &str, write: &dyn Fn(&mut Writer<'_>)| {
            out.map(1);
            out.text(tag);
            write(out);
        };
        match self {
            Self::Put(put) => tagged("put", &|out| put.write(out)),
            Self::Delete(delete) => tagged("delete", &|out| delete.write(out)),
            Self::PutIfAbsent(put) => tagged("put_if_absent", &|out| put.write(out)),
            Self::CasVersion(cas) => tagged("cas_version", &|out| cas.write(out)),
            Self::CasValue(cas) => tagged("cas_value", &|out| cas.write(out)),
            Self::Increment(incr) => tagged("incr", &|out| incr.write(out)),
        }
    }

    fn read(input: &mut Reader<'a>) -> Result<Self, Fault> {
        if map(input)? != 1 {
            return Err(wrong_type("a list of maps with one key each"));
        }
        match key(input)? {
            "put" => Message::read(input).map(Self::Put),
            "delete" => Message::read(input).map(Self::Delete),
            "put_if_absent" => Message::read(input).map(Self::PutIfAbsent),
            "cas_version" => Message::read(input).map(Self::CasVersion),
            "cas_value" => Message::read(input).map(Self::CasValue),
            "incr" => Message::read(input).map(Self::Increment),
            other => Err(unknown_key(other)),
        }
    }
}

/// The flavour of a version.
#[derive(Clone, Copy)]
enum VersionType {
    Txn,
    Sequence,
    Counter,
}

names!(VersionType {
    "txn" Txn,
    "sequence" Sequence,
    "counter" Counter,
});

/// A version, its flavour and its number apart.
struct Version {
    flavour: VersionType,
    number: u64,
}

message!(Version {
    "type" flavour: Required<Name>,
    "value" number: Required<Unsigned>,
});

impl<'a> Message<'a> for TaggedVersion {
    fn write(&self, out: &mut Writer<'_>) {
        let (flavour, number) = match *self {
            Self::Txn(number) => (VersionType::Txn, number),
            Self::Sequence(number) => (VersionType::Sequence, number),
            Self::Counter(number) => (VersionType::Counter, number),
        };
        Version { flavour, number }.write(out);
    }

    fn read(input: &mut Reader<'a>) -> Result<Self, Fault> {
        let Version { flavour, number } = Message::read(input)?;
        Ok(match flavour {
            VersionType::Txn => Self::Txn(number),
            VersionType::Sequence => Self::Sequence(number),
            VersionType::Counter => Self::Counter(number),
        })
    }
}
