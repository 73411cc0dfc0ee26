"""A second copy of a dataset, somewhere else: filled file by file, and where damaged files come back from."""

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from shoal.base import (
    CorruptError,
    InputError,
    NotFoundError,
    ShardMissingError,
    atomic_file,
    check_file,
    decode,
    report_full_storage,
    write_atomic,
)
from shoal.base import encode as encode_json
from shoal.data.prepare.fitted import FittedPreparation
from shoal.data.remote.place import RemotePlace
from shoal.data.remote.shadow import Shadow
from shoal.data.remote.shadows import file_at, shadow_of, shard_at
from shoal.data.storage.seal import check_seal
from shoal.data.storage.shard import Shard, check_shard
from shoal.data.versions.lineage import Link, check_belongs, check_same_history, read_link
from shoal.data.versions.manifest import Manifest, base_of, load_manifest, manifest_path, version_numbers
from shoal.data.versions.preparations import FOLDER as PREPARATIONS
from shoal.data.versions.preparations import load_preparation
from shoal.data.versions.staging import load_profile, place_shard, profile_name, work_folder

_FILE = "mirror.json"


class Place(Protocol):
    """Where whole files are kept under names such as "shards/1f….arrow"; what is put under a name never changes."""

    def has(self, name: str) -> bool:
        """Whether a whole file is there."""
        ...

    def names(self, folder: str) -> list[str]:
        """Return the names of all files in a folder such as "versions", sorted; empty when there is none."""
        ...

    def get(self, name: str, target: Path) -> None:
        """Write the file's bytes to `target`; NotFoundError when there is none."""
        ...

    def put(self, name: str, source: Path) -> None:
        """Keep the file's bytes; when this returns they are durable, before that nobody sees them."""
        ...


class FolderPlace:
    """A folder as a place; it can be opened as a dataset itself."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __str__(self) -> str:
        return str(self.folder)

    def has(self, name: str) -> bool:
        """Whether a whole file is there."""
        return (self.folder / name).is_file()

    def names(self, folder: str) -> list[str]:
        """Return the names of all files in a folder, sorted; empty when there is none."""
        return sorted(f"{folder}/{path.name}" for path in (self.folder / folder).glob("*") if path.is_file())

    def get(self, name: str, target: Path) -> None:
        """Write the file's bytes to `target`; NotFoundError when there is none."""
        try:
            with report_full_storage(target):
                shutil.copyfile(self.folder / name, target)
        except FileNotFoundError as error:
            raise NotFoundError(
                f"{self.folder} has no {name}", next_step="fill the mirror while the dataset is whole"
            ) from error

    def put(self, name: str, source: Path) -> None:
        """Keep the file's bytes; when this returns they are durable, before that nobody sees them."""
        with source.open("rb") as given, atomic_file(self.folder / name) as kept:
            shutil.copyfileobj(given, kept, 1 << 20)


@dataclass(frozen=True, slots=True)
class _Recorded:
    location: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """One file of a version that is missing or damaged: its name inside the dataset's folder, and what was found."""

    name: str
    is_missing: bool
    found: str


def open_place(location: str | os.PathLike[str]) -> Place:
    """Return the place that a location names."""
    text = os.fspath(location)
    if "://" in text:
        # Of an unknown kind, too: that is told there.
        return RemotePlace(text)
    return FolderPlace(Path(text).expanduser().absolute())


def recorded_mirror(folder: Path) -> str | None:
    """Return where a dataset's second copy is, or None when it has none."""
    path = folder / _FILE
    if not path.exists():
        return None
    try:
        return decode(path.read_bytes(), _Recorded).location
    except InputError as error:
        raise CorruptError(
            f"cannot read {path}: {error.message}", next_step="record the mirror again: dataset.mirror(location)"
        ) from error


def fill_mirror(folder: Path, location: str | os.PathLike[str] | None) -> str:
    """Copy what the mirror lacks of all versions, record where it is, and return that.

    Every shard is checked before it is copied. Versions come last, so that whatever the mirror names it also holds;
    a copy that was cut short goes on where it ended.

    Args:
        folder: the dataset's.
        location: where to; None: where it is recorded to be.

    Raises:
        InputError: no location is given and none is recorded, or it is the dataset itself.
        ConflictError: another dataset is there.
        CorruptError: a shard is damaged; repair it first.
        StorageFullError: no room there.
    """
    known = location if location is not None else recorded_mirror(folder)
    if known is None:
        raise InputError(f"{folder} has no mirror yet", next_step="say where: dataset.mirror('/another/disk/clicks')")
    text = os.fspath(known) if "://" in os.fspath(known) else str(Path(known).expanduser().absolute())
    if text == str(folder):
        raise InputError(f"{folder} cannot be its own mirror", next_step="name another folder, best on another disk")
    place = open_place(text)
    if (shadow := shadow_of(folder)) is not None:
        shadow.bring_all_versions()
    _check_ours(folder, place, text)
    for number in version_numbers(folder):
        manifest = load_manifest(folder, number)
        for shard in manifest.shards:
            if not place.has(name := f"shards/{shard.file_name}"):
                check_shard(path := shard_at(folder, shard), shard)
                place.put(name, path)
        for name in _small_names(manifest):
            if not place.has(name):
                place.put(name, file_at(folder, name))
        if not place.has(name := _version_name(number)):
            place.put(name, folder / name)
    write_atomic(folder / _FILE, encode_json(_Recorded(text)))
    return text


def find_damage(folder: Path, manifest: Manifest, locate: Callable[[Shard], Path] | None = None) -> tuple[Damage, ...]:
    """Read all that a version names, whatever was checked before, and return every file that is not as it should be.

    Args:
        folder: the dataset's.
        manifest: the version.
        locate: gives a shard's file, where it is not simply in the folder; it may fetch it.
    """

    def check(shard: Shard) -> None:
        check_shard(locate(shard) if locate else folder / "shards" / shard.file_name, shard)

    checks: list[tuple[str, Callable[[], object]]] = [
        (f"shards/{shard.file_name}", partial(check, shard)) for shard in manifest.shards
    ]
    checks.append((f"profiles/{profile_name(manifest.profile)}", partial(load_profile, folder, manifest.profile)))
    checks += [(name, partial(load_preparation, folder, _digest_in(name))) for name in _prepared(manifest)]
    found = []
    for name, is_whole in checks:
        try:
            is_whole()
        except (ShardMissingError, CorruptError, NotFoundError) as error:
            # A shard that lies in a store is not in the folder, and yet it may be damaged.
            is_gone = not name.startswith("shards/") and not (folder / name).exists()
            is_missing = is_gone or not isinstance(error, CorruptError)
            found.append(Damage(name=name, is_missing=is_missing, found=error.message))
    return tuple(found)


def verify(folder: Path, manifest: Manifest, locate: Callable[[Shard], Path] | None = None) -> None:
    """Return when every file of a version is whole; `locate` is that of `find_damage`.

    Raises:
        ShardMissingError: files are missing, and none is damaged.
        CorruptError: files are damaged; either message names all of them.
    """
    if not (damage := find_damage(folder, manifest, locate)):
        return
    kind = ShardMissingError if all(found.is_missing for found in damage) else CorruptError
    raise kind(
        f"{len(damage)} files of {folder}@{manifest.version} are damaged or missing: "
        + "; ".join(found.found for found in damage),
        next_step=_next_step(recorded_mirror(folder)),
    )


def repair(folder: Path, manifest: Manifest, location: str | os.PathLike[str] | None = None) -> tuple[str, ...]:
    """Bring every damaged or missing file of a version back, and return their names; whole files are not touched.

    Files of other versions' manifests that are damaged come back too. What is fetched is checked before it is placed.

    Args:
        folder: the dataset's.
        manifest: the version.
        location: a copy of the dataset; None: its mirror.

    Raises:
        NotFoundError: something is damaged, and there is no mirror.
        ConflictError: a manifest is damaged, and what is named is a copy of another dataset.
        CorruptError: the copy lacks a file or has it damaged too; what could be repaired is.
    """
    damage = find_damage(folder, manifest)
    manifests = damaged_versions(folder)
    if not damage and not manifests:
        return ()
    known = location if location is not None else recorded_mirror(folder)
    if known is None:
        raise NotFoundError(
            f"cannot repair {folder}@{manifest.version}: {len(damage) + len(manifests)} files are damaged or missing "
            "and there is no mirror",
            next_step=_next_step(None),
        )
    place = open_place(known)
    shards = {f"shards/{shard.file_name}": shard for shard in manifest.shards}
    failures = []
    names = [*(_version_name(number) for number in manifests), *(found.name for found in damage)]
    for name in names:
        try:
            _bring_back(folder, place, name, shards.get(name))
        except (CorruptError, NotFoundError) as error:
            failures.append(error)
    if failures:
        raise CorruptError(
            f"{len(failures)} of {len(names)} damaged files of {folder} cannot be repaired from {known}: "
            + "; ".join(error.message for error in failures),
            next_step="name another copy with repair(from_=...), or ingest the same source again",
        )
    return tuple(names)


def repair_stored(
    shadow: Shadow, manifest: Manifest, location: str | os.PathLike[str] | None = None
) -> tuple[str, ...]:
    """Bring back what is damaged of a version in a store, or of what was fetched from there, and return the names.

    Args:
        shadow: stands for the dataset.
        manifest: the version.
        location: a copy, for what is damaged in the store itself; None: the mirror, if there is one.

    Raises:
        CorruptError: files are damaged in the store, and there is no whole copy of them; what could be repaired is.
        UnsupportedError: the store is a web server, and it has damaged files.
    """
    folder = shadow.folder
    known = location if location is not None else recorded_mirror(folder)
    shards = {f"shards/{shard.file_name}": shard for shard in manifest.shards}
    damage = [found.name for found in find_damage(folder, manifest, shadow.shard_file)]
    names = [*(_version_name(number) for number in damaged_versions(folder)), *damage]
    failures = []
    for name in names:
        try:
            _bring_from_store(shadow, name, shards.get(name))
        except (CorruptError, ShardMissingError, NotFoundError) as error:
            if known is None:
                failures.append(error)
                continue
            try:
                with work_folder(folder) as work:
                    whole = _fetched(folder, open_place(known), name, shards.get(name), work)
                    shadow.replace_in_store(name, whole)
                _bring_from_store(shadow, name, shards.get(name))
            except (CorruptError, ShardMissingError, NotFoundError) as second:
                failures.append(second)
    if failures:
        raise CorruptError(
            f"{len(failures)} of {len(names)} damaged files of {shadow.location} cannot be repaired"
            + (f" from {known}: " if known is not None else ", as they are damaged in the store: ")
            + "; ".join(error.message for error in failures),
            next_step="name another copy with repair(from_=...), or ingest the same source again",
        )
    return tuple(names)


def _bring_from_store(shadow: Shadow, name: str, shard: Shard | None) -> None:
    if shard is not None:
        check_shard(shadow.fetch_again(shard), shard)
    else:
        _check_small(shadow.bring_again(name), name)


def restore_versions(folder: Path, location: str | os.PathLike[str] | None = None) -> tuple[str, ...]:
    """Bring damaged manifests back from a copy, so that the dataset can be opened; return the names of their files.

    So do those that are gone while others build on them.
    """
    known = location if location is not None else recorded_mirror(folder)
    restored: list[str] = []
    # One that comes back may build on another that is gone.
    while numbers := damaged_versions(folder) or _missing_bases(folder):
        if known is None:
            raise NotFoundError(f"cannot repair {folder}: there is no mirror", next_step=_next_step(None))
        for name in map(_version_name, numbers):
            _bring_back(folder, open_place(known), name, None)
            restored.append(name)
    return tuple(restored)


def damaged_versions(folder: Path) -> list[int]:
    """Return the versions whose own files do not have their seal."""
    found = []
    for number in version_numbers(folder):
        path = manifest_path(folder, number)
        try:
            check_seal(path.read_bytes(), path)
        except CorruptError:
            found.append(number)
    return found


def _missing_bases(folder: Path) -> list[int]:
    known = version_numbers(folder)
    bases = {base_of(folder, number) for number in known}
    return sorted(base for base in bases if base is not None and base not in known)


def _bring_back(folder: Path, place: Place, name: str, shard: Shard | None) -> None:
    with work_folder(folder) as work:
        fetched = _fetched(folder, place, name, shard, work)
        if shard is not None:
            place_shard(fetched, folder, shard)
        else:
            write_atomic(folder / name, fetched.read_bytes())


def _fetched(folder: Path, place: Place, name: str, shard: Shard | None, work: Path) -> Path:
    fetched = work / Path(name).name
    place.get(name, fetched)
    if shard is not None:
        check_shard(fetched, shard)
    else:
        _check_small(fetched, name)
    if name.startswith("versions/"):
        # All else is asked for by its digest; a manifest by its number alone, which every dataset has.
        link = read_link(fetched.read_bytes(), f"the copy of {name}")
        check_belongs(folder, link, int(Path(name).stem), str(place))
    return fetched


def _check_ours(folder: Path, place: Place, text: str) -> None:
    stems = [Path(name).stem for name in place.names("versions") if name.endswith(".json")]
    theirs: dict[int, Link] = {}
    if not (numbers := [int(stem) for stem in stems if stem.isdecimal()]):
        return
    with work_folder(folder) as work:
        for number in numbers:
            place.get(_version_name(number), fetched := work / f"{number}.json")
            # One that is damaged there tells nothing.
            with suppress(CorruptError):
                theirs[number] = read_link(fetched.read_bytes(), fetched)
    check_same_history(folder, text, theirs, is_known=recorded_mirror(folder) == text)


def _check_small(path: Path, name: str) -> None:
    if name.startswith("versions/"):
        check_seal(path.read_bytes(), f"the copy of {name}")
    elif name.startswith(f"{PREPARATIONS}/"):
        _check_preparation(path.read_bytes(), name)
    else:
        check_file(path, _digest_in(name))


def _check_preparation(data: bytes, name: str) -> None:
    # Its digest is of what it does: where it was fitted is in the file too, and does not count.
    if (found := FittedPreparation.from_json(data).digest) != _digest_in(name):
        raise CorruptError(
            f"the copy of {name} is another preparation, {found}", next_step="name another copy with repair(from_=...)"
        )


def _small_names(manifest: Manifest) -> list[str]:
    return [f"profiles/{profile_name(manifest.profile)}", *_prepared(manifest)]


def _prepared(manifest: Manifest) -> list[str]:
    digest = manifest.preparation
    return [] if digest is None else [f"{PREPARATIONS}/{digest.removeprefix('b3:')}.json"]


def _digest_in(name: str) -> str:
    return f"b3:{Path(name).stem}"


def _version_name(number: int) -> str:
    return f"versions/{number:06d}.json"


def _next_step(mirror: str | None) -> str:
    if mirror is not None:
        return f"dataset.repair() brings them back from {mirror}"
    return (
        "bring them back from a copy with dataset.repair(from_=...), or ingest the same source again (in a flow: run "
        "it with force=True); from then on keep one with dataset.mirror(location)"
    )
