"""Which device a worker computes on, and what keeps its bits the same there.

Only workers ask CUDA anything: a process that has started it cannot be forked, and holds memory on a GPU. Their
supervisor knows no more than the words that it was given.
"""

import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import torch

from shoal.base import ConfigError, ConflictError, UnsupportedError, file_lock

# What workers must find when they load torch. A matrix product on a GPU has the same bits each time only with a
# workspace of fixed size; and NCCL's own watch would end a process whose peer died, where ours goes on without it.
VARIABLES = {
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    "TORCH_NCCL_ASYNC_ERROR_HANDLING": "0",
    "TORCH_NCCL_ENABLE_MONITORING": "0",
}
CPU = torch.device("cpu")
_CUDA = re.compile(r"cuda(?::(\d+))?")
# How torch words that an operation has no deterministic version, or that the workspace above was not set in time.
_NOT_DETERMINISTIC = re.compile(r"does not have a deterministic implementation|CUBLAS_WORKSPACE_CONFIG")


@dataclass(frozen=True, slots=True)
class Placement:
    """A worker's device; the claim on it ends with this process, however that dies, or with the placement."""

    device: torch.device
    _claim: ExitStack = field(default_factory=ExitStack, repr=False)


def check_device(asked: str | None) -> str | None:
    """Return the words for a device if they are any, without starting CUDA: whether it is there, the workers find out.

    Raises:
        ConfigError: it is none of "cpu", "cuda" and "cuda:1", or this torch was built without CUDA.
    """
    if asked is None or asked == "cpu":
        return asked
    if not isinstance(asked, str) or not _CUDA.fullmatch(asked):
        raise ConfigError(
            f"device={asked!r:.200} is not known, expected 'cpu', 'cuda' or one such as 'cuda:1'",
            next_step="leave it out: a GPU where there is one, else the CPU",
        )
    if not torch.backends.cuda.is_built():  # type: ignore[no-untyped-call]  # torch has no types here
        raise ConfigError(
            f"cannot train with device={asked!r}: torch {torch.__version__} was built without CUDA",
            next_step="install torch with CUDA, or use device='cpu'",
        )
    return asked


def choose_device(asked: str | None) -> Placement:
    """Return the device that this worker computes on, and make it the present one; called once, in the worker.

    Workers on one host, of whatever run of this user, spread over its GPUs: each takes the first that nobody has
    claimed; when all are, it is a second one's turn on each, and so on.

    Args:
        asked: as `check_device` takes it; None is a GPU where there is one, else the CPU.

    Raises:
        ConfigError: a GPU was asked for that is not there.
    """
    check_device(asked)
    # In a supervisor this would start the driver, unless the user set PYTORCH_NVML_BASED_CUDA_CHECK=1.
    num_gpus = 0 if asked == "cpu" or not torch.cuda.is_available() else torch.cuda.device_count()
    if asked == "cpu" or (asked is None and not num_gpus):
        return Placement(CPU)
    placement = _claim(_candidates(asked, num_gpus))
    torch.cuda.set_device(placement.device)
    return placement


def keep_bits(device: torch.device) -> None:
    """Have this process compute the same bits each time on a device; nothing to do on the CPU.

    The precision of matrix products and convolutions stays as torch has it, or the user.
    """
    if device.type == "cuda":
        torch.use_deterministic_algorithms(True)
        # It would also fill all new memory, here and on the CPU, for programs that read what nobody has written.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # torch sets it by a property
        # Which kernel is quickest is not the same each time.
        torch.backends.cudnn.benchmark = False


@contextmanager
def explaining_determinism() -> Iterator[None]:
    """Tell whose operation has no deterministic version on a GPU what can be done about it.

    Raises:
        UnsupportedError: in place of torch's own error, which is its cause.
    """
    try:
        yield
    except RuntimeError as error:
        if not _NOT_DETERMINISTIC.search(str(error)):
            raise
        raise UnsupportedError(
            f"cannot compute the same bits each time on a GPU: {str(error).splitlines()[0]}",
            next_step="train with device='cpu' or another operation, set CUBLAS_WORKSPACE_CONFIG=:4096:8 if that is "
            "named, or give the promise up by torch.use_deterministic_algorithms(False) in the task's build()",
        ) from error


def identity(device: torch.device) -> tuple[str, str]:
    """A device's model and its own id: two with the same model give the same bits; "cpu" and "" for the CPU."""
    if device.type != "cuda":
        return device.type, ""
    return torch.cuda.get_device_name(device), _gpu_id(
        torch.cuda.current_device() if device.index is None else device.index
    )


def _candidates(asked: str | None, num_gpus: int) -> Sequence[int]:
    index = None if asked is None or (found := _CUDA.fullmatch(asked)) is None else found[1]
    if not num_gpus or (index is not None and int(index) >= num_gpus):
        there = f"{num_gpus} GPU{'s' if num_gpus > 1 else ''}, counted from 0" if num_gpus else "no GPU"
        raise ConfigError(
            f"cannot train with device={asked!r}: torch finds {there}",
            next_step="use device='cpu', or look at nvidia-smi and CUDA_VISIBLE_DEVICES",
        )
    return range(num_gpus) if index is None else [int(index)]


def _claim(indices: Sequence[int]) -> Placement:
    folder = Path(tempfile.gettempdir()) / f"shoal-gpus-{os.getuid()}"
    for turn in count():
        for index in indices:
            claim = ExitStack()
            try:
                # By its id: with another CUDA_VISIBLE_DEVICES the same number is another GPU.
                claim.enter_context(file_lock(folder / f"{_gpu_id(index)}.{turn}", blocking=False))
            except ConflictError:
                continue
            return Placement(torch.device("cuda", index), claim)
    raise AssertionError("there is always another turn")


def _gpu_id(index: int) -> str:
    return str(torch.cuda.get_device_properties(index).uuid)
