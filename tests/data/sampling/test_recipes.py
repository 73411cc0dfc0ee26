from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.base import InputError
from shoal.data.sampling.recipes import Recipe, address_text, parse_address

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
VALUES = TEXT | st.integers() | st.booleans() | st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=2)
HASHES = st.integers(0, 2**64)
RANGES = st.tuples(HASHES, HASHES).map(sorted).map(lambda both: {"low": f"{both[0]:x}", "high": f"{both[1]:x}"})
RECIPES = (
    st.builds(lambda borders: Recipe.of("range", **borders), RANGES)
    | st.builds(lambda borders, by, seed: Recipe.of("group", by=by, seed=seed, **borders), RANGES, TEXT, st.integers())
    | st.builds(lambda where: Recipe.of("filter", where=where), st.lists(VALUES, max_size=3))
    | st.builds(lambda rows, by: Recipe.of("sample", rows=rows, by=by, seed=0), st.integers(1), st.none() | TEXT)
    | st.builds(lambda part: Recipe.of("sample", fraction=part, seed=1), st.floats(0, 1, exclude_min=True))
)


@given(
    path=st.sampled_from(["/data/clicks", "s3://bucket/a b", "/data/x@2", "/a#1-2@3/b"]),
    version=st.integers(1, 10**6),
    borders=st.tuples(HASHES, HASHES).map(sorted),
    recipes=st.lists(RECIPES, max_size=3).map(tuple),
)
def test_an_address_reads_back_as_what_was_written(
    path: str, version: int, borders: list[int], recipes: tuple[Recipe, ...]
) -> None:
    text = address_text(path, version, (borders[0], borders[1]), recipes)

    parsed = parse_address(text)

    assert parsed is not None
    # "/data/x@2" followed by a version could mean two things; a folder that is there is asked for first.
    assert parsed == (path, version, (borders[0], borders[1]), recipes) or "@" in path


@given(parameters=st.dictionaries(st.sampled_from(["a", "b", "c"]), VALUES))
def test_a_recipe_gives_its_parameters_back_in_any_order(parameters: dict[str, Any]) -> None:
    recipe = Recipe.of("sample", **parameters)

    assert recipe.parameters == parameters
    assert recipe == Recipe.of("sample", **dict(reversed(parameters.items())))


def test_an_address_is_read_by_people() -> None:
    sample = Recipe.of("sample", fraction=0.1, by="label", seed=0)

    assert address_text("clicks", 3, (0, 2**63), (sample,)) == (
        'clicks@3#0-8000000000000000#sample(by="label",fraction=0.1,seed=0)'
    )


def test_a_plain_path_has_no_version() -> None:
    assert parse_address("clicks/") is None
    assert parse_address("@3") is None


@pytest.mark.parametrize("text", ["c@3#sample", "c@3#sample(by=)", "c@3#sample(1)", "c@3#80", "c@3#sample(a=1 b=2)"])
def test_what_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="cannot read the subset"):
        parse_address(text)


def test_a_value_that_json_lacks_is_refused() -> None:
    with pytest.raises(InputError, match="cannot write nan"):
        Recipe.of("filter", where=float("nan"))


@given(text=st.text(st.sampled_from('@#()[]{},="\\ue19-0fNa.truesmplwhkinfg '), max_size=60))
def test_no_text_does_more_than_being_refused(text: str) -> None:
    for start in ("c@3#", "c@3#filter(where=", "c@3#sample(seed=0,"):
        with suppress(InputError):
            parse_address(start + text)
