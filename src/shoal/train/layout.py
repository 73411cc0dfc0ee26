"""How what a virtual worker brings to a step lies in memory: gradients, changes of buffers, and a few numbers."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from shoal.base import InputError, UnsupportedError

# The last float64 numbers of a contribution: its loss, and the squared length of its gradients; both weighted.
_NUM_SCALARS = 2
_ALIGNED_BYTES = 64


@dataclass(frozen=True, slots=True)
class Section:
    """The numbers of one dtype inside a contribution, in bytes: first gradients, then buffers, then scalars."""

    dtype: torch.dtype
    start: int
    end: int
    num_gradients: int
    num_buffers: int


class Layout:
    """Where each gradient and buffer of a module lies in one flat piece of bytes; the same on every worker.

    `size_bytes` is a multiple of 64, so that pieces may lie behind each other. `device` is where they are filled: a
    group's memory must be there. `devices` are all that the module is on.
    """

    def __init__(self, module: nn.Module) -> None:
        self.params = [param for param in module.parameters() if param.requires_grad]
        self.buffers = list(module.buffers())
        self.device, self.devices = exchange_device(module), devices_of(module)
        _check(module, [*self.params, *self.buffers])
        # Wide types first keeps every section aligned to its own width.
        dtypes = {tensor.dtype for tensor in [*self.params, *self.buffers]} | {torch.float64}
        self.sections: list[Section] = []
        offset = 0
        for dtype in sorted(dtypes, key=lambda dtype: (-dtype.itemsize, str(dtype))):
            num_gradients = sum(param.numel() for param in self.params if param.dtype == dtype)
            num_buffers = sum(buffer.numel() for buffer in self.buffers if buffer.dtype == dtype)
            num = num_gradients + num_buffers + (_NUM_SCALARS if dtype == torch.float64 else 0)
            end = offset + num * dtype.itemsize
            self.sections.append(Section(dtype, offset, end, num_gradients, num_buffers))
            offset = end
        self.size_bytes = -(-offset // _ALIGNED_BYTES) * _ALIGNED_BYTES

    def new(self) -> "Contribution":
        """An empty contribution."""
        return Contribution(self, torch.zeros(self.size_bytes, dtype=torch.uint8, device=self.device))


class Contribution:
    """Weighted gradients, changes of buffers and loss of one or more virtual workers, as views of one flat tensor.

    Attributes:
        flats: a section each.
        gradients: a view per parameter, in its shape and memory order.
        moves: per floating section, how far its buffers moved.
        counters: per other section, its buffers.
        loss, square: float64 [1], sums of the parts' weighted ones.
    """

    __slots__ = ("counters", "data", "flats", "gradients", "loss", "moves", "square")

    def __init__(self, layout: Layout, data: torch.Tensor) -> None:
        self.data = data
        self.flats = [data[section.start : section.end].view(section.dtype) for section in layout.sections]
        by_dtype = {section.dtype: flat for section, flat in zip(layout.sections, self.flats, strict=True)}
        self.gradients = _views(layout.params, by_dtype)
        self.moves: list[torch.Tensor] = []
        self.counters: list[torch.Tensor] = []
        for section, flat in zip(layout.sections, self.flats, strict=True):
            tail = flat[section.num_gradients : section.num_gradients + section.num_buffers]
            (self.moves if section.dtype.is_floating_point else self.counters).append(tail)
        scalars = by_dtype[torch.float64][-_NUM_SCALARS:]
        self.loss, self.square = scalars[:1], scalars[1:]

    def add(self, later: "Contribution") -> "Contribution":
        """This one plus one of later virtual workers, in place; integers, such as counters, are the later's."""
        for mine, other in zip(self.flats, later.flats, strict=True):
            if mine.dtype.is_floating_point:
                mine.add_(other)
            else:
                mine.copy_(other)
        return self


class Buffers:
    """A copy of a module's buffers; flat by dtype, in the order of a contribution's moves and counters."""

    def __init__(self, layout: Layout) -> None:
        self._originals = layout.buffers
        flats = {
            section.dtype: torch.zeros(section.num_buffers, dtype=section.dtype, device=layout.device)
            for section in layout.sections
        }
        self._views = _views(layout.buffers, flats)
        self.floats = [flat for dtype, flat in flats.items() if dtype.is_floating_point]
        self.counters = [flat for dtype, flat in flats.items() if not dtype.is_floating_point]

    def take(self) -> None:
        """Copy from the module."""
        copy_each(self._views, self._originals)

    def put_back(self) -> None:
        """Copy to the module."""
        copy_each(self._originals, self._views)


def exchange_device(module: nn.Module) -> torch.device:
    """Where a module's gradients are put together: on its device, or on the CPU where it is spread over several."""
    devices = devices_of(module)
    return devices.pop() if len(devices) == 1 else torch.device("cpu")


def devices_of(module: nn.Module) -> set[torch.device]:
    """Where a module's parameters are."""
    return {param.device for param in module.parameters()}


def copy_each(targets: Sequence[torch.Tensor], sources: Sequence[torch.Tensor]) -> None:
    """Copy tensors that autograd need not know of."""
    if targets:
        with torch.no_grad():
            torch._foreach_copy_(list(targets), list(sources))


def _views(tensors: Sequence[torch.Tensor], flats: dict[torch.dtype, torch.Tensor]) -> list[torch.Tensor]:
    """One view per tensor, each behind the one before of its dtype."""
    places = dict.fromkeys(flats, 0)
    views = []
    for tensor in tensors:
        flat, place = flats[tensor.dtype], places[tensor.dtype]
        # A gradient takes its parameter's memory order, which optimisers and kernels are quickest with.
        strides = torch.empty_like(tensor, device="meta").stride()
        views.append(flat.as_strided(tensor.shape, strides, flat.storage_offset() + place))
        places[tensor.dtype] = place + tensor.numel()
    return views


def _check(module: nn.Module, tensors: Sequence[torch.Tensor]) -> None:
    if not any(param.requires_grad for param in module.parameters()):
        raise InputError(
            f"cannot train {type(module).__name__}: none of its parameters asks for a gradient",
            next_step="leave requires_grad on for at least one parameter in build()",
        )
    for tensor in tensors:
        if tensor.layout != torch.strided or tensor.device.type not in ("cpu", "cuda") or tensor.dtype.is_complex:
            raise UnsupportedError(
                f"cannot train {type(module).__name__}: it holds a tensor that is {tensor.layout}, {tensor.dtype} on "
                f"{tensor.device}, expected dense real numbers on the CPU or on CUDA",
                next_step="build the model on the CPU with dense, real parameters",
            )
