"""A dataset: a folder of immutable versions, seen as rows; splits of it are ranges of hash, never lists of rows."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shoal.base import InputError
from shoal.data.growing import Growing
from shoal.data.loading.assembly import CacheMode, Steps, TorchLoading, make_loader
from shoal.data.loading.formats import Format
from shoal.data.loading.gather import RowGatherer, stretches_of
from shoal.data.loading.loader import Loader, LoaderConfig
from shoal.data.loading.order import Order
from shoal.data.loading.pipeline import BatchPreparation, Transform
from shoal.data.loading.prefetch import PrefetchMode
from shoal.data.native import Values
from shoal.data.remote.shadows import restore_shadow
from shoal.data.sampling.binding import OrderSpec, bound_order
from shoal.data.schema import Schema
from shoal.data.storage.shard import ShardFile
from shoal.data.versions.manifest import load_manifest

# A worker that trains opens a dataset and gathers rows. What else a dataset can do, and all of Arrow, takes many times
# longer to load than that takes to do: the method that needs it loads it.
if TYPE_CHECKING:
    import pyarrow as pa

    from shoal.data.loading.decoders import Decoder, DecoderName
    from shoal.data.loading.torch_dataset import TorchBatches, TorchRows
    from shoal.data.prepare.fitted import FittedPreparation
    from shoal.data.prepare.preparation import Preparation
    from shoal.data.sampling.bits import RowMask
    from shoal.data.sources.facts import SourceFact
    from shoal.data.statistics.profile import Profile


@dataclass(frozen=True)
class Dataset(Growing):
    """The rows of one version of a dataset, or of a hash range of it. Immutable; any number of threads may read.

    Rows are numbered 0 to num_rows - 1 in storage order. Shards are memory-mapped, and their digests are checked when
    their rows are first touched.
    """

    @cached_property
    def _stretches(self) -> list[tuple[ShardFile, int, int]]:
        schema = self.schema
        files = [self.open_shard(shard, schema) for shard in self.shards]
        return [(file, *file.rows_in(self.hash_range)) for file in files]

    @cached_property
    def _mask(self) -> "RowMask | None":
        if not self.recipes:
            return None
        from shoal.data.sampling.stored_rows import StoredRows
        from shoal.data.sampling.subsets import mask_of

        digests = [self.digest_after(count) for count in range(1, len(self.recipes) + 1)]
        return mask_of(self.path, self.recipes, digests, StoredRows(self._stretches, self.schema))

    @cached_property
    def num_rows(self) -> int:
        """How many rows there are; for a subset this reads the hashes at its borders, or makes its mask."""
        stored = sum(stop - start for _, start, stop in self._stretches)
        return stored if self._mask is None else self._mask.count

    @cached_property
    def profile(self) -> "Profile":
        """Statistics of the rows: stored with a version, computed in one pass for a subset. Do not change it."""
        from shoal.data.statistics.profile import Profile
        from shoal.data.versions.staging import load_profile

        if self.is_whole:
            return load_profile(self.folder, self.manifest.profile)
        profile = Profile()
        for batch in self.batches():
            profile.update(batch)
        return profile

    @property
    def quarantine(self) -> "Dataset | None":
        """The rows that were refused, as text with the reason and the place; None when no row was kept so."""
        if self.manifest.quarantine is None:
            return None
        name, _, version = self.manifest.quarantine.rpartition("@")
        folder = self.path.with_name(name)
        if (shadow := self.shadow) is not None:
            restore_shadow(folder, str(shadow.location.parent().child(name)))
        return Dataset(folder, load_manifest(folder, int(version)))

    @staticmethod
    def create_from_segments(
        path: str | os.PathLike[str],
        segments: Sequence[str | os.PathLike[str]],
        sources: "Sequence[SourceFact] | None" = None,
    ) -> "Dataset":
        """Make a dataset of finished Arrow files, or add them to the one that is there, as `adopt` does.

        `sources` say where the rows came from, for files that will not stay; None: the files themselves.
        """
        from shoal.data.ingestion.adoption import adopt_segments

        folder = Path(path).expanduser().absolute()
        return Dataset(folder, adopt_segments(folder, [Path(segment) for segment in segments], sources))

    def prepare(self, preparation: "Preparation | FittedPreparation") -> "Dataset":
        """Learn a preparation from these rows, make it that of a new version, and return the same rows of that version.

        Called on a training split, nothing is learned from the other rows, and yet the whole version has it: every
        split of the result is prepared alike. `preparation` gives it back, loaders apply it, `shoal.model.package`
        writes it into the model's graph; `batches`, `take` and `profile` go on giving raw rows. A fitted preparation is
        taken as it is.

        Raises:
            SchemaError: a column is unknown or does not fit its operators, or lacks values that nothing fills.
            ConflictError: the newest version has other columns by now.
        """
        from shoal.data.prepare.preparation import Preparation
        from shoal.data.versions.preparations import publish_preparation

        fitted = preparation.fit(self) if isinstance(preparation, Preparation) else preparation
        return replace(self, manifest=publish_preparation(self.path, fitted))

    def batches(self, columns: Sequence[str] | None = None, batch_rows: int = 8_192) -> "Iterator[pa.RecordBatch]":
        """Yield the rows as `pyarrow.RecordBatch` of at most `batch_rows`, in storage order.

        Nothing is copied, but for subsets with a recipe. `batch_rows` < 1 is an InputError.
        """
        if batch_rows < 1:
            raise InputError(f"batch_rows={batch_rows} must be >= 1", next_step="leave it out for 8192")
        return _cut(self._stretches, self._mask, self._selected(columns), batch_rows)

    def arrays(self, columns: Sequence[str] | None = None) -> dict[str, Values]:
        """Return all rows as one array [num_rows, ...] per column; they must fit in memory."""
        return self.take(np.arange(self.num_rows), columns)

    def to_huggingface(self, columns: Sequence[str] | None = None) -> Any:  # noqa: ANN401 - an optional package's class
        """Return the rows as a `datasets.Dataset` over the mapped shards; needs the `huggingface` extra.

        Tensors become lists of fixed length, in lists. What `datasets` then does is its own affair: no digest is
        checked there any more.
        """
        from shoal.data.interop import make_huggingface

        return make_huggingface(self.batches(columns), self._selected(columns))

    def take(self, rows: NDArray[np.int64], columns: Sequence[str] | None = None) -> dict[str, Values]:
        """Return rows by their numbers as arrays [len(rows), ...], with "<name>_mask" for nullable columns."""
        return self._known_gatherer(self._selected(columns)).take(rows)

    def row(self, index: int) -> dict[str, Any]:
        """Return one row as NumPy values per column."""
        return {name: values[0] for name, values in self.take(np.array([index])).items()}

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
        window: int | None = None,
        order: Order | OrderSpec | None = None,
        prepare: BatchPreparation | bool | None = None,
        decode: "Mapping[str, DecoderName | Decoder] | None" = None,
        transform: Transform | None = None,
        pad: Mapping[str, float] | None = None,
        prefetch: PrefetchMode = "auto",
        device: str | None = None,
        pin_memory: bool | None = None,
    ) -> Loader:
        """Return the dataset as batches for training.

        Args:
            batch_size: rows of a global batch, over all ranks together.
            shuffle: visit the rows in another order each epoch, fixed by `seed`.
            seed: any whole number.
            rank: which part of each batch to return; None: the rank in torch's process group, else 0.
            world_size: into how many parts a batch is cut; None: the size of the process group, else 1.
            drop_last: leave out the last batch of an epoch when it is smaller.
            cache: "auto" and "none", which mean the same, read from the mapped files, which the system keeps in memory
                as long as there is room; "memory" copies all rows first; "disk" keeps finished batches in
                `.shoal/cache`, for decoders and transforms that cost more than reading.
            format: "torch", "numpy" or "arrow"; None: torch where it is installed.
            columns: which columns; None: all. With a preparation, which of those that it gives.
            window: shuffle whole shards, and rows among this many shards at a time, instead of all rows: with or
                without `shuffle`, which then changes nothing. None: all rows; for data in a store that is larger than
                8 GiB, as many shards as have 8 GiB.
            order: which rows come in which order, instead of `shuffle`: `Stratified`, `Weighted`, `MinPerClass` of
                `shoal.data`, or your own.
            prepare: what prepares each batch; None: the dataset's own preparation; False: nothing.
            decode: columns of compressed samples, each with "jpeg", "png" or a function from bytes to an array.
            transform: called with each batch, a dict of NumPy arrays; returns the batch to hand out, with arrays or
                tensors.
            pad: columns of varying length to be padded to a batch's longest row, with what; "<name>_lengths" tells
                where rows end. Others are packed: all rows behind each other, and "<name>_offsets" [rows + 1].
            prefetch: whether a thread makes batches ahead; "auto" measures whether that helps.
            device: where tensors go, such as "cuda"; None: they stay in memory.
            pin_memory: make batches in pinned memory; None: for a CUDA device.
        """
        config = LoaderConfig(
            batch_size=batch_size,
            shuffle=shuffle,
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
        if shuffle and window is None and order is None and (shadow := self.shadow) is not None:
            from shoal.data.loading.ahead import window_for

            window = window_for(shadow, self.shards)
        steps = Steps(
            columns=columns,
            cache=cache,
            window=window,
            order=bound_order(order, self, config.batch_size, config.seed),
            prepare=prepare,
            decode=decode,
            transform=transform,
        )
        made = make_loader(self, config, steps)
        if (shadow := self.shadow) is None:
            return made
        from shoal.data.loading.ahead import fetching_ahead

        return fetching_ahead(made, shadow, self.shards, self.shard_rows)

    def as_torch(self, *, batch_size: int, **options: Any) -> "TorchBatches":  # noqa: ANN401  # those of `loader`
        """Return the loader's batches as a `torch.utils.data.IterableDataset`: for Lightning, Accelerate, a DataLoader.

        `DataLoader(dataset.as_torch(batch_size=256, shuffle=True), batch_size=None)` gives the batches of
        `loader(batch_size=256, shuffle=True)`, with any `num_workers`. `batch_size` is global, as in `loader`: rows
        over all processes, of which each takes its part by its rank in torch's process group.

        `state_dict()` is exact with `num_workers=0`, which is as fast: gathering needs no workers. While
        workers read ahead it is an UnsupportedError, as this process cannot know what was consumed of theirs.

        Args:
            batch_size: rows of a global batch.
            options: what `loader` takes; not rank, world_size and prefetch, which are found out here.
        """
        from shoal.data.loading.torch_dataset import TorchBatches  # torch is weight that only this needs

        return TorchBatches(TorchLoading(self, batch_size, options))

    def as_torch_rows(self, columns: Sequence[str] | None = None) -> "TorchRows":
        """Return the rows as a map-style `torch.utils.data.Dataset`, for a DataLoader with its own sampler.

        There `batch_size` is the DataLoader's own: rows per process. Each batch is gathered in one go.
        """
        from shoal.data.loading.torch_dataset import TorchRows  # torch is weight that only this needs

        return TorchRows(self, self._selected(columns))

    def gatherer(self, schema: Schema) -> RowGatherer:
        """Return what takes any rows of these columns at once; for loaders."""
        stretches = [part for file, start, stop in self._stretches for part in stretches_of(file, start, stop)]
        if self._mask is None:
            return RowGatherer(stretches, schema)
        return RowGatherer(stretches, schema, select=self._mask.select, num_rows=self._mask.count)

    def shard_rows(self) -> list[int]:
        """Return how many rows of this dataset lie in each shard, in storage order."""
        stored = [stop - start for _, start, stop in self._stretches]
        if self._mask is None:
            return stored
        borders = self._mask.rank(np.cumsum([0, *stored]))
        return [int(count) for count in np.diff(borders)]

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Export the rows to anything that reads Arrow streams: pyarrow, polars, DuckDB, pandas."""
        import pyarrow as pa

        reader = pa.RecordBatchReader.from_batches(self.schema.arrow(), self.batches())
        return reader.__arrow_c_stream__(requested_schema)

    def __getstate__(self) -> dict[str, object]:
        # Another process maps the files itself: mapped pages and caches do not travel.
        kept = {"path": self.path, "manifest": self.manifest, "hash_range": self.hash_range, "recipes": self.recipes}
        return kept | {"origin": self.origin}

    def __repr__(self) -> str:
        return f"Dataset({self.address!r})"

    def _selected(self, columns: Sequence[str] | None) -> Schema:
        return self.schema.select(columns)

    def _known_gatherer(self, schema: Schema) -> RowGatherer:
        # Kept, so that taking rows one by one does not look up where their columns lie each time.
        if (known := self._gatherers.get(schema.names)) is None:
            known = self._gatherers[schema.names] = self.gatherer(schema)
        return known

    @cached_property
    def _gatherers(self) -> dict[tuple[str, ...], RowGatherer]:
        return {}


def _cut(
    stretches: Sequence[tuple[ShardFile, int, int]], mask: "RowMask | None", schema: Schema, batch_rows: int
) -> "Iterator[pa.RecordBatch]":
    from shoal.data.sampling.subsets import kept_rows

    at = 0
    for file, start, stop in stretches:
        for batch in file.batches(start, stop, schema):
            for first in range(0, batch.num_rows, batch_rows):
                part = batch.slice(first, batch_rows)
                at += part.num_rows
                kept = part if mask is None else kept_rows(part, mask, at - part.num_rows)
                if kept.num_rows:
                    yield kept
