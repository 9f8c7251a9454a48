"""Fixtures of the tests; those of the daemon come with the package."""

from __future__ import annotations

import asyncio
from typing import Any, Awaitable, Callable

import pytest

import inmem
from inmem.testing import Daemon


@pytest.fixture
def run_async(inmem_daemon: Daemon, inmem_run: Any) -> Callable[..., Any]:
    """Runs a coroutine function with a client of its own."""

    def run(body: Callable[[inmem.AsyncClient], Awaitable[Any]], **options: Any) -> Any:
        async def main() -> Any:
            async with inmem.AsyncClient(inmem_daemon.socket, run=inmem_run, **options) as client:
                return await body(client)

        return asyncio.run(main())

    return run
