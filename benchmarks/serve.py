"""The bars of `shoal.serve`, side by side with the servers that people use today: `make bench NAME=serve`.

Every server has the same model, two replicas of one thread each, and the same two cores, which the load generator
shares with it. Servers are started anew for each round and take turns, so that a slow minute of the machine meets all.
`--quick` takes seconds and few peers and keeps nothing; names of measures, such as `kill`, leave out the others.
"""

import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import serving_cores
from bars import bar, report
from data_environments import SERVING, SERVING_MLSERVER, SERVING_TRITON, MissingPeerError
from serving_bars import (
    Bars,
    at_point,
    compared,
    contenders,
    median,
    median_ratio,
    of_limit,
    shown_medians,
    size_of,
    worst,
)
from serving_bodies import read_pool
from serving_kinds import CACHED, SHOAL, TWO_FRONTS
from serving_load import CLOSED, FEW, NUM_BODIES, Workload, run_grpc, run_open_loop, run_wrk
from serving_model import BATCH_SIZES
from serving_processes import adopt_orphans
from serving_servers import Server
from serving_turns import Taken, Turns, merge

NUM_CORES = 2
ROUNDS, ROUNDS_OF_FRONTS, ROUNDS_OF_STARTS, STARTS_OF_PEERS = 4, 5, 7, 2
# An answer that comes later is worth nothing to whoever asked, in the bar of overload.
TARGET_S = 0.1
OVERLOAD = 3.0
# What is due while all of them wait is not sent: a server that lets requests wait for long runs out of them.
OVERLOAD_CONNECTIONS = 2_048
KILL_LOAD, KILL_AT_S = 0.4, 2.0
# A point by its name: how many connections.
POINTS = {"c1 json": 1, "c32 json": 32, "c128 json": 128, "c128 binary": 128}
FRONT_POINTS = {"c128 json": 128, "c128 binary": 128}
CACHE_POINTS = {"c32 json": 32, "c32 binary": 32}


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
        measures = bench.measures()
        if unknown := set(only) - measures.keys():
            sys.exit(f"no measure is called {', '.join(sorted(unknown))}; there are {', '.join(measures)}")
        for name, measure in measures.items():
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
        print("\n".join([*bench.tables, *(json.dumps(each) for each in found)]))
    else:
        notes = [*_notes(bench), *(f"missing   {reason}" for reason in failed), *bench.tables]
        packages = ["shoal", "onnxruntime", "numpy"]
        report("serve", found, packages=packages, command="make bench NAME=serve", notes=notes)
    if failed or bench.turns.missing:
        sys.exit(1)


class Bench:
    """One run: every measure, whose turn it is, and the tables that are kept beside the bars."""

    def __init__(self, workload: Workload, *, quick: bool) -> None:
        self._workload = workload
        self._quick = quick
        self._seconds = 1 if quick else 3
        self.turns = Turns(workload, quick=quick)
        self.tables: list[str] = []

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
        kinds = self.turns.kinds(every_setting=True)
        taken: Taken = {}
        row_ms, alone_ms, paced_ms = {}, {}, {}
        for number in range(self._rounds(ROUNDS)):
            merge(taken, self.turns.take("rates", kinds, number, lambda server, at=number: self._load(server, at)))
            ours = taken[SHOAL.name][number]
            row_ms[number] = self._row_ms(*(size_of(ours[point]) for point in ("c128 json", "c128 binary")))
            alone_ms[number] = self._workload.model_ms(self._seconds / 2, processes=1, sizes=(1,))[1]
            paced_ms[number] = self._workload.paced_ms(self._seconds / 2, ours["c1 json"]["rate_per_s"])
            if not number:
                kinds = contenders(kinds, [at_point(taken, point) for point in POINTS if point != "c1 json"])
        bars = []
        for name, target in {"c32 json": 1.6, "c128 json": 1.0, "c128 binary": 1.0}.items():
            bars += compared(_bar_name(name), at_point(taken, name), target, compare_p99=name == "c32 json")
        for name in ("c128 json", "c128 binary"):
            bars.append(of_limit(_bar_name(name), at_point(taken, name)[SHOAL.name], row_ms, NUM_CORES))
        return [*bars, _beyond_model(at_point(taken, "c1 json"), alone_ms, paced_ms)]

    def _load(self, server: Server, number: int) -> dict:
        kind, found = server.kind, {}
        for at, (point, connections) in enumerate(POINTS.items()):
            form = kind.json if point.endswith("json") else kind.binary
            if form is None:
                continue
            # Each measure begins elsewhere in the pool: what was asked last is not asked again at once.
            start = (1 + number * len(POINTS) + at) * NUM_BODIES // 16 % NUM_BODIES
            found[point] = self._asked(server, form, connections, start=start)
        return found

    def _asked(self, server: Server, form: str, connections: int, *, start: int = 0) -> dict:
        """By wrk; of shoal also the rows of a mean batch."""
        before = server.batches() if server.kind.is_shoal else (0, 0.0)
        pool = self._workload.pools[form]
        found = run_wrk(server, pool, connections=connections, seconds=self._seconds, start=start)
        if server.kind.is_shoal:
            batches, rows = (now - then for now, then in zip(server.batches(), before, strict=True))
            found["rows"] = rows / max(batches, 1)
        return found

    def _row_ms(self, *used: int) -> dict[int, float]:
        """Milliseconds of the model for a row by batch size, with all cores at it."""
        sizes = sorted({*BATCH_SIZES, *used})
        found = self._workload.model_ms(self._seconds, processes=NUM_CORES, sizes=sizes)
        return {size: taken_ms / size for size, taken_ms in found.items()}

    def grpc(self) -> Bars:
        """The same over gRPC, by a client of our own."""
        kinds = [kind for kind in self.turns.kinds(every_setting=True) if kind.has_grpc]
        taken: Taken = {}
        for number in range(self._rounds(ROUNDS)):
            merge(taken, self.turns.take("grpc", kinds, number, self._load_grpc))
            if not number:
                kinds = contenders(kinds, [taken])
        return compared("grpc_c32", taken, 1.5)

    def _load_grpc(self, server: Server) -> dict:
        return run_grpc(server, self._workload.pools["grpc"], seconds=self._seconds, concurrency=32)

    # ---- when it gets too much, and when something dies -----------------------------------------------------------

    def overload(self) -> Bars:
        """Three times as many requests as can be answered, on schedule: how many are answered in time."""
        taken = self._each("overload", self._overload, target_s=TARGET_S)
        ours = taken[SHOAL.name]
        shown = shown_medians(taken, ("share", "share_of_cores_left", "capacity_per_s", "cores_used", "behind_p99_ms"))
        refused = shown_medians(taken, ("refusal_p50_ms", "refusal_p99_ms", "refused", "without_retry_after", "other"))
        without = sum(each["without_retry_after"] + (each["refused"] == 0) for each in ours.values())
        slowest = worst(ours.values(), "refusal_p99_ms")
        return [
            bar("overload_goodput_of_capacity", median(ours, "share"), "ratio", 0.9, shown, at_most=False),
            bar("overload_refused_p99_ms", slowest, "ms, worst round", 5, refused),
            bar("overload_refused_without_retry_after", without, "requests, or rounds without refusals", 0, {}),
        ]

    def _overload(self, server: Server) -> dict:
        """The same client finds the capacity, as fast as answers come.

        Three times as many requests take three times as much of the cores for sending them alone: what is answered as
        a share of the capacity of the cores that are left is told beside it.
        """
        pool = self._workload.pools[server.kind.json]
        calm = run_open_loop(server, pool, seconds=self._seconds)
        capacity = max(calm["rate_per_s"], 1)
        options = {"rate": OVERLOAD * capacity, "connections": OVERLOAD_CONNECTIONS, "target_s": TARGET_S}
        found = run_open_loop(server, pool, seconds=self._seconds, **options)
        share = found["goodput_per_s"] / capacity
        left = (NUM_CORES - found["cores_used"]) / (NUM_CORES - calm["cores_used"])
        return {**found, "capacity_per_s": capacity, "share": share, "share_of_cores_left": share / left}

    def kill(self) -> Bars:
        """SIGKILL of a replica at 40% load: requests not answered well, and how long those after it took."""
        taken = self._each("kill", self._kill)
        ours = list(taken[SHOAL.name].values())
        lost = shown_medians(taken, ("lost", "due"), sum)
        slow = shown_medians(taken, ("after_kill_p99_ms", "answer_p99_ms"), max)
        return [
            bar("kill_failed", sum(each["lost"] for each in ours), f"requests, {len(ours)} kills", 0, lost),
            bar("kill_p99_ms", worst(ours, "after_kill_p99_ms"), "ms in the second after, worst round", 100, slow),
        ]

    def _kill(self, server: Server) -> dict:
        pool = self._workload.pools[server.kind.json]
        capacity = run_open_loop(server, pool, seconds=self._seconds)["rate_per_s"]
        killed = {"kill": server.replica(), "kill_at_s": KILL_AT_S}
        options = {"rate": KILL_LOAD * capacity, "connections": 256, **killed}
        found = run_open_loop(server, pool, seconds=KILL_AT_S + self._seconds, **options)
        # Whatever the reason: at this load a request has no other good end than its answer.
        return {**found, "lost": found["due"] - found["answered"]}

    # ---- what it costs to have it -----------------------------------------------------------------------------------

    def start(self) -> Bars:
        """From the command to the first answer, and the memory after some load."""
        rounds = self._rounds(ROUNDS_OF_STARTS)
        taken = self._each("start", self._start, rounds=rounds, rounds_of_peers=STARTS_OF_PEERS)
        seconds = shown_medians(taken, ("start_s",))
        parts = ("front Pss", "replica Pss", "supervisor Pss", "front Rss", "replica Rss", "supervisor Rss")
        memory = shown_medians(taken, ("all Pss", "all Rss")) | shown_medians({SHOAL.name: taken[SHOAL.name]}, parts)
        served = statistics.median(each["front Pss"] + each["replica Pss"] for each in taken[SHOAL.name].values())
        return [
            bar("start_s", seconds.pop("shoal start_s"), "s from the command to the first answer", 1.0, seconds),
            bar("memory_mb", served, "MB (Pss) of a front and 2 replicas; its supervisor is told apart", 130, memory),
        ]

    def _start(self, server: Server) -> dict:
        memory = server.memory_mb()
        whole = {f"all {way}": sum(each for name, each in memory.items() if way in name) for way in ("Pss", "Rss")}
        return {"start_s": server.start_s, **memory, **whole}

    # ---- with what else it has --------------------------------------------------------------------------------------

    def cache(self) -> Bars:
        """A small set of bodies with the prediction cache, where all are hits, and the same set without."""
        taken: Taken = {}
        for number in range(self._rounds(ROUNDS)):
            merge(taken, self.turns.take("cache", (SHOAL, CACHED), number, self._repeat))
        bars = []
        for point in CACHE_POINTS:
            found = at_point(taken, point)
            times = median_ratio(found[CACHED.name], found[SHOAL.name], "rate_per_s")
            shown = shown_medians(found, ("rate_per_s", "p50_ms", "p99_ms", "hit_share", "front_cores", "wrk_cores"))
            bars.append(bar(f"cache_{_bar_name(point)}_times_uncached", times, "times", 3.0, shown, at_most=False))
        return bars

    def _repeat(self, server: Server) -> dict:
        found = {}
        for point, connections in CACHE_POINTS.items():
            form = FEW + (SHOAL.json if point.endswith("json") else str(SHOAL.binary))
            # Each of the few bodies once: from then on the cache has them.
            run_open_loop(server, self._workload.pools[form], connections=connections, seconds=0.3)
            hits, misses = server.cache_counts()
            each = self._asked(server, form, connections)
            more_hits, more_misses = server.cache_counts()
            asked = more_hits - hits + more_misses - misses
            each["hit_share"] = (more_hits - hits) / asked if asked else 0.0
            each |= {"front_cores": each["cores"]["front"], "wrk_cores": each["cores"]["wrk"]}
            found[point] = each
        return found

    def fronts(self) -> Bars:
        """Two fronts beside one, both with two replicas; and on paper how far more of both would go."""
        taken: Taken = {}
        for number in range(self._rounds(ROUNDS_OF_FRONTS)):
            merge(taken, self.turns.take("fronts", (SHOAL, TWO_FRONTS), number, self._at_fronts))
        bars = []
        for point in FRONT_POINTS:
            found = at_point(taken, point)
            ratio = median_ratio(found[TWO_FRONTS.name], found[SHOAL.name], "rate_per_s")
            shown = shown_medians(found, ("rate_per_s", "p50_ms", "p99_ms", "rows"))
            shown |= {
                f"round {at + 1} ratio": found[TWO_FRONTS.name][at]["rate_per_s"] / each["rate_per_s"]
                for at, each in found[SHOAL.name].items()
            }
            bars.append(bar(f"fronts_2_of_1_{_bar_name(point)}", ratio, "of one front", 1.0, shown, at_most=False))
        self.tables += self._paper(taken[SHOAL.name])
        return bars

    def _at_fronts(self, server: Server) -> dict:
        found = {}
        for point, connections in FRONT_POINTS.items():
            form = SHOAL.json if point.endswith("json") else str(SHOAL.binary)
            found[point] = self._asked(server, form, connections, start=NUM_BODIES // 2)
        if server.kind is SHOAL:
            found["closed"] = self._asked(server, CLOSED + SHOAL.json, 128)
        return found

    def _paper(self, ours: dict[int, dict]) -> list[str]:
        """The table for 16 cores, from the round in which the server was neither at its fastest nor at its slowest."""
        row_s = min(self._row_ms().values()) / 1_000
        weights_bytes = self._workload.model.stat().st_size
        lines = []
        for point in FRONT_POINTS:
            found = sorted((each[point] for each in ours.values()), key=lambda each: each["rate_per_s"])[len(ours) // 2]
            pool = self._workload.pools[SHOAL.json if point.endswith("json") else str(SHOAL.binary)]
            request_bytes = statistics.mean(map(len, read_pool(pool)))
            spent = serving_cores.costs(found, row_s)
            lines += serving_cores.paper(point, spent, request_bytes, weights_bytes, found["rows"])
        kept, closed = (
            sorted((each[point] for each in ours.values()), key=lambda each: each["rate_per_s"])[len(ours) // 2]
            for point in ("c128 json", "closed")
        )
        return [*lines, serving_cores.connection_line(kept, closed)]

    # ---- how often --------------------------------------------------------------------------------------------------

    def _rounds(self, usual: int) -> int:
        return 1 if self._quick else usual

    def _each(
        self,
        measure: str,
        work: Callable[[Server], dict],
        *,
        rounds: int | None = None,
        rounds_of_peers: int = 1,
        target_s: float = 0.0,
    ) -> Taken:
        """What `work` finds with one setting of each; a quick run has no peers here."""
        taken: Taken = {}
        kinds = [replace(kind, target_s=target_s) for kind in self.turns.kinds(every_setting=False)]
        for number in range(rounds or self._rounds(3)):
            asked = kinds if number < rounds_of_peers and not self._quick else [kinds[0]]
            merge(taken, self.turns.take(measure, asked, number, work))
        return taken


def _bar_name(point: str) -> str:
    """Return the point "c32 json" as "json_c32"."""
    connections, form = point.split()
    return f"{form}_{connections}"


def _beyond_model(taken: Taken, alone_ms: dict[int, float], paced_ms: dict[int, float]) -> dict:
    """How much longer one request takes than the model itself, called as often by itself as the server calls it."""
    ours = taken[SHOAL.name]
    shown = {
        "model alone at this pace ms": statistics.median(paced_ms.values()),
        "model alone in a loop ms": statistics.median(alone_ms.values()),
        "beyond the loop ms": statistics.median(each["p50_ms"] - alone_ms[number] for number, each in ours.items()),
    }
    shown |= shown_medians(taken, ("p50_ms",))
    beyond = statistics.median(each["p50_ms"] - paced_ms[number] for number, each in ours.items())
    return bar("json_c1_p50_beyond_model_ms", beyond, "ms", 0.3, shown)


def _notes(bench: Bench) -> list[str]:
    wanted = ("fastapi", "uvicorn", "mosec", "litserve", "bentoml", "ray", "mlserver", "nvidia-pytriton", "onnxruntime")
    lines = [
        "all servers: 2 replicas of one thread, bodies all different, validation of every request; on two cores with",
        "the load generator (wrk -t1). shoal: prediction ids and metrics on, no prediction cache, no prediction log.",
        "rates and percentiles are of wrk, but for gRPC, overload and kill; each is the median over rounds. A setting",
        "that was below 85% of the best peer at every point of the first round has that round alone.",
        "limit     (cores - cores that wrk kept busy in the same run) / CPU seconds of the model for a row: the model",
        "          by itself in 2 processes at once, in its best batch size; in the sizes used it is told beside it",
        "c1        p50 less the median of one row by the model itself, called as often as the server calls it",
        f"overload  {OVERLOAD:g} times what 128 connections get answered; latency from when a request was due, good",
        f"          within {1_000 * TARGET_S:g} ms; shoal has --most-wait-s of half of that, peers what they have",
        "memory    Pss: pages that processes share count once; the bar is a front and 2 replicas",
        "peers     a name ends with rows of a batch, or workers or instances where it is not 2; the best counts",
        "setting   all else of the peers: in the comments of benchmarks/peers/serving_*.py",
    ]
    odd = {name: status for name, status in bench.turns.statuses_of_short.items() if not 400 <= status < 500}
    lines += [f"note      {name} answers {status} to an image that lacks a column" for name, status in odd.items()]
    lines += [f"missing   {name}: {reason}" for name, reason in bench.turns.missing.items()]
    for environment in (SERVING, SERVING_MLSERVER, SERVING_TRITON):
        pins = [pin for pin in environment.versions() if pin.partition("==")[0] in wanted]
        lines.append(f"peers     {environment.name}: {', '.join(pins)}")
    return lines


if __name__ == "__main__":
    main()
