import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from shoal.testing.object_server import ObjectServer, serve_folder
from shoal.train.base import Position, TrainState


@pytest.fixture
def make_state() -> Callable[..., TrainState]:
    """A small state of everything: two optimisers, two schedulers, buffers, tied weights, bfloat16, extras."""

    def make(step: int = 0, *, seed: int = 0, trained: bool = True, width: int = 6) -> TrainState:
        torch.manual_seed(seed)
        module = nn.Sequential(nn.Linear(5, width), nn.BatchNorm1d(width), nn.Linear(width, width), nn.Linear(width, 3))
        module.append(nn.Linear(3, 3, dtype=torch.bfloat16))
        module.append(nn.Linear(width, width))
        module[5].weight = module[2].weight
        optimizers = [
            torch.optim.Adam([*module[0].parameters(), *module[4].parameters()], lr=0.05, amsgrad=True),
            torch.optim.SGD(module[3].parameters(), lr=0.1, momentum=0.9),
        ]
        schedulers = [
            torch.optim.lr_scheduler.MultiStepLR(optimizers[0], [2, 3]),
            torch.optim.lr_scheduler.ReduceLROnPlateau(optimizers[1]),
        ]
        state = TrainState(
            task=None,
            module=module,
            optimizers=optimizers,
            schedulers=schedulers,
            position=Position(step=step, epoch=1, row=32, loss_sum=0.1 + 0.2),
        )
        if trained:
            for _ in range(3):
                for param in module.parameters():
                    param.grad = torch.randn_like(param)
                for optimizer in optimizers:
                    optimizer.step()
                schedulers[0].step()
                schedulers[1].step(0.5)
            state.extras["ema"] = {"weights": {"0.weight": torch.randn(3, 4)}, "decay": 0.999}
            state.extras["batch_size"] = {"now": 64, "since": (3, 4), "best": float("inf")}
        return state

    return make


@pytest.fixture
def state(make_state: Callable[..., TrainState]) -> TrainState:
    return make_state()


@pytest.fixture
def at_step() -> Callable[[TrainState, int], TrainState]:
    def move(state: TrainState, step: int) -> TrainState:
        state.position = replace(state.position, step=step)
        return state

    return move


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ObjectServer]:
    with serve_folder(tmp_path / "served") as running:
        yield running


@pytest.fixture(params=["folder", "store"])
def address(request: pytest.FixtureRequest, server: ObjectServer, tmp_path: Path) -> str:
    """Where checkpoints go: a folder that is not there yet, or a prefix in an object store."""
    if request.param == "folder":
        return str(tmp_path / "runs" / "checkpoints")
    return server.s3_url("bucket/runs/checkpoints")


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], None]:
    """Wait for something that another thread or process does."""

    def wait(happened: Callable[[], bool], timeout_s: float = 60.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not happened():
            assert time.monotonic() < deadline, "it did not happen"
            time.sleep(0.001)

    return wait
