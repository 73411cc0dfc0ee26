"""What an alias means after a series of moves: back and forward as in a browser, as a pure function."""

from collections.abc import Iterable
from dataclasses import dataclass

from shoal.store.records import AliasMove


@dataclass(frozen=True, slots=True)
class AliasState:
    """Where an alias stands: the version it means, those a rollback goes to, those a forward goes to (last first)."""

    current: int | None = None
    past: tuple[int, ...] = ()
    future: tuple[int, ...] = ()


def replay(moves: Iterable[AliasMove]) -> AliasState:
    """Follow the moves of one alias from the first to the last.

    A promote of another version forgets what was rolled back; a promote of the current one changes nothing.
    """
    state = AliasState()
    for move in moves:
        state = _after(state, move)
    return state


def _after(state: AliasState, move: AliasMove) -> AliasState:
    if move.version == state.current:
        return state
    if move.reason == "rollback":
        future = state.future if state.current is None else (*state.future, state.current)
        return AliasState(move.version, state.past[:-1], future)
    past = state.past if state.current is None else (*state.past, state.current)
    return AliasState(move.version, past, state.future[:-1] if move.reason == "forward" else ())
