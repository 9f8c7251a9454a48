"""Fixtures for tests against a private daemon. Installed with the package, no import needed.

`inmem_daemon` is one daemon for the whole session, in a temporary directory. `inmem_run` is a fresh
run on it, and `inmem_client` a client whose default run that is: tests do not see each other's keys.
"""

from __future__ import annotations

import uuid
from typing import Any, Iterator

import pytest

from .client import Client
from .testing import MISSING_DAEMON, Daemon, find_daemon


@pytest.fixture(scope="session")
def inmem_daemon() -> Iterator[Daemon]:
    """A daemon that lives as long as the test session. Without an `inmemd` the test is skipped, and
    the summary of the session says so."""
    if find_daemon() is None:
        pytest.skip(MISSING_DAEMON)
    with Daemon() as daemon:
        yield daemon


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Says aloud, whatever the options, what tests did not run for want of a daemon."""
    skipped = terminalreporter.stats.get("skipped", [])
    count = sum(MISSING_DAEMON in str(report.longrepr) for report in skipped)
    if count:
        terminalreporter.write_line(f"SKIPPED {count} tests of inmem: {MISSING_DAEMON}")


@pytest.fixture
def inmem_run(inmem_daemon: Daemon) -> uuid.UUID:
    """A run of this test alone."""
    with Client(inmem_daemon.socket) as client:
        return client.runs.begin().info.id


@pytest.fixture
def inmem_client(inmem_daemon: Daemon, inmem_run: uuid.UUID) -> Iterator[Client]:
    """A client whose default run is `inmem_run`."""
    with Client(inmem_daemon.socket, run=inmem_run) as client:
        yield client
