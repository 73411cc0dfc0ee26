"""A runtime whose members say that they run on hosts of their own: a cluster of one machine, for tests.

Each member has a keeper in a process of its own that calls over TCP, as on a real cluster; a prefix to its command can
put that process into a network of its own.
"""

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence

from shoal.base import UnsupportedError
from shoal.runtime import Code, Member, Pool, Resources, Service
from shoal.runtime.gang import LocalGang
from shoal.runtime.remote.child import RemoteChild, wait_until_there
from shoal.runtime.remote.keeper import Keeper
from shoal.runtime.remote.line import Line
from shoal.runtime.remote.reception import TOKEN_BYTES, Reception, call
from shoal.runtime.running import Launch

LOOPBACK = "127.0.0.1"
# What may be put before a keeper's command; it is told the member's rank.
Prefix = Callable[[int], Sequence[str]]


class ApartRuntime:
    """Gangs of members that are said to be on different hosts."""

    def __init__(self, address: str = LOOPBACK, prefix: Prefix = lambda _: ()) -> None:
        """Listen on an address that all keepers can reach."""
        self._reception = Reception(address)
        self._prefix = prefix

    def gang(
        self, roles: Mapping[str, tuple[Code, int, Resources]], *, environment: Mapping[str, str] | None = None
    ) -> LocalGang:
        """Start all members, or none."""
        launches = [
            Launch(member=Member(role, rank), code=code, world_size=num, environment=environment or {}, log_folder=None)
            for role, (code, num, _) in roles.items()
            for rank in range(num)
        ]
        return _ApartGang(launches, lambda launch: RemoteChild(launch, _KeeperProcess(self._reception, launch, self)))

    def pool(self, size: int, resources: Resources | None = None, **settings: object) -> Pool:  # noqa: ARG002  # as the interface has it
        """No pools here."""
        raise UnsupportedError("hosts apart have no pools", next_step="use another runtime")

    def service(self, code: Code, replicas: int, *arguments: object, **settings: object) -> Service:  # noqa: ARG002  # as above
        """No services here."""
        raise UnsupportedError("hosts apart have no services", next_step="use another runtime")

    def close(self) -> None:
        """Stop listening."""
        self._reception.close()

    def command(self, rank: int, number: int) -> list[str]:
        """What starts a member's keeper, which reads the token from stdin."""
        reception = self._reception
        words = [reception.address, str(reception.port), str(number), f"host-{rank}"]
        return [*self._prefix(rank), sys.executable, "-m", "shoal.testing.apart", *words]


class _ApartGang(LocalGang):
    def __init__(self, launches: Sequence[Launch], start_process: Callable[[Launch], RemoteChild]) -> None:
        super().__init__(launches, start_process)
        wait_until_there(self._group.children())


class _KeeperProcess:
    """Provides one member's keeper; keeps the promises of `Host`."""

    def __init__(self, reception: Reception, launch: Launch, runtime: ApartRuntime) -> None:
        self._reception = reception
        self._number = reception.new_number()
        self._process = subprocess.Popen(
            runtime.command(launch.member.rank, self._number), stdin=subprocess.PIPE, start_new_session=True
        )
        assert self._process.stdin is not None
        self._process.stdin.write(reception.token)
        self._process.stdin.close()

    def connect(self) -> Line | None:
        """The keeper's line."""
        return self._reception.wait(self._number)

    def explain(self) -> str:
        """Nothing more is known here."""
        return "its host does not answer"

    def asked_to_stop(self) -> None:
        """Nobody asks."""

    def release(self) -> None:
        """Kill the keeper; its member goes with it."""
        self._reception.give_up(self._number)
        self._process.kill()
        self._process.wait()


def _keep(address: str, port: str, number: str, host: str) -> None:
    token = sys.stdin.buffer.read(TOKEN_BYTES)
    Keeper(call(address, int(port), token, int(number)), host=host).serve()


if __name__ == "__main__":
    _keep(*sys.argv[1:])
