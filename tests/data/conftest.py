"""Rows, datasets and full disks for the tests of the data floor."""

import gzip
import itertools
import resource
import struct
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from shoal.base import ManualClock
from shoal.data import Dataset, ingest
from shoal.data.remote.retrying import RemoteSettings, Retrier
from shoal.testing.object_server import serve_folder

Rows = dict[str, np.ndarray]


@pytest.fixture(scope="session")
def make_rows() -> Callable[..., Rows]:
    """Rows with an image, a label, a number and a text; all differ, and depend on the seed."""

    def make(num_rows: int, seed: int = 0) -> Rows:
        rng = np.random.default_rng(seed)
        return {
            "image": rng.integers(0, 256, (num_rows, 4, 3), dtype=np.uint8),
            "label": rng.integers(0, 10, num_rows),
            "weight": rng.normal(size=num_rows).astype(np.float32),
            "user": np.array([f"user-{seed}-{index}" for index in range(num_rows)], dtype=object),
        }

    return make


@pytest.fixture
def dataset(tmp_path: Path, make_rows: Callable[..., Rows]) -> Dataset:
    """500 rows in 4 shards."""
    return ingest(make_rows(500), tmp_path / "clicks", num_shards=4)


@pytest.fixture(scope="session")
def row_key() -> Callable[[Rows], list[tuple[object, ...]]]:
    """Turn arrays into a sorted list of hashable rows, to compare contents whatever their order."""

    def key(arrays: Rows) -> list[tuple[object, ...]]:
        columns = [[np.asarray(value).tobytes() for value in arrays[name]] for name in sorted(arrays) if name != "user"]
        return sorted(zip(*columns, map(str, arrays["user"]), strict=True))

    return key


@pytest.fixture
def full_disk() -> Callable[[int], AbstractContextManager[None]]:
    """A block in which no file may grow beyond some bytes: the system refuses as it does on a full disk."""

    @contextmanager
    def limit(num_bytes: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limit


@pytest.fixture
def idx_pair(tmp_path: Path) -> Callable[..., tuple[Path, Path]]:
    """Write a pair of gzipped IDX files: images 4 x 3 and labels, of the given counts."""

    def write(name: str = "train", num_images: int = 50, num_labels: int | None = None) -> tuple[Path, Path]:
        rng = np.random.default_rng(num_images)
        images = rng.integers(0, 256, (num_images, 4, 3), dtype=np.uint8)
        labels = rng.integers(0, 10, num_images if num_labels is None else num_labels, dtype=np.uint8)
        paths = tmp_path / f"{name}-images.gz", tmp_path / f"{name}-labels.gz"
        paths[0].write_bytes(gzip.compress(struct.pack(">4B3I", 0, 0, 8, 3, num_images, 4, 3) + images.tobytes()))
        paths[1].write_bytes(gzip.compress(struct.pack(">4BI", 0, 0, 8, 1, len(labels)) + labels.tobytes()))
        return paths

    return write


@pytest.fixture(scope="session")
def to_batch() -> Callable[[Rows], pa.RecordBatch]:
    """Turn arrays into an Arrow record batch."""

    def convert(rows: Rows) -> pa.RecordBatch:
        columns = {
            name: pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(values))
            if values.ndim > 1
            else pa.array(values)
            for name, values in rows.items()
        }
        return pa.RecordBatch.from_pydict(columns)

    return convert


@pytest.fixture(scope="session")
def make_people() -> Callable[..., Rows]:
    """Rows with a rare class, a user, an instant, a weight and a number of their own."""

    def make(num_rows: int, seed: int = 0) -> Rows:
        rng = np.random.default_rng(seed)
        return {
            "id": np.arange(num_rows) + seed * 1_000_000,
            "label": rng.choice(5, num_rows, p=[0.5, 0.3, 0.15, 0.04, 0.01]),
            "user": np.array([f"user-{index}" for index in rng.integers(0, 60, num_rows)], object),
            "when": np.datetime64("2026-01-01", "us") + rng.integers(0, 10**9, num_rows).astype("timedelta64[us]"),
            "weight": rng.random(num_rows),
        }

    return make


@pytest.fixture
def people(tmp_path: Path, make_people: Callable[..., Rows]) -> Dataset:
    """3,000 rows in 4 shards."""
    return ingest(make_people(3_000), tmp_path / "people", num_shards=4)


@pytest.fixture(scope="session")
def column_of() -> Callable[[Dataset, str], np.ndarray]:
    """Read one column of all rows, in storage order."""

    def read(dataset: Dataset, name: str) -> np.ndarray:
        batches = list(dataset.batches([name]))
        if not batches:
            return np.empty(0)
        return pa.Table.from_batches(batches).column(0).to_numpy()

    return read


@pytest.fixture
def server(tmp_path):
    with serve_folder(tmp_path / "served") as running:
        yield running


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder with a `.shoal` in it to work in, so that caches are the test's own."""
    counter = itertools.count()

    def enter() -> Path:
        folder = tmp_path / f"home-{next(counter)}"
        (folder / ".shoal").mkdir(parents=True)
        monkeypatch.chdir(folder)
        return folder / ".shoal"

    enter()
    return enter


@pytest.fixture
def retrier(request):
    """Patience in made time: pauses cost nothing. A stall is noticed in real time: soon where the test orders one."""
    clock = ManualClock()
    # Elsewhere a busy machine must not look like a stalling server.
    parameters = request.node.callspec.params if hasattr(request.node, "callspec") else {}
    stall_s = 0.2 if "stall" in parameters.values() else 60.0
    settings = RemoteSettings(stall_s=stall_s, deadline_s=30.0, range_bytes=64 << 10, num_requests=4)
    return Retrier(settings, clock=clock, sleep=clock.advance, chance=lambda: 0.5)
