"""A server that watches a folder: models are loaded, changed and let go as their files come and go."""

import logging
import shutil
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from shoal.base import ConfigError, NotFoundError, ShoalError, digest_json, digest_tree
from shoal.model import open_package
from shoal.serve.host.looking import Looker
from shoal.serve.host.target import in_path
from shoal.serve.links.messages import ModelPlan, Problem

_LOG = logging.getLogger(__name__)
_LOOK_EVERY_S = 0.5
_PACKAGE_FILE, _MODEL_FILE = "package.json", "model.onnx"
_DIGEST_LETTERS = 12

Mark = tuple[tuple[str, int, int], ...]
"""Of a model's files: name, size in bytes, time of the last change."""


@dataclass(frozen=True, slots=True)
class Found:
    """A model in the folder at one look.

    Attributes:
        name: what it is served as.
        version: the name of its folder; None where its content is to tell.
        path: of the ONNX file, or of the folder of a package or of a version.
        mark: changes with its files.
    """

    name: str
    version: str | None
    path: Path
    mark: Mark


@dataclass(frozen=True, slots=True)
class Held:
    """What is served, or was tried, of one path.

    Attributes:
        mark: of the files that were last looked into, be they good or not.
        name: what it is served as.
        version: that is served now; None while none was good.
        copy: the file or folder that it is served from, which nobody else writes to.
        is_unloaded: whether a client had it unloaded, and its files are the same since.
    """

    mark: Mark
    name: str
    version: str | None = None
    copy: Path | None = None
    is_unloaded: bool = False


@dataclass(slots=True)
class Steps:
    """What to do after a look: look into these files, let go of these paths."""

    takes: list[Found] = field(default_factory=list)
    drops: list[Path] = field(default_factory=list)


def decide(before: Mapping[Path, Found], now: Mapping[Path, Found], held: Mapping[Path, Held]) -> Steps:
    """What two looks at the folder tell; pure.

    Files that changed between the looks may be half written: they are left for the next look. So are those that have
    just gone: a copy that replaces them may be on its way.
    """
    steps = Steps()
    for path, found in now.items():
        is_quiet = path in before and before[path].mark == found.mark
        if is_quiet and (path not in held or held[path].mark != found.mark):
            steps.takes.append(found)
    steps.drops = [path for path in held if path not in now and path not in before]
    return steps


def plans(held: Mapping[Path, Held]) -> dict[str, ModelPlan]:
    """How the good models are to be served: the highest version of each has the traffic."""
    versions: dict[str, dict[str, str]] = {}
    for each in held.values():
        if each.version is not None and not each.is_unloaded:
            versions.setdefault(each.name, {})[each.version] = str(each.copy)
    return {name: ModelPlan(found, {max(found, key=_order): 1.0}) for name, found in versions.items()}


def scan(folder: Path) -> dict[Path, Found]:
    """The models in a folder: NAME.onnx, NAME/VERSION/model.onnx, and packages as NAME or NAME/VERSION."""
    found: dict[Path, Found] = {}
    for path in _entries(folder):
        if path.suffix == ".onnx":
            # Exporters write large weights beside the file.
            _add(found, path.stem, None, path, [path, path.with_name(f"{path.name}.data")])
        elif (path / _PACKAGE_FILE).is_file():
            _add(found, path.name, None, path, _files(path))
        else:
            for inner in _entries(path) if path.is_dir() else ():
                if (inner / _PACKAGE_FILE).is_file() or (inner / _MODEL_FILE).is_file():
                    _add(found, path.name, inner.name, inner, _files(inner))
    return found


class Planner(Protocol):
    """What a watcher tells its plans to, and asks what became of them."""

    def send_plan(self, name: str, planned: ModelPlan) -> int:
        """Serve a model so from now on; returns the plan's generation."""

    def drop_plan(self, name: str, *, keeps_place: bool = False) -> int:
        """Serve a model no more; returns the plan's generation."""

    def plan_of(self, name: str) -> ModelPlan | None:
        """What was planned last."""

    def problems(self) -> Sequence[Problem]:
        """What is not served as planned, and why."""


class Watcher:
    """Looks at the folder twice a second. What it serves are copies, so that a file may be written to at any time.

    Any thread may call any method.
    """

    def __init__(self, folder: Path, supervision: Planner) -> None:
        """Watch in a thread of its own, once `start` is called."""
        self._folder = folder
        self._supervision = supervision
        self._copies = Path(tempfile.mkdtemp(prefix="shoal-watched-"))
        self._seen: dict[Path, Found] = {}
        self._held: dict[Path, Held] = {}
        # What was served before a change that is still being loaded.
        self._former: dict[Path, Held] = {}
        self._sent: set[str] = set()
        # Clients' wishes come between the looks, from other threads.
        self._looking = threading.Lock()
        self._looker = Looker(
            self.look,
            every_s=_LOOK_EVERY_S,
            name="serve folder",
            failed=f"cannot look at the models in {folder}",
        )

    def start(self) -> None:
        """Plan what is in the folder, files as they are, and begin to watch."""
        self._seen = scan(self._folder)
        self.look()
        self._looker.start()

    def look_now(self) -> None:
        """Do not wait for the next regular look."""
        self._looker.look_now()

    def stop(self) -> None:
        """Return when the folder is not looked at any more; the copies go. Idempotent."""
        self._looker.stop()
        shutil.rmtree(self._copies, ignore_errors=True)

    def look(self) -> None:
        """Look once, and plan what follows."""
        with self._looking:
            self._go_back()
            now = scan(self._folder)
            steps = decide(self._seen, now, self._held)
            self._seen = now
            for path in steps.drops:
                del self._held[path]
                self._former.pop(path, None)
            for found in steps.takes:
                try:
                    self._take(found)
                except (ShoalError, OSError) as error:
                    _LOG.warning("%s is not served, what was served before still is: %s", found.path, error)
            self._send()

    def load(self, name: str) -> int:
        """Plan a model from its files as they are now, and return the plan's generation.

        Raises:
            NotFoundError: there is no such model in the folder.
            ShoalError: its newest version cannot be served; what was planned before still is.
            OSError: it cannot be read.
        """
        with self._looking:
            now = scan(self._folder)
            own = [found for found in now.values() if found.name == name]
            if not own:
                names = ", ".join(sorted({found.name for found in now.values()}))
                raise NotFoundError(
                    f"there is no model {name!r} in the folder that is served, only {names or 'none'}",
                    next_step=f"put it there as {name}.onnx, or as a folder {name}",
                )
            # The newest last: its failure is the one that counts, as it would have the traffic.
            for found in sorted(own, key=lambda found: _order(found.version or "")):
                failure = self._load(found)
            if failure is not None:
                self._send()
                raise failure
            generation = self._supervision.send_plan(name, plans(self._held)[name])
            self._sent.add(name)
            return generation

    def unload(self, name: str) -> int | None:
        """Plan a model no more, until `load` or until its files change; None where it was not planned anyway.

        Raises:
            NotFoundError: there is no such model in the folder.
        """
        with self._looking:
            own = {path: held for path, held in self._held.items() if held.name == name}
            if not own:
                raise NotFoundError(
                    f"there is no model {name!r} in the folder that is served",
                    next_step="ask POST /v2/repository/index what is served",
                )
            for path, held in own.items():
                self._held[path] = replace(held, is_unloaded=True)
                self._former.pop(path, None)
            if name not in self._sent:
                return None
            self._sent.discard(name)
            return self._supervision.drop_plan(name, keeps_place=True)

    def _load(self, found: Found) -> ShoalError | OSError | None:
        """Take a version for a client that does not wait for two looks; returns why it cannot be had."""
        self._seen[found.path] = found
        try:
            # Even if the files are the same: what was tried of them may have failed.
            self._take(found)
        except (ShoalError, OSError) as error:
            _LOG.warning("%s cannot be loaded: %s", found.path, error)
            return error
        return None

    def _take(self, found: Found) -> None:
        """Hold what is found from now on, or raise why it cannot be served."""
        former = self._held.get(found.path)
        served = Held(found.mark, found.name) if former is None else replace(former, mark=found.mark)
        self._held[found.path] = served
        copy, digest = self._copied(found)
        if copy.is_dir() and (copy / _PACKAGE_FILE).is_file():
            open_package(copy)
        version = found.version or digest
        if former is not None and former.version == version and former.copy != copy:
            raise ConfigError(
                f"{found.path} was changed under its version {version}",
                next_step="put changed content into a new version",
            )
        if former is not None and former.version is not None:
            self._former[found.path] = former
        self._held[found.path] = replace(served, version=version, copy=copy, is_unloaded=False)

    def _copied(self, found: Found) -> tuple[Path, str]:
        aside = Path(tempfile.mkdtemp(dir=self._copies))
        try:
            for name, _, _ in found.mark:
                (aside / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile((found.path if found.path.is_dir() else found.path.parent) / name, aside / name)
            digest = digest_json([digest_tree(aside), found.name]).removeprefix("b3:")[:_DIGEST_LETTERS]
            place = self._copies / digest
            if not place.exists():
                aside.rename(place)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        if found.path.suffix == ".onnx" and not found.path.is_dir():
            return place / found.path.name, digest
        is_package = (place / _PACKAGE_FILE).is_file()
        return place if is_package else place / _MODEL_FILE, digest

    def _go_back(self) -> None:
        """Plan again what was served before each change that could not be loaded."""
        failed = {(problem.model, problem.version) for problem in self._supervision.problems()}
        for path, held in list(self._held.items()):
            if held.version is None or (held.name, held.version) not in failed:
                continue
            former = self._former.pop(path, Held(held.mark, held.name))
            _LOG.warning("%s cannot be loaded; what was served before still is", path)
            self._held[path] = replace(former, mark=held.mark)

    def _send(self) -> None:
        wanted = plans(self._held)
        for name, planned in wanted.items():
            known = self._supervision.plan_of(name)
            if known is None or not planned.equals(known):
                try:
                    self._supervision.send_plan(name, planned)
                except ConfigError as error:
                    _LOG.warning("%s is not planned anew: %s", name, error)
        for name in self._sent - wanted.keys():
            self._supervision.drop_plan(name)
        self._sent = set(wanted)


def _order(version: str) -> tuple[int, str]:
    return (int(version), "") if version.isdecimal() else (-1, version)


def _entries(folder: Path) -> list[Path]:
    # What begins with a dot is on its way, as rsync and editors write.
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _add(found: dict[Path, Found], name: str, version: str | None, path: Path, files: Sequence[Path]) -> None:
    base = path if path.is_dir() else path.parent
    mark = []
    for file in files:
        try:
            facts = file.stat()
        except FileNotFoundError:
            continue  # Gone since it was listed, or weights that are in the model's file itself.
        mark.append((file.relative_to(base).as_posix(), facts.st_size, facts.st_mtime_ns))
    if mark:
        found[path] = Found(in_path(name), version, path, tuple(mark))
