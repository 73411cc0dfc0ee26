"""What was kept is found as it was; what is gone or damaged is not found, and the reason is told."""

import numpy as np
import pytest

from shoal.base import UnsupportedError
from shoal.flow.definition import Definition
from shoal.flow.keys import KeyMaker
from shoal.flow.memo import INLINE_BYTES, FlowMemo, Result


def _work(x):
    return x


STEP = Definition(function=_work)


@pytest.fixture
def keep(store):
    def keep(value, x=1):
        memo, key = FlowMemo(store, "flow"), KeyMaker().key_of(STEP, {"x": x})
        encoded = memo.encode(value)
        memo.keep([Result(key=key, name="work", encoded=encoded, seconds=1.5, undeclared=("/f",))], "me")
        return key, encoded

    return keep


def test_a_small_result_is_kept_inline(store, keep):
    key, encoded = keep({"a": [1]})

    found = FlowMemo(store, "flow").find([key])[key.digest]

    assert encoded.artifact is None
    assert (found.value, found.seconds, found.undeclared) == ({"a": [1]}, 1.5, ("/f",))


def test_a_large_result_is_kept_as_an_artifact(store, keep):
    value = {"w": np.arange(INLINE_BYTES)}
    key, encoded = keep(value)

    assert encoded.inline is None
    np.testing.assert_equal(FlowMemo(store, "flow").find([key])[key.digest].value, value)


@pytest.mark.parametrize("harm", ["delete", "truncate"])
def test_a_harmed_artifact_is_no_result(store, keep, harm):
    key, encoded = keep("x" * (INLINE_BYTES + 1))
    path = store.artifacts.path(encoded.artifact)
    path.chmod(0o644)
    path.unlink() if harm == "delete" else path.write_bytes(path.read_bytes()[:100])
    memo = FlowMemo(store, "flow")

    assert memo.find([key]) == {}
    assert memo.why(key, "work")[0].startswith("its result is lost: ")


def test_why_a_step_has_no_result_is_told_by_its_newest(store, keep):
    keep("a", x=1)
    other = KeyMaker().key_of(STEP, {"x": 2})
    memo = FlowMemo(store, "flow")

    assert memo.why(other, "work") == ("input x changed",)
    assert memo.why(other, "another") == ("it has no result yet",)
    assert FlowMemo(store, "another flow").why(other, "work") == ("it has no result yet",)


def test_the_codes_parts_are_kept_once(store, keep):
    key, _ = keep("a", x=1)
    keep("b", x=2)

    assert store.memo.get(f"code:{key.code.digest}").explain["packages"] == dict(key.code.packages)
    assert store.memo.newest("flow").keys() == {"work", ""}


def test_what_no_codec_keeps_is_refused(store):
    with pytest.raises(UnsupportedError):
        FlowMemo(store, "flow").encode(object())
