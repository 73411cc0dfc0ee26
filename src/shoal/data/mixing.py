"""Several datasets as one stream of batches, each with its weight: `mix({"a": (ds_a, 0.7), "b": (ds_b, 0.3)})`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from shoal.base import ConfigError, InputError, digest_json
from shoal.data.dataset import Dataset
from shoal.data.layout import Layout
from shoal.data.loading.assembly import CacheMode, Steps, TorchLoading, make_loader
from shoal.data.loading.decoders import Decoder, DecoderName
from shoal.data.loading.formats import Format
from shoal.data.loading.gather import RowGatherer, stretches_of
from shoal.data.loading.loader import Loader, LoaderConfig
from shoal.data.loading.order import Order
from shoal.data.loading.pipeline import BatchPreparation, Transform
from shoal.data.loading.prefetch import PrefetchMode
from shoal.data.prepare.fitted import FittedPreparation
from shoal.data.sampling.mixed_order import ScatteredMix, SteadyMix
from shoal.data.sampling.shares import largest_remainders
from shoal.data.sampling.stored_rows import StoredRows
from shoal.data.sampling.subsets import mask_of
from shoal.data.schema import Schema
from shoal.data.storage.shard import ShardFile
from shoal.data.versions.reconciliation import united

if TYPE_CHECKING:
    from shoal.data.loading.torch_dataset import TorchBatches

Rows = NDArray[np.int64]


def mix(
    parts: Mapping[str, tuple[Dataset, float]],
    *,
    until: Literal["first", "all"] = "first",
    num_rows: int | None = None,
    steady: bool = True,
) -> "Mixture":
    """Return several datasets as one, of which a loader takes rows in proportion to weights.

    Columns are those of all datasets: null where one has none, numbers as wide as needed.

    Args:
        parts: name -> (dataset, weight); weights count in proportion to each other.
        until: an epoch ends before the first dataset would repeat a row ("first"), or when each has given all its
            rows, the others several times if need be ("all").
        num_rows: rows of an epoch, instead of `until`.
        steady: each batch holds the exact shares, rounded up or down; False: only the epoch does, and batches vary as
            by chance: the loader then needs `shuffle=True`.

    Raises:
        ConfigError: no parts, a weight that is not above 0, or a length below 1.
        InputError: a dataset without rows.
        SchemaError: a column has types that do not go together.
    """
    if not parts or any(not 0 < weight < float("inf") for _, weight in parts.values()):
        raise ConfigError(
            f"cannot mix with weights {[weight for _, weight in parts.values()]}: expected one or more, above 0",
            next_step='for example mix({"a": (a, 0.7), "b": (b, 0.3)})',
        )
    if until not in ("first", "all") or (num_rows is not None and num_rows < 1):
        raise ConfigError(
            f"until={until!r} must be 'first' or 'all', and num_rows={num_rows} at least 1", next_step="choose one"
        )
    if empty := [name for name, (dataset, _) in parts.items() if not dataset.num_rows]:
        raise InputError(f"cannot mix {empty[0]!r}: it has no rows", next_step="leave it out")
    datasets = tuple(dataset for dataset, _ in parts.values())
    weights = tuple(float(weight) for _, weight in parts.values())
    return Mixture(tuple(parts), datasets, weights, until, num_rows, steady)


@dataclass(frozen=True)
class Mixture:
    """Datasets that give rows in proportion to weights; immutable, see `mix`.

    A row's number counts through the datasets in their order. Each dataset goes through its rows in its own epochs: an
    epoch of the mixture takes up each of them where the one before left it.
    """

    names: tuple[str, ...]
    datasets: tuple[Dataset, ...]
    weights: tuple[float, ...]
    until: Literal["first", "all"]
    epoch_rows: int | None
    steady: bool

    @cached_property
    def schema(self) -> Schema:
        """The columns of all datasets together."""
        first, *others = (tuple(replace(column, id=None) for column in part.schema.columns) for part in self.datasets)
        for columns in others:
            first = united(first, columns)
        return Schema(tuple(replace(column, id=index) for index, column in enumerate(first)))

    @property
    def digest(self) -> str:
        """What names these rows in these proportions."""
        parts = [[dataset.digest, weight] for dataset, weight in zip(self.datasets, self.weights, strict=True)]
        return digest_json({"mix": parts, "until": self.until, "num_rows": self.epoch_rows, "steady": self.steady})

    @cached_property
    def quotas(self) -> tuple[int, ...]:
        """How many rows of each dataset an epoch has."""
        weights = [Fraction(str(weight)) for weight in self.weights]
        sizes = [dataset.num_rows for dataset in self.datasets]
        lengths = [size * sum(weights) / weight for size, weight in zip(sizes, weights, strict=True)]
        whole = int(min(lengths)) if self.until == "first" else -int(-max(lengths) // 1)
        return tuple(largest_remainders(self.epoch_rows or whole, weights))

    @property
    def num_rows(self) -> int:
        """How many rows an epoch has."""
        return sum(self.quotas)

    @property
    def preparation(self) -> FittedPreparation | None:
        """What prepares batches: that of the datasets, when it is the same for all.

        Raises:
            ConfigError: it is not.
        """
        found = [dataset.preparation for dataset in self.datasets]
        if any(other != found[0] for other in found):
            raise ConfigError(
                f"the datasets {', '.join(self.names)} are prepared in different ways",
                next_step="give the mixture's loader one: prepare=..., or prepare=False",
            )
        return found[0]

    def loader(
        self,
        *,
        batch_size: int,
        shuffle: bool = False,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        drop_last: bool = False,
        cache: CacheMode = "auto",
        format: Format | None = None,
        columns: Sequence[str] | None = None,
        prepare: BatchPreparation | bool | None = None,
        decode: Mapping[str, DecoderName | Decoder] | None = None,
        transform: Transform | None = None,
        pad: Mapping[str, float] | None = None,
        prefetch: PrefetchMode = "auto",
        device: str | None = None,
        pin_memory: bool | None = None,
    ) -> Loader:
        """Return the mixture as batches; arguments and promises are those of `Dataset.loader`.

        With `shuffle` each dataset has another order in each of its epochs, without it that of its storage.

        Raises:
            ConfigError: `shuffle` is left out for `steady=False`, which mixes rows by chance.
        """
        config = LoaderConfig(
            batch_size=batch_size,
            seed=seed,
            rank=rank,
            world_size=world_size,
            drop_last=drop_last,
            format=format,
            pad=pad or {},
            prefetch=prefetch,
            device=device,
            pin_memory=pin_memory,
        )
        steps = Steps(
            columns=columns,
            cache=cache,
            order=self.order(batch_size, seed, shuffle=shuffle),
            prepare=prepare,
            decode=decode,
            transform=transform,
        )
        return make_loader(self, config, steps)

    def as_torch(self, *, batch_size: int, **options: Any) -> "TorchBatches":  # noqa: ANN401  # those of `loader`
        """Return the loader's batches as a `torch.utils.data.IterableDataset`; as `Dataset.as_torch`."""
        from shoal.data.loading.torch_dataset import TorchBatches  # torch is weight that only this needs

        return TorchBatches(TorchLoading(self, batch_size, options))

    def order(self, batch_size: int, seed: int, *, shuffle: bool = False) -> Order:
        """Return in which order rows come; its state is O(number of datasets)."""
        if not self.steady and not shuffle:
            raise ConfigError(
                "steady=False mixes rows by chance, shuffle=False by none", next_step="give the loader shuffle=True"
            )
        sizes = [dataset.num_rows for dataset in self.datasets]
        if self.steady:
            return SteadyMix(sizes, self.quotas, batch_size, seed=seed, shuffle=shuffle)
        return ScatteredMix(sizes, self.quotas, seed=seed)

    def gatherer(self, schema: Schema) -> RowGatherer:
        """Return what takes any rows of these columns at once; for loaders."""
        parts = [_Part(dataset, schema) for dataset in self.datasets]
        stretches = [
            one for part in parts for file, start, stop in part.files for one in stretches_of(file, start, stop)
        ]
        firsts = np.cumsum([0, *(dataset.num_rows for dataset in self.datasets)])
        stored = np.cumsum([0, *(part.num_stored for part in parts)])

        def select(rows: Rows) -> Rows:
            owner = np.searchsorted(firsts, rows, side="right") - 1
            found = rows - firsts[owner]
            for index, part in enumerate(parts):
                if part.mask is not None:
                    found[owner == index] = part.mask.select(found[owner == index])
            selected: Rows = found + stored[owner]
            return selected

        return RowGatherer(stretches, schema, select=select, num_rows=int(firsts[-1]))

    def shard_rows(self) -> list[int]:
        """Return how many rows lie in each shard of each dataset."""
        return [rows for dataset in self.datasets for rows in dataset.shard_rows()]


class _Part:
    """A dataset's files, read as rows with the mixture's columns, and its mask."""

    def __init__(self, dataset: Dataset, schema: Schema) -> None:
        own = [(dataset.open_shard(shard), shard) for shard in dataset.shards]
        borders = [(file, *file.rows_in(dataset.hash_range)) for file, _ in own]
        rows = StoredRows(borders, dataset.schema)
        digests = [dataset.digest_after(count) for count in range(1, len(dataset.recipes) + 1)]
        self.num_stored = rows.num_rows
        self.mask = mask_of(dataset.path, dataset.recipes, digests, rows)
        known = {column.name: column for column in dataset.schema.columns}
        self.files = []
        for (file, shard), (_, start, stop) in zip(own, borders, strict=True):
            layout = dataset.manifest.layout(shard)
            # The mixture's columns bear numbers of their own, as each dataset counts its columns by itself.
            pairs = [
                (column.id, layout.name_of(known[column.name])) for column in schema.columns if column.name in known
            ]
            named = tuple((number, name) for number, name in pairs if number is not None and name is not None)
            # The same path as the dataset's own: what lies elsewhere is fetched once.
            self.files.append((ShardFile(partial(_path_of, file), shard, schema, Layout(named)), start, stop))


def _path_of(file: ShardFile) -> Path:
    return file.path
