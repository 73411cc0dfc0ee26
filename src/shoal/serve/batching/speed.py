"""How quickly what waits will be gone: by what rows cost a replica, and by how quickly they went lately."""

from collections.abc import Collection, Iterable

from shoal.serve.links.channel import Key

# The weight of the newest batch: about the last twenty count.
_WEIGHT = 0.05
# One pause may have any reason; more than this much longer is not believed at once.
_MOST_CHANGE = 4.0


class Pace:
    """Seconds for each row that leaves the queue, while there is a queue. Used by the event loop alone.

    What a batch costs says what a replica takes for it when it runs; under overload it also waits, for a processor that
    others use and for a front that refuses thousands of requests, and only the pace shows that.
    """

    def __init__(self) -> None:
        self.row_s = 0.0
        self._last_s: float | None = None

    def observe(self, num_rows: int, now_s: float, *, is_behind: bool) -> None:
        """Hear that a batch is done; `is_behind` tells that more waits, so that the time to the next one counts."""
        last_s, self._last_s = self._last_s, now_s if is_behind else None
        if last_s is None:
            return
        found_s = (now_s - last_s) / num_rows
        if self.row_s:
            found_s = min(found_s, self.row_s * _MOST_CHANGE)
            self.row_s += _WEIGHT * (found_s - self.row_s)
        else:
            self.row_s = found_s


class Speed:
    """What rows take, by version and altogether. Used by the event loop alone.

    Attributes:
        most_row_s: the most that a row takes, of any version.
    """

    def __init__(self) -> None:
        self.most_row_s = 0.0
        # Of one replica, in a full batch.
        self._row_s: dict[Key, float] = {}
        self._pace = Pace()

    def note_cost(self, key: Key, row_s: float) -> None:
        """Hear what a row of a version takes one replica."""
        self._row_s[key] = row_s
        self._note_most()

    def note_done(self, num_rows: int, now_s: float, *, is_behind: bool) -> None:
        """Hear that a batch is done, as `Pace.observe`."""
        self._pace.observe(num_rows, now_s, is_behind=is_behind)
        self._note_most()

    def queued_s(self, rows: Iterable[tuple[Key, int]], num_replicas: int) -> float:
        """Seconds of one replica that so many rows of each version will take, with so many replicas at it."""
        by_cost = by_pace = 0.0
        for key, num_rows in rows:
            by_cost += self._row_s.get(key, 0.0) * num_rows
            by_pace += self._pace.row_s * num_rows
        return max(by_cost, by_pace * num_replicas)

    def forget(self, kept: Collection[Key]) -> None:
        """Drop all versions but these."""
        self._row_s = {key: seconds for key, seconds in self._row_s.items() if key in kept}
        self._note_most()

    def _note_most(self) -> None:
        self.most_row_s = max((self._pace.row_s, *self._row_s.values()))
