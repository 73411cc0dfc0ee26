from dataclasses import dataclass, field

import pytest
from torch import nn

from shoal.train.callbacks import Callback, Callbacks, Moment

KINDS = ("on_step", "on_validation", "on_checkpoint", "on_end")


@dataclass
class Noting(Callback):
    everywhere: bool = False
    seen: list = field(default_factory=list)

    def on_step(self, moment):
        self.seen.append(("on_step", moment.step))

    def on_validation(self, moment):
        self.seen.append(("on_validation", moment.step))

    def on_checkpoint(self, moment):
        self.seen.append(("on_checkpoint", moment.step))

    def on_end(self, moment):
        self.seen.append(("on_end", moment.step))


def moment(step=3):
    return Moment(step=step, epoch=0, rank=0, module=nn.Flatten(), loss=0.5)


def test_each_is_called_for_each_kind_of_moment():
    noting = Noting()

    for kind in KINDS:
        getattr(Callbacks([noting, Callback()], rank=0), kind)(moment())

    assert noting.seen == [(kind, 3) for kind in KINDS]


def test_one_worker_alone_calls_it_unless_it_says_everywhere():
    alone, everywhere = Noting(), Noting(everywhere=True)

    for rank in range(3):
        Callbacks([alone, everywhere], rank=rank).on_step(moment(step=rank))

    assert alone.seen == [("on_step", 0)]
    assert everywhere.seen == [("on_step", 0), ("on_step", 1), ("on_step", 2)]


def test_says_whether_there_is_anybody_to_call():
    assert Callbacks([Noting()], rank=0)
    assert not Callbacks([Noting()], rank=1)
    assert not Callbacks([], rank=0)


def test_what_one_raises_is_not_caught():
    class Failing(Callback):
        def on_step(self, moment):
            raise RuntimeError("no room left")

    with pytest.raises(RuntimeError, match="no room left"):
        Callbacks([Failing()], rank=0).on_step(moment())
