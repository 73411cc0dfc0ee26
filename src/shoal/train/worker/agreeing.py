"""How the members of a new generation come to hold the same state: that of the most advanced of them."""

from collections.abc import Callable

import msgspec

from shoal.train.base import Group, Position, TrainState
from shoal.train.saving.packing import pack_state, unpack_state
from shoal.train.worker.diary import Diary


def agree(state: TrainState, diary: Diary, group: Group, *, checkpoint_step: int, load: Callable[[], None]) -> bool:
    """Bring every member to the same state; whether this one's was replaced.

    A survivor may be one step ahead of another: it got through the exchange in which a third one died. Nothing that
    anybody has finished is done again.

    Args:
        state: this member's.
        diary: this member's; whoever gets the state gets this too.
        group: just joined.
        checkpoint_step: the step of the checkpoint that the supervisor knows to be whole, -1 for none.
        load: overwrites the state with it.
    """
    positions = _share_positions(state, group)
    is_copied = False
    if max(positions)[0] < checkpoint_step:
        # Nobody has what the checkpoint has: all who held it are gone.
        load()
        is_copied = True
        positions = _share_positions(state, group)
    best = max(positions)
    if min(positions) == best:
        return is_copied
    root = positions.index(best)
    is_root = group.rank == root
    data = group.broadcast(pack_state(state) if is_root else None, root)
    entries = group.share(diary.to_bytes() if is_root else b"")[root]
    if positions[group.rank] == best:
        return is_copied
    unpack_state(data, state)
    diary.replace(entries)
    return True


def _share_positions(state: TrainState, group: Group) -> list[tuple[int, ...]]:
    return [tuple(msgspec.json.decode(told)) for told in group.share(msgspec.json.encode(_order(state.position)))]


def _order(position: Position) -> tuple[int, int, int]:
    """Later positions are larger: an epoch ends after its last step, and once it was measured."""
    return position.step, position.epoch, position.validated_step
