//! One message of each kind, built from given material: fixed for pinned bytes, random for round
//! trips.

use crate::bytes::{Bytes, Text};
use crate::request::db::*;
use crate::request::kv::*;
use crate::request::run::*;
use crate::request::txn::*;
use crate::request::version::TaggedVersion;
use crate::request::{DurabilityChoice, Operation, Request, RequestHeader, RunChoice};
use crate::response::db::Subscribed;
use crate::response::kv::{
    BatchEffect, BatchResult, Deleted, Entry, Incremented, Mismatch, Page, Replaced, Slot,
    Versioned,
};
use crate::response::observe::*;
use crate::response::run::{RunBegun, RunPage, RunStatusReply, TxnBegun, TxnInfo, TxnState};
use crate::response::system::*;
use crate::response::{Flavour, ReachedLevel, Receipt, Response};

/// What messages are made of.
#[derive(Debug, Clone)]
pub(super) struct Material {
    pub(super) bytes: Vec<Vec<u8>>,
    pub(super) texts: Vec<String>,
    pub(super) numbers: [u64; 4],
    pub(super) id: [u8; 16],
    pub(super) choice: u8,
}

impl Material {
    /// The material of the pinned bytes: a 16-byte key and a 100-byte value first.
    pub(super) fn fixed() -> Self {
        let id = std::array::from_fn(|index| 0x10 + u8::try_from(index).unwrap());
        Self {
            bytes: vec![
                b"agent/7/position".to_vec(),
                vec![0xab; 100],
                b"agent/8".to_vec(),
            ],
            texts: vec![
                "planner".to_owned(),
                "a longer text than fits inline".to_owned(),
            ],
            numbers: [0x0102_0304_0506_0708, 42, 7, 1_700_000_000_000_000],
            id,
            choice: 2,
        }
    }

    pub(super) fn bytes(&self, index: usize) -> Bytes<'static> {
        self.bytes[index % self.bytes.len()].clone().into()
    }

    pub(super) fn text(&self, index: usize) -> Text<'static> {
        self.texts[index % self.texts.len()].clone().into()
    }

    fn maybe_bytes(&self, index: usize) -> Option<Bytes<'static>> {
        (!self.choice.is_multiple_of(3)).then(|| self.bytes(index))
    }

    fn number32(&self, index: usize) -> u32 {
        u32::try_from(self.numbers[index] & u64::from(u32::MAX)).unwrap()
    }

    fn flag(&self) -> bool {
        self.choice.is_multiple_of(2)
    }

    fn texts(&self) -> Vec<Text<'static>> {
        self.texts.iter().map(|text| text.clone().into()).collect()
    }

    fn all_bytes(&self) -> Vec<Bytes<'static>> {
        self.bytes
            .iter()
            .map(|bytes| bytes.clone().into())
            .collect()
    }

    fn version(&self) -> TaggedVersion {
        match self.choice % 3 {
            0 => TaggedVersion::Txn(self.numbers[0]),
            1 => TaggedVersion::Sequence(self.numbers[0]),
            _ => TaggedVersion::Counter(self.numbers[0]),
        }
    }

    fn durability(&self) -> DurabilityChoice {
        match self.choice % 4 {
            0 => DurabilityChoice::Session,
            1 => DurabilityChoice::InMemory,
            2 => DurabilityChoice::Buffered,
            _ => DurabilityChoice::Strict,
        }
    }

    fn run_state(&self) -> RunState {
        match self.choice % 8 {
            0 => RunState::Active,
            1 => RunState::Completed,
            2 => RunState::Failed,
            3 => RunState::Cancelled,
            4 => RunState::Paused,
            5 => RunState::Archived,
            6 => RunState::Orphaned,
            _ => RunState::NotFound,
        }
    }

    fn receipt(&self) -> Receipt {
        Receipt {
            version: self.numbers[0],
            commit_version: self.numbers[1],
            flavour: [Flavour::Txn, Flavour::Sequence, Flavour::Counter]
                [usize::from(self.choice % 3)],
            level: [
                ReachedLevel::Nothing,
                ReachedLevel::Volatile,
                ReachedLevel::Logged,
                ReachedLevel::Synced,
            ][usize::from(self.choice % 4)],
        }
    }

    fn key(&self) -> Key<'static> {
        Key { key: self.bytes(0) }
    }

    fn keys(&self) -> Keys<'static> {
        Keys {
            keys: self.all_bytes(),
        }
    }

    fn key_value(&self) -> KeyValue<'static> {
        KeyValue {
            key: self.bytes(0),
            value: self.bytes(1),
        }
    }

    fn cas_version(&self) -> CasVersion<'static> {
        let expected = if self.flag() {
            ExpectedVersion::Raw(self.numbers[1])
        } else {
            ExpectedVersion::Absent
        };
        CasVersion {
            key: self.bytes(0),
            value: self.bytes(1),
            expected,
        }
    }

    fn cas_value(&self) -> CasValue<'static> {
        CasValue {
            key: self.bytes(0),
            value: self.bytes(1),
            expected: self.maybe_bytes(2),
        }
    }

    fn increment(&self) -> Increment<'static> {
        Increment {
            key: self.bytes(0),
            delta: self.numbers[2].cast_signed(),
        }
    }

    fn batch(&self) -> Batch<'static> {
        Batch {
            start_version: self.flag().then_some(self.numbers[1]),
            reads: vec![
                BatchRead {
                    key: self.bytes(0),
                    check: ReadCheck::Version(self.numbers[0]),
                },
                BatchRead {
                    key: self.bytes(2),
                    check: ReadCheck::SinceStart,
                },
            ],
            operations: vec![
                BatchOperation::Put(self.key_value()),
                BatchOperation::Delete(self.key()),
                BatchOperation::PutIfAbsent(self.key_value()),
                BatchOperation::CasVersion(self.cas_version()),
                BatchOperation::CasValue(self.cas_value()),
                BatchOperation::Increment(self.increment()),
            ],
        }
    }

    fn run_begin(&self) -> RunBegin<'static> {
        RunBegin {
            name: self.flag().then(|| self.text(0)),
            parent: self.flag().then_some(self.id),
            tags: self.texts(),
            metadata: self.maybe_bytes(1),
            description: self.flag().then(|| self.text(1)),
            if_missing: self.flag(),
        }
    }

    pub(super) fn header(&self) -> RequestHeader {
        RequestHeader {
            txn_id: self.numbers[2],
            client_sequence: self.numbers[1],
            deadline_us: self.number32(3),
            client_sequence_lag: u16::from(self.choice),
            durability: self.durability(),
            run: if self.flag() {
                RunChoice::Id(self.id)
            } else {
                RunChoice::Session
            },
        }
    }
}

pub(super) fn requests(material: &Material) -> Vec<Request<'static>> {
    operations(material)
        .into_iter()
        .map(|operation| Request {
            header: material.header(),
            operation,
        })
        .collect()
}

/// One operation of each kind, in the order of the table.
pub(super) fn operations(m: &Material) -> Vec<Operation<'static>> {
    let failure = || RunFailure { message: m.text(1) };
    let tags = || RunTags { tags: m.texts() };
    let mut operations = vec![
        Operation::SystemPing,
        Operation::SystemInfo,
        Operation::SystemCapabilities,
        Operation::DbFlush,
    ];
    operations.extend(kv_operations(m));
    operations.extend([
        Operation::RunBegin(m.run_begin()),
        Operation::RunEnd,
        Operation::RunFail(failure()),
        Operation::RunAbort(failure()),
        Operation::RunCancel,
        Operation::RunPause,
        Operation::RunResume,
        Operation::RunArchive,
        Operation::RunStatus,
        Operation::RunGet,
        Operation::RunExists,
        Operation::RunList(RunList {
            status: m.flag().then(|| m.run_state()),
            include_archived: m.flag(),
            limit: m.number32(1),
            cursor: m.bytes(2),
        }),
        Operation::RunResolve(RunName { name: m.text(0) }),
        Operation::RunOrphaned,
        Operation::RunUpdateMetadata(RunMetadata {
            metadata: m.bytes(1),
        }),
        Operation::RunAddTags(tags()),
        Operation::RunRemoveTags(tags()),
        Operation::TxnBegin(TxnBegin {
            read_only: m.flag(),
            timeout_ms: m.number32(2),
            durability: m.durability(),
        }),
        Operation::TxnCommit,
        Operation::TxnRollback,
        Operation::TxnInfo,
        Operation::Batch(m.batch()),
        Operation::DbWaitDurable(WaitDurable {
            version: m.numbers[0],
        }),
        Operation::DbSubscribeDurable,
        Operation::DbUnsubscribe(Unsubscribe {
            subscription_id: m.numbers[1],
        }),
        Operation::SystemHealth,
        Operation::SystemMetrics,
        Operation::SystemDescribe,
    ]);
    operations.extend(super::snapshots::operations(m));
    operations
}

fn kv_operations(m: &Material) -> Vec<Operation<'static>> {
    vec![
        Operation::KvPut(m.key_value()),
        Operation::KvGet(m.key()),
        Operation::KvGetVersioned(m.key()),
        Operation::KvGetMany(m.keys()),
        Operation::KvExists(m.key()),
        Operation::KvExistsMany(m.keys()),
        Operation::KvDelete(m.key()),
        Operation::KvDeleteMany(m.keys()),
        Operation::KvPutMany(KeyValues {
            entries: vec![m.key_value(), m.key_value()],
        }),
        Operation::KvIncr(m.increment()),
        Operation::KvCasVersion(m.cas_version()),
        Operation::KvCasValue(m.cas_value()),
        Operation::KvPutIfAbsent(m.key_value()),
        Operation::KvGetAndSet(m.key_value()),
        Operation::KvGetAndDelete(m.key()),
        Operation::KvList(List {
            prefix: m.bytes(2),
            cursor: m.bytes(0),
            limit: m.number32(1),
            with_values: m.flag(),
        }),
        Operation::KvScan(Scan {
            prefix: m.bytes(2),
            start: m.bytes(0),
            cursor: m.bytes(0),
            limit: m.number32(1),
        }),
        Operation::KvCount(Prefix { prefix: m.bytes(2) }),
        Operation::KvGetAt(GetAt {
            key: m.bytes(0),
            version: m.version(),
        }),
        Operation::KvHistory(History {
            key: m.bytes(0),
            limit: m.number32(1),
            before: m.flag().then_some(m.numbers[1]),
        }),
        Operation::KvLatestVersion(m.key()),
    ]
}

/// One response of each kind, with its name, in the order of the wire tags.
pub(super) fn responses(m: &Material) -> Vec<(&'static str, Response<'static>)> {
    let description = Box::new(description(m));
    let mut responses = vec![
        ("Error", Response::Error(error_body(m))),
        ("Done", Response::Done),
        ("Written", Response::Written(m.receipt())),
        ("Value", Response::Value(m.bytes(1))),
        ("Missing", Response::Missing),
    ];
    responses.extend(kv_responses(m));
    responses.extend([
        ("Version", Response::Version(m.version())),
        (
            "RunBegun",
            Response::RunBegun(RunBegun {
                run: m.bytes(1),
                receipt: m.receipt(),
            }),
        ),
        (
            "RunStatus",
            Response::RunStatus(RunStatusReply {
                status: m.run_state(),
            }),
        ),
        ("Run", Response::Run(m.bytes(1))),
        (
            "Runs",
            Response::Runs(RunPage {
                runs: m.all_bytes(),
                cursor: m.bytes(2),
                has_more: m.flag(),
            }),
        ),
        ("RunId", Response::RunId(m.id)),
        (
            "TxnBegun",
            Response::TxnBegun(TxnBegun {
                txn_id: m.numbers[2],
                start_version: m.numbers[1],
            }),
        ),
        ("Txn", Response::Txn(txn_info(m))),
        (
            "Batch",
            Response::Batch(BatchResult {
                receipt: m.receipt(),
                effects: vec![
                    BatchEffect::Put,
                    BatchEffect::Deleted(m.flag()),
                    BatchEffect::PutIfAbsent(m.flag()),
                    BatchEffect::Incremented(m.numbers[0].cast_signed()),
                ],
            }),
        ),
        ("Info", Response::Info(info(m))),
        ("Capabilities", Response::Capabilities(capabilities(m))),
        ("Subscribed", subscribed(m)),
        ("Health", Response::Health(health_report(m))),
        ("Metrics", Response::Metrics(m.text(1))),
        ("Description", Response::Description(description)),
    ]);
    responses.extend(super::snapshots::responses(m));
    responses
}

fn subscribed(m: &Material) -> Response<'static> {
    Response::Subscribed(Subscribed {
        subscription_id: m.numbers[1],
        durable_version: m.numbers[0],
    })
}

fn kv_responses(m: &Material) -> Vec<(&'static str, Response<'static>)> {
    let versioned = || Versioned {
        value: m.maybe_bytes(1),
        version: m.version(),
        timestamp_us: m.numbers[3],
    };
    let history = crate::response::kv::History {
        versions: vec![versioned(), versioned()],
        has_more: m.flag(),
    };
    let entry = Entry {
        key: m.bytes(0),
        value: m.maybe_bytes(1),
        version: m.numbers[1],
    };
    vec![
        ("Versioned", Response::Versioned(versioned())),
        (
            "Values",
            Response::Values(vec![Slot::Present(m.bytes(1)), Slot::Absent]),
        ),
        ("Flag", Response::Flag(m.flag())),
        ("Count", Response::Count(m.numbers[1])),
        (
            "Deleted",
            Response::Deleted(Deleted {
                count: m.number32(1),
                receipt: m.receipt(),
            }),
        ),
        (
            "Incremented",
            Response::Incremented(Incremented {
                value: m.numbers[1].cast_signed(),
                receipt: m.receipt(),
            }),
        ),
        (
            "Mismatch",
            Response::Mismatch(Mismatch {
                actual: m.version(),
                is_tombstone: m.flag(),
            }),
        ),
        (
            "Replaced",
            Response::Replaced(Replaced {
                previous: m.maybe_bytes(1),
                receipt: m.receipt(),
            }),
        ),
        (
            "Page",
            Response::Page(Page {
                entries: vec![entry.clone(), entry],
                cursor: m.bytes(2),
                has_more: m.flag(),
            }),
        ),
        ("History", Response::History(history)),
    ]
}

fn error_body(m: &Material) -> ErrorBody<'static> {
    let detail = |value| Detail {
        name: m.text(0),
        value,
    };
    ErrorBody {
        class: 7,
        sub: 700,
        outcome: [
            None,
            Some(CommitOutcome::NotCommitted),
            Some(CommitOutcome::OutcomeUnknown),
        ][usize::from(m.choice % 3)],
        retry: [
            RetryAdvice::No,
            RetryAdvice::Yes,
            RetryAdvice::AfterReread,
            RetryAdvice::Later,
            RetryAdvice::AfterReopen,
            RetryAdvice::IfNotCommitted,
        ][usize::from(m.choice % 6)],
        message: m.text(1),
        details: vec![
            detail(DetailValue::Text(m.text(1))),
            detail(DetailValue::Number(m.numbers[0])),
            detail(DetailValue::Version(m.version())),
            detail(DetailValue::Flag(m.flag())),
        ],
    }
}

fn txn_info(m: &Material) -> TxnInfo {
    TxnInfo {
        txn_id: m.numbers[0],
        start_version: m.numbers[1],
        started_at_us: m.numbers[3],
        operation_count: m.numbers[2],
        run: m.id,
        state: if m.flag() {
            TxnState::Active
        } else {
            TxnState::Committing
        },
        read_only: m.flag(),
        durability: m.durability(),
    }
}

fn info(m: &Material) -> Info<'static> {
    Info {
        server_version: m.text(0),
        uptime_us: m.numbers[0],
        run_count: m.numbers[1],
        key_count: m.numbers[2],
        durability: m.text(0),
        health: [
            Health::Ok,
            Health::Draining,
            Health::Poisoned,
            Health::ReadOnly,
            Health::Degraded,
        ][usize::from(m.choice % 5)],
        health_reason: m.text(1),
        measures: vec![Measure {
            name: m.text(0),
            value: m.numbers[0],
        }],
    }
}

fn capabilities(m: &Material) -> Capabilities<'static> {
    Capabilities {
        server_version: m.text(0),
        protocol_version: u16::from(m.choice),
        operations: m.texts(),
        limits: vec![Measure {
            name: m.text(1),
            value: m.numbers[0],
        }],
        encodings: m.texts(),
        features: m.texts(),
        durability_modes: m.texts(),
        transports: m.texts(),
        analyser: m.flag().then(|| m.text(0)),
    }
}

fn health_report(m: &Material) -> HealthReport<'static> {
    HealthReport {
        state: [
            HealthState::Ok,
            HealthState::Draining,
            HealthState::Poisoned,
            HealthState::ReadOnly,
            HealthState::Degraded,
        ][usize::from(m.choice % 5)],
        faults: vec![Fault {
            name: m.text(0),
            reason: m.text(1),
        }],
        log_backend: m.text(0),
        socket_backend: m.text(1),
        free_len_bytes: m.flag().then_some(m.numbers[0]),
    }
}

fn description(m: &Material) -> Description<'static> {
    Description {
        info: info(m),
        health: health_report(m),
        capabilities: capabilities(m),
        settings: vec![Setting {
            name: m.text(0),
            value: m.flag().then(|| m.text(1)),
            origin: m.text(1),
        }],
        runs: vec![RunSummary {
            id: m.id,
            name: m.flag().then(|| m.text(0)),
            status: m.text(0),
            key_count: m.numbers[1],
        }],
        has_more_runs: m.flag(),
    }
}
