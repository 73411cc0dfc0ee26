"""What `run` and `start` were asked to serve: a file, a package, or a name in the registry."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

import shoal.store
from shoal.base import NotFoundError, UnsupportedError
from shoal.model import Package, open_package
from shoal.serve.messages import ModelPlan
from shoal.store import ModelVersion, Store

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")
_ONLY_VERSION = "1"


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
    """

    name: str
    plan: ModelPlan
    store: Store | None = None
    alias: str | None = None
    last_change: int = 0
    owns_store: bool = False


def find_target(model: str | Path | Package | ModelVersion, store: Store | None) -> Target:
    """Find what to serve, and check a package's files before any process is started.

    Args:
        model: an ONNX file, a package or its folder, a registered version, or an address in the registry:
            "fashion@production", "fashion@3", or "fashion" for production, else the newest.
        store: the registry; None opens the nearest one when an address is given.

    Raises:
        NotFoundError: no such file, model, version or alias.
        CorruptError: a file of the package was changed; the message names it.
        UnsupportedError: the file is no ONNX model.
    """
    if isinstance(model, Package):
        return Target(model.name, single(str(model.path)))
    if isinstance(model, ModelVersion):
        return Target(model.name, single(str(model.path), str(model.version)), store)
    path = Path(model)
    if path.is_dir():
        package = open_package(path)
        return Target(package.name, single(str(package.path)), store)
    if path.is_file():
        return _plain_file(path, store)
    if isinstance(model, Path) or "/" in model or path.suffix == ".onnx":
        raise NotFoundError(
            f"cannot serve {model}: there is no such file or folder",
            next_step="check the path, or name a registered model as in fashion@production",
        )
    if store is not None:
        return _registered(model, store)
    opened = shoal.store.open(create=False)
    try:
        return replace(_registered(model, opened), owns_store=True)
    except BaseException:
        opened.close()
        raise


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


def _plain_file(path: Path, store: Store | None) -> Target:
    if path.suffix != ".onnx":
        raise UnsupportedError(
            f"cannot serve {path}: expected an .onnx file, a package's folder or a registered model",
            next_step="export the model to ONNX, or package it with shoal.model.package",
        )
    return Target(_NOT_IN_NAMES.sub("-", path.stem).strip("-.") or "model", single(str(path.absolute())), store)


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
