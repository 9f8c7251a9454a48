"""Exports, as both clients offer them.

A client names no path, only what the clone is to be called inside the directory that the
configuration of the server says (`export_dir`). Reads and writes of all clients go on. An export
takes as long as its files take to be copied and read back; a client that bears no such silence
(`timeout_s`) raises, and the server goes on.
"""

from __future__ import annotations

from typing import Awaitable, Protocol, TypeVar

from . import calls
from .calls import Call
from .types import ExportInfo

R = TypeVar("R")


class _Executes(Protocol):
    def execute(self, call: Call[R]) -> R: ...


class _Awaits(Protocol):
    def execute(self, call: Call[R]) -> Awaitable[R]: ...


class Exports:
    """What the blocking client adds."""

    def export(self: _Executes, name: str) -> ExportInfo:
        """Makes a clone of the database under a plain name inside the `export_dir` of the server,
        with everything that logged commits have made. When this returns, it was read back and is
        durable: a directory that a daemon can be started on. Raises `Constraint` with the code
        `already_exists`, `InvalidArgument` for what is no plain name, `Io` with the code
        `unavailable` when the server exports to no directory, and with `already_in_progress`."""
        return self.execute(calls.export(name))


class AsyncExports:
    """What the client for asyncio adds."""

    async def export(self: _Awaits, name: str) -> ExportInfo:
        """Makes a clone of the database under a plain name inside the `export_dir` of the server,
        with everything that logged commits have made. When this returns, it was read back and is
        durable: a directory that a daemon can be started on. Raises `Constraint` with the code
        `already_exists`, `InvalidArgument` for what is no plain name, `Io` with the code
        `unavailable` when the server exports to no directory, and with `already_in_progress`."""
        return await self.execute(calls.export(name))
