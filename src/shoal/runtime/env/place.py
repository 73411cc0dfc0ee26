"""A process's place in a job that another launcher started, read from what that launcher says."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from shoal.base import ConfigError

# Rank 0 takes the first of these ports after the job's own that is free; torchrun listens on the job's port itself.
NUM_PORTS = 16
_SLURM_FIRST_PORT = 20_000
_SLURM_NUM_PORTS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Which of how many processes this is, and where rank 0 is found.

    Attributes:
        rank: from 0 to `size` - 1, over all machines.
        size: processes in the job.
        address: name or address of rank 0's machine.
        port: the job's own; rank 0 listens on one of the next `NUM_PORTS`.
        job: what tells this job, and this attempt of it, from others; not a secret.
    """

    rank: int
    size: int
    address: str
    port: int
    job: str

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.size:
            raise ConfigError(
                f"rank {self.rank} of {self.size} is no place in a job",
                next_step="see what the launcher has set in RANK and WORLD_SIZE, or SLURM_PROCID and SLURM_NTASKS",
            )

    @property
    def ports(self) -> range:
        """Where rank 0 may listen, in the order to try."""
        return range(self.port + 1, self.port + 1 + NUM_PORTS)

    @property
    def token(self) -> bytes:
        """32 bytes that every process of the job finds by itself."""
        return hashlib.sha256(f"{self.job}/{self.address}/{self.port}/{self.size}".encode()).digest()


def place_in_job(variables: Mapping[str, str]) -> Place:
    """The place that a launcher's environment variables describe; torchrun's win over those of Slurm around it.

    Raises:
        ConfigError: no launcher has set them, or not to what they must be.

    >>> place_in_job({"RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "node1", "MASTER_PORT": "29500"}).rank
    1
    """
    if "RANK" in variables and "WORLD_SIZE" in variables:
        return Place(
            rank=_number(variables, "RANK"),
            size=_number(variables, "WORLD_SIZE"),
            address=_text(variables, "MASTER_ADDR"),
            port=_number(variables, "MASTER_PORT"),
            job="/".join(variables.get(name, "") for name in ("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT")),
        )
    if "SLURM_PROCID" in variables:
        job_id, step_id = variables.get("SLURM_JOB_ID", "0"), variables.get("SLURM_STEP_ID", "0")
        port = _SLURM_FIRST_PORT + int(hashlib.sha256(job_id.encode()).hexdigest(), 16) % _SLURM_NUM_PORTS
        return Place(
            rank=_number(variables, "SLURM_PROCID"),
            size=_number(variables, "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"),
            address=variables.get("MASTER_ADDR")
            or first_host(_text(variables, "SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST", "SLURM_NODELIST")),
            port=_number(variables, "MASTER_PORT") if "MASTER_PORT" in variables else port,
            job=f"slurm {job_id}.{step_id}",
        )
    raise ConfigError(
        "cannot join a job: neither RANK and WORLD_SIZE nor SLURM_PROCID is set",
        next_step='start the program by torchrun or srun, or use runtime="local"',
    )


def first_host(nodes: str) -> str:
    """The first host of a list as Slurm writes them, where rank 0 runs.

    >>> first_host("gpu[007-012,20],login1")
    'gpu007'
    """
    found = re.match(r"([^\[,]+)(?:\[(\w+)[^\]]*\]([^,]*))?", nodes)
    if found is None:
        raise ConfigError(f"cannot read the list of nodes {nodes!r}", next_step="set MASTER_ADDR to the host of rank 0")
    return "".join(part or "" for part in found.groups())


def _text(variables: Mapping[str, str], *names: str) -> str:
    for name in names:
        if name in variables:
            return variables[name]
    raise ConfigError(
        f"cannot join the job: {' and '.join(names)} is not set",
        next_step="start the program by torchrun or srun, or set it by hand for every process",
    )


def _number(variables: Mapping[str, str], *names: str) -> int:
    text = _text(variables, *names)
    try:
        return int(text)
    except ValueError:
        raise ConfigError(
            f"{' or '.join(names)}={text!r} must be a number", next_step="start the program by torchrun or srun"
        ) from None
