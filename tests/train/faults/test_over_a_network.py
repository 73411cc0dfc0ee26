"""Workers fail that are said to be on different hosts, and so reach each other over TCP alone."""

import pytest

from shoal.testing.apart import ApartRuntime
from shoal.testing.faults import FaultContract

pytestmark = pytest.mark.slow


class TestApart(FaultContract):
    @pytest.fixture
    def runtime(self):
        runtime = ApartRuntime()
        yield runtime
        runtime.close()
