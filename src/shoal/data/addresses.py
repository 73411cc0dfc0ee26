"""From the URL of a dataset to the local folder that stands for it, with all that is needed to open a version there."""

import os
from collections.abc import Mapping
from pathlib import Path

from shoal.base import ConfigError, InputError
from shoal.data.remote.location import is_url, parse_location, split_address
from shoal.data.remote.retrying import Retrier
from shoal.data.remote.shadow import Shadow
from shoal.data.remote.shadows import open_shadow
from shoal.data.versions.manifest import base_of, manifest_path


class LocalAddress(str):
    """An address on this machine, that of a shadow, which names its version."""

    __slots__ = ()


def local_address(
    url: str | os.PathLike[str],
    version: int | None = None,
    options: Mapping[str, object] | None = None,
    *,
    home: Path | None = None,
    retrier: Retrier | None = None,
) -> LocalAddress:
    """Fetch what opening a version takes and return its address on this machine; no shard is fetched.

    Args:
        url: of a dataset, also with a version and a subset, as `Dataset.address` gives it.
        version: the version's number; None: that of the URL, else the newest.
        options: for the store.
        home: whose cache to use; None: the `.shoal` folder in charge.
        retrier: how patient to be.

    Raises:
        NotFoundError: no dataset is there, or it lacks the version.
        RemoteError: the store does not answer.
    """
    text, named, rest = split_address(os.fspath(url))
    if named is not None and version is not None:
        raise InputError(f"{url} names a version, and version={version} another", next_step="leave one of them out")
    shadow = open_shadow(parse_location(text, options), home=home, retrier=retrier)
    number = shadow.bring_versions(named if version is None else version)
    _bring_bases(shadow, number)
    return LocalAddress(f"{shadow.folder}@{number}" + (f"#{rest}" if rest else ""))


def folder_for_writing(path: str | os.PathLike[str], options: Mapping[str, object] | None = None) -> Path:
    """Return the folder to write a dataset in: the path itself, or for a URL the shadow, whose versions go there.

    Raises:
        UnsupportedError: the URL is that of a web server.
    """
    if not is_url(path):
        if options:
            raise ConfigError(f"options={dict(options)} are for URLs, and {path} is none", next_step="leave them out")
        return Path(path).expanduser().absolute()
    shadow = open_shadow(parse_location(os.fspath(path), options))
    shadow.check_writable()
    return shadow.folder


def _bring_bases(shadow: Shadow, version: int) -> None:
    base = base_of(shadow.folder, version)
    while base is not None:
        if not manifest_path(shadow.folder, base).exists():
            shadow.bring_versions(base)
        base = base_of(shadow.folder, base)
