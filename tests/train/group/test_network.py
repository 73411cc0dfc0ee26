import pytest

from shoal.testing.group import GroupContract


class TestNetworkGroup(GroupContract):
    @pytest.fixture
    def kind(self):
        return "network"
