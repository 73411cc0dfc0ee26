"""The whole contract of a store."""

import pytest

from shoal.base import ManualClock
from shoal.store import Store
from shoal.testing.store_flow import FlowContract
from shoal.testing.store_models import ModelsContract
from shoal.testing.store_notes import NotesContract
from shoal.testing.store_runs import RunsContract


class StoreContract(RunsContract, ModelsContract, NotesContract, FlowContract):
    """The suite for `Store`: subclass it and give a fixture `store` with an empty one that goes by the `clock`."""

    @pytest.fixture
    def clock(self) -> ManualClock:
        """Return the clock that the store must use."""
        return ManualClock()

    @pytest.fixture
    def store(self, clock: ManualClock) -> Store:
        """Return the backend under test, empty; close it after the test."""
        raise NotImplementedError
