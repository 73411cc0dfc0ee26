"""Where the replicas of a server run, and how they and its fronts find each other."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from shoal.runtime import Code, LocalRuntime, Runtime
from shoal.serve.fronts.entrance import EntrancePlace
from shoal.serve.host.remote_replicas import RemoteReplicas
from shoal.serve.host.settings import ServeSettings
from shoal.serve.replicas.replica import run_replica

# Replicas by the dozen share a machine's cores better than threads do.
_THREADS = 1


@dataclass(frozen=True, slots=True)
class Placement:
    """One server's choice.

    Attributes:
        runtime: starts the replicas.
        code: what each of them runs.
        entrances: for each front, where replicas come in.
        is_here: whether all of them are processes of this machine.
        close: gives back what was taken for them.
    """

    runtime: Runtime
    code: Code
    entrances: Sequence[EntrancePlace]
    is_here: bool
    close: Callable[[], None]


def place_replicas(
    settings: ServeSettings, folder: Path, home: LocalRuntime, is_planned: Callable[[str], bool]
) -> Placement:
    """Prepare for the replicas of a server.

    Args:
        settings: of the server.
        folder: of the server, where sockets may lie.
        home: the runtime for processes of this machine.
        is_planned: whether a source is one to be served, whose files may be given to replicas on other machines.

    Raises:
        UnsupportedError: what the runtime needs is not installed.
        ServeError: its nodes cannot reach this machine by the address that they know.
    """
    if settings.runtime == "local":
        paths = [str(folder / f"replicas-{rank}.sock") for rank in range(settings.fronts)]
        code = Code.of(run_replica, config={"socket_paths": paths, "threads": _THREADS})
        return Placement(home, code, paths, is_here=True, close=_nothing)
    remote = RemoteReplicas(settings.runtime, num_fronts=settings.fronts, is_planned=is_planned)
    code = remote.code(threads=_THREADS)
    return Placement(remote.runtime, code, remote.entrances, is_here=False, close=remote.close)


def _nothing() -> None:
    """A socket in the server's folder goes with it."""
