"""Other processes as the kernel tells about them: their families, memory and CPU time, and how to end what is left."""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class CpuSeconds:
    """What a process has used, in its own code and in the kernel for it."""

    user: float
    kernel: float

    @property
    def total(self) -> float:
        """Both."""
        return self.user + self.kernel


def adopt_orphans() -> None:
    """Make this process the parent of descendants that lose theirs, so that none of them escapes."""
    set_child_subreaper = 36
    ctypes.CDLL(None, use_errno=True).prctl(set_child_subreaper, 1, 0, 0, 0)
    # A benchmark that is told to end still leaves its blocks, and with them ends its servers.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def descendants(pid: int) -> list[int]:
    """Children, their children and so on."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*"):
        fields = _stat(int(stat.name))
        if fields:
            children.setdefault(int(fields[1]), []).append(int(stat.name))

    def below(parent: int) -> Iterator[int]:
        for child in children.get(parent, ()):
            yield child
            yield from below(child)

    return list(below(pid))


def end_descendants(timeout_s: float) -> None:
    """Kill whoever is below this process; killed parents may have children that are adopted in turn."""
    until = time.monotonic() + timeout_s
    while (left := descendants(os.getpid())) and time.monotonic() < until:
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.01)


def has_mapped(pid: int, name: str) -> bool:
    """Whether a file with this in its path is part of the process's memory."""
    return name in _read(pid, "maps")


def cpu_seconds(pid: int) -> CpuSeconds:
    """So far, all threads together; zero when it is gone."""
    fields = _stat(pid)
    return CpuSeconds(*(int(ticks) / _TICKS_PER_S for ticks in fields[11:13])) if fields else CpuSeconds(0.0, 0.0)


def memory_bytes(pid: int) -> dict[str, int]:
    """By "Pss" and "Rss". Pages that n processes share count 1/n for each in Pss, and whole in Rss."""
    found = dict.fromkeys(("Pss", "Rss"), 0)
    for line in _read(pid, "smaps_rollup").splitlines():
        name, _, rest = line.partition(":")
        if name in found:
            found[name] = 1_024 * int(rest.split()[0])
    return found


@dataclass(frozen=True)
class Moment:
    """The CPU seconds used so far: by each of some processes, and by interrupts, which the kernel tells apart."""

    at_s: float
    used: Mapping[int, CpuSeconds]
    interrupts_s: float

    @classmethod
    def now(cls, pids: Sequence[int]) -> "Moment":
        """Look at these processes."""
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()
        interrupts_s = (int(fields[6]) + int(fields[7])) / _TICKS_PER_S
        return cls(time.perf_counter(), {pid: cpu_seconds(pid) for pid in pids}, interrupts_s)

    def cores_since(self, before: "Moment", pids: Sequence[int]) -> CpuSeconds:
        """Cores that these processes kept busy on average, by where."""
        passed = self.at_s - before.at_s
        used = [(self.used[pid], before.used[pid]) for pid in pids if pid in self.used and pid in before.used]
        user = sum(now.user - then.user for now, then in used)
        kernel = sum(now.kernel - then.kernel for now, then in used)
        return CpuSeconds(user / passed, kernel / passed)

    def interrupt_cores_since(self, before: "Moment") -> float:
        """Cores that interrupts kept busy on average, hard and soft, on behalf of anybody."""
        return (self.interrupts_s - before.interrupts_s) / (self.at_s - before.at_s)


def _stat(pid: int) -> list[str]:
    """The fields behind the process's name: its state first; empty when it is gone."""
    return _read(pid, "stat").rpartition(")")[2].split()


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except OSError:
        return ""
