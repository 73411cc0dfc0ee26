"""Every kind of server that is measured, at every setting that is tried."""

import socket
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from data_environments import PEERS, SERVING, SERVING_MLSERVER, SERVING_TRITON, Environment

NUM_REPLICAS = 2


@dataclass(frozen=True)
class Ports:
    """Free ports of this machine."""

    http: int
    grpc: int
    metrics: int

    @classmethod
    def free(cls) -> Self:
        """Choose three."""
        sockets = [socket.socket() for _ in range(3)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        numbers = [each.getsockname()[1] for each in sockets]
        for each in sockets:
            each.close()
        return cls(*numbers)


@dataclass(frozen=True)
class Kind:
    """A server: its driver under `peers/` (None for shoal's own command), and the forms of request that it takes.

    Attributes:
        name: the peer's, and then the setting where several are tried.
        environment: None for the one that this program runs in.
        driver: gets three ports, for HTTP, gRPC and metrics, and then the arguments.
        json: a form of `serving_bodies`.
        binary: likewise; None where it takes no such thing.
        has_grpc: whether it speaks the Open Inference Protocol over gRPC.
        arguments: of the driver, or of `shoal serve run`.
        is_usual: whether this setting stands for the peer where only one is measured.
        target_s: what it is told about the latency that requests may have, if it has such a setting; 0 for nothing.
    """

    name: str
    environment: Environment | None
    driver: str | None
    json: str
    binary: str | None = None
    has_grpc: bool = False
    arguments: tuple[str, ...] = ()
    is_usual: bool = True
    target_s: float = 0.0

    @property
    def is_shoal(self) -> bool:
        """Whether it is ours."""
        return self.driver is None

    def command(self, model: Path, ports: Ports) -> list[str]:
        """Return what starts it.

        Raises:
            MissingPeerError: its environment could not be made.
        """
        if self.environment is None:
            # No prediction log, as no peer has one. Validation, prediction ids and metrics have no switch. With --json
            # it prints which process is what.
            command = [_shoal(), "serve", "run", str(model), "--port", str(ports.http), "--json"]
            command += ["--replicas", str(NUM_REPLICAS), "--grpc-port", str(ports.grpc), *self.arguments]
            return [*command, "--most-wait-s", f"{self.target_s / 2:g}"] if self.target_s else command
        numbers = [str(port) for port in (ports.http, ports.grpc, ports.metrics)]
        return [self.environment.python(), "-W", "ignore", str(PEERS / f"{self.driver}.py"), *numbers, *self.arguments]


SHOAL = Kind("shoal", None, None, "open json", "open binary", has_grpc=True)
# Room for many more answers than a small set of bodies has.
CACHED = replace(SHOAL, name="shoal, cache", arguments=("--prediction-cache-bytes", str(64 << 20)))
TWO_FRONTS = replace(SHOAL, name="shoal, 2 fronts", arguments=("--fronts", "2"))


def _mosec(most_rows: int, num_workers: int) -> Kind:
    # With as many clients as a batch holds, one worker takes them all and the other has nothing to do: half of it is
    # then better, and worse when there are more clients. A third worker parses while the others compute.
    name = f"mosec {most_rows} rows x {num_workers}"
    arguments = (str(most_rows), str(num_workers))
    is_usual = (most_rows, num_workers) == (16, 2)
    return Kind(name, SERVING, "serving_mosec", "plain json", "plain binary", arguments=arguments, is_usual=is_usual)


def _fastapi(num_workers: int) -> Kind:
    name, arguments = f"fastapi x {num_workers}", (str(num_workers),)
    return Kind(
        name, SERVING, "serving_fastapi", "plain json", "plain binary", arguments=arguments, is_usual=num_workers == 2
    )


def _triton(num_instances: int) -> Kind:
    return Kind(
        f"triton x {num_instances}",
        SERVING_TRITON,
        "serving_triton",
        "open json",
        "open binary",
        has_grpc=True,
        arguments=(str(num_instances),),
        is_usual=num_instances == 2,
    )


KINDS = {
    kind.name: kind
    for kind in (
        SHOAL,
        *(_mosec(*setting) for setting in ((32, 2), (16, 2), (8, 2), (16, 3), (32, 3))),
        *(_fastapi(number) for number in (2, 3)),
        *(_triton(number) for number in (2, 1, 4)),
        Kind("mlserver", SERVING_MLSERVER, "serving_mlserver", "open json", has_grpc=True),
        Kind("bentoml", SERVING, "serving_bentoml", "rows json"),
        Kind("litserve", SERVING, "serving_litserve", "plain json"),
        Kind("ray", SERVING, "serving_ray", "plain json", "plain binary"),
    )
}
QUICK_PEER = "mosec 16 rows x 2"


def _shoal() -> str:
    return str(Path(sys.executable).with_name("shoal"))
