"""Make a package: export, prove that the export gives what the module gives, write it whole."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

import numpy as np
import onnx
from numpy.typing import NDArray

from shoal.base import (
    ConfigError,
    ConflictError,
    Handle,
    InputError,
    PackageError,
    Ref,
    UnsupportedError,
    atomic_folder,
    digest_bytes,
    find_home,
)
from shoal.model.estimators import LABEL, convert_estimator, is_estimator
from shoal.model.graph import add_scores, is_distribution, load_graph, softmax, strip, to_bytes
from shoal.model.joining import with_preparation
from shoal.model.manifest import (
    EXAMPLES_FILE,
    MANIFEST_FILE,
    ONNX_FILE,
    PREPARATION_FILE,
    PROFILE_FILE,
    SCORES,
    Kind,
    Manifest,
)
from shoal.model.profiling import profile_model
from shoal.model.reading import Package, open_package
from shoal.model.session import Session
from shoal.model.signature import Signature
from shoal.model.tables import arrays_to_bytes

if TYPE_CHECKING:
    from shoal.data import Dataset, FittedPreparation, Profile

NUM_EXAMPLES, MAX_EXAMPLE_ROWS = 8, 256
# Relative to the larger of 1 and the value: float32 kernels of torch and ONNX Runtime add in different orders.
TOLERANCE = 1e-4
# Of an int8 graph: a difference in the last bit before it is rounded may become a whole step after.
QUANTIZED_TOLERANCE = 0.02


class HasId(Protocol):
    """A run, as the store hands it out."""

    @property
    def id(self) -> str:
        """Its id, such as "r-0007"."""


def package(
    model: object,
    *,
    example: Any,  # noqa: ANN401 - arrays by name, or what an estimator takes
    name: str = "model",
    path: str | Path | None = None,
    kind: Kind | None = None,
    inputs: Sequence[str] | None = None,
    run: str | HasId | None = None,
    code: str | None = None,
    dataset: Handle | None = None,
    metrics: Mapping[str, float] | None = None,
    profile: "Profile | None" = None,
    profile_on: "tuple[Dataset, Dataset] | None" = None,
    parent: Package | None = None,
    preparation: "FittedPreparation | Literal[False] | None" = None,
) -> Package:
    """Write a model with all that is needed to run, judge and trace it into one folder, and return it opened.

    The export is run on the example before anything is written: it must give what the module gives, and give it to a
    single row too. The same model and facts give the same package; packaging it again returns what is there.

    Args:
        model: a torch module (not changed; it need not be in evaluation mode), an ONNX file's path, an ONNX model, or a
            fitted estimator of scikit-learn, LightGBM or XGBoost, or a pipeline of them.
        example: a few real rows, as arrays or tensors by name, the batch first, of which at most 256 are
            used; columns that are no input may be there. For an estimator also the data frame or the matrix that it was
            fitted on: columns of a data frame become inputs, and those that lack values in it get a mask beside them.
        name: letters, digits, `.`, `_` and `-`: it becomes part of file names and URLs.
        path: the folder to make; left out, `packages/<name>-<digest>` in the nearest `.shoal`.
        kind: "classification" gives the output `scores`, float [batch, classes], as probabilities: a softmax is
            appended unless the model gives probabilities already. "regression" keeps outputs as they are. Left out, an
            estimator tells, with `label` beside a classifier's scores, and all else is taken for a classifier.
        inputs: the columns that a torch module's forward takes, in order, where their names differ from its parameters.
        run: what trained it, or its id.
        code: the digest of the code that trained it.
        dataset: what it was trained on.
        metrics: figures of the model, which gates read.
        profile: of the training data, see `training_profile`; `amend` adds one later.
        profile_on: (training rows, held-out rows) to take the profile from, instead of giving one.
        parent: the package that this one was derived from.
        preparation: what was done to the rows that the model was trained on: it becomes the beginning of the graph,
            which then takes raw rows, as `example` must hold. Left out, that of `dataset`, if it has one; False: none.

    Raises:
        PackageError: the module cannot be exported, or the export differs from it.
        InputError: the example does not fit the model.
        ConflictError: `path` holds something else.
    """
    _check_words(name, kind)
    if profile is not None and profile_on is not None:
        raise ConfigError("profile and profile_on were both given, expected one", next_step="leave one of them out")
    fitted = preparation_of(preparation, dataset)
    proven = (
        _prove_estimator(model, example, kind, inputs, fitted)
        if is_estimator(model)
        else _prove(model, example, kind or "classification", inputs, fitted)
    )
    signature = proven.signature
    files = {ONNX_FILE: proven.graph, EXAMPLES_FILE: arrays_to_bytes(proven.examples)}
    if fitted is None and preparation is None and parent is not None and parent.signature.inputs == signature.inputs:
        # What was derived from a graph that prepares its rows, such as its int8 form, does so too.
        fitted = parent.preparation
    if fitted is not None:
        files[PREPARATION_FILE] = fitted.to_json().encode()
    if profile_on is not None:
        profile = profile_model(Session(proven.graph), proven.kind, *profile_on)
    if profile is not None:
        files[PROFILE_FILE] = profile.to_bytes()
    manifest = Manifest(
        name=name,
        kind=proven.kind,
        signature=signature,
        metrics=_finite(metrics or {}),
        run=run if run is None or isinstance(run, str) else run.id,
        code=code,
        dataset=None if dataset is None else Ref.of(dataset),
        parent=None if parent is None else parent.digest,
        files={file: digest_bytes(content) for file, content in files.items()},
        preparation=None if fitted is None else fitted.digest,
        classes=proven.classes,
    )
    return _write(manifest, files, path)


def preparation_of(given: "FittedPreparation | Literal[False] | None", dataset: object) -> "FittedPreparation | None":
    """Return the given preparation, or without one that of a dataset; None for neither, and where False was given."""
    if given is None:
        # A reference to a dataset is no more than its address: it has no preparation at hand.
        given = getattr(dataset, "preparation", None)
    return given or None


def amend(
    package: Package,
    *,
    metrics: Mapping[str, float] | None = None,
    profile: "Profile | None" = None,
    path: str | Path | None = None,
) -> Package:
    """Return a package of the same model with these metrics added and this profile in place of its own.

    A package is never changed: this is another folder with another digest, and the same lineage.
    """
    files = {file: (package.path / file).read_bytes() for file in package.manifest.files}
    if profile is not None:
        files[PROFILE_FILE] = profile.to_bytes()
    manifest = replace(
        package.manifest,
        metrics={**package.metrics, **_finite(metrics or {})},
        files={file: digest_bytes(content) for file, content in files.items()},
    )
    return _write(manifest, files, path)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Proven:
    """A graph that gave what its source gives, and rows of both sides."""

    graph: bytes
    signature: Signature
    examples: dict[str, NDArray[Any]]
    kind: Kind
    classes: tuple[int | str, ...] | None = None


def _prove(
    model: object,
    example: object,
    kind: Kind,
    inputs: Sequence[str] | None,
    preparation: "FittedPreparation | None",
) -> _Proven:
    rows = _rows_of(example)
    graph, expected = _graph_of(model, rows if preparation is None else preparation.apply(rows), inputs)
    if preparation is not None:
        graph = with_preparation(graph, preparation)
    strip(graph)
    raw = Session(to_bytes(graph))
    taken = raw.signature.inputs_from(rows)
    if kind == "classification":
        add_scores(graph, raw.run(taken) if expected is None else expected)
        if expected is not None:
            (values,) = expected.values()
            expected = {SCORES: values if is_distribution(values) else softmax(values)}
    content = to_bytes(graph)
    session = Session(content)
    is_quantized = any(node.op_type == "QuantizeLinear" for node in graph.graph.node)
    tolerance = QUANTIZED_TOLERANCE if is_quantized else TOLERANCE
    _check_batch_is_free(session.signature)
    found = session.run(taken)
    if expected is not None:
        _check_equal(found, expected, "the exported graph differs from the module", tolerance)
    return _Proven(
        graph=content,
        signature=session.signature,
        examples=_checked_alone(session, taken, found, tolerance),
        kind=kind,
    )


def _prove_estimator(
    model: object,
    example: object,
    kind: Kind | None,
    inputs: Sequence[str] | None,
    preparation: "FittedPreparation | None",
) -> _Proven:
    if inputs is not None:
        raise ConfigError(
            f"inputs={list(inputs)} names the inputs of a torch module, and this is a {type(model).__name__}",
            next_step="leave inputs out: an estimator has the columns that it was fitted on",
        )
    raw = {} if preparation is None else _rows_of(example)
    converted = convert_estimator(
        model,
        example if preparation is None else preparation.apply(raw),
        kind=kind,
        most_rows=MAX_EXAMPLE_ROWS,
        tolerance=TOLERANCE,
    )
    graph = converted.graph if preparation is None else with_preparation(converted.graph, preparation)
    strip(graph)
    content = to_bytes(graph)
    session = Session(content)
    taken = session.signature.inputs_from(raw or converted.rows)
    found = session.run(taken)
    _check_equal(found, converted.expected, "the converted graph differs from the estimator", TOLERANCE)
    return _Proven(
        graph=content,
        signature=session.signature,
        examples=_checked_alone(session, taken, found, TOLERANCE),
        kind=converted.kind,
        classes=converted.classes,
    )


def _checked_alone(
    session: Session, taken: Mapping[str, NDArray[Any]], found: Mapping[str, NDArray[Any]], tolerance: float
) -> dict[str, NDArray[Any]]:
    """A few rows of both sides, once the first of them gave the same without the others."""
    _check_equal(
        session.run({name: values[:1] for name, values in taken.items()}),
        {name: values[:1] for name, values in found.items()},
        "a row alone gives another output than the same row in a batch",
        tolerance,
    )
    return {name: values[:NUM_EXAMPLES] for name, values in {**taken, **found}.items()}


def _rows_of(example: object) -> dict[str, NDArray[Any]]:
    if not isinstance(example, Mapping):
        raise InputError(
            f"the example is a {type(example).__name__}, expected arrays by name",
            next_step="give a dict such as {'image': images}; data frames are taken for estimators alone",
        )
    return {column: _to_numpy(values) for column, values in example.items()}


def _graph_of(
    model: object, rows: dict[str, NDArray[Any]], inputs: Sequence[str] | None
) -> tuple[onnx.ModelProto, dict[str, NDArray[Any]] | None]:
    if isinstance(model, str | Path):
        _check_not_pickled(Path(model))
        return load_graph(Path(model)), None
    if isinstance(model, onnx.ModelProto):
        own = onnx.ModelProto()
        own.CopyFrom(model)
        return own, None
    from shoal.model.export import export_module  # torch is needed for torch modules alone

    return export_module(model, rows, inputs=inputs)


def _check_not_pickled(path: Path) -> None:
    if path.suffix in (".pkl", ".pickle", ".joblib"):
        raise UnsupportedError(
            f"cannot package {path}: loading a pickled model runs whatever code is in it, and shoal never does",
            next_step="load it yourself if you trust who made it, and give the estimator itself",
        )


def _check_words(name: str, kind: str | None) -> None:
    if (
        not name
        or name[0] in ".-"
        or not all(letter.isascii() and (letter.isalnum() or letter in "._-") for letter in name)
    ):
        raise ConfigError(
            f"name={name!r} cannot name a model: expected letters, digits, '.', '_' and '-'",
            next_step="choose a name such as 'fashion'",
        )
    if kind is not None and kind not in get_args(Kind):
        raise ConfigError(f"kind={kind!r} is unknown: expected one of {get_args(Kind)}", next_step="choose one of them")


def _check_batch_is_free(signature: Signature) -> None:
    for spec in (*signature.inputs, *signature.outputs):
        if not spec.shape or spec.shape[0] is not None:
            raise PackageError(
                f"cannot package: {spec.name!r} has the fixed shape {list(spec.shape)}, expected [any, ...]",
                next_step="export the model with a dynamic batch dimension, and let it use the input's own size",
            )


def _check_equal(
    found: Mapping[str, NDArray[Any]], expected: Mapping[str, NDArray[Any]], what: str, tolerance: float
) -> None:
    for name, wanted in expected.items():
        given = found[name]
        if given.shape != wanted.shape:
            raise PackageError(
                f"{what}: {name!r} has shape {list(given.shape)}, expected {list(wanted.shape)}",
                next_step="make forward independent of the example's batch size",
            )
        if name == LABEL and SCORES in expected:
            continue  # It follows from the scores: where two are as good as equal, either is right.
        difference = np.abs(given.astype(np.float64) - wanted.astype(np.float64))
        worst = float((difference / np.maximum(1.0, np.abs(wanted))).max(initial=0.0))
        # Written so that NaN on one side fails too.
        if not worst <= tolerance:
            raise PackageError(
                f"{what}: {name!r} is off by {worst:.3g}, expected at most {tolerance:g}",
                next_step="look for randomness, operations across rows, or branches on values in forward",
            )


def _finite(metrics: Mapping[str, float]) -> dict[str, float]:
    figures = {name: float(value) for name, value in metrics.items()}
    # JSON cannot say NaN or infinity, and no gate could pass them.
    if wrong := [name for name, value in figures.items() if not math.isfinite(value)]:
        raise InputError(
            f"metric {wrong[0]!r} is {figures[wrong[0]]}, expected a finite number",
            next_step=f"leave out {wrong[0]!r}, or find out why it could not be measured",
        )
    return figures


def _to_numpy(values: Any) -> NDArray[Any]:  # noqa: ANN401 - an array or a tensor; torch is not imported to name it
    plain = np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)
    if plain.ndim == 0 or len(plain) == 0:
        raise InputError(
            f"the example holds an array of shape {list(plain.shape)}, expected at least one row",
            next_step="give a few rows of real data, the batch as first dimension",
        )
    return plain[:MAX_EXAMPLE_ROWS]


def _write(manifest: Manifest, files: Mapping[str, bytes], path: str | Path | None) -> Package:
    content = manifest.to_bytes()
    if path is None:
        short = digest_bytes(content).removeprefix("b3:")[:12]
        path = find_home(create=True) / "packages" / f"{manifest.name}-{short}"
    folder = Path(path).absolute()
    try:
        with atomic_folder(folder) as aside:
            for name, data in {**files, MANIFEST_FILE: content}.items():
                (aside / name).write_bytes(data)
    except ConflictError:
        there = open_package(folder)
        if there.manifest != manifest:
            raise
        return there
    return open_package(folder)
