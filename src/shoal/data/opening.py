"""How a dataset comes to be and is found again: ingest, open by name, open by handle."""

import os
import re
from pathlib import Path

from shoal.base import CorruptError, InputError, register_handle
from shoal.data.dataset import Dataset
from shoal.data.hashing import HASH_SPAN
from shoal.data.ingestion import TARGET_SHARD_BYTES, Progress, Sharding, write_content
from shoal.data.manifest import load_manifest
from shoal.data.shard import FULL_RANGE, check_size
from shoal.data.sources import open_source

_ADDRESS = re.compile(r"(?P<path>.+)@(?P<version>\d+)(#(?P<low>[0-9a-f]{1,17})-(?P<high>[0-9a-f]{1,17}))?", re.DOTALL)


def ingest(
    source: object,
    path: str | os.PathLike[str],
    *,
    key: str | None = None,
    num_shards: int | None = None,
    target_shard_bytes: int = TARGET_SHARD_BYTES,
    progress: Progress | None = None,
) -> Dataset:
    """Store a source's rows as a dataset in a folder, and return it.

    The rows stream through bounded memory (about 450 MiB, and one shard). In a folder that holds a dataset already
    this makes a new version with just these rows; if some version holds exactly them, that one is returned and
    nothing is written. A failure or a kill leaves the dataset as it was; what a killed one left aside is removed by
    the next.

    Args:
        source: a path or several (.parquet, .arrow, .csv), a dict of NumPy arrays, anything with
            `__arrow_c_stream__` (pyarrow, pandas, polars, another dataset), an iterable of `pyarrow.RecordBatch`, or
            a `Source` such as `IdxSource`.
        path: the dataset's folder.
        key: the column whose value decides a row's shard and its side of a split; None: the whole row does.
        num_shards: how many shards; None: by size. A key that many rows share makes uneven shards.
        target_shard_bytes: size of a shard when `num_shards` is None.
        progress: called with the rows read so far.

    Raises:
        SourceError: the source is unreadable, contradicts itself or is empty.
        SchemaError: a column cannot be stored, or columns change on the way.
        StorageFullError: no room.
    """
    folder = Path(path).expanduser().absolute()
    sharding = Sharding(num_shards=num_shards, target_shard_bytes=target_shard_bytes)
    return Dataset(folder, write_content(folder, open_source(source), key=key, sharding=sharding, progress=progress))


def open_dataset(path: str | os.PathLike[str], version: int | None = None) -> Dataset:
    """Open a dataset by its folder: the newest version, or the one in "path@3" or in `version`.

    Raises:
        NotFoundError: no dataset is there, or it lacks the version.
        CorruptError: the version's file is damaged.
    """
    match = _ADDRESS.fullmatch(os.fspath(path))
    # A folder whose own name ends in "@3" is meant by its name.
    if match is None or Path(path).is_dir():
        folder = Path(path).expanduser().absolute()
        return Dataset(folder, load_manifest(folder, version))
    if version is not None:
        raise InputError(f"{path} names a version, and version={version} another", next_step="leave one of them out")
    folder = Path(match["path"]).expanduser().absolute()
    hash_range = (int(match["low"], 16), int(match["high"], 16)) if match["low"] else FULL_RANGE
    if not 0 <= hash_range[0] <= hash_range[1] <= HASH_SPAN:
        raise InputError(f"{path} names no range of hashes", next_step="copy the address of a split as it was printed")
    return Dataset(folder, load_manifest(folder, int(match["version"])), hash_range)


def open_address(address: str, digest: str) -> Dataset:
    """Open the dataset that a handle stands for; its shards are all there when this returns, yet unread.

    Raises:
        NotFoundError: no dataset is at the address.
        ShardMissingError: a shard's file is gone.
        CorruptError: the content at the address is another now, or a shard has another size.
    """
    dataset = open_dataset(address)
    if dataset.digest != digest:
        raise CorruptError(
            f"{address} holds other rows than recorded: its digest is {dataset.digest}, expected {digest}",
            next_step="restore the dataset's folder, or make it again from its sources",
        )
    # Now, and not at the first touch of rows: whoever opens a kept handle can still make the dataset again.
    for shard in dataset.shards:
        check_size(dataset.shard_path(shard), shard)
    return dataset


# As text, the same that flow registers: whoever comes second finds nothing to contradict.
register_handle(Dataset.kind, "shoal.data.opening:open_address")
