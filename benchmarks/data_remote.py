"""A dataset behind HTTP and the S3 API on loopback: an epoch by shoal beside obstore fetching the same bytes.

`data_remote.py bars FOLDER RUNS PROTOCOL ...` serves FOLDER, which has a dataset at bucket/rows, and prints one JSON
line; it starts itself again with the other verbs, so that the server shares no interpreter with those who ask it.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from shoal.testing.object_server import ObjectServer, serve_folder

BATCH_SIZE = 64
NUM_WORKERS = 3
THREADS = 8
RANGE_BYTES = 8 << 20
DATASET = "bucket/rows"


def main() -> None:
    """Dispatch on the verb."""
    verb, *arguments = sys.argv[1:]
    verbs: dict[str, Callable[..., None]] = {"bars": _bars, "obstore": _obstore, "epoch": _epoch}
    verbs[verb](*arguments)


def _bars(folder: str, runs: str, *protocols: str) -> None:
    data_bytes = _bytes_below(Path(folder) / DATASET)
    found: dict[str, object] = {"dataset_mb": data_bytes / 1e6}
    with serve_folder(Path(folder)) as server:
        urls = {"http": server.url(DATASET), "s3": server.s3_url(DATASET)}
        for protocol in protocols:
            url = urls[protocol]
            taken: dict[str, list[float]] = {"obstore": [], "shoal": []}
            for number in range(int(runs) + 1):  # the first is not counted
                seconds = {"obstore": _child("obstore", url, folder), "shoal": _epoch_by(url, 1, data_bytes)[0]}
                for name, each in seconds.items():
                    taken[name] += [each] if number else []
            found[protocol] = taken
            found[f"{protocol} bytes share"] = _bytes_share(server, url, data_bytes)
    print(json.dumps(found))


def _epoch_by(url: str, workers: int, data_bytes: int) -> list[float]:
    """Seconds of one epoch in each of several processes that share one host's cache, which is empty."""
    with tempfile.TemporaryDirectory() as home:
        places = [f"{rank}/{workers}" for rank in range(workers)]
        with ThreadPoolExecutor(workers) as pool:
            return list(pool.map(lambda place: _child("epoch", url, place, str(data_bytes), home=home), places))


def _bytes_share(server: ObjectServer, url: str, data_bytes: int) -> float:
    before = server.traffic.sent_bytes
    _epoch_by(url, NUM_WORKERS, data_bytes)
    return (server.traffic.sent_bytes - before) / data_bytes


def _child(verb: str, *arguments: str, home: str | None = None) -> float:
    command = [sys.executable, __file__, verb, *arguments]
    settings = {"SHOAL_HOME": f"{home}/.shoal"} if home else {}
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, cwd=home, env={**os.environ, **settings}
    )
    return float(done.stdout.splitlines()[-1])


def _obstore(url: str, folder: str) -> None:
    """Fetch every byte by parallel ranges into memory, as fast as obstore does it."""
    import obstore

    store = _store(url)
    dataset = Path(folder) / DATASET
    # From the folder, not from the store: a web server cannot be asked what it has.
    files = [path for path in dataset.rglob("*") if path.is_file()]
    ranges = [
        (path.relative_to(dataset).as_posix(), start, min(RANGE_BYTES, size - start))
        for path in files
        for size in [path.stat().st_size]
        for start in range(0, size, RANGE_BYTES)
    ]
    _warm_memory(_bytes_below(dataset))
    began = time.perf_counter()
    with ThreadPoolExecutor(THREADS) as pool:
        fetch = partial(_fetch, obstore, store)
        num_bytes = sum(pool.map(fetch, ranges))
    seconds = time.perf_counter() - began
    if num_bytes != sum(path.stat().st_size for path in files):
        raise AssertionError(f"fetched {num_bytes} bytes")
    print(seconds)


def _fetch(obstore: object, store: object, part: tuple[str, int, int]) -> int:
    key, start, length = part
    return len(obstore.get_range(store, key, start=start, length=length))  # type: ignore[attr-defined]


def _store(url: str) -> object:
    from obstore.store import HTTPStore, S3Store

    if url.startswith("http"):
        return HTTPStore.from_url(url, client_options={"allow_http": True})
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query))
    return S3Store(
        parts.netloc,
        prefix=parts.path.strip("/"),
        endpoint=options["endpoint"],
        region=options["region"],
        skip_signature=True,
        client_options={"allow_http": True},
    )


def _epoch(url: str, place: str, data_bytes: str) -> None:
    """Open the URL with nothing cached and read one shuffled epoch, or this rank's part of it."""
    # Imports are not what is measured; the face loads its parts when they are first named.
    import obstore  # noqa: F401
    import torch  # noqa: F401

    import shoal.data

    _ = shoal.data.open, shoal.data.Loader
    rank, world_size = map(int, place.split("/"))
    _warm_memory(int(data_bytes))
    began = time.perf_counter()
    loader = shoal.data.open(url).loader(batch_size=BATCH_SIZE, shuffle=True, rank=rank, world_size=world_size)
    num_rows = sum(len(batch["image"]) for batch in loader)
    print(time.perf_counter() - began)
    if not num_rows:
        raise AssertionError("an epoch without rows")


def _warm_memory(num_bytes: int) -> None:
    """Make the system have so much memory at hand, for either side alike.

    A virtual machine gives memory that is free for two seconds back to its host, and getting it again took 0.3 to 1.2 s
    per 600 MB, against 0.1 s for writing a file of them into memory that was there (Linux 6.18, 2026-11).
    """
    part = bytes(1 << 20)
    with tempfile.TemporaryFile() as file:
        for _ in range(0, num_bytes, len(part)):
            file.write(part)


def _bytes_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    main()
