"""Requests on schedule, whether or not answers come, and what became of them; `serving_open_loop.c` sends them.

wrk sends when it was answered, so a server that slows down is asked less. Here requests are due at a fixed rate, and
latency counts from when a request was due, however late it was sent. Every request that was due is accounted for, in
one of these ways: answered, refused (429 or 503), answered otherwise, lost with its connection, unanswered, or unsent.
Connections have one request at a time, and their number is the bound: what is due while all wait for answers is unsent.
"""

import json
import subprocess
from collections import Counter
from hashlib import blake2b
from pathlib import Path

import numpy as np
from data_environments import BENCH, MissingPeerError

SOURCE = Path(__file__).with_suffix(".c")
REFUSALS = (429, 503)
UNANSWERED, UNSENT, LOST, UNREADABLE = 0, -1, -2, -3
NO_ANSWERS = {UNANSWERED: "unanswered", UNSENT: "unsent", LOST: "connection lost", UNREADABLE: "unreadable"}
RECORD = np.dtype(
    [("due_s", "f8"), ("sent_s", "f8"), ("done_s", "f8"), ("status", "i4"), ("has_retry_after", "i4")], align=True
)
_MARGIN_S = 30.0


def client() -> Path:
    """Return the program, after building it if its source has changed.

    Raises:
        MissingPeerError: there is no C compiler, or it fails.
    """
    program = BENCH / f"open-loop-{blake2b(SOURCE.read_bytes(), digest_size=6).hexdigest()}"
    if not program.exists():
        BENCH.mkdir(exist_ok=True)
        try:
            done = subprocess.run(["cc", "-O2", "-o", str(program), str(SOURCE)], capture_output=True, text=True)
        except FileNotFoundError as error:
            raise MissingPeerError("the client that sends on schedule needs a C compiler, cc") from error
        if done.returncode:
            raise MissingPeerError(f"cc could not build {SOURCE.name}: {done.stderr.strip()[-200:]}")
    return program


def measure(
    pool: Path,
    port: int,
    *,
    seconds: float,
    rate: float = 0.0,
    connections: int = 128,
    target_s: float = 0.1,
    kill: int = 0,
    kill_at_s: float = 2.0,
) -> dict:
    """Send a pool's requests and tell what became of them.

    Args:
        pool: requests, see `serving_bodies`.
        port: of this host.
        seconds: how long to send; answers are awaited for a little longer.
        rate: requests that are due in a second; 0 for as fast as answers come.
        connections: requests that can wait at once.
        target_s: an answer that comes later is no good any more.
        kill: a process that gets SIGKILL; 0 for none.
        kill_at_s: when.

    Raises:
        MissingPeerError: the client could not be built, or failed.
    """
    found = pool.with_suffix(".records")
    given = [pool, port, rate, seconds, connections, kill, kill_at_s, found]
    try:
        done = subprocess.run(
            [str(client()), *map(str, given)], capture_output=True, text=True, timeout=seconds + _MARGIN_S
        )
    except subprocess.TimeoutExpired as error:
        raise MissingPeerError("the client that sends on schedule did not end") from error
    if done.returncode:
        raise MissingPeerError(f"the client that sends on schedule failed: {done.stderr.strip()}")
    records = np.fromfile(found, RECORD)
    found.unlink()
    told = json.loads(done.stdout)
    return {**told, **account(records, seconds, target_s=target_s, kill_at_s=kill_at_s if kill else None)}


def account(records: np.ndarray, seconds: float, *, target_s: float, kill_at_s: float | None = None) -> dict:
    """Add up records of `RECORD`: each stands for one request that was due.

    Returns:
        Counts (due, answered, refused, without_retry_after, other), rates per second, percentiles in ms, and reasons
        by count for all that was neither answered nor refused. `behind_p99_ms` tells how late requests were sent: a
        client that cannot keep up shows there.
    """
    status = records["status"]
    good, refused = records[status == 200], records[np.isin(status, REFUSALS)]
    latency_s = good["done_s"] - good["due_s"]
    sent = records[status != UNSENT]
    reasons = Counter(
        NO_ANSWERS.get(each, f"status {each}") for each in status.tolist() if each != 200 and each not in REFUSALS
    )
    after = np.zeros(0)
    if kill_at_s is not None:
        after = latency_s[(good["due_s"] >= kill_at_s) & (good["due_s"] < kill_at_s + 1)]
    return {
        "due": len(records),
        "answered": len(good),
        "refused": len(refused),
        "without_retry_after": int((refused["has_retry_after"] == 0).sum()),
        "other": len(records) - len(good) - len(refused),
        "rate_per_s": len(good) / seconds,
        "goodput_per_s": float((latency_s <= target_s).sum()) / seconds,
        **_percentiles("answer", latency_s),
        **_percentiles("refusal", refused["done_s"] - refused["sent_s"]),
        **_percentiles("behind", sent["sent_s"] - sent["due_s"]),
        **({} if kill_at_s is None else _percentiles("after_kill", after)),
        "reasons": dict(reasons),
    }


def _percentiles(name: str, seconds: np.ndarray) -> dict[str, float | None]:
    if not len(seconds):
        return {f"{name}_p50_ms": None, f"{name}_p99_ms": None}
    return {f"{name}_p{part}_ms": 1_000 * float(np.percentile(seconds, part)) for part in (50, 99)}
