import pytest

from shoal.base import ConfigError
from shoal.train.batch_size.settings import AdaptiveBatch


@pytest.mark.parametrize(
    "wrong",
    [{"min": 1}, {"min": 128, "max": 64}, {"every_steps": 0}, {"scaling": "cubic"}],
    ids=["too small", "upside down", "never", "scaling"],
)
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(ConfigError, match=str(next(iter(wrong.values())))):
        AdaptiveBatch(**wrong)


def test_settings_can_be_left_out():
    assert AdaptiveBatch() == AdaptiveBatch(min=64, max=1024, scaling="auto")
