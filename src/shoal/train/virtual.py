"""Virtual workers: what one micro-batch brings to a step, kept in one flat piece of memory.

A virtual worker starts from the step's weights and buffers and from its own random stream, so what it brings depends
on the step and on its number alone, not on which process runs it or what that process ran before.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from shoal.base import InputError, UnsupportedError
from shoal.train.base import TrainState
from shoal.train.task import Batch

_MASK = (1 << 64) - 1


def stream_seed(seed: int, step: int, part: int) -> int:
    """The start of the random stream of one virtual worker in one step; neighbours get unrelated numbers.

    Source: the finaliser of SplitMix64, Steele et al. 2014, once per key word.
    """
    value = seed & _MASK
    for word in (step, part):
        value = (value + 0x9E3779B97F4A7C15 * (word + 1)) & _MASK
        value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
        value ^= value >> 31
    return value


@dataclass(frozen=True, slots=True)
class Section:
    """The numbers of one dtype inside a contribution: first gradients, then buffers."""

    dtype: torch.dtype
    start: int
    end: int
    buffers_start: int


class Layout:
    """Where each gradient and buffer of a module lies in one flat piece of bytes; the same on every worker."""

    def __init__(self, module: nn.Module) -> None:
        self.params = [param for param in module.parameters() if param.requires_grad]
        self.buffers = list(module.buffers())
        _check(module, [*self.params, *self.buffers])
        # Wide types first keeps every section aligned to its own width. The loss is the last float64.
        dtypes = {tensor.dtype for tensor in [*self.params, *self.buffers]} | {torch.float64}
        self.sections: list[Section] = []
        offset = 0
        for dtype in sorted(dtypes, key=lambda dtype: (-dtype.itemsize, str(dtype))):
            num_gradients = sum(param.numel() for param in self.params if param.dtype == dtype)
            num_buffers = sum(buffer.numel() for buffer in self.buffers if buffer.dtype == dtype)
            num = num_gradients + num_buffers + (dtype == torch.float64)
            end = offset + num * dtype.itemsize
            self.sections.append(Section(dtype, offset, end, num_gradients))
            offset = end
        self.size_bytes = offset

    def new(self) -> "Contribution":
        """An empty contribution."""
        return Contribution(self, torch.zeros(self.size_bytes, dtype=torch.uint8))


class Contribution:
    """Weighted gradients, changes of buffers and loss of one or more virtual workers, as views of one flat tensor."""

    __slots__ = ("buffers", "data", "flats", "gradients", "loss", "moves")

    def __init__(self, layout: Layout, data: torch.Tensor) -> None:
        self.data = data
        self.flats = [data[section.start : section.end].view(section.dtype) for section in layout.sections]
        self.gradients: list[torch.Tensor] = []
        self.buffers: list[torch.Tensor] = []
        # The tails of the floating sections, where a buffer stands for how far it moved.
        self.moves: list[torch.Tensor] = []
        by_dtype = {section.dtype: (flat, section) for flat, section in zip(self.flats, layout.sections, strict=True)}
        places = dict.fromkeys(by_dtype, 0)
        for tensor in [*layout.params, *layout.buffers]:
            flat, _ = by_dtype[tensor.dtype]
            place = places[tensor.dtype]
            # A gradient takes its parameter's memory order, which optimisers and kernels are quickest with.
            view = flat.as_strided(tensor.shape, torch.empty_like(tensor).stride(), flat.storage_offset() + place)
            (self.gradients if len(self.gradients) < len(layout.params) else self.buffers).append(view)
            places[tensor.dtype] = place + tensor.numel()
        for flat, section in by_dtype.values():
            if section.dtype.is_floating_point:
                self.moves.append(flat[section.buffers_start : places[section.dtype]])
        self.loss = by_dtype[torch.float64][0][-1:]

    def add(self, later: "Contribution") -> "Contribution":
        """This one plus one of later virtual workers, in place; integers, such as counters, are the later's."""
        for mine, other in zip(self.flats, later.flats, strict=True):
            if mine.dtype.is_floating_point:
                mine.add_(other)
            else:
                mine.copy_(other)
        return self


class VirtualWorkers:
    """Computes contributions of a module's virtual workers, one after the other."""

    def __init__(self, state: TrainState, seed: int) -> None:
        self.layout = Layout(state.module)
        self._state = state
        self._seed = seed
        self._start = self.layout.new()

    def begin(self) -> None:
        """Remember the buffers that every virtual worker of this step starts from."""
        _copy(self._start.buffers, self.layout.buffers)

    def contribute(self, batch: Batch | None, part: int, weight: float, into: Contribution) -> None:
        """Run one micro-batch forward and back and keep what it brings.

        Args:
            batch: its rows, or None if it has none, which brings nothing but the counters as they were.
            part: number of the virtual worker.
            weight: its share of the global batch's rows.
            into: overwritten.
        """
        into.data.zero_()
        if batch is None:
            _copy([buffer for buffer in into.buffers if not buffer.dtype.is_floating_point], self._counters())
            return
        state = self._state
        _copy(self.layout.buffers, self._start.buffers)
        # The generator itself: torch.manual_seed also visits every accelerator, which takes 100 times as long.
        torch.default_generator.manual_seed(stream_seed(self._seed, state.position.step, part))
        for param, gradient in zip(self.layout.params, into.gradients, strict=True):
            param.grad = gradient
        loss = state.task.loss(state.module(*state.task.inputs(batch)), batch)
        _check_loss(loss)
        # Not backward(weight), which loads a computer algebra system to look at the weight's shape.
        (loss * weight).backward()  # type: ignore[no-untyped-call]  # torch has no types here
        for param, gradient in zip(self.layout.params, into.gradients, strict=True):
            if param.grad is not gradient and param.grad is not None:
                # Autograd puts a new tensor there when it cannot add in place, as with sparse gradients.
                gradient.copy_(param.grad.to_dense())
        into.loss.fill_(loss.item() * weight)
        _copy(into.buffers, self.layout.buffers)
        for moved, start in zip(into.moves, self._start.moves, strict=True):
            # Only what moved counts: a constant must keep its bits, and infinity minus infinity is no number.
            still = moved == start
            moved.sub_(start).mul_(weight).masked_fill_(still, 0)

    def apply(self, total: Contribution) -> None:
        """Set the module's gradients and buffers to what all virtual workers together say."""
        for moved, start in zip(total.moves, self._start.moves, strict=True):
            moved.add_(start)
        _copy(self.layout.buffers, total.buffers)
        for param, gradient in zip(self.layout.params, total.gradients, strict=True):
            param.grad = gradient

    def undo(self) -> None:
        """Set the buffers back to where the step began."""
        _copy(self.layout.buffers, self._start.buffers)

    def _counters(self) -> list[torch.Tensor]:
        return [buffer for buffer in self._start.buffers if not buffer.dtype.is_floating_point]


def _copy(targets: Sequence[torch.Tensor], sources: Sequence[torch.Tensor]) -> None:
    with torch.no_grad():
        for target, source in zip(targets, sources, strict=True):
            target.copy_(source)


def _check(module: nn.Module, tensors: Sequence[torch.Tensor]) -> None:
    if not any(param.requires_grad for param in module.parameters()):
        raise InputError(
            f"cannot train {type(module).__name__}: none of its parameters asks for a gradient",
            next_step="leave requires_grad on for at least one parameter in build()",
        )
    for tensor in tensors:
        if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.dtype.is_complex:
            raise UnsupportedError(
                f"cannot train {type(module).__name__}: it holds a tensor that is {tensor.layout}, {tensor.dtype} on "
                f"{tensor.device}, expected dense real numbers on the CPU",
                next_step="build the model on the CPU with dense, real parameters",
            )


def _check_loss(loss: torch.Tensor) -> None:
    if not isinstance(loss, torch.Tensor) or loss.numel() != 1 or not loss.requires_grad:
        found = f"{tuple(loss.shape)}, requires_grad={loss.requires_grad}" if isinstance(loss, torch.Tensor) else loss
        raise InputError(
            f"cannot train with this loss: found {found}, expected one number that depends on the parameters",
            next_step="return the mean over the rows from the task's loss()",
        )
