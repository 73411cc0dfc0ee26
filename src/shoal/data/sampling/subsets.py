"""The recipes behind a dataset's `sample` and `filter`, checked before a row is read, and the masks they lead to."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from shoal.base import InputError
from shoal.data.sampling.bits import MaskWriter, RowMask, derived_mask
from shoal.data.sampling.classes import label_column
from shoal.data.sampling.masks import build_mask
from shoal.data.sampling.predicates import checked_predicate
from shoal.data.sampling.recipes import Recipe
from shoal.data.sampling.stored_rows import StoredRows
from shoal.data.schema import Schema


def sample_recipe(schema: Schema, amount: int | float, by: str | None, seed: int) -> Recipe:
    """Return the recipe of a sample: a float is a fraction up to 1.0, a whole number is so many rows.

    Raises:
        InputError: a fraction outside 0 to 1, no rows, or a column without classes.
        SchemaError: there is no such column.
    """
    if by is not None:
        label_column(schema, by)
    if isinstance(amount, bool) or amount <= 0 or (isinstance(amount, float) and amount > 1):
        raise InputError(
            f"cannot sample {amount!r}: expected a fraction above 0 and up to 1.0, or a whole number of rows",
            next_step="for example sample(0.1) or sample(1_000)",
        )
    if isinstance(amount, float):
        return Recipe.of("sample", fraction=amount, by=by, seed=seed)
    return Recipe.of("sample", rows=int(amount), by=by, seed=seed)


def filter_recipe(schema: Schema, predicates: Sequence[object]) -> Recipe:
    """Return the recipe of the rows for which all predicates hold.

    Raises:
        InputError: none is given, or one cannot be read or does not go with its column.
        SchemaError: there is no such column.
    """
    if not predicates:
        raise InputError("cannot filter without a condition", next_step='for example filter(("age", ">=", 18))')
    checked = [checked_predicate(predicate, schema) for predicate in predicates]
    return Recipe.of("filter", where=checked[0] if len(checked) == 1 else ["all", *checked])


def check_recipes(recipes: Sequence[Recipe], schema: Schema) -> None:
    """Return when all recipes of an address go with the columns; no row is read.

    Raises:
        InputError: a condition cannot be read or does not go with its column, or a column has no classes.
        SchemaError: there is no such column.
    """
    for recipe in recipes:
        parameters = recipe.parameters
        if recipe.kind == "filter":
            checked_predicate(parameters["where"], schema)
        if "by" in parameters:
            label_column(schema, parameters["by"])


def mask_of(folder: Path, recipes: tuple[Recipe, ...], digests: Sequence[str], rows: StoredRows) -> RowMask | None:
    """Return the mask that all recipes together leave of the stored rows; None when there is no recipe.

    Each step's mask is kept under its digest, and only what is missing is built.

    Args:
        folder: the dataset's.
        recipes: in the order in which they are applied.
        digests: what names the subset after each of them.
        rows: all rows, before the first recipe.
    """
    if not recipes:
        return None
    before, last = recipes[:-1], recipes[-1]

    def build(mask: MaskWriter) -> None:
        # Only now: who finds the last mask on the disk has no need of the ones before.
        parent = mask_of(folder, before, digests[:-1], rows)
        build_mask(last, rows, parent, mask)

    return derived_mask(folder, digests[-1], build)


def kept_rows(batch: pa.RecordBatch, mask: RowMask, first: int) -> pa.RecordBatch:
    """Return the rows of a batch that are in the mask; `first` is the stored number of its first row."""
    return batch.filter(pa.array(mask.flags(first, first + batch.num_rows)))
