#!/usr/bin/env python3
"""Compares how in-mem and Redis save, load and replay the same amount of data, in one sitting.

For each round: the parts `snapshots` and `logs` of `cargo bench --bench recovery_performance`, then
Redis with as many keys and values of as many bytes: BGSAVE, the start from that RDB, the start from
an append-only file of one SET each (no RDB preamble, nothing rewritten), and memory per key. Prints
a Markdown table of medians. The rows differ in what they do, and that is said beside them: a
checkpoint of in-mem is synced and read back, BGSAVE is neither; in-mem keeps history and a start
makes its log writable again.

Needs `redis-server` and `redis-cli` (see run.py) and 2 GB of disk. Nothing is left behind.
"""

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from run import ROOT, clean_up, end, machine_line, say, spawn

READY_S_MAX = 120
VALUE_LEN_BYTES = 100


class Redis:
    """A server on a socket in a directory of its own."""

    def __init__(self, base, append_only):
        self.directory = tempfile.mkdtemp(dir=base)
        self.socket = os.path.join(self.directory, "sock")
        self.append_only = append_only
        self.child = None

    def start(self):
        """Starts it, and gives the seconds until it answers with everything loaded."""
        command = ["redis-server", "--port", "0", "--unixsocket", self.socket, "--dir",
                   self.directory, "--save", "", "--appendonly", "yes" if self.append_only else "no",
                   "--auto-aof-rewrite-percentage", "0", "--aof-use-rdb-preamble", "no",
                   "--enable-debug-command", "yes"]
        began = time.monotonic()
        self.child = spawn(command, None, subprocess.DEVNULL)
        while self.command("ping") != "PONG":
            if READY_S_MAX < time.monotonic() - began:
                raise RuntimeError("redis-server does not answer")
            time.sleep(0.002)
        return time.monotonic() - began

    def stop(self):
        end(self.child)

    def command(self, *words, stdin=None):
        done = subprocess.run(["redis-cli", "-s", self.socket, *words], input=stdin,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        return done.stdout.decode().strip()

    def info(self, name):
        found = re.search(rf"^{name}:(\S+)", self.command("info"), re.M)
        return float(found.group(1))

    def fill(self, count):
        """As many SETs, through a pipe."""
        value = "x" * VALUE_LEN_BYTES
        lines = [f"*3\r\n$3\r\nSET\r\n$16\r\nkey-{number:012}\r\n${len(value)}\r\n{value}\r\n"
                 for number in range(count)]
        self.command("--pipe", stdin="".join(lines).encode())
        if int(self.command("dbsize")) != count:
            raise RuntimeError("not every key arrived")


def theirs(base, count, found):
    redis = Redis(base, append_only=False)
    redis.start()
    before = redis.info("used_memory")
    redis.fill(count)
    found.setdefault("memory per key, bytes", []).append((redis.info("used_memory") - before) / count)
    began = time.monotonic()
    redis.command("bgsave")
    while redis.info("rdb_bgsave_in_progress") != 0:
        time.sleep(0.002)
    found.setdefault("checkpoint / BGSAVE", []).append(time.monotonic() - began)
    redis.stop()
    found.setdefault("snapshot load / RDB load", []).append(redis.start())
    redis.stop()
    shutil.rmtree(redis.directory)
    redis = Redis(base, append_only=True)
    redis.start()
    redis.fill(count)
    redis.stop()
    found.setdefault("log replay / AOF load", []).append(redis.start())
    redis.stop()
    shutil.rmtree(redis.directory)


def ours(program, count, found):
    rows = {
        "checkpoint / BGSAVE": rf"^checkpoint, .*, {count} keys +([\d.]+) s",
        "snapshot load / RDB load": rf"^snapshot load, .*, {count} keys +([\d.]+) s",
        "log replay / AOF load": rf"^log replay, {count} records +([\d.]+) s",
    }
    for part in ("snapshots", "logs"):
        done = subprocess.run([program, part, "--bench"], stdout=subprocess.PIPE, check=True,
                              cwd=ROOT)
        text = done.stdout.decode()
        say(text)
        for name, pattern in rows.items():
            match = re.search(pattern, text, re.M)
            if match:
                found.setdefault(name, []).append(float(match.group(1)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keys", type=int, default=1_000_000, choices=[100_000, 1_000_000])
    args = parser.parse_args()
    build = subprocess.run(["cargo", "bench", "--bench", "recovery_performance", "--no-run"],
                           cwd=ROOT, stderr=subprocess.PIPE, check=True)
    program = re.search(r"\((\S*recovery_performance-\S+)\)", build.stderr.decode()).group(1)
    program = os.path.join(ROOT, program)
    base = tempfile.mkdtemp(prefix="inmem-compare-")
    mine, other = {}, {}
    try:
        for _ in range(args.rounds):
            ours(program, args.keys, mine)
            theirs(base, args.keys, other)
        print(machine_line(base))
    finally:
        clean_up(base)
    print(f"{args.keys} keys of 16 bytes, values of {VALUE_LEN_BYTES}; medians of {args.rounds} rounds\n")
    print("| | in-mem | Redis | ratio of rates |\n|---|---|---|---|")
    for name in mine:
        left, right = statistics.median(mine[name]), statistics.median(other[name])
        print(f"| {name} | {left:.2f} s, {args.keys / left / 1e6:.2f} M/s | {right:.2f} s, "
              f"{args.keys / right / 1e6:.2f} M/s | {right / left:.2f} |")
    memory = statistics.median(other["memory per key, bytes"])
    print(f"| memory per key | not measured here | {memory:.0f} bytes | |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
