"""The fixtures as someone sees them who has nothing but the installed package."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from inmem import testing

MINE = '''
def test_mine(inmem_client):
    inmem_client.kv.put("key", 1)
    assert inmem_client.kv.get("key") == 1
'''


def run_mine(tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a test of the newcomer with the plain options, somewhere else."""
    (tmp_path / "test_mine.py").write_text(MINE)
    kept = {name: it for name, it in os.environ.items() if name != "INMEMD"}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "test_mine.py"]
    return subprocess.run(
        command,
        cwd=tmp_path,
        env={**kept, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_fixtures_find_a_daemon_in_the_path(tmp_path: Path) -> None:
    daemon = testing.find_daemon()
    if daemon is None:
        pytest.skip(testing.MISSING_DAEMON)
    binaries = tmp_path / "bin"
    binaries.mkdir()
    (binaries / "inmemd").symlink_to(Path(daemon).resolve())
    done = run_mine(tmp_path, PATH=f"{binaries}:{os.environ['PATH']}")
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_without_a_daemon_the_fixtures_say_what_is_missing(tmp_path: Path) -> None:
    done = run_mine(tmp_path, PATH=os.fspath(tmp_path))
    assert done.returncode == 0, done.stdout
    assert f"SKIPPED 1 tests of inmem: {testing.MISSING_DAEMON}" in done.stdout
    assert "INMEMD" in testing.MISSING_DAEMON and "PATH" in testing.MISSING_DAEMON


def test_a_daemon_that_is_named_and_is_none_is_an_error(tmp_path: Path) -> None:
    done = run_mine(tmp_path, INMEMD="/nowhere/inmemd")
    assert done.returncode == 1
    assert "INMEMD is '/nowhere/inmemd', which is no executable" in done.stdout


def test_a_daemon_that_does_not_start_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INMEMD", sys.executable)
    monkeypatch.setenv("TMPDIR", os.fspath(tmp_path))
    monkeypatch.setattr(testing.tempfile, "tempdir", None)
    with pytest.raises(RuntimeError, match="not ready"):
        with testing.Daemon():
            pass
    assert list(tmp_path.iterdir()) == []


def test_the_package_is_typed() -> None:
    assert (Path(testing.__file__).parent / "py.typed").exists()
