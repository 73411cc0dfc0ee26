"""What waits for a replica, and which of it an idle replica takes next. No timer: whatever waits may go at once."""

from collections import deque
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, Protocol, TypeVar


class Key(NamedTuple):
    """The model and version that a request was routed to; only requests of one key share a batch."""

    model: str
    version: str


class Waiting(Protocol):
    """What the queue must know of a request."""

    @property
    def num_rows(self) -> int:
        """Rows it brings."""

    @property
    def arrived_s(self) -> float:
        """When it came, on any clock that never goes back."""

    @property
    def form(self) -> object:
        """Requests of different form (shapes beyond the rows) cannot be stacked into one batch."""

    @property
    def runs_alone(self) -> bool:
        """Whether it must have a batch of its own: it was in one that failed, or its model takes no batches."""


W = TypeVar("W", bound=Waiting)


@dataclass(slots=True)
class _Lane(Generic[W]):
    requests: deque[W] = field(default_factory=deque)
    num_rows: int = 0


@dataclass(slots=True)
class BatchQueue(Generic[W]):
    """Requests by key, each key first come, first served. Used by the front's event loop alone."""

    num_rows: int = 0
    num_requests: int = 0
    _lanes: dict[Key, _Lane[W]] = field(default_factory=dict)

    def put(self, key: Key, request: W) -> None:
        """Let a new request wait at the end."""
        lane = self._lane(key)
        lane.requests.append(request)
        self._count(lane, 1, request.num_rows)

    def put_back(self, key: Key, requests: Sequence[W]) -> None:
        """Let requests whose replica died wait at the head again, in the order they had."""
        lane = self._lane(key)
        lane.requests.extendleft(reversed(requests))
        self._count(lane, len(requests), sum(request.num_rows for request in requests))

    def take(self, loaded: Container[Key], most_rows: Callable[[Key], int]) -> tuple[Key, list[W]] | None:
        """Remove and return the next batch for a replica; None when nothing waits that it could run.

        The key whose head has waited longest goes first. From its head on, requests of one form are taken while they
        fit into `most_rows(key)`; the first is taken whatever its size, because a request is never cut.
        """
        key = self._oldest_key(loaded)
        if key is None:
            return None
        lane = self._lanes[key]
        waiting = lane.requests
        first = waiting.popleft()
        batch = [first]
        num_rows = first.num_rows
        most = 0 if first.runs_alone else most_rows(key)
        while waiting:
            after = num_rows + waiting[0].num_rows
            if after > most or waiting[0].runs_alone or waiting[0].form != first.form:
                break
            num_rows = after
            batch.append(waiting.popleft())
        self._count(lane, -len(batch), -num_rows)
        self._drop_if_empty(key)
        return key, batch

    def expire(self, before_s: float) -> list[W]:
        """Remove and return the requests that came before a moment: they waited too long."""
        expired: list[W] = []
        for key, lane in list(self._lanes.items()):
            late = [request for request in lane.requests if request.arrived_s < before_s]
            if late:
                lane.requests = deque(request for request in lane.requests if request.arrived_s >= before_s)
                self._count(lane, -len(late), -sum(request.num_rows for request in late))
                self._drop_if_empty(key)
                expired += late
        return expired

    def rows_by_key(self) -> Iterator[tuple[Key, int]]:
        """How many rows wait for each key that something waits for."""
        for key, lane in self._lanes.items():
            yield key, lane.num_rows

    def __contains__(self, key: Key) -> bool:
        return key in self._lanes

    def _oldest_key(self, loaded: Container[Key]) -> Key | None:
        if len(self._lanes) == 1:
            (key,) = self._lanes
            return key if key in loaded else None
        # Oldest first over all versions: a canary with little traffic must not starve behind production.
        keys = [key for key in self._lanes if key in loaded]
        return min(keys, key=lambda key: self._lanes[key].requests[0].arrived_s, default=None)

    def _lane(self, key: Key) -> "_Lane[W]":
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = _Lane()
        return lane

    def _drop_if_empty(self, key: Key) -> None:
        if not self._lanes[key].requests:
            del self._lanes[key]

    def _count(self, lane: "_Lane[W]", num_requests: int, num_rows: int) -> None:
        lane.num_rows += num_rows
        self.num_rows += num_rows
        self.num_requests += num_requests
