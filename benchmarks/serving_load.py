"""The load generators, each in a process of its own: wrk, the client that sends on schedule, and the gRPC client."""

import json
import os
import subprocess
import sys
from pathlib import Path

from data_environments import MissingPeerError
from serving_bodies import FORMS, write_pool
from serving_model import make_images, make_model, open_session
from serving_servers import Kind, Server, children_cpu_s

HERE = Path(__file__).parent
NUM_BODIES = 4_096
CORES = os.cpu_count() or 1


class Workload:
    """The model, the requests and the right answer, made once in a scratch folder."""

    def __init__(self, scratch: Path) -> None:
        self.model = scratch / "model.onnx"
        make_model(self.model)
        images = make_images(NUM_BODIES)
        self.pools = {form: scratch / f"{form.replace(' ', '-')}.pool" for form in FORMS}
        for form, path in self.pools.items():
            write_pool(path, form, images)
        self._expected = open_session(self.model).run(None, {"image": images[:1]})[0][0]

    def server(self, kind: Kind) -> Server:
        """A server that is not started yet."""
        return Server(kind, self.model, self.pools, self._expected)

    def model_ms(self, seconds: float, *, processes: int) -> dict[int, float]:
        """Milliseconds of a run of the model itself by batch size, one thread each in so many processes at once."""
        command = [sys.executable, str(HERE / "serving_model.py"), str(seconds), str(self.model)]
        children = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
        found = [json.loads(child.communicate(timeout=60 + seconds)[0]) for child in children]
        return {int(size): sum(each[size] for each in found) / processes for size in found[0]}


def run_wrk(server: Server, pool: Path, *, connections: int, seconds: int, start: int = 0) -> dict:
    """Ask as fast as answers come, from the pool's request `start` on.

    Returns:
        rate_per_s and p50_ms and p99_ms of good answers, and load_s: CPU seconds of wrk for each answer.

    Raises:
        MissingPeerError: requests failed, or wrk did.
    """
    script, url = HERE / "serving_wrk.lua", f"http://127.0.0.1:{server.ports.http}"
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", str(script), url]
    used = children_cpu_s()
    found = _last_json([*command, "--", str(pool), str(start)], seconds)
    used = children_cpu_s() - used
    answers = found["answers"] - found["refused"]
    if not answers:
        raise MissingPeerError(f"{server.kind.name} answered nothing at {connections} connections: {found}")
    return {
        **found,
        "rate_per_s": answers / found["seconds"],
        "load_s": used / found["answers"],
        "failed": found["refused"] + found["broken"],
    }


def run_open_loop(server: Server, pool: Path, *, seconds: float, **options: float) -> dict:
    """Ask on schedule; the options are those of `serving_open_loop.py`."""
    command = [sys.executable, str(HERE / "serving_open_loop.py"), str(pool), str(server.ports.http)]
    command += ["--seconds", str(seconds)]
    for name, value in options.items():
        command += [f"--{name.replace('_', '-')}", str(value)]
    return _last_json(command, seconds)


def run_grpc(server: Server, pool: Path, *, seconds: float, concurrency: int) -> dict:
    """Ask over gRPC, as fast as answers come."""
    command = [sys.executable, str(HERE / "serving_grpc.py"), str(pool), str(server.ports.grpc)]
    return _last_json([*command, str(seconds), str(concurrency)], seconds)


def _last_json(command: list[str], seconds: float) -> dict:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60 + seconds)
    except FileNotFoundError as error:
        raise MissingPeerError(f"{command[0]} is not installed: apt-get install {command[0]}") from error
    except subprocess.TimeoutExpired as error:
        raise MissingPeerError(f"{Path(command[0]).name} did not end") from error
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise MissingPeerError(f"{' '.join(Path(word).name for word in command[:2])}: {said[-1]}")
    return json.loads(lines[-1])
