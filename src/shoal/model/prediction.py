"""Offline prediction: a package over a whole dataset, in parts that survive a kill, on as many workers as wanted."""

import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import Future, as_completed
from dataclasses import dataclass
from pathlib import Path

from shoal.base import (
    ConfigError,
    ConflictError,
    CorruptError,
    InputError,
    NotFoundError,
    Ref,
    WorkerError,
    decode,
    file_lock,
    pretty,
    write_atomic,
)
from shoal.data import Dataset
from shoal.data import open as open_dataset
from shoal.model.reading import Package
from shoal.model.scoring import ROW, Part, score_part
from shoal.runtime import Pool, Runtime, open_runtime

Progress = Callable[[int], None]

PLAN_FILE, PARTS_FOLDER = "prediction.json", ".parts"
# Small enough that a kill loses little and that a few workers share a small dataset evenly; for large ones the number
# of parts is bounded instead, because each becomes a shard of the result.
_MIN_PART_ROWS, _MAX_PARTS = 4_096, 1_024
_MAX_ATTEMPTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a folder of predictions holds: fixed by the first call, so that every later one continues the same."""

    package: Ref
    dataset: Ref
    num_rows: int
    part_rows: int

    def parts(self, folder: Path) -> list[Part]:
        """The stretches of rows, each with the file that its predictions go to."""
        return [
            Part(start, min(start + self.part_rows, self.num_rows), folder / f"{start:012d}.arrow")
            for start in range(0, self.num_rows, self.part_rows)
        ]


def predict(
    package: Package,
    dataset: Dataset,
    out: str | Path,
    *,
    workers: int = 1,
    batch_size: int = 1024,
    runtime: str | Runtime = "local",
    progress: Progress | None = None,
) -> Dataset:
    """Run a package over every row of a dataset and return the predictions as a dataset in `out`.

    It has one row per input row, in the same order: the column `row` with its number there, the dataset's key column if
    it has one, and the model's outputs. Work is done in parts, each written whole: killed at any instant, the same call
    does only what is missing, and when all is done it returns at once. Memory depends on `batch_size` alone.

    Args:
        package: the model.
        dataset: any dataset with the model's input columns; a split too.
        out: the folder of the result; made if it is not there.
        workers: processes; 1 works in this one.
        batch_size: rows per call of the model.
        runtime: where workers run.
        progress: called with the number of rows that are done, after each part.

    Raises:
        ConflictError: `out` holds predictions of another package or dataset, or another process works on it now.
        InputError: the dataset has no rows, lacks an input column, has missing values in it, or another dtype or shape.
        WorkerError: a part failed, or its worker died three times; finished parts stay.
    """
    if workers < 1 or batch_size < 1:
        raise ConfigError(f"workers={workers} and batch_size={batch_size} must be >= 1", next_step="leave them out")
    # Before the lock: what can never be predicted leaves no folder behind.
    _check_input(package, dataset)
    folder = Path(out).expanduser().absolute()
    parts_folder = folder / PARTS_FOLDER
    with file_lock(folder / ".lock", blocking=False):
        plan = _settle_plan(package, dataset, folder)
        if (done := _finished(folder)) is None:
            parts = plan.parts(parts_folder)
            parts_folder.mkdir(exist_ok=True)
            _score_missing(package, dataset, parts, workers, batch_size, runtime, progress)
            done = Dataset.create_from_segments(folder, [part.path for part in parts])
        if done.num_rows != plan.num_rows:
            raise CorruptError(
                f"{folder} has {done.num_rows} predictions, expected one for each of {plan.num_rows} rows",
                next_step=f"delete {folder} and predict again",
            )
        # The result has its own links to the parts' bytes.
        shutil.rmtree(parts_folder, ignore_errors=True)
    return done


def _settle_plan(package: Package, dataset: Dataset, folder: Path) -> Plan:
    part_rows = max(_MIN_PART_ROWS, -(-dataset.num_rows // _MAX_PARTS))
    wanted = Plan(package=Ref.of(package), dataset=Ref.of(dataset), num_rows=dataset.num_rows, part_rows=part_rows)
    path = folder / PLAN_FILE
    if not path.exists():
        if (folder / "versions").exists():
            raise ConflictError(f"{folder} is another dataset", next_step="choose another folder for the predictions")
        write_atomic(path, pretty(wanted).encode())
        return wanted
    found = decode(path.read_bytes(), Plan)
    for mine, theirs in ((wanted.package, found.package), (wanted.dataset, found.dataset)):
        if mine.digest != theirs.digest:
            raise ConflictError(
                f"{folder} holds predictions of {theirs.kind} {theirs.digest} ({theirs.address}), "
                f"asked for {mine.digest} ({mine.address})",
                next_step="choose another folder, or delete this one",
            )
    return found


def _check_input(package: Package, dataset: Dataset) -> None:
    if dataset.num_rows == 0:
        raise InputError(
            f"cannot predict {dataset.address}: it has no rows, expected at least one",
            next_step="give a dataset with rows, or a larger split of this one",
        )
    names = package.signature.columns
    absent = [name for name in names if name not in dataset.schema.names]
    if absent:
        raise InputError(
            f"input {absent[0]!r} is no column of {dataset.address}: found {', '.join(dataset.schema.names)}",
            next_step="rename the column, or package the model with the dataset's names as inputs",
        )
    outputs = [spec.name for spec in package.signature.outputs]
    if taken := {ROW, dataset.key} & set(outputs):
        raise InputError(
            f"output {taken.pop()!r} has the name of a column that the result needs", next_step="rename the output"
        )


def _finished(folder: Path) -> Dataset | None:
    try:
        return open_dataset(folder)
    except NotFoundError:
        return None


def _score_missing(
    package: Package,
    dataset: Dataset,
    parts: Sequence[Part],
    workers: int,
    batch_size: int,
    runtime: str | Runtime,
    progress: Progress | None,
) -> None:
    missing = [part for part in parts if not part.path.exists()]
    done = sum(part.num_rows for part in parts) - sum(part.num_rows for part in missing)

    def finish(part: Part) -> None:
        nonlocal done
        done += part.num_rows
        if progress is not None:
            progress(done)

    package_ref, dataset_ref = Ref.of(package), Ref.of(dataset)
    if workers == 1 or len(missing) <= 1:
        for part in missing:
            score_part(package_ref, dataset_ref, part, batch_size)
            finish(part)
        return
    with open_runtime(runtime).pool(min(workers, len(missing))) as pool:
        _score_in_pool(pool, missing, lambda part: (package_ref, dataset_ref, part, batch_size), finish)


def _score_in_pool(
    pool: Pool,
    parts: Sequence[Part],
    arguments: Callable[[Part], tuple[Ref, Ref, Part, int]],
    finish: Callable[[Part], None],
) -> None:
    attempts: dict[Future[None], tuple[Part, int]] = {}
    for part in parts:
        attempts[pool.submit(score_part, *arguments(part))] = (part, 1)
    while attempts:
        for future in as_completed(list(attempts)):
            part, attempt = attempts.pop(future)
            try:
                future.result()
            except WorkerError as error:
                # With a cause, the part itself raised, and would again. Without, its worker died: a part has no
                # effect but its whole file, so that it may be tried again.
                if error.__cause__ is not None or attempt == _MAX_ATTEMPTS:
                    raise
                attempts[pool.submit(score_part, *arguments(part))] = (part, attempt + 1)
                continue
            finish(part)
