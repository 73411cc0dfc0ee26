import pytest

from shoal.train.journal import Progress


@pytest.fixture
def moment():
    def make(**changes):
        facts = {
            "run": "r-0007",
            "epoch": 1,
            "num_epochs": 2,
            "step": 120,
            "num_steps": 500,
            "loss": 0.25,
            "samples_per_s": 41_800.0,
            "data_wait": 0.02,
            "comm_share": 0.04,
            "workers": 4,
            "batch_size": 256,
            "eta_s": 170.0,
            "news": (),
        }
        return Progress(**{**facts, **changes})

    return make
