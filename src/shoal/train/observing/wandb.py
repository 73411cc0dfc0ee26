"""Curves for Weights & Biases; with `WANDB_MODE=offline` in a folder that `wandb sync` sends later."""

from collections.abc import Mapping
from pathlib import Path

import wandb

from shoal.base import Json, UnsupportedError, digest_json


class WeightsAndBiases:
    """A run there for a run here; project, login and mode are what wandb's own settings and variables say."""

    def __init__(self, run_id: str, folder: Path, config: Mapping[str, Json]) -> None:
        """Begin the run there, or go on with it.

        Raises:
            UnsupportedError: wandb refuses, as without a login.
        """
        try:
            self._run = wandb.init(
                # Run numbers begin at 1 in every store, names there must not: the folder tells two stores apart.
                id=f"{run_id}-{digest_json(str(folder.resolve())).rpartition(':')[2][:12]}",
                name=run_id,
                resume="allow",
                dir=str(folder),
                config=dict(config),
                # Our own output is the live line; a second talker would tear it apart.
                settings=wandb.Settings(silent=True, console="off", disable_git=True, disable_code=True),
            )
        except Exception as error:
            raise UnsupportedError(
                f"cannot report to wandb: {error}", next_step="log in by `wandb login`, or set WANDB_MODE=offline"
            ) from error
        # Its own count of steps must grow with every call, which two curves at one step do not.
        self._run.define_metric("*", step_metric="step")

    def metric(self, name: str, value: float, step: int) -> None:
        """Add a point; "train.loss" stands as "train/loss", which gives each kind of curve a section."""
        self._run.log({name.replace(".", "/", 1): value, "step": step})

    def close(self) -> None:
        """Return when all is sent, or written when offline."""
        self._run.finish()
