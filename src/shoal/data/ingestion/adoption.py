"""Finished Arrow files become shards as they are: a sealed log is a dataset without a copy."""

import errno
import os
import shutil
import stat
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from shoal.base import SegmentReader, ShoalError, SourceError, digest_file, report_full_storage
from shoal.data.schema import schema_from_arrow
from shoal.data.sources.facts import SourceFact
from shoal.data.statistics.profile import Profile
from shoal.data.storage.shard import describe_shard
from shoal.data.versions.manifest import Manifest
from shoal.data.versions.publishing import Content, publish_adopted
from shoal.data.versions.staging import place_shard, work_folder


def adopt_segments(folder: Path, segments: Sequence[Path], sources: Sequence[SourceFact] | None = None) -> Manifest:
    """Add finished Arrow files as shards in order of arrival.

    Sealed segments of a shoal log, and files in the dataset's own folder, are linked where the disk allows it, and
    become read-only: nobody changes them any more. Others may be cut or overwritten by whoever wrote them, so their
    bytes are copied, or shared until someone writes where the disk can do that.

    Files that the newest version holds already are left out, and so is one that is given twice. `sources` say where the
    rows came from, when the files themselves are not worth naming.
    """
    with work_folder(folder) as work:
        contents = [_read_segment(path, folder, work / f"segment-{index}") for index, path in enumerate(segments)]
        for index, content in enumerate(contents):
            place_shard(work / f"segment-{index}", folder, content.shards[0])
        if sources is not None:
            contents = [replace(each, sources=() if index else tuple(sources)) for index, each in enumerate(contents)]
        return publish_adopted(folder, contents)


def _read_segment(path: Path, folder: Path, target: Path) -> Content:
    profile, with_nulls = Profile(), set()
    try:
        real = path.resolve(strict=True)
        if not (_is_ours(real, folder) and _linked(real, target)):
            _copy(real, target)
    except FileNotFoundError as error:
        raise SourceError(f"cannot adopt {path}: there is no such file", next_step="check the path") from error
    try:
        with pa.memory_map(str(target)) as mapped, pa.ipc.open_file(mapped) as reader:
            schema = schema_from_arrow(reader.schema)
            for index in range(reader.num_record_batches):
                batch = reader.get_batch(index)
                with_nulls |= {name for name in schema.names if batch.column(name).null_count}
                profile.update(batch)
    except pa.ArrowException as error:
        raise SourceError(
            f"cannot adopt {path}: it is no finished Arrow file ({error})", next_step="seal the log first"
        ) from error
    columns = tuple(replace(column, nullable=column.name in with_nulls) for column in schema.columns)
    shard = describe_shard(target, profile.num_rows, "arrival")
    fact = SourceFact(path=str(path.absolute()), digest=digest_file(target), num_rows=profile.num_rows)
    return Content(columns=columns, shards=(shard,), sources=(fact,), profile=profile)


def _is_ours(path: Path, folder: Path) -> bool:
    if path.is_relative_to(folder.resolve()):
        return True
    try:
        return path in SegmentReader(path.parent).sealed()
    except (ShoalError, OSError):
        return False


def _linked(path: Path, target: Path) -> bool:
    try:
        path.chmod(stat.S_IMODE(path.stat().st_mode) & ~0o222)
        target.hardlink_to(path)
    except FileNotFoundError:
        raise
    except OSError:
        # Another disk, one without links, or a file of another user.
        return False
    return True


def _copy(path: Path, target: Path) -> None:
    clone = getattr(os, "copy_file_range", None)
    with report_full_storage(target), path.open("rb") as source, target.open("wb") as sink:
        size, done = os.fstat(source.fileno()).st_size, 0
        # Where the disk can, both files then share the bytes until one of them is written to.
        while clone is not None and done < size:
            try:
                copied = clone(source.fileno(), sink.fileno(), size - done)
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                    raise
                break
            if not copied:
                break
            done += copied
        # Between disks of different kinds it cannot.
        shutil.copyfileobj(source, sink)
