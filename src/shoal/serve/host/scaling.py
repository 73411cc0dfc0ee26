"""How many replicas a server should have: a pure policy, and what keeps the few numbers that it looks at."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from shoal.serve.links.messages import Pulse

# Above this part of their time at work, replicas keep requests waiting that come in bunches.
_BUSY = 0.8
# One replica fewer must leave this much room, so that what was just taken away is not wanted back at once.
_ROOMY = 0.5
# A wait longer than this many times the latency target is no accident of the moment.
_WAITS = 2.0
# A new replica takes about a second to be of use; one that goes would take as long to come back, so it is kept longer.
_GROW_AFTER_S = 1.0
_SHRINK_AFTER_S = 30.0
# The weight of the newest half second in the running utilisation.
_WEIGHT = 0.4


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingState:
    """What a decision is made from.

    Attributes:
        least: fewest replicas; 0 lets the server sleep when nobody asks.
        most: most replicas.
        replicas: how many there should be now.
        able: how many of them can take work, as the front with the fewest sees it.
        utilisation: part of their time that replicas were at work lately, 0 to 1.
        num_open: requests that wait or run.
        pressed_s: for how long requests have waited too long or replicas were too busy.
        roomy_s: for how long one replica fewer would have had plenty of room.
        idle_s: for how long nobody has asked for anything.
        sleep_after_s: nobody asking for so long lets the last replica go, where `least` is 0.
    """

    least: int
    most: int
    replicas: int
    able: int
    utilisation: float
    num_open: int
    pressed_s: float
    roomy_s: float
    idle_s: float
    sleep_after_s: float


def decide(state: ScalingState) -> int:
    """How many replicas there should be.

    It grows by what the load asks for, at most to the double, and not again before all that were started can work. It
    shrinks by one at a time.
    """
    wanted = state.replicas
    if wanted == 0:
        # Whoever waits must be answered, even if one request is all that ever comes.
        wanted = 1 if state.num_open else 0
    elif state.pressed_s >= _GROW_AFTER_S and state.able >= wanted:
        needed = math.ceil(wanted * state.utilisation / _BUSY)
        wanted = min(max(needed, wanted + 1), 2 * wanted)
    elif state.least == 0 and not state.num_open and state.able and state.idle_s >= state.sleep_after_s:
        wanted = 0
    elif wanted > 1 and state.roomy_s >= _SHRINK_AFTER_S:
        wanted -= 1
    return min(max(wanted, state.least), state.most)


class LoadWatch:
    """Follows what the fronts tell of their load. Not for several threads; time is passed in."""

    def __init__(self, *, least: int, most: int, target_s: float, sleep_after_s: float) -> None:
        """Begin with an idle server.

        Args:
            least: see `ScalingState`, as for the others.
            most: of replicas.
            target_s: the latency that a request should have.
            sleep_after_s: how long nobody must ask.
        """
        self._least = least
        self._most = most
        self._target_s = target_s
        self._sleep_after_s = sleep_after_s
        self._busy_s: dict[int, float] = {}
        self._utilisation = 0.0
        self._pressed_s = self._roomy_s = self._idle_s = 0.0

    def look(self, pulses: Mapping[int, Pulse], replicas: int, passed_s: float) -> ScalingState:
        """The state after `passed_s` more seconds, by the newest pulse of each front."""
        # A front that was started again counts from zero.
        worked_s = sum(max(0.0, pulse.busy_s - self._busy_s.get(rank, 0.0)) for rank, pulse in pulses.items())
        self._busy_s = {rank: pulse.busy_s for rank, pulse in pulses.items()}
        num_open = sum(pulse.num_open for pulse in pulses.values())
        wait_s = max((pulse.wait_s for pulse in pulses.values()), default=0.0)
        newest = min(worked_s / (passed_s * replicas), 1.0) if replicas and passed_s else 0.0
        self._utilisation += _WEIGHT * (newest - self._utilisation)
        is_pressed = self._utilisation > _BUSY or wait_s > _WAITS * self._target_s
        is_roomy = replicas > 1 and not is_pressed and self._utilisation * replicas / (replicas - 1) < _ROOMY
        self._pressed_s = self._pressed_s + passed_s if is_pressed else 0.0
        self._roomy_s = self._roomy_s + passed_s if is_roomy else 0.0
        self._idle_s = 0.0 if worked_s or num_open else self._idle_s + passed_s
        return ScalingState(
            least=self._least,
            most=self._most,
            replicas=replicas,
            able=min((pulse.num_able for pulse in pulses.values()), default=0),
            utilisation=self._utilisation,
            num_open=num_open,
            pressed_s=self._pressed_s,
            roomy_s=self._roomy_s,
            idle_s=self._idle_s,
            sleep_after_s=self._sleep_after_s,
        )

    def note_change(self) -> None:
        """The number of replicas has changed: what was seen with the other number does not count for the next step."""
        self._pressed_s = self._roomy_s = self._idle_s = 0.0
