from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import shoal.store
from shoal.base import SegmentLog, encode
from shoal.store import Store

CLASSES = 4
WIDTH = 3
_FIELDS = {"inputs": ["image"], "outputs": ["scores"]}


class PredictionLog:
    """Writes a prediction log as a server does: images in, class scores out."""

    def __init__(
        self,
        folder: Path,
        *,
        shape: tuple[int, ...] = (WIDTH,),
        classes: int = CLASSES,
        dropped: tuple[str, ...] = (),
        sample: float | None = None,
    ) -> None:
        kept = {name: [each for each in names if each not in dropped] for name, names in _FIELDS.items()}
        facts = {"model": "fashion", "kind": "classification", **kept}
        facts |= {"dropped": list(dropped)} if dropped else {}
        facts |= {"sample": sample} if sample else {}
        fields = [
            ("prediction_id", pa.string()),
            ("version", pa.string()),
            ("time_us", pa.int64()),
            ("image", pa.fixed_shape_tensor(pa.uint8(), shape)),
            ("scores", pa.fixed_shape_tensor(pa.float32(), (classes,))),
        ]
        self._kept = [place for place, (name, _) in enumerate(fields) if name not in dropped]
        schema = pa.schema([fields[place] for place in self._kept], metadata={b"shoal": encode(facts)})
        self.folder = folder
        self.log = SegmentLog(folder, schema, rows_per_segment=500)

    def write(self, images: np.ndarray[Any, Any], scores: np.ndarray[Any, Any], *, version: str = "1") -> list[str]:
        """Append rows, make them readable, and return their prediction ids."""
        count, first = len(images), self.log.num_rows
        ids = [f"fashion@{version}.{self.log.log_id}.{row}" for row in range(first, first + count)]
        columns = [
            pa.array(ids),
            pa.array([version] * count),
            pa.array(np.arange(count)),
            pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(images)),
            pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(scores, np.float32)),
        ]
        self.log.append(pa.record_batch([columns[place] for place in self._kept], schema=self.log.schema))
        self.log.sync()
        return ids


class World:
    """Traffic with a knob: `drift` 0 is what the reference was made of."""

    def __init__(self, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)

    def sample(self, count: int, drift: float = 0.0) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        images = self.random.integers(0, 200, (count, WIDTH)) + round(50 * drift)
        logits = self.random.normal(0, 1 + 2 * drift, (count, CLASSES))
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return images.astype(np.uint8), (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def prediction_log(tmp_path: Path) -> Iterator[PredictionLog]:
    made = PredictionLog(tmp_path / "predictions" / "fashion")
    yield made
    made.log.close()


@pytest.fixture
def make_log(tmp_path: Path) -> Iterator[Any]:
    """Make a log of images of another shape."""
    made: list[PredictionLog] = []

    def make(**options: Any) -> PredictionLog:
        made.append(PredictionLog(tmp_path / f"log-{len(made)}" / "fashion", **options))
        return made[-1]

    yield make
    for log in made:
        log.log.close()


@pytest.fixture(scope="session")
def reference() -> Any:
    """The profile of 5,000 undisturbed rows, as a training profile has it."""
    from shoal.data import Profile
    from shoal.model import score_columns

    images, scores = World(seed=1).sample(5000)
    profile = Profile()
    columns: Mapping[str, Any] = {"image": images, **score_columns({"scores": scores}, "classification")}
    profile.update(columns)
    return profile


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with shoal.store.open(tmp_path / ".shoal") as store:
        yield store
