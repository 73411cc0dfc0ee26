import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from shoal.base import ConfigError, InputError, SchemaError
from shoal.data import Dataset, ingest, mix
from shoal.data.mixing import Mixture

Rows = dict[str, np.ndarray]


@pytest.fixture
def parts(tmp_path: Path, make_people: Callable[..., Rows]) -> dict[str, Dataset]:
    return {
        "a": ingest(make_people(700, seed=1), tmp_path / "a", num_shards=3),
        "b": ingest(make_people(200, seed=2), tmp_path / "b", num_shards=2),
        "c": ingest(make_people(400, seed=3), tmp_path / "c"),
    }


@pytest.fixture
def mixture(parts: dict[str, Dataset]) -> Mixture:
    return mix({"a": (parts["a"], 0.5), "b": (parts["b"], 0.3), "c": (parts["c"], 0.2)})


def owners(batch: Rows) -> np.ndarray:
    return np.bincount(np.asarray(batch["id"]) // 1_000_000 - 1, minlength=3)


def test_every_batch_has_the_shares_rounded_up_or_down(mixture: Mixture) -> None:
    for batch in mixture.loader(batch_size=32, shuffle=True, seed=1, format="numpy"):
        counts = owners(batch)
        assert (np.abs(counts - len(batch["id"]) * np.array([0.5, 0.3, 0.2])) < 1.01).all()


def test_ends_before_the_first_dataset_repeats_a_row(mixture: Mixture, parts: dict[str, Dataset]) -> None:
    seen = np.concatenate([batch["id"] for batch in mixture.loader(batch_size=32, format="numpy")])

    assert len(seen) == len(np.unique(seen)) == mixture.num_rows == 666
    assert mixture.quotas == (333, 200, 133)


def test_ends_when_every_dataset_has_given_all_its_rows(parts: dict[str, Dataset]) -> None:
    mixture = mix({name: (dataset, 1) for name, dataset in parts.items()}, until="all")

    seen = np.concatenate([batch["id"] for batch in mixture.loader(batch_size=32, format="numpy")])

    times = np.unique(seen, return_counts=True)[1]
    assert mixture.quotas == (700, 700, 700)
    assert (len(times), times.min(), times.max()) == (1_300, 1, 4)


def test_an_epoch_can_have_any_length_and_goes_on_where_the_last_one_stopped(parts: dict[str, Dataset]) -> None:
    mixture = mix({"b": (parts["b"], 1), "c": (parts["c"], 1)}, num_rows=80)
    loader = mixture.loader(batch_size=20, format="numpy")

    epochs = [np.concatenate([batch["id"] for batch in loader]) for _ in range(5)]

    assert [len(epoch) for epoch in epochs] == [80] * 5
    from_b = [row for epoch in epochs for row in epoch if row < 3_000_000]
    assert len(set(from_b)) == len(from_b) == 200


@pytest.mark.parametrize("steady", [True, False])
@pytest.mark.parametrize("world_size", [1, 3])
@pytest.mark.parametrize("stopped_after", [0, 5, 20])
def test_resumes_exactly_with_any_number_of_ranks(
    parts: dict[str, Dataset], steady: bool, world_size: int, stopped_after: int
) -> None:
    mixture = mix({"a": (parts["a"], 2), "b": (parts["b"], 1)}, steady=steady)
    first = mixture.loader(batch_size=40, shuffle=True, seed=3, format="numpy")
    batches = itertools.chain(first, first)
    for _ in range(stopped_after):
        next(batches)
    state = first.state_dict()
    ranks = [
        mixture.loader(batch_size=40, shuffle=True, seed=3, format="numpy", rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    for rank in ranks:
        rank.load_state_dict(state)

    resumed = zip(*(itertools.chain(rank, rank) for rank in ranks), strict=True)

    for expected, found in zip(itertools.islice(batches, 10), itertools.islice(resumed, 10), strict=True):
        assert np.array_equal(np.concatenate([part["id"] for part in found]), expected["id"])


def test_scattered_shares_are_those_of_the_epoch(parts: dict[str, Dataset]) -> None:
    mixture = mix({"a": (parts["a"], 0.5), "b": (parts["b"], 0.5)}, steady=False)

    batches = list(mixture.loader(batch_size=40, shuffle=True, format="numpy"))

    assert sum(map(owners, batches)).tolist() == [200, 200, 0]
    assert len({tuple(owners(batch)) for batch in batches}) > 2


def test_without_shuffle_each_dataset_comes_in_the_order_of_its_storage(
    mixture: Mixture, parts: dict[str, Dataset]
) -> None:
    seen = np.concatenate([batch["id"] for batch in mixture.loader(batch_size=32, format="numpy")])

    assert np.array_equal(seen[seen // 1_000_000 == 2], parts["b"].arrays(["id"])["id"])


def test_columns_are_those_of_all_datasets(tmp_path: Path) -> None:
    one = ingest({"n": np.arange(10, dtype=np.int32), "x": np.ones(10, np.float32)}, tmp_path / "one")
    two = ingest({"n": np.arange(10, 20), "tag": np.array(["t"] * 10, object)}, tmp_path / "two")

    mixture = mix({"one": (one, 1), "two": (two, 1)})
    (batch,) = mixture.loader(batch_size=20, format="numpy")

    assert [str(column) for column in mixture.schema.columns] == [
        "n: int64",
        "x: float32 or null",
        "tag: string or null",
    ]
    assert sorted(batch["n"]) == list(range(20))
    assert np.array_equal(batch["x_mask"], batch["n"] < 10)
    assert np.array_equal(batch["tag_mask"], batch["n"] >= 10)


def test_columns_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    one = ingest({"n": np.arange(3)}, tmp_path / "one")
    two = ingest({"n": np.array(["a"], object)}, tmp_path / "two")

    with pytest.raises(SchemaError, match="the columns differ"):
        mix({"one": (one, 1), "two": (two, 1)}).loader(batch_size=2)


def test_subsets_mix_too(parts: dict[str, Dataset]) -> None:
    rare = parts["a"].filter(("label", "!=", 0))
    half = parts["c"].split(0.5, 0.5)[1]

    mixture = mix({"rare": (rare, 1), "half": (half, 1)}, until="all")

    seen = np.concatenate([batch["id"] for batch in mixture.loader(batch_size=16, format="numpy")])
    assert set(seen) == {*rare.arrays(["id"])["id"], *half.arrays(["id"])["id"]}


def test_the_digest_depends_on_datasets_and_weights(parts: dict[str, Dataset]) -> None:
    digests = {
        mix({"a": (parts["a"], weight), "b": (parts["b"], 1)}, until=until).digest
        for weight in (1, 2)
        for until in ("first", "all")
    }

    assert len(digests) == 4


def test_impossible_mixtures_are_refused(parts: dict[str, Dataset]) -> None:
    with pytest.raises(ConfigError, match="cannot mix with weights"):
        mix({})
    with pytest.raises(ConfigError, match="cannot mix with weights"):
        mix({"a": (parts["a"], 0)})
    with pytest.raises(ConfigError, match="num_rows=0"):
        mix({"a": (parts["a"], 1)}, num_rows=0)
    with pytest.raises(InputError, match="'b': it has no rows"):
        mix({"a": (parts["a"], 1), "b": (parts["b"].filter(("label", ">", 9)), 1)})
    with pytest.raises(ConfigError, match="by chance"):
        mix({"a": (parts["a"], 1)}, steady=False).loader(batch_size=4)


def test_trains_from_torch_as_a_dataset_does(mixture: Mixture) -> None:
    own = mixture.loader(batch_size=32, shuffle=True, seed=1, format="torch", rank=0, world_size=1)

    given = mixture.as_torch(batch_size=32, shuffle=True, seed=1)

    assert len(given) == len(own)
    for one, other in zip(given, own, strict=True):
        assert one["id"].tolist() == other["id"].tolist()
