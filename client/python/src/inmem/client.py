"""The blocking client. `inmem.aio` has the same for asyncio.

Each method is one request. A client is one session on one connection, made again when it is lost;
threads share it and take turns. For calls that do not wait for each other use a pipeline, or several
clients.
"""

from __future__ import annotations

import os
import time
import uuid
from types import TracebackType
from typing import Any, Callable, Generic, Iterable, Iterator, List, Mapping, TypeVar, Union, overload

from . import calls, errors
from ._batch import BatchChanges
from ._blocking import Link, Outcome
from ._expiry import Expiring
from ._exports import Exports
from ._handles import (
    CONFLICT_RETRY_COUNT,
    Retries,
    Scope,
    TransactionState,
    commit_version,
    options,
    run_id,
    run_not_found,
)
from ._retention import RunRetention
from ._session import Header, Identity, Reconnect
from ._snapshots import Snapshots
from ._wire import Greeting
from .calls import Call, ExpectedVersion
from .types import (
    MISSING,
    BatchResult,
    Capabilities,
    Conditional,
    Deleted,
    Durability,
    Entry,
    History,
    Incremented,
    Key,
    Missing,
    Page,
    Receipt,
    Replaced,
    RunBegun,
    RunInfo,
    RunStatus,
    ServerInfo,
    TransactionInfo,
    Value,
    Version,
    Versioned,
)

R = TypeVar("R")
D = TypeVar("D")

class _Scope(Scope[Link]):
    """Where requests go, and how they are waited for."""

    def run(self, call: Call[R]) -> R:
        return self.link.call(call, self.header, self.bound_to)

    def run_all(self, queued: list[Call[Any]]) -> list[Outcome]:
        return self.link.call_all(queued, self.header, self.bound_to)


class Kv(Expiring):
    """The keys and values of one run."""

    def __init__(self, scope: _Scope) -> None:
        self._scope = scope

    def with_durability(self, durability: Durability) -> Kv:
        """The same, with writes acknowledged at this durability."""
        return Kv(self._scope.with_header(durability=durability))

    def put(self, key: Key, value: Value) -> Receipt:
        """Puts a value."""
        return self._scope.run(calls.put(key, value))

    def put_many(self, entries: Mapping[Any, Value] | Iterable[tuple[Key, Value]]) -> Receipt:
        """Puts several values under one commit version, all or none."""
        return self._scope.run(calls.put_many(entries))

    @overload
    def get(self, key: Key) -> Any: ...

    @overload
    def get(self, key: Key, default: D) -> Any | D: ...

    def get(self, key: Key, default: Any = MISSING) -> Any:
        """The value of a key; `default`, `MISSING` unless given, if there is no such key. None is a
        value like any other."""
        found = self._scope.run(calls.get(key))
        return default if found is MISSING else found

    def get_versioned(self, key: Key) -> Versioned[Any] | None:
        """The value of a key with its version and time, or None."""
        return self._scope.run(calls.get_versioned(key))

    def get_at(self, key: Key, version: int | Version) -> Versioned[Any] | None:
        """The value of a key as of a commit version, or None."""
        return self._scope.run(calls.get_at(key, version))

    def get_many(self, keys: Iterable[Key]) -> List[Any]:
        """The values of several keys as of one moment, in their order; `MISSING` for holes."""
        return self._scope.run(calls.get_many(keys))

    def exists(self, key: Key) -> bool:
        """Whether a key exists."""
        return self._scope.run(calls.exists(key))

    def exists_many(self, keys: Iterable[Key]) -> int:
        """How many of the keys exist."""
        return self._scope.run(calls.exists_many(keys))

    def delete(self, key: Key) -> Deleted:
        """Deletes a key."""
        return self._scope.run(calls.delete(key))

    def delete_many(self, keys: Iterable[Key]) -> Deleted:
        """Deletes several keys under one commit version."""
        return self._scope.run(calls.delete_many(keys))

    def incr(self, key: Key, delta: int = 1) -> Incremented:
        """Adds to an integer; a key that is not there counts from 0."""
        return self._scope.run(calls.incr(key, delta))

    def cas_version(self, key: Key, expected: ExpectedVersion, value: Value) -> Conditional:
        """Puts a value if the key is at the expected version (`MISSING`: if it does not exist)."""
        return self._scope.run(calls.cas_version(key, expected, value))

    def cas_value(self, key: Key, expected: Value | Missing, value: Value) -> Conditional:
        """Puts a value if the key has the expected one (`MISSING`: if it does not exist)."""
        return self._scope.run(calls.cas_value(key, expected, value))

    def put_if_absent(self, key: Key, value: Value) -> Conditional:
        """Puts a value if the key does not exist."""
        return self._scope.run(calls.put_if_absent(key, value))

    def get_and_set(self, key: Key, value: Value) -> Replaced:
        """Puts a value and gives the one before."""
        return self._scope.run(calls.get_and_set(key, value))

    def get_and_delete(self, key: Key) -> Replaced:
        """Deletes a key and gives the value it had."""
        return self._scope.run(calls.get_and_delete(key))

    def list(
        self,
        prefix: Key = "",
        *,
        limit: int | None = None,
        cursor: bytes | None = None,
        with_values: bool = False,
    ) -> Page[Entry]:
        """A page of the keys that begin with a prefix, sorted."""
        call = calls.list_keys(prefix, limit=limit, cursor=cursor, with_values=with_values)
        return self._scope.run(call)

    def scan(
        self,
        prefix: Key = "",
        *,
        start: Key | None = None,
        limit: int | None = None,
        cursor: bytes | None = None,
    ) -> Page[Entry]:
        """A page of keys with values, sorted, from `start` on."""
        return self._scope.run(calls.scan(prefix, start=start, limit=limit, cursor=cursor))

    def scan_all(self, prefix: Key = "", *, start: Key | None = None) -> Iterator[Entry]:
        """All keys with values, sorted, page by page; each page is as of a moment of its own."""
        cursor: bytes | None = None
        while True:
            page = self.scan(prefix, start=start, cursor=cursor)
            yield from page.entries
            cursor = page.cursor
            if cursor is None:
                return

    def count(self, prefix: Key = "") -> int:
        """How many keys begin with a prefix."""
        return self._scope.run(calls.count(prefix))

    def history(self, key: Key, *, limit: int | None = None, before: int | None = None) -> History:
        """The versions of a key, newest first; only those below the commit version `before`."""
        return self._scope.run(calls.history(key, limit=limit, before=before))

    def latest_version(self, key: Key) -> Version | None:
        """The newest version of a key, or None."""
        return self._scope.run(calls.latest_version(key))


class Batch(BatchChanges):
    """Changes of one run, sent as one request and committed in one step, all or none."""

    def __init__(self, scope: _Scope) -> None:
        super().__init__()
        self._scope = scope

    def commit(self) -> BatchResult:
        """Commits the changes. Raises `Conflict` if a condition does not hold."""
        return self._scope.run(self._call())


class Ticket(Generic[R]):
    """What one call of a pipeline will come to."""

    def __init__(self) -> None:
        self._outcome: Outcome = errors.InmemError(
            "the pipeline was not sent yet", code="not_sent", outcome=errors.NOT_COMMITTED
        )

    def result(self) -> R:
        """The result, once the pipeline was sent; raises the error the call met."""
        if isinstance(self._outcome, errors.InmemError):
            raise self._outcome
        value: R = self._outcome
        return value


class Pipeline:
    """Calls of one run that are sent together, when the block ends, and fail or succeed each for
    itself. For all or none use a batch."""

    def __init__(self, scope: _Scope) -> None:
        self._scope = scope
        self._calls: list[Call[Any]] = []
        self._tickets: list[Ticket[Any]] = []

    def add(self, call: Call[R]) -> Ticket[R]:
        """Queues a call of `inmem.calls`."""
        ticket: Ticket[R] = Ticket()
        self._calls.append(call)
        self._tickets.append(ticket)
        return ticket

    def send(self) -> None:
        """Sends what is queued and waits for all answers."""
        queued, tickets = self._calls, self._tickets
        self._calls, self._tickets = [], []
        for ticket, outcome in zip(tickets, self._scope.run_all(queued)):
            ticket._outcome = outcome

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.send()


class Transaction(TransactionState[_Scope]):
    """A transaction of one run. It reads as of its begin and sees its own writes. At the end of its
    block it commits, or after an exception rolls back:

        with client.transaction() as txn:
            txn.kv.put("balance", txn.kv.get("balance") - 10)

    The commit raises `Conflict` if what it read has changed since; `transact` tries again then.
    """

    def begin(self) -> Transaction:
        """Begins it; a `with` block does."""
        link = self._outside.link
        with link._lock:
            txn_id, start_version = self._outside.run(self._begin)
            self._begun(txn_id, start_version, link.connection_number)
        return self

    @property
    def kv(self) -> Kv:
        """The keys and values as the transaction sees and changes them."""
        return Kv(self._open())

    def info(self) -> TransactionInfo:
        """What the server knows about it."""
        return self._open().run(calls.transaction_info())

    def commit(self) -> Receipt:
        """Commits. Nothing more can be done with it, whatever comes out."""
        self.receipt = self._end().run(calls.commit_transaction())
        return self.receipt

    def rollback(self) -> None:
        """Takes back everything. Without a connection the server has done so."""
        scope = self._end()
        try:
            scope.run(calls.roll_back_transaction())
        except errors.ConnectionLost:
            pass

    def __enter__(self) -> Transaction:
        return self.begin()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._scope is None:
            return
        if kind is None:
            self.commit()
            return
        try:
            self.rollback()
        except errors.InmemError:
            # The exception of the block says more; the server ends the transaction in time.
            pass


class _Acting:
    """What can be done in a run."""

    def __init__(self, scope: _Scope) -> None:
        self._scope = scope

    @property
    def kv(self) -> Kv:
        """The keys and values."""
        return Kv(self._scope)

    def batch(self, *, durability: Durability | None = None) -> Batch:
        """Changes that happen together or not at all, sent as one request."""
        scope = self._scope
        return Batch(scope.with_header(durability=durability) if durability else scope)

    def pipeline(self) -> Pipeline:
        """Calls that are sent together and do not wait for each other."""
        return Pipeline(self._scope)

    def transaction(
        self,
        *,
        read_only: bool = False,
        timeout_ms: int | None = None,
        durability: Durability | None = None,
    ) -> Transaction:
        """A transaction, begun by its `with` block."""
        return Transaction(
            self._scope, read_only=read_only, timeout_ms=timeout_ms, durability=durability
        )

    def transact(
        self,
        body: Callable[[Transaction], R],
        *,
        retry_count_max: int = CONFLICT_RETRY_COUNT,
        durability: Durability | None = None,
    ) -> R:
        """Runs a function in a transaction and commits; again, with growing delays, after a
        conflict or a lost connection that certainly committed nothing. The function may run
        several times, so it does nothing but read and write through the transaction."""
        retries = Retries(retry_count_max)
        while True:
            try:
                with self.transaction(durability=durability) as transaction:
                    result = body(transaction)
                return result
            except (errors.Conflict, errors.ConnectionLost) as error:
                delay_s = retries.delay_s(error)
            time.sleep(delay_s)


class Run(_Acting, RunRetention):
    """One run."""

    def __init__(self, scope: _Scope, id: uuid.UUID) -> None:
        super().__init__(scope.with_header(run=id))
        self.id = id

    def with_durability(self, durability: Durability) -> Run:
        """The same, with writes acknowledged at this durability."""
        return Run(self._scope.with_header(durability=durability), self.id)

    def status(self) -> RunStatus:
        """Where it stands; `"not_found"` if there is no such run."""
        return self._scope.run(calls.run_status())

    def info(self) -> RunInfo | None:
        """Its metadata, or None."""
        return self._scope.run(calls.get_run())

    def exists(self) -> bool:
        """Whether it exists."""
        return self._scope.run(calls.run_exists())

    def end(self) -> Receipt:
        """Ends it well."""
        return self._scope.run(calls.end_run())

    def fail(self, message: str) -> Receipt:
        """Ends it with an error."""
        return self._scope.run(calls.fail_run(message))

    def abort(self, reason: str) -> Receipt:
        """Ends it with a reason."""
        return self._scope.run(calls.abort_run(reason))

    def cancel(self) -> Receipt:
        """Ends it on request."""
        return self._scope.run(calls.cancel_run())

    def pause(self) -> Receipt:
        """Refuses writes until it is resumed."""
        return self._scope.run(calls.pause_run())

    def resume(self) -> Receipt:
        """Takes writes again."""
        return self._scope.run(calls.resume_run())

    def archive(self) -> Receipt:
        """Keeps it, and leaves it out of listings."""
        return self._scope.run(calls.archive_run())

    def update_metadata(self, metadata: Mapping[str, Any] | None) -> Receipt:
        """Replaces its metadata."""
        return self._scope.run(calls.update_run_metadata(metadata))

    def add_tags(self, tags: Iterable[str]) -> Receipt:
        """Adds tags; those it has are ignored."""
        return self._scope.run(calls.add_run_tags(tags))

    def remove_tags(self, tags: Iterable[str]) -> Receipt:
        """Takes tags away; those it does not have are ignored."""
        return self._scope.run(calls.remove_run_tags(tags))


class Runs:
    """The runs of the database."""

    def __init__(self, scope: _Scope) -> None:
        self._scope = scope

    def begin(
        self,
        name: str | None = None,
        *,
        parent: uuid.UUID | None = None,
        tags: Iterable[str] | None = None,
        metadata: Mapping[str, Any] | None = None,
        description: str | None = None,
        if_missing: bool = False,
    ) -> RunBegun:
        """Begins a run. A name is unique; `if_missing` gives the run that has it already."""
        call = calls.begin_run(
            name,
            parent=parent,
            tags=tags,
            metadata=metadata,
            description=description,
            if_missing=if_missing,
        )
        return self._scope.run(call)

    def list(
        self,
        status: RunStatus | None = None,
        *,
        include_archived: bool = False,
        limit: int | None = None,
        cursor: bytes | None = None,
    ) -> Page[RunInfo]:
        """A page of the runs, of one status or any."""
        call = calls.list_runs(
            status, include_archived=include_archived, limit=limit, cursor=cursor
        )
        return self._scope.run(call)

    def orphaned(self) -> Page[RunInfo]:
        """The runs that were active when their owner died."""
        return self._scope.run(calls.orphaned_runs())

    def resolve(self, name: str) -> uuid.UUID | None:
        """The id of the run of a name, or None."""
        return self._scope.run(calls.resolve_run(name))

    def open(self, name_or_id: str | uuid.UUID) -> Run:
        """A handle on a run that exists. Raises `NotFound`."""
        id = run_id(name_or_id)
        if id is None:
            id = self.resolve(str(name_or_id))
            if id is not None:
                return Run(self._scope, id)
        elif Run(self._scope, id).exists():
            return Run(self._scope, id)
        raise run_not_found(name_or_id)


class Client(_Acting, Exports, Snapshots):
    """A session with the server of this machine.

    `socket` is `INMEM_SOCKET`, or where the daemon of this user listens, unless given. `run` is the
    default run of the session, by name or id, and `durability` its default durability. `timeout_s`
    is how long to wait for a server that says nothing; a write that is given up has an unknown
    outcome. With `exactly_once` a write whose answer was lost is repeated without a second effect;
    it may be an `Identity` that was kept, to repeat the writes of an earlier process.
    """

    def __init__(
        self,
        socket: str | os.PathLike[str] | None = None,
        *,
        run: str | uuid.UUID | None = None,
        durability: Durability | None = None,
        timeout_s: float | None = 60.0,
        exactly_once: bool | Identity = False,
        name: str = "",
        reconnect: Reconnect = Reconnect(),
    ) -> None:
        self._link = Link(
            options(socket, run, durability, timeout_s, exactly_once, name, reconnect)
        )
        super().__init__(_Scope(self._link, Header()))
        self._link.connect()

    @property
    def greeting(self) -> Greeting:
        """What the server said when it was last greeted."""
        return self._link.connect()

    @property
    def connection_number(self) -> int:
        """Counts connections, from 1."""
        return self._link.connection_number

    @property
    def identity(self) -> Identity | None:
        """With `exactly_once`, whom the server knows this client as by now."""
        return self._link.sequences.identity

    @property
    def runs(self) -> Runs:
        """The runs of the database."""
        return Runs(self._scope)

    def run(self, name_or_id: str | uuid.UUID) -> Run:
        """A handle on a run that exists. Raises `NotFound`."""
        return self.runs.open(name_or_id)

    def execute(self, call: Call[R]) -> R:
        """Executes a call of `inmem.calls`."""
        return self._scope.run(call)

    def ping(self) -> None:
        """Asks whether the server answers."""
        self._scope.run(calls.ping())

    def info(self) -> ServerInfo:
        """The state of the server."""
        return self._scope.run(calls.info())

    def capabilities(self) -> Capabilities:
        """What the server can do."""
        return self._scope.run(calls.capabilities())

    def flush(self) -> None:
        """Waits until everything acknowledged so far is on disk."""
        self._scope.run(calls.flush())

    def wait_durable(self, written: Union[Receipt, int]) -> int:
        """Waits until a commit, and every one before it, survives a power loss. Gives the highest
        version that does."""
        return self._scope.run(calls.wait_durable(commit_version(written)))

    def close(self) -> None:
        """Ends the session: what is open is rolled back."""
        self._link.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
