from datetime import UTC, datetime

from hypothesis import given, strategies

from shoal.store import AliasMove
from shoal.store.alias_history import AliasState, replay


def _moves(*steps):
    """Moves from (reason, version) pairs."""
    return [
        AliasMove(
            time=datetime(2026, 3, 1, tzinfo=UTC), alias="p", version=version, previous=None, reason=reason, results=()
        )
        for reason, version in steps
    ]


def test_nothing_moved_means_nothing():
    assert replay([]) == AliasState(None, (), ())


def test_promotes_pile_up():
    assert replay(_moves(("promote", 1), ("promote", 2), ("promote", 1))) == AliasState(1, (1, 2), ())


def test_promote_of_the_current_version_is_no_step():
    moves = _moves(("promote", 1), ("promote", 2), ("promote", 2))

    assert replay(moves) == AliasState(2, (1,), ())


def test_rollback_keeps_the_way_forward():
    assert replay(_moves(("promote", 1), ("promote", 2), ("rollback", 1))) == AliasState(1, (), (2,))


def test_promote_forgets_the_way_forward():
    moves = _moves(("promote", 1), ("promote", 2), ("rollback", 1), ("promote", 3))

    assert replay(moves) == AliasState(3, (1,), ())


@given(strategies.lists(strategies.sampled_from([1, 2, 3, "rollback", "forward"]), max_size=30))
def test_forward_undoes_every_rollback(wishes):
    """The state after a rollback and a forward is the state before both, wherever one stands."""
    moves = []
    for wish in wishes:
        state = replay(moves)
        way = {"rollback": state.past, "forward": state.future}.get(wish)
        if way is None:
            moves += _moves(("promote", wish))
        elif way:
            moves += _moves((wish, way[-1]))
    state = replay(moves)

    if state.past:
        there_and_back = _moves(("rollback", state.past[-1]), ("forward", state.current))
        assert replay(moves + there_and_back) == state
    assert state.current not in state.past[-1:] + state.future[-1:] or state.current is None
