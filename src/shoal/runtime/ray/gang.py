"""Members on a cluster that are started together."""

from collections.abc import Mapping, Sequence
from typing import Any

from shoal.runtime.base import Resources
from shoal.runtime.gang import LocalGang
from shoal.runtime.ray.connecting import actor_options, ray
from shoal.runtime.ray.hosting import RayHost
from shoal.runtime.ray.placing import Room, bundle_of
from shoal.runtime.remote.child import RemoteChild, wait_until_there
from shoal.runtime.remote.reception import Reception
from shoal.runtime.running import Launch


class Hosts:
    """Starts members of one gang or service, each with a keeper in an actor of its own. Any thread may call."""

    def __init__(self, reception: Reception, needs: Mapping[str, Resources], room: Room | None) -> None:
        """Begin with nobody.

        Args:
            reception: where the keepers call.
            needs: what a member of each role asks for.
            room: where members find their places; without one, Ray chooses for each by itself.
        """
        self._reception = reception
        self._needs = needs
        self._room = room

    def start(self, launch: Launch) -> RemoteChild:
        """One more member; returns before it is there."""
        need = self._needs[launch.member.role]
        options = actor_options(need)
        number = self._reception.new_number()
        if self._room is None:
            return RemoteChild(launch, RayHost(self._reception, number, options))
        return RemoteChild(launch, _PlacedHost(self._reception, number, options, self._room, need))


class _PlacedHost(RayHost):
    """A keeper in a gang's own room."""

    def __init__(self, reception: Reception, number: int, options: dict[str, Any], room: Room, need: Resources) -> None:
        self._room, self._bundle = room, bundle_of(need)
        self._place: tuple[Any, int] | None = room.take(self._bundle)
        group, index = self._place
        strategy = ray.util.scheduling_strategies.PlacementGroupSchedulingStrategy(
            group, placement_group_bundle_index=index
        )
        super().__init__(reception, number, {**options, "scheduling_strategy": strategy})

    def release(self) -> None:
        super().release()
        place, self._place = self._place, None
        if place is not None:
            self._room.give_back(self._bundle, place)


class RayGang(LocalGang):
    """Children of actors; keeps the promises of `Gang`."""

    def __init__(self, launches: Sequence[Launch], hosts: Hosts, room: Room) -> None:
        """Start them all and wait until they are there, or raise WorkerError and leave none."""
        self._room = room
        super().__init__(launches, hosts.start)
        try:
            wait_until_there(self._group.children())
        except BaseException:
            self.stop(0.0)
            raise

    def stop(self, grace_s: float = 5.0) -> None:
        """Return when every member is gone, and give their room back."""
        super().stop(grace_s)
        self._room.close()
