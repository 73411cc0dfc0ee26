from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.base import ConfigError, CorruptError, InputError
from shoal.data import Reservoir, reservoir


def batch_of(values: Any) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"n": np.asarray(values)})


def kept(sample: Reservoir) -> list[int]:
    return sample.table().column("n").to_pylist()


@given(cuts=st.lists(st.integers(1, 999), max_size=5), num_rows=st.integers(1, 1_200))
@settings(deadline=None)
def test_how_the_stream_is_cut_or_resumed_changes_nothing(cuts: list[int], num_rows: int) -> None:
    whole = reservoir({"n": np.arange(1_000)}, num_rows, seed=4)
    sample = Reservoir(num_rows, seed=4)

    for part in np.split(np.arange(1_000), sorted(cuts)):
        sample.update(batch_of(part))
        sample = Reservoir.from_bytes(sample.to_bytes())

    assert sample.table().equals(whole)
    assert (sample.num_seen, whole.num_rows) == (1_000, min(num_rows, 1_000))
    assert len(set(kept(sample))) == whole.num_rows


def test_every_row_is_equally_likely() -> None:
    counts = np.zeros(50)
    for seed in range(2_000):
        counts[reservoir({"n": np.arange(50)}, 10, seed=seed).column("n").to_numpy()] += 1

    # Each is Binomial(2000, 0.2) with a standard deviation of 17.9; 49 degrees of freedom, 99.9% below 85.4.
    assert ((counts - 400) ** 2 / (400 * 0.8)).sum() < 86
    assert np.abs(counts - 400).max() < 4.5 * 17.9


def test_merged_streams_are_one_stream_in_any_order() -> None:
    parts = [Reservoir(20, seed=1, stream=stream) for stream in range(3)]
    for stream, part in enumerate(parts):
        part.update(batch_of(np.arange(stream * 1_000, stream * 1_000 + 300 * (stream + 1))))
    one, other = (Reservoir.from_bytes(parts[index].to_bytes()) for index in (0, 2))

    one.merge(parts[1])
    one.merge(parts[2])
    other.merge(parts[0])
    other.merge(parts[1])

    assert kept(one) == kept(other)
    assert one.num_seen == 1_800


def test_merged_rows_come_in_proportion_to_the_streams() -> None:
    from_large = 0
    for seed in range(300):
        large, small = Reservoir(20, seed=seed, stream=0), Reservoir(20, seed=seed, stream=1)
        large.update(batch_of(np.zeros(900, np.int64)))
        small.update(batch_of(np.ones(100, np.int64)))
        large.merge(small)
        from_large += kept(large).count(0)

    assert abs(from_large / 6_000 - 0.9) < 0.02


def test_streams_that_cannot_be_merged_are_refused() -> None:
    for other in (Reservoir(10, stream=0), Reservoir(11, stream=1), Reservoir(10, seed=1, stream=1)):
        with pytest.raises(InputError, match="cannot merge reservoirs"):
            Reservoir(10).merge(other)


def test_memory_stays_that_of_the_sample() -> None:
    sample = Reservoir(10)

    for first in range(0, 100_000, 1_000):
        sample.update(batch_of(np.arange(first, first + 1_000)))
        assert len(sample.draws) < 1_020

    assert len(sample.draws) < 20


def test_an_empty_reservoir_says_so() -> None:
    with pytest.raises(InputError, match="no rows have come"):
        Reservoir(3).table()
    with pytest.raises(ConfigError, match="num_rows=0"):
        Reservoir(0)
    assert Reservoir.from_bytes(Reservoir(3).to_bytes()).num_seen == 0


def test_bytes_of_something_else_are_refused() -> None:
    with pytest.raises(CorruptError, match="cannot read 3 bytes"):
        Reservoir.from_bytes(b"abc")
