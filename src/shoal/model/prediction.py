"""Offline prediction: a package over a whole dataset, in parts that survive a kill, on as many workers as wanted."""

import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import Future, as_completed
from functools import partial
from pathlib import Path

from shoal.base import ConfigError, CorruptError, NotFoundError, Ref, ShoalError, WorkerError, file_lock
from shoal.data import Dataset
from shoal.data import open as open_dataset
from shoal.model.batch_cost import measure_batch_size
from shoal.model.onnx_file import OnnxFile, find_model, load_session
from shoal.model.prediction_plan import (
    Plan,
    Request,
    carried_columns,
    check_folder,
    check_request,
    find_plan,
    settle_plan,
    with_addresses,
)
from shoal.model.reading import Package
from shoal.model.scoring import Part, Scorer, fixed_batch, inputs_of, release, score_part
from shoal.model.signature import Signature
from shoal.runtime import Pool, Runtime, open_runtime

Progress = Callable[[int], None]

PARTS_FOLDER = ".parts"
# Small enough that a kill loses little and that a few workers share a small dataset evenly; for large ones the number
# of parts is bounded instead, because each becomes a shard of the result.
_MIN_PART_ROWS, _MAX_PARTS = 4_096, 1_024
# A model for which few rows at once are enough is a slow one: then a kill must not lose thousands of them.
_PART_BATCHES = 256
# Rows that are looked at before anything is begun: rows may be large.
_NUM_CHECKED = 128
_MAX_ATTEMPTS = 3


def predict(
    package: Package | OnnxFile | str | Path,
    dataset: Dataset,
    out: str | Path,
    *,
    workers: int = 1,
    batch_size: int | None = None,
    columns: Sequence[str] | None = None,
    runtime: str | Runtime = "local",
    progress: Progress | None = None,
) -> Dataset:
    """Run a model over every row of a dataset and return the predictions as a dataset in `out`.

    It has one row per input row, in the same order: the column `row` with its number there, the columns that go along,
    and the model's outputs. Its `sources` name the dataset's version and the model by their digests. Work is done in
    parts, each written whole: killed at any instant, the same call does only what is missing, and when all is done it
    returns at once. The rows are the same bits with any number of workers, and memory depends on `batch_size` alone.

    Args:
        package: the model: a package or its folder, or an `.onnx` file.
        dataset: any dataset with the model's input columns; a split too.
        out: the folder of the result; made if it is not there. On a cluster, one that all nodes see.
        workers: processes, of one thread each; 1 works in this one, if it runs locally.
        batch_size: rows per call of the model; None: measured in about a second, and kept for the calls that go on.
        columns: of the dataset, to go along with the predictions; None: its key, if it has one.
        runtime: where workers run.
        progress: called with the number of rows that are done, after each part, and first with those of earlier calls.

    Raises:
        ConflictError: `out` holds predictions of something else, or another process works on it now.
        InputError: the dataset has no rows, lacks a column, has missing values in it, or another dtype or shape.
        PackageError: the model fails on a row.
        UnsupportedError: what the model gives cannot be stored, or `out` is no folder.
        WorkerError: one of these in a worker, in its words, or its worker died three times. Finished parts stay.
    """
    if workers < 1 or (batch_size is not None and batch_size < 1):
        raise ConfigError(f"workers={workers} and batch_size={batch_size} must be >= 1", next_step="leave them out")
    folder = check_folder(out)
    model = find_model(package)
    signature = model.signature if isinstance(model, Package) else load_session(model).signature
    carried = carried_columns(dataset, columns)
    request = Request(package=Ref.of(model), dataset=Ref.of(dataset), columns=carried, batch_size=batch_size)
    # Before the lock: what can never be predicted leaves no folder behind.
    check_request(signature, dataset, request)
    plan = find_plan(folder, request) or _made_plan(model, signature, dataset, request)
    with file_lock(folder / ".lock", blocking=False):
        # Another call may have begun meanwhile: its plan is the folder's.
        plan = with_addresses(settle_plan(folder, plan, request), request)
        done = _finished(folder)
        if done is None:
            done = _do(plan, folder, workers, runtime, progress)
        if done.num_rows != plan.num_rows:
            raise CorruptError(
                f"{folder} has {done.num_rows} predictions, expected one for each of {plan.num_rows} rows",
                next_step=f"delete {folder} and predict again",
            )
        # The result has its own links to the parts' bytes.
        shutil.rmtree(folder / PARTS_FOLDER, ignore_errors=True)
    return done


def _made_plan(model: Package | OnnxFile, signature: Signature, dataset: Dataset, request: Request) -> Plan:
    fixed = fixed_batch(signature)
    batch_size = request.batch_size or fixed
    most_rows = min(dataset.num_rows, _MIN_PART_ROWS)
    # A column that does not fit is told before anything is begun.
    inputs_of(signature, dataset, 0, min(most_rows, _NUM_CHECKED))
    if batch_size is None:
        scorer = Scorer(load_session(model), dataset, request.columns)
        batch_size = measure_batch_size(lambda size: scorer.score(0, size), most_rows)
    part_rows = max(min(_MIN_PART_ROWS, _PART_BATCHES * batch_size), -(-dataset.num_rows // _MAX_PARTS))
    return Plan(
        package=request.package,
        dataset=request.dataset,
        num_rows=dataset.num_rows,
        part_rows=part_rows if fixed is None else -(-part_rows // fixed) * fixed,
        batch_size=batch_size,
        columns=request.columns,
    )


def _finished(folder: Path) -> Dataset | None:
    try:
        return open_dataset(folder)
    except NotFoundError:
        return None


def _do(plan: Plan, folder: Path, workers: int, runtime: str | Runtime, progress: Progress | None) -> Dataset:
    parts = plan.parts(folder / PARTS_FOLDER)
    (folder / PARTS_FOLDER).mkdir(exist_ok=True)
    # Listed rather than asked for one by one: a shared file system remembers for a while that a file was not there.
    there = set(os.listdir(folder / PARTS_FOLDER))  # noqa: PTH208 - names are all that is needed
    missing = [part for part in parts if part.path.name not in there]
    done = plan.num_rows - sum(part.num_rows for part in missing)
    tell = progress or (lambda _rows: None)
    if done:
        tell(done)

    def finish(part: Part) -> None:
        nonlocal done
        done += part.num_rows
        tell(done)

    if not missing or (runtime == "local" and min(workers, len(missing)) == 1):
        _score_here(plan, missing, finish)
    else:
        with open_runtime(runtime).pool(min(workers, len(missing))) as pool:
            _score_in_pool(pool, missing, plan, finish)
    return Dataset.create_from_segments(folder, [part.path for part in parts], plan.sources)


def _score_here(plan: Plan, parts: Sequence[Part], finish: Callable[[Part], None]) -> None:
    try:
        for part in parts:
            score_part(plan.package, plan.dataset, part, plan.batch_size, plan.columns)
            finish(part)
    finally:
        release()


def _score_in_pool(pool: Pool, parts: Sequence[Part], plan: Plan, finish: Callable[[Part], None]) -> None:
    def submit(part: Part) -> "Future[None]":
        return pool.submit(score_part, plan.package, plan.dataset, part, plan.batch_size, plan.columns)

    attempts = {submit(part): (part, 1) for part in parts}
    while attempts:
        for future in as_completed(list(attempts)):
            part, attempt = attempts.pop(future)
            try:
                future.result()
            except WorkerError as error:
                # What the part itself refused, it would refuse again. Else its worker died: a part has no effect but
                # its whole file, so that it may be tried again.
                if isinstance(error.__cause__, ShoalError) or attempt == _MAX_ATTEMPTS:
                    raise _in_words(error, part, plan, attempt) from error.__cause__ or error
                attempts[submit(part)] = (part, attempt + 1)
                continue
            _check_arrived(part)
            finish(part)


def _in_words(error: WorkerError, part: Part, plan: Plan, attempt: int) -> WorkerError:
    made = partial(
        WorkerError,
        role=error.role,
        rank=error.rank,
        host=error.host,
        pid=error.pid,
        traceback_text=error.traceback_text,
    )
    if isinstance(cause := error.__cause__, ShoalError):
        # The same words as without workers.
        return made(cause.message, next_step=cause.next_step)
    return made(
        f"rows {part.start} to {part.stop - 1} of {plan.dataset.address} were tried {attempt} times: {error.message}",
        next_step=f"{error.next_step}; then call it again, it goes on with the rows that are missing",
    )


def _check_arrived(part: Part) -> None:
    if not part.path.exists():
        raise NotFoundError(
            f"a worker has written {part.path}, and it is not there for this process",
            next_step="predict into a folder that all nodes of the cluster see, or with runtime='local'",
        )
