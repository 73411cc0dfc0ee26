"""The load generators, each in a process of its own, and who was busy meanwhile."""

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import serving_open_loop
from data_environments import MissingPeerError
from serving_bodies import FORMS, write_pool
from serving_kinds import Kind
from serving_model import make_images
from serving_processes import Moment
from serving_servers import Server

HERE = Path(__file__).parent
NUM_BODIES = 4_096
# The small pools: of a set that a cache holds, and of requests that each want a connection of their own.
FEW = "few "
NUM_FEW = 64
CLOSED = "closed "
# wrk reads its pool at first and counts at last: who is busy is looked at in between.
WRK_BEGINS_S, WRK_ENDS_S = 0.4, 0.2


class Workload:
    """The model, the requests and the right answer, made once in a scratch folder."""

    def __init__(self, scratch: Path) -> None:
        self.model = scratch / "model.onnx"
        # In another process: pages of ONNX Runtime that this one had would make those of servers look shared.
        self._expected = np.array(_last_json([*_model_command(self.model), "--make"], 60.0, opening="["), np.float32)
        images = make_images(NUM_BODIES)
        self.pools = {form: scratch / f"{form.replace(' ', '-')}.pool" for form in FORMS}
        for form, path in self.pools.items():
            write_pool(path, form, images)
        for form in ("open json", "open binary"):
            self.pools[FEW + form] = scratch / f"few-{form.replace(' ', '-')}.pool"
            write_pool(self.pools[FEW + form], form, images[:NUM_FEW])
        self.pools[CLOSED + "open json"] = scratch / "closed-open-json.pool"
        write_pool(self.pools[CLOSED + "open json"], "open json", images, closes=True)

    def server(self, kind: Kind) -> Server:
        """A server that is not started yet."""
        return Server(kind, self.model, self.pools, self._expected)

    def model_ms(self, seconds: float, *, processes: int, sizes: Sequence[int]) -> dict[int, float]:
        """Milliseconds of a run of the model itself by batch size, one thread each in so many processes at once."""
        command = [*_model_command(self.model), "--seconds", str(seconds), "--sizes", *map(str, sizes)]
        children = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
        found = [json.loads(child.communicate(timeout=60 + seconds)[0]) for child in children]
        return {int(size): sum(each[size] for each in found) / processes for size in found[0]}

    def paced_ms(self, seconds: float, rate_per_s: float) -> float:
        """Milliseconds of a run of one row by itself, so many in a second."""
        command = [*_model_command(self.model), "--seconds", str(seconds), "--rate", str(rate_per_s)]
        return _last_json(command, seconds)["1"]


def run_wrk(server: Server, pool: Path, *, connections: int, seconds: int, start: int = 0) -> dict:
    """Ask as fast as answers come, from the pool's request `start` on.

    Returns:
        rate_per_s, and p50_ms and p99_ms of good answers, failed requests, and cores that were busy on average by role:
        "wrk", those of `Server.roles`, and "interrupts"; for each of them "ROLE kernel" is the part in the kernel.

    Raises:
        MissingPeerError: no request was answered well, or wrk failed.
    """
    script, url = HERE / "serving_wrk.lua", f"http://127.0.0.1:{server.ports.http}"
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", str(script), url]
    command += ["--", str(pool), str(start)]
    try:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    except FileNotFoundError as error:
        raise MissingPeerError("wrk is not installed: apt-get install wrk") from error
    cores = _watch(server.roles() | {"wrk": [process.pid]}, seconds)
    try:
        said, _ = process.communicate(timeout=60 + seconds)
    except subprocess.TimeoutExpired as error:
        process.kill()
        process.communicate()
        raise MissingPeerError("wrk did not end") from error
    found = _parsed(said, process.returncode, "wrk", "{")
    answers = found["answers"] - found["refused"]
    if not answers:
        raise MissingPeerError(f"{server.kind.name} answered nothing at {connections} connections: {found}")
    rate = answers / found["seconds"]
    return {**found, "rate_per_s": rate, "failed": found["refused"] + found["broken"], "cores": cores}


def _watch(roles: Mapping[str, Sequence[int]], seconds: float) -> dict[str, float]:
    pids = [pid for each in roles.values() for pid in each]
    time.sleep(WRK_BEGINS_S)
    before = Moment.now(pids)
    time.sleep(seconds - WRK_BEGINS_S - WRK_ENDS_S)
    after = Moment.now(pids)
    cores = {"interrupts": after.interrupt_cores_since(before)}
    for role, members in roles.items():
        used = after.cores_since(before, members)
        cores |= {role: used.total, f"{role} kernel": used.kernel}
    return cores


def run_open_loop(server: Server, pool: Path, *, seconds: float, **options: float) -> dict:
    """Ask on schedule; the options and what comes back are those of `serving_open_loop.measure`."""
    return serving_open_loop.measure(pool, server.ports.http, seconds=seconds, **options)


def run_grpc(server: Server, pool: Path, *, seconds: float, concurrency: int) -> dict:
    """Ask over gRPC, as fast as answers come."""
    command = [sys.executable, str(HERE / "serving_grpc.py"), str(pool), str(server.ports.grpc)]
    return _last_json([*command, str(seconds), str(concurrency)], seconds)


def _model_command(model: Path) -> list[str]:
    return [sys.executable, str(HERE / "serving_model.py"), str(model)]


def _last_json(command: list[str], seconds: float, *, opening: str = "{"):  # noqa: ANN202 - any JSON value
    name = Path(command[1]).name
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60 + seconds)
    except subprocess.TimeoutExpired as error:
        raise MissingPeerError(f"{name} did not end") from error
    return _parsed(done.stdout + done.stderr, done.returncode, name, opening)


def _parsed(said: str, code: int, name: str, opening: str):  # noqa: ANN202 - any JSON value
    lines = said.strip().splitlines()
    found = [line for line in lines if line.startswith(opening)]
    if code or not found:
        raise MissingPeerError(f"{name}: {lines[-1] if lines else f'exit code {code}'}")
    return json.loads(found[-1])
