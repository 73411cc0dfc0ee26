import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.base import ConfigError, InputError
from shoal.data import Dataset, MinPerClass
from shoal.data.sampling.min_per_class import epoch_quotas


def test_no_batch_lacks_a_class_and_no_row_is_left_out(people: Dataset) -> None:
    loader = people.loader(batch_size=64, order=MinPerClass("label", at_least=3), format="numpy")

    batches = list(loader)

    assert all(len(batch["label"]) == 64 for batch in batches)
    assert all(np.bincount(batch["label"], minlength=5).min() >= 3 for batch in batches)
    assert set(np.concatenate([batch["id"] for batch in batches])) == set(range(3_000))


def test_rows_of_a_rare_class_repeat_equally_often(people: Dataset) -> None:
    loader = people.loader(batch_size=64, order=MinPerClass("label", at_least=3), format="numpy")

    rows = np.concatenate([batch["id"][batch["label"] == 4] for batch in loader])

    times = np.unique(rows, return_counts=True)[1]
    assert times.min() > 1
    assert times.max() - times.min() <= 1


@given(sizes=st.lists(st.integers(1, 2_000), min_size=1, max_size=6), spare=st.integers(0, 60), least=st.integers(1, 9))
def test_an_epoch_is_the_shortest_that_has_every_row(sizes: list[int], spare: int, least: int) -> None:
    batch_size = least * len(sizes) + spare

    quotas = epoch_quotas(sizes, batch_size, least)

    num_batches, rest = divmod(sum(quotas), batch_size)
    assert rest == 0
    assert all(quota >= max(size, least * num_batches) for quota, size in zip(quotas, sizes, strict=True))
    shorter = num_batches - 1
    assert sum(max(size, least * shorter) for size in sizes) > shorter * batch_size


def test_a_batch_without_room_is_refused(people: Dataset) -> None:
    with pytest.raises(InputError, match="cannot put 3 rows of each of 5 classes") as caught:
        people.loader(batch_size=14, order=MinPerClass("label", at_least=3))
    assert "batch_size=15" in caught.value.next_step


def test_less_than_one_row_is_refused() -> None:
    with pytest.raises(ConfigError, match="at_least=0"):
        MinPerClass("label", at_least=0)
