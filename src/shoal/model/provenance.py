"""From a prediction's id back to what made it: logged input, model version, run, code, dataset, shards, sources."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shoal.base import Json, NotFoundError, PredictionId, Ref, SegmentReader, ShoalError, decode, parse_prediction_id
from shoal.data import SourceFact
from shoal.data import open as open_dataset
from shoal.model.reading import open_package

if TYPE_CHECKING:
    from shoal.data import Dataset
    from shoal.store import RunRecord, Store

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Of the log itself; `time_us` is told as the time.
_OWN_COLUMNS = ("prediction_id", "version", "time_us")


@dataclass(frozen=True, slots=True, kw_only=True)
class Why:
    """The way back from one prediction; what could not be followed is None or empty, and `gaps` says why.

    Attributes:
        time: when it was answered, UTC; None where the service's sampling left it out of the log.
        input_shard: the segment of the prediction log that holds the input; `input_row` is its row in that file. Both
            None where it was left out.
        values: the logged row: inputs and outputs by name, tensors as lists; without those that the log's rule drops.
        model: name and version, such as "fashion@3".
        package_digest: of the package that answered.
        run: what trained the model; `code` is the digest of what it executed.
        dataset: the address of the dataset version that it was trained on.
        shards: the files of that version, absolute.
        sources: where its rows came from.
        gaps: in words, each step that could not be followed.
    """

    prediction_id: str
    time: datetime | None
    input_shard: str | None
    input_row: int | None
    values: dict[str, Json] = field(repr=False)
    model: str
    version: str
    package_digest: str | None
    run: str | None
    code: str | None
    dataset: str | None
    dataset_digest: str | None
    shards: tuple[str, ...]
    sources: tuple[SourceFact, ...]
    gaps: tuple[str, ...]


def why(prediction_id: str, store: "Store", log_folder: str | Path | None = None) -> Why:
    """Follow a prediction back to the data and the code that made it.

    Each step is checked by digest where there is one. What is gone by now (a dataset that was moved, a run of another
    store), and what the service's rule left out of its log, leaves a gap that is named; the rest is still told.

    Args:
        prediction_id: as the service gave it, in `parameters.prediction_id` of its answer.
        store: where the model was registered.
        log_folder: of the service; left out, `predictions` in the store's home.

    Raises:
        InputError: the text is no prediction id.
        NotFoundError: the log holds no such prediction.
    """
    parsed = parse_prediction_id(prediction_id)
    folder = Path(log_folder) if log_folder is not None else store.home / "predictions"
    gaps: list[str] = []
    found = None
    if parsed.is_unsampled:
        gaps.append("input: the service logs a sample of its requests, and this one is not in it")
    else:
        found = _logged(parsed, prediction_id, folder, gaps)
    origin = _origin(parsed, store, gaps)
    run = _run(origin.run, store, gaps)
    trained_on = origin.dataset or (run.dataset if run else None)
    dataset = _dataset(trained_on, gaps)
    return Why(
        prediction_id=prediction_id,
        time=found.time if found else None,
        input_shard=str(found.shard) if found else None,
        input_row=found.number if found else None,
        values=found.values if found else {},
        model=f"{parsed.model}@{parsed.version}",
        version=parsed.version,
        package_digest=origin.package_digest,
        run=origin.run,
        code=origin.code or (run.code if run else None),
        dataset=trained_on.address if trained_on else None,
        dataset_digest=trained_on.digest if trained_on else None,
        shards=tuple(str(dataset.shard_path(shard)) for shard in dataset.shards) if dataset else (),
        sources=dataset.sources if dataset else (),
        gaps=tuple(gaps),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Origin:
    """What the registry and the package say of a model version."""

    package_digest: str | None = None
    run: str | None = None
    code: str | None = None
    dataset: Ref | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Logged:
    """A row of the log, and where it is."""

    time: datetime
    values: dict[str, Json]
    shard: Path
    number: int


def _logged(parsed: PredictionId, prediction_id: str, folder: Path, gaps: list[str]) -> _Logged:
    reader = _log_of(parsed, prediction_id, folder)
    row = reader.row(parsed.row)
    # The row number alone would also find the neighbour of an id that was typed wrong.
    if row.get("prediction_id") != prediction_id:
        raise NotFoundError(
            f"cannot find {prediction_id}: row {parsed.row} of its log holds {row.get('prediction_id')}",
            next_step="copy the id from the service's answer",
        )
    if dropped := _facts(reader).get("dropped"):
        gaps.append(f"input: the rule of the log drops {', '.join(dropped)}")
    shard, number = reader.locate(parsed.row)
    return _Logged(
        time=_EPOCH + timedelta(microseconds=row["time_us"]),
        values={name: _plain(value) for name, value in row.items() if name not in _OWN_COLUMNS},
        shard=shard,
        number=number,
    )


def _facts(reader: SegmentReader) -> dict[str, Any]:
    """What the service tells of its log."""
    facts: dict[str, Any] = decode((reader.schema.metadata or {}).get(b"shoal", b"{}"))
    return facts


def _log_of(parsed: PredictionId, prediction_id: str, folder: Path) -> SegmentReader:
    first = SegmentReader(folder / parsed.model)
    # Versions with other columns are logged beside, in folders that end in a digest of their columns.
    beside = (SegmentReader(path.parent) for path in sorted(folder.glob(f"{parsed.model}-*/log.json")))
    for reader in chain([first], beside):
        # Behind the log's own letters stand those of the server that wrote.
        if parsed.log_id.startswith(reader.log_id):
            return reader
    raise NotFoundError(
        f"cannot find {prediction_id}: the log in {first.folder} is {first.log_id}, the id is of {parsed.log_id}",
        next_step="give the folder of the log that the prediction was written to",
    )


def _origin(parsed: PredictionId, store: "Store", gaps: list[str]) -> _Origin:
    try:
        version = store.models.get(f"{parsed.model}@{parsed.version}")
        manifest = open_package(version.path, digest=version.digest).manifest
    except ShoalError as error:
        gaps.append(f"model: {error.message}")
        return _Origin()
    return _Origin(
        package_digest=version.digest,
        run=manifest.run or version.run,
        code=manifest.code,
        dataset=manifest.dataset,
    )


def _run(run: str | None, store: "Store", gaps: list[str]) -> "RunRecord | None":
    if run is None:
        gaps.append("run: the package names none")
        return None
    try:
        return store.runs.get(run)
    except NotFoundError as error:
        gaps.append(f"run: {error.message}")
        return None


def _dataset(ref: Ref | None, gaps: list[str]) -> "Dataset | None":
    if ref is None:
        gaps.append("dataset: neither the package nor the run names one")
        return None
    try:
        dataset = open_dataset(ref.address)
    except ShoalError as error:
        gaps.append(f"dataset: {error.message}")
        return None
    if dataset.digest != ref.digest:
        gaps.append(f"dataset: {ref.address} now has the digest {dataset.digest}, it was {ref.digest}")
        return None
    return dataset


def _plain(value: Any) -> Json:  # noqa: ANN401 - a row's values are whatever its columns hold
    plain: Json = value.tolist() if isinstance(value, np.ndarray) else value
    return plain
