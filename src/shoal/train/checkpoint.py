"""Checkpoints: everything a run needs to go on with the same bits, whole or absent.

A checkpoint is a folder, or a prefix in an object store, named by its step: `model.safetensors` (weights and buffers),
`progress.safetensors` (optimisers, schedulers, extras) and `checkpoint.json`, which holds the position, the environment
and the other files' digests.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from shoal.base import (
    CorruptError,
    InputError,
    NotFoundError,
    ShoalError,
    UnsupportedError,
    decode,
    digest_bytes,
    digest_json,
    encode,
    register_handle,
)
from shoal.train.base import Position, TrainState
from shoal.train.observing.warning import warn
from shoal.train.saving.buffers import make_buffer
from shoal.train.saving.packing import MODEL_FILE, PROGRESS_FILE, PackedState, StateLayout, load_files
from shoal.train.saving.places import MANIFEST_FILE, Place, open_place, split_address
from shoal.train.saving.tensor_file import read_tensors

# 1 had one optimiser, in a file "optimizer.tree".
_FORMAT = 2


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A handle of kind "checkpoint". Equal digests mean equal weights, optimiser state, position and environment.

    `address` is the absolute path of its folder, or its URL. Whatever is read from it is held against its digest.
    """

    address: str
    digest: str
    position: Position
    environment: Mapping[str, str]
    files: Mapping[str, str] = field(repr=False)

    @property
    def kind(self) -> str:
        """The handle's kind."""
        return "checkpoint"

    @property
    def path(self) -> Path:
        """Its folder; UnsupportedError when it lies in an object store."""
        if "://" in self.address:
            raise UnsupportedError(
                f"the checkpoint {self.address} has no path: it lies in an object store",
                next_step="use its address, or copy it into a folder",
            )
        return Path(self.address)

    def weights(self) -> dict[str, torch.Tensor]:
        """Return the model's state dict; CorruptError when its bytes were changed."""
        return read_tensors(self._read(MODEL_FILE))[0]

    def load(self, state: TrainState) -> None:
        """Overwrite a state; errors as for `load_state`."""
        load_files(self._read(MODEL_FILE), self._read(PROGRESS_FILE), state)

    def _read(self, file: str) -> torch.Tensor:
        place, name = split_address(self.address)
        return torch.frombuffer(_checked(place, name, file, self.files[file]), dtype=torch.uint8)


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


def checkpoint_name(step: int) -> str:
    """Return the name of a step's checkpoint in its place."""
    return f"{step:010d}"


def publish(place: Place, packed: PackedState, environment: Mapping[str, str]) -> Checkpoint:
    """Write a state that was packed under its step's name; durable when it returns.

    One of the same position that is whole is left as it is, as a position has one state; one of the same step that was
    not validated yet is replaced.

    Raises:
        StorageFullError: no room; nothing of the new one is left, the older ones are untouched.
        RemoteError: the store could not be reached, or refused; likewise.
    """
    name = checkpoint_name(packed.position.step)
    if (there := _whole(place, name)) is not None and there.position == packed.position:
        return there
    files = packed.files()
    digests = {file: digest_bytes(content) for file, content in files.items()}
    manifest = _Manifest(format=_FORMAT, position=packed.position, environment=dict(environment), files=digests)
    facts = asdict(manifest)
    digest = digest_json(facts)
    place.publish(name, files, encode({"digest": digest, "facts": facts}))
    return Checkpoint(place.address(name), digest, packed.position, manifest.environment, digests)


def write_checkpoint(place: Path | str | Place, state: TrainState, environment: Mapping[str, str]) -> Checkpoint:
    """Write a state at once, as `publish` does; older ones stay. `Saver` writes beside the training instead.

    Raises:
        UnsupportedError: the state holds something that is neither tensor nor plain value.
    """
    layout = StateLayout.of(state)
    packed = layout.write(make_buffer(layout.size_bytes))
    return publish(_opened(place), packed, environment)


def read_checkpoint(address: Path | str, *, verify: bool = True) -> Checkpoint:
    """Open a checkpoint at a path or URL; `verify` reads every byte.

    Raises:
        NotFoundError: there is none.
        CorruptError: a file is missing or damaged; the message names it.
        UnsupportedError: another version of shoal wrote it.
    """
    return _read(*split_address(address), verify=verify)


def open_checkpoint(address: str, digest: str) -> Checkpoint:
    """Open a checkpoint by its handle's words; CorruptError if another one lies there."""
    found = read_checkpoint(address)
    if found.digest != digest:
        raise CorruptError(
            f"cannot open the checkpoint {address}: its digest is {found.digest}, expected {digest}",
            next_step="train again, or use the checkpoint that is there by its path",
        )
    return found


def newest_checkpoint(place: Path | str | Place, *, up_to: int | None = None) -> Checkpoint | None:
    """Return the newest checkpoint whose bytes are whole, if any; a damaged one is passed over with a warning.

    Args:
        place: folder or address of an object store.
        up_to: only those of this step and before.

    Raises:
        RemoteError: the store cannot be reached: that says nothing about what is in it.
    """
    opened = _opened(place)
    for found in reversed(opened.found()):
        if up_to is not None and found.name > checkpoint_name(up_to):
            continue
        try:
            return _read(opened, found.name)
        except CorruptError as error:
            # Without its manifest it was never finished, and is nothing to worry about.
            if found.is_complete:
                warn(f"{error.message}; going back to the one before it", stacklevel=2)
        except NotFoundError:
            # A writer has replaced it in the meantime.
            continue
    return None


def load_state(checkpoint: Checkpoint, state: TrainState) -> None:
    """Overwrite a state, freshly built or not, with all that the checkpoint holds.

    Raises:
        InputError: the checkpoint is of another task; the state may be overwritten in part.
        CorruptError: its bytes were changed since it was opened.
    """
    try:
        checkpoint.load(state)
    except InputError as error:
        raise InputError(
            f"cannot load the checkpoint {checkpoint.address}: {error.message}", next_step=error.next_step
        ) from error


def _read(place: Place, name: str, *, verify: bool = True) -> Checkpoint:
    address = place.address(name)
    try:
        envelope = decode(bytes(place.read(name, MANIFEST_FILE)), _Envelope)
        _check_envelope(envelope, f"{address}/{MANIFEST_FILE}")
        if (found := envelope.facts.get("format")) != _FORMAT:
            raise UnsupportedError(
                f"cannot use the checkpoint {address}: its format is {found}, expected {_FORMAT}",
                next_step="use the version of shoal that wrote it",
            )
        manifest = decode(encode(envelope.facts), _Manifest)
        if verify:
            for file, digest in manifest.files.items():
                _checked(place, name, file, digest)
    except (InputError, NotFoundError) as error:
        if not place.has(name):
            raise NotFoundError(
                f"cannot open the checkpoint {address}: no such folder", next_step="look beside it for others"
            ) from error
        raise _damaged(address, error) from error
    except CorruptError as error:
        raise _damaged(address, error) from error
    return Checkpoint(address, envelope.digest, manifest.position, manifest.environment, manifest.files)


def _checked(place: Place, name: str, file: str, digest: str) -> bytearray:
    data = place.read(name, file)
    if (found := digest_bytes(data)) != digest:
        raise CorruptError(
            f"{place.address(name)}/{file} was changed or damaged: its digest is {found}, expected {digest}",
            next_step="use an older checkpoint",
        )
    return data


def _check_envelope(envelope: _Envelope, path: str) -> None:
    if (found := digest_json(envelope.facts)) != envelope.digest:
        raise CorruptError(
            f"{path} was changed: its digest is {found}, expected {envelope.digest}",
            next_step="use an older checkpoint",
        )


def _damaged(address: str, error: ShoalError) -> CorruptError:
    return CorruptError(
        f"cannot use the checkpoint {address}: {error.message}", next_step="resume from an older one beside it"
    )


def _whole(place: Place, name: str) -> Checkpoint | None:
    try:
        return _read(place, name)
    except (CorruptError, NotFoundError, UnsupportedError):
        return None


def _opened(place: Path | str | Place) -> Place:
    return open_place(place) if isinstance(place, str | Path) else place


register_handle("checkpoint", "shoal.train.checkpoint:open_checkpoint")
