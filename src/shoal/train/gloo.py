"""How the members of a group find each other: torch.distributed's gloo, which needs no accelerator."""

import socket
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]  # public, but not marked so

from shoal.train.base import Group, PeerLostError
from shoal.train.shared_group import SharedGroup

_HOST = "127.0.0.1"


class MeetingPlace:
    """Where the members of one generation after another find each other.

    It lives in the supervisor, so no worker's death takes it away.
    """

    def __init__(self) -> None:
        self._store = TCPStore(_HOST, 0, is_master=True, wait_for_workers=False)

    @property
    def port(self) -> int:
        """The TCP port on the loopback interface."""
        return self._store.port


@dataclass(frozen=True, slots=True)
class Solo:
    """The group of one, which needs no connection."""

    rank: int = 0
    size: int = 1

    def exchange(self, mine: torch.Tensor, everyone: Sequence[torch.Tensor]) -> None:
        """Copy."""
        everyone[0].copy_(mine)

    def close(self) -> None:
        """Nothing to let go of."""


def join_group(*, port: int, generation: int, rank: int, size: int) -> Group:
    """Wait for the other members of this generation and connect to them.

    Raises:
        PeerLostError: a member died before all had met.
    """
    if size == 1:
        return Solo()
    try:
        store = TCPStore(_HOST, port, is_master=False)
        # A prefix per generation: what a dead generation left in the store must not answer the next one's questions.
        prefixed = PrefixStore(f"generation-{generation}", store)
        dist.init_process_group("gloo", store=prefixed, rank=rank, world_size=size)
    except RuntimeError as error:
        raise PeerLostError(str(error)) from None
    return SharedGroup(rank, size)


def group_environment() -> dict[str, str]:
    """Variables that keep gloo on the loopback interface, where it would otherwise look up this host's name."""
    names = {name for _, name in socket.if_nameindex()} & {"lo", "lo0"}
    return {"GLOO_SOCKET_IFNAME": names.pop()} if names else {}
