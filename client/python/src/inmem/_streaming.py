"""The asyncio link: one connection that all tasks share, answers by id."""

from __future__ import annotations

import asyncio
from typing import Any, AsyncGenerator, TypeVar

from . import calls, errors
from ._session import (
    UNANSWERED_COUNT_MAX,
    Attempt,
    Closed,
    Header,
    Options,
    Reply,
    Sequences,
    Session,
    is_worth_waiting,
    rejected,
    unbound,
    unreachable,
    unreached,
)
from ._wire import Greeting
from .calls import Call

R = TypeVar("R")

_RECEIVE_LEN_BYTES = 256 << 10


class _Lost(Exception):
    """The connection is over."""


class Watch:
    """What pushes of a subscription said last."""

    def __init__(self) -> None:
        self.reader_count = 0
        self._version = 0
        self._ended: Exception | None = None
        self._changed = asyncio.Event()

    def take(self, reply: Reply) -> None:
        """Takes a push: a newer version, or the error that ends the subscription."""
        if reply.error is not None:
            self.end(errors.from_wire(reply.error))
        elif reply.kind == "version":
            self._version = max(self._version, reply.result["value"])
            self._wake()

    def end(self, cause: Exception) -> None:
        """There will be no more."""
        self._ended = self._ended or cause
        self._wake()

    async def beyond(self, version: int) -> int:
        """The newest version, once it is above this one."""
        while self._version <= version:
            if self._ended is not None:
                raise self._ended
            await self._changed.wait()
        return self._version

    def _wake(self) -> None:
        # Whoever waits sees the change; whoever comes later waits for the next.
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


class _Connection:
    """A greeted connection and what is awaited on it."""

    def __init__(self, options: Options, sequences: Sequences) -> None:
        self._options = options
        self.session = Session(options, sequences)
        self._awaited: dict[int, asyncio.Future[Any]] = {}
        self._attempts: dict[int, Attempt[Any]] = {}
        self._watches: dict[int, Watch] = {}
        self._task: asyncio.Task[None] | None = None
        self.lost: str | None = None

    async def greet(self) -> None:
        """Connects and exchanges the greetings."""
        self._reader, self._writer = await asyncio.open_unix_connection(
            self._options.socket, limit=_RECEIVE_LEN_BYTES
        )
        try:
            self._writer.write(self.session.hello())
            while self.session.greeting is None:
                data = await self._reader.read(_RECEIVE_LEN_BYTES)
                if not data:
                    raise ConnectionResetError("the server ended the connection")
                self.session.feed(data)
        except BaseException:
            self._writer.close()
            raise
        self._task = asyncio.create_task(self._receive())

    async def ask(self, attempt: Attempt[R]) -> R:
        """Sends a request and waits for its answer."""
        if self.lost is not None:
            raise _Lost(self.lost)
        request_id, frame = self.session.request(attempt)
        awaited: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._awaited[request_id] = awaited
        self._attempts[request_id] = attempt
        try:
            self._writer.write(frame)
            attempt.was_sent = True
            try:
                await self._writer.drain()
            except OSError as error:
                self._end(str(error))
            return await awaited
        finally:
            self._awaited.pop(request_id, None)
            self._attempts.pop(request_id, None)

    def watch(self, subscription_id: int) -> Watch:
        """What is pushed for a subscription, also what came before anyone asked."""
        return self._watches.setdefault(subscription_id, Watch())

    def forget(self, subscription_id: int) -> None:
        """Nobody reads the pushes of a subscription any more."""
        self._watches.pop(subscription_id, None)

    async def close(self) -> None:
        """Ends the connection."""
        self._end("the client is closed")
        if self._task is not None:
            self._task.cancel()

    async def _receive(self) -> None:
        cause = "the server ended the connection"
        try:
            while data := await self._reader.read(_RECEIVE_LEN_BYTES):
                try:
                    replies = self.session.feed(data)
                except Closed as closed:
                    cause = f"{cause}: {closed}"
                    replies = closed.replies
                for reply in replies:
                    if reply.subscription_id:
                        self.watch(reply.subscription_id).take(reply)
                        continue
                    attempt = self._attempts.get(reply.request_id)
                    awaited = self._awaited.get(reply.request_id)
                    if attempt is None or awaited is None or awaited.done():
                        continue
                    try:
                        awaited.set_result(attempt.read(reply))
                    except errors.InmemError as error:
                        awaited.set_exception(error)
        except (OSError, KeyError, TypeError, errors.InmemError) as error:
            cause = str(error)
        finally:
            self._end(cause)

    def _end(self, cause: str) -> None:
        if self.lost is None:
            self.lost = cause
        self._writer.close()
        for awaited in self._awaited.values():
            if not awaited.done():
                awaited.set_exception(_Lost(cause))
        for watch in self._watches.values():
            watch.end(errors.ConnectionLost(cause, code="connection_lost", retry="yes"))


class Link:
    """A connection when there is one, and the way back when there is not."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.sequences = Sequences(options)
        self.connection_number = 0
        self._connection: _Connection | None = None
        self._connecting = asyncio.Lock()
        self._subscribing = asyncio.Lock()
        # Of exactly-once writes only so many may be on their way.
        self._unanswered = asyncio.Semaphore(UNANSWERED_COUNT_MAX)
        self._is_closed = False

    async def connect(self) -> Greeting:
        """The greeting of the connection, which is made if there is none."""
        greeting = (await self._connected()).session.greeting
        assert greeting is not None
        return greeting

    async def durable_versions(self) -> AsyncGenerator[int, None]:
        """How far commits are durable: now, and each time it has moved."""
        connection = await self._connected()
        bound_to = self.connection_number
        call = calls.subscribe_durable()
        async with self._subscribing:
            subscription_id, version = await self.call(call, Header(), bound_to)
            watch = connection.watch(subscription_id)
            watch.reader_count += 1
        try:
            while True:
                yield version
                version = await watch.beyond(version)
        finally:
            async with self._subscribing:
                watch.reader_count -= 1
                # The subscription is the connection's, whoever asked for it.
                if watch.reader_count == 0 and connection.lost is None:
                    try:
                        await self.call(calls.unsubscribe(subscription_id), Header(), bound_to)
                    except errors.InmemError:
                        pass
                    connection.forget(subscription_id)

    async def close(self) -> None:
        """Ends the connection for good."""
        self._is_closed = True
        if self._connection is not None:
            await self._connection.close()

    async def call(self, call: Call[R], header: Header, bound_to: int | None = None) -> R:
        """Executes one call; one `bound_to` a connection only over that one."""
        if self.sequences.identity is None:
            return await self._settle(Attempt(call, header), bound_to)
        async with self._unanswered:
            attempt = Attempt.begin(self.sequences, call, header)
            try:
                return await self._settle(attempt, bound_to)
            finally:
                self.sequences.end(attempt.sequence)

    async def _settle(self, attempt: Attempt[R], bound_to: int | None) -> R:
        while True:
            try:
                connection = await self._connected(None if attempt.was_sent else bound_to)
            except errors.InmemError as error:
                raise unreached(attempt, error) from error
            try:
                return await asyncio.wait_for(connection.ask(attempt), self.options.timeout_s)
            except _Lost as lost:
                if not attempt.may_repeat():
                    raise attempt.lost(str(lost)) from lost
                attempt.repeat()
            except asyncio.TimeoutError as error:
                # A server that is silent to one request is silent to all.
                await connection.close()
                raise attempt.timed_out(self.options.timeout_s) from error

    async def _connected(self, bound_to: int | None = None) -> _Connection:
        async with self._connecting:
            if self._is_closed:
                raise errors.Unavailable(
                    "the client is closed", code="database_closed", outcome=errors.NOT_COMMITTED
                )
            found = self._connection
            is_there = found is not None and found.lost is None
            if bound_to is not None and not (is_there and self.connection_number == bound_to):
                raise unbound()
            if found is not None and is_there:
                return found
            delays = self.options.reconnect.delays()
            while True:
                try:
                    self._connection = await self._greet()
                    self.connection_number += 1
                    return self._connection
                except errors.Unavailable as error:
                    delay = next(delays, None)
                    if delay is None or not is_worth_waiting(error, self.connection_number):
                        raise
                    await asyncio.sleep(delay)

    async def _greet(self) -> _Connection:
        connection = _Connection(self.options, self.sequences)
        try:
            await asyncio.wait_for(connection.greet(), self.options.timeout_s)
        except Closed as closed:
            raise rejected(closed.close, self.options) from None
        except asyncio.TimeoutError as error:
            message = f"the server did not greet within {self.options.timeout_s} s"
            raise errors.TimedOut(
                message, code="timeout", outcome=errors.NOT_COMMITTED
            ) from error
        except OSError as error:
            raise unreachable(self.options.socket, error) from error
        return connection
