"""What waits for a replica, and which of it an idle replica takes next. No timer: whatever waits may go at once.

Priorities are strict, with ageing: a request goes before everything of a lower level, except what came more than
`AGEING_S` before it for each level between them. So nothing is overtaken for longer than that, whatever the load above.
"""

from collections import deque
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, Literal, NamedTuple, Protocol, TypeVar

from shoal.serve.links.channel import Key

# As long as admission lets a request wait when nothing else is said: among requests let in, the level then decides.
AGEING_S = 1.0
EndedBy = Literal["nothing waiting", "full", "other form", "runs alone"]


class Waiting(Protocol):
    """What the queue must know of a request."""

    @property
    def num_rows(self) -> int:
        """Rows it brings."""

    @property
    def arrived_s(self) -> float:
        """When it came, on any clock that never goes back."""

    @property
    def level(self) -> int:
        """Its priority, 1 the highest."""

    @property
    def deadline_s(self) -> float:
        """When its answer is worth nothing any more, on the same clock; infinite for most."""

    @property
    def form(self) -> object:
        """Requests of different form (shapes beyond the rows) cannot be stacked into one batch."""

    @property
    def runs_alone(self) -> bool:
        """Whether it must have a batch of its own: it was in one that failed, or its model takes no batches."""


W = TypeVar("W", bound=Waiting)


class Taken(NamedTuple, Generic[W]):
    """What `take` removed.

    Attributes:
        key: of all of it.
        requests: the batch; empty when all that was looked at had passed its deadline.
        late: requests whose deadline has passed.
        ended_by: why the batch has no more requests.
    """

    key: Key
    requests: list[W]
    late: list[W]
    ended_by: EndedBy


@dataclass(slots=True)
class _Lane(Generic[W]):
    """The requests of one key and level, first come, first served."""

    key: Key
    level: int
    requests: deque[W] = field(default_factory=deque)
    num_rows: int = 0

    def turn_s(self) -> float:
        """What the lanes are ordered by: when its head came, later for a lower level."""
        return self.requests[0].arrived_s + self.level * AGEING_S


@dataclass(slots=True)
class BatchQueue(Generic[W]):
    """Requests by key and level. Used by the front's event loop alone."""

    num_rows: int = 0
    num_requests: int = 0
    _lanes: dict[tuple[Key, int], _Lane[W]] = field(default_factory=dict)

    def put(self, key: Key, request: W) -> None:
        """Let a new request wait at the end of its level."""
        lane = self._lane(key, request.level)
        lane.requests.append(request)
        self._count(lane, 1, request.num_rows)

    def put_back(self, key: Key, requests: Sequence[W]) -> None:
        """Let requests whose replica died wait at the head of their level again, in the order they had."""
        for request in reversed(requests):
            lane = self._lane(key, request.level)
            lane.requests.appendleft(request)
            self._count(lane, 1, request.num_rows)

    def take(self, loaded: Container[Key], most_rows: Callable[[Key], int], now_s: float) -> Taken[W] | None:
        """Remove and return the next batch for a replica; None when nothing waits that it could run.

        The key goes first whose head has waited longest, by level and age. From its head on, requests of one form are
        taken while they fit into `most_rows(key)`, those of lower levels in the room that is left; the first is taken
        whatever its size, because a request is never cut.
        """
        lane = self._next_lane(loaded)
        if lane is None:
            return None
        key = lane.key
        batch: list[W] = []
        late: list[W] = []
        num_rows = most = 0
        ended_by: EndedBy = "nothing waiting"
        while lane is not None:
            head = lane.requests[0]
            if head.deadline_s <= now_s:
                late.append(head)
            elif not batch:
                batch.append(head)
                num_rows, most = head.num_rows, 0 if head.runs_alone else most_rows(key)
            else:
                after = num_rows + head.num_rows
                if after > most or head.runs_alone or head.form != batch[0].form:
                    ended_by = _misfit(batch[0], head, after, most)
                    break
                batch.append(head)
                num_rows = after
            lane.requests.popleft()
            lane.num_rows -= head.num_rows
            if not lane.requests or len(self._lanes) > 1:
                self._drop_if_empty(lane)
                lane = self._next_lane({key})
        self.num_requests -= len(batch) + len(late)
        self.num_rows -= num_rows + sum(request.num_rows for request in late)
        return Taken(key, batch, late, ended_by)

    def expire(self, before_s: float) -> list[W]:
        """Remove and return the requests that came before a moment: they waited too long."""
        return self._remove(lambda request: request.arrived_s < before_s)

    def drop_late(self, now_s: float) -> list[W]:
        """Remove and return the requests whose deadline has passed."""
        return self._remove(lambda request: request.deadline_s <= now_s)

    def next_deadline_s(self) -> float:
        """The earliest deadline of all that waits; a look at every request."""
        return min(
            (request.deadline_s for lane in self._lanes.values() for request in lane.requests), default=float("inf")
        )

    def rows_by_key(self) -> Iterator[tuple[Key, int]]:
        """How many rows wait for each key that something waits for."""
        rows: dict[Key, int] = {}
        for lane in self._lanes.values():
            rows[lane.key] = rows.get(lane.key, 0) + lane.num_rows
        yield from rows.items()

    def rows_ahead(self, level: int, now_s: float) -> Iterator[tuple[Key, int]]:
        """How many rows of each key would go before a request of this level that came now."""
        for lane in self._lanes.values():
            if lane.level <= level:
                yield lane.key, lane.num_rows
            elif (aged_s := now_s - (lane.level - level) * AGEING_S) > lane.requests[0].arrived_s:
                yield lane.key, sum(each.num_rows for each in lane.requests if each.arrived_s < aged_s)

    def __contains__(self, key: Key) -> bool:
        return any(lane.key == key for lane in self._lanes.values())

    def _next_lane(self, loaded: Container[Key]) -> _Lane[W] | None:
        if len(self._lanes) == 1:
            (lane,) = self._lanes.values()
            return lane if lane.key in loaded else None
        # Oldest first over all versions: a canary with little traffic must not starve behind production.
        lanes = [lane for lane in self._lanes.values() if lane.key in loaded]
        return min(lanes, key=_Lane.turn_s, default=None)

    def _lane(self, key: Key, level: int) -> _Lane[W]:
        lane = self._lanes.get((key, level))
        if lane is None:
            lane = self._lanes[key, level] = _Lane(key, level)
        return lane

    def _remove(self, is_over: Callable[[W], bool]) -> list[W]:
        removed: list[W] = []
        for lane in list(self._lanes.values()):
            over = [request for request in lane.requests if is_over(request)]
            if over:
                lane.requests = deque(request for request in lane.requests if not is_over(request))
                self._count(lane, -len(over), -sum(request.num_rows for request in over))
                self._drop_if_empty(lane)
                removed += over
        return removed

    def _drop_if_empty(self, lane: _Lane[W]) -> None:
        if not lane.requests:
            del self._lanes[lane.key, lane.level]

    def _count(self, lane: _Lane[W], num_requests: int, num_rows: int) -> None:
        lane.num_rows += num_rows
        self.num_rows += num_rows
        self.num_requests += num_requests


def _misfit(first: Waiting, after: Waiting, num_rows: int, most: int) -> EndedBy:
    """Why a request cannot join the batch that `first` has begun, `num_rows` with it."""
    if first.runs_alone or after.runs_alone:
        return "runs alone"
    return "full" if num_rows > most else "other form"
