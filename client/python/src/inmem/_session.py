"""What both clients share: requests, answers, what may be repeated. No sockets, no waiting.

The rule about repeating: a read may be asked again; a write only if the server certainly did not
get it, or if it carries a sequence by which the server knows a repeat from another write.
"""

from __future__ import annotations

import copy
import os
import random
import uuid
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Iterator, TypeVar

from . import errors
from ._wire import (
    CLOSE,
    HELLO_REPLY,
    PUSH,
    REFUSED,
    REQUEST,
    RESPONSE,
    Close,
    Frame,
    FrameReader,
    Greeting,
    Hello,
    encode_frame,
    pack,
    protocol_violation,
    unpack,
)
from .calls import Call
from .types import Durability

R = TypeVar("R")

REPEAT_COUNT_MAX = 3
"""How often one request is sent again. A server that is lost over it each time may die of it."""

UNANSWERED_COUNT_MAX = 64
"""Most exactly-once writes on their way at once: as many answers as the server keeps."""


def default_socket() -> str:
    """Where the server of this user listens: `INMEM_SOCKET`, or the usual place."""
    named = os.environ.get("INMEM_SOCKET")
    if named:
        return named
    if os.geteuid() == 0:
        return "/run/inmem/inmem.sock"
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if os.path.isabs(runtime):
        return f"{runtime}/inmem/inmem.sock"
    return f"/tmp/inmem-{os.geteuid()}/inmem.sock"


@dataclass(frozen=True, slots=True)
class Reconnect:
    """How a lost connection is made again. Delays double, each drawn from its upper half."""

    delay_base_s: float = 0.005
    delay_max_s: float = 0.2
    delay_total_max_s: float = 5.0
    """Longest time waited, all together; 0 for one attempt only."""

    def delays(self) -> Iterator[float]:
        """The delay before each further attempt."""
        return backoff(self.delay_base_s, self.delay_max_s, self.delay_total_max_s)


def backoff(base_s: float, max_s: float, total_max_s: float) -> Iterator[float]:
    """Delays that double up to a limit, until their sum reaches the total."""
    left, delay = total_max_s, base_s
    while 0 < left:
        drawn = min(left, delay * random.uniform(0.5, 1.0))
        yield drawn
        left -= drawn
        delay = min(max_s, delay * 2)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who asks exactly once. A process that is to repeat the writes of one before it keeps what
    `Client.identity` gave, and begins with the sequence of the first write it repeats: the same
    writes, in the same order and in the same runs.

    The earlier process had at most 64 writes unanswered, so the first 64 of a client that goes on
    with an identity may be repeats. Of these an error speaks of all attempts: its outcome is
    `"not_committed"` only when the server has looked and neither committed anything."""

    client_id: bytes = field(default_factory=lambda: uuid.uuid4().bytes)
    """16 bytes, made once."""
    registered_at: int | None = None
    """What the server said to the first hello; None before it."""
    next_sequence: int = 1
    """The sequence of the next write."""

    def __post_init__(self) -> None:
        if len(self.client_id) != 16 or self.next_sequence < 1:
            message = "a client id has 16 bytes, and sequences begin at 1"
            raise errors.InvalidArgument(message, code="invalid_argument")


@dataclass(frozen=True, slots=True)
class Options:
    """How a client connects."""

    socket: str
    run: str | uuid.UUID | None = None
    durability: Durability | None = None
    timeout_s: float | None = 60.0
    identity: Identity | None = None
    goes_on: bool = False
    """Whether the identity may be that of an earlier process."""
    name: str = ""
    reconnect: Reconnect = field(default_factory=Reconnect)


@dataclass(frozen=True, slots=True)
class Header:
    """What requests carry beside their operation."""

    run: uuid.UUID | None = None
    durability: Durability | None = None
    txn_id: int = 0


class Sequences:
    """The sequences of a client: given out, and awaited."""

    def __init__(self, options: Options) -> None:
        self.identity = options.identity
        self._unanswered: set[int] = set()
        self._new_from = 1
        """Sequences from this one on were given to no write before."""
        if self.identity is not None and options.goes_on:
            self._new_from = self.identity.next_sequence + UNANSWERED_COUNT_MAX

    def greeted(self, greeting: Greeting) -> None:
        """Takes what the server says about the client id."""
        if self.identity is None:
            return
        if greeting.registered_at is None:
            message = "this server does not offer exactly-once requests"
            raise errors.ProtocolError(message, code="protocol_mismatch")
        self.identity = replace(self.identity, registered_at=greeting.registered_at)

    def begin(self, call: Call[Any], header: Header) -> int:
        """The sequence of a request; 0 for one that has none."""
        is_once = call.is_write and (header.txn_id == 0 or call.op == "txn.commit")
        if self.identity is None or not is_once:
            return 0
        sequence = self.identity.next_sequence
        self.identity = replace(self.identity, next_sequence=sequence + 1)
        self._unanswered.add(sequence)
        return sequence

    def may_be_repeat(self, sequence: int) -> bool:
        """Whether an earlier process may have sent a write with this sequence."""
        return 0 < sequence < self._new_from

    def end(self, sequence: int) -> None:
        """The answer came, or nobody waits for it."""
        self._unanswered.discard(sequence)

    def lag(self, sequence: int) -> int:
        """How far below a sequence the lowest one lies whose answer is awaited."""
        return sequence - min(self._unanswered, default=sequence)


@dataclass(slots=True)
class Attempt(Generic[R]):
    """One request and how far it got."""

    call: Call[R]
    header: Header
    sequence: int = 0
    repeat_count: int = 0
    was_sent: bool = False
    """Whether a server may have got it, from this process."""
    is_in_doubt: bool = False
    """Whether an attempt before the one under way may have been committed."""

    @classmethod
    def begin(cls, sequences: Sequences, call: Call[R], header: Header) -> Attempt[R]:
        """The first attempt of this process, with a sequence if it has to have one."""
        sequence = sequences.begin(call, header)
        return cls(call, header, sequence, is_in_doubt=sequences.may_be_repeat(sequence))

    @property
    def may_commit(self) -> bool:
        """Whether it may commit something by itself."""
        return self.call.is_write and (self.header.txn_id == 0 or self.call.op == "txn.commit")

    def may_repeat(self) -> bool:
        """Whether it may be sent again after its connection was lost."""
        if REPEAT_COUNT_MAX <= self.repeat_count:
            return False
        if self.header.txn_id != 0:
            # The transaction went with its connection; only its commit may have happened.
            return self.sequence != 0
        return not self.was_sent or not self.call.is_write or self.sequence != 0

    def repeat(self) -> None:
        """It is sent again."""
        self.repeat_count += 1
        self.is_in_doubt = self.is_in_doubt or (self.may_commit and self.was_sent)

    def lost(self, cause: str) -> errors.ConnectionLost:
        """The error of a request whose answer will not come."""
        return errors.ConnectionLost(
            f"{self.call.op} got no answer: {cause}",
            code="connection_lost",
            outcome=self.outcome,
            retry="no" if self.outcome == errors.OUTCOME_UNKNOWN else "yes",
        )

    def timed_out(self, timeout_s: float | None) -> errors.TimedOut:
        """The error of a request whose answer did not come in time."""
        return errors.TimedOut(
            f"{self.call.op} got no answer within {timeout_s} s",
            code="timeout",
            outcome=self.outcome,
            retry="if_not_committed",
        )

    @property
    def outcome(self) -> str | None:
        """What is known about it while there is no answer."""
        if not self.call.is_write:
            return None
        unknown = self.is_in_doubt or (self.may_commit and self.was_sent)
        return errors.OUTCOME_UNKNOWN if unknown else errors.NOT_COMMITTED

    def read(self, reply: Reply) -> R:
        """What the request came to."""
        if reply.error is None:
            try:
                return self.call.read(reply.kind, reply.result)
            except (KeyError, TypeError, ValueError, IndexError, AttributeError) as cause:
                error = protocol_violation(f"the answer to {self.call.op} is incomplete")
                error.outcome = self.outcome
                raise error from cause
        refusal = errors.from_wire(reply.error)
        if self.repeat_count and self.call.op == "txn.commit":
            # It did not commit, and was rolled back when its connection was lost.
            if refusal.code == "transaction_not_active":
                raise unbound() from refusal
        raise in_doubt(refusal) if self.is_in_doubt and not refusal.is_decisive else refusal


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a request, or what is pushed for a subscription."""

    request_id: int
    kind: str = ""
    result: Any = None
    error: dict[str, Any] | None = None
    subscription_id: int = 0
    """Of a push; its request id is 0."""


class Session:
    """One connection as both sides understand it."""

    def __init__(self, options: Options, sequences: Sequences) -> None:
        self._sequences = sequences
        self._frames = FrameReader()
        self._next_request_id = 1
        self._options = options
        self.greeting: Greeting | None = None

    def hello(self) -> bytes:
        """What to send first."""
        identity = self._sequences.identity
        return Hello(
            run=self._options.run,
            durability=self._options.durability,
            client_id=identity.client_id if identity is not None else None,
            registered_at=identity.registered_at if identity is not None else None,
            name=self._options.name,
        ).encode()

    def request(self, attempt: Attempt[Any]) -> tuple[int, bytes]:
        """The id and the frame of a request."""
        header = attempt.header
        message: dict[str, Any] = {"op": attempt.call.op}
        if header.run is not None:
            message["run"] = header.run.bytes
        if header.durability is not None:
            message["durability"] = header.durability
        if header.txn_id:
            message["txn_id"] = header.txn_id
        if attempt.sequence:
            message["client_sequence"] = attempt.sequence
            lag = self._sequences.lag(attempt.sequence)
            if lag:
                message["client_sequence_lag"] = lag
        if attempt.call.params:
            message["params"] = attempt.call.params
        frame = encode_frame(REQUEST, pack(message), self._next_request_id)
        self._next_request_id += 1
        return self._next_request_id - 1, frame

    def feed(self, data: bytes) -> list[Reply]:
        """Takes bytes; gives the answers in them. The greeting is kept. Raises at a close."""
        replies = []
        for frame in self._frames.feed(data):
            if frame.kind in (RESPONSE, PUSH) and self.greeting is not None:
                replies.append(_reply(frame))
            elif frame.kind == HELLO_REPLY and self.greeting is None:
                self.greeting = Greeting.decode(frame.body)
                self._sequences.greeted(self.greeting)
            elif frame.kind == CLOSE:
                raise Closed(Close.decode(frame.body), replies)
            else:
                raise protocol_violation(f"the server sent a frame of kind {frame.kind}")
        return replies


def _reply(frame: Frame) -> Reply:
    answer = unpack(frame.body)
    if answer.get("ok"):
        kind, result = str(answer.get("kind")), answer.get("result")
        return Reply(frame.request_id, kind, result, None, frame.subscription_id)
    error = answer.get("error")
    if not isinstance(error, dict) or not {"class", "code", "message", "retry"} <= error.keys():
        raise protocol_violation("the server sent a bad error")
    return Reply(frame.request_id, "", None, error, frame.subscription_id)


def rejected(close: Close, options: Options) -> errors.InmemError:
    """Why the server does not want this client."""
    if close.reason == REFUSED and options.run is not None:
        return errors.NotFound(
            close.message, code="run_not_found", outcome=errors.NOT_COMMITTED
        )
    return close.error()


def unreachable(path: str, error: OSError) -> errors.InmemError:
    """Why there is no connection."""
    if isinstance(error, PermissionError):
        message = f"this user may not connect to {path}"
        return errors.AccessDenied(
            message, code="permission_denied", outcome=errors.NOT_COMMITTED
        )
    return errors.Unavailable(
        f"no daemon answers at {path}: {error}",
        code="connection_refused",
        outcome=errors.NOT_COMMITTED,
        retry="yes",
    )


def is_worth_waiting(error: errors.InmemError, connection_number: int) -> bool:
    """Whether the next attempt to connect may succeed. The first connection is made in one attempt,
    unless the server itself said that it is a matter of time."""
    if not isinstance(error, errors.Unavailable):
        return False
    return connection_number > 0 or error.code == "unavailable"


def unreached(attempt: Attempt[Any], error: errors.InmemError) -> errors.InmemError:
    """The error of a request that could not be sent, or not again."""
    if attempt.was_sent and attempt.may_commit:
        return attempt.lost(str(error))
    return in_doubt(error) if attempt.is_in_doubt else error


def in_doubt(error: errors.InmemError) -> errors.InmemError:
    """The error, of a write that was sent before: what kept this attempt from an answer says
    nothing of the earlier one."""
    doubtful = copy.copy(error)
    doubtful.outcome = errors.OUTCOME_UNKNOWN
    doubtful.retry = "if_not_committed"
    return doubtful


def unbound() -> errors.ConnectionLost:
    """The error of a request of a transaction that is gone."""
    message = "the connection of the transaction was lost, so it was rolled back"
    return errors.ConnectionLost(message, code="connection_lost", outcome=errors.NOT_COMMITTED)


class Closed(Exception):
    """The server ended the connection, behind these answers."""

    def __init__(self, close: Close, replies: list[Reply]) -> None:
        super().__init__(close.message)
        self.close = close
        self.replies = replies
