"""What supervisor and keeper tell each other of a member, as MessagePack."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from shoal.base import WorkerError
from shoal.runtime.base import Exited, Member
from shoal.runtime.code import Code
from shoal.runtime.running import Launch


class Orders(msgspec.Struct, kw_only=True):
    """A launch, and where the supervisor would look for modules."""

    role: str
    rank: int
    world_size: int
    environment: dict[str, str]
    module: str | None
    path: str | None
    qualname: str
    config: dict[str, Any]
    payload: bytes | None
    import_path: list[str]
    folder: str

    @classmethod
    def of(cls, launch: Launch) -> "Orders":
        """The orders for a launch by this process."""
        code = launch.code
        return cls(
            role=launch.member.role,
            rank=launch.member.rank,
            world_size=launch.world_size,
            environment=dict(launch.environment),
            module=code.module,
            path=code.path,
            qualname=code.qualname,
            config=dict(code.config),
            payload=code.payload,
            import_path=[str(Path(entry).absolute()) for entry in sys.path],
            folder=str(Path.cwd()),
        )

    def launch(self) -> Launch:
        """What the keeper is to start."""
        return Launch(
            member=Member(self.role, self.rank),
            code=Code(
                module=self.module, path=self.path, qualname=self.qualname, config=self.config, payload=self.payload
            ),
            world_size=self.world_size,
            environment=self.environment,
            log_folder=None,
        )


class Birth(msgspec.Struct, kw_only=True):
    """A process, and the address of its machine."""

    pid: int
    host: str


class End(msgspec.Struct, kw_only=True):
    """How a process ended, or why there never was one; `failure` holds the fields of a WorkerError."""

    pid: int = 0
    exit_code: int | None = None
    signal: int | None = None
    failure: dict[str, Any] | None = None

    @classmethod
    def of(cls, event: Exited) -> "End":
        """The end that a keeper saw."""
        failure = None if event.failure is None else dict(_fields(event.failure))
        return cls(pid=event.pid, exit_code=event.exit_code, signal=event.signal, failure=failure)

    @classmethod
    def refusal(cls, error: WorkerError) -> "End":
        """Of a process that could not be started."""
        return cls(exit_code=1, failure=dict(_fields(error)))

    def event(self, member: Member) -> Exited:
        """The end as the supervisor tells it."""
        failure = None if self.failure is None else WorkerError(**self.failure)
        return Exited(member, self.pid, self.exit_code, self.signal, failure)


def _fields(error: WorkerError) -> Mapping[str, Any]:
    names = ("message", "next_step", "role", "rank", "host", "pid", "traceback_text")
    return {name: getattr(error, name) for name in names}
