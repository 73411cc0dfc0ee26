"""A network is cut between workers, or around one: noticed in seconds, and the bits are those of a whole one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.train.faults import cut

import shoal.store
from shoal.testing.faults import NUM_STEPS, SETTINGS, check_nothing_is_done_twice, of_kind
from shoal.testing.strategy import ContractTask
from shoal.train import fit

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def undisturbed(datasets, tmp_path_factory):
    with shoal.store.open(tmp_path_factory.mktemp("home") / ".shoal") as store:
        return fit(ContractTask(), datasets[0], store=store, **SETTINGS).checkpoint.digest


@pytest.fixture
def train_through(datasets, undisturbed, tmp_path):
    """Run `cut` and check the bits; returns the events."""

    def run(what, heals_after_s=-1):
        words = [sys.executable, cut.__file__, datasets[0].address, str(tmp_path), what, str(heals_after_s)]
        done = subprocess.run(
            ["unshare", "--user", "--map-root-user", "--net", *words],
            check=False,
            capture_output=True,
            text=True,
            timeout=200,
            cwd=Path(__file__).parents[3],
        )
        if not done.stdout.startswith("networks"):
            pytest.skip(f"no networks can be made here: {done.stderr[-300:]}")
        told = json.loads(done.stdout.splitlines()[-1])
        assert told.get("digest") == undisturbed, told
        check_nothing_is_done_twice([tuple(line) for line in told["prints"]])
        return told["events"]

    return run


def test_a_host_that_is_cut_off_is_replaced(train_through):
    events = train_through("host")

    (lost,) = of_kind(events, "worker_lost")
    assert lost["worker"] == 1
    assert of_kind(events, "generation")[1]["workers"] == [0]


def test_workers_that_the_supervisor_alone_can_reach_go_on_with_those_who_can_meet(train_through):
    events = train_through("between")

    (lost,) = of_kind(events, "worker_lost")
    assert lost["cause"] == "worker 1 cannot be reached by the other workers"
    assert of_kind(events, "finished")[0]["step"] == NUM_STEPS


def test_a_cut_that_heals_in_time_is_waited_for(train_through):
    events = train_through("between", heals_after_s=2)

    assert of_kind(events, "worker_lost") == []
