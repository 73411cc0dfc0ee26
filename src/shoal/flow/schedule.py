"""Which step may run when: a pure state of a graph's run, told what happened, asked what is next."""

from collections import defaultdict, deque
from collections.abc import Iterable, Sequence

from shoal.flow.graph import Node

# Where all steps take one processor, as many as this wait in the threads' queue, so that no thread waits for us between
# two quick steps. 16: benchmarks of 100 empty steps gain nothing beyond.
_AHEAD = 16


class Schedule:
    """Follows one run. Every node goes from waiting to ready to (perhaps) startable to running to ended, once.

    Args:
        nodes: the graph's nodes in order.
        capacity: processors that running steps may take together; a step that wants more runs alone.
        returned: nodes whose results the flow returns: somebody asks for these to the end.
    """

    def __init__(self, nodes: Sequence[Node], *, capacity: float, returned: Iterable[int] = ()) -> None:
        self._nodes = nodes
        self._capacity = capacity * (_AHEAD if all(node.step.cpus == 1 for node in nodes) else 1)
        self._processors = capacity
        self._num_missing = [len(node.needs) for node in nodes]
        self._num_users = [0] * len(nodes)
        self._followers: dict[int, list[int]] = defaultdict(list)
        for node in nodes:
            for need in node.needs:
                self._followers[need].append(node.index)
                self._num_users[need] += 1
        for index in returned:
            self._num_users[index] += 1
        self._ready = [node.index for node in nodes if not node.needs]
        self._startable: deque[int] = deque()
        self._running: dict[int, float] = {}
        self._ended: set[int] = set()

    @property
    def num_threads(self) -> int:
        """Threads that can be busy at once."""
        least = min((node.step.cpus for node in self._nodes), default=1)
        return max(1, min(len(self._nodes), int(self._processors / min(least, 1))))

    @property
    def is_over(self) -> bool:
        """Whether every node has ended."""
        return len(self._ended) == len(self._nodes)

    @property
    def is_running(self) -> bool:
        """Whether any node runs now."""
        return bool(self._running)

    def take_ready(self) -> list[int]:
        """Return the nodes whose inputs are all known, each node once."""
        ready, self._ready = self._ready, []
        return ready

    def allow(self, index: int) -> None:
        """A ready node must be computed, by us."""
        self._startable.append(index)

    def start(self) -> list[int]:
        """Return the nodes to start now, first come first served; they count as running."""
        started = []
        while self._startable:
            cpus = self._nodes[self._startable[0]].step.cpus
            if self._running and sum(self._running.values()) + cpus > self._capacity:
                break
            index = self._startable.popleft()
            self._running[index] = cpus
            started.append(index)
        return started

    def succeed(self, index: int) -> list[int]:
        """A node's result is known; returns the nodes whose results nobody will ask for any more."""
        self._end(index)
        for follower in self._followers[index]:
            self._num_missing[follower] -= 1
            if self._num_missing[follower] == 0:
                self._ready.append(follower)
        return self._unused([*self._nodes[index].needs], index)

    def fail(self, index: int) -> list[int]:
        """A node failed; returns it and all that wait for it, which end as well."""
        lost: dict[int, None] = {}
        spreading = [index]
        while spreading:
            current = spreading.pop()
            if current not in self._ended:
                self._end(current)
                lost[current] = None
                spreading += self._followers[current]
        return sorted(lost)

    def _end(self, index: int) -> None:
        self._running.pop(index, None)
        self._ended.add(index)

    def _unused(self, needs: list[int], index: int) -> list[int]:
        for need in needs:
            self._num_users[need] -= 1
        return [node for node in (*needs, index) if self._num_users[node] == 0]
