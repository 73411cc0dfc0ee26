"""The runtime that needs nothing else: child processes of this one, on this machine."""

import os
from collections.abc import Mapping
from copy import copy
from pathlib import Path

from shoal.base import ConfigError, UnsupportedError
from shoal.runtime.base import LOOPBACK, Backoff, Member, Resources
from shoal.runtime.code import Code
from shoal.runtime.gang import LocalGang
from shoal.runtime.pool import LocalPool
from shoal.runtime.running import Launch
from shoal.runtime.service import LocalService
from shoal.runtime.starting import warm_up


class LocalRuntime:
    """Members are child processes that share this machine's cores as its operating system sees fit.

    `cpus` is no bound here: more members than cores run, slower. Memory that all members of a call ask for must fit
    the machine. What members write to stdout goes where this process's goes; of stderr the last 64 KiB are kept for the
    error. If a folder is given, all of both is in `<log_folder>/<role>-<rank>.log` instead, in the order it came.
    """

    def __init__(self, *, log_folder: Path | None = None) -> None:
        self._log_folder = log_folder

    @property
    def address(self) -> str:
        """The loopback's."""
        return LOOPBACK

    def logging_to(self, folder: Path) -> "LocalRuntime":
        """The same runtime with this log folder, unless it has one."""
        if self._log_folder is not None:
            return self
        # A copy: it may be of a class of the user's.
        logging = copy(self)
        logging._log_folder = folder  # noqa: SLF001  # our own
        return logging

    def gang(
        self, roles: Mapping[str, tuple[Code, int, Resources]], *, environment: Mapping[str, str] | None = None
    ) -> LocalGang:
        """Start all members, or none, as `Runtime.gang` promises."""
        wrong = {role: count for role, (_, count, _) in roles.items() if count < 1}
        if wrong or not roles:
            raise ConfigError(
                f"cannot start a gang of {wrong or 'no roles'}", next_step="give each role at least one member"
            )
        _check_room([(resources, count) for _, count, resources in roles.values()])
        return LocalGang(
            [
                self._launch(Member(role, rank), code, count, environment)
                for role, (code, count, _) in roles.items()
                for rank in range(count)
            ]
        )

    def prepare(self, code: Code, *, environment: Mapping[str, str] | None = None) -> None:
        """Begin to load what `code` preloads, as members with it will soon be started with these variables."""
        warm_up(self._launch(Member("member", 0), code, 1, environment))

    def pool(
        self, size: int, resources: Resources | None = None, *, environment: Mapping[str, str] | None = None
    ) -> LocalPool:
        """A pool of at most `size` workers, as `Runtime.pool` promises."""
        if size < 1:
            raise ConfigError(f"cannot make a pool of {size} workers", next_step="give a size of at least 1")
        _check_room([(resources or Resources(), size)])
        return LocalPool(size, environment=environment or {}, log_folder=self._made_log_folder())

    def service(
        self,
        code: Code,
        replicas: int,
        resources: Resources | None = None,
        restart: Backoff | None = None,
        *,
        name: str = "replica",
        environment: Mapping[str, str] | None = None,
        waits: bool = True,  # noqa: ARG002  # nothing waits for room here
    ) -> LocalService:
        """Start members and keep them alive, as `Runtime.service` promises."""
        if replicas < 1:
            raise ConfigError(f"cannot start a service of {replicas} replicas", next_step="ask for at least 1")
        _check_room([(resources or Resources(), replicas)])
        pattern = self._launch(Member(name, 0), code, replicas, environment)
        return LocalService(pattern, replicas, restart or Backoff())

    def _launch(self, member: Member, code: Code, count: int, environment: Mapping[str, str] | None) -> Launch:
        return Launch(
            member=member,
            code=code,
            world_size=count,
            environment=environment or {},
            log_folder=self._made_log_folder(),
        )

    def _made_log_folder(self) -> Path | None:
        if self._log_folder is not None:
            self._log_folder.mkdir(parents=True, exist_ok=True)
        return self._log_folder


def _check_room(needs: list[tuple[Resources, int]]) -> None:
    if any(resources.gpus for resources, _ in needs):
        raise UnsupportedError(
            "the local runtime does not place members on GPUs",
            next_step="leave gpus at 0: members see every GPU of the machine; choose one by CUDA_VISIBLE_DEVICES",
        )
    check_memory(needs)


def check_memory(needs: list[tuple[Resources, int]]) -> None:
    """Raise ConfigError if so many members of each kind need more memory than this machine has."""
    asked = sum((resources.memory_bytes or 0) * count for resources, count in needs)
    present = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if asked > present:
        raise ConfigError(
            f"the members ask for {asked / 2**30:.1f} GiB of memory, this machine has {present / 2**30:.1f} GiB",
            next_step="start fewer members, or ask for less memory_bytes for each",
        )
