from dataclasses import replace
from types import SimpleNamespace

import pytest

import shoal.store
from shoal.base import DivergedError, WorkerError
from shoal.runtime import Exited, Member, Report
from shoal.train.checkpoint import write_checkpoint
from shoal.train.journal import Journal
from shoal.train.reports import Diverged, EpochDone, Finished, Saved, Steps, Warned, to_message
from shoal.train.supervision import Supervisor, checkpoint_folder

FIRST, SECOND = Member("worker", 0), Member("worker", 1)


def told(report, member=FIRST):
    return Report(member, to_message(report))


def left(member):
    return Exited(member, 100, 0, None, None)


def killed(member):
    return Exited(member, 100, None, 9, WorkerError(f"{member} died", next_step="look"))


def raised(member):
    error = WorkerError("TypeError: wrong", next_step="look", traceback_text="Traceback: here")
    return Exited(member, 100, 1, None, error)


def saved(step):
    return told(Saved(step=step, path=f"/{step}", digest=f"b3:{step}"))


ENDED = [told(Finished(step=8)), left(FIRST), told(Finished(step=8), SECOND), left(SECOND)]


class Script:
    """A runtime whose gangs do what is written."""

    def __init__(self, *generations):
        self.generations = list(generations)
        self.stops = 0

    def gang(self, roles, *, environment):
        events = self.generations.pop(0)
        return Performance(self, events)


class Performance:
    def __init__(self, script, events):
        self.script = script
        self._events = events

    def events(self, timeout_s=None):
        return iter(self._events)

    def stop(self, grace_s=5.0):
        self.script.stops += 1

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.stop()


@pytest.fixture
def store(tmp_path):
    with shoal.store.open(tmp_path / ".shoal") as store:
        yield store


@pytest.fixture
def run(store):
    return store.runs.start(kind="train", name="test", config={})


@pytest.fixture
def see_through(make_plan, run, state):
    for step in (4, 8):
        state.position = replace(state.position, step=step)
        write_checkpoint(checkpoint_folder(run.folder), state, {})

    def see(*generations, retries=2, progress=None):
        script = Script(*generations)
        journal = Journal(run=run.id, num_epochs=2, num_batches=4)
        supervisor = Supervisor(
            make_plan(), run, journal, workers=2, runtime=script, retries=retries, progress=progress
        )
        checkpoint = supervisor.see_through()
        return SimpleNamespace(checkpoint=checkpoint, left=len(script.generations), stops=script.stops)

    return see


def test_a_run_without_trouble_takes_one_generation(see_through):
    assert see_through([saved(8), *ENDED], []).left == 1


def test_a_killed_worker_starts_another_generation(see_through, store, run):
    done = see_through([saved(4), killed(SECOND), left(FIRST)], ENDED)

    assert done.left == 0
    run.flush()
    (event,) = [event for event in store.runs.events(run.id) if event.kind == "workers_lost"]
    assert "worker 1 died by signal 9" in event.fields["found"]


def test_what_survivors_still_tell_is_taken(see_through, store, run):
    see_through([killed(SECOND), told(EpochDone(epoch=0, step=4, loss=0.5)), saved(4), left(FIRST)], ENDED)

    run.flush()
    assert [point.value for point in store.metrics.curve(run.id, "train.epoch_loss")] == [0.5]


def test_workers_that_keep_dying_end_the_run(see_through):
    with pytest.raises(WorkerError, match=r"worker 1 died by signal 9, in attempt 3 of 3; next: .*resume\('r-0001'\)"):
        see_through(*[[killed(SECOND), left(FIRST)]] * 3)


def test_deaths_count_only_without_progress_in_between(see_through):
    assert see_through(*[[saved(step), killed(FIRST), left(SECOND)] for step in range(5)], ENDED).left == 0


def test_a_disk_that_damages_every_checkpoint_ends_the_run(see_through, run):
    for path in checkpoint_folder(run.folder).rglob("*.json"):
        path.write_text("{}")

    with (
        pytest.warns(RuntimeWarning, match="cannot use the checkpoint"),
        pytest.raises(WorkerError, match=r"the last checkpoint in .* cannot be read, in attempt 3 of 3"),
    ):
        see_through(*[[saved(8), *ENDED]] * 3)


def test_an_older_checkpoint_is_no_finished_model(see_through, state, run):
    folder = checkpoint_folder(run.folder)
    last = folder / "0000000008" / "checkpoint.json"
    last.write_text("{}")

    def heal():
        yield from ENDED
        write_checkpoint(folder, state, {})

    with pytest.warns(RuntimeWarning, match="cannot use the checkpoint .*0000000008"):
        done = see_through(ENDED, heal(), [])

    assert (done.checkpoint.position.step, done.left) == (8, 1)


def test_a_mistake_in_the_task_is_raised_at_once(see_through):
    with pytest.raises(WorkerError, match="TypeError: wrong"):
        see_through([left(FIRST), raised(SECOND)], ENDED)


def test_workers_that_lose_each_other_try_again(see_through):
    assert see_through([left(FIRST), left(SECOND)], ENDED).left == 0


def test_a_divergence_names_the_step(see_through):
    with pytest.raises(DivergedError, match="loss of step 7, in epoch 2, is nan") as caught:
        see_through([told(Diverged(epoch=1, step=7, loss=float("nan"))), left(FIRST), left(SECOND)])

    assert caught.value.step == 7


def test_warnings_reach_user_and_record(see_through, store, run):
    with pytest.warns(RuntimeWarning, match="run r-0001: disk full"):
        see_through([told(Warned(text="disk full")), *ENDED])

    run.flush()
    assert [event.fields for event in store.runs.events(run.id) if event.kind == "warning"] == [{"text": "disk full"}]


def test_steps_become_a_curve_and_progress(see_through, store, run):
    seen = []
    steps = Steps(epoch=0, first_step=1, losses=[0.5, 0.25], rows=32, seconds=1.0, wait_s=0.5)

    see_through([told(steps), *ENDED], progress=seen.append)

    run.flush()
    assert [(point.step, point.value) for point in store.metrics.curve(run.id, "train.loss")] == [(1, 0.5), (2, 0.25)]
    assert store.metrics.latest(run.id)["train.samples_per_s"] == 32.0
    assert [(moment.step, moment.data_wait) for moment in seen] == [(2, 0.5)]


def test_checkpoints_enter_the_lineage(see_through, store):
    see_through([saved(8), *ENDED])

    (edge,) = store.lineage.upstream(shoal.base.Ref("checkpoint", "/8", "b3:8"))
    assert (edge.source.kind, edge.source.address, edge.relation) == ("run", "r-0001", "wrote")
