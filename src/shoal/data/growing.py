"""How a dataset grows: rows of a source come in, or sealed segments of a log; each time as a new version."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

from shoal.data.divisible import Divisible
from shoal.data.storage.shard import TARGET_SHARD_BYTES

# What takes rows in is loaded by the method that does it: those who read rows never call one.
if TYPE_CHECKING:
    from shoal.data.ingestion.intake import Progress
    from shoal.data.quality.checks import Check
    from shoal.data.quality.unique import Unique
    from shoal.data.sources.base import OnBad
    from shoal.runtime import Runtime


@dataclass(frozen=True)
class Growing(Divisible):
    """The part of a dataset that takes rows in; the versions that are there never change."""

    def append(
        self,
        source: object,
        *,
        checks: "Sequence[Check | Unique]" = (),
        on_bad: "OnBad" = "raise",
        num_shards: int | None = None,
        target_shard_bytes: int = TARGET_SHARD_BYTES,
        progress: "Progress | None" = None,
        expect: int | None = None,
        evolve: bool = False,
        workers: int = 1,
        runtime: "str | Runtime" = "local",
    ) -> Self:
        """Add rows and return the new version; this one stays as it is.

        The rows are added to the newest version, even when that is later than this one: appends from several
        processes all arrive. Appending the same rows again changes nothing, however they are cut into shards; rows
        that came by `ingest` are known again only in the same cut. A preparation is taken along unless a column that it
        takes became wider, or has rows without a value that nothing fills: prepare the new version then.

        Args:
            source: what `shoal.data.ingest` takes, with the same columns.
            expect: the number that the newest version must have, for rows that make sense on top of that one alone.
            evolve: let the rows have columns that the dataset lacks, lack some that it has, and have wider numbers:
                the new version's columns are those of both, null where a row has none.
            checks: what the new rows must be like; unique keys are compared among the new rows alone.
            on_bad: what happens to bad rows, as in `shoal.data.ingest`; a quarantine grows.
            num_shards: into how many shards; None: by size.
            target_shard_bytes: size of a shard when `num_shards` is None.
            progress: called with the rows read so far.
            workers: how many processes read.
            runtime: where they run.

        Raises:
            SchemaError: columns differ.
            ConflictError: the newest version is not `expect`.
            UnsupportedError: this is a subset.
        """
        from shoal.data.ingestion.sharding import Sharding
        from shoal.data.ingestion.writing import Ingestion, append_content
        from shoal.data.quality.rules import Rules
        from shoal.data.sources.opening import open_source

        self._check_whole("append to")
        sharding = Sharding(num_shards=num_shards, target_shard_bytes=target_shard_bytes)
        made = append_content(
            self.path,
            open_source(source),
            self.manifest,
            ingestion=Ingestion(
                sharding=sharding, rules=Rules.of(None, checks, on_bad), workers=workers, runtime=runtime
            ),
            progress=progress,
            expect=expect,
            evolve=evolve,
        )
        return replace(self, manifest=made)

    def adopt(self, segments: Sequence[str | os.PathLike[str]]) -> Self:
        """Add sealed segments of a log as shards without copying them; segments that are in already change nothing.

        They become read-only; other finished Arrow files, which their writers may change, are copied. Their rows have
        no hashes, so the new version cannot be split.
        """
        from shoal.data.ingestion.adoption import adopt_segments

        self._check_whole("adopt segments into")
        return replace(self, manifest=adopt_segments(self.path, [Path(segment) for segment in segments]))
