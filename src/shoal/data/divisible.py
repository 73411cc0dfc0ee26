"""What a dataset divides into: splits by hash, group and time, samples, filtered rows; none of them copies a row."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from shoal.base import InputError
from shoal.data.sampling.recipes import Recipe
from shoal.data.versioned import Versioned

# What divides is loaded by the method that does it: whoever opens a part by its address has it divided already.
if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Divisible(Versioned):
    """The part of a dataset that names subsets of its rows: each is a dataset of its own, found again by its address.

    A subset is a range of hashes, or recipes that lead to one bit per row; the bits are made when rows are first
    asked for, kept beside the dataset, and made again when they are lost.
    """

    @property
    @abstractmethod
    def num_rows(self) -> int:
        """How many rows there are."""

    @abstractmethod
    def batches(self, columns: Sequence[str] | None = None, batch_rows: int = 8_192) -> "Iterator[pa.RecordBatch]":
        """Yield the rows in storage order."""

    def split(
        self, *fractions: float, key: str | None = None, by: str | None = None, seed: int = 0
    ) -> tuple[Self, ...]:
        """Return one dataset per fraction, in order; they never overlap, and each row always stays on its side.

        Sides go by hashes: after appends the old rows are where they were, and the sizes are close to the fractions,
        not equal to them. Rows with the same key (without a key: equal rows) stay together.

        Args:
            fractions: shares of the rows, each above 0, together at most 1; what is left over is in none.
            key: must be the dataset's own key, given only to make sure.
            by: a column whose equal values stay together, whatever the dataset's own key is.
            seed: of a split `by`: another seed gives another one.

        Raises:
            InputError: fractions out of range, or `key` and `by` both.
            UnsupportedError: another key, or rows in order of arrival without `by`.
        """
        from shoal.data.sampling.splitting import group_recipes, hash_ranges, range_recipes

        if by is not None:
            if key is not None:
                raise InputError(f"cannot split by key={key!r} and by={by!r} at once", next_step="leave one out")
            return self._subsets(group_recipes(self.schema, fractions, by, seed))
        ranges = hash_ranges(self, fractions, key)
        if self.recipes:
            return self._subsets(range_recipes(ranges))
        return tuple(replace(self, hash_range=each) for each in ranges)

    def split_by_time(self, column: str, *fractions: float, at: Sequence[object] = ()) -> tuple[Self, ...]:
        """Return the rows before the first cut, between cuts, and from the last cut on; ascending in time.

        A row at a cut is on the later side. Cuts that are given never move; those found from fractions are written
        into the sides' addresses, and a new call on more rows finds others.

        Args:
            column: instants or numbers; every row must have one.
            fractions: shares of the rows that add up to 1; rows of one instant stay together.
            at: the cuts themselves instead: numbers, `datetime`, or ISO text in UTC.

        Raises:
            InputError: cuts and fractions both or neither, or rows without a time.
        """
        from shoal.data.sampling.splitting import time_recipes

        return self._subsets(time_recipes(self, column, at, fractions))

    def sample(self, amount: int | float, *, by: str | None = None, seed: int = 0) -> Self:
        """Return some of the rows, drawn evenly without replacement.

        A fraction without `by` lets each row's own hash decide: its size is close to the fraction, and a row that is
        in stays in after appends. A number of rows, or `by`, is exact: each class of the column `by` gets its share of
        the rows by largest remainder, and after appends another sample may result.

        Args:
            amount: a fraction such as 0.1 (1.0 is all), or a whole number of rows.
            by: a column of classes whose shares the sample keeps.
            seed: another seed gives another sample.

        Raises:
            InputError: the amount is out of range, or more rows than there are (when first read).
        """
        from shoal.data.sampling.subsets import sample_recipe

        return self._subsets([sample_recipe(self.schema, amount, by, seed)])[0]

    def filter(self, *predicates: object) -> Self:
        """Return the rows for which all predicates hold, such as ("age", ">=", 18) or ("city", "in", ["Oslo"]).

        Also (name, "is null"), (name, "is not null"), ("any", p, q), ("all", p, q), ("not", p). A comparison with a
        missing value does not hold.
        """
        from shoal.data.sampling.subsets import filter_recipe

        return self._subsets([filter_recipe(self.schema, predicates)])[0]

    def _subsets(self, recipes: Sequence[Recipe]) -> tuple[Self, ...]:
        return tuple(replace(self, recipes=(*self.recipes, recipe)) for recipe in recipes)
