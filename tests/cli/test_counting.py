import pytest

from shoal.cli.counting import Counter, counting


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_a_line_says_how_far_how_fast_and_how_long():
    clock = Clock()
    counter = Counter("scoring", 60_000, clock)

    first = counter.line(4_096)
    clock.now += 2
    second = counter.line(8_192)
    clock.now += 2
    last = counter.line(60_000)

    assert first == "scoring  4,096 of 60,000 rows"
    assert second == "scoring  8,192 of 60,000 rows, 2,048 rows/s, 25 s left"
    assert last == "scoring  60,000 of 60,000 rows, 13,976 rows/s"


@pytest.mark.parametrize(("num_rows", "left"), [(70, "68 min left"), (1_000, "16 h 38 min left"), (3, "60 s left")])
def test_slow_work_is_told_in_larger_units(num_rows, left):
    clock = Clock()
    counter = Counter("scoring", num_rows, clock)

    counter.line(1)
    clock.now += 60

    assert counter.line(2).endswith(f"0.02 rows/s, {left}")


def test_a_log_gets_a_line_now_and_then(capsys):
    clock = Clock()

    with counting("scoring", 1_000, clock=clock) as progress:
        for done in range(100, 1_001, 100):
            clock.now += 4
            progress(done)

    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[1] for line in lines] == ["300", "600", "900"]


def test_a_terminal_gets_one_line_that_is_redrawn(capsys, monkeypatch):
    monkeypatch.setattr("shoal.cli.counting.may_draw", lambda: True)

    with counting("scoring", 10, clock=Clock()) as progress:
        progress(5)

    assert capsys.readouterr().out == ""
