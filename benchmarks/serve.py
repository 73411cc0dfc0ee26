"""The bars of `shoal.serve`, side by side with the servers that people use today: `make bench NAME=serve`.

Every server has the same model, two replicas of one thread each, and the same two cores, which the load generator
shares with it. Servers are started anew for each round and take turns, so that a slow minute of the machine meets all.
`--quick` takes seconds and few peers and keeps nothing; names of bars, such as `kill`, leave out the others.
"""

import json
import os
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

from bars import bar, report
from data_environments import SERVING, SERVING_MLSERVER, SERVING_TRITON, MissingPeerError
from serving_load import NUM_BODIES, Workload, run_grpc, run_open_loop, run_wrk
from serving_servers import KINDS, SHOAL, Server, adopt_orphans, shoal_options

NUM_CORES = 2
ROUNDS = 3
# An answer that comes later is worth nothing to whoever asked, in the bar of overload.
TARGET_S = 0.1
OVERLOAD = 3.0
# What is due while all of them wait is not sent: a server that lets requests wait for long runs out of them.
OVERLOAD_CONNECTIONS = 2_048
KILL_LOAD, KILL_AT_S = 0.4, 2.0
NEVER_MS = 60_000.0
QUICK_PEER = "mosec 16"
POINTS = {"c1 json": 1, "c32 json": 32, "c128 json": 128, "c128 binary": 128}

Bars = list[dict]
Rounds = dict[int, dict]


def main() -> None:
    """Measure everything, print one JSON line a bar, and keep them with every peer's version and setting."""
    # Where it is set, each process compiles each file anew; a start is measured as users have it.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    # All that is started from here on inherits this.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:NUM_CORES])
    adopt_orphans()
    quick = "--quick" in sys.argv
    only = [name for name in sys.argv[1:] if not name.startswith("--")]
    found: Bars = []
    failed: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(Workload(Path(scratch)), quick=quick)
        for name, measure in bench.measures().items():
            if only and name not in only:
                continue
            print(name, file=sys.stderr, flush=True)
            try:
                made = measure()
                found += made
                # At once, so that a run that is cut short was not for nothing.
                print("\n".join(json.dumps(each) for each in made), file=sys.stderr, flush=True)
            except MissingPeerError as error:
                failed.append(f"{name}: {error}")
                print(f"{name} was not measured: {error}", file=sys.stderr)
    if quick or only:
        print("\n".join(json.dumps(each) for each in found))
    else:
        notes = [*_notes(bench), *(f"missing   {reason}" for reason in failed)]
        packages = ["shoal", "onnxruntime", "numpy"]
        report("serve", found, packages=packages, command="make bench NAME=serve", notes=notes)
    if failed or bench.missing:
        sys.exit(1)


class Bench:
    """One run: the figures by server and round, and the peers that could not be measured and why."""

    def __init__(self, workload: Workload, *, quick: bool) -> None:
        self._workload = workload
        self._quick = quick
        self._seconds = 1 if quick else 4
        self.missing: dict[str, str] = {}
        self.statuses_of_short: dict[str, int] = {}

    def measures(self) -> dict[str, Callable[[], Bars]]:
        """What can be measured, by the name that selects it."""
        return {
            "rates": self.rates,
            "grpc": self.grpc,
            "overload": self.overload,
            "kill": self.kill,
            "start": self.start,
            "cache": self.cache,
            "fronts": self.fronts,
        }

    # ---- how many, how fast ---------------------------------------------------------------------------------------

    def rates(self) -> Bars:
        """Answers per second and percentiles at 1, 32 and 128 connections, and what the model would allow."""
        taken: dict[str, dict[str, Rounds]] = {point: defaultdict(dict) for point in POINTS}
        alone_ms, row_s = {}, {}
        for number in range(1 if self._quick else ROUNDS):
            row_s[number] = self._seconds_of_a_row()
            alone_ms[number] = self._workload.model_ms(self._seconds / 2, processes=1)[1]
            for name in self._names():
                self._visit(name, lambda server, number=number: self._load(server, taken, number))
        bars = [
            *_compared("json_c32", taken["c32 json"], 1.6, compare_p99=True),
            *_compared("json_c128", taken["c128 json"], 1.0),
            *_compared("binary_c128", taken["c128 binary"], 1.0),
        ]
        for name, point in {"json_c128": "c128 json", "binary_c128": "c128 binary"}.items():
            bars.append(_of_limit(name, taken[point][SHOAL], row_s))
        beyond = [each["p50_ms"] - alone_ms[number] for number, each in taken["c1 json"][SHOAL].items()]
        shown = {"model alone ms": statistics.median(alone_ms.values())}
        shown |= {f"{name} p50 ms": _median(rounds, "p50_ms") for name, rounds in taken["c1 json"].items()}
        return [*bars, bar("json_c1_p50_beyond_model_ms", statistics.median(beyond), "ms", 0.3, shown)]

    def _seconds_of_a_row(self) -> float:
        """CPU seconds of the model for a row in its best batch, both cores at it: the least that an answer takes."""
        found = self._workload.model_ms(self._seconds, processes=NUM_CORES)
        return min(taken_ms / size for size, taken_ms in found.items()) / 1_000

    def _load(self, server: Server, taken: dict[str, dict[str, Rounds]], number: int) -> None:
        kind = server.kind
        self._warm(server)
        for at, (point, connections) in enumerate(POINTS.items()):
            form = kind.json if point.endswith("json") else kind.binary
            if form is None:
                continue
            # Each measure begins elsewhere in the pool: what was asked last is not asked again at once.
            start = (1 + number * len(POINTS) + at) * NUM_BODIES // 16 % NUM_BODIES
            pool = self._workload.pools[form]
            found = run_wrk(server, pool, connections=connections, seconds=self._seconds, start=start)
            taken[point][kind.name][number] = found
            shown = f"{found['rate_per_s']:.0f}/s, p50 {found['p50_ms']:.2f} ms, p99 {found['p99_ms']:.1f} ms"
            print(f"  {kind.name}, {point}: {shown}, {found['failed']} failed", file=sys.stderr, flush=True)

    def grpc(self) -> Bars:
        """The same over gRPC, by a client of our own."""
        if "--grpc-port" not in shoal_options():
            raise MissingPeerError("`shoal serve run` has no --grpc-port")
        taken: dict[str, Rounds] = defaultdict(dict)
        names = [name for name in self._names() if KINDS[name].has_grpc]
        for number in range(1 if self._quick else ROUNDS):
            for name in names:
                self._visit(name, lambda server, number=number: self._load_grpc(server, taken, number))
        return _compared("grpc_c32", taken, 1.5)

    def _load_grpc(self, server: Server, taken: dict[str, Rounds], number: int) -> None:
        self._warm(server)
        found = run_grpc(server, self._workload.pools["grpc"], seconds=self._seconds, concurrency=32)
        taken[server.kind.name][number] = found
        print(f"  {server.kind.name}: {found['rate_per_s']:.0f}/s", file=sys.stderr, flush=True)

    # ---- when it gets too much, and when something dies -----------------------------------------------------------

    def overload(self) -> Bars:
        """Three times as many requests as can be answered, on schedule: how many are answered in time."""
        taken = self._each(self._overload)
        ours = taken[SHOAL].values()
        shown = _shown(taken, ("share", "capacity_per_s", "cores_used"))
        refused = _shown(taken, ("refusal_p50_ms", "refusal_p99_ms", "refused", "without_retry_after"))
        without = sum(each["without_retry_after"] + (each["refused"] == 0) for each in ours)
        slowest = _worst(ours, "refusal_p99_ms")
        return [
            bar("overload_goodput_of_capacity", _median(taken[SHOAL], "share"), "ratio", 0.9, shown, at_most=False),
            bar("overload_refused_p99_ms", slowest, "ms, worst round", 5, refused),
            bar("overload_refused_without_retry_after", without, "requests, or rounds without refusals", 0, {}),
        ]

    def _overload(self, server: Server) -> dict:
        """The same client finds the capacity: it takes more of the cores than wrk."""
        self._warm(server)
        pool = self._workload.pools[server.kind.json]
        capacity = run_open_loop(server, pool, seconds=self._seconds)["rate_per_s"]
        found = run_open_loop(
            server,
            pool,
            seconds=self._seconds,
            rate=OVERLOAD * capacity,
            connections=OVERLOAD_CONNECTIONS,
            target_s=TARGET_S,
        )
        return {**found, "capacity_per_s": capacity, "share": found["goodput_per_s"] / max(capacity, 1)}

    def kill(self) -> Bars:
        """SIGKILL of a replica at 40% load: requests not answered well, and how long those after it took."""
        taken = self._each(self._kill)
        ours = list(taken[SHOAL].values())
        lost = _shown(taken, ("lost", "due"), sum)
        slow = _shown(taken, ("after_kill_p99_ms", "answer_p99_ms"), max)
        return [
            bar("kill_failed", sum(each["lost"] for each in ours), f"requests, {len(ours)} kills", 0, lost),
            bar("kill_p99_ms", _worst(ours, "after_kill_p99_ms"), "ms in the second after, worst round", 100, slow),
        ]

    def _kill(self, server: Server) -> dict:
        self._warm(server)
        pool = self._workload.pools[server.kind.json]
        capacity = run_open_loop(server, pool, seconds=self._seconds)["rate_per_s"]
        found = run_open_loop(
            server,
            pool,
            seconds=KILL_AT_S + self._seconds,
            rate=KILL_LOAD * capacity,
            connections=256,
            kill=server.replica(),
            kill_at_s=KILL_AT_S,
        )
        # Whatever the reason: at this load a request has no other good end than its answer.
        return {**found, "lost": found["due"] - found["answered"]}

    # ---- what it costs to have it -----------------------------------------------------------------------------------

    def start(self) -> Bars:
        """From the command to the first answer, and the memory of all processes after some load."""
        taken = self._each(self._start, rounds=2 if self._quick else 7, rounds_of_peers=2)
        seconds = {f"{name} s": _median(rounds, "start_s") for name, rounds in taken.items()}
        memory = {f"{name} MB": _median(rounds, "memory_mb") for name, rounds in taken.items()}
        return [
            bar("start_s", seconds.pop(f"{SHOAL} s"), "s from the command to the first answer", 1.0, seconds),
            bar("memory_mb", memory.pop(f"{SHOAL} MB"), "MB (Pss) of all processes, 2 replicas", 130, memory),
        ]

    def _start(self, server: Server) -> dict:
        self._warm(server)
        return {"start_s": server.start_s, "memory_mb": server.memory_mb()}

    # ---- not yet ----------------------------------------------------------------------------------------------------

    def cache(self) -> Bars:
        """Answers from the prediction cache: >= 3 times the rate without it."""
        raise MissingPeerError("`shoal serve run` has no prediction cache")

    def fronts(self) -> Bars:
        """Two fronts: no slower than one."""
        raise MissingPeerError("`shoal serve run` has one front")

    # ---- whose turn it is -------------------------------------------------------------------------------------------

    def _names(self) -> list[str]:
        if self._quick:  # making environments takes minutes: a quick run does with the one that is there
            return [SHOAL, QUICK_PEER] if SERVING.is_ready() else [SHOAL]
        return list(KINDS)

    def _visit(self, name: str, work: Callable[[Server], None]) -> None:
        """Start a server, do the work and end it; a peer that fails is left out from then on."""
        if name in self.missing:
            return
        try:
            with self._workload.server(KINDS[name]) as server:
                self.statuses_of_short[name] = server.status_of_short
                work(server)
        except MissingPeerError as error:
            if name == SHOAL:
                raise
            self.missing[name] = str(error)
            print(f"  {name} is left out: {error}", file=sys.stderr, flush=True)

    def _each(
        self, measure: Callable[[Server], dict], *, rounds: int | None = None, rounds_of_peers: int = 1
    ) -> dict[str, Rounds]:
        """What `measure` finds, by server and round; a quick run has no peers here."""
        taken: dict[str, Rounds] = defaultdict(dict)
        rounds = rounds or (1 if self._quick else ROUNDS)
        for number in range(rounds):
            for name in self._names():
                if name == SHOAL or (number < rounds_of_peers and not self._quick):
                    self._visit(name, lambda server, number=number: _put(taken, server, number, measure(server)))
        return taken

    def _warm(self, server: Server) -> None:
        pool = self._workload.pools[server.kind.json]
        run_wrk(server, pool, connections=32, seconds=1)


def _put(taken: dict[str, Rounds], server: Server, number: int, found: dict) -> None:
    taken[server.kind.name][number] = found
    shown = {name: round(each, 2) for name, each in found.items() if isinstance(each, int | float)}
    print(f"  {server.kind.name}: {shown} {found.get('reasons', '')}", file=sys.stderr, flush=True)


def _compared(name: str, taken: dict[str, Rounds], target: float, *, compare_p99: bool = False) -> Bars:
    """The rate beside that of the peer with the highest one: the median over rounds in which both were measured."""
    peers = {side: rounds for side, rounds in taken.items() if side != SHOAL}
    if not peers:
        return []
    best = max(peers, key=lambda side: _median(peers[side], "rate_per_s"))
    ours, theirs = taken[SHOAL], peers[best]
    both = ours.keys() & theirs.keys()
    ratio = statistics.median(ours[number]["rate_per_s"] / theirs[number]["rate_per_s"] for number in both)
    shown = _shown(taken, ("rate_per_s", "p99_ms"))
    shown |= {
        f"{side} failed": each for side in taken if (each := sum(r.get("failed", 0) for r in taken[side].values()))
    }
    bars = [bar(f"{name}_times_best_peer", ratio, f"times {best}", target, shown, at_most=False)]
    if compare_p99:
        slower = statistics.median(ours[number]["p99_ms"] / theirs[number]["p99_ms"] for number in both)
        bars.append(bar(f"{name}_p99_of_best_peer", slower, f"of the p99 of {best}", 1.0, shown))
    return bars


def _of_limit(name: str, ours: Rounds, row_s: dict[int, float]) -> dict:
    """The rate as a share of what the model alone allows on the cores that the load generator leaves.

    An answer takes the CPU time of the model for one row, in its best batch and with both cores busy, and that of wrk
    for sending and reading; a server that itself took nothing would give cores / (model + wrk) answers a second. wrk's
    time is what it used in the same measure, so its share grows with the rate just as it does here.
    """
    limits = {number: NUM_CORES / (row_s[number] + each["load_s"]) for number, each in ours.items()}
    share = statistics.median(each["rate_per_s"] / limits[number] for number, each in ours.items())
    shown = {
        "limit rate_per_s": statistics.median(limits.values()),
        "model us": 1e6 * statistics.median(row_s.values()),
        "wrk us": 1e6 * _median(ours, "load_s"),
        "shoal rate_per_s": _median(ours, "rate_per_s"),
    }
    return bar(f"{name}_of_limit", share, "of what the model alone allows", 0.85, shown, at_most=False)


def _median(rounds: Rounds, what: str) -> float:
    return statistics.median(each[what] for each in rounds.values())


def _worst(rounds: Iterable[dict], what: str) -> float:
    """The largest; where a round has none, as when nothing was refused, it never came."""
    return max(NEVER_MS if each[what] is None else each[what] for each in rounds)


def _shown(
    taken: dict[str, Rounds], names: Iterable[str], over: Callable[[list[float]], float] = statistics.median
) -> dict[str, float]:
    shown = {}
    for side, rounds in taken.items():
        for name in names:
            values = [each[name] for each in rounds.values() if each[name] is not None]
            if values:
                shown[f"{side} {name}"] = over(values)
    return shown


def _notes(bench: Bench) -> list[str]:
    wanted = ("fastapi", "uvicorn", "mosec", "litserve", "bentoml", "ray", "mlserver", "nvidia-pytriton", "onnxruntime")
    lines = [
        "all servers: 2 replicas of one thread, bodies all different, validation of every request; on two cores with",
        "the load generator (wrk -t1). shoal: prediction ids and metrics on, no prediction cache, no prediction log.",
        "rates and percentiles are of wrk, but for gRPC, overload and kill; each is the median over rounds;",
        "the limit of a rate is cores / (CPU time of the model for a row in its best batch + that of wrk for it).",
        "setting   mosec 32 and mosec 16: the most rows of a batch; the better of them counts at each point",
        "setting   the other peers: in the comments of benchmarks/peers/serving_*.py",
    ]
    odd = {name: status for name, status in bench.statuses_of_short.items() if not 400 <= status < 500}
    lines += [f"note      {name} answers {status} to an image that lacks a column" for name, status in odd.items()]
    lines += [f"missing   {name}: {reason}" for name, reason in bench.missing.items()]
    for environment in (SERVING, SERVING_MLSERVER, SERVING_TRITON):
        pins = [pin for pin in environment.versions() if pin.partition("==")[0] in wanted]
        lines.append(f"peers     {environment.name}: {', '.join(pins)}")
    return lines


if __name__ == "__main__":
    main()
