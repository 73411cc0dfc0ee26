import pytest

from shoal.testing.group import GroupContract


class TestSharedGroup(GroupContract):
    @pytest.fixture
    def kind(self):
        return "shared"
