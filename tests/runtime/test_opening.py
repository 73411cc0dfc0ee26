import pytest

from shoal.base import ConfigError
from shoal.runtime import LocalRuntime, open_runtime, opening


def test_local_is_the_runtime_of_child_processes():
    assert isinstance(open_runtime("local"), LocalRuntime)


def test_a_runtime_is_itself():
    runtime = LocalRuntime()

    assert open_runtime(runtime) is runtime


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"'lokal'.*local"):
        open_runtime("lokal")


def test_outside_a_job_there_is_no_place_to_join(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)

    with pytest.raises(ConfigError, match=r"neither RANK.*torchrun or srun"):
        open_runtime("env")


def test_all_calls_of_a_process_join_its_job_as_one(monkeypatch):
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}.items():
        monkeypatch.setenv(name, value)

    assert open_runtime("env") is open_runtime("env")
    opening._runtime_of_job.cache_clear()
