"""Columns that change while the rows stay: added, renamed, widened and dropped columns make a version, and no shard."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from shoal.base import InputError, SchemaError
from shoal.data.layout import with_ids
from shoal.data.schema import NUMBERS, Column, Schema, parse_column
from shoal.data.statistics.categories import Categories
from shoal.data.statistics.column_profile import ColumnProfile
from shoal.data.statistics.profile import Profile
from shoal.data.versions.manifest import Manifest, publish
from shoal.data.versions.staging import load_profile, store_profile

# Up to here, and not beyond, float64 tells every whole number from the next.
_EXACT_IN_FLOAT64 = 2.0**53


@dataclass(frozen=True, slots=True, kw_only=True)
class Evolution:
    """What is to change; every name is that of a column before the change, and each column changes in one way."""

    add: Mapping[str, str] = field(default_factory=dict)
    rename: Mapping[str, str] = field(default_factory=dict)
    widen: Mapping[str, str] = field(default_factory=dict)
    drop: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not (self.add or self.rename or self.widen or self.drop):
            raise InputError("nothing is to change", next_step="for example evolve(add={'city': 'string'})")
        if isinstance(self.drop, str):
            raise InputError(f"drop={self.drop!r} must be a list of names", next_step=f"use drop=[{self.drop!r}]")


def evolve(folder: Path, evolution: Evolution, *, expect: int | None = None) -> Manifest:
    """Publish a version whose columns are changed on top of the newest one; its shards stay the files they are.

    Raises:
        SchemaError: a column is unknown, or cannot change that way; the message names it.
        ConflictError: the newest version is not `expect`.
    """

    def make(newest: Manifest | None) -> Manifest:
        if newest is None:
            raise InputError(f"there is no dataset in {folder}", next_step="make it with shoal.data.ingest")
        profile = load_profile(folder, newest.profile)
        changed = evolved_columns(newest.columns, newest.key, evolution, profile)
        # Without a look at known names: a column that is dropped and added again starts empty.
        columns, next_column = with_ids(changed, (), newest.next_column)
        return newest.followed_by(
            "evolve",
            columns=columns,
            next_column=next_column,
            key=evolution.rename.get(newest.key, newest.key) if newest.key else None,
            profile=store_profile(folder, evolved_profile(profile, newest.columns, columns)),
            # It was fitted to the columns of before, and would not find them.
            preparation=None,
        )

    return publish(folder, make, expect=expect)


def evolved_columns(
    columns: Sequence[Column], key: str | None, evolution: Evolution, profile: Profile
) -> tuple[Column, ...]:
    """Return the columns after the change, in their order, added ones last.

    Args:
        columns: those of the version, with their ids.
        key: the column that places rows, which cannot be dropped, nor change how it hashes.
        evolution: what is to change.
        profile: the version's statistics: they tell whether whole numbers fit into a float.
    """
    schema = Schema(tuple(columns))
    for name in (*evolution.rename, *evolution.widen, *evolution.drop):
        schema[name]
    if key is not None and key in evolution.drop:
        raise SchemaError(
            f"cannot drop column {key!r}: its values decide where each row lies",
            next_step="place the rows by another column first: reshard(key=...)",
        )
    kept = [column for column in columns if column.name not in evolution.drop]
    changed = [_changed(column, key, evolution, profile) for column in kept]
    return Schema((*changed, *(parse_column(name, text) for name, text in evolution.add.items()))).columns


def _changed(column: Column, key: str | None, evolution: Evolution, profile: Profile) -> Column:
    renamed = replace(column, name=evolution.rename.get(column.name, column.name))
    wanted = evolution.widen.get(column.name)
    if wanted is None:
        return renamed
    if problem := _narrowing(column, wanted, profile):
        raise SchemaError(
            f"cannot widen column {column.name!r} from {column.dtype} to {wanted}: {problem}",
            next_step="name a type that holds every value of the present one, such as int64 or float64",
        )
    if column.name == key and np.dtype(column.dtype).kind + np.dtype(wanted).kind not in ("ii", "uu", "ui"):
        raise SchemaError(
            f"cannot widen column {column.name!r} from {column.dtype} to {wanted}: it places the rows, and equal "
            "values would be placed elsewhere from now on",
            next_step="place the rows by another column first: reshard(key=...)",
        )
    return replace(renamed, dtype=wanted)


def _narrowing(column: Column, wanted: str, profile: Profile) -> str | None:
    if column.dtype not in NUMBERS or wanted not in NUMBERS:
        return "only numbers can be widened"
    if column.dtype == wanted or not np.can_cast(column.dtype, wanted, "safe"):
        return "it is not wider"
    if np.dtype(column.dtype).kind in "iu" and np.dtype(column.dtype).itemsize == 8 and wanted == "float64":
        statistics = profile.columns.get(column.name)
        # Statistics count at float32, which rounds to the limit what lies just below it: strictly below is safe.
        extremes = [abs(value) for value in (statistics.minimum, statistics.maximum) if value] if statistics else []
        if statistics is None or any(value >= _EXACT_IN_FLOAT64 for value in extremes):
            return f"it has values up to {max(extremes, default=0):g}, and float64 is exact below 2**53 only"
    return None


def evolved_profile(profile: Profile, before: Sequence[Column], after: Sequence[Column]) -> Profile:
    """Return the statistics of the same rows under the changed columns: what was added is null in every row."""
    made = Profile()
    made.num_rows = profile.num_rows
    known = {column.id: column for column in before}
    names = {column.name for column in before}
    for column in after:
        old = known.get(column.id) if column.id is not None else None
        if old is None:
            made.columns |= _all_null(column, profile.num_rows)
            continue
        for name, statistics in profile.columns.items():
            # "image.mean" derives from "image", unless it is a column in its own right.
            if name == old.name or (name not in names and name.rpartition(".")[0] == old.name):
                new_name = column.name + name.removeprefix(old.name)
                is_float = column.dtype.startswith("float")
                kept = Categories() if is_float and statistics.kind == "number" else statistics.kept
                made.columns[new_name] = replace(statistics, name=new_name, kept=kept)
    return made


def _all_null(column: Column, num_rows: int) -> dict[str, ColumnProfile]:
    blank = Profile()
    blank.update(pa.record_batch({column.name: pa.nulls(1, column.arrow_type())}))
    for statistics in blank.columns.values():
        statistics.nulls *= num_rows
    return blank.columns
