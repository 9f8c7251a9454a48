"""Every operation as data: what is sent, and how the answer is read.

A `Call` belongs to no connection. The clients execute calls; a pipeline takes them as they are:

    with client.pipeline() as pipeline:
        tickets = [pipeline.add(calls.put(key, value)) for key, value in entries]
    versions = [ticket.result().commit_version for ticket in tickets]
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, fields
from typing import Any, Callable, Generic, Iterable, Mapping, TypeVar, Union, cast

from ._wire import protocol_violation
from .types import (
    MISSING,
    BatchResult,
    Capabilities,
    CheckpointInfo,
    CompactInfo,
    CompactMode,
    Conditional,
    Deleted,
    Durability,
    Effect,
    Entry,
    ExportInfo,
    History,
    Incremented,
    Key,
    Mismatch,
    Missing,
    Page,
    Receipt,
    Replaced,
    RunBegun,
    RunInfo,
    RunStatus,
    ServerInfo,
    SnapshotInfo,
    TransactionInfo,
    Value,
    Version,
    Versioned,
)

R = TypeVar("R")

Answer = Any
"""The result of an answer as it was unpacked."""

ExpectedVersion = Union[int, Version, Missing]
"""A commit version (0: the key never existed), or `MISSING`: never there, or deleted."""


@dataclass(frozen=True, slots=True)
class Call(Generic[R]):
    """One request, and how to read its answer by the kind of its result."""

    op: str
    params: dict[str, Any]
    read: Callable[[str, Answer], R]
    is_write: bool = False


def _version(found: Mapping[str, Any]) -> Version:
    return Version(found["type"], found["value"])


def _receipt(found: Mapping[str, Any]) -> Receipt:
    return Receipt(_version(found["version"]), found["commit_version"], found["level"])


def _versioned(found: Mapping[str, Any]) -> Versioned[Any]:
    value = found.get("value", MISSING)
    return Versioned(value, _version(found["version"]), found["timestamp_us"])


def run_info(found: Mapping[str, Any]) -> RunInfo:
    """The run an Object of the server describes."""
    parent = found.get("parent")
    return RunInfo(
        id=uuid.UUID(found["id"]),
        name=found.get("name"),
        parent=uuid.UUID(parent) if parent is not None else None,
        status=found["status"],
        created_at_us=found["created_at"],
        updated_at_us=found["updated_at"],
        completed_at_us=found.get("completed_at"),
        description=found.get("description"),
        tags=list(found["tags"]),
        metadata=found.get("metadata"),
        error=found.get("error"),
        owner=found.get("owner"),
        event_count=found["event_count"],
        version=found["version"],
    )


def _expect(wanted: str, read: Callable[[Answer], R]) -> Callable[[str, Answer], R]:
    """Reads an answer of one kind."""

    def check(kind: str, result: Answer) -> R:
        if kind != wanted:
            raise protocol_violation(f"an answer of kind {kind!r} where {wanted!r} belongs")
        return read(result)

    return check


def _or_missing(wanted: str, read: Callable[[Answer], R]) -> Callable[[str, Answer], R | Missing]:
    """The same where there may be nothing."""
    present = _expect(wanted, read)
    return lambda kind, result: MISSING if kind == "missing" else present(kind, result)


def _or_none(wanted: str, read: Callable[[Answer], R]) -> Callable[[str, Answer], R | None]:
    present = _expect(wanted, read)
    return lambda kind, result: None if kind == "missing" else present(kind, result)


def _as(kind: Callable[..., R], found: Mapping[str, Any], **changed: Any) -> R:
    """The fields of a dataclass; those a later server adds are skipped."""
    known = {field.name for field in fields(cast(Any, kind))}
    return kind(**{name: value for name, value in {**found, **changed}.items() if name in known})


def _as_is(result: Answer) -> Any:
    return result


_done: Callable[[str, Answer], None] = _expect("done", lambda _: None)
_written = _expect("written", _receipt)
_flag: Callable[[str, Answer], bool] = _expect("flag", bool)
_count: Callable[[str, Answer], int] = _expect("count", int)
_deleted = _expect("deleted", lambda found: Deleted(found["count"], _receipt(found["receipt"])))


def _conditional(kind: str, result: Answer) -> Conditional:
    if kind == "mismatch":
        return Mismatch(_version(result["actual"]), result["is_tombstone"])
    return _written(kind, result)


def _replaced(kind: str, result: Answer) -> Replaced:
    if kind == "written":
        # The answer to a repeat whose value was too long to be kept.
        return Replaced(MISSING, _receipt(result))
    read = _expect(
        "replaced", lambda found: Replaced(found.get("previous", MISSING), _receipt(found["receipt"]))
    )
    return read(kind, result)


def _page(kind: str, result: Answer) -> Page[Entry]:
    def read(found: Answer) -> Page[Entry]:
        entries = [
            Entry(entry["key"], entry.get("value", MISSING), entry["version"])
            for entry in found["entries"]
        ]
        return Page(entries, found.get("cursor") or None if found["has_more"] else None)

    return _expect("page", read)(kind, result)


def _expected_params(expected: ExpectedVersion) -> dict[str, Any]:
    return {} if expected is MISSING else {"expected": int(expected)}


def _given(**params: Any) -> dict[str, Any]:
    """The parameters that were given."""
    return {name: value for name, value in params.items() if value is not None}


# Keys and values.


def put(key: Key, value: Value) -> Call[Receipt]:
    """Puts a value."""
    return Call("kv.put", {"key": key, "value": value}, _written, is_write=True)


def put_many(entries: Mapping[Any, Value] | Iterable[tuple[Key, Value]]) -> Call[Receipt]:
    """Puts several values under one commit version."""
    pairs = entries.items() if isinstance(entries, Mapping) else entries
    listed = [{"key": key, "value": value} for key, value in pairs]
    return Call("kv.put_many", {"entries": listed}, _written, is_write=True)


def get(key: Key) -> Call[Any]:
    """The value of a key, or `MISSING`."""
    return Call("kv.get", {"key": key}, _or_missing("value", _as_is))


def get_versioned(key: Key) -> Call[Versioned[Any] | None]:
    """The value of a key with its version and time, or None."""
    return Call("kv.get_versioned", {"key": key}, _or_none("versioned", _versioned))


def get_at(key: Key, version: int | Version) -> Call[Versioned[Any] | None]:
    """The value of a key as of a commit version, or None."""
    flavour = version.type if isinstance(version, Version) else "txn"
    asked = {"type": flavour, "value": int(version)}
    read = _or_none("versioned", _versioned)
    return Call("kv.get_at", {"key": key, "version": asked}, read)


def get_many(keys: Iterable[Key]) -> Call[list[Any]]:
    """The values of several keys as of one moment, in their order; `MISSING` for holes."""
    read = _expect("values", lambda slots: [slot[0] if slot else MISSING for slot in slots])
    return Call("kv.get_many", {"keys": list(keys)}, read)


def exists(key: Key) -> Call[bool]:
    """Whether a key exists."""
    return Call("kv.exists", {"key": key}, _flag)


def exists_many(keys: Iterable[Key]) -> Call[int]:
    """How many of the keys exist."""
    return Call("kv.exists_many", {"keys": list(keys)}, _count)


def delete(key: Key) -> Call[Deleted]:
    """Deletes a key."""
    return Call("kv.delete", {"key": key}, _deleted, is_write=True)


def delete_many(keys: Iterable[Key]) -> Call[Deleted]:
    """Deletes several keys under one commit version."""
    return Call("kv.delete_many", {"keys": list(keys)}, _deleted, is_write=True)


def incr(key: Key, delta: int = 1) -> Call[Incremented]:
    """Adds to an integer; a key that is not there counts from 0."""
    read = _expect(
        "incremented", lambda found: Incremented(found["value"], _receipt(found["receipt"]))
    )
    return Call("kv.incr", {"key": key, "delta": delta}, read, is_write=True)


def cas_version(key: Key, expected: ExpectedVersion, value: Value) -> Call[Conditional]:
    """Puts a value if the key is at the expected version."""
    params = {"key": key, "value": value, **_expected_params(expected)}
    return Call("kv.cas_version", params, _conditional, is_write=True)


def cas_value(key: Key, expected: Value | Missing, value: Value) -> Call[Conditional]:
    """Puts a value if the key has the expected one, or with `MISSING` none."""
    params: dict[str, Any] = {"key": key, "value": value}
    if expected is not MISSING:
        params["expected"] = expected
    return Call("kv.cas_value", params, _conditional, is_write=True)


def put_if_absent(key: Key, value: Value) -> Call[Conditional]:
    """Puts a value if the key does not exist."""
    return Call("kv.put_if_absent", {"key": key, "value": value}, _conditional, is_write=True)


def get_and_set(key: Key, value: Value) -> Call[Replaced]:
    """Puts a value and gives the one before."""
    return Call("kv.get_and_set", {"key": key, "value": value}, _replaced, is_write=True)


def get_and_delete(key: Key) -> Call[Replaced]:
    """Deletes a key and gives its value."""
    return Call("kv.get_and_delete", {"key": key}, _replaced, is_write=True)


def list_keys(
    prefix: Key = "",
    *,
    limit: int | None = None,
    cursor: bytes | None = None,
    with_values: bool = False,
) -> Call[Page[Entry]]:
    """A page of the keys that begin with a prefix, sorted."""
    params = _given(prefix=prefix, limit=limit, cursor=cursor, with_values=with_values)
    return Call("kv.list", params, _page)


def scan(
    prefix: Key = "",
    *,
    start: Key | None = None,
    limit: int | None = None,
    cursor: bytes | None = None,
) -> Call[Page[Entry]]:
    """A page of keys with values, sorted, from `start` on."""
    params = _given(prefix=prefix, start=start, limit=limit, cursor=cursor)
    return Call("kv.scan", params, _page)


def count(prefix: Key = "") -> Call[int]:
    """How many keys begin with a prefix."""
    return Call("kv.count", {"prefix": prefix}, _count)


def history(key: Key, *, limit: int | None = None, before: int | None = None) -> Call[History]:
    """The versions of a key, newest first; only those below the commit version `before`."""

    def read(found: Answer) -> History:
        return History([_versioned(version) for version in found["versions"]], found["has_more"])

    params = _given(key=key, limit=limit, before=before)
    return Call("kv.history", params, _expect("history", read))


def latest_version(key: Key) -> Call[Version | None]:
    """The newest version of a key, or None."""
    return Call("kv.latest_version", {"key": key}, _or_none("version", _version))


# Runs.


def begin_run(
    name: str | None = None,
    *,
    parent: uuid.UUID | None = None,
    tags: Iterable[str] | None = None,
    metadata: Mapping[str, Any] | None = None,
    description: str | None = None,
    if_missing: bool = False,
) -> Call[RunBegun]:
    """Begins a run."""

    def read(kind: str, result: Answer) -> RunBegun:
        return _expect(
            "run_begun", lambda found: RunBegun(run_info(found["run"]), _receipt(found["receipt"]))
        )(kind, result)

    params = _given(
        name=name,
        parent=parent.bytes if parent is not None else None,
        tags=list(tags) if tags is not None else None,
        metadata=metadata,
        description=description,
        if_missing=if_missing,
    )
    return Call("run.begin", params, read, is_write=True)


def list_runs(
    status: RunStatus | None = None,
    *,
    include_archived: bool = False,
    limit: int | None = None,
    cursor: bytes | None = None,
) -> Call[Page[RunInfo]]:
    """A page of the runs."""
    params = _given(status=status, include_archived=include_archived, limit=limit, cursor=cursor)
    return Call("run.list", params, _runs)


def orphaned_runs() -> Call[Page[RunInfo]]:
    """The runs that were active when their owner died."""
    return Call("run.orphaned", {}, _runs)


def _runs(kind: str, result: Answer) -> Page[RunInfo]:
    def read(found: Answer) -> Page[RunInfo]:
        runs = [run_info(run) for run in found["runs"]]
        return Page(runs, found.get("cursor") or None if found["has_more"] else None)

    return _expect("runs", read)(kind, result)


def resolve_run(name: str) -> Call[uuid.UUID | None]:
    """The id of the run of a name, or None."""
    read = _or_none("run_id", lambda found: uuid.UUID(bytes=found))
    return Call("run.resolve", {"name": name}, read)


def run_status() -> Call[RunStatus]:
    """The status of the run of the request; `"not_found"` if there is none."""
    read: Callable[[str, Answer], RunStatus] = _expect(
        "run_status", lambda found: cast(RunStatus, found["status"])
    )
    return Call("run.status", {}, read)


def get_run() -> Call[RunInfo | None]:
    """The metadata of the run of the request, or None."""
    return Call("run.get", {}, _or_none("run", run_info))


def run_exists() -> Call[bool]:
    """Whether the run of the request exists."""
    return Call("run.exists", {}, _flag)


def _change_run(op: str, **params: Any) -> Call[Receipt]:
    return Call(f"run.{op}", params, _written, is_write=True)


def end_run() -> Call[Receipt]:
    """Ends the run of the request well."""
    return _change_run("end")


def fail_run(message: str) -> Call[Receipt]:
    """Ends it with an error."""
    return _change_run("fail", message=message)


def abort_run(reason: str) -> Call[Receipt]:
    """Ends it with a reason."""
    return _change_run("abort", message=reason)


def cancel_run() -> Call[Receipt]:
    """Ends it on request."""
    return _change_run("cancel")


def pause_run() -> Call[Receipt]:
    """Refuses writes until it is resumed."""
    return _change_run("pause")


def resume_run() -> Call[Receipt]:
    """Takes writes again."""
    return _change_run("resume")


def archive_run() -> Call[Receipt]:
    """Keeps it, and leaves it out of listings."""
    return _change_run("archive")


def update_run_metadata(metadata: Mapping[str, Any] | None) -> Call[Receipt]:
    """Replaces the metadata of the run."""
    return _change_run("update_metadata", metadata=metadata)


def add_run_tags(tags: Iterable[str]) -> Call[Receipt]:
    """Adds tags to the run."""
    return _change_run("add_tags", tags=list(tags))


def remove_run_tags(tags: Iterable[str]) -> Call[Receipt]:
    """Takes tags from the run."""
    return _change_run("remove_tags", tags=list(tags))


# Transactions and batches.


def begin_transaction(
    *,
    read_only: bool = False,
    timeout_ms: int | None = None,
    durability: Durability | None = None,
) -> Call[tuple[int, int]]:
    """Begins a transaction: its id and the version it reads at."""
    read = _expect("txn_begun", lambda found: (int(found["txn_id"]), int(found["start_version"])))
    params = _given(read_only=read_only, timeout_ms=timeout_ms, durability=durability)
    return Call("txn.begin", params, read)


def commit_transaction() -> Call[Receipt]:
    """Commits the transaction of the request."""
    return Call("txn.commit", {}, _written, is_write=True)


def roll_back_transaction() -> Call[None]:
    """Rolls the transaction of the request back."""
    return Call("txn.rollback", {}, _done)


def transaction_info() -> Call[TransactionInfo]:
    """What the server knows about the transaction of the request."""

    def read(found: Answer) -> TransactionInfo:
        return _as(TransactionInfo, found, run=uuid.UUID(bytes=found["run"]))

    return Call("txn.info", {}, _expect("txn", read))


def commit_batch(
    operations: list[dict[str, Any]],
    reads: list[dict[str, Any]],
    start_version: int | None,
) -> Call[BatchResult]:
    """Commits changes in one step, all or none."""

    def read(kind: str, result: Answer) -> BatchResult:
        if kind == "written":
            # The answer to a repeat whose effects were too long to be kept.
            return BatchResult(_receipt(result), [])
        return _expect("batch", in_full)(kind, result)

    def in_full(found: Answer) -> BatchResult:
        effects = [Effect(*entry) for effect in found["effects"] for entry in effect.items()]
        return BatchResult(_receipt(found["receipt"]), effects)

    params = _given(operations=operations, reads=reads, start_version=start_version)
    return Call("batch", params, read, is_write=True)


# The server.


def ping() -> Call[None]:
    """Asks whether the server answers."""
    return Call("system.ping", {}, _done)


def info() -> Call[ServerInfo]:
    """The state of the server."""

    def read(found: Answer) -> ServerInfo:
        return _as(ServerInfo, found, measures=dict(found["measures"]))

    return Call("system.info", {}, _expect("info", read))


def capabilities() -> Call[Capabilities]:
    """What the server can do."""

    def read(found: Answer) -> Capabilities:
        return _as(Capabilities, found, limits=dict(found["limits"]))

    return Call("system.capabilities", {}, _expect("capabilities", read))


def flush() -> Call[None]:
    """Waits until everything acknowledged so far is on disk."""
    return Call("db.flush", {}, _done)


def subscribe_durable() -> Call[tuple[int, int]]:
    """Asks to be told how far commits are durable: the subscription, and the version now."""
    read = _expect(
        "subscribed", lambda found: (int(found["subscription_id"]), int(found["durable_version"]))
    )
    return Call("db.subscribe_durable", {}, read)


def unsubscribe(subscription_id: int) -> Call[None]:
    """Asks to be told no more."""
    return Call("db.unsubscribe", {"subscription_id": subscription_id}, _done)


def wait_durable(commit_version: int) -> Call[int]:
    """Waits until every logged commit up to this version is on disk; the durable version then."""
    read: Callable[[str, Answer], int] = _expect("version", lambda found: int(found["value"]))
    return Call("db.wait_durable", {"version": commit_version}, read)


def checkpoint() -> Call[CheckpointInfo]:
    """Takes a snapshot; answered once the next start of the server begins with it."""
    read = _expect("checkpoint", lambda found: _as(CheckpointInfo, found))
    return Call("db.checkpoint", {}, read)


def compact(mode: CompactMode = "wal_only") -> Call[CompactInfo]:
    """Lets go of what the newest snapshot, or a retention policy, has made superfluous."""
    read = _expect("compacted", lambda found: _as(CompactInfo, found))
    return Call("db.compact", {"mode": mode}, read)


def list_snapshots() -> Call[list[SnapshotInfo]]:
    """The snapshots there are, the oldest first."""
    read = _expect("snapshots", lambda found: [_as(SnapshotInfo, info) for info in found])
    return Call("db.list_snapshots", {}, read)


def delete_snapshot(snapshot_id: int) -> Call[bool]:
    """Removes a snapshot; whether there was one of that number."""
    return Call("db.delete_snapshot", {"snapshot_id": snapshot_id}, _flag)


def export(name: str) -> Call[ExportInfo]:
    """Makes a clone inside the directory the server exports to; answered once it is durable."""
    read = _expect("exported", lambda found: _as(ExportInfo, found))
    return Call("db.export", {"name": name}, read)
