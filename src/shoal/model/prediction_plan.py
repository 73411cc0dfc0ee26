"""What a folder of predictions holds, written down before the first row: so that every later call goes on with it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from shoal.base import (
    ConfigError,
    ConflictError,
    InputError,
    NotFoundError,
    Ref,
    UnsupportedError,
    decode,
    pretty,
    write_atomic,
)
from shoal.data import Dataset, SourceFact
from shoal.model.scoring import ROW, Part, fixed_batch
from shoal.model.signature import Signature

PLAN_FILE = "prediction.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a folder of predictions holds: fixed by the first call, so that every later one continues the same.

    Attributes:
        package: the model, a package or an ONNX file.
        dataset: whose rows are predicted; there are `num_rows`.
        part_rows: rows of a part, which becomes one shard of the result.
        batch_size: rows per call of the model; other sizes may give other last bits.
        columns: of the dataset, that go along.
    """

    package: Ref
    dataset: Ref
    num_rows: int
    part_rows: int
    batch_size: int
    columns: tuple[str, ...]

    def parts(self, folder: Path) -> list[Part]:
        """The stretches of rows, each with the file that its predictions go to."""
        return [
            Part(start, min(start + self.part_rows, self.num_rows), folder / f"{start:012d}.arrow")
            for start in range(0, self.num_rows, self.part_rows)
        ]

    @property
    def sources(self) -> tuple[SourceFact, ...]:
        """Where the result's rows come from, as its manifest says it: the dataset's rows, and the model."""
        return tuple(
            SourceFact(path=ref.address, digest=ref.digest, num_rows=self.num_rows)
            for ref in (self.dataset, self.package)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What one call asks for; without a batch size it takes that of the plan."""

    package: Ref
    dataset: Ref
    columns: tuple[str, ...]
    batch_size: int | None


def find_plan(folder: Path, request: Request) -> Plan | None:
    """Return the plan of a folder that was begun with the same request; None for one that is not begun.

    Raises:
        ConflictError: the folder holds something else.
    """
    try:
        plan = read_prediction_plan(folder)
    except NotFoundError:
        if (folder / "versions").exists():
            raise ConflictError(
                f"{folder} is another dataset", next_step="choose another folder for the predictions"
            ) from None
        return None
    _check_same(plan, request, folder)
    return plan


def read_prediction_plan(folder: str | Path) -> Plan:
    """Return what a folder of predictions holds, or will when they are done.

    Raises:
        NotFoundError: no predictions were begun there.
        ConflictError: this shoal cannot go on with them.
    """
    path = Path(folder).expanduser().absolute() / PLAN_FILE
    try:
        return decode(path.read_bytes(), Plan)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFoundError(
            f"no predictions were begun in {path.parent}: there is no {PLAN_FILE}", next_step="check the path"
        ) from error
    except InputError as error:
        raise ConflictError(
            f"cannot go on in {path.parent}: its {PLAN_FILE} was written by another version of shoal, or damaged "
            f"({error.message})",
            next_step="choose another folder, or delete this one",
        ) from error


def settle_plan(folder: Path, plan: Plan, request: Request) -> Plan:
    """Write the plan down, and return it or the one that was there first; called under the folder's lock."""
    if (found := find_plan(folder, request)) is not None:
        return found
    write_atomic(folder / PLAN_FILE, pretty(plan).encode())
    return plan


def carried_columns(dataset: Dataset, columns: Sequence[str] | None) -> tuple[str, ...]:
    """The columns that go along: those asked for, else the dataset's key if it has one.

    Raises:
        InputError: one is no column of the dataset.
    """
    if columns is None:
        return () if dataset.key is None else (dataset.key,)
    names = tuple(dict.fromkeys(columns))
    if unknown := [name for name in names if name not in dataset.schema.names]:
        raise InputError(
            f"{unknown[0]!r} is no column of {dataset.address}: found {', '.join(dataset.schema.names)}",
            next_step="name columns of the dataset",
        )
    return names


def check_folder(out: str | Path) -> Path:
    """Return the folder of the predictions, absolute.

    Raises:
        UnsupportedError: it is a URL.
    """
    if "://" in str(out):
        raise UnsupportedError(
            f"cannot write predictions to {out}: expected a folder",
            next_step="predict into a folder, then copy the result with its mirror() or with shoal.data.ingest",
        )
    return Path(out).expanduser().absolute()


def check_request(signature: Signature, dataset: Dataset, request: Request) -> None:
    """Refuse what can be seen to be impossible before any row is read.

    Raises:
        InputError: the dataset has no rows or lacks an input column, or two columns of the result have one name.
        ConfigError: the model takes another batch size than was asked for.
    """
    if dataset.num_rows == 0:
        raise InputError(
            f"cannot predict {dataset.address}: it has no rows, expected at least one",
            next_step="give a dataset with rows, or a larger split of this one",
        )
    absent = [name for name in signature.columns if name not in dataset.schema.names]
    if absent:
        raise InputError(
            f"input {absent[0]!r} is no column of {dataset.address}: found {', '.join(dataset.schema.names)}",
            next_step="rename the column, or package the model with the dataset's names as inputs",
        )
    outputs = {spec.name for spec in signature.outputs}
    if taken := sorted({ROW, *request.columns} & outputs):
        raise InputError(
            f"output {taken[0]!r} has the name of a column that the result needs",
            next_step="rename the output" + ("" if taken[0] == ROW else f", or leave {taken[0]!r} out of the columns"),
        )
    if ROW in request.columns:
        raise InputError(
            f"column {ROW!r} of {dataset.address} cannot go along: the result has row numbers under this name",
            next_step=f"rename it with Dataset.evolve, or leave {ROW!r} out of the columns",
        )
    fixed = fixed_batch(signature)
    if fixed is not None and request.batch_size not in (None, fixed):
        raise ConfigError(
            f"batch_size={request.batch_size}, and the model takes exactly {fixed} rows at once",
            next_step="leave batch_size out, or export the model with a dynamic batch dimension",
        )


def _check_same(plan: Plan, request: Request, folder: Path) -> None:
    other = "choose another folder, or delete this one"
    for mine, theirs in ((request.package, plan.package), (request.dataset, plan.dataset)):
        if mine.digest != theirs.digest:
            raise ConflictError(
                f"{folder} holds predictions of {theirs.kind} {theirs.digest} ({theirs.address}), "
                f"asked for {mine.digest} ({mine.address})",
                next_step=other,
            )
    if request.columns != plan.columns:
        raise ConflictError(
            f"{folder} holds predictions beside the columns {list(plan.columns)}, asked for {list(request.columns)}",
            next_step=f"ask for the same columns, or {other}",
        )
    if request.batch_size not in (None, plan.batch_size):
        raise ConflictError(
            f"{folder} holds predictions with batch_size={plan.batch_size}, asked for {request.batch_size}",
            next_step=f"leave batch_size out, or {other}",
        )


def with_addresses(plan: Plan, request: Request) -> Plan:
    """The plan with its model and dataset where they lie now: one that was moved is still the same."""
    return replace(plan, package=request.package, dataset=request.dataset)
