from pathlib import Path

import pytest

from shoal.base import InputError
from shoal.data import Dataset, ingest
from shoal.data import open as open_dataset
from shoal.data.sampling.stored_rows import StoredRows
from shoal.data.sampling.subsets import filter_recipe, kept_rows, mask_of, sample_recipe


def test_recipes_are_short_and_equal_for_equal_wishes(people: Dataset) -> None:
    assert str(sample_recipe(people.schema, 0.1, None, 0)) == "sample(fraction=0.1,seed=0)"
    assert str(sample_recipe(people.schema, 10, "label", 3)) == 'sample(by="label",rows=10,seed=3)'
    assert str(filter_recipe(people.schema, [("label", "==", 1)])) == 'filter(where=["label","==",1])'
    assert str(filter_recipe(people.schema, [("label", "==", 1), ("weight", ">", 0.5)])) == (
        'filter(where=["all",["label","==",1],["weight",">",0.5]])'
    )


def test_a_filter_needs_a_condition(people: Dataset) -> None:
    with pytest.raises(InputError, match="without a condition"):
        filter_recipe(people.schema, [])


def test_only_missing_steps_are_built(people: Dataset) -> None:
    files = [people.open_shard(shard) for shard in people.shards]
    rows = StoredRows([(file, 0, file.shard.num_rows) for file in files], people.schema)
    recipes = (sample_recipe(people.schema, 0.5, None, 0), filter_recipe(people.schema, [("label", "==", 0)]))

    mask = mask_of(people.path, recipes, ["b3:one", "b3:two"], rows)
    (people.path / "subsets" / "one.bits").unlink()
    again = mask_of(people.path, recipes, ["b3:one", "b3:two"], rows)

    assert mask is not None
    assert again is not None
    assert mask.count == again.count
    assert [path.name for path in (people.path / "subsets").iterdir()] == ["two.bits"]
    assert mask_of(people.path, (), [], rows) is None


def test_a_batch_keeps_the_rows_of_the_mask(people: Dataset) -> None:
    files = [people.open_shard(shard) for shard in people.shards]
    rows = StoredRows([(file, 0, file.shard.num_rows) for file in files], people.schema)
    mask = mask_of(people.path, (sample_recipe(people.schema, 0.5, None, 0),), ["b3:one"], rows)
    batch = next(people.batches())

    assert mask is not None
    assert kept_rows(batch, mask, 0).num_rows == mask.flags(0, batch.num_rows).sum()


@pytest.mark.parametrize(
    "recipe",
    [
        'filter(where=["label",">","x"])',
        'filter(where=["all"])',
        "filter(where=" + '["not",' * 50 + '["label",">",1]' + "]" * 50 + ")",
        'sample(by="tags",fraction=0.5,seed=0)',
        'group(by="tags",high="80",low="0",seed=0)',
    ],
)
def test_an_address_that_does_not_go_with_the_columns_is_refused_as_it_is_opened(tmp_path: Path, recipe: str) -> None:
    dataset = ingest([{"label": 1, "tags": [1, 2]}, {"label": 2, "tags": [3]}], tmp_path / "d")

    with pytest.raises(InputError) as caught:
        open_dataset(f"{dataset.address}#{recipe}")

    assert caught.value.next_step
