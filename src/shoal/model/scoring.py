"""One part of an offline prediction, as a worker computes it: read, run, write one whole file."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shoal.base import CorruptError, InputError, Ref, atomic_file
from shoal.data import Dataset
from shoal.data import open as open_dataset
from shoal.model.reading import open_package
from shoal.model.session import Session
from shoal.model.signature import Signature
from shoal.model.tables import to_batch

ROW = "row"


@dataclass(frozen=True, slots=True)
class Part:
    """Rows start..stop-1 of a dataset, and the file that their predictions go to."""

    start: int
    stop: int
    path: Path

    @property
    def num_rows(self) -> int:
        """How many rows it has."""
        return self.stop - self.start


def score_part(package: Ref, dataset: Ref, part: Part, batch_size: int) -> None:
    """Write the predictions of one part as an Arrow file, completely or not at all; doing it twice gives the same file.

    Raises:
        InputError: the rows do not fit the model.
        CorruptError: the package or the dataset is no longer what it was.
    """
    session, rows = _session(package.address, package.digest), _rows(dataset.address, dataset.digest)
    names = session.signature.columns
    columns = list(dict.fromkeys([*names, rows.key] if rows.key else names))
    with atomic_file(part.path) as sink:
        writer = None
        for start in range(part.start, part.stop, batch_size):
            numbers = np.arange(start, min(start + batch_size, part.stop))
            taken = rows.take(numbers, columns)
            outputs = session.run(_inputs(session.signature, taken, start))
            key = {rows.key: taken[rows.key]} if rows.key else {}
            batch = to_batch({ROW: numbers, **key, **outputs})
            writer = writer or pa.ipc.new_file(sink, batch.schema)
            writer.write_batch(batch)
        if writer is not None:
            writer.close()


def _inputs(signature: Signature, taken: dict[str, NDArray[Any]], first_row: int) -> dict[str, NDArray[Any]]:
    for name in set(signature.columns) - set(signature.masked):
        mask = taken.get(f"{name}_mask")
        if mask is not None and not mask.all():
            raise InputError(
                f"input {name!r} has no value in row {first_row + int(np.flatnonzero(~mask)[0])}",
                next_step="fill or remove such rows, then predict again",
            )
    return signature.inputs_from(taken)


# A worker gets part after part of the same two: loading and checking them once is enough.
@lru_cache(maxsize=1)
def _session(address: str, digest: str) -> Session:
    return Session(open_package(address, digest=digest))


@lru_cache(maxsize=1)
def _rows(address: str, digest: str) -> Dataset:
    dataset = open_dataset(address)
    if dataset.digest != digest:
        raise CorruptError(
            f"{address} is another dataset than at the start: its digest is {dataset.digest}, expected {digest}",
            next_step="predict again into another folder",
        )
    return dataset
