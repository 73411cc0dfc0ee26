import importlib.util

import pytest

from shoal.cli import demo


def test_help_tells_what_it_does_and_takes(shoal):
    done = shoal("demo", "--help")

    assert done.code == 0
    assert "Fashion-MNIST" in done.out
    assert all(option in done.out for option in ("--data", "--pause", "--port", "--json"))


@pytest.mark.parametrize("missing", demo.NEEDED)
def test_a_missing_package_is_explained_before_anything_runs(shoal, monkeypatch, tmp_path, missing):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == missing else find(name))

    done = shoal("demo")

    assert done.code == 1
    assert done.err == f"error  cannot run the demo: {missing} not installed\nnext   pip install 'shoal[demo]'\n"
    assert list(tmp_path.iterdir()) == []


def test_a_port_that_is_none_is_wrong_usage(shoal):
    assert shoal("demo", "--port", 70000).code == 2
