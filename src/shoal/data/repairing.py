"""Repair of a dataset that may be too damaged to be opened: what says which files there are comes back first."""

import os
from pathlib import Path

from shoal.data.opening import open_dataset
from shoal.data.remote.location import is_url
from shoal.data.sampling.recipes import parse_address
from shoal.data.versions.mirror import restore_versions


def repair(path: str | os.PathLike[str], from_: str | os.PathLike[str] | None = None) -> tuple[str, ...]:
    """Bring damaged and missing files of a dataset back from its mirror or another copy, and return their names.

    Unlike `Dataset.repair` it needs no version that can be opened: manifests come back first, also those that are gone
    while others build on them, and then all that the version names. Every file is checked before it takes its place.

    Args:
        path: the folder, URL or address of the dataset, as for `open`.
        from_: a copy, a folder or a URL; None: the mirror.

    Raises:
        NotFoundError: something is damaged, and there is no mirror.
        ConflictError: a manifest is damaged, and the copy is one of another dataset.
        CorruptError: the copy is damaged too.
    """
    restored: tuple[str, ...] = ()
    if not is_url(path):
        address = None if os.path.isdir(path) else parse_address(os.fspath(path))  # noqa: PTH112 - Path raises for a name that is too long
        folder = Path(path if address is None else address[0]).expanduser().absolute()
        restored = restore_versions(folder, from_)
    return restored + open_dataset(path).repair(from_)
