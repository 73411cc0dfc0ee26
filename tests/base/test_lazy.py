import subprocess
import sys

import pytest

import shoal.base


def test_unknown_name_fails_as_pythons_own():
    with pytest.raises(AttributeError, match=r"module 'shoal\.base' has no attribute 'Nonsense'"):
        shoal.base.Nonsense  # noqa: B018  # reading it is what is tested


def test_every_public_name_loads_once_and_stays():
    for name in shoal.base.__all__:
        found = getattr(shoal.base, name)

        assert vars(shoal.base)[name] is found


def test_dunder_all_is_what_the_face_can_load():
    assert len(set(shoal.base.__all__)) == len(shoal.base.__all__)
    assert all(hasattr(shoal.base, name) for name in shoal.base.__all__)


def test_importing_the_face_loads_no_weight():
    weights = "{'numpy', 'pyarrow', 'torch'}"
    code = f"import sys, shoal.base; shoal.base.ShoalError; print(*sorted(set(sys.modules) & {weights}))"

    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert loaded.strip() == ""


def test_empty_target_is_the_submodule(monkeypatch: pytest.MonkeyPatch):
    load = shoal.base.lazy_face("shoal", {"base": ""})

    assert load("base") is shoal.base


def test_target_may_name_another_attribute(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(shoal.base, "now", raising=False)
    load = shoal.base.lazy_face("shoal.base", {"now": "clock:SystemClock"})

    try:
        assert load("now") is shoal.base.SystemClock
    finally:
        del shoal.base.now
