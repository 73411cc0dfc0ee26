"""From what was found in each round to the bars: medians of ratios within a round, and what the model would allow."""

import statistics
from collections.abc import Callable, Collection, Iterable

from bars import bar
from serving_kinds import SHOAL, Kind
from serving_turns import Taken

NEVER_MS = 60_000.0
# Of the best peer's rate, in the first round. What is further behind is not measured again: no noise brings it ahead.
IN_CONTENTION = 0.85

Bars = list[dict]
Rounds = dict[int, dict]


def contenders(kinds: Collection[Kind], points: Iterable[Taken]) -> list[Kind]:
    """Shoal, and whoever came near the best peer at some point."""
    near: set[str] = {SHOAL.name}
    for taken in points:
        rates = {name: median(rounds, "rate_per_s") for name, rounds in taken.items() if name != SHOAL.name}
        near |= {name for name, rate in rates.items() if rate >= IN_CONTENTION * max(rates.values())}
    return [kind for kind in kinds if kind.name in near]


def at_point(taken: Taken, point: str) -> Taken:
    """What was found there, of those that were asked that."""
    found = {name: {at: each[point] for at, each in rounds.items() if point in each} for name, rounds in taken.items()}
    return {name: rounds for name, rounds in found.items() if rounds}


def compared(name: str, taken: Taken, target: float, *, compare_p99: bool = False) -> Bars:
    """The rate beside that of the best peer at its best setting: the median over rounds in which both were measured."""
    peers = {side: rounds for side, rounds in taken.items() if side != SHOAL.name}
    if not peers:
        return []
    best = max(peers, key=lambda side: median(peers[side], "rate_per_s"))
    shown = shown_medians(taken, ("rate_per_s", "p99_ms"))
    shown |= {
        f"{side} failed": each for side in taken if (each := sum(r.get("failed", 0) for r in taken[side].values()))
    }
    times = median_ratio(taken[SHOAL.name], peers[best], "rate_per_s")
    bars = [bar(f"{name}_times_best_peer", times, f"times {best}", target, shown, at_most=False)]
    if compare_p99:
        slower = median_ratio(taken[SHOAL.name], peers[best], "p99_ms")
        bars.append(bar(f"{name}_p99_of_best_peer", slower, f"of the p99 of {best}", 1.0, shown))
    return bars


def of_limit(name: str, ours: Rounds, row_ms: dict[int, dict[int, float]], num_cores: int) -> dict:
    """The rate as a share of what the model alone allows on the cores that the load generator leaves.

    limit = (cores - cores that wrk kept busy in the same run) / CPU seconds of the model for a row

    The model runs by itself in as many processes as there are replicas, each of one thread, all at once, on images of
    the same kind and in the batch size that suits it best. What the limit is in the batches that were really made is
    shown beside it.

    Args:
        name: of the measure.
        ours: what was found by round, with `cores` and the `rows` of the mean batch.
        row_ms: milliseconds for a row by round and batch size; the size that was used is among them.
        num_cores: that wrk and the server shared.
    """
    left = {number: num_cores - each["cores"]["wrk"] for number, each in ours.items()}
    best = {number: left[number] / (min(row_ms[number].values()) / 1_000) for number in ours}
    used = {number: left[number] / (row_ms[number][size_of(each)] / 1_000) for number, each in ours.items()}
    share = statistics.median(each["rate_per_s"] / best[number] for number, each in ours.items())
    shown = {
        "limit rate_per_s": statistics.median(best.values()),
        "shoal rate_per_s": median(ours, "rate_per_s"),
        "share in the batches used": statistics.median(
            each["rate_per_s"] / used[number] for number, each in ours.items()
        ),
        "rows in a batch": median(ours, "rows"),
        "model us a row": 1_000 * statistics.median(min(each.values()) for each in row_ms.values()),
        "cores of wrk": num_cores - statistics.median(left.values()),
    }
    return bar(f"{name}_of_limit", share, "of what the model alone allows", 0.85, shown, at_most=False)


def size_of(found: dict) -> int:
    """The whole number of rows that its mean batch is nearest to."""
    return max(1, round(found["rows"]))


def median(rounds: Rounds, what: str) -> float:
    """Over the rounds."""
    return statistics.median(each[what] for each in rounds.values())


def median_ratio(ours: Rounds, theirs: Rounds, what: str) -> float:
    """Over the rounds that both have: what the machine does to one, it does to the other."""
    return statistics.median(ours[at][what] / theirs[at][what] for at in sorted(ours.keys() & theirs.keys()))


def worst(rounds: Iterable[dict], what: str) -> float:
    """The largest; where a round has none, as when nothing was refused, it never came."""
    return max(NEVER_MS if each[what] is None else each[what] for each in rounds)


def shown_medians(
    taken: Taken, names: Iterable[str], over: Callable[[list[float]], float] = statistics.median
) -> dict[str, float]:
    """Figures of all sides, as "SIDE NAME"."""
    shown = {}
    for side, rounds in taken.items():
        for name in names:
            values = [each[name] for each in rounds.values() if each.get(name) is not None]
            if values:
                shown[f"{side} {name}"] = over(values)
    return shown
