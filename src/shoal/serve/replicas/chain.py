"""Several steps served as one model: each gets what the one before it gave, in one process, batch by batch."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from shoal.base import ConfigError, InputError, NotFoundError, PackageError, ServeError, ShoalError
from shoal.model import Package, Signature, TensorSpec, open_package
from shoal.serve.replicas.python_models import (
    arrays_of,
    attempt,
    call,
    check_outputs,
    inputs_of,
    is_python_model,
    specs_of,
    zeros,
)
from shoal.serve.replicas.randomness import draws_random_numbers
from shoal.serve.wire.tensors import Array


class Chain:
    """Steps to be served as one model, such as `Chain(clean, "model.onnx", name_classes)`.

    A step is an ONNX file, a package or its folder, a function of a batch, or a class or object with `predict(batch)`.
    A batch is a dict of arrays by name. A model takes its inputs out of what the step before gave, by name; where there
    is one array on both sides, the names need not agree.
    """

    def __init__(
        self,
        *steps: object,
        example: Mapping[str, Any] | None = None,
        name: str = "chain",
        batched: bool = True,
        deterministic: bool = True,
    ) -> None:
        """Check the steps; nothing is loaded here.

        Args:
            steps: in their order, at least one.
            example: a few rows of inputs, where the first step does not say what it takes itself.
            name: what the chain is called in paths and prediction ids.
            batched: False lets each request run alone.
            deterministic: False keeps answers out of the cache; so does a step that says so itself.

        Raises:
            ConfigError: there are no steps, or one is nothing that could be run.
            NotFoundError: the file of a step is not there.
        """
        if not steps:
            raise ConfigError("a Chain needs at least one step", next_step="give its steps in their order")
        self.name = name
        self.example = None if example is None else arrays_of(example)
        self.batched = batched
        self.deterministic = deterministic
        self.steps = tuple(_checked(step, place) for place, step in enumerate(steps, 1))


class ChainModel:
    """A chain that is loaded, behind a signature."""

    def __init__(self, chain: Chain, *, threads: int) -> None:
        """Load all steps, and run them on the example or on zeros.

        Raises:
            PackageError: a step cannot be loaded, or fails on what the step before gives; the message names it.
        """
        self.name = chain.name
        self._steps = [_load(step, f"step {place} of {chain.name}, {_name_of(step)},", threads)
                       for place, step in enumerate(chain.steps, 1)]  # fmt: skip
        self.batched = chain.batched and all(step.batched for step in self._steps)
        self.deterministic = chain.deterministic and all(step.deterministic for step in self._steps)
        self.kind = self._steps[-1].kind
        first = self._steps[0]
        self.example = chain.example if chain.example is not None else first.example
        inputs = first.inputs or inputs_of(None, self.example, chain.name)
        rows = self.example if self.example is not None else zeros(inputs, 1)
        found = attempt(lambda: self._run(rows), chain.name)
        outputs = self._steps[-1].outputs or specs_of(found, batched=self.batched)
        self.signature = Signature(inputs, outputs)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs of the last step.

        Raises:
            InputError: a step refused the values.
            PackageError: a model failed on them.
            ServeError: a step failed, or gave what the next one does not take.
        """
        found = self._run(inputs)
        check_outputs(self.signature.outputs, found, self.name)
        return found

    def _run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        found = dict(inputs)
        for place, step in enumerate(self._steps):
            found = step.run(found, is_first=place == 0)
        return found


class _Step:
    """A loaded step, whatever it is; `inputs` and `outputs` are empty where it does not say."""

    def __init__(self, name: str, run: Callable[[Mapping[str, Array]], dict[str, Array]]) -> None:
        self.name = name
        self.inputs: tuple[TensorSpec, ...] = ()
        self.outputs: tuple[TensorSpec, ...] = ()
        self.batched = self.deterministic = True
        self.kind = "unknown"
        self.example: dict[str, Array] | None = None
        self._compute = run

    def run(self, given: Mapping[str, Array], *, is_first: bool) -> dict[str, Array]:
        """Its outputs; errors name it."""
        inputs = given if is_first or not self.inputs else self._fitting(given)
        try:
            return self._compute(inputs)
        except (InputError, PackageError) as error:
            if error.message.startswith(self.name):
                raise
            raise type(error)(f"{self.name} {error.message}", next_step=error.next_step) from error

    def _fitting(self, given: Mapping[str, Array]) -> dict[str, Array]:
        names = [spec.name for spec in self.inputs]
        if len(names) == len(given) == 1:
            found = dict(zip(names, given.values(), strict=True))
        else:
            found = {name: given[name] for name in names if name in given}
        try:
            Signature(self.inputs, ()).check(found)
        except InputError as error:
            # Not the client's mistake: its own values passed the first step.
            raise ServeError(
                f"{self.name} does not take what the step before gave: {error.message}",
                next_step="let the step before return what this one takes",
                status=500,
            ) from error
        return found


def _checked(step: object, place: int) -> object:
    if isinstance(step, Package):
        return str(step.path)
    if isinstance(step, str | Path):
        path = Path(step).absolute()
        if not path.exists():
            raise NotFoundError(f"step {place} of a Chain is not there: {path}", next_step="check the path")
        return str(path)
    if is_python_model(step) or callable(step):
        return step
    raise ConfigError(
        f"step {place} of a Chain is a {type(step).__name__}",
        next_step="give an ONNX file, a package, a function, or a class or object with predict(batch)",
    )


def _name_of(step: object) -> str:
    if isinstance(step, str):
        return Path(step).name
    return str(getattr(step, "__name__", type(step).__name__))


def _load(source: Any, name: str, threads: int) -> _Step:  # noqa: ANN401 - whatever a chain takes
    if isinstance(source, str):
        return _load_file(source, name, threads)
    model = source() if isinstance(source, type) else source
    step = _Step(name, lambda inputs: call(model, name, inputs))
    signature = getattr(model, "signature", None)
    if isinstance(signature, Signature):
        step.inputs, step.outputs = signature.inputs, signature.outputs
    if (example := getattr(model, "example", None)) is not None:
        step.example = arrays_of(example)
    step.batched = bool(getattr(model, "batched", True))
    step.deterministic = bool(getattr(model, "deterministic", True))
    step.kind = str(getattr(model, "kind", "unknown"))
    return step


def _load_file(path: str, name: str, threads: int) -> _Step:
    try:
        # Here, as whoever declares a chain runs none of it, and needs no ONNX Runtime.
        from shoal.model import Session

        package = open_package(path) if Path(path).is_dir() else None
        session = Session(package or path, threads=threads)
    except ShoalError as error:
        raise PackageError(f"{name} cannot be loaded: {error.message}", next_step=error.next_step) from error
    step = _Step(name, session.run)
    step.inputs, step.outputs = session.signature.inputs, session.signature.outputs
    step.kind = "unknown" if package is None else package.model_kind
    step.deterministic = not draws_random_numbers(path)
    return step
