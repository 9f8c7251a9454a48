"""The examples run, and say what they say they do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from inmem.testing import Daemon

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs(example: Path, inmem_daemon: Daemon) -> None:
    environment = {**os.environ, "INMEM_SOCKET": inmem_daemon.socket}
    done = subprocess.run(
        [sys.executable, str(example)], env=environment, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
    expected = [line[2:] for line in example.read_text().splitlines() if line.startswith("#>")]
    assert [line.strip() for line in expected] == done.stdout.split("\n")[:-1]


def test_there_are_examples() -> None:
    assert len(EXAMPLES) == 4
