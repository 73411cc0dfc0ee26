import itertools
import json
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.base import ConfigError, InputError
from shoal.data import Column, Dataset, Loader, Schema
from shoal.data.loading.formats import NumpyFormat
from shoal.data.loading.gather import RowGatherer, Stretch
from shoal.data.loading.loader import LoaderConfig
from shoal.data.loading.order import Order, WindowOrder
from shoal.data.loading.pipeline import Pipeline
from shoal.data.storage.shard import OpenBatch

SCHEMA = Schema((Column(name="row", dtype="int64"),))


def loader(num_rows: int, **options: object) -> Loader:
    # Cut anywhere: how many shards the rows lie in changes no batch.
    borders = [0, num_rows // 3, num_rows // 2, num_rows]
    batches = [pa.RecordBatch.from_pydict({"row": np.arange(*pair)}) for pair in itertools.pairwise(borders)]
    stretches = [Stretch(lambda batch=batch: OpenBatch(batch), 0, batch.num_rows) for batch in batches]
    order: Order | None = options.pop("order", None)  # type: ignore[assignment]  # options vary
    pipeline = Pipeline(RowGatherer(stretches, SCHEMA), SCHEMA, SCHEMA, NumpyFormat(SCHEMA, {}))
    settings_ = {"batch_size": 7, "shuffle": True, "format": "numpy", **options}
    return Loader(pipeline, "b3:content", LoaderConfig(**settings_), order)  # type: ignore[arg-type]  # options vary


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
    options = {"batch_size": batch_size, "drop_last": drop_last and num_rows >= batch_size}
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

    assert [(state["epoch"], state["row"]) for state in states] == [(0, 7), (0, 14), (1, 0)]


def test_a_loop_left_early_does_not_go_on_in_the_next() -> None:
    found = loader(20)

    next(iter(found))

    assert epoch_of(found) == [loader(20).micro_batch(1, batch, 0, 1)["row"].tolist() for batch in range(3)]


def test_a_loop_ends_when_another_over_the_same_loader_begins() -> None:
    found = loader(20)
    earlier = iter(found)
    next(earlier)

    later = iter(found)
    first = next(later)["row"].tolist()

    with pytest.raises(InputError, match="another loop over this loader has begun"):
        next(earlier)
    rest = [batch["row"].tolist() for batch in later]
    assert [first, *rest] == [loader(20).micro_batch(1, batch, 0, 1)["row"].tolist() for batch in range(3)]


def test_two_loops_at_once_are_refused() -> None:
    found = loader(20)

    with pytest.raises(InputError, match="another loop"):
        list(zip(found, found, strict=True))


def test_a_state_that_is_none_is_refused() -> None:
    with pytest.raises(InputError, match="cannot resume from None"):
        loader(20).load_state_dict(None)  # type: ignore[arg-type]  # what a checkpoint without one gives


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


@given(num_rows=st.integers(1, 60), data=st.data(), num_parts=st.integers(1, 9), epoch=st.integers(0, 3))
@settings(deadline=None, max_examples=25)
def test_a_stretch_of_any_size_is_cut_into_parts_and_its_rows_are_known(
    num_rows: int, data: st.DataObject, num_parts: int, epoch: int
) -> None:
    found = loader(num_rows)
    first = data.draw(st.integers(0, num_rows))
    size = data.draw(st.integers(0, num_rows - first))

    parts = [found.stretch(epoch, first, size, part, num_parts)["row"] for part in range(num_parts)]

    assert np.array_equal(np.concatenate(parts), found.row_numbers(epoch, first, size))
    assert found.row_numbers(epoch, 0, num_rows)[first : first + size].tolist() == np.concatenate(parts).tolist()


@pytest.mark.parametrize("place", [(0, 15, 6, 0, 1), (0, -1, 2, 0, 1), (-1, 0, 2, 0, 1), (0, 0, 2, 2, 2)])
def test_a_stretch_that_is_not_there_is_refused(place: tuple[int, int, int, int, int]) -> None:
    with pytest.raises(InputError, match="an epoch has 20 rows"):
        loader(20).stretch(*place)


@pytest.mark.parametrize("place", [(-1, 0, 0, 1), (0, 3, 0, 1), (0, -1, 0, 1), (0, 0, 1, 1), (0, 0, -1, 2)])
def test_a_batch_that_does_not_exist_is_refused(place: tuple[int, int, int, int]) -> None:
    with pytest.raises(InputError, match="3 batches"):
        loader(20).micro_batch(*place)


@pytest.mark.parametrize(
    ("other", "field"),
    [
        ({"seed": 1}, "seed"),
        ({"drop_last": True}, "drop_last"),
        ({"shuffle": False}, "order"),
        ({"order": WindowOrder([5, 15], 1, seed=0)}, "order"),
    ],
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
        ({"seed": None}, "seed=None"),
        ({"batch_size": None}, "batch_size=None"),
        ({"shuffle": "yes"}, "shuffle='yes' must be True or False"),
        ({"drop_last": 1}, "drop_last=1"),
        ({"pin_memory": "no"}, "pin_memory='no'"),
        ({"pad": ["text"]}, "pad=\\['text'\\]"),
        ({"pad": {"text": "zero"}}, "pad={'text': 'zero'}"),
        ({"prefetch": 4}, "prefetch=4"),
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


@given(
    num_rows=st.integers(1, 60),
    changes=st.lists(st.tuples(st.integers(1, 4), st.integers(1, 25)), min_size=1, max_size=4),
    prefetch=st.booleans(),
)
@settings(deadline=None, max_examples=25)
def test_a_new_batch_size_takes_effect_at_the_next_batch_and_loses_no_row(
    num_rows: int, changes: list[tuple[int, int]], prefetch: bool
) -> None:
    found = loader(num_rows, prefetch=prefetch)
    planned, sizes = dict(changes), []

    rows = []
    for index, batch in enumerate(found, start=1):
        sizes.append((len(batch["row"]), found.batch_size))
        rows += batch["row"].tolist()
        found.batch_size = planned.get(index, found.batch_size)

    assert rows == list(itertools.chain(*epoch_of(loader(num_rows))))
    assert all(size == wanted for size, wanted in sizes[:-1])


def test_a_batch_size_set_during_the_last_batch_still_finds_the_rows_behind_it() -> None:
    found = loader(10, batch_size=4, drop_last=True, shuffle=False)
    iterator = iter(found)
    rows = [next(iterator)["row"].tolist() for _ in range(2)]

    ended = found.state_dict()
    found.batch_size = 2

    assert (ended["epoch"], ended["row"]) == (1, 0)
    assert [*rows, *(batch["row"].tolist() for batch in iterator)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert (found.epoch, epoch_of(found)[0]) == (1, [0, 1])


@pytest.mark.parametrize(("drop_last", "row"), [(False, 20), (True, 15)])
def test_a_state_behind_an_epochs_last_batch_is_the_next_epoch(drop_last: bool, row: int) -> None:
    found = loader(20, drop_last=drop_last)

    found.load_state_dict({**found.state_dict(), "epoch": 4, "row": row})

    assert (found.state_dict()["epoch"], found.state_dict()["row"]) == (5, 0)
    assert epoch_of(found)[0] == found.micro_batch(5, 0, 0, 1)["row"].tolist()


def test_an_epoch_without_any_batch_is_refused() -> None:
    with pytest.raises(ConfigError, match="batch_size=21 with drop_last=True leaves out all 20 rows"):
        loader(20, drop_last=True, batch_size=21)
    found = loader(20, drop_last=True)
    with pytest.raises(ConfigError, match="all 20 rows"):
        found.batch_size = 21

    assert found.batch_size == 7


def test_numbers_are_whole_and_a_state_is_plain_json() -> None:
    found = loader(20, batch_size=np.int64(5), seed=np.int32(3))
    found.batch_size = np.int64(4)

    state = json.loads(json.dumps(found.state_dict()))

    assert (state["batch_size"], state["seed"]) == (4, 3)
    for wrong in ({"batch_size": 1.5}, {"batch_size": True}, {"seed": True}, {"seed": 0.5}, {"batch_size": "7"}):
        with pytest.raises(ConfigError, match="must be a whole number"):
            loader(20, **wrong)
    with pytest.raises(ConfigError, match=r"batch_size=2\.5"):
        found.batch_size = 2.5  # type: ignore[assignment]  # what a user may write


@given(num_rows=sizes, num_shares=st.integers(1, 5), stop=st.integers(0, 3))
@settings(deadline=None, max_examples=20)
def test_shares_together_are_the_rest_of_the_epoch(num_rows: int, num_shares: int, stop: int) -> None:
    found, whole = loader(num_rows), loader(num_rows)
    stop = min(stop, max(len(whole) - 1, 0))
    state = {**found.state_dict(), "row": stop * 7}
    found.load_state_dict(state)

    shares = [list(found.share(index, num_shares)) for index in range(num_shares)]

    dealt = [batch["row"].tolist() for together in itertools.zip_longest(*shares) for batch in together if batch]
    assert dealt == epoch_of(whole)[stop:]
    assert found.state_dict() == state


def test_a_state_carries_the_batch_size() -> None:
    found, again = loader(60), loader(60)
    iterator = iter(found)
    next(iterator)
    found.batch_size = 11
    next(iterator)

    again.load_state_dict(json.loads(json.dumps(found.state_dict())))

    assert again.batch_size == 11
    assert epoch_of(again) == [batch["row"].tolist() for batch in iterator]


@given(num_rows=sizes, batch_size=st.integers(1, 20), stop=st.integers(0, 8))
@settings(deadline=None, max_examples=20)
def test_making_batches_ahead_changes_neither_order_nor_state(num_rows: int, batch_size: int, stop: int) -> None:
    plain, ahead = (loader(num_rows, batch_size=batch_size, prefetch=prefetch) for prefetch in (False, True))

    pairs = list(itertools.islice(zip(plain, ahead, strict=True), stop))

    assert [left["row"].tolist() for left, _ in pairs] == [right["row"].tolist() for _, right in pairs]
    assert plain.state_dict() == ahead.state_dict()


def test_what_it_decided_about_prefetching_is_told() -> None:
    assert loader(20, prefetch=False).prefetch_decision == "no thread: as told"
    assert loader(20).prefetch_decision.startswith("not decided yet")


def test_deciding_changes_no_row() -> None:
    found, plain = loader(1_000, batch_size=10), loader(1_000, batch_size=10, prefetch=False)

    assert epoch_of(found) == epoch_of(plain)
    assert "thread" in found.prefetch_decision


@given(
    shard_rows=st.lists(st.integers(0, 9), min_size=1, max_size=9),
    window=st.integers(1, 10),
    batch_size=st.integers(1, 9),
    stop=st.integers(0, 9),
)
@settings(deadline=None, max_examples=25)
def test_any_order_is_resumed_exactly(shard_rows: list[int], window: int, batch_size: int, stop: int) -> None:
    def make() -> Loader:
        order = WindowOrder(shard_rows, window, seed=3)
        return loader(sum(shard_rows), shuffle=False, batch_size=batch_size, order=order)

    expected = epoch_of(make())
    before, after = make(), make()
    stop = min(stop, len(expected))
    delivered = take(before, stop)
    after.load_state_dict(before.state_dict())

    assert delivered + (epoch_of(after) if stop < len(expected) else []) == expected


@pytest.mark.parametrize("state", [{"row": 10**6}, {"epoch": -1}, {"row": None}, {"batch_size": "7"}])
def test_a_state_that_makes_no_sense_is_refused(state: dict[str, object]) -> None:
    with pytest.raises(InputError, match="cannot resume from"):
        loader(20).load_state_dict({**loader(20).state_dict(), **state})


def test_the_state_does_not_grow_with_the_data() -> None:
    small, large = (len(json.dumps(loader(num_rows).state_dict())) for num_rows in (10, 10_000))

    assert small == large


@pytest.mark.slow  # importing torch takes seconds
def test_tensors_share_the_batchs_memory(dataset: Dataset) -> None:
    torch = pytest.importorskip("torch")

    batch = next(iter(dataset.loader(batch_size=16, columns=["image", "label"])))

    assert batch["image"].dtype == torch.uint8
    assert batch["image"].shape == (16, 4, 3)
    assert batch["label"].dtype == torch.int64


@pytest.mark.parametrize("cache", ["auto", "memory", "none"])
def test_every_cache_gives_the_same_batches(
    dataset: Dataset, cache: str, row_key: Callable[[dict[str, np.ndarray]], list[tuple[object, ...]]]
) -> None:
    plain = dataset.loader(batch_size=64, shuffle=True, format="numpy")
    other = dataset.loader(batch_size=64, shuffle=True, format="numpy", cache=cache)  # type: ignore[arg-type]  # a name

    for left, right in zip(plain, other, strict=True):
        assert row_key(left) == row_key(right)
