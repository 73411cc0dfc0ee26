"""Workers fail on one machine, where they share memory."""

import os
import signal

import psutil
import pytest

from shoal.runtime.forking import can_fork
from shoal.testing.faults import FaultContract, of_kind

pytestmark = pytest.mark.slow


class TestLocal(FaultContract):
    @pytest.fixture
    def runtime(self):
        return "local"

    @pytest.mark.skipif(not can_fork(), reason="forked members need Linux")
    def test_what_workers_are_forked_from_may_die(self, disturb):
        """They die with it, and newcomers of another server go on from the newest checkpoint."""

        def kill_server(pids):
            os.kill(psutil.Process(pids[0]).ppid(), signal.SIGKILL)

        _, events = disturb(kill_server, again=True, checkpoint_every_steps=5)

        assert len(of_kind(events, "worker_lost")) >= 3
