"""What operations take and give back: plain, immutable data."""

from __future__ import annotations

import enum
import uuid
from dataclasses import dataclass, field
from typing import Any, Final, Generic, Literal, Mapping, Sequence, TypeVar, Union

T = TypeVar("T")

Value = Union[None, bool, int, float, str, bytes, Sequence[Any], Mapping[str, Any]]
"""What can be stored. An int is an i64 and a float an f64, and each comes back as what it was; str
and bytes too. A tuple comes back as a list. Keys of mappings are str."""

Key = Union[str, bytes]
"""A user key: text; bytes must be UTF-8."""

Durability = Literal["in_memory", "buffered", "strict"]
"""What an acknowledged write survives: nothing, the end of the server process, a power loss."""

Level = Literal["nothing", "volatile", "logged", "synced"]
"""What a write had reached when it was acknowledged; `"nothing"`: it committed nothing by itself."""

RunStatus = Literal[
    "active", "completed", "failed", "cancelled", "paused", "archived", "orphaned", "not_found"
]


class Missing(enum.Enum):
    """The type of `MISSING`."""

    MISSING = "MISSING"

    def __bool__(self) -> Literal[False]:
        return False

    def __repr__(self) -> str:
        return "MISSING"

    __str__ = __repr__


MISSING: Final = Missing.MISSING
"""There is no such key. Not the same as the value None. Compare with `is`."""


@dataclass(frozen=True, slots=True)
class Version:
    """A version: its flavour and its number."""

    type: Literal["txn", "sequence", "counter"]
    value: int

    def __int__(self) -> int:
        return self.value


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a write made."""

    version: Version
    """The version written; number 0 if nothing was committed."""
    commit_version: int
    """The commit that made it; 0 if nothing was committed."""
    level: Level

    @property
    def is_committed(self) -> bool:
        """Whether the write committed by itself, and not later with its transaction."""
        return self.level != "nothing"


@dataclass(frozen=True, slots=True)
class Versioned(Generic[T]):
    """A value with its version and time."""

    value: T
    """In a history, `MISSING` where this version deleted the key."""
    version: Version
    timestamp_us: int
    """When it was committed, microseconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A condition that did not hold: a normal answer, not an error. False in a test."""

    actual: Version
    """The version found; number 0 if the key never existed."""
    is_tombstone: bool

    def __bool__(self) -> Literal[False]:
        return False


Conditional = Union[Receipt, Mismatch]
"""What a conditional write came to: true in a test if it was written."""


@dataclass(frozen=True, slots=True)
class Deleted:
    """How many keys a deletion found, and what it made."""

    count: int
    receipt: Receipt


@dataclass(frozen=True, slots=True)
class Incremented:
    """An integer after an addition, and what the addition made."""

    value: int
    receipt: Receipt


@dataclass(frozen=True, slots=True)
class Replaced:
    """What was there before, or `MISSING`, and what the write made."""

    previous: Any
    receipt: Receipt


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a listing."""

    key: Key
    value: Any
    """`MISSING` if the listing was asked for keys only."""
    version: int


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A part of a listing, in order."""

    entries: list[T]
    cursor: bytes | None
    """Where to go on, in this session; None at the end."""


@dataclass(frozen=True, slots=True)
class History:
    """Versions of one key, newest first."""

    versions: list[Versioned[Any]]
    has_more: bool


@dataclass(frozen=True, slots=True)
class Effect:
    """What one operation of a batch did."""

    kind: Literal["put", "deleted", "put_if_absent", "incremented"]
    value: Any
    """Whether the key existed (`deleted`), or the sum (`incremented`)."""


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What a batch made, and what each of its operations did."""

    receipt: Receipt
    effects: list[Effect]


@dataclass(frozen=True, slots=True)
class RunInfo:
    """A run and its metadata."""

    id: uuid.UUID
    name: str | None
    parent: uuid.UUID | None
    status: RunStatus
    created_at_us: int
    updated_at_us: int
    completed_at_us: int | None
    description: str | None
    tags: list[str]
    metadata: dict[str, Any] | None
    error: str | None
    owner: str | None
    event_count: int
    version: int


@dataclass(frozen=True, slots=True)
class RunBegun:
    """A run that was begun, or found."""

    info: RunInfo
    receipt: Receipt
    """Of a run that was there already, nothing was committed."""


@dataclass(frozen=True, slots=True)
class TransactionInfo:
    """What the server knows about an open transaction."""

    txn_id: int
    start_version: int
    started_at_us: int
    operation_count: int
    run: uuid.UUID
    state: Literal["active", "committing"]
    read_only: bool
    durability: Durability


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """The state of the server."""

    server_version: str
    uptime_us: int
    run_count: int
    key_count: int
    durability: str
    health: Literal["ok", "draining", "poisoned", "read_only", "degraded"]
    health_reason: str
    measures: dict[str, int]


CompactMode = Literal["wal_only", "full"]
"""What a compaction lets go of: segments of the log that every kept snapshot covers, or first the
versions that the retention policy of their run lets go."""


@dataclass(frozen=True, slots=True)
class CheckpointInfo:
    """A snapshot that was taken."""

    watermark_txn: int
    """Every logged commit at or below it is inside, none above it."""
    snapshot_id: int
    timestamp_us: int
    """When it was begun, microseconds since the epoch."""
    size_bytes: int


@dataclass(frozen=True, slots=True)
class CompactInfo:
    """What a compaction did."""

    mode: str
    reclaimed_bytes: int
    wal_segments_removed: int
    versions_removed: int
    snapshot_watermark: int
    duration_ms: int
    timestamp_us: int
    """When it was begun, microseconds since the epoch."""


@dataclass(frozen=True, slots=True)
class OwnPolicy:
    """The retention policy of a run itself."""

    policy: str
    version: int
    """The commit version of its last change; 0 inside the transaction that changes it."""
    timestamp_us: int
    """When that was, microseconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Retention:
    """Which old versions of a run are kept, and why."""

    own: OwnPolicy | None
    """The policy of the run itself; None if the default of the server holds."""
    effective: str
    """What holds."""


@dataclass(frozen=True, slots=True)
class RetentionStats:
    """How much history a run has, and what of it a policy lets go."""

    policy: str
    """The policy that was asked about."""
    watermark: int
    """The highest commit version counted."""
    now_us: int
    """The moment for policies that look at ages, microseconds since the epoch."""
    entity_count: int
    version_count: int
    tombstone_count: int
    value_len_bytes: int
    removable_count: int
    """Versions the policy lets go."""
    removable_len_bytes: int
    """Bytes of their values."""


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """A snapshot that is there."""

    snapshot_id: int
    watermark: int
    """Every logged commit at or below it is inside, none above it."""
    created_at_us: int
    size_bytes: int
    path: str
    """Where it lies, inside the data directory of the server."""


@dataclass(frozen=True, slots=True)
class ExportInfo:
    """A clone of the database that was made."""

    path: str
    """Where it lies on the machine of the server."""
    checkpoint_watermark: int
    """The watermark of the snapshot inside; 0 when there is none, and the log is all of it."""
    watermark_txn: int
    """Every logged commit at or below it is inside, none above it."""
    size_bytes: int
    digest: str
    """SHA-256 of the logged state inside, in hexadecimal: what `inmem digest` says of the clone."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the server can do."""

    server_version: str
    protocol_version: int
    operations: list[str]
    limits: dict[str, int]
    encodings: list[str]
    features: list[str]
    durability_modes: list[str]
    transports: list[str]
    analyser: str | None = field(default=None)
