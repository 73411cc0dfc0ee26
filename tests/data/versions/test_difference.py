from collections.abc import Callable

import numpy as np
import pytest

from shoal.base import InputError, NotFoundError, UnsupportedError
from shoal.data import Dataset, Profile, ingest
from shoal.data.versions import difference as difference_module
from shoal.data.versions.difference import distance

Rows = dict[str, np.ndarray]


def test_appended_rows_are_added(dataset: Dataset, make_rows: Callable[..., Rows]) -> None:
    grown = dataset.append(make_rows(30, seed=1), num_shards=2)

    found = grown.diff(1)

    assert (found.before, found.after) == (1, 2)
    assert (found.rows_added, found.rows_removed) == (30, 0)
    assert (len(found.shards_added), len(found.shards_removed)) == (2, 0)
    assert (len(found.sources_added), found.sources_removed) == (1, ())
    assert dataset.diff(grown).rows_removed == 30


@pytest.mark.parametrize("at_once", [1 << 20, 64])
def test_other_content_is_compared_row_by_row(
    dataset: Dataset, make_rows: Callable[..., Rows], monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(difference_module, "_HASHES_AT_ONCE", at_once)
    rows, other = make_rows(500), make_rows(20, seed=4)
    mixed = {name: np.concatenate([rows[name][50:], rows[name][50:60], other[name]]) for name in rows}

    newer = ingest(mixed, dataset.path, num_shards=3)

    found = newer.diff(dataset)
    assert (found.rows_added, found.rows_removed) == (30, 50)
    assert found.columns_changed == ()


def test_shards_cut_anew_are_no_difference_of_rows(dataset: Dataset) -> None:
    made = dataset.reshard(num_shards=7, key="label")

    found = made.diff(1)

    assert found.is_empty
    assert (len(found.shards_added), len(found.shards_removed)) == (len(made.shards), 4)
    assert {moved for _, moved in found.distances} == {0.0}


def test_a_version_does_not_differ_from_itself(dataset: Dataset) -> None:
    assert dataset.diff(1).is_empty
    assert dataset.diff(dataset).shards_added == ()


def test_changed_columns_are_told_and_do_not_change_rows(dataset: Dataset) -> None:
    evolved = dataset.evolve(
        rename={"label": "class"}, add={"city": "string"}, drop=["image"], widen={"weight": "float64"}
    ).reshard(num_shards=2)

    found = evolved.diff(1)

    assert found.columns_added == ("city: string or null",)
    assert found.columns_removed == ("image: uint8[4, 3]",)
    assert found.columns_changed == (("label: int64", "class: int64"), ("weight: float32", "weight: float64"))
    assert (found.rows_added, found.rows_removed) == (0, 0)
    assert not found.is_empty
    assert ("class", 0.0) in found.distances


def test_a_name_with_another_type_has_nothing_in_common(dataset: Dataset) -> None:
    newer = ingest({"label": np.array(["a", "b"], dtype=object)}, dataset.path)

    found = newer.diff(1)

    assert (found.rows_added, found.rows_removed) == (2, 500)
    assert ("label: int64", "label: string") in found.columns_changed


def test_columns_that_moved_most_come_first(dataset: Dataset, make_rows: Callable[..., Rows]) -> None:
    rows = make_rows(500)
    rows["weight"] = rows["weight"] + 100
    newer = ingest(rows, dataset.path)

    found = newer.diff(1)

    assert found.distances[0] == ("weight", 1.0)
    assert dict(found.distances)["label"] == 0.0


def test_distances_count_missing_values_and_categories() -> None:
    def profile(values: list, mask: list[bool]) -> Profile:
        made = Profile()
        made.update({"x": np.array(values), "x_mask": np.array(mask)})
        return made

    numbers = profile([1.0, 2.0], [True, True]), profile([1.0, 2.0], [True, False])
    texts = profile(["a", "b"], [True, True]), profile(["a", "c"], [True, True])

    assert distance(numbers[0].columns["x"], numbers[1].columns["x"]) == 0.5
    assert distance(texts[0].columns["x"], texts[1].columns["x"]) == 0.5
    assert distance(texts[0].columns["x"], texts[0].columns["x"]) == 0.0


def test_what_cannot_be_compared_is_named(dataset: Dataset, make_rows: Callable[..., Rows]) -> None:
    elsewhere = ingest(make_rows(5), dataset.path.parent / "other")

    with pytest.raises(NotFoundError, match="clicks@9"):
        dataset.diff(9)
    with pytest.raises(UnsupportedError, match="cannot compare a part"):
        dataset.split(0.5, 0.5)[0].diff(1)
    with pytest.raises(InputError, match="different datasets"):
        dataset.diff(elsewhere)
