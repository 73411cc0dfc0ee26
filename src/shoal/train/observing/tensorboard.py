"""Curves as TensorBoard reads them: `tensorboard --logdir .shoal/runs` shows those of all runs."""

from collections.abc import Mapping
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from shoal.base import Json, json


class TensorBoard:
    """Event files in a folder; a run that is resumed adds a file to it."""

    def __init__(self, folder: Path, config: Mapping[str, Json]) -> None:
        self._folder = folder
        self._config = config
        self._writer: SummaryWriter | None = None

    def metric(self, name: str, value: float, step: int) -> None:
        """Add a point; "train.loss" stands as "train/loss", so that the curves of a kind stand together."""
        if self._writer is None:
            # Only now is it known where the run goes on: what an earlier process has told beyond that is done again.
            self._writer = SummaryWriter(self._folder, purge_step=step)
            self._writer.add_text("config", f"```json\n{json.pretty(self._config)}\n```")
        self._writer.add_scalar(name.replace(".", "/", 1), value, step)

    def close(self) -> None:
        """Write what is left."""
        if self._writer is not None:
            self._writer.close()
