"""Fitted preparations in a dataset's folder, each under its digest, and the version that makes one its own."""

from collections.abc import Sequence
from pathlib import Path

from shoal.base import ConflictError, CorruptError, write_atomic
from shoal.data.prepare.fitted import FittedPreparation
from shoal.data.remote.shadows import file_at
from shoal.data.schema import Column
from shoal.data.versions.manifest import Manifest, publish

FOLDER = "preparations"


def publish_preparation(folder: Path, fitted: FittedPreparation) -> Manifest:
    """Make a preparation that of the dataset's newest version, in a version of its own; nothing else changes.

    Where the newest version has it already, that one is returned.

    Raises:
        ConflictError: by now a column that it takes is gone, or of another type.
    """

    def make(newest: Manifest | None) -> Manifest:
        # Between the fit and this moment others may have published; rows that were added do no harm.
        columns = {} if newest is None else {column.name: column for column in newest.columns}
        for column in fitted.input_schema.columns:
            if newest is None or columns.get(column.name) != column:
                raise ConflictError(
                    f"cannot prepare {folder}: the preparation was fitted for column {column}, and the newest version "
                    f"has {columns.get(column.name)}",
                    next_step="open the newest version and prepare that",
                )
        assert newest is not None  # a preparation without any column was refused by planning
        digest = store_preparation(folder, fitted)
        if newest.preparation == digest:
            return newest
        return newest.followed_by(
            "prepare",
            preparation=digest,
        )

    return publish(folder, make)


def kept_preparation(folder: Path, digest: str, columns: Sequence[Column]) -> str | None:
    """Return the digest when the preparation can be applied to these columns as to those that it was fitted to.

    A column that has rows without a value by now is as before where an operator fills them.

    Raises:
        CorruptError: the preparation's file is missing or was changed.
    """
    fitted = load_preparation(folder, digest)
    now = {column.name: column for column in columns}
    for chain in fitted.plan.chains:
        found = now.get(chain.name)
        if found is None or found.storage != chain.column.storage:
            return None
        if found.nullable and not chain.column.nullable and not chain.fills_missing:
            return None
    return digest if all(now.get(column.name) == column for column in fitted.plan.passed) else None


def store_preparation(folder: Path, fitted: FittedPreparation) -> str:
    """Keep a preparation under its digest, and return that."""
    path = preparation_path(folder, fitted.digest)
    if not path.exists():
        write_atomic(path, fitted.to_json().encode())
    return fitted.digest


def load_preparation(folder: Path, digest: str) -> FittedPreparation:
    """Read a preparation.

    Raises:
        CorruptError: the file is missing, was changed, or is another preparation.
        UnsupportedError: a later shoal wrote it.
    """
    path = file_at(folder, preparation_path(folder, digest).relative_to(folder).as_posix())
    if not path.is_file():
        raise CorruptError(f"{path} is missing", next_step="restore the file from a copy, or prepare the dataset again")
    fitted = FittedPreparation.from_json(path.read_bytes())
    if fitted.digest != digest:
        raise CorruptError(
            f"{path} holds another preparation, {fitted.digest}",
            next_step="restore the file from a copy, or prepare the dataset again",
        )
    return fitted


def preparation_path(folder: Path, digest: str) -> Path:
    """Return where a dataset keeps the preparation with this digest."""
    return folder / FOLDER / f"{digest.removeprefix('b3:')}.json"
