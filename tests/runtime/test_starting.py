"""How a member comes into being; what it is from then on does not depend on that."""

import pytest

from shoal.runtime import Code, Exited, LocalRuntime, Resources
from shoal.runtime.forking import can_fork
from shoal.testing import members

pytestmark = pytest.mark.skipif(not can_fork(), reason="forked members need Linux")

ONE = Resources()


def test_a_member_sees_the_folder_and_the_variables_of_its_start_not_of_the_servers(facts, monkeypatch, tmp_path):
    (before,) = facts()

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHOAL_TEST_VARIABLE", "late")
    (after,) = facts()

    assert (after["folder"], after["variables"]["SHOAL_TEST_VARIABLE"]) == (str(tmp_path), "late")
    assert "SHOAL_TEST_VARIABLE" not in before["variables"]
    assert after["parent"] == before["parent"]


def test_a_module_that_cannot_be_loaded_stops_no_member():
    code = Code.of(members.leave, {"code": 0}, preload=("no_such_module",))

    with LocalRuntime().gang({"worker": (code, 2, ONE)}) as gang:
        assert [event.exit_code for event in gang.events() if isinstance(event, Exited)] == [0, 0]
