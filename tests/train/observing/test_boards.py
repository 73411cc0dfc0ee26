import sys

import pytest

from shoal.base import ConfigError, UnsupportedError
from shoal.train.observing.boards import Boards, check_boards


class Kept:
    def __init__(self):
        self.points, self.num_closed = [], 0

    def metric(self, name, value, step):
        self.points.append((name, value, step))

    def close(self):
        self.num_closed += 1


class Broken(Kept):
    def metric(self, name, value, step):
        raise ConnectionError("no route")


def test_every_board_gets_every_point():
    first, second = Kept(), Kept()

    with Boards({"first": first, "second": second}) as boards:
        boards.metric("train.loss", 0.5, 3)

    assert first.points == second.points == [("train.loss", 0.5, 3)]
    assert (first.num_closed, second.num_closed) == (1, 1)


def test_one_that_fails_is_given_up_and_the_others_go_on():
    kept = Kept()
    boards = Boards({"broken": Broken(), "kept": kept})

    with pytest.warns(RuntimeWarning, match="no more curves go to broken: ConnectionError: no route"):
        boards.metric("train.loss", 0.5, 1)
    boards.metric("train.loss", 0.4, 2)
    boards.close()
    boards.close()

    assert len(kept.points) == 2
    assert kept.num_closed == 1


def test_an_unknown_name_is_refused():
    with pytest.raises(ConfigError, match=r"'tensorbord'.*known are tensorboard, wandb"):
        check_boards(["tensorbord"])


def test_one_name_is_no_list_of_names():
    with pytest.raises(ConfigError, match=r"write report_to=\['wandb'\]"):
        check_boards("wandb")


def test_one_that_is_not_installed_names_its_extra(monkeypatch):
    monkeypatch.setattr("shoal.train.observing.boards.find_spec", lambda name: None)

    with pytest.raises(UnsupportedError, match=r"pip install 'shoal\[wandb\]'"):
        check_boards(["wandb"])


def test_a_check_loads_nothing():
    before = {name for name in ("tensorboard", "wandb") if name in sys.modules}

    check_boards(["tensorboard", "wandb"])

    assert {name for name in ("tensorboard", "wandb") if name in sys.modules} == before
