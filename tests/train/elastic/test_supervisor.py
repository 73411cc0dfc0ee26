from dataclasses import replace

import pytest

import shoal.store
from shoal.base import WorkerError
from shoal.train.checkpoint import write_checkpoint
from shoal.train.elastic import supervisor as module
from shoal.train.elastic.membership import Rules
from shoal.train.elastic.record_keeping import RecordKeeper
from shoal.train.elastic.supervisor import Supervisor
from shoal.train.journal import Journal
from shoal.train.reports import Finished, Steps

STEPS = Steps(epoch=0, first_step=1, losses=[0.5], rows=8, seconds=1.0, wait_s=0.0)


@pytest.fixture
def see_through(make_plan, state, tmp_path, monkeypatch):
    """Have crews that finish at step 8 and write the checkpoints of the given steps."""
    folder = tmp_path / "checkpoints"

    def see(*attempts, progress=None):
        left = list(attempts)

        class Crew:
            def __init__(self, site, checkpoint, on_first_step):
                on_first_step()

            def work(self):
                for step in left.pop(0):
                    state.position = replace(state.position, step=step)
                    write_checkpoint(folder, state, {})
                return Finished(step=8)

        monkeypatch.setattr(module, "Crew", Crew)
        with shoal.store.open(tmp_path / ".shoal") as store:
            run = store.runs.start(kind="train", name="test", config={})
            journal = Journal(run=run.id, num_epochs=2, num_steps=8, num_rows=64)
            keeper = RecordKeeper(run, journal, progress=progress)
            keeper.take(STEPS)
            supervisor = Supervisor(
                make_plan(),
                run,
                keeper,
                rules=Rules(most=1, retries=1),
                runtime=None,
                checkpoints=str(folder),
            )
            return supervisor.see_through(), len(left), supervisor

    return see


def test_the_last_checkpoint_is_the_result(see_through):
    checkpoint, _, supervisor = see_through([4, 8])

    assert checkpoint.position.step == 8
    assert supervisor.start_up_s >= 0


def test_an_older_checkpoint_is_no_finished_model(see_through):
    checkpoint, left, _ = see_through([4], [8])

    assert (checkpoint.position.step, left) == (8, 0)


def test_a_disk_that_damages_every_last_checkpoint_ends_the_run(see_through):
    with pytest.raises(WorkerError, match=r"the last checkpoint in .* cannot be read, in attempt 2 of 2"):
        see_through([4], [4], [8])


def test_whoever_watches_learns_that_the_run_has_ended(see_through):
    seen = []

    see_through([8], progress=seen.append)

    assert [moment.phase for moment in seen] == ["training", "ended"]


def test_also_of_a_run_that_failed(see_through):
    seen = []

    with pytest.raises(WorkerError):
        see_through([4], [4], progress=seen.append)

    assert [moment.phase for moment in seen] == ["training", "ended"]


def test_a_display_that_fails_does_not_hide_what_ended_the_run(see_through):
    def show(progress):
        if progress.phase == "ended":
            raise BrokenPipeError

    with pytest.raises(WorkerError):
        see_through([4], [4], progress=show)
