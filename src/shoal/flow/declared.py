"""The paths that a step's inputs name: what it may read without being reported."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath

from shoal.flow.handles import handles_in


def declared_paths(value: object) -> Iterator[str]:
    """Yield where the handles inside a value lie; a subset's or version's address stands for its whole folder."""
    for handle in handles_in(value):
        address = handle.address
        yield from (place for place in (address, address.partition("#")[0].rpartition("@")[0]) if place[:1] == os.sep)


def working_paths(arguments: Mapping[str, object]) -> Iterator[str]:
    """Yield the arguments that are paths: for parameters that do not count in the key, such as a folder to work in."""
    for value in arguments.values():
        if isinstance(value, str | PurePath):
            yield str(Path(value).absolute())
