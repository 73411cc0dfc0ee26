import os
import signal
import subprocess
import sys
from textwrap import dedent

import pytest

import shoal.data
import shoal.store
from shoal.testing.strategy import ContractTask
from shoal.train import Collective, fit, resume
from shoal.train.ranks import once_per_job


def test_a_call_with_another_runtime_runs_as_it_is():
    calls = []

    @once_per_job
    def work(number, *, runtime="local"):
        """Say what it got."""
        calls.append((number, runtime))
        return number + 1

    assert work(1) == 2
    assert work(2, runtime="ray") == 3
    assert calls == [(1, "local"), (2, "ray")]
    assert work.__doc__ == "Say what it got."


SETTINGS = {"epochs": 3, "batch_size": 16, "seed": 5, "strategy": Collective(num_virtual=4)}


@pytest.fixture
def start_job(datasets, tmp_path):
    """Start torchrun with two ranks that call `fit`; they say their pids, steps and results."""
    script = tmp_path / "job.py"
    script.write_text(
        dedent(
            f"""
            import os
            import shoal.data, shoal.store
            from shoal.runtime import open_runtime
            from shoal.testing.strategy import ContractTask
            from shoal.train import Collective, fit

            rank = open_runtime("env").place.rank
            print("rank", rank, os.getpid(), flush=True)
            result = fit(
                ContractTask(), shoal.data.open({str(datasets[0].path)!r}), runtime="env",
                store=shoal.store.open(".shoal"), epochs=int(os.environ["EPOCHS"]), batch_size=16,
                seed=5, strategy=Collective(num_virtual=4),
                progress=lambda progress: print("step", progress.step, flush=True),
            )
            print("done", rank, result.checkpoint.digest, result.steps, flush=True)
            """
        )
    )
    jobs = []

    def start(epochs):
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "EPOCHS": str(epochs)}
        jobs.append(
            subprocess.Popen(
                command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        )
        return jobs[-1]

    yield start
    for job in jobs:
        job.terminate()
        job.communicate()


@pytest.mark.slow
def test_every_rank_of_a_torchrun_job_gets_the_result_that_local_workers_give(start_job, datasets, tmp_path):
    out, err = start_job(SETTINGS["epochs"]).communicate(timeout=120)
    with shoal.store.open(tmp_path / "local") as store:
        local = fit(ContractTask(), datasets[0], store=store, **SETTINGS)

    done = sorted(line for line in out.splitlines() if line.startswith("done"))
    assert done == [f"done {rank} {local.checkpoint.digest} {local.steps}" for rank in (0, 1)], err


@pytest.mark.slow
def test_a_job_that_is_asked_to_stop_leaves_a_run_that_can_be_resumed(start_job, datasets, tmp_path):
    epochs = 400
    job = start_job(epochs)
    pids = {}
    for line in job.stdout:
        words = line.split()
        if words[0] == "rank":
            pids[int(words[1])] = int(words[2])
        if words[0] == "step":
            break
    os.kill(pids[1], signal.SIGUSR1)
    _, err = job.communicate(timeout=120)

    with shoal.store.open(tmp_path / ".shoal") as store, shoal.store.open(tmp_path / "local") as other:
        (record,) = store.runs.list(status="cancelled")
        resumed = resume(record.id, store=store)
        local = fit(ContractTask(), datasets[0], store=other, **{**SETTINGS, "epochs": epochs})
    assert job.returncode != 0
    assert "asked to stop by SIG" in err
    assert resumed.checkpoint.digest == local.checkpoint.digest
