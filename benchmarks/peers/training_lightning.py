"""PyTorch Lightning with two processes: `training_lightning.py DATA BATCH_SIZE STEPS`, started by torchrun."""

import logging
import os
import warnings
from collections.abc import Iterator

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from training_workload import Net, Order, StepClock, batches, make_optimizer, read_order


class Module(pl.LightningModule):
    """The network with its loss."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Net()

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], _: int) -> torch.Tensor:
        """One micro-batch."""
        images, labels = batch
        return F.cross_entropy(self.net(images), labels)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The same for all."""
        return make_optimizer(self.parameters())


class Rows(torch.utils.data.IterableDataset):
    """Whole batches of this rank, so that the DataLoader has nothing left to do."""

    def __init__(self, order: Order) -> None:
        self._order = order

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """This rank's parts."""
        return batches(self._order, int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))


class Clock(pl.Callback):
    """Tells the clock of each step."""

    def __init__(self, clock: StepClock) -> None:
        self._clock = clock

    def on_train_batch_end(self, *_: object, **__: object) -> None:
        """A step is over."""
        self._clock.step()


def main() -> None:
    """Train with everything off that writes or draws."""
    warnings.simplefilter("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    order, _ = read_order()
    torch.set_num_threads(1)
    clock = StepClock(order, int(os.environ["RANK"]))
    strategy = pl.strategies.DDPStrategy(process_group_backend="gloo", gradient_as_bucket_view=True, static_graph=True)
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=int(os.environ["WORLD_SIZE"]),
        strategy=strategy,
        max_steps=order.steps,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        callbacks=[Clock(clock)],
    )
    trainer.fit(Module(), torch.utils.data.DataLoader(Rows(order), batch_size=None))
    if trainer.global_rank == 0:
        clock.report()


if __name__ == "__main__":
    main()
