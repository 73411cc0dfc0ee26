"""A run's whole state as bytes, nothing pickled: two safetensors files, the model's and that of all that moves it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from shoal.base import CorruptError, InputError, decode, encode
from shoal.train.base import Position, TrainState
from shoal.train.light_torch import without_compiler
from shoal.train.saving.buffers import make_buffer
from shoal.train.saving.tensor_file import ALIGN_BYTES, TensorFile, read_tensors
from shoal.train.saving.trees import flatten, rebuild

MODEL_FILE, PROGRESS_FILE = "model.safetensors", "progress.safetensors"
_TREE = "tree"


@dataclass(frozen=True, slots=True)
class StateLayout:
    """Where everything of a state goes, before a byte is copied. It looks at the state's tensors, and copies none."""

    model: TensorFile
    progress: TensorFile
    position: Position

    @classmethod
    def of(cls, state: TrainState) -> "StateLayout":
        """Lay out a state.

        Raises:
            UnsupportedError: the state holds something that is neither tensor nor plain value.
        """
        weights: dict[str, torch.Tensor] = {}
        others: dict[str, Any] = {}
        for name, value in state.module.state_dict().items():
            (weights if isinstance(value, torch.Tensor) else others)[name] = value
        with without_compiler():
            optimizers = [optimizer.state_dict() for optimizer in state.optimizers]
        tensors: list[torch.Tensor] = []
        tree = flatten(
            {
                "position": asdict(state.position),
                "optimizers": optimizers,
                "schedulers": [scheduler.state_dict() for scheduler in state.schedulers],
                "extras": state.extras,
                "module": others,
            },
            tensors,
            "state",
        )
        numbered = {f"{index:06d}": tensor for index, tensor in enumerate(tensors)}
        progress = TensorFile.of(numbered, {_TREE: encode(tree).decode()})
        return cls(TensorFile.of(weights, {"format": "pt"}), progress, state.position)

    @property
    def size_bytes(self) -> int:
        """Of both files, one behind the other."""
        return self._progress_start + self.progress.size_bytes

    def write(self, target: torch.Tensor) -> "PackedState":
        """Copy the state's present content into `target`, uint8 of at least `size_bytes`."""
        self.model.write(target[: self.model.size_bytes])
        target[self.model.size_bytes : self._progress_start] = 0
        self.progress.write(target[self._progress_start : self.size_bytes])
        return PackedState(
            data=target[: self.size_bytes],
            model=target[: self.model.size_bytes],
            progress=target[self._progress_start : self.size_bytes],
            position=self.position,
        )

    @property
    def _progress_start(self) -> int:
        return _aligned(self.model.size_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedState:
    """A state's bytes in memory: `model` and `progress` are parts of `data`, uint8."""

    data: torch.Tensor
    model: torch.Tensor
    progress: torch.Tensor
    position: Position

    def files(self) -> dict[str, memoryview]:
        """Return the content of each file, by its name."""
        return {MODEL_FILE: self.model.numpy().data, PROGRESS_FILE: self.progress.numpy().data}


def pack_state(state: TrainState) -> torch.Tensor:
    """Return the whole state as uint8 [num_bytes], in memory of its own: for a newcomer to the run, or to compare.

    Equal states give equal bytes. Costs one copy of the state.

    Raises:
        UnsupportedError: the state holds something that is neither tensor nor plain value.
    """
    layout = StateLayout.of(state)
    return layout.write(make_buffer(layout.size_bytes)).data


def unpack_state(data: torch.Tensor, state: TrainState) -> None:
    """Overwrite a state, freshly built or not, with the one that was packed; `data` may be reused afterwards.

    Nothing is unpickled: bytes of a stranger can give wrong numbers, but run no code.

    Raises:
        CorruptError: these are no bytes of `pack_state`.
        InputError: they are of another task; the state may be overwritten in part.
    """
    _, _, model_bytes = read_tensors(data)
    start = _aligned(model_bytes)
    load_files(data[:model_bytes], data[start:], state)


def load_files(model: torch.Tensor, progress: torch.Tensor, state: TrainState) -> None:
    """Overwrite a state with what two files hold, each uint8 [num_bytes]; errors as for `unpack_state`."""
    weights, _, _ = read_tensors(model)
    numbered, metadata, _ = read_tensors(progress)
    tree = _read_tree(metadata, [numbered[name] for name in sorted(numbered)])
    for what, own in (("optimizers", state.optimizers), ("schedulers", state.schedulers)):
        if len(tree[what]) != len(own):
            raise _mismatch(f"it has {len(tree[what])} {what}, the task has {len(own)}")
    try:
        state.module.load_state_dict({**weights, **tree["module"]})
        with without_compiler():
            for optimizer, values in zip(state.optimizers, tree["optimizers"], strict=True):
                optimizer.load_state_dict(_own(values))
        for scheduler, values in zip(state.schedulers, tree["schedulers"], strict=True):
            scheduler.load_state_dict(_own(values))
        position = Position(**tree["position"])
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        raise _mismatch(str(error)) from error
    # The same dict, as others may look at it; what is in it is new.
    state.extras.clear()
    state.extras.update(_own(tree["extras"]))
    state.position = position


def _read_tree(metadata: Mapping[str, str], tensors: list[torch.Tensor]) -> dict[str, Any]:
    try:
        tree = rebuild(decode(metadata.get(_TREE, "")), tensors)
    except InputError as error:
        raise CorruptError(f"cannot read a state: {error.message}", next_step="use an older checkpoint") from error
    if not isinstance(tree, dict) or {"position", "optimizers", "schedulers", "extras", "module"} - set(tree):
        raise CorruptError("cannot read a state: parts of it are missing", next_step="use an older checkpoint")
    return tree


def _own(value: Any) -> Any:  # noqa: ANN401  # any nested value
    """Return a value whose tensors have memory of their own: optimisers keep the tensors that they are given."""
    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, list | tuple):
        return type(value)(map(_own, value))
    if type(value) is dict:
        return {key: _own(item) for key, item in value.items()}
    return value


def _mismatch(why: str) -> InputError:
    return InputError(f"the saved state is of another task: {why}", next_step="give the task that it was made with")


def _aligned(num_bytes: int) -> int:
    return num_bytes + -num_bytes % ALIGN_BYTES
