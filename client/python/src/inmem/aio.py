"""The client for asyncio: `inmem.client`, awaited.

All tasks share one connection and do not wait for each other: `asyncio.gather` is the pipeline.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from types import TracebackType
from typing import (
    Any,
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    List,
    Mapping,
    TypeVar,
    Union,
    overload,
)

from . import calls, errors
from ._batch import BatchChanges
from ._expiry import AsyncExpiring
from ._exports import AsyncExports
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
from ._retention import AsyncRunRetention
from ._session import Header, Identity, Reconnect
from ._snapshots import AsyncSnapshots
from ._streaming import Link
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

    async def run(self, call: Call[R]) -> R:
        return await self.link.call(call, self.header, self.bound_to)


class AsyncKv(AsyncExpiring):
    """The keys and values of one run."""

    def __init__(self, scope: _Scope) -> None:
        self._scope = scope

    def with_durability(self, durability: Durability) -> AsyncKv:
        """The same, with writes acknowledged at this durability."""
        return AsyncKv(self._scope.with_header(durability=durability))

    async def put(self, key: Key, value: Value) -> Receipt:
        """Puts a value."""
        return await self._scope.run(calls.put(key, value))

    async def put_many(self, entries: Mapping[Any, Value] | Iterable[tuple[Key, Value]]) -> Receipt:
        """Puts several values under one commit version, all or none."""
        return await self._scope.run(calls.put_many(entries))

    @overload
    async def get(self, key: Key) -> Any: ...

    @overload
    async def get(self, key: Key, default: D) -> Any | D: ...

    async def get(self, key: Key, default: Any = MISSING) -> Any:
        """The value of a key; `default`, `MISSING` unless given, if there is no such key. None is a
        value like any other."""
        found = await self._scope.run(calls.get(key))
        return default if found is MISSING else found

    async def get_versioned(self, key: Key) -> Versioned[Any] | None:
        """The value of a key with its version and time, or None."""
        return await self._scope.run(calls.get_versioned(key))

    async def get_at(self, key: Key, version: int | Version) -> Versioned[Any] | None:
        """The value of a key as of a commit version, or None."""
        return await self._scope.run(calls.get_at(key, version))

    async def get_many(self, keys: Iterable[Key]) -> List[Any]:
        """The values of several keys as of one moment, in their order; `MISSING` for holes."""
        return await self._scope.run(calls.get_many(keys))

    async def exists(self, key: Key) -> bool:
        """Whether a key exists."""
        return await self._scope.run(calls.exists(key))

    async def exists_many(self, keys: Iterable[Key]) -> int:
        """How many of the keys exist."""
        return await self._scope.run(calls.exists_many(keys))

    async def delete(self, key: Key) -> Deleted:
        """Deletes a key."""
        return await self._scope.run(calls.delete(key))

    async def delete_many(self, keys: Iterable[Key]) -> Deleted:
        """Deletes several keys under one commit version."""
        return await self._scope.run(calls.delete_many(keys))

    async def incr(self, key: Key, delta: int = 1) -> Incremented:
        """Adds to an integer; a key that is not there counts from 0."""
        return await self._scope.run(calls.incr(key, delta))

    async def cas_version(self, key: Key, expected: ExpectedVersion, value: Value) -> Conditional:
        """Puts a value if the key is at the expected version (`MISSING`: if it does not exist)."""
        return await self._scope.run(calls.cas_version(key, expected, value))

    async def cas_value(self, key: Key, expected: Value | Missing, value: Value) -> Conditional:
        """Puts a value if the key has the expected one (`MISSING`: if it does not exist)."""
        return await self._scope.run(calls.cas_value(key, expected, value))

    async def put_if_absent(self, key: Key, value: Value) -> Conditional:
        """Puts a value if the key does not exist."""
        return await self._scope.run(calls.put_if_absent(key, value))

    async def get_and_set(self, key: Key, value: Value) -> Replaced:
        """Puts a value and gives the one before."""
        return await self._scope.run(calls.get_and_set(key, value))

    async def get_and_delete(self, key: Key) -> Replaced:
        """Deletes a key and gives the value it had."""
        return await self._scope.run(calls.get_and_delete(key))

    async def list(
        self,
        prefix: Key = "",
        *,
        limit: int | None = None,
        cursor: bytes | None = None,
        with_values: bool = False,
    ) -> Page[Entry]:
        """A page of the keys that begin with a prefix, sorted."""
        call = calls.list_keys(prefix, limit=limit, cursor=cursor, with_values=with_values)
        return await self._scope.run(call)

    async def scan(
        self,
        prefix: Key = "",
        *,
        start: Key | None = None,
        limit: int | None = None,
        cursor: bytes | None = None,
    ) -> Page[Entry]:
        """A page of keys with values, sorted, from `start` on."""
        return await self._scope.run(calls.scan(prefix, start=start, limit=limit, cursor=cursor))

    async def scan_all(
        self, prefix: Key = "", *, start: Key | None = None
    ) -> AsyncIterator[Entry]:
        """All keys with values, sorted, page by page; each page is as of a moment of its own."""
        cursor: bytes | None = None
        while True:
            page = await self.scan(prefix, start=start, cursor=cursor)
            for entry in page.entries:
                yield entry
            cursor = page.cursor
            if cursor is None:
                return

    async def count(self, prefix: Key = "") -> int:
        """How many keys begin with a prefix."""
        return await self._scope.run(calls.count(prefix))

    async def history(
        self, key: Key, *, limit: int | None = None, before: int | None = None
    ) -> History:
        """The versions of a key, newest first; only those below the commit version `before`."""
        return await self._scope.run(calls.history(key, limit=limit, before=before))

    async def latest_version(self, key: Key) -> Version | None:
        """The newest version of a key, or None."""
        return await self._scope.run(calls.latest_version(key))


class AsyncBatch(BatchChanges):
    """Changes of one run, sent as one request and committed in one step, all or none."""

    def __init__(self, scope: _Scope) -> None:
        super().__init__()
        self._scope = scope

    async def commit(self) -> BatchResult:
        """Commits the changes. Raises `Conflict` if a condition does not hold."""
        return await self._scope.run(self._call())


class AsyncTransaction(TransactionState[_Scope]):
    """A transaction of one run. It reads as of its begin and sees its own writes. At the end of its
    block it commits, or after an exception rolls back:

        async with client.transaction() as txn:
            await txn.kv.put("balance", await txn.kv.get("balance") - 10)

    The commit raises `Conflict` if what it read has changed since; `transact` tries again then.
    """

    async def begin(self) -> AsyncTransaction:
        """Begins it; an `async with` block does."""
        link = self._outside.link
        await link.connect()
        # Over this connection or none: on another the id would mean nothing.
        bound_to = link.connection_number
        outside = _Scope(link, self._outside.header, bound_to)
        txn_id, start_version = await outside.run(self._begin)
        self._begun(txn_id, start_version, bound_to)
        return self

    @property
    def kv(self) -> AsyncKv:
        """The keys and values as the transaction sees and changes them."""
        return AsyncKv(self._open())

    async def info(self) -> TransactionInfo:
        """What the server knows about it."""
        return await self._open().run(calls.transaction_info())

    async def commit(self) -> Receipt:
        """Commits. Nothing more can be done with it, whatever comes out."""
        self.receipt = await self._end().run(calls.commit_transaction())
        return self.receipt

    async def rollback(self) -> None:
        """Takes back everything. Without a connection the server has done so."""
        scope = self._end()
        try:
            await scope.run(calls.roll_back_transaction())
        except errors.ConnectionLost:
            pass

    async def __aenter__(self) -> AsyncTransaction:
        return await self.begin()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._scope is None:
            return
        if kind is None:
            await self.commit()
            return
        try:
            await self.rollback()
        except errors.InmemError:
            # The exception of the block says more; the server ends the transaction in time.
            pass


class _Acting:
    """What can be done in a run."""

    def __init__(self, scope: _Scope) -> None:
        self._scope = scope

    @property
    def kv(self) -> AsyncKv:
        """The keys and values."""
        return AsyncKv(self._scope)

    def batch(self, *, durability: Durability | None = None) -> AsyncBatch:
        """Changes that happen together or not at all, sent as one request."""
        scope = self._scope
        return AsyncBatch(scope.with_header(durability=durability) if durability else scope)

    def transaction(
        self,
        *,
        read_only: bool = False,
        timeout_ms: int | None = None,
        durability: Durability | None = None,
    ) -> AsyncTransaction:
        """A transaction, begun by its `async with` block."""
        return AsyncTransaction(
            self._scope, read_only=read_only, timeout_ms=timeout_ms, durability=durability
        )

    async def transact(
        self,
        body: Callable[[AsyncTransaction], Awaitable[R]],
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
                async with self.transaction(durability=durability) as transaction:
                    result = await body(transaction)
                return result
            except (errors.Conflict, errors.ConnectionLost) as error:
                delay_s = retries.delay_s(error)
            await asyncio.sleep(delay_s)


class AsyncRun(_Acting, AsyncRunRetention):
    """One run."""

    def __init__(self, scope: _Scope, id: uuid.UUID) -> None:
        super().__init__(scope.with_header(run=id))
        self.id = id

    def with_durability(self, durability: Durability) -> AsyncRun:
        """The same, with writes acknowledged at this durability."""
        return AsyncRun(self._scope.with_header(durability=durability), self.id)

    async def status(self) -> RunStatus:
        """Where it stands; `"not_found"` if there is no such run."""
        return await self._scope.run(calls.run_status())

    async def info(self) -> RunInfo | None:
        """Its metadata, or None."""
        return await self._scope.run(calls.get_run())

    async def exists(self) -> bool:
        """Whether it exists."""
        return await self._scope.run(calls.run_exists())

    async def end(self) -> Receipt:
        """Ends it well."""
        return await self._scope.run(calls.end_run())

    async def fail(self, message: str) -> Receipt:
        """Ends it with an error."""
        return await self._scope.run(calls.fail_run(message))

    async def abort(self, reason: str) -> Receipt:
        """Ends it with a reason."""
        return await self._scope.run(calls.abort_run(reason))

    async def cancel(self) -> Receipt:
        """Ends it on request."""
        return await self._scope.run(calls.cancel_run())

    async def pause(self) -> Receipt:
        """Refuses writes until it is resumed."""
        return await self._scope.run(calls.pause_run())

    async def resume(self) -> Receipt:
        """Takes writes again."""
        return await self._scope.run(calls.resume_run())

    async def archive(self) -> Receipt:
        """Keeps it, and leaves it out of listings."""
        return await self._scope.run(calls.archive_run())

    async def update_metadata(self, metadata: Mapping[str, Any] | None) -> Receipt:
        """Replaces its metadata."""
        return await self._scope.run(calls.update_run_metadata(metadata))

    async def add_tags(self, tags: Iterable[str]) -> Receipt:
        """Adds tags; those it has are ignored."""
        return await self._scope.run(calls.add_run_tags(tags))

    async def remove_tags(self, tags: Iterable[str]) -> Receipt:
        """Takes tags away; those it does not have are ignored."""
        return await self._scope.run(calls.remove_run_tags(tags))


class AsyncRuns:
    """The runs of the database."""

    def __init__(self, scope: _Scope) -> None:
        self._scope = scope

    async def begin(
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
        return await self._scope.run(call)

    async def list(
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
        return await self._scope.run(call)

    async def orphaned(self) -> Page[RunInfo]:
        """The runs that were active when their owner died."""
        return await self._scope.run(calls.orphaned_runs())

    async def resolve(self, name: str) -> uuid.UUID | None:
        """The id of the run of a name, or None."""
        return await self._scope.run(calls.resolve_run(name))

    async def open(self, name_or_id: str | uuid.UUID) -> AsyncRun:
        """A handle on a run that exists. Raises `NotFound`."""
        id = run_id(name_or_id)
        if id is None:
            id = await self.resolve(str(name_or_id))
            if id is not None:
                return AsyncRun(self._scope, id)
        elif await AsyncRun(self._scope, id).exists():
            return AsyncRun(self._scope, id)
        raise run_not_found(name_or_id)


class AsyncClient(_Acting, AsyncExports, AsyncSnapshots):
    """A session with the server of this machine, for asyncio:

        async with inmem.AsyncClient() as client:
            await client.kv.put("step", 1)

    The arguments are those of `inmem.Client`. It connects when it is entered, or when it is first
    used.
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

    async def greeting(self) -> Greeting:
        """What the server said when it was last greeted."""
        return await self._link.connect()

    @property
    def connection_number(self) -> int:
        """Counts connections, from 1; 0 before the first."""
        return self._link.connection_number

    @property
    def identity(self) -> Identity | None:
        """With `exactly_once`, whom the server knows this client as by now."""
        return self._link.sequences.identity

    @property
    def runs(self) -> AsyncRuns:
        """The runs of the database."""
        return AsyncRuns(self._scope)

    async def run(self, name_or_id: str | uuid.UUID) -> AsyncRun:
        """A handle on a run that exists. Raises `NotFound`."""
        return await self.runs.open(name_or_id)

    async def execute(self, call: Call[R]) -> R:
        """Executes a call of `inmem.calls`."""
        return await self._scope.run(call)

    async def ping(self) -> None:
        """Asks whether the server answers."""
        await self._scope.run(calls.ping())

    async def info(self) -> ServerInfo:
        """The state of the server."""
        return await self._scope.run(calls.info())

    async def capabilities(self) -> Capabilities:
        """What the server can do."""
        return await self._scope.run(calls.capabilities())

    async def flush(self) -> None:
        """Waits until everything acknowledged so far is on disk."""
        await self._scope.run(calls.flush())

    async def wait_durable(self, written: Union[Receipt, int]) -> int:
        """Waits until a commit, and every one before it, survives a power loss. Gives the highest
        version that does."""
        return await self._scope.run(calls.wait_durable(commit_version(written)))

    def durable_versions(self) -> AsyncGenerator[int, None]:
        """How far commits survive a power loss: the version now, and each time it has moved, the
        newest. It ends with `ConnectionLost` when the connection does."""
        return self._link.durable_versions()

    async def close(self) -> None:
        """Ends the session: what is open is rolled back."""
        await self._link.close()

    async def __aenter__(self) -> AsyncClient:
        await self._link.connect()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()
