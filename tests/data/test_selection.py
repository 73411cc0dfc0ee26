from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

from shoal.base import UnsupportedError, is_handle
from shoal.data import Dataset, ingest
from shoal.data.sampling.recipes import Recipe
from shoal.data.selection import Selection

Rows = dict[str, np.ndarray]


def test_the_digest_does_not_depend_on_path_or_time(dataset: Dataset, make_rows: Callable[..., Rows]) -> None:
    other = ingest(make_rows(500), dataset.path.parent / "elsewhere", num_shards=4)

    assert other.digest == dataset.digest
    assert other.split(0.5)[0].digest == dataset.split(0.5)[0].digest
    assert other.split(0.5)[0].digest != dataset.split(0.4)[0].digest


def test_a_part_bears_its_range_in_its_address(dataset: Dataset) -> None:
    low, high = dataset.split(0.5, 0.5)

    assert low.address == f"{dataset.path}@1#0-8000000000000000"
    assert high.address == f"{dataset.path}@1#8000000000000000-10000000000000000"
    assert is_handle(low)


def test_a_part_names_only_the_shards_it_may_be_in(dataset: Dataset) -> None:
    low, high = dataset.split(0.3, 0.7)

    assert (low.shards, high.shards) == (dataset.shards[:2], dataset.shards[1:])
    assert all(low.shard_path(shard).is_file() for shard in low.shards)


def test_no_shard_is_read_to_say_what_is_selected(dataset: Dataset) -> None:
    for shard in dataset.shards:
        dataset.shard_path(shard).unlink()

    part = Selection(dataset.path, dataset.manifest, (0, 2**63))

    assert (part.name, part.version, part.key, part.schema.names[0]) == ("clicks", 1, None, "image")
    assert part.digest != dataset.digest


def test_a_range_of_rows_without_hashes_is_refused(dataset: Dataset) -> None:
    segment = dataset.path.parent / "plain.arrow"
    segment.write_bytes(without_hashes(dataset))
    adopted = Dataset.create_from_segments(dataset.path.parent / "adopted", [segment])

    with pytest.raises(UnsupportedError, match="1 of its 1 shards are log segments"):
        Selection(adopted.path, adopted.manifest, (0, 2**63))


def without_hashes(dataset: Dataset) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, dataset.schema.arrow()) as writer:
        for batch in dataset.batches():
            writer.write_batch(batch)
    return bytes(sink.getvalue())


def test_recipes_name_a_subset_in_address_and_digest(dataset: Dataset) -> None:
    sample, other = Recipe.of("sample", fraction=0.5, seed=0), Recipe.of("sample", fraction=0.5, seed=1)
    subset = Selection(dataset.path, dataset.manifest, recipes=(sample, other))

    assert subset.address == f"{dataset.path}@1#sample(fraction=0.5,seed=0)#sample(fraction=0.5,seed=1)"
    assert not subset.is_whole
    assert subset.digest_after(0) == dataset.digest
    assert subset.digest_after(1) == Selection(dataset.path, dataset.manifest, recipes=(sample,)).digest
    assert len({subset.digest_after(count) for count in range(3)}) == 3
    assert subset.digest != Selection(dataset.path, dataset.manifest, recipes=(other, sample)).digest
