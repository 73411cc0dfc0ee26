"""Garbage in a dataset's folder: versions that are wanted no more, and files that no version names."""

import re
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from shoal.base import InputError, NotFoundError, SystemClock, UnsupportedError, fsync_folder
from shoal.data.remote.location import is_url
from shoal.data.sampling.derived import FOLDER as SUBSETS
from shoal.data.storage.latch import latch
from shoal.data.versions.manifest import base_of, load_manifest, manifest_path, version_numbers, write_whole
from shoal.data.versions.staging import claimed_names, profile_name

# A kill between writing and renaming leaves a hidden file; while the latch is held, nobody is at work on one.
_HALF_WRITTEN = re.compile(r"\..+\.tmp")
_FOLDERS = ("shards", "profiles", "preparations")
# Subsets are made without the latch, and one that is at work writes all the time: only what rests for long is a relic.
_RELIC_AGE = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Garbage:
    """What can go, or has gone: version numbers, file names relative to the dataset's folder, and their bytes.

    `versions_kept` are those that stay, and with them every file that they name.
    """

    versions: tuple[int, ...]
    versions_kept: tuple[int, ...]
    files: tuple[str, ...]
    size_bytes: int


def collect_garbage(
    path: str | Path, *, keep: Collection[int] | None = None, keep_versions: int | None = None, delete: bool = False
) -> Garbage:
    """Return what no kept version needs, and with `delete=True` remove it.

    Without `delete` nothing changes: look at the plan first. The newest version always stays, and so does all that an
    ingest or append at work has written: they may run at the same time on this machine. A kill while files are
    removed leaves every kept version whole, and the next call removes the rest. Whoever has a removed version open
    may find its shards gone. What subsets have kept in `subsets/` stays, but for what a kill left half-written there a
    day ago or more; all of it is made again when it is needed, and may be deleted at any time.

    Args:
        path: the dataset's folder.
        keep: numbers of versions that stay besides the newest; None with no `keep_versions`: all of them.
        keep_versions: the newest so many stay as well.
        delete: remove what is returned.

    Raises:
        NotFoundError: no dataset is there, or it lacks a version of `keep`.
        CorruptError: a kept version's file is damaged, so what it needs is not known; nothing was removed.
    """
    if is_url(path):
        raise UnsupportedError(
            f"cannot collect garbage in {path}: only a folder's writers can be told to wait",
            next_step="mirror the versions that are wanted to a new place, and remove the old one",
        )
    folder = Path(path).expanduser().absolute()
    if keep_versions is not None and keep_versions < 1:
        raise InputError(f"keep_versions={keep_versions} must be >= 1", next_step="the newest version always stays")
    if not version_numbers(folder):
        raise NotFoundError(f"there is no dataset in {folder}", next_step="check the path")
    with latch(folder):
        # Claims before versions: a shard may pass from a claim to a version meanwhile, never the other way.
        claimed = claimed_names(folder)
        versions = version_numbers(folder)
        kept = _kept(folder, versions, keep, keep_versions)
        dropped = [number for number in versions if number not in kept]
        needed = _needed(folder, kept, claimed)
        files = [path for path in _candidates(folder) if path.relative_to(folder).as_posix() not in needed]
        gone = [*(manifest_path(folder, number) for number in dropped), *files]
        plan = Garbage(
            versions=tuple(dropped),
            versions_kept=tuple(kept),
            files=tuple(path.relative_to(folder).as_posix() for path in gone),
            size_bytes=sum(path.stat().st_size for path in gone),
        )
        if delete:
            _remove(folder, kept, dropped, files)
    return plan


def _kept(folder: Path, versions: list[int], keep: Collection[int] | None, keep_versions: int | None) -> list[int]:
    if keep is None and keep_versions is None:
        return versions
    unknown = sorted(set(keep or ()) - set(versions))
    if unknown:
        raise NotFoundError(
            f"cannot keep {', '.join(f'{folder.name}@{number}' for number in unknown)}: the versions are "
            f"{', '.join(map(str, versions))}",
            next_step="name versions that are there",
        )
    return sorted({versions[-1], *versions[-(keep_versions or 1) :], *(keep or ())})


def _needed(folder: Path, kept: list[int], claimed: set[str]) -> set[str]:
    needed = {f"shards/{name}" for name in claimed}
    for number in kept:
        manifest = load_manifest(folder, number)
        needed |= {f"shards/{shard.file_name}" for shard in manifest.shards}
        needed.add(f"profiles/{profile_name(manifest.profile)}")
        if manifest.preparation is not None:
            needed.add(f"preparations/{manifest.preparation.removeprefix('b3:')}.json")
    return needed


def _candidates(folder: Path) -> Iterator[Path]:
    for name in _FOLDERS:
        if (folder / name).is_dir():
            yield from sorted(path for path in (folder / name).iterdir() if path.is_file())
    yield from sorted(path for path in (folder / "versions").iterdir() if _HALF_WRITTEN.fullmatch(path.name))
    if (folder / SUBSETS).is_dir():
        young = (SystemClock().now() - _RELIC_AGE).timestamp()
        for path in sorted(path for path in (folder / SUBSETS).iterdir() if _HALF_WRITTEN.fullmatch(path.name)):
            # Its writer may have given it its name meanwhile.
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < young:
                    yield path


def _remove(folder: Path, kept: list[int], dropped: list[int], files: list[Path]) -> None:
    # In this order a kill at any point leaves kept versions whole: first they stop needing what goes, then it goes.
    for number in kept:
        if base_of(folder, number) in dropped:
            write_whole(folder, number)
    for number in reversed(dropped):
        # Newest first, as a version may build on the one before.
        manifest_path(folder, number).unlink()
    fsync_folder(folder / "versions")
    for path in files:
        path.unlink(missing_ok=True)
