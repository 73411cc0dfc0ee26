"""Which files a user means: a path, several, a pattern, a folder or URLs."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from shoal.base import SourceError
from shoal.data.remote.location import SCHEMES, is_url
from shoal.data.sources.inputs import Input

_PATTERN = frozenset("*?[")
Place = str | os.PathLike[str]


def find_inputs(places: Place | Sequence[Place], suffixes: Sequence[str] = ()) -> tuple[Input, ...]:
    """Return the files that are meant, each pattern and each folder in the order of names.

    Args:
        places: a path or a URL, or several; `*`, `?`, `[...]` and `**` make a pattern unless a file bears that name.
        suffixes: which files of a folder are meant; empty: all of them, and they must be of one kind.

    Raises:
        SourceError: no file is there, or none matches; the message names the path or the pattern.
    """
    several = [places] if isinstance(places, str | os.PathLike) else list(places)
    if not several:
        raise SourceError("cannot read from no files: the list is empty", next_step="give at least one path")
    return tuple(file for place in several for file in _found(os.fspath(place), suffixes))


def _found(place: str, suffixes: Sequence[str]) -> list[Input]:
    if is_url(place):
        return _found_remote(place, suffixes)
    if "://" in place:
        raise SourceError(
            f"cannot read {place}: URLs begin with one of {', '.join(sorted(SCHEMES))}",
            next_step="fetch the file yourself and give its path",
        )
    path = Path(place).expanduser().absolute()
    if path.is_dir():
        if any((path / "versions").glob("[0-9]*.json")):
            raise SourceError(
                f"cannot read files of {path}: it is a dataset itself",
                next_step=f"give it opened, as shoal.data.open({place!r})",
            )
        return _of_folder([Input(entry) for entry in sorted(path.iterdir()) if entry.is_file()], place, suffixes)
    if path.exists():
        return [Input(path)]
    if not _PATTERN & set(place):
        raise SourceError(f"cannot read {path}: there is no such file", next_step="check the path")
    anchor = next(parent for parent in path.parents if not _PATTERN & set(str(parent)))
    matches = sorted(entry for entry in anchor.glob(str(path.relative_to(anchor))) if entry.is_file())
    if not matches:
        raise SourceError(
            f"cannot read {place}: no file matches this pattern in {anchor}",
            next_step="check the pattern and the folder",
        )
    return [Input(match) for match in matches]


def _found_remote(place: str, suffixes: Sequence[str]) -> list[Input]:
    # What follows "?" are options of a store, and a part of a web server's address.
    path = place if place.lower().startswith("http") else place.partition("?")[0]
    is_folder = path.endswith("/")
    # "?" begins the query of a web address, so there only "*" makes a pattern.
    if not is_folder and "*" not in place:
        return [Input(place)]
    from shoal.data.remote.listing import list_url  # a source on this machine does not load the clients

    found = [Input(url) for url in sorted(list_url(place))]
    if not found:
        raise SourceError(f"cannot read {place}: nothing is there", next_step="check the address")
    return _of_folder(found, place, suffixes) if is_folder else found


def _of_folder(files: list[Input], place: str, suffixes: Sequence[str]) -> list[Input]:
    visible = [file for file in files if not file.title.startswith((".", "_"))]
    chosen = [file for file in visible if not suffixes or file.suffix in suffixes]
    if not chosen:
        kinds = f" with a suffix of {', '.join(suffixes)}" if suffixes else ""
        raise SourceError(f"cannot read {place}: the folder holds no files{kinds}", next_step="check the path")
    kinds_found = Counter(file.suffix for file in chosen)
    if not suffixes and len(kinds_found) > 1:
        listed = ", ".join(f"{count} {suffix or 'without suffix'}" for suffix, count in kinds_found.most_common())
        raise SourceError(
            f"cannot read {place}: the folder holds files of several kinds ({listed})",
            next_step=f"say which, for example {place.rstrip('/')}/*{kinds_found.most_common(1)[0][0]}",
        )
    return chosen
