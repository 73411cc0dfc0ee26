"""What tests share: one Ray cluster of two nodes, and services that are skipped where none listens."""

import os
import socket
import warnings
from collections.abc import Callable

import pytest
from hypothesis import settings

# On the machine that guards main the examples are always the same: a new one is found where somebody can look at it.
settings.register_profile("guard", derandomize=True)
if os.environ.get("SHOAL_REQUIRE_SERVICES") == "1":
    settings.load_profile("guard")


@pytest.fixture(scope="session")
def ray_cluster():
    """A cluster that this process is connected to; two nodes of two cores each, on loopback."""
    # Before Ray is loaded: without it, Ray looks for a token in the user's home.
    os.environ["RAY_AUTH_MODE"] = "disabled"
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    ray = pytest.importorskip("ray")
    with warnings.catch_warnings():
        # Ray's own start leaves files and processes to be collected; what our code leaves is still an error.
        warnings.simplefilter("ignore")
        from ray.cluster_utils import Cluster

        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
        cluster.add_node(num_cpus=2)
        cluster.wait_for_nodes()
        ray.init(address=cluster.address, log_to_driver=False, namespace="shoal")
    yield cluster
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ray.shutdown()
        cluster.shutdown()


@pytest.fixture(scope="session")
def require_service() -> Callable[[str, int], str]:
    """Return "host:port" of a service on this machine; skip the test where nothing listens there.

    With SHOAL_REQUIRE_SERVICES=1 the test fails instead: so a CI that should have the service cannot pass without.
    """

    def require(name: str, port: int) -> str:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=2):
                return f"127.0.0.1:{port}"
        except OSError as error:
            reason = f"{name} does not listen on 127.0.0.1:{port} ({error})"
            if os.environ.get("SHOAL_REQUIRE_SERVICES") == "1":
                pytest.fail(reason)
            pytest.skip(reason)

    return require


@pytest.fixture
def postgres_url(require_service: Callable[[str, int], str]) -> str:
    """The URL of a PostgreSQL that trusts its user postgres."""
    return f"postgresql+psycopg://postgres@{require_service('PostgreSQL', 5432)}/postgres"
