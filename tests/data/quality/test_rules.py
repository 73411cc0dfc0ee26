import pytest

from shoal.base import InputError
from shoal.data.quality import NotNull, Range, Rules, Unique


def test_unique_keys_are_told_from_checks_of_single_rows() -> None:
    rules = Rules.of({"x": "int64"}, [NotNull("x"), Unique("x"), Range("x", 0)], "drop")

    assert rules.checks == (NotNull("x"), Range("x", 0))
    assert rules.unique == (Unique("x"),)
    assert not rules.is_empty
    assert Rules().is_empty


def test_a_fate_that_is_none_is_refused() -> None:
    with pytest.raises(InputError, match="'raise', 'quarantine' or 'drop'"):
        Rules.of(None, [], "keep")  # type: ignore[arg-type]  # the mistake
