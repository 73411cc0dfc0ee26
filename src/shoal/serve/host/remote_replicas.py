"""What a server has ready for replicas on other machines: ports, a token, and the files of its models."""

import socket
from collections.abc import Callable

from shoal.base import ServeError
from shoal.runtime import Code, open_runtime
from shoal.serve.fronts.entrance import EntrancePlace
from shoal.serve.fronts.listening import reserve
from shoal.serve.host.model_files import ModelFiles
from shoal.serve.links.proof import new_token
from shoal.serve.replicas.remote_replica import run_remote_replica


class RemoteReplicas:
    """The replicas' way to a server whose runtime is not the local one.

    Attributes:
        runtime: where the replicas run.
        entrances: for each front, where replicas come in: address, port, and the token, which travels with the
            configuration, over the runtime.
    """

    def __init__(self, runtime: str, *, num_fronts: int, is_planned: Callable[[str], bool]) -> None:
        """Connect to the runtime, and take ports of this machine that its nodes reach.

        Args:
            runtime: its name, as `open_runtime` takes it.
            num_fronts: each gets a port, which it keeps when it is started again.
            is_planned: whether replicas may have the files of a source.

        Raises:
            ConfigError: there is no such runtime.
            UnsupportedError: what it needs is not installed.
            ServeError: the address that the nodes know is none of this machine.
        """
        self.runtime = open_runtime(runtime)
        self._address = self.runtime.address
        self._token = new_token()
        self._reservations: list[socket.socket] = []
        try:
            self._reservations = [reserve(self._address, 0) for _ in range(num_fronts)]
            self._files = ModelFiles(self._address, self._token, is_planned)
        except OSError as error:
            raise ServeError(
                f"cannot listen on {self._address}, where the replicas would come: {error.strerror or error}",
                next_step="start the server on a machine of the cluster, or on one that its nodes reach",
            ) from error
        self._ports = [int(reservation.getsockname()[1]) for reservation in self._reservations]
        self.entrances: list[EntrancePlace] = [(self._address, port, self._token) for port in self._ports]

    def code(self, *, threads: int) -> Code:
        """What a replica runs."""
        return Code.of(
            run_remote_replica,
            config={
                "address": self._address,
                "ports": self._ports,
                "files_port": self._files.port,
                "token": self._token,
                "threads": threads,
            },
        )

    def close(self) -> None:
        """Give the ports back."""
        self._files.close()
        for reservation in self._reservations:
            reservation.close()
