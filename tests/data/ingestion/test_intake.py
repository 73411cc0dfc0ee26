import itertools
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.base import SchemaError, SourceError
from shoal.data import ingest
from shoal.data.ingestion.intake import Plan, take_in
from shoal.data.quality.refusals import Refusals
from shoal.data.sources.base import SchemaWidenedError
from shoal.data.sources.facts import SourceFact

Rows = dict[str, np.ndarray]


class Batches:
    """A source of batches; an exception among them is raised."""

    def __init__(self, *given: pa.RecordBatch | Exception) -> None:
        self.given = list(given)

    def record_batches(self) -> Iterator[pa.RecordBatch]:
        for each in self.given:
            if isinstance(each, Exception):
                raise each
            yield each

    def facts(self) -> tuple[SourceFact, ...]:
        return ()


@pytest.fixture(scope="module")
def batch(make_rows: Callable[..., Rows], to_batch: Callable[[Rows], pa.RecordBatch]) -> pa.RecordBatch:
    return to_batch(make_rows(400))


@given(cuts=st.lists(st.integers(0, 400), max_size=6), order=st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=15)
def test_however_rows_are_fed_the_version_is_the_same(
    batch: pa.RecordBatch, tmp_path_factory: pytest.TempPathFactory, cuts: list[int], order: object
) -> None:
    folder = tmp_path_factory.mktemp("fed")
    borders = [0, *sorted(cuts), 400]
    parts = [batch.slice(low, high - low) for low, high in itertools.pairwise(borders) if high > low]
    order.shuffle(parts)  # type: ignore[attr-defined]  # hypothesis gives a random.Random

    made = ingest(parts, folder / "b", target_shard_bytes=9_000)

    whole = ingest(batch, folder / "a", target_shard_bytes=9_000)
    assert (made.digest, made.manifest.profile) == (whole.digest, whole.manifest.profile)


def test_a_source_that_has_learnt_wider_types_is_read_again(tmp_path: Path) -> None:
    narrow, wide = (pa.RecordBatch.from_pydict({"x": pa.array([1, 2], kind)}) for kind in (pa.int64(), pa.float64()))
    source = Batches(narrow, SchemaWidenedError("wider", next_step="again"))
    read = source.record_batches

    def once_more() -> Iterator[pa.RecordBatch]:
        yield from read()

    def first() -> Iterator[pa.RecordBatch]:
        source.record_batches = once_more  # type: ignore[method-assign]  # the second reading
        given, source.given = source.given, [wide]
        yield from Batches(*given).record_batches()

    source.record_batches = first  # type: ignore[method-assign]  # the first
    taken = take_in(source, tmp_path, Plan(key=None), Refusals())

    assert taken.schema is not None
    assert (taken.schema["x"].dtype, taken.profile.num_rows) == ("float64", 2)


def test_an_error_of_the_source_comes_through_as_it_is(batch: pa.RecordBatch, tmp_path: Path) -> None:
    source = Batches(batch, SourceError("the line went dead", next_step="try again"))

    with pytest.raises(SourceError, match="went dead"):
        take_in(source, tmp_path, Plan(key=None), Refusals())


def test_an_error_of_a_thread_comes_through_as_it_is(tmp_path: Path) -> None:
    batches = [pa.RecordBatch.from_pydict({"x": pa.array([2**62], pa.timestamp("s"))})] * 9

    with pytest.raises(SchemaError, match="column 'x'"):
        take_in(Batches(*batches), tmp_path, Plan(key=None), Refusals())


MEASURED = """
import resource, sys
import numpy as np, pyarrow as pa
from shoal.data import ingest
from shoal.data.ingestion.writing import Ingestion, write_content
from shoal.data.ingestion.sharding import Sharding
from shoal.data.sources.opening import open_source
from pathlib import Path

def batches(num):
    rng = np.random.default_rng(0)
    for index in range(num):
        yield pa.RecordBatch.from_pydict({"x": rng.integers(0, 1 << 60, (60_000)), "y": rng.random(60_000)})

sharding = Sharding(target_shard_bytes=8 << 20, run_bytes=16 << 20)
write_content(Path(sys.argv[1]), open_source(batches(int(sys.argv[2]))), key=None, sharding=sharding)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_ten_times_the_rows_take_no_more_memory(tmp_path: Path) -> None:
    peaks = []
    for num_batches in (40, 400):
        command = [sys.executable, "-c", MEASURED, str(tmp_path / str(num_batches)), str(num_batches)]
        peaks.append(int(subprocess.run(command, check=True, capture_output=True, text=True).stdout) / 1024)

    # 40 MB and 400 MB of rows; the rest is what threads and allocators happen to hold.
    assert peaks[1] < peaks[0] + 120, peaks
