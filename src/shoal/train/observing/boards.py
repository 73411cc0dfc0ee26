"""Curves for other programs beside the store: which there are, and how none of them can disturb the training."""

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol, Self

from shoal.base import ConfigError, Json, UnsupportedError
from shoal.train.observing.warning import warn


class Board(Protocol):
    """Takes a run's curves to another program; used from one thread."""

    def metric(self, name: str, value: float, step: int) -> None:
        """Take one point; may raise whatever that program raises."""

    def close(self) -> None:
        """Return when all points are on disk, or sent."""


def _tensorboard(run_id: str, folder: Path, config: Mapping[str, Json]) -> Board:
    from shoal.train.observing.tensorboard import TensorBoard

    del run_id
    return TensorBoard(folder / "tensorboard", config)


def _wandb(run_id: str, folder: Path, config: Mapping[str, Json]) -> Board:
    from shoal.train.observing.wandb import WeightsAndBiases

    return WeightsAndBiases(run_id, folder, config)


# Name, which is also the package and the extra, -> what opens it.
_BOARDS: dict[str, Callable[[str, Path, Mapping[str, Json]], Board]] = {"tensorboard": _tensorboard, "wandb": _wandb}


def check_boards(names: Sequence[str]) -> None:
    """Make sure that these can be opened, without loading them: a run must not fail an hour into its first epoch.

    Raises:
        ConfigError: no board has this name.
        UnsupportedError: its package is not installed.
    """
    if isinstance(names, str):
        raise ConfigError(f"report_to={names!r} must be a list of names", next_step=f"write report_to=[{names!r}]")
    for name in names:
        if name not in _BOARDS:
            raise ConfigError(
                f"cannot report to {name!r}: known are {', '.join(_BOARDS)}", next_step="correct report_to"
            )
        if find_spec(name) is None:
            raise UnsupportedError(
                f"cannot report to {name}: it is not installed", next_step=f"pip install 'shoal[{name}]'"
            )


class Boards:
    """The boards of one run. One that fails is given up with a warning; the training and the store go on."""

    def __init__(self, boards: Mapping[str, Board]) -> None:
        self._boards = dict(boards)

    @classmethod
    def open(cls, names: Sequence[str], *, run_id: str, folder: Path, config: Mapping[str, Json]) -> Self:
        """Open the boards of these names.

        Args:
            names: as `fit(report_to=...)` takes them.
            run_id: under which the run is known.
            folder: of the run, where boards keep their files.
            config: the run's settings.

        Raises:
            UnsupportedError: a board cannot be opened, as when it wants a login.
        """
        check_boards(names)
        opened: dict[str, Board] = {}
        try:
            for name in names:
                opened[name] = opened.get(name) or _BOARDS[name](run_id, folder, config)
        except BaseException:
            cls(opened).close()
            raise
        return cls(opened)

    def metric(self, name: str, value: float, step: int) -> None:
        """Hand a point to every board."""
        for board in list(self._boards):
            self._ask(board, lambda kept: kept.metric(name, value, step))

    def close(self) -> None:
        """Close every board. Idempotent."""
        for board in list(self._boards):
            self._ask(board, lambda kept: kept.close())
        self._boards.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        """Close them."""
        self.close()

    def _ask(self, name: str, action: Callable[[Board], None]) -> None:
        try:
            action(self._boards[name])
        except Exception as error:  # noqa: BLE001  # the boundary to other programs: whatever they raise stops them alone
            del self._boards[name]
            text = f"no more curves go to {name}: {type(error).__name__}: {error}; the store still has them all"
            warn(text, stacklevel=3)
