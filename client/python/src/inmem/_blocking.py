"""The blocking link: one socket, many requests on their way, answers by id."""

from __future__ import annotations

import select
import socket
import threading
import time
from typing import Any, Sequence, TypeVar, Union

from . import errors
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

Outcome = Union[Any, errors.InmemError]

_RECEIVE_LEN_BYTES = 256 << 10


class _Lost(Exception):
    """The connection is over."""


class Link:
    """A connection when there is one, and the way back when there is not. Threads take turns."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.sequences = Sequences(options)
        self.connection_number = 0
        self._lock = threading.RLock()
        self._socket: socket.socket | None = None
        self._session = Session(options, self.sequences)
        self._is_closed = False

    def connect(self) -> Greeting:
        """The greeting of the connection, which is made if there is none."""
        with self._lock:
            self._connected()
            assert self._session.greeting is not None
            return self._session.greeting

    def close(self) -> None:
        """Ends the connection for good."""
        with self._lock:
            self._is_closed = True
            self._drop()

    def call(self, call: Call[R], header: Header, bound_to: int | None = None) -> R:
        """Executes one call; one `bound_to` a connection only over that one."""
        result = self.call_all([call], header, bound_to)[0]
        if isinstance(result, errors.InmemError):
            raise result
        value: R = result
        return value

    def call_all(
        self, calls: Sequence[Call[Any]], header: Header, bound_to: int | None = None
    ) -> list[Outcome]:
        """Executes calls without waiting between them; each has a result or an error of its own."""
        with self._lock:
            outcomes: list[Outcome] = []
            # Of exactly-once writes only so many may be on their way.
            step = UNANSWERED_COUNT_MAX if self.sequences.identity else max(1, len(calls))
            for at in range(0, len(calls), step):
                attempts = [
                    Attempt.begin(self.sequences, call, header)
                    for call in calls[at : at + step]
                ]
                try:
                    outcomes += self._settle(attempts, bound_to)
                finally:
                    for attempt in attempts:
                        self.sequences.end(attempt.sequence)
            return outcomes

    def _settle(self, attempts: list[Attempt[Any]], bound_to: int | None) -> list[Outcome]:
        outcomes: dict[int, Outcome] = {}
        while True:
            open_ = [index for index in range(len(attempts)) if index not in outcomes]
            if not open_:
                return [outcomes[index] for index in range(len(attempts))]
            try:
                self._check_bound(attempts[open_[0]], bound_to)
                connection = self._connected()
            except errors.InmemError as error:
                for index in open_:
                    outcomes[index] = unreached(attempts[index], error)
                continue
            try:
                self._exchange(connection, attempts, open_, outcomes)
            except _Lost as lost:
                self._drop()
                for index in open_:
                    attempt = attempts[index]
                    if index in outcomes:
                        continue
                    if attempt.may_repeat():
                        attempt.repeat()
                    else:
                        outcomes[index] = attempt.lost(str(lost))
            except BaseException:
                # Answers that come later would belong to nobody.
                self._drop()
                raise

    def _check_bound(self, attempt: Attempt[Any], bound_to: int | None) -> None:
        is_there = self._socket is not None and self.connection_number == bound_to
        if bound_to is None or is_there or attempt.was_sent:
            return
        raise unbound()

    def _exchange(
        self,
        connection: socket.socket,
        attempts: list[Attempt[Any]],
        open_: list[int],
        outcomes: dict[int, Outcome],
    ) -> None:
        """Sends the open requests and reads their answers; sending never keeps from reading."""
        ids: dict[int, int] = {}
        ends: list[tuple[int, Attempt[Any]]] = []
        outgoing = bytearray()
        for index in open_:
            try:
                request_id, frame = self._session.request(attempts[index])
            except errors.InmemError as error:
                outcomes[index] = error
                continue
            ids[request_id] = index
            outgoing += frame
            ends.append((len(outgoing), attempts[index]))
        sent, started = 0, 0
        poll = select.poll()
        while ids:
            wanted = select.POLLIN | (select.POLLOUT if sent < len(outgoing) else 0)
            poll.register(connection, wanted)
            timeout_s = self.options.timeout_s
            ready = poll.poll(None if timeout_s is None else timeout_s * 1000)
            if not ready:
                self._drop()
                for index in ids.values():
                    outcomes[index] = attempts[index].timed_out(timeout_s)
                return
            events = ready[0][1]
            if events & ~select.POLLOUT:
                self._receive(connection, ids, attempts, outcomes)
            elif sent < len(outgoing):
                try:
                    sent += connection.send(memoryview(outgoing)[sent : sent + (1 << 20)])
                except BlockingIOError:
                    continue
                except OSError as error:
                    raise _Lost(str(error)) from error
                # What the kernel did not take whole the server cannot have executed.
                while started < len(ends) and ends[started][0] <= sent:
                    ends[started][1].was_sent = True
                    started += 1

    def _receive(
        self,
        connection: socket.socket,
        ids: dict[int, int],
        attempts: list[Attempt[Any]],
        outcomes: dict[int, Outcome],
    ) -> None:
        replies: list[Reply] = []
        cause: str | None = None
        try:
            data = connection.recv(_RECEIVE_LEN_BYTES)
            if not data:
                raise _Lost("the server ended the connection")
            replies = self._session.feed(data)
        except BlockingIOError:
            return
        except OSError as error:
            raise _Lost(str(error)) from error
        except Closed as closed:
            replies, cause = closed.replies, f"the server ended the connection: {closed}"
        except errors.ProtocolError as error:
            cause = error.message
        for reply in replies:
            index = ids.pop(reply.request_id, None)
            if index is None:
                continue
            try:
                outcomes[index] = attempts[index].read(reply)
            except errors.InmemError as error:
                outcomes[index] = error
        if cause is not None and ids:
            raise _Lost(cause)

    def _connected(self) -> socket.socket:
        if self._is_closed:
            raise errors.Unavailable(
                "the client is closed", code="database_closed", outcome=errors.NOT_COMMITTED
            )
        if self._socket is not None:
            return self._socket
        delays = self.options.reconnect.delays()
        while True:
            try:
                self._socket = self._greet()
                self.connection_number += 1
                return self._socket
            except errors.Unavailable as error:
                delay = next(delays, None)
                if delay is None or not is_worth_waiting(error, self.connection_number):
                    raise
                time.sleep(delay)

    def _greet(self) -> socket.socket:
        self._session = Session(self.options, self.sequences)
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(self.options.timeout_s)
            connection.connect(self.options.socket)
            connection.sendall(self._session.hello())
            while self._session.greeting is None:
                data = connection.recv(_RECEIVE_LEN_BYTES)
                if not data:
                    raise ConnectionResetError("the server ended the connection")
                self._session.feed(data)
            connection.setblocking(False)
        except Closed as closed:
            connection.close()
            raise rejected(closed.close, self.options) from None
        except OSError as error:
            connection.close()
            raise unreachable(self.options.socket, error) from error
        except BaseException:
            connection.close()
            raise
        return connection

    def _drop(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
