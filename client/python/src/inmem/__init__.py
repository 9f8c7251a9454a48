"""Client of in-mem, a durable, shared, in-memory store for the AI-agent workers of one machine.

    import inmem

    with inmem.Client() as client:
        client.kv.put("step", 1)
        client.kv.get("step")

`Client` blocks, `AsyncClient` is for asyncio. See README.md.
"""

from . import calls, errors
from ._session import Reconnect, default_socket
from .aio import AsyncClient
from .client import Client, Pipeline, Run, Ticket, Transaction
from .errors import (
    AccessDenied,
    Conflict,
    ConnectionLost,
    Constraint,
    HistoryTrimmed,
    InmemError,
    InternalError,
    InvalidArgument,
    InvalidKey,
    InvalidPath,
    InvalidValue,
    Io,
    NotFound,
    NumberOverflow,
    ProtocolError,
    SessionExpired,
    State,
    TimedOut,
    Unavailable,
    Validation,
    WrongType,
)
from .types import (
    MISSING,
    BatchResult,
    Capabilities,
    Conditional,
    Deleted,
    Durability,
    Effect,
    Entry,
    History,
    Incremented,
    Key,
    Level,
    Mismatch,
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

__version__ = "0.1.0"

__all__ = [name for name in dir() if not name.startswith("_") and name != "aio"]
