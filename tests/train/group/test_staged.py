import pytest

from shoal.testing.group import GroupContract
from shoal.testing.group_members import join_staged


class TestStagedGroup(GroupContract):
    @pytest.fixture
    def kind(self):
        return "shared"

    @pytest.fixture
    def join(self):
        return join_staged
