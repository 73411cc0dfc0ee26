"""The Ray cluster that this process is connected to."""

from typing import Any
from urllib.parse import urlsplit

from shoal.base import UnsupportedError
from shoal.runtime.base import Resources
from shoal.runtime.remote.reception import address_towards

try:
    import ray as _ray
except ImportError as error:
    raise UnsupportedError("Ray is not installed", next_step="pip install 'shoal[ray]'") from error

# Half of Ray is typed, and that half not always right.
ray: Any = _ray


def connect(address: str | None) -> None:
    """Connect to the cluster at `address`, unless this process is connected to one already.

    Without an address, Ray finds the cluster that RAY_ADDRESS names, or starts one on this machine.
    """
    if not ray.is_initialized():
        # Workers' output goes to Ray's own logs: it would mix with what this program says.
        ray.init(address=address, log_to_driver=False, namespace="shoal")


def own_address(address: str | None) -> str:
    """The address of this machine that the cluster's nodes reach it by."""
    if address is not None and address.startswith("ray://"):
        return address_towards(urlsplit(address).hostname or "")
    return str(ray.util.get_node_ip_address())


def actor_options(resources: Resources) -> dict[str, Any]:
    """What an actor asks for; it comes back neither by itself nor elsewhere: that is for the supervisor to decide."""
    options: dict[str, Any] = {"num_cpus": resources.cpus, "num_gpus": resources.gpus, "max_restarts": 0}
    if resources.memory_bytes is not None:
        options["memory"] = resources.memory_bytes
    return options
