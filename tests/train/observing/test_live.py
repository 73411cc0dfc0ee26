import io
import json

import pytest

from shoal.train.observing.live import JsonLines, PlainLines, TerminalLine, describe, duration, live


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_moment_is_one_line(moment):
    assert describe(moment()) == (
        "step    120 of 500   loss 0.2500   41,800 samples/s   eta 3 min   4 workers   data wait 2%   comm 4%   "
        "update 0%   batch 256"
    )


def test_what_is_not_known_is_left_out(moment):
    line = describe(moment(num_steps=None, eta_s=None, workers=1))

    assert " of " not in line
    assert "eta" not in line
    assert "1 worker " in line


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (5400, "1 h 30 min"), (172_800, "2 d 0 h")]
)
def test_time_left_is_said_as_people_say_it(seconds, said):
    assert duration(seconds) == said


def test_the_line_is_drawn_over_itself_and_ends_clean(moment):
    stream = Terminal()
    line = TerminalLine(stream, width=lambda: 200)

    line(moment(step=1))
    line(moment(step=2))
    line.end()
    line.end()

    assert _screen(stream.getvalue()) == [describe(moment(step=2)), ""]


def test_what_happened_stays_above_the_line(moment):
    stream = Terminal()
    line = TerminalLine(stream, width=lambda: 200)

    line(moment(step=1))
    line(moment(step=2, news=("worker 1 died (signal 9); going on with 1",)))
    line(moment(step=3))
    line.end()

    assert _screen(stream.getvalue()) == ["worker 1 died (signal 9); going on with 1", describe(moment(step=3)), ""]


def test_a_warning_stays_above_the_line_too(moment):
    stream = Terminal()
    line = TerminalLine(stream, width=lambda: 200)

    line.say("warning", "before the first moment")
    line(moment())
    line.say("warning", "the disk is full")
    line.end()

    assert _screen(stream.getvalue()) == [
        "warning  before the first moment", "warning  the disk is full", describe(moment()), "",
    ]  # fmt: skip


def test_a_narrow_terminal_never_wraps_the_line(moment):
    stream = Terminal()
    line = TerminalLine(stream, width=lambda: 20)

    line(moment())

    assert _screen(stream.getvalue())[0] == "step    120 of 500"


def test_what_matters_least_is_left_out_where_there_is_no_room(moment):
    wide, narrow = (describe(moment(validation={"loss": 0.4, "accuracy": 0.871}), width) for width in (99, 79))

    assert wide == ("step    120 of 500   loss 0.2500   val accuracy 0.871   41,800 samples/s   eta 3 min   4 workers")
    assert narrow == "step    120 of 500   loss 0.2500   val accuracy 0.871   eta 3 min   4 workers"
    assert describe(moment(), 79) == "step    120 of 500   loss 0.2500   41,800 samples/s   eta 3 min   4 workers"


def test_while_it_validates_it_says_so_in_place_of_a_speed(moment):
    line = describe(moment(phase="validating"))

    assert "   validating   " in line
    assert "eta" not in line
    assert "samples/s" not in line


def test_a_measure_alone_is_shown_if_it_is_the_loss(moment):
    assert "   val loss 0.400   " in describe(moment(validation={"loss": 0.4}))


def test_the_last_moment_of_a_run_ends_its_line(moment):
    stream = Terminal()
    line = TerminalLine(stream, width=lambda: 200)

    line(moment(step=1))
    line(moment(step=2, phase="ended", news=("stopped early",)))
    stream.write("what the script prints next")

    assert _screen(stream.getvalue()) == [
        "stopped early", describe(moment(step=2, phase="ended")), "what the script prints next",
    ]  # fmt: skip


def test_a_turn_to_validation_and_back_is_written_at_once(moment):
    stream = io.StringIO()
    lines = JsonLines(stream, now=lambda: 0.0)

    for changes in ({}, {"step": 121}, {"phase": "validating"}, {"validation": {"loss": 0.5}}, {"phase": "ended"}):
        lines(moment(**changes))

    found = [(document["phase"], document["validation"]) for document in _documents(stream)]
    assert found == [("training", {}), ("validating", {}), ("training", {"loss": 0.5}), ("ended", {})]


def test_an_end_without_a_moment_prints_nothing():
    stream = Terminal()

    TerminalLine(stream).end()

    assert stream.getvalue() == ""


def test_a_terminal_that_must_not_be_drawn_on_gets_plain_lines(moment):
    stream = Terminal()
    lines = live(stream, draw=False)

    lines(moment(news=("worker 2 joined",)))
    lines.say("warning", "slow")
    lines.end()

    assert isinstance(lines, PlainLines)
    assert stream.getvalue() == f"worker 2 joined\n{describe(moment())}\nwarning  slow\n"


def test_a_file_gets_one_document_a_second_and_the_last(moment):
    stream, times = io.StringIO(), iter([0.0, 0.25, 0.5, 1.1, 1.2])
    lines = JsonLines(stream, now=lambda: next(times))

    for step in range(1, 6):
        lines(moment(step=step))
    lines.end()
    lines.end()

    assert [document["step"] for document in _documents(stream)] == [1, 4, 5]
    assert set(_documents(stream)[0]) == {
        "event", "run", "epoch", "num_epochs", "step", "num_steps", "loss", "samples_per_s", "data_wait",
        "comm_share", "update_share", "workers", "batch_size", "eta_s", "phase", "validation",
    }  # fmt: skip


def test_what_happened_is_told_at_once(moment):
    stream = io.StringIO()
    lines = JsonLines(stream, now=lambda: 0.0)

    lines(moment(step=1))
    lines(moment(step=2, news=("worker 2 joined",)))
    lines.say("warning", "slow")

    assert _documents(stream)[1:] == [
        {"event": "news", "run": "r-0007", "step": 2, "text": "worker 2 joined"},
        {"event": "warning", "text": "slow"},
    ]


def test_a_loss_that_is_no_number_stays_json(moment):
    stream = io.StringIO()

    JsonLines(stream)(moment(loss=float("nan")))

    assert _documents(stream)[0]["loss"] is None


def test_the_stream_decides(moment):
    assert isinstance(live(io.StringIO()), JsonLines)
    assert isinstance(live(Terminal()), TerminalLine)
    assert isinstance(live(Terminal(), as_json=True), JsonLines)


def _documents(stream):
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def _screen(written):
    """What a terminal shows of it, line by line."""
    lines = [""]
    for piece in written.replace("\x1b[2K", "\0").replace("\r", "\1"):
        if piece == "\0":
            lines[-1] = ""
        elif piece == "\n":
            lines.append("")
        elif piece != "\1":
            lines[-1] += piece
    return lines
