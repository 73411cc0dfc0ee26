"""Which folders stand for a dataset in a store: nearly none does, and those pay nothing for being asked."""

import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from shoal.base import NotFoundError, decode, digest_json, encode, write_atomic

# What fetches from stores takes as long to load as a dataset to open: it is loaded when the first shadow is met.
if TYPE_CHECKING:
    from shoal.data.remote.location import Location
    from shoal.data.remote.retrying import Retrier
    from shoal.data.remote.shadow import Shadow
    from shoal.data.storage.shard import Shard

_ORIGIN = "origin.json"

_known: dict[Path, "Shadow"] = {}
_known_lock = threading.Lock()


def open_shadow(location: "Location", *, home: Path | None = None, retrier: "Retrier | None" = None) -> "Shadow":
    """Return the shadow of the dataset at a URL, in the home's cache; nothing is fetched yet."""
    from shoal.base import find_home  # the settings, of which an ordinary folder needs none
    from shoal.data.remote.shadow import Shadow

    parent = location.parent()
    place = digest_json([parent.url, parent.options]).removeprefix("b3:")[:16]
    folder = (home or find_home(create=True)) / "cache" / "datasets" / place / location.name
    _keep_origin(folder, parent)
    with _known_lock:
        if folder not in _known or retrier is not None:
            _known[folder] = Shadow(folder, location, retrier)
        return _known[folder]


def shadow_of(folder: Path) -> "Shadow | None":
    """Return the shadow that a dataset's folder is; None for ordinary folders, at next to no cost."""
    if (shadow := _known.get(folder)) is not None:
        return shadow
    # By the name first: ordinary datasets must not pay for a look at the disk.
    if folder.parent.parent.name != "datasets" or folder.parent.parent.parent.name != "cache":
        return None
    from shoal.data.remote.location import parse_location
    from shoal.data.remote.shadow import Shadow

    try:
        said: Mapping[str, str] = decode((folder.parent / _ORIGIN).read_bytes(), dict)
    except FileNotFoundError:
        return None
    with _known_lock:
        return _known.setdefault(folder, Shadow(folder, parse_location(said["url"]).child(folder.name)))


def shard_at(folder: Path, shard: "Shard") -> Path:
    """Return where a shard of the dataset in a folder lies on this machine; it is fetched where that is a shadow."""
    shadow = shadow_of(folder)
    return folder / "shards" / shard.file_name if shadow is None else shadow.shard_file(shard)


def file_at(folder: Path, key: str) -> Path:
    """Return where a small file of the dataset in a folder lies; one that a shadow lacks is fetched.

    Nothing is there when the store does not have it either.
    """
    path = folder / key
    if not path.exists() and (shadow := shadow_of(folder)) is not None:
        with suppress(NotFoundError):
            shadow.bring(key)
    return path


def bring_history(folder: Path, version: int) -> None:
    """Fetch all versions up to this one of the dataset in a folder; nothing is done where it is no shadow."""
    if (shadow := shadow_of(folder)) is not None:
        shadow.bring_history(version)


def restore_shadow(folder: Path, url: str) -> "Shadow":
    """Return the shadow of a URL in this folder, which may be another host's, or have been deleted."""
    if (shadow := shadow_of(folder)) is not None:
        return shadow
    from shoal.data.remote.location import parse_location
    from shoal.data.remote.shadow import Shadow

    location = parse_location(url)
    _keep_origin(folder, location.parent())
    with _known_lock:
        return _known.setdefault(folder, Shadow(folder, location))


def _keep_origin(folder: Path, parent: "Location") -> None:
    path = folder.parent / _ORIGIN
    if not path.exists():
        write_atomic(path, encode({"url": str(parent)}))
