import pytest

from shoal.runtime import LocalRuntime
from shoal.serve.host import remote_replicas
from shoal.serve.host.placement import place_replicas
from shoal.serve.host.settings import ServeSettings
from shoal.serve.replicas.remote_replica import run_remote_replica
from shoal.serve.replicas.replica import run_replica


@pytest.fixture
def home():
    return LocalRuntime()


def test_at_home_replicas_find_each_front_by_a_socket(home, tmp_path):
    placement = place_replicas(ServeSettings(fronts=2), tmp_path, home, lambda _: True)

    assert placement.runtime is home
    assert placement.is_here
    assert placement.entrances == [str(tmp_path / f"replicas-{rank}.sock") for rank in (0, 1)]
    assert placement.code.target is run_replica
    assert placement.code.config["socket_paths"] == placement.entrances
    placement.close()


def test_elsewhere_they_find_it_by_address_and_token(home, tmp_path, monkeypatch):
    away = LocalRuntime()
    monkeypatch.setattr(remote_replicas, "open_runtime", lambda _: away)

    placement = place_replicas(ServeSettings(fronts=2, runtime="ray"), tmp_path, home, lambda _: True)
    placement.close()

    assert placement.runtime is away
    assert not placement.is_here
    assert len({port for _, port, _ in placement.entrances}) == 2
    assert placement.code.target is run_remote_replica
