"""Files of every kind for the tests of sources."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from shoal.data import Source
from shoal.data.sources import positions_of


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, bytes], Path]:
    """Write a file below the test's folder and return its path."""

    def make(name: str, content: bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    return make


@pytest.fixture(scope="session")
def rows_of() -> Callable[[Source], list[dict[str, object]]]:
    """Read all rows of a source."""

    def read(source: Source) -> list[dict[str, object]]:
        return [row for batch in source.record_batches() for row in batch.to_pylist()]

    return read


@pytest.fixture(scope="session")
def lines_of() -> Callable[[Source], list[int]]:
    """Read where all rows of a source stood."""

    def read(source: Source) -> list[int]:
        found = [(positions_of(batch), batch.num_rows) for batch in source.record_batches()]
        return [positions[index] for positions, num_rows in found for index in range(num_rows)]

    return read


@pytest.fixture(scope="session")
def told() -> Callable[[Source], list[tuple[int, str, str]]]:
    """Read a source and return what it put aside: position, reason, content."""

    def read(source: Source) -> list[tuple[int, str, str]]:
        found = []
        for _ in source.record_batches():
            found += [row for batch in source.rejects() for row in batch.to_pylist()]
        found += [row for batch in source.rejects() for row in batch.to_pylist()]
        return [(row["position"], row["reason"], row["content"]) for row in found]

    return read


@pytest.fixture(scope="session")
def table() -> pa.Table:
    """Three rows of a number and a text."""
    return pa.table({"x": [1, 2, 3], "t": ["a", "b", None]})
