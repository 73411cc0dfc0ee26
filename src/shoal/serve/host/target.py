"""What `run` and `start` were asked to serve: a file, a package, Python, a folder, or a name in the registry."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import shoal.store
from shoal.base import ConfigError, NotFoundError, UnsupportedError
from shoal.model import Package, open_package
from shoal.serve.links.messages import ModelPlan
from shoal.serve.replicas.carrying import carry
from shoal.serve.replicas.chain import Chain
from shoal.serve.replicas.python_models import check_address, is_address, is_python_model
from shoal.store import ModelVersion, Store

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")
_ONLY_VERSION = "1"
_MANIFEST = "package.json"


@dataclass(frozen=True, slots=True)
class Target:
    """One model to serve.

    Attributes:
        name: what it is called in paths and prediction ids.
        plan: its versions now.
        store: the registry that it came from, if it did.
        alias: the alias to follow there, "" for production or else the newest; None for something that never moves.
        last_change: the registry's newest change before the plan was read.
        owns_store: whether the store was opened here, and is to be closed with the server.
        folder: the folder of models to watch; then there is no plan of one model.
        beside: the plans of further models, by name.
    """

    name: str
    plan: ModelPlan
    store: Store | None = None
    alias: str | None = None
    last_change: int = 0
    owns_store: bool = False
    folder: Path | None = None
    beside: Mapping[str, ModelPlan] = field(default_factory=dict)

    @property
    def plans(self) -> dict[str, ModelPlan]:
        """All models to serve at the start, by name."""
        return {} if self.folder is not None else {self.name: self.plan, **self.beside}


def find_target(model: object, store: Store | None) -> Target:
    """Find what to serve, and check a package's files before any process is started.

    Args:
        model: an ONNX file, a package or its folder, a registered version, or an address in the registry:
            "fashion@production", "fashion@3", or "fashion" for production, else the newest. Or Python: a class or an
            object with `predict(batch)`, a `Chain`, or the address of one, "file.py:Class". Or several of these by
            name, or a folder of models.
        store: the registry; None opens the nearest one when an address is given.

    Raises:
        NotFoundError: no such file, model, version or alias.
        CorruptError: a file of the package was changed; the message names it.
        UnsupportedError: the file is no ONNX model, or the object none that could be served.
        InputError: the object holds what cannot leave this process.
        ConfigError: one of several models has a name that cannot stand in a path, or is no single model.
    """
    if isinstance(model, Mapping):
        return _several(model, store)
    if isinstance(model, Package):
        return Target(model.name, single(str(model.path)))
    if isinstance(model, ModelVersion):
        return Target(model.name, single(str(model.path), str(model.version)), store)
    if not isinstance(model, str | Path):
        return _python(model)
    if isinstance(model, str) and is_address(model):
        address, name = check_address(model)
        return Target(name, single(address))
    path = Path(model)
    if path.is_dir() and not (path / _MANIFEST).is_file():
        return Target(path.absolute().name, ModelPlan({}, {}), folder=path.absolute())
    if path.is_dir():
        package = open_package(path)
        return Target(package.name, single(str(package.path)), store)
    if path.is_file():
        return _plain_file(path, store)
    if isinstance(model, Path) or "/" in model or path.suffix == ".onnx":
        raise NotFoundError(
            f"cannot serve {model}: there is no such file or folder",
            next_step="check the path, or name a registered model as in fashion@production, or file.py:Class",
        )
    if store is not None:
        return _registered(model, store)
    opened = shoal.store.open(create=False)
    try:
        return replace(_registered(model, opened), owns_store=True)
    except BaseException:
        opened.close()
        raise


def source_of(model: object) -> str:
    """What a plan says for one version of a model: a path, or the address of Python code."""
    if isinstance(model, str | Path) and not is_address(str(model)):
        return str(Path(model).absolute())
    (source,) = find_target(model, None).plan.versions.values()
    return source


def single(path: str, version: str = _ONLY_VERSION) -> ModelPlan:
    """The plan of a model with one version."""
    return ModelPlan({version: path}, {version: 1.0})


def plan_from_registry(store: Store, name: str, alias: str) -> ModelPlan:
    """The plan that the registry asks for now: the version that the alias means, and the canary beside it."""
    main = store.models.get(f"{name}@{alias}" if alias else name)
    versions, shares = {str(main.version): str(main.path)}, {str(main.version): 1.0}
    canary = store.models.canary_of(name)
    if canary is not None and canary[0].version != main.version:
        version, share = canary
        versions[str(version.version)] = str(version.path)
        shares = {str(main.version): 1.0 - share, str(version.version): share}
    return ModelPlan(versions, shares)


def _several(models: Mapping[str, object], store: Store | None) -> Target:
    if not models:
        raise ConfigError("cannot serve no models", next_step="give at least one, as {name: model}")
    plans: dict[str, ModelPlan] = {}
    for name, model in models.items():
        if not name or in_path(name) != name:
            raise ConfigError(
                f"a model cannot be named {name!r}: expected letters, digits, '.', '_' and '-'",
                next_step="choose a name such as 'fashion'",
            )
        target = find_target(model, store)
        if target.folder is not None or target.beside:
            raise ConfigError(
                f"{name} is {model!r:.80}, expected one model", next_step="serve a folder or a dict of models alone"
            )
        if target.alias is not None:
            raise ConfigError(
                f"{name} is {model}, which moves in the registry: several models are served as they are",
                next_step=f"name its version, as in {target.name}@3, or serve it alone",
            )
        plans[name] = target.plan
    first, *others = plans
    return Target(first, plans[first], store, beside={name: plans[name] for name in others})


def _python(model: object) -> Target:
    if isinstance(model, Chain):
        return Target(in_path(model.name), single(carry(model)))
    kind = model if isinstance(model, type) else type(model)
    if not is_python_model(model) or hasattr(model, "get_params"):
        raise UnsupportedError(
            f"cannot serve a {kind.__name__}: expected a file, a package, or a class or object with predict(batch)",
            next_step="package estimators and modules first, with shoal.model.package(model, example=...)",
        )
    return Target(in_path(kind.__name__), single(carry(model)))


def in_path(name: str) -> str:
    """The name with what cannot stand in paths and prediction ids left out."""
    return _NOT_IN_NAMES.sub("-", name).strip("-.") or "model"


def _plain_file(path: Path, store: Store | None) -> Target:
    if path.suffix != ".onnx":
        raise UnsupportedError(
            f"cannot serve {path}: expected an .onnx file, a package's folder or a registered model",
            next_step="export the model to ONNX, or package it with shoal.model.package",
        )
    return Target(in_path(path.stem), single(str(path.absolute())), store)


def _registered(address: str, store: Store) -> Target:
    name, _, which = address.partition("@")
    if which.isdigit():
        found = store.models.get(address)
        open_package(found.path, digest=found.digest)
        return Target(name, single(str(found.path), which), store)
    # Before the plan is read: a move in between is then looked at once more, never missed.
    last_change = store.last_change()
    plan = plan_from_registry(store, name, which)
    for path in plan.versions.values():
        open_package(path)
    return Target(name, plan, store, which, last_change)
