import json

from shoal.cli.output import fields, show, table, working


def test_columns_are_as_wide_as_their_widest_cell():
    assert table(("run", "kind"), [("r-0001", "train"), ("r-2", "tune")]) == "run     kind\nr-0001  train\nr-2     tune"


def test_named_values_are_aligned_and_empty_ones_left_out():
    assert fields([("run", "r-1"), ("error", None), ("status", "done")]) == "run     r-1\nstatus  done"


def test_json_is_one_document_without_the_next_command(capsys):
    show({"b": 1, "a": [2]}, as_json=True, text="ignored", next_command="ignored")

    assert json.loads(capsys.readouterr().out) == {"a": [2], "b": 1}


def test_text_ends_with_the_next_command(capsys):
    show({}, as_json=False, text="done", next_command="shoal run list")

    assert capsys.readouterr().out == "done\nnext  shoal run list\n"


def test_nothing_is_drawn_where_nobody_looks(capfd):
    with working("ingesting") as progress:
        progress(5)

    assert capfd.readouterr() == ("", "")


def test_colour_off_means_no_bar_either(capfd, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("FORCE_COLOR", "1")

    with working("ingesting") as progress:
        progress(5)

    assert capfd.readouterr() == ("", "")


def test_a_terminal_shows_the_rows_so_far(capfd, monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")

    with working("ingesting") as progress:
        progress(1234)

    assert "ingesting" in capfd.readouterr().err
