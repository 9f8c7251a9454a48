"""What the handles of both clients share: scopes, transactions, retries, what arguments mean. No
sockets, no waiting."""

from __future__ import annotations

import os
import uuid
from dataclasses import replace
from typing import Any, Generic, TypeVar

from . import calls, errors
from ._session import Header, Identity, Options, Reconnect, backoff, default_socket
from .types import Durability, Receipt

L = TypeVar("L")
S = TypeVar("S", bound="Scope[Any]")

CONFLICT_RETRY_COUNT = 10
"""How often a transaction that met a conflict is tried again, unless told otherwise."""


class Scope(Generic[L]):
    """Where requests go: a link, the header they carry, the connection they are bound to."""

    def __init__(self, link: L, header: Header, bound_to: int | None = None) -> None:
        self.link = link
        self.header = header
        self.bound_to = bound_to

    def with_header(self: S, **changes: Any) -> S:
        """The same with another run or durability."""
        return type(self)(self.link, replace(self.header, **changes), self.bound_to)


class TransactionState(Generic[S]):
    """A transaction that is not begun yet, open, or over."""

    def __init__(
        self,
        scope: S,
        *,
        read_only: bool = False,
        timeout_ms: int | None = None,
        durability: Durability | None = None,
    ) -> None:
        self._outside = scope
        self._begin = calls.begin_transaction(
            read_only=read_only,
            timeout_ms=timeout_ms,
            durability=durability or scope.header.durability,
        )
        self._scope: S | None = None
        self.start_version = 0
        """The commit version it reads at."""
        self.receipt: Receipt | None = None
        """What the commit made, after it."""

    def _begun(self, txn_id: int, start_version: int, bound_to: int) -> None:
        """It is open now, on this connection and on no other: there its id would mean nothing."""
        self.start_version = start_version
        header = Header(run=self._outside.header.run, txn_id=txn_id)
        self._scope = type(self._outside)(self._outside.link, header, bound_to)

    def _open(self) -> S:
        """Where its requests go."""
        if self._scope is None:
            message = "the transaction is not open"
            raise errors.State(
                message, code="transaction_not_active", outcome=errors.NOT_COMMITTED
            )
        return self._scope

    def _end(self) -> S:
        """Where its last request goes."""
        scope, self._scope = self._open(), None
        return scope


class Retries:
    """How often a transaction is tried again, and after how long."""

    def __init__(self, retry_count_max: int) -> None:
        self._left_count = retry_count_max
        self._delays = backoff(0.001, 0.1, float("inf"))

    def delay_s(self, error: errors.InmemError) -> float:
        """The delay before the next attempt, after a conflict or a lost connection. Raises the
        error if there is no other attempt, or if this one may have been committed."""
        if self._left_count <= 0 or error.is_outcome_unknown:
            raise error
        self._left_count -= 1
        return next(self._delays)


def commit_version(written: Receipt | int) -> int:
    """The commit version of a receipt, or itself."""
    return written.commit_version if isinstance(written, Receipt) else written


def run_id(name_or_id: str | uuid.UUID) -> uuid.UUID | None:
    """The id, if it is one in its text form."""
    if isinstance(name_or_id, uuid.UUID):
        return name_or_id
    try:
        id = uuid.UUID(name_or_id)
    except ValueError:
        return None
    return id if str(id) == name_or_id.lower() else None


def run_not_found(name_or_id: str | uuid.UUID) -> errors.NotFound:
    """There is no such run."""
    return errors.NotFound(f"there is no run {name_or_id}", code="run_not_found")


def options(
    socket: str | os.PathLike[str] | None,
    run: str | uuid.UUID | None,
    durability: Durability | None,
    timeout_s: float | None,
    exactly_once: bool | Identity,
    name: str,
    reconnect: Reconnect,
) -> Options:
    """What the arguments of a client mean."""
    id = run_id(run) if run is not None else None
    goes_on = isinstance(exactly_once, Identity)
    if exactly_once is True:
        exactly_once = Identity()
    return Options(
        socket=os.fspath(socket) if socket is not None else default_socket(),
        run=id if id is not None else run,
        durability=durability,
        timeout_s=timeout_s,
        identity=exactly_once if isinstance(exactly_once, Identity) else None,
        goes_on=goes_on,
        name=name,
        reconnect=reconnect,
    )
