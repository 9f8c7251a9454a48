#!/usr/bin/env python3
"""Compares in-mem with Redis: one sitting, the same load, the same machine, side by side.

What it does, in this order:
 1. builds `inmem`, `inmemd` (release) and `resp-load` (this folder), unless --no-build;
 2. if there is no `redis-server`: says so and installs it with `apt-get install redis-server`
    (needs root; the service of the package is not started), unless --no-install;
 3. for every cell and every round, first one side, then the other (the order alternates): starts
    a fresh server on a Unix socket in a fresh directory, puts the load on it, ends it by its id,
    removes the directory;
 4. prints a Markdown table: medians, least and most of the rounds; cells that lose included.

The load: `inmem bench` on one side, `resp-load` on the other. Both are the same loop (the same
source files); only the bytes on the wire differ. With --check-generator, `redis-benchmark` is run
in some cells beside `resp-load`, to show that the loop does not hold Redis back.

Modes side by side: strict = appendfsync always, buffered = appendfsync everysec,
inmemory = appendonly no. Redis writes no RDB and rewrites no AOF meanwhile.

Placement (--placement), the same for both sides: `split` pins the server to CPU 0 and the load
to CPU 1; `free` pins nothing; `same` pins both to CPU 0.

Nothing is left behind: processes are ended by their ids and directories removed, also after an
error or a signal.
"""

import argparse
import atexit
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
START_S_MAX = 30
APPENDFSYNC = {"strict": "always", "buffered": "everysec", "inmemory": None}
CHILDREN = []


def say(text):
    print(text, file=sys.stderr, flush=True)


def end(child):
    """Ends one of our processes, by its id, and waits for it."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(timeout=20)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
    if child in CHILDREN:
        CHILDREN.remove(child)


def clean_up(directory):
    for child in list(CHILDREN):
        child.kill()
        child.wait()
    shutil.rmtree(directory, ignore_errors=True)


def pinned(cpus):
    """What a child does before it runs: be on these CPUs, and die with this process."""
    def prepare():
        if cpus is not None:
            os.sched_setaffinity(0, cpus)
    return prepare


def spawn(command, cpus, log):
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                             preexec_fn=pinned(cpus))
    CHILDREN.append(child)
    return child


class Ours:
    """inmemd, and the load on it."""
    name = "in-mem"

    def __init__(self, args):
        self.daemon = os.path.join(args.bin, "inmemd")
        self.client = os.path.join(args.bin, "inmem")

    def server(self, directory, mode):
        durability = "in_memory" if mode == "inmemory" else mode
        return [self.daemon, "--data-dir", os.path.join(directory, "data"), "--socket",
                os.path.join(directory, "sock"), "--durability", durability]

    def is_ready(self, directory):
        done = subprocess.run([self.client, "--socket", os.path.join(directory, "sock"), "ping"],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return done.returncode == 0

    def load(self, directory, mode, op, clients, processes, depth, args):
        return [self.client, "bench", "--json", "--socket", os.path.join(directory, "sock"),
                "--op", op, "--mode", mode, "--clients", str(clients),
                "--processes", str(processes), "--depth", str(depth),
                "--value-size", str(args.value_size), "--keys", str(args.keys),
                "--seconds", str(args.seconds)]


class Theirs:
    """redis-server, and the load on it."""
    name = "Redis"

    def __init__(self, args):
        self.program = args.resp_load

    def server(self, directory, mode):
        command = ["redis-server", "--port", "0", "--unixsocket",
                   os.path.join(directory, "sock"), "--dir", directory, "--save", "",
                   "--daemonize", "no", "--auto-aof-rewrite-percentage", "0"]
        fsync = APPENDFSYNC[mode]
        if fsync is None:
            return command + ["--appendonly", "no"]
        return command + ["--appendonly", "yes", "--appendfsync", fsync]

    def is_ready(self, directory):
        done = subprocess.run(["redis-cli", "-s", os.path.join(directory, "sock"), "ping"],
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        return done.stdout.strip() == b"PONG"

    def load(self, directory, mode, op, clients, processes, depth, args):
        return [self.program, "--socket", os.path.join(directory, "sock"), "--op", op,
                "--clients", str(clients), "--processes", str(processes),
                "--depth", str(depth), "--value-size", str(args.value_size),
                "--keys", str(args.keys), "--seconds", str(args.seconds)]


class RedisBenchmark(Theirs):
    """redis-server, and redis-benchmark as its load. Counts requests, not seconds."""
    name = "redis-benchmark"

    def load(self, directory, mode, op, clients, processes, depth, args):
        return ["redis-benchmark", "-s", os.path.join(directory, "sock"), "-t",
                "set" if op == "put" else "get", "-c", str(clients), "-P", str(depth),
                "-d", str(args.value_size), "-r", str(args.keys),
                "-n", str(args.check_requests), "--csv"]


def measure(side, cell, args, base):
    """One measurement with a fresh server; the figures of the load."""
    mode, op, (clients, processes), depth = cell
    directory = tempfile.mkdtemp(dir=base)
    with open(os.path.join(directory, "log"), "wb") as log:
        server = spawn(side.server(directory, mode), args.server_cpus, log)
        try:
            deadline = time.monotonic() + START_S_MAX
            while not side.is_ready(directory):
                if server.poll() is not None or deadline < time.monotonic():
                    log.flush()
                    with open(log.name, errors="replace") as text:
                        raise RuntimeError(f"{side.name} does not start: {text.read()[-500:]}")
                time.sleep(0.01)
            command = side.load(directory, mode, op, clients, processes, depth, args)
            settle(server.pid)
            busy_s = cpu_s(server.pid)
            load = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                    preexec_fn=pinned(args.load_cpus))
            CHILDREN.append(load)
            out, _ = load.communicate(timeout=args.seconds + 120)
            CHILDREN.remove(load)
            if load.returncode != 0:
                raise RuntimeError(f"the load on {side.name} ended with {load.returncode}")
            busy_s = cpu_s(server.pid) - busy_s
        finally:
            end(server)
            shutil.rmtree(directory, ignore_errors=True)
    return out.decode(), busy_s


def figures(side, cell, args, base):
    out, busy_s = measure(side, cell, args, base)
    found = json.loads(out.strip().splitlines()[-1])
    # The half second of warm-up, and the loading of keys, are in the time but not in the count.
    ops = max(1, found["ops"]) * (args.seconds + 0.5) / args.seconds
    found["cpu_us"] = busy_s * 1e6 / ops
    return found


def cpu_s(pid):
    """CPU time of all threads of a process so far, seconds; proc_pid_stat(5)."""
    with open(f"/proc/{pid}/stat", encoding="utf-8") as text:
        fields = text.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def settle(pid):
    """Waits, at most 3 s, until a server that has just started does nothing: what it prepares
    once is not part of what is measured."""
    deadline = time.monotonic() + 3
    before = None
    while time.monotonic() < deadline:
        now = cpu_s(pid)
        if now == before:
            return
        before = now
        time.sleep(0.1)


def raw_sync_us(base):
    """Median time of a 4 KiB write that is synced, microseconds: the floor of a strict commit."""
    path = os.path.join(base, "probe")
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_DSYNC, 0o600)
    times = []
    try:
        for number in range(200):
            begin = time.monotonic_ns()
            os.pwrite(descriptor, b"x" * 4096, (number % 16) * 4096)
            times.append((time.monotonic_ns() - begin) / 1000)
    finally:
        os.close(descriptor)
        os.unlink(path)
    return statistics.median(times)


def output_of(*command):
    try:
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    except FileNotFoundError:
        return ""
    return done.stdout.decode().strip()


def machine_line(base):
    model = "unknown CPU"
    with open("/proc/cpuinfo", encoding="utf-8") as text:
        for line in text:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    best = ("", "unknown", "unknown", "")
    with open("/proc/self/mounts", encoding="utf-8") as text:
        for line in text:
            device, point, kind, options = line.split()[:4]
            inside = os.path.join(base, "").startswith(os.path.join(point, ""))
            if inside and len(best[0]) <= len(point):
                best = (point, device, kind, options)
    load = os.getloadavg()[0]
    return (f"machine: {model}, {os.cpu_count()} CPUs; Linux {platform.release().split('-')[0]}; "
            f"{best[2]} on {best[1]} ({best[3]}); load average {load:.2f} at the start; "
            f"4 KiB O_DSYNC write p50 {raw_sync_us(base):.0f} us")


def prepare(args):
    if not args.no_build:
        say("building inmem, inmemd and resp-load (release)")
        subprocess.run(["cargo", "build", "--release", "--bins"], cwd=ROOT, check=True)
        subprocess.run(["cargo", "build", "--release", "--manifest-path",
                        os.path.join(HERE, "Cargo.toml")], cwd=ROOT, check=True)
    target = os.environ.get("CARGO_TARGET_DIR")
    args.bin = args.bin or os.path.join(target or os.path.join(ROOT, "target"), "release")
    args.resp_load = args.resp_load or os.path.join(target or os.path.join(HERE, "target"),
                                                    "release", "resp-load")
    for program in [os.path.join(args.bin, "inmem"), os.path.join(args.bin, "inmemd"),
                    args.resp_load]:
        if not os.access(program, os.X_OK):
            sys.exit(f"{program} is missing; leave --no-build out")
    if shutil.which("redis-server") and shutil.which("redis-cli"):
        return
    if args.no_install:
        sys.exit("redis-server is missing; leave --no-install out, or install it")
    say("redis-server is missing: installing the package of this distribution with "
        "`apt-get install --no-install-recommends redis-server` (as root, not started as a "
        "service); `apt-get remove redis-server redis-tools` takes it away again")
    if os.geteuid() != 0:
        sys.exit("that needs root")
    # RUNLEVEL=1 keeps invoke-rc.d(8) from starting the service.
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive", RUNLEVEL="1")
    subprocess.run(["apt-get", "install", "-y", "--no-install-recommends", "redis-server"],
                   check=True, env=environment, stdout=sys.stderr)


def cells(args):
    found = []
    for mode in args.modes:
        for op in args.ops:
            for clients in args.clients:
                count, _, processes = clients.partition("x")
                for depth in args.depth:
                    found.append((mode, op, (int(count), int(processes or 1)), depth))
    return found


def thousands(number):
    return f"{number:,.0f}"


def spread(rounds):
    rates = [figure["ops_per_second"] for figure in rounds]
    return (f"{thousands(statistics.median(rates))} ({thousands(min(rates))} to "
            f"{thousands(max(rates))})")


def latency(rounds):
    p50, p99 = (statistics.median(figure[key] for figure in rounds) for key in ("p50_us", "p99_us"))
    return f"{p50:.0f} / {p99:.0f}"


def cpu(rounds):
    return f"{statistics.median(figure['cpu_us'] for figure in rounds):.2f}"


def compare(args, base):
    print("| mode | op | clients | in flight | in-mem, ops/s | Redis, ops/s | ratio | "
          "in-mem p50 / p99 us | Redis p50 / p99 us | server CPU us per op, in-mem / Redis |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    sides = [Ours(args), Theirs(args)]
    lost = []
    for number, cell in enumerate(cells(args)):
        rounds = {side.name: [] for side in sides}
        for turn in range(args.runs):
            for side in (sides if (number + turn) % 2 == 0 else sides[::-1]):
                rounds[side.name].append(figures(side, cell, args, base))
        ours, theirs = rounds["in-mem"], rounds["Redis"]
        ratio = (statistics.median(figure["ops_per_second"] for figure in ours)
                 / max(1, statistics.median(figure["ops_per_second"] for figure in theirs)))
        mode, op, (clients, processes), depth = cell
        who = f"{clients}" if processes == 1 else f"{clients} in {processes} processes"
        if ratio < 1:
            lost.append(f"{mode} {op}, {who} clients x {depth}: {ratio:.2f}")
        print(f"| {mode} | {op} | {who} | {depth} | {spread(ours)} | {spread(theirs)} | "
              f"{ratio:.2f} | {latency(ours)} | {latency(theirs)} | {cpu(ours)} / {cpu(theirs)} |",
              flush=True)
    print()
    print("Lost: " + ("; ".join(lost) if lost else "none") + ".")


def check_generator(args, base):
    print()
    print("The generator: `redis-benchmark` and `resp-load` on the same server, appendonly no.")
    print()
    print("| op | clients | in flight | resp-load, ops/s | redis-benchmark, ops/s |")
    print("|---|---|---|---|---|")
    for op in ("put", "get"):
        for depth in (1, 16, 100):
            cell = ("inmemory", op, (50, 1), depth)
            args.check_requests = 60_000 if depth == 1 else 1_000_000
            ours, theirs = [], []
            for _ in range(args.runs):
                ours.append(figures(Theirs(args), cell, args, base)["ops_per_second"])
                last = measure(RedisBenchmark(args), cell, args, base)[0].strip().splitlines()[-1]
                theirs.append(float(last.split(",")[1].strip('"')))
            print(f"| {op} | 50 | {depth} | {thousands(statistics.median(ours))} | "
                  f"{thousands(statistics.median(theirs))} |", flush=True)


def parsed():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", nargs="+", default=["1", "8", "50", "10x10"],
                        metavar="N[xM]", help="connections, in M processes (10x10: ten in ten)")
    parser.add_argument("--depth", nargs="+", type=int, default=[1, 16, 100])
    parser.add_argument("--ops", nargs="+", choices=["put", "get"], default=["put", "get"])
    parser.add_argument("--modes", nargs="+", choices=list(APPENDFSYNC),
                        default=list(APPENDFSYNC))
    parser.add_argument("--runs", type=int, default=3, help="rounds per cell and side")
    parser.add_argument("--seconds", type=int, default=1, help="measured per round")
    parser.add_argument("--value-size", type=int, default=100, help="bytes")
    parser.add_argument("--keys", type=int, default=10_000)
    parser.add_argument("--placement", choices=["split", "free", "same"], default="split")
    parser.add_argument("--dir", help="where the databases are made; a disk, not memory")
    parser.add_argument("--bin", help="where inmem and inmemd are")
    parser.add_argument("--resp-load", help="the program resp-load")
    parser.add_argument("--no-build", action="store_true")
    parser.add_argument("--no-install", action="store_true")
    parser.add_argument("--check-generator", action="store_true")
    parser.add_argument("--quick", action="store_true", help="two cells, one round: a smoke test")
    args = parser.parse_args()
    if args.quick:
        args.clients, args.depth, args.runs = ["8", "4x2"], [16], 1
        args.ops, args.modes = ["put", "get"], ["inmemory"]
    placements = {"split": ({0}, {1}), "free": (None, None), "same": ({0}, {0})}
    args.server_cpus, args.load_cpus = placements[args.placement]
    return args


def main():
    args = parsed()
    prepare(args)
    base = tempfile.mkdtemp(prefix="inmem-compare-", dir=args.dir)
    atexit.register(clean_up, base)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Leads through atexit.
        signal.signal(number, lambda *_: sys.exit(130))
    redis = output_of("redis-server", "--version").split(" sha=")[0]
    ours = output_of(os.path.join(args.bin, "inmem"), "--version")
    print(f"### `benches/compare/run.py {' '.join(sys.argv[1:])}`", end="\n\n")
    print(machine_line(base))
    print(f"versions: {ours}, commit {output_of('git', 'rev-parse', '--short', 'HEAD')}; {redis}")
    print(f"placement: {args.placement}"
          + {"split": " (server on CPU 0, load on CPU 1)", "free": " (nothing pinned)",
             "same": " (server and load on CPU 0)"}[args.placement]
          + f"; {args.value_size}-byte values, 16-byte keys, {args.keys} keys; median (least to "
          f"most) of {args.runs} rounds of {args.seconds} s, the sides in turn, a fresh server "
          "each time, at rest before the load; closed loop")
    print("strict = appendfsync always, buffered = everysec, inmemory = appendonly no")
    print(flush=True)
    compare(args, base)
    if args.check_generator:
        check_generator(args, base)


if __name__ == "__main__":
    main()
