"""Virtual workers: what one micro-batch brings to a step.

A virtual worker starts from the step's weights and buffers and from its own random stream, so what it brings depends
on the step and on its number alone, not on which process runs it or what that process ran before.
"""

import torch

from shoal.base import InputError
from shoal.train.base import TrainState
from shoal.train.computing import compute_loss
from shoal.train.layout import Buffers, Contribution, Layout, copy_each
from shoal.train.random_streams import seed_generators, stream_seed
from shoal.train.task import Batch


class VirtualWorkers:
    """Computes contributions of a module's virtual workers, one after the other.

    Every gradient is made anew by autograd and then copied or added to its place. Letting autograd add in place would
    save a pass over memory, but where a parameter gets its gradient in several portions, as under checkpointing with
    reentry, the sum would be bracketed in another way.
    """

    def __init__(self, state: TrainState, seed: int, *, measure_noise: bool = False) -> None:
        self.layout = Layout(state.module)
        self._state = state
        self._seed = seed
        self._measure_noise = measure_noise
        self._start, self._now = Buffers(self.layout), Buffers(self.layout)
        # Nothing may go on looking into the memory of a group that is no more.
        self._drop_gradients()

    def begin(self) -> None:
        """Remember the buffers that every virtual worker of this step starts from."""
        self._start.take()

    def contribute(
        self, batch: Batch | None, part: int, weight: float, into: Contribution, *, onto: bool = False
    ) -> float:
        """Run one micro-batch forward and back and keep what it brings; return its mean loss.

        Args:
            batch: its rows, or None if it has none, which brings nothing but the counters as they were.
            part: number of the virtual worker.
            weight: its share of the global batch's rows.
            into: where to.
            onto: add to what is there, with the same bits as adding a contribution of its own; else it is overwritten.
        """
        if batch is None:
            self._bring_nothing(into, onto=onto)
            return 0.0
        self._start.put_back()
        self._drop_gradients()
        seed_generators(stream_seed(self._seed, self._state.position.step, part), self.layout.devices)
        loss = compute_loss(self._state, batch)
        _check_loss(loss)
        # Not backward(weight), which loads a computer algebra system to look at the weight's shape.
        (loss * weight).backward()  # type: ignore[no-untyped-call]  # torch has no types here
        value = loss.item()
        with torch.no_grad():
            square = self._bring_gradients(into, onto=onto) / weight if weight else 0.0
            self._bring_buffers(weight, into, onto=onto)
            for target, number in ((into.loss, value * weight), (into.square, square)):
                target.add_(number) if onto else target.fill_(number)
        return value

    def apply(self, total: Contribution, *, in_place: bool) -> None:
        """Set the module's gradients and buffers to what all virtual workers together say.

        Args:
            total: only read, as other members may look at the same memory.
            in_place: let the gradients be that memory, for whom reads them only; else they are copied.
        """
        for now, start, moved in zip(self._now.floats, self._start.floats, total.moves, strict=True):
            torch.add(moved, start, out=now)
        copy_each(self._now.counters, total.counters)
        self._now.put_back()
        for param, gradient in zip(self.layout.params, total.gradients, strict=True):
            param.grad = gradient.to(param.device) if in_place else gradient.to(param.device, copy=True)

    def undo(self) -> None:
        """Set the buffers back to where the step began."""
        self._start.put_back()
        self._state.logged.discard()

    def _drop_gradients(self) -> None:
        for param in self.layout.params:
            param.grad = None

    def _bring_gradients(self, into: Contribution, *, onto: bool) -> float:
        """Take the parameters' fresh gradients; return their squared length if that is measured, else 0."""
        device = into.data.device
        targets, fresh = [], []
        for param, target in zip(self.layout.params, into.gradients, strict=True):
            gradient = param.grad
            if gradient is None:
                # Adding nothing is not the same: -0 plus 0 is 0.
                target.add_(0.0) if onto else target.zero_()
            else:
                targets.append(target)
                fresh.append((gradient if gradient.layout == torch.strided else gradient.to_dense()).to(device))
        if fresh:
            torch._foreach_add_(targets, fresh) if onto else torch._foreach_copy_(targets, fresh)
        return square_of(fresh) if self._measure_noise else 0.0

    def _bring_buffers(self, weight: float, into: Contribution, *, onto: bool) -> None:
        if not self.layout.buffers:
            return
        self._now.take()
        for now, start, target in zip(self._now.floats, self._start.floats, into.moves, strict=True):
            # Only what moved counts: a constant must keep its bits, and infinity minus infinity is no number.
            still = now == start
            now.sub_(start).mul_(weight).masked_fill_(still, 0)
            target.add_(now) if onto else target.copy_(now)
        copy_each(into.counters, self._now.counters)

    def _bring_nothing(self, into: Contribution, *, onto: bool) -> None:
        if onto:
            for flat in into.flats:
                if flat.dtype.is_floating_point:
                    flat.add_(0.0)
        else:
            into.data.zero_()
        copy_each(into.counters, self._start.counters)


def square_of(gradients: list[torch.Tensor]) -> float:
    """The squared length of some gradients taken together; in float32 at least, as theirs may be too coarse for it."""
    norms = [torch.linalg.vector_norm(each, dtype=torch.promote_types(each.dtype, torch.float32)) for each in gradients]
    return float(torch.stack([norm.double() for norm in norms]).square().sum()) if norms else 0.0


def _check_loss(loss: torch.Tensor) -> None:
    if not isinstance(loss, torch.Tensor) or loss.numel() != 1 or not loss.requires_grad:
        found = f"{tuple(loss.shape)}, requires_grad={loss.requires_grad}" if isinstance(loss, torch.Tensor) else loss
        raise InputError(
            f"cannot train with this loss: found {found}, expected one number that depends on the parameters",
            next_step="return the mean over the rows from the task's loss()",
        )
