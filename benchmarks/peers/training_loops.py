"""Hand-written loops: one process, several that never communicate, DistributedDataParallel, and Accelerate.

`training_loops.py KIND DATA BATCH_SIZE STEPS`; KIND is plain, apart (started once for each process, with RANK and
WORLD_SIZE), in_step (the same, but two processes wait for each other before each update and exchange nothing: the most
that any synchronous training can reach), ddp or accelerate (started by torchrun).
"""

import mmap
import os
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from training_workload import Net, Order, StepClock, batches, make_optimizer, read_order


def main() -> None:
    """Dispatch on the kind."""
    kind = sys.argv.pop(1)
    order, given = read_order()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    kinds = {"plain": _alone, "apart": _alone, "in_step": _in_step, "ddp": _ddp, "accelerate": _accelerate}
    kinds[kind](order, given.trace, given.checkpoints)


def _place() -> tuple[int, int]:
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def _alone(order: Order, trace: Path | None, _: Path | None, meet: Callable[[], None] = lambda: None) -> None:
    rank, world_size = _place()
    model = Net()
    optimizer = make_optimizer(model.parameters())
    clock = StepClock(order, rank, trace)
    for images, labels in batches(order, rank, world_size):
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        meet()
        optimizer.step()
        clock.step()
    clock.report(share=world_size)


def _in_step(order: Order, trace: Path | None, checkpoints: Path | None) -> None:
    rank, _ = _place()
    count = 0
    with Path(os.environ["BENCH_MEETING"]).open("r+b") as file, mmap.mmap(file.fileno(), 128) as memory:

        def meet() -> None:
            nonlocal count
            count += 1
            struct.pack_into("<q", memory, 64 * rank, count)
            while struct.unpack_from("<q", memory, 64 * (1 - rank))[0] < count:
                time.sleep(0)

        _alone(order, trace, checkpoints, meet)


def _ddp(order: Order, trace: Path | None, checkpoints: Path | None) -> None:
    import torch.distributed as dist
    from torch.nn.parallel import DistributedDataParallel

    dist.init_process_group("gloo")
    rank, world_size = _place()
    # The two settings that the documentation recommends for speed where the graph never changes.
    model = DistributedDataParallel(Net(), gradient_as_bucket_view=True, static_graph=True)
    optimizer = make_optimizer(model.parameters())
    done = _load(checkpoints, model, optimizer)
    clock = StepClock(order, rank, trace)
    for number, (images, labels) in enumerate(batches(order, rank, world_size)):
        if number < done:
            continue
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
        clock.step(number)
        if checkpoints is not None and rank == 0 and (number + 1) % 5 == 0:
            _save(checkpoints, model, optimizer, number + 1)
    if rank == 0:
        clock.report()
    dist.destroy_process_group()


def _accelerate(order: Order, trace: Path | None, _: Path | None) -> None:
    from accelerate import Accelerator
    from accelerate.utils import DistributedDataParallelKwargs

    settings = DistributedDataParallelKwargs(gradient_as_bucket_view=True, static_graph=True)
    accelerator = Accelerator(cpu=True, kwargs_handlers=[settings])
    made = Net()
    model, optimizer = accelerator.prepare(made, make_optimizer(made.parameters()))
    clock = StepClock(order, accelerator.process_index, trace)
    for number, (images, labels) in enumerate(batches(order, accelerator.process_index, accelerator.num_processes)):
        optimizer.zero_grad()
        accelerator.backward(F.cross_entropy(model(images), labels))
        optimizer.step()
        clock.step(number)
    if accelerator.is_main_process:
        clock.report()
    accelerator.end_training()


def _load(folder: Path | None, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> int:
    if folder is None or not (folder / "newest.pt").exists():
        return 0
    found = torch.load(folder / "newest.pt", weights_only=True)
    model.load_state_dict(found["model"])
    optimizer.load_state_dict(found["optimizer"])
    return int(found["done"])


def _save(folder: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer, done: int) -> None:
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "done": done}, folder / "aside.pt")
    (folder / "aside.pt").replace(folder / "newest.pt")


if __name__ == "__main__":
    main()
