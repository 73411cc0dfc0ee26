import itertools
import json
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.base import ConfigError, InputError, SchemaError
from shoal.data import Column, Dataset, Loader, Schema
from shoal.data.columns import Decoded
from shoal.data.gather import RowGatherer, Stretch
from shoal.data.loader import LoaderConfig

SCHEMA = Schema((Column(name="row", dtype="int64"),))


def loader(num_rows: int, **options: object) -> Loader:
    columns = {"row": Decoded(np.arange(num_rows), None)}
    gatherer = RowGatherer([Stretch(columns.__getitem__, 0, num_rows)], SCHEMA)
    settings_ = {"batch_size": 7, "shuffle": True, "format": "numpy", **options}
    return Loader(gatherer, SCHEMA, "b3:content", LoaderConfig(**settings_))  # type: ignore[arg-type]  # options vary


def epoch_of(found: Loader) -> list[list[int]]:
    return [batch["row"].tolist() for batch in found]


sizes = st.integers(0, 60)


@given(num_rows=sizes, batch_size=st.integers(1, 20), epochs=st.integers(1, 3), seed=st.integers(0, 5))
@settings(deadline=None, max_examples=25)
def test_each_row_is_delivered_once_per_epoch(num_rows: int, batch_size: int, epochs: int, seed: int) -> None:
    found = loader(num_rows, batch_size=batch_size, seed=seed)

    for _ in range(epochs):
        batches = epoch_of(found)

        assert sorted(row for batch in batches for row in batch) == list(range(num_rows))
        assert len(batches) == len(found)


@given(num_rows=sizes, batch_size=st.integers(1, 20), world_size=st.integers(1, 9), drop_last=st.booleans())
@settings(deadline=None, max_examples=25)
def test_any_number_of_ranks_sees_the_same_global_batches(
    num_rows: int, batch_size: int, world_size: int, drop_last: bool
) -> None:
    options = {"batch_size": batch_size, "drop_last": drop_last}
    alone = epoch_of(loader(num_rows, **options))

    ranks = [epoch_of(loader(num_rows, rank=rank, world_size=world_size, **options)) for rank in range(world_size)]

    assert [[row for part in parts for row in part] for parts in zip(*ranks, strict=True)] == alone


@given(
    num_rows=st.integers(1, 60),
    stop=st.integers(0, 20),
    worlds=st.tuples(st.integers(1, 4), st.integers(1, 4)),
)
@settings(deadline=None, max_examples=25)
def test_resuming_anywhere_with_other_ranks_goes_on_with_the_next_batch(
    num_rows: int, stop: int, worlds: tuple[int, int]
) -> None:
    whole = loader(num_rows)
    expected = take(whole, stop + 2 * len(whole))

    before = [loader(num_rows, rank=rank, world_size=worlds[0]) for rank in range(worlds[0])]
    delivered = [take(found, stop) for found in before]
    state = json.loads(json.dumps(before[0].state_dict()))
    after = [loader(num_rows, rank=rank, world_size=worlds[1]) for rank in range(worlds[1])]
    for found in after:
        found.load_state_dict(state)
    resumed = [take(found, 2 * len(whole)) for found in after]

    joined = [list(itertools.chain(*parts)) for ranks in (delivered, resumed) for parts in zip(*ranks, strict=True)]
    assert joined == expected


def take(found: Loader, num_batches: int) -> list[list[int]]:
    batches: list[list[int]] = []
    while len(batches) < num_batches:
        for batch in found:
            batches.append(batch["row"].tolist())
            if len(batches) == num_batches:
                break
    return batches


def test_the_state_while_a_batch_is_worked_on_counts_it_as_delivered() -> None:
    found = loader(20)

    states = [found.state_dict() for _ in found]

    assert [(state["epoch"], state["batch"]) for state in states] == [(0, 1), (0, 2), (1, 0)]


def test_a_loop_left_early_does_not_go_on_in_the_next() -> None:
    found = loader(20)

    next(iter(found))

    assert epoch_of(found) == [loader(20).micro_batch(1, batch, 0, 1)["row"].tolist() for batch in range(3)]


def test_without_shuffle_rows_come_in_storage_order() -> None:
    assert list(itertools.chain(*epoch_of(loader(20, shuffle=False)))) == list(range(20))


def test_epochs_and_seeds_differ() -> None:
    found = loader(50)

    orders = [epoch_of(found), epoch_of(found), epoch_of(loader(50, seed=1))]

    assert orders[0] != orders[1] != orders[2] != orders[0]


def test_drop_last_leaves_out_the_small_batch() -> None:
    found = loader(20, drop_last=True)

    assert [len(batch) for batch in epoch_of(found)] == [7, 7]
    assert len(found) == 2


@given(num_rows=st.integers(1, 50), num_parts=st.integers(1, 12), epoch=st.integers(0, 2**33))
@settings(deadline=None, max_examples=30)
def test_parts_of_a_batch_never_overlap_and_are_balanced(num_rows: int, num_parts: int, epoch: int) -> None:
    found = loader(num_rows)

    for batch in range(len(found)):
        parts = [found.micro_batch(epoch, batch, part, num_parts)["row"] for part in range(num_parts)]

        assert np.array_equal(np.concatenate(parts), found.micro_batch(epoch, batch, 0, 1)["row"])
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
        assert sum(map(len, parts)) == found.num_rows(batch)


@pytest.mark.parametrize("place", [(-1, 0, 0, 1), (0, 3, 0, 1), (0, -1, 0, 1), (0, 0, 1, 1), (0, 0, -1, 2)])
def test_a_batch_that_does_not_exist_is_refused(place: tuple[int, int, int, int]) -> None:
    with pytest.raises(InputError, match="3 batches"):
        loader(20).micro_batch(*place)


@pytest.mark.parametrize(
    ("other", "field"),
    [({"seed": 1}, "seed"), ({"batch_size": 8}, "batch_size"), ({"shuffle": False}, "shuffle")],
)
def test_a_state_of_another_way_to_cut_is_refused_by_name(other: dict[str, object], field: str) -> None:
    state = loader(20).state_dict()

    with pytest.raises(InputError, match=f"the state has {field}="):
        loader(20, **other).load_state_dict(state)


def test_a_state_of_other_data_is_refused() -> None:
    state = {**loader(20).state_dict(), "dataset": "b3:other"}

    with pytest.raises(InputError, match="the state has dataset='b3:other'"):
        loader(20).load_state_dict(state)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size=0"),
        ({"rank": 0}, "belong together"),
        ({"rank": 2, "world_size": 2}, "rank=2"),
        ({"format": "jax"}, "'jax'"),
    ],
)
def test_refuses_impossible_settings(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        loader(20, **options)


def test_takes_its_place_from_the_process_group(monkeypatch: pytest.MonkeyPatch) -> None:
    group = SimpleNamespace(
        is_available=lambda: True, is_initialized=lambda: True, get_rank=lambda: 1, get_world_size=lambda: 3
    )
    monkeypatch.setitem(__import__("sys").modules, "torch.distributed", group)

    parts = epoch_of(loader(20))

    assert parts == epoch_of(loader(20, rank=1, world_size=3))


@pytest.mark.slow  # importing torch takes seconds
def test_tensors_share_the_batchs_memory(dataset: Dataset) -> None:
    torch = pytest.importorskip("torch")

    batch = next(iter(dataset.loader(batch_size=16, columns=["image", "label"])))

    assert batch["image"].dtype == torch.uint8
    assert batch["image"].shape == (16, 4, 3)
    assert batch["label"].dtype == torch.int64


def test_text_cannot_become_a_tensor_and_the_column_is_named(dataset: Dataset) -> None:
    with pytest.raises(SchemaError, match="user: string") as caught:
        dataset.loader(batch_size=16, format="torch")

    assert "columns=" in caught.value.next_step


@pytest.mark.parametrize("cache", ["auto", "memory", "none"])
def test_every_cache_gives_the_same_batches(
    dataset: Dataset, cache: str, row_key: Callable[[dict[str, np.ndarray]], list[tuple[object, ...]]]
) -> None:
    plain = dataset.loader(batch_size=64, shuffle=True, format="numpy")
    other = dataset.loader(batch_size=64, shuffle=True, format="numpy", cache=cache)  # type: ignore[arg-type]  # a name

    for left, right in zip(plain, other, strict=True):
        assert row_key(left) == row_key(right)
