"""Which replicas have stopped answering, and which loads will never end. Pure decisions."""

import math
from collections.abc import Sequence, Set
from dataclasses import dataclass, field

from shoal.serve.links.channel import Key


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """How long a replica may be silent.

    Attributes:
        load_s: for one version to be loaded; a process may answer nothing meanwhile.
        answer_s: to answer a ping; it may be at another front's batch.
        quiet_s: a replica that has said nothing for so long is pinged.
    """

    load_s: float
    answer_s: float
    quiet_s: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Signs:
    """What the front knows of one replica's life; moments by the monotonic clock.

    Attributes:
        number: of its link.
        is_running: whether it has a batch, whose own deadline watches it.
        loaded: what it can run.
        loading: the version that it is at, by the order of asking; None for none.
        loading_since_s: when it may have begun with that one.
        heard_s: when it last said anything.
        pinged_s: when it was last asked for a sign of life.
    """

    number: int
    is_running: bool
    loaded: Set[Key]
    loading: Key | None
    loading_since_s: float
    heard_s: float
    pinged_s: float = -math.inf


@dataclass(slots=True)
class Verdict:
    """What to do about silent replicas.

    Attributes:
        pings: replicas to ask for a sign of life.
        hung: replicas that answer nothing: they are to be killed.
        endless: (replica, version) whose loading takes too long although the process answers.
        replaced: those of `endless` that are to be killed now, because nothing is lost by it.
    """

    pings: list[int] = field(default_factory=list)
    hung: list[int] = field(default_factory=list)
    endless: list[tuple[int, Key]] = field(default_factory=list)
    replaced: list[int] = field(default_factory=list)


def decide(replicas: Sequence[Signs], now_s: float, deadlines: Deadlines) -> Verdict:
    """Judge every connected replica.

    One whose loader is stuck can still run what it has. It is replaced, as nothing else could be loaded there, but only
    when another has all that it serves, and one at a time; the last one after as long again.
    """
    verdict = Verdict()
    for replica in replicas:
        is_late = now_s - replica.loading_since_s > deadlines.load_s
        if replica.pinged_s > replica.heard_s:
            # Some models keep the whole process busy while they load, so a silent loader is not judged before its time.
            is_due = is_late or replica.loading is None
            if is_due and not replica.is_running and now_s - replica.pinged_s > deadlines.answer_s:
                verdict.hung.append(replica.number)
        elif is_late and replica.loading is not None and replica.heard_s - replica.loading_since_s > deadlines.load_s:
            verdict.endless.append((replica.number, replica.loading))
        elif is_late or now_s - replica.heard_s > deadlines.quiet_s:
            verdict.pings.append(replica.number)
    _choose_replaced(verdict, replicas, now_s, deadlines)
    return verdict


def _choose_replaced(verdict: Verdict, replicas: Sequence[Signs], now_s: float, deadlines: Deadlines) -> None:
    stuck = {number for number, _ in verdict.endless}
    has_one = False
    for replica in replicas:
        if replica.number not in stuck:
            continue
        if not replica.loaded:
            verdict.replaced.append(replica.number)
            continue
        is_covered = any(
            other.loaded >= replica.loaded and other.number not in {replica.number, *verdict.hung} for other in replicas
        )
        is_long_stuck = now_s - replica.loading_since_s > 2 * deadlines.load_s
        if (is_covered or is_long_stuck) and not has_one:
            verdict.replaced.append(replica.number)
            has_one = True
