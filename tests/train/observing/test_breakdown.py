from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.train.observing.breakdown import breakdown


class Point(NamedTuple):
    step: int
    value: float


def test_the_mean_step_is_taken_apart():
    curves = {
        # 10 steps of 10 ms, then 30 steps of 20 ms.
        "train.step_s": [Point(10, 0.010), Point(40, 0.020)],
        "train.data_wait": [Point(10, 0.5), Point(40, 0.1)],
        "train.comm_share": [Point(10, 0.0), Point(40, 0.2)],
        "train.update_share": [Point(10, 0.1), Point(40, 0.1)],
    }

    found = {part.name: part.seconds for part in breakdown(curves, [0.02, 0.02])}

    assert found == pytest.approx(
        {
            "data wait": (0.05 + 0.06) / 40,
            "compute": (0.04 + 0.36) / 40,
            "exchange": 0.12 / 40,
            "update": (0.01 + 0.06) / 40,
            "checkpoint": 0.04 / 40,
        }
    )


def test_a_run_without_times_has_no_breakdown():
    assert breakdown({"train.loss": [Point(1, 0.5)]}) == []


@given(st.lists(st.tuples(st.integers(1, 50), st.floats(1e-4, 10), *[st.floats(0, 0.33)] * 3), min_size=1, max_size=20))
def test_the_parts_make_up_the_whole(stretches):
    step, curves = 0, {name: [] for name in ("step_s", "data_wait", "comm_share", "update_share")}
    for num_steps, *values in stretches:
        step += num_steps
        for curve, value in zip(curves.values(), values, strict=True):
            curve.append(Point(step, value))

    parts = breakdown({f"train.{name}": curve for name, curve in curves.items()})

    assert sum(part.share for part in parts) == pytest.approx(1)
    total = sum(num_steps * step_s for num_steps, step_s, *_ in stretches)
    assert sum(part.seconds for part in parts) * step == pytest.approx(total)
