"""A daemon of one's own, for tests: started on a directory, stopped by its process id."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import Sequence

DEADLINE_S = 30.0
"""Longest a start or a stop may take."""


MISSING_DAEMON = (
    "no inmemd: put it into PATH, or name it in INMEMD "
    "(`cargo build --release --bin inmemd` in the repository of in-mem builds it)"
)


def find_daemon() -> str | None:
    """The `inmemd` executable: that of the variable `INMEMD`, or the one in `PATH`. Raises
    `FileNotFoundError` if the variable names something else."""
    named = os.environ.get("INMEMD")
    if not named:
        return shutil.which("inmemd")
    if shutil.which(named) is None:
        raise FileNotFoundError(f"INMEMD is {named!r}, which is no executable")
    return named


class Daemon:
    """A running daemon with a directory and a socket of its own."""

    def __init__(
        self,
        directory: str | os.PathLike[str] | None = None,
        *,
        durability: str = "buffered",
        arguments: Sequence[str] = (),
    ) -> None:
        executable = find_daemon()
        if executable is None:
            raise FileNotFoundError(MISSING_DAEMON)
        # The paths of sockets are short; those of test directories are not.
        self._own = tempfile.mkdtemp(prefix="inmem-")
        self.directory = Path(directory) if directory is not None else Path(self._own)
        self.socket = str(Path(self._own) / "s.sock")
        self._command = [
            executable,
            "--data-dir",
            str(self.directory / "data.inmem"),
            "--socket",
            self.socket,
            "--durability",
            durability,
            *arguments,
        ]
        self._process: subprocess.Popen[str] | None = None

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        return self._process.pid if self._process is not None else None

    def start(self) -> Daemon:
        """Starts it and waits until it is ready."""
        ignored = ("INMEM_SOCKET", "INMEM_DATA_DIR")
        environment = {name: value for name, value in os.environ.items() if name not in ignored}
        process = subprocess.Popen(
            self._command, stdout=subprocess.PIPE, text=True, env=environment
        )
        self._process = process
        # A daemon that hangs is ended, and with it the wait for its line.
        watch = threading.Timer(DEADLINE_S, process.kill)
        watch.start()
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
        finally:
            watch.cancel()
        if not line.startswith("ready "):
            self.kill()
            command = " ".join(self._command)
            raise RuntimeError(
                f"inmemd is not ready: it said {line!r}; its log is on standard error; {command}"
            )
        return self

    def stop(self) -> None:
        """Ends it in order: SIGTERM, and waits."""
        if self._process is not None:
            self._process.terminate()
            self._wait()

    def kill(self) -> None:
        """SIGKILL, as a crash of the process."""
        if self._process is not None:
            self._process.kill()
            self._wait()

    def close(self) -> None:
        """Stops it and removes its directory."""
        self.stop()
        shutil.rmtree(self._own, ignore_errors=True)

    def _wait(self) -> None:
        process, self._process = self._process, None
        assert process is not None
        try:
            process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()

    def __enter__(self) -> Daemon:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
