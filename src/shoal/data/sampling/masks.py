"""From a recipe to one bit per row: each recipe reads the columns it needs and the hashes, block by block."""

from collections.abc import Callable, Iterator
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from shoal.base import InputError, UnsupportedError
from shoal.data.hashing import row_hashes
from shoal.data.sampling.bits import MaskWriter, RowMask
from shoal.data.sampling.classes import Classes, count_classes, label_column
from shoal.data.sampling.draws import Draws, key_of, mixed
from shoal.data.sampling.predicates import holds, predicate_columns
from shoal.data.sampling.recipes import Recipe
from shoal.data.sampling.shares import largest_remainders
from shoal.data.sampling.stored_rows import Block, StoredRows
from shoal.data.sampling.thresholds import Thresholds, find_thresholds
from shoal.data.schema import HASH_SPAN, Schema

Flags = NDArray[np.bool_]


def build_mask(recipe: Recipe, rows: StoredRows, parent: RowMask | None, mask: MaskWriter) -> None:
    """Write which of the stored rows the recipe keeps, of those that are in the parent.

    Memory is a few blocks of rows; a sample of an exact number of rows adds a table of a few MiB.

    Raises:
        InputError: nobody knows such a recipe, or it does not go with the columns.
        UnsupportedError: it goes by hashes, which rows in order of arrival lack.
    """
    keep = _keeper(recipe, rows, parent)
    for block in rows.blocks():
        flags = keep(block)
        mask.add(flags if parent is None else flags & inside(parent, block))


def _keeper(recipe: Recipe, rows: StoredRows, parent: RowMask | None) -> Callable[[Block], Flags]:
    match recipe.kind:
        case "range":
            return _in_range(recipe)
        case "group":
            return _of_groups(recipe, rows.schema)
        case "filter":
            return _where(recipe, rows.schema)
        case "sample":
            return _sampled(recipe, rows, parent)
    raise InputError(
        f"cannot make the subset {recipe}: there is no {recipe.kind!r}, expected range, group, filter or sample",
        next_step="copy the address of the subset as it was printed, or use a newer shoal",
    )


def inside(parent: RowMask | None, block: Block) -> Flags:
    """Return bool [num_rows]: which rows of the block are in the parent."""
    if parent is None:
        return np.ones(block.num_rows, np.bool_)
    return parent.flags(block.first, block.first + block.num_rows)


def _in_range(recipe: Recipe) -> Callable[[Block], Flags]:
    low, high = _borders(recipe)

    def keep(block: Block) -> Flags:
        if block.file.shard.order == "arrival":
            raise UnsupportedError(
                f"cannot make {recipe}: the rows of shard {block.file.shard.file_name} stand in order of arrival",
                next_step="split by a column instead: split(..., by='name'), or ingest the dataset once more",
            )
        return _between(block.hashes(), low, high)

    return keep


def _of_groups(recipe: Recipe, columns: Schema) -> Callable[[Block], Flags]:
    parameters = recipe.parameters
    schema = columns.select([label_column(columns, parameters["by"]).name])
    key = key_of("group", parameters["seed"])
    low, high = _borders(recipe)

    def keep(block: Block) -> Flags:
        groups = block.batch(schema).column(0).dictionary_encode()
        batch = pa.RecordBatch.from_arrays([groups.dictionary], schema=schema.arrow())
        sides = _between(mixed(row_hashes(batch, schema, schema.names[0]) ^ np.uint64(key)), low, high)
        # The rows without a value are one group: they stay together, as the others do.
        nothing = _between(mixed(np.array([key], np.uint64)), low, high)
        places = pc.fill_null(groups.indices, len(sides)).to_numpy()
        kept: Flags = np.concatenate([sides, nothing])[places]
        return kept

    return keep


def _where(recipe: Recipe, columns: Schema) -> Callable[[Block], Flags]:
    predicate = recipe.parameters["where"]
    named = predicate_columns(predicate)
    schema = columns.select([name for name in columns.names if name in named])
    return lambda block: holds(predicate, block.batch(schema), schema)


def _sampled(recipe: Recipe, rows: StoredRows, parent: RowMask | None) -> Callable[[Block], Flags]:
    parameters = recipe.parameters
    key = key_of("sample", parameters["seed"])
    if "by" not in parameters and "fraction" in parameters:
        # The row's own draw decides: what is in the sample stays there, whatever is appended.
        limit = int(_fraction(recipe) * HASH_SPAN)
        return lambda block: _between(block.draws(key), 0, limit)
    classes, codes = _strata(rows, parent, parameters.get("by"))
    wanted = _wanted(recipe, classes, int(classes.counts.sum()))

    def drawn() -> Iterator[tuple[Draws, NDArray[np.int64], Flags]]:
        for block in rows.blocks():
            yield block.draws(key), codes(block), inside(parent, block)

    limits: Thresholds = find_thresholds(drawn, wanted)
    return lambda block: limits.take(block.draws(key), codes(block), inside(parent, block))


def _strata(
    rows: StoredRows, parent: RowMask | None, by: str | None
) -> tuple[Classes, Callable[[Block], NDArray[np.int64]]]:
    if by is None:
        count = rows.num_rows if parent is None else parent.count
        whole = Classes(rows.schema.columns[0], pa.nulls(1), np.array([count], np.int64))
        return whole, lambda block: np.zeros(block.num_rows, np.int64)
    schema = rows.schema.select([by])
    column = label_column(rows.schema, by)
    labels = (block.batch(schema).column(0).filter(pa.array(inside(parent, block))) for block in rows.blocks())
    classes = count_classes(labels, column)
    return classes, lambda block: classes.codes(block.batch(schema).column(0))


def _wanted(recipe: Recipe, classes: Classes, num_rows: int) -> list[int]:
    parameters = recipe.parameters
    total = parameters["rows"] if "rows" in parameters else round(_fraction(recipe) * num_rows)
    if total > num_rows:
        raise InputError(
            f"cannot sample {total} rows of {num_rows}", next_step="sample fewer, or draw with replacement: Weighted"
        )
    return largest_remainders(total, [Fraction(int(count)) for count in classes.counts]) if num_rows else [0]


def _fraction(recipe: Recipe) -> Fraction:
    return Fraction(str(recipe.parameters["fraction"]))


def _borders(recipe: Recipe) -> tuple[int, int]:
    return int(recipe.parameters["low"], 16), int(recipe.parameters["high"], 16)


def _between(values: Draws, low: int, high: int) -> Flags:
    # 2**64 is no uint64: the last range has no upper border.
    kept = values >= np.uint64(low) if low else np.ones(len(values), np.bool_)
    return kept if high >= HASH_SPAN else kept & (values < np.uint64(high))
