"""Checkpoints: everything a run needs to go on with the same bits, whole or absent.

A checkpoint is a folder named by its step: `model.safetensors` (weights and buffers), `optimizer.tree` (optimiser and
schedule) and `checkpoint.json`, which holds the position, the environment and the other files' digests.
"""

import shutil
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch

from shoal.base import (
    CorruptError,
    InputError,
    NotFoundError,
    ShoalError,
    UnsupportedError,
    atomic_folder,
    check_file,
    codec_for,
    codec_named,
    decode,
    digest_file,
    digest_json,
    encode,
    register_handle,
)
from shoal.train.base import Position, TrainState
from shoal.train.light_torch import without_compiler

_WEIGHTS, _PROGRESS, _MANIFEST = "model.safetensors", "optimizer.tree", "checkpoint.json"
# The newest and one to fall back on when it is damaged.
NUM_KEPT = 2


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A handle of kind "checkpoint". Equal digests mean equal weights, optimiser state, position and environment."""

    path: Path
    digest: str
    position: Position
    environment: Mapping[str, str]

    @property
    def kind(self) -> str:
        """The handle's kind."""
        return "checkpoint"

    @property
    def address(self) -> str:
        """The absolute path of its folder."""
        return str(self.path)

    def weights(self) -> dict[str, torch.Tensor]:
        """The model's state dict."""
        return safetensors.torch.load_file(self.path / _WEIGHTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Manifest:
    format: int
    position: Position
    environment: dict[str, str]
    files: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Envelope:
    """What the manifest's file holds: the manifest's own digest too, as a wrong position would be believed."""

    digest: str
    facts: dict[str, Any]


def write_checkpoint(folder: Path, state: TrainState, environment: Mapping[str, str]) -> Checkpoint:
    """Write a state under its step's name; durable when it returns. Only the one before it is kept beside it.

    Raises:
        StorageFullError: no room; nothing of the new one is left, the older ones are untouched.
        UnsupportedError: the state holds something that is neither tensor nor plain value.
    """
    target = folder / f"{state.position.step:010d}"
    if target.exists():
        try:
            return read_checkpoint(target)
        except ShoalError:
            # Damaged, and about to be replaced by the same state; the one before it is still there.
            shutil.rmtree(target)
    with atomic_folder(target) as aside:
        # Saved one by one: tied weights share memory, which the format refuses.
        weights = {name: value.detach().clone().contiguous() for name, value in state.module.state_dict().items()}
        (aside / _WEIGHTS).write_bytes(safetensors.torch.save(weights))
        with without_compiler():
            progress = {"optimizer": state.optimizer.state_dict()}
        if state.scheduler is not None:
            progress["scheduler"] = state.scheduler.state_dict()
        plain = _to_arrays(progress)
        codec_for(plain)
        with (aside / _PROGRESS).open("wb") as sink:
            codec_named("tree").encode(plain, sink)
        manifest = _Manifest(
            format=1,
            position=state.position,
            environment=dict(environment),
            files={name: digest_file(aside / name) for name in (_WEIGHTS, _PROGRESS)},
        )
        facts = asdict(manifest)
        (aside / _MANIFEST).write_bytes(encode({"digest": digest_json(facts), "facts": facts}))
    folders = _folders(folder)
    # Later ones are of a future that was given up, as none of them could be read.
    kept = [path for path in folders if path <= target][-NUM_KEPT:]
    # What a killed writer left aside goes too: there is one writer at a time.
    for old in [*(path for path in folders if path not in kept), *folder.glob(".*.tmp")]:
        shutil.rmtree(old)
    return read_checkpoint(target, verify=False)


def read_checkpoint(path: Path, *, verify: bool = True) -> Checkpoint:
    """Open a checkpoint's folder; `verify` reads every byte.

    Raises:
        NotFoundError: there is none.
        CorruptError: a file is missing or damaged; the message names it.
    """
    path = path.absolute()
    if not path.is_dir():
        raise NotFoundError(f"cannot open the checkpoint {path}: no such folder", next_step="look beside it for others")
    try:
        envelope = decode((path / _MANIFEST).read_bytes(), _Envelope)
        manifest = decode(encode(envelope.facts), _Manifest)
        if verify:
            _check_digest(envelope, path / _MANIFEST)
            for name, digest in manifest.files.items():
                check_file(path / name, digest)
    except (FileNotFoundError, InputError, NotFoundError) as error:
        raise CorruptError(
            f"cannot use the checkpoint {path}: {error}", next_step="resume from an older one beside it"
        ) from error
    return Checkpoint(path, envelope.digest, manifest.position, manifest.environment)


def open_checkpoint(address: str, digest: str) -> Checkpoint:
    """Open a checkpoint by its handle's words; CorruptError if another one lies there."""
    found = read_checkpoint(Path(address))
    if found.digest != digest:
        raise CorruptError(
            f"cannot open the checkpoint {address}: its digest is {found.digest}, expected {digest}",
            next_step="train again, or use the checkpoint that is there by its path",
        )
    return found


def newest_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest checkpoint whose bytes are whole, if any; a damaged one is passed over with a warning."""
    for path in reversed(_folders(folder)):
        try:
            return read_checkpoint(path)
        except CorruptError as error:
            warnings.warn(f"{error.message}; going back to the one before it", RuntimeWarning, stacklevel=2)
    return None


def load_state(checkpoint: Checkpoint, state: TrainState) -> None:
    """Overwrite a freshly built state.

    Raises:
        InputError: the checkpoint is of another model.
    """
    try:
        state.module.load_state_dict(checkpoint.weights())
    except RuntimeError as error:
        raise InputError(
            f"cannot load the checkpoint {checkpoint.path}: {error}", next_step="give the task that it was made with"
        ) from error
    with (checkpoint.path / _PROGRESS).open("rb") as source:
        progress: Any = _to_tensors(codec_named("tree").decode(source))
    with without_compiler():
        state.optimizer.load_state_dict(progress["optimizer"])
    if state.scheduler is not None:
        state.scheduler.load_state_dict(progress["scheduler"])
    state.position = checkpoint.position


def _check_digest(envelope: _Envelope, path: Path) -> None:
    if (found := digest_json(envelope.facts)) != envelope.digest:
        raise CorruptError(
            f"{path} was changed: its digest is {found}, expected {envelope.digest}",
            next_step="use an older checkpoint",
        )


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("[0-9]*") if path.is_dir()) if folder.is_dir() else []


def _to_arrays(value: object) -> object:
    if isinstance(value, torch.Tensor):
        if value.dtype == torch.bfloat16:
            raise UnsupportedError(
                "cannot write an optimiser state of bfloat16 numbers", next_step="keep the parameters in float32"
            )
        return value.detach().numpy()
    if isinstance(value, Mapping):
        return {key: _to_arrays(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_to_arrays, value))
    return value


def _to_tensors(value: object) -> object:
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.copy())
    if isinstance(value, dict):
        return {key: _to_tensors(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_to_tensors, value))
    return value


register_handle("checkpoint", "shoal.train.checkpoint:open_checkpoint")
