from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from shoal.base import InputError, UnsupportedError
from shoal.data import Dataset, ingest
from shoal.data.sampling.splitting import group_recipes, hash_ranges, range_recipes, time_recipes


def test_ranges_lie_side_by_side_within_the_dataset(people: Dataset) -> None:
    half = people.split(0.5, 0.5)[1]

    ranges = hash_ranges(half, (0.25, 0.75), None)

    assert ranges[0][0] == half.hash_range[0]
    assert ranges[0][1] == ranges[1][0]
    assert ranges[1][1] == half.hash_range[1]
    assert [str(recipe) for recipe in range_recipes(ranges[:1])] == [
        'range(high="a000000000000000",low="8000000000000000")'
    ]


def test_another_key_is_refused_with_the_way_out(people: Dataset) -> None:
    with pytest.raises(UnsupportedError, match="by 'user': its rows are placed by 'content'") as caught:
        hash_ranges(people, (0.5, 0.5), "user")

    assert "by='user'" in caught.value.next_step


def test_groups_name_their_column_and_seed(people: Dataset) -> None:
    (recipe,) = group_recipes(people.schema, (0.5,), "user", 7)

    assert str(recipe) == 'group(by="user",high="8000000000000000",low="0",seed=7)'


def test_cuts_may_be_numbers_instants_or_text(people: Dataset) -> None:
    cut = datetime(2026, 1, 1, 0, 5)

    texts = [time_recipes(people, "when", [given], ()) for given in (cut, np.datetime64(cut), "2026-01-01T00:05:00")]

    assert texts[0] == texts[1] == texts[2]
    assert [str(recipe) for recipe in time_recipes(people, "weight", [0.25, 0.5], ())][1] == (
        'filter(where=["all",["weight",">=",0.25],["weight","<",0.5]])'
    )


def test_text_has_no_order_in_time(people: Dataset) -> None:
    with pytest.raises(InputError, match="expected instants or numbers"):
        time_recipes(people, "user", ["user-1"], ())


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_rows_whose_time_is_no_number_are_refused_with_the_way_out(tmp_path: Path, dtype: type) -> None:
    dataset = ingest({"t": np.array([1, np.nan, 3, 4], dtype), "n": np.arange(4)}, tmp_path / "d")

    with pytest.raises(InputError, match="1 rows have no t") as caught:
        time_recipes(dataset, "t", [2], ())

    assert '("any", ("t", "<", 0), ("t", ">=", 0))' in caught.value.next_step
    known = dataset.filter(("any", ("t", "<", 0), ("t", ">=", 0)))
    assert [side.num_rows for side in known.split_by_time("t", at=[2])] == [1, 2]
