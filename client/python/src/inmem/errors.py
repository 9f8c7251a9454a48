"""What can go wrong, as exceptions under one base.

The class of an exception is the class of the error (`NotFound`, `Conflict`, ...); `code` is the
stable name of what exactly went wrong. Of a write, `outcome` says whether it may have happened:
`"not_committed"`, `"outcome_unknown"`, or None where nothing could be written.
"""

from __future__ import annotations

from typing import Any, Mapping

NOT_COMMITTED = "not_committed"
OUTCOME_UNKNOWN = "outcome_unknown"


class InmemError(Exception):
    """The base of every error of this package."""

    def __init__(
        self,
        message: str,
        *,
        code: str,
        outcome: str | None = None,
        retry: str = "no",
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        """The stable name, such as `"cas_mismatch"`."""
        self.outcome = outcome
        self.retry = retry
        """Whether asking again can help: `"no"`, `"yes"`, `"after_reread"`, `"later"`,
        `"after_reopen"` or `"if_not_committed"`."""
        self.details = dict(details or {})

    def __str__(self) -> str:
        known = f"{self.message} [{self.code}"
        return f"{known}, {self.outcome}]" if self.outcome else f"{known}]"

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions are copied and pickled by their `args`, of which ours are not all.
        return _restored, (type(self), self.message, vars(self).copy())

    @property
    def is_decisive(self) -> bool:
        """Whether the store looked at the request before it answered so: then the answer holds for
        every attempt of it, else for this one alone."""
        return not isinstance(self, (Io, InternalError)) or isinstance(self, SessionExpired)

    @property
    def is_outcome_unknown(self) -> bool:
        """Whether a write may or may not have happened."""
        return self.outcome == OUTCOME_UNKNOWN


class NotFound(InmemError, LookupError):
    """The run or the entity does not exist."""


class WrongType(InmemError, TypeError):
    """A value or a version is of another type than the operation takes."""


class Validation(InmemError, ValueError):
    """What was asked is not possible, whatever the state: a bad key, path or value."""


class InvalidKey(Validation):
    """The text is no key."""


class InvalidPath(Validation):
    """The text is no path."""


class InvalidValue(Validation):
    """The value cannot be stored as it is."""


class Constraint(InmemError):
    """A rule of the data forbids it; trying again does not help."""


class InvalidArgument(Constraint, ValueError):
    """A parameter is outside what the operation takes."""


class State(Constraint):
    """The run or the transaction is not in a state that allows it."""


class Conflict(InmemError):
    """Something changed in between; reading again and trying again may help."""


class HistoryTrimmed(InmemError):
    """History below the asked version is gone."""


class NumberOverflow(InmemError, ArithmeticError):
    """A number is at the end of its range."""


class Io(InmemError):
    """The store cannot do it now."""


class AccessDenied(Io):
    """This user may not."""


class SessionExpired(Io):
    """The server has forgotten this client; go on with a new one. Nothing was executed now."""


class Unavailable(Io):
    """No server answers, it is shutting down, or it takes no writes."""


class ConnectionLost(Unavailable, ConnectionError):
    """The connection broke before the answer came. Of a write, see `outcome`."""


class TimedOut(Io, TimeoutError):
    """It took too long. Of a write, see `outcome`."""


class ProtocolError(Io):
    """The two sides do not understand each other."""


class InternalError(InmemError):
    """A defect of the server."""


def _restored(kind: type[InmemError], message: str, fields: dict[str, Any]) -> InmemError:
    error = kind(message, code=fields["code"])
    vars(error).update(fields)
    return error


_BY_CLASS: dict[int, type[InmemError]] = {
    1: NotFound,
    2: WrongType,
    3: InvalidKey,
    4: InvalidPath,
    5: HistoryTrimmed,
    6: Constraint,
    7: Conflict,
    8: InvalidValue,
    9: Io,
    10: InternalError,
    11: NumberOverflow,
}

_BY_CODE: dict[str, type[InmemError]] = {
    "value_too_large": InvalidValue,
    "string_too_long": InvalidValue,
    "bytes_too_long": InvalidValue,
    "array_too_long": InvalidValue,
    "object_too_large": InvalidValue,
    "nesting_too_deep": InvalidValue,
    "run_closed": State,
    "invalid_transition": State,
    "transaction_not_active": State,
    "transaction_already_active": State,
    "not_in_transaction": State,
    "invalid_argument": InvalidArgument,
    "unavailable": Unavailable,
    "connection_lost": ConnectionLost,
    "connection_refused": Unavailable,
    "database_closed": Unavailable,
    "wal_poisoned": Unavailable,
    "timeout": TimedOut,
    "permission_denied": AccessDenied,
    "protocol_mismatch": ProtocolError,
    "protocol_violation": ProtocolError,
    "session_expired": SessionExpired,
}


def from_wire(body: Mapping[str, Any]) -> InmemError:
    """The exception an error of the server is."""
    code = str(body["code"])
    kind = _BY_CODE.get(code) or _BY_CLASS.get(body["class"], InmemError)
    return kind(
        str(body["message"]),
        code=code,
        outcome=body.get("outcome"),
        retry=str(body["retry"]),
        details=dict(body.get("details", ())),
    )
