"""How a dataset comes to be and is found again: ingest, open by name, open by handle."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from shoal.base import CorruptError, InputError, register_handle
from shoal.data.dataset import Dataset
from shoal.data.remote.location import is_url
from shoal.data.sampling.recipes import parse_address
from shoal.data.storage.shard import TARGET_SHARD_BYTES, check_size
from shoal.data.versions.manifest import load_manifest

# What ingests is loaded by those who ingest, what fetches by those whose data lies elsewhere: opening takes neither.
if TYPE_CHECKING:
    from shoal.data.ingestion.intake import Progress
    from shoal.data.quality.checks import Check
    from shoal.data.quality.unique import Unique
    from shoal.data.schema import Schema
    from shoal.data.sources.base import OnBad
    from shoal.runtime import Runtime


def ingest(
    source: object,
    path: str | os.PathLike[str],
    *,
    key: str | None = None,
    schema: "Schema | Mapping[str, str] | None" = None,
    checks: "Sequence[Check | Unique]" = (),
    on_bad: "OnBad" = "raise",
    num_shards: int | None = None,
    target_shard_bytes: int = TARGET_SHARD_BYTES,
    workers: int = 1,
    runtime: "str | Runtime" = "local",
    progress: "Progress | None" = None,
    options: Mapping[str, object] | None = None,
) -> Dataset:
    """Store a source's rows as a dataset in a folder, and return it.

    The rows stream through bounded memory: about 650 MiB with the default sizes, however many there are. In a folder
    that holds a dataset already this makes a new version with just these rows; if some version holds exactly them,
    that one is returned and nothing is written: it may be an older one, and the newest stays the newest. A failure or a
    kill leaves the dataset as it was; what a killed one left aside is removed by the next.

    Args:
        source: files by path, pattern, folder or URL, or several (.csv, .tsv, .jsonl, .parquet, .arrow, .feather, also
            compressed); a folder of images; a dict of arrays; anything with `__arrow_c_stream__` (pyarrow, pandas,
            polars, another dataset); a split of Hugging Face; an iterable of dicts, data classes or
            `pyarrow.RecordBatch`; or a `Source` such as `CsvSource`, whose own `on_bad` does not count here.
        path: the dataset's folder, or a URL such as "s3://bucket/clicks": then the shards are made here and uploaded,
            and the version is published where exactly one of several writers succeeds.
        key: the column whose value decides a row's shard and its side of a split; None: the whole row does.
        schema: the columns and their types, as a `Schema` or as {"age": "int64", "image": "uint8[28, 28]"}; the
            source's other columns are left out, and values that have no exact counterpart make their row a bad one.
            None: what the source says.
        checks: what rows must be like (`shoal.data.quality`).
        on_bad: "raise" ends at the first bad row, with its file and line; "quarantine" keeps bad rows, with the reason
            and the place, in a dataset of their own beside this one (`dataset.quarantine`), and ingests the rest;
            "drop" only counts them. `dataset.manifest.refused` says how many rows broke which rule.
        num_shards: how many shards; None: by size. A key that many rows share makes uneven shards.
        target_shard_bytes: size of a shard when `num_shards` is None.
        workers: how many processes read, hash and sort parts of the source; the bytes are the same with any number.
        runtime: where they run: "local", or "ray" on a cluster whose nodes all see the dataset's folder.
        progress: called with the rows read so far.
        options: for a URL's store, such as {"region": "eu-west-1"}; secrets stay in the environment.

    Raises:
        SourceError: the source is unreadable, contradicts itself or is empty, or a row is bad and is not to be.
        SchemaError: a column cannot be stored, or columns change on the way.
        StorageFullError: no room.
    """
    from shoal.data.addresses import folder_for_writing
    from shoal.data.ingestion.sharding import Sharding
    from shoal.data.ingestion.writing import Ingestion, write_content
    from shoal.data.quality.rules import Rules
    from shoal.data.sources.opening import open_source

    folder = folder_for_writing(path, options)
    sharding = Sharding(num_shards=num_shards, target_shard_bytes=target_shard_bytes)
    rules = Rules.of(schema, checks, on_bad)
    ingestion = Ingestion(sharding=sharding, rules=rules, workers=workers, runtime=runtime)
    return Dataset(folder, write_content(folder, open_source(source), key=key, ingestion=ingestion, progress=progress))


def open_dataset(
    path: str | os.PathLike[str], version: int | None = None, *, options: Mapping[str, object] | None = None
) -> Dataset:
    """Open a dataset by its folder or URL: the newest version, or the one in "path@3" or in `version`.

    Args:
        path: a folder, or a URL as in "s3://bucket/clicks" or "https://host/clicks@3": then only what says which
            shards there are is fetched now, and each shard when its rows are first touched.
        version: its number; None: the newest.
        options: for a URL's store, such as {"region": "eu-west-1"}; secrets stay in the environment.

    Raises:
        RemoteError: the store does not answer.
        NotFoundError: no dataset is there, or it lacks the version.
        InputError: what the address says of a subset cannot be read, or does not go with the columns.
        CorruptError: the version's file is damaged.
    """
    if is_url(path):
        from shoal.data.addresses import local_address

        path, version = local_address(path, version, options), None
    parts = parse_address(os.fspath(path))
    # A folder whose own name ends in "@3" is meant by its name.
    if parts is None or os.path.isdir(path):  # noqa: PTH112 - Path raises for a name that is too long
        folder = Path(path).expanduser().absolute()
        return Dataset(folder, load_manifest(folder, version))
    if version is not None:
        raise InputError(f"{path} names a version, and version={version} another", next_step="leave one of them out")
    folder = Path(parts[0]).expanduser().absolute()
    manifest = load_manifest(folder, parts[1])
    if parts[3]:
        from shoal.data.sampling.subsets import check_recipes

        check_recipes(parts[3], manifest.schema)
    return Dataset(folder, manifest, parts[2], parts[3])


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
    for shard in dataset.shards if dataset.origin is None else ():
        check_size(dataset.shard_path(shard), shard)
    return dataset


# As text, the same that flow registers: whoever comes second finds nothing to contradict.
register_handle(Dataset.kind, "shoal.data.opening:open_address")
