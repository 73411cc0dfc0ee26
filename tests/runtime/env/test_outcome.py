import threading

import pytest

from shoal.base import WorkerError
from shoal.runtime.env.outcome import pack_outcome, unpack_outcome
from shoal.runtime.env.signals import AskedToStopError


def test_a_result_arrives():
    assert unpack_outcome(pack_outcome({"a": [1, 2]}, None), 1) == {"a": [1, 2]}
    assert unpack_outcome(pack_outcome(None, None), 1) is None


def test_an_error_becomes_the_ranks_own():
    with pytest.raises(WorkerError, match="rank 2 ends with rank 0, which failed: LookupError: gone"):
        unpack_outcome(pack_outcome(None, LookupError("gone")), 2)


def test_an_interruption_stays_one():
    with pytest.raises(AskedToStopError, match="asked to stop by SIGTERM"):
        unpack_outcome(pack_outcome(None, AskedToStopError("asked to stop by SIGTERM")), 2)
    with pytest.raises(AskedToStopError, match="rank 0 was interrupted"):
        unpack_outcome(pack_outcome(None, KeyboardInterrupt()), 2)


def test_a_result_that_cannot_travel_is_said():
    with pytest.raises(WorkerError, match="cannot travel"):
        unpack_outcome(pack_outcome(threading.Lock(), None), 1)


def test_a_result_that_cannot_be_read_is_said():
    with pytest.raises(WorkerError, match="cannot read"):
        unpack_outcome(b"dnonsense", 1)
