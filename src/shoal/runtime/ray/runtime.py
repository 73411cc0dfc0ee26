"""The runtime on a Ray cluster.

Each member has an actor on some node, which has shoal installed; the actor is the member's keeper, and the member a
child process of it (`remote`). Code travels by value to nodes of this one cluster, which is trusted as our own
processes are.
"""

import threading
from collections.abc import Mapping

from shoal.base import ConfigError
from shoal.runtime.base import Backoff, Member, Resources
from shoal.runtime.code import Code
from shoal.runtime.ray.connecting import connect, own_address
from shoal.runtime.ray.gang import Hosts, RayGang
from shoal.runtime.ray.placing import Room, bundle_of
from shoal.runtime.ray.pool import RayPool
from shoal.runtime.ray.service import RayService
from shoal.runtime.remote.reception import Reception
from shoal.runtime.running import Launch


class RayRuntime:
    """Members on the nodes of a Ray cluster: the one that this process is connected to, else the one at `address`.

    Without either, Ray finds the cluster that RAY_ADDRESS names, or starts one on this machine. Members call this
    process over TCP: its machine must be reachable from the nodes.
    """

    def __init__(self, address: str | None = None) -> None:
        connect(address)
        self._address = address
        self._lock = threading.Lock()
        self._open_reception: Reception | None = None

    @property
    def address(self) -> str:
        """The address of this machine that the cluster's nodes reach."""
        return own_address(self._address)

    def gang(
        self, roles: Mapping[str, tuple[Code, int, Resources]], *, environment: Mapping[str, str] | None = None
    ) -> RayGang:
        """Start all members, or none, as `Runtime.gang` promises; while there is no room for all, wait and say so."""
        wrong = {role: count for role, (_, count, _) in roles.items() if count < 1}
        if wrong or not roles:
            raise ConfigError(
                f"cannot start a gang of {wrong or 'no roles'}", next_step="give each role at least one member"
            )
        launches = [
            _launch(Member(role, rank), code, count, environment)
            for role, (code, count, _) in roles.items()
            for rank in range(count)
        ]
        needs = {role: resources for role, (_, _, resources) in roles.items()}
        reception = self._reception()
        room = Room([(bundle_of(resources), count) for _, count, resources in roles.values()])
        return RayGang(launches, Hosts(reception, needs, room), room)

    def pool(
        self, size: int, resources: Resources | None = None, *, environment: Mapping[str, str] | None = None
    ) -> RayPool:
        """A pool of at most `size` workers, as `Runtime.pool` promises."""
        if size < 1:
            raise ConfigError(f"cannot make a pool of {size} workers", next_step="give a size of at least 1")
        return RayPool(size, resources or Resources(), environment or {})

    def service(
        self,
        code: Code,
        replicas: int,
        resources: Resources | None = None,
        restart: Backoff | None = None,
        *,
        name: str = "replica",
        environment: Mapping[str, str] | None = None,
        waits: bool = True,
    ) -> RayService:
        """Start members and keep them alive, as `Runtime.service` promises; one without room waits for it."""
        if replicas < 1:
            raise ConfigError(f"cannot start a service of {replicas} replicas", next_step="ask for at least 1")
        hosts = Hosts(self._reception(), {name: resources or Resources()}, room=None)
        pattern = _launch(Member(name, 0), code, replicas, environment)
        return RayService(pattern, replicas, restart or Backoff(), start_process=hosts.start, waits=waits)

    def _reception(self) -> Reception:
        with self._lock:
            if self._open_reception is None:
                self._open_reception = Reception(own_address(self._address))
            return self._open_reception


def _launch(member: Member, code: Code, count: int, environment: Mapping[str, str] | None) -> Launch:
    return Launch(member=member, code=code, world_size=count, environment=environment or {}, log_folder=None)
