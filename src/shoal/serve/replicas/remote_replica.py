"""The entry of a replica on another machine: as at home, but for the doors and the files of its models."""

from dataclasses import replace
from typing import TYPE_CHECKING

from shoal.runtime import Context
from shoal.serve.replicas.fetching import Fetcher
from shoal.serve.replicas.remote_front_link import Door, RemoteFrontLink
from shoal.serve.replicas.replica import Replica

if TYPE_CHECKING:
    from shoal.serve.replicas.loading import LoadedModel


def run_remote_replica(
    context: Context, *, address: str, ports: list[int], files_port: int, token: str, threads: int
) -> None:
    """Serve every front, wait for the successor of one that dies, end when told.

    Args:
        context: of this member.
        address: of the machine of the fronts and their supervisor.
        ports: where each front waits for replicas.
        files_port: where the supervisor gives the files of models.
        token: that both sides know.
        threads: that compute one batch.
    """
    # Only here: the supervisor names this entry, and shall not load ONNX Runtime for it.
    from shoal.serve.replicas.loading import load_model

    fetcher = Fetcher(address, files_port, token)

    def load(source: str) -> "LoadedModel":
        with fetcher.fetched(source) as place:
            # The front knows it by the name that the plan gives it.
            return replace(load_model(place, threads=threads), path=source)

    replica = Replica(context, load, RemoteFrontLink)
    replica.serve([Door(address, port, token) for port in ports])
    replica.close()
