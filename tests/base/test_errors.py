import copy
import errno
import pickle
import traceback

import pytest

from shoal.base import (
    ConfigError,
    InputError,
    NotFoundError,
    ShoalError,
    StepError,
    StorageFullError,
    UnavailableError,
    WorkerError,
    errors,
)

ALL_ERRORS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ShoalError)]


@pytest.mark.parametrize("kind", ALL_ERRORS)
def test_text_ends_with_the_next_step(kind: type[ShoalError]):
    error = kind("cannot open shop", next_step="bring a key")

    assert str(error) == "cannot open shop; next: bring a key"


@pytest.mark.parametrize("kind", ALL_ERRORS)
def test_next_step_is_required(kind: type[ShoalError]):
    with pytest.raises(TypeError, match="next_step"):
        kind("cannot")


@pytest.mark.parametrize("kind", ALL_ERRORS)
def test_tree_at_the_top_shows_every_error(kind: type[ShoalError]):
    assert kind.__name__ in (errors.__doc__ or "")


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [(ConfigError, ValueError), (InputError, ValueError), (NotFoundError, LookupError), (StorageFullError, OSError)],
)
def test_pythons_own_error_catches_it_too(kind: type[ShoalError], builtin: type[Exception]):
    with pytest.raises(builtin):
        raise kind("cannot", next_step="do")


@pytest.mark.parametrize("kind", ALL_ERRORS)
def test_survives_pickling_and_copying(kind: type[ShoalError]):
    error = kind("cannot", next_step="do")

    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(twin) is kind
        assert vars(twin) == vars(error)
        assert str(twin) == str(error)
        assert twin.args == error.args


def test_worker_error_shows_the_remote_traceback():
    error = WorkerError("worker 3 raised", next_step="read it", rank=3, traceback_text="Traceback: line 7 of task.py")

    twin = pickle.loads(pickle.dumps(error))

    assert "line 7 of task.py" in "".join(traceback.format_exception(twin))
    assert twin.rank == 3


def test_storage_full_bears_the_systems_number():
    assert StorageFullError("full", next_step="free some").errno == errno.ENOSPC


def test_own_fields_have_defaults_that_say_nothing_false():
    assert StepError("x", next_step="y").inputs == {}
    assert UnavailableError("x", next_step="y").status == 503
    assert WorkerError("x", next_step="y").pid is None
