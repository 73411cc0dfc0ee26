"""Where the members of a group combine what they bring: on their devices, or in host memory."""

from collections.abc import Callable, Sequence

import torch

from shoal.base import decode, encode
from shoal.train.base import Group
from shoal.train.device import identity
from shoal.train.group.solo import Solo
from shoal.train.group.staged import StagedGroup

_LOOPBACK = "127.0.0.1"


def place_group(
    group: Group, device: torch.device, interrupted: Callable[[], bool], warn: Callable[[str], None]
) -> Group:
    """Return a group with memory on this member's device; called by all members alike, just after they have met.

    On the CPU it is the group itself. Where each member has a GPU of its own it works over NCCL, else what is combined
    goes through host memory. The bits are the same.

    Args:
        group: just joined; of no other use afterwards.
        device: where this member's gradients are.
        interrupted: as for `join_group`.
        warn: told what the user should know, in the first member alone.

    Raises:
        PeerLostError: a member is gone.
    """
    if group.size == 1:
        return group if device.type == "cpu" else Solo(device)
    told = [*identity(device), "nccl" if _has_nccl(device) else ""]
    models, ids, backends = zip(*(decode(each, list[str]) for each in group.share(encode(told))), strict=True)
    if len(set(models)) > 1 and group.rank == 0:
        warn(f"not bit-identical: the workers compute on {', '.join(sorted(set(models)))}")
    if device.type == "cpu":
        return group
    if _are_apart(ids) and all(backends):
        return _accelerated(group, device, interrupted, warn)
    return StagedGroup(group, device)


def _are_apart(ids: Sequence[str]) -> bool:
    return all(ids) and len(set(ids)) == len(ids)


def _has_nccl(device: torch.device) -> bool:
    if device.type == "cpu":
        return False
    # With it comes much that runs on the CPU do without.
    import torch.distributed as dist

    return dist.is_nccl_available()


def _accelerated(
    group: Group, device: torch.device, interrupted: Callable[[], bool], warn: Callable[[str], None]
) -> Group:
    from shoal.train.group.accelerated import AcceleratedGroup, connect  # as above

    # A group across hosts knows this one's address; the others are on one host.
    host = str(getattr(group, "address", _LOOPBACK))
    found = connect(group, device, backend="nccl", host=host, interrupted=interrupted)
    if not isinstance(found, str):
        return AcceleratedGroup(group, device, found)
    if group.rank == 0:
        warn(f"gradients go through host memory, as NCCL cannot connect the workers' GPUs: {found}")
    return StagedGroup(group, device)
