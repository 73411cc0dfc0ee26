"""Fetching in a fresh process: for a forked child, whose copy of the store's engine has lost its threads."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from shoal.base import RemoteError, decode, encode
from shoal.data.remote.fetching import Content, fetch_file
from shoal.data.remote.location import parse_location
from shoal.data.remote.objects import ObjectStore


@dataclass(frozen=True, slots=True)
class _Request:
    url: str
    key: str
    target: str
    content: Content


def fetch_elsewhere(store: ObjectStore, key: str, target: Path, content: Content) -> None:
    """Do what `fetch_file` does, in a process of its own; its start costs a fraction of a second.

    Raises:
        RemoteError: it failed; the message is the other process's.
    """
    request = _Request(str(store.location), key, str(target), content)
    # Its own interpreter and a plain list of arguments: nothing of this process but the request goes over.
    done = subprocess.run(
        [sys.executable, "-m", "shoal.data.remote.elsewhere"], input=encode(request), capture_output=True, check=False
    )
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise RemoteError(
            f"cannot fetch {store.location.child(key)} in a process of its own: {said[-1] if said else 'it died'}",
            next_step="start workers by spawn instead of fork, for example DataLoader(multiprocessing_context='spawn')",
        )


def main() -> None:
    """Fetch what the request on standard input names."""
    request = decode(sys.stdin.buffer.read(), _Request)
    fetch_file(ObjectStore(parse_location(request.url)), request.key, Path(request.target), request.content)


if __name__ == "__main__":
    main()
