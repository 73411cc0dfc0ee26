"""Where the members of one generation after another find each other."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from shoal.base import SharedBlock
from shoal.train.base import Group
from shoal.train.group.leftovers import new_name, sweep
from shoal.train.group.shared import SharedGroup
from shoal.train.group.solo import Solo

if TYPE_CHECKING:
    from shoal.train.group.rendezvous import Rendezvous

Kind = Literal["solo", "shared", "network"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Meeting:
    """What a member must know to join one generation.

    Attributes:
        kind: alone, all on one host, or over the network.
        name: for "shared" the token that begins the names of all blocks; for "network" "host:port/prefix" of the
            supervisor's store.
        rank: this member's, from 0.
        size: how many meet.
        generation: number of the generation, never used twice in a run.
    """

    kind: Kind
    name: str
    rank: int
    size: int
    generation: int


def join_group(meeting: Meeting, interrupted: Callable[[], bool]) -> Group:
    """Wait for the other members and return the group.

    Args:
        meeting: where and as whom.
        interrupted: asked at least every 5 ms while this member waits for another, now and in every later call; once
            it says True, the wait ends in PeerLostError.

    Raises:
        PeerLostError: `interrupted` said so before all had met, or a connection broke.
    """
    if meeting.kind == "solo":
        return Solo()
    if meeting.kind == "shared":
        return SharedGroup(meeting.name, meeting.rank, meeting.size, interrupted)
    # Loads torch.distributed, which a run on one host does without.
    from shoal.train.group.network import NetworkGroup

    return NetworkGroup(meeting.name, meeting.rank, meeting.size, interrupted)


class MeetingPlace:
    """The supervisor's side: it gives the names, and outlives every member. Not for several threads at once."""

    def __init__(self) -> None:
        """Give this place a name, and remove what others on this machine left that were killed."""
        sweep()
        self._token = new_name()
        self._rendezvous: Rendezvous | None = None

    def shared_name(self, generation: int) -> str:
        """The name of a meeting of kind "shared"."""
        return f"{self._token}-g{generation}-"

    def network_name(self, generation: int, hosts: Sequence[str] = ()) -> str:
        """The name of a meeting of kind "network" of members on these hosts; the first call begins to listen."""
        if self._rendezvous is None:
            from shoal.train.group.rendezvous import Rendezvous

            self._rendezvous = Rendezvous()
        return f"{self._rendezvous.address(hosts)}/generation-{generation}"

    def clean(self, generation: int) -> None:
        """Remove the names that killed members of a generation left; those who are attached keep their memory."""
        SharedBlock.unlink_all_named(self.shared_name(generation))

    def close(self) -> None:
        """Stop listening."""
        self._rendezvous = None
