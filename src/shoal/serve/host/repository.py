"""Models loaded and unloaded while the server runs: what clients wish, what that changes in the plan, how it ends."""

import logging
import threading
from contextlib import suppress
from pathlib import Path

from shoal.base import (
    ConfigError,
    ConflictError,
    CorruptError,
    InputError,
    NotFoundError,
    PackageError,
    ServeError,
    ShoalError,
    UnavailableError,
    UnsupportedError,
)
from shoal.model import open_package
from shoal.serve.host.course import Outcome
from shoal.serve.host.following import Follower
from shoal.serve.host.supervision import Supervision
from shoal.serve.host.target import Target, in_path, plan_from_registry
from shoal.serve.host.watching import Watcher
from shoal.serve.links.messages import ModelPlan, Problem, Wish, WishDone

_LOG = logging.getLogger(__name__)
# Wishes that may wait for their models at once; each takes a thread.
_MOST_WISHES = 16
_MANIFEST = "package.json"
_UNLOADABLE = 422
_STATUSES: tuple[tuple[type[ShoalError], int], ...] = (
    (NotFoundError, 404),
    (ConflictError, 409),
    (ConfigError, 409),
    (CorruptError, _UNLOADABLE),
    (PackageError, _UNLOADABLE),
    (UnsupportedError, _UNLOADABLE),
    (InputError, _UNLOADABLE),
)

Mark = tuple[int, int]
"""Of a file: its size in bytes, the time of its last change."""


class Repository:
    """Loads and unloads models by name. Any thread may call any method.

    It knows the models of the watched folder; or those that the server was started with, those that it served since,
    and where it was started from a registry those of the registry.
    """

    def __init__(
        self,
        supervision: Supervision,
        target: Target,
        *,
        watcher: Watcher | None,
        follower: Follower | None,
        timeout_s: float,
    ) -> None:
        """Change the plan of `supervision`; a load or unload may take `timeout_s` before its wish is answered."""
        self._supervision = supervision
        self._store = target.store
        self._watcher = watcher
        self._follower = follower
        self._timeout_s = timeout_s
        self._slots = threading.BoundedSemaphore(_MOST_WISHES)
        # Held while the plan is looked at and changed, not while fronts come to it.
        self._changing = threading.Lock()
        # Of models that move in the registry, as it means them when they are loaded.
        self._aliases = {} if target.alias is None else {target.name: target.alias}
        # How other models were served last, and what their files were then.
        self._known = {name: planned for name, planned in target.plans.items() if name not in self._aliases}
        self._marks: dict[str, Mark | None] = {}
        for planned in self._known.values():
            self._note_marks(planned)

    def take(self, rank: int, wish: Wish) -> None:
        """Carry out a wish that came by the front of this rank, in a thread of its own, and answer it there."""
        if not self._slots.acquire(blocking=False):
            message = f"{_MOST_WISHES} models are being loaded or unloaded already"
            self._answer(rank, WishDone(wish.id, 503, message, "send it again when one of them is done"))
            return
        threading.Thread(target=self._carry_out, args=(rank, wish), name="serve repository", daemon=True).start()

    def load(self, name: str) -> None:
        """Load a model anew from where it comes from; return when every front serves it.

        Raises:
            NotFoundError: no model of that name can be loaded.
            ConfigError: its files were changed where they must not be.
            ConflictError: it was unloaded meanwhile.
            ServeError: it cannot be loaded. What was served before still is, here and after every other error.
            UnavailableError: it takes too long; it is served when it is there.
        """
        with self._changing:
            former = self._supervision.plan_of(name)
            generation = self._plan(name)
        problem = self._wait(name, generation, is_wanted=True).problem
        if problem is not None:
            self._go_back(name, former, problem)
            raise ServeError(
                f"cannot load {name}@{problem.version}: {problem.message}",
                next_step=problem.next_step,
                status=_UNLOADABLE,
            )

    def unload(self, name: str) -> None:
        """Serve a model no more, answering what it was asked already; return when no front takes more.

        Raises:
            NotFoundError: there is no such model.
            ConflictError: it was loaded again meanwhile.
            UnavailableError: it takes too long.
        """
        with self._changing:
            generation = self._drop(name) if self._watcher is None else self._watcher.unload(name)
        if generation is not None:
            self._wait(name, generation, is_wanted=False)

    def _plan(self, name: str) -> int:
        if self._watcher is not None:
            return self._watcher.load(name)
        planned = None if name in self._aliases else self._supervision.plan_of(name) or self._known.get(name)
        if planned is not None:
            self._check_marks(name, planned)
            return self._supervision.send_plan(name, planned)
        if self._store is None or in_path(name) != name:
            raise self._unknown(name)
        alias = self._aliases.get(name, "")
        planned = plan_from_registry(self._store, name, alias)
        for path in planned.versions.values():
            open_package(path)
        if self._follower is not None:
            generation = self._follower.load(name, alias)
        else:
            generation = self._supervision.send_plan(name, planned)
        self._aliases[name] = alias
        return generation

    def _drop(self, name: str) -> int | None:
        planned = self._supervision.plan_of(name)
        if planned is None:
            if name not in self._known and name not in self._aliases:
                raise self._unknown(name)
            return None
        if name not in self._aliases:
            self._known[name] = planned
            self._note_marks(planned)
        if self._follower is not None and self._follower.follows(name):
            return self._follower.unload(name)
        return self._supervision.drop_plan(name, keeps_place=True)

    def _go_back(self, name: str, former: ModelPlan | None, problem: Problem) -> None:
        """Plan what was served before, if that is not what failed."""
        if self._watcher is not None:
            # A folder that cannot be read now is looked at again by and by.
            with suppress(OSError):
                self._watcher.look()
            return
        with self._changing:
            failed = self._supervision.plan_of(name)
            if failed is None or problem.version not in failed.versions:
                return
            if former is None:
                self._drop(name)
            elif not former.equals(failed):
                self._supervision.send_plan(name, former)

    def _wait(self, name: str, generation: int, *, is_wanted: bool) -> Outcome:
        found = self._supervision.wait_for_plan(name, generation, is_wanted=is_wanted, timeout_s=self._timeout_s)
        if found is None:
            raise UnavailableError(
                f"{name} is not {'loaded' if is_wanted else 'unloaded'} on every front after {self._timeout_s:g} s",
                next_step=f"it goes on: ask GET /v2/models/{name}/ready, and GET /status for what is waited for",
            )
        if found.is_overtaken:
            raise ConflictError(
                f"{name} was {'unloaded' if is_wanted else 'loaded again'} by somebody else meanwhile",
                next_step="agree on who loads and unloads it, and send it again",
            )
        return found

    def _note_marks(self, planned: ModelPlan) -> None:
        for path in planned.versions.values():
            self._marks.setdefault(path, _mark_of(path))

    def _check_marks(self, name: str, planned: ModelPlan) -> None:
        """A version must not come to mean other content: prediction ids and logs name it."""
        self._note_marks(planned)
        for version, path in planned.versions.items():
            if self._marks[path] != _mark_of(path):
                raise ConfigError(
                    f"{path} was changed since it was first served as {name}@{version}",
                    next_step="start the server with a folder of models, which takes changed files as new versions, "
                    "or from the registry; or swap in a new version with Server.swap",
                )

    def _unknown(self, name: str) -> NotFoundError:
        names = ", ".join(sorted({*self._known, *self._aliases}))
        return NotFoundError(
            f"there is no model {name!r} that could be loaded or unloaded here, only {names}"
            + (" and those of the registry" if self._store is not None else ""),
            next_step="start the server with a folder of models or from a registry, and put the model there",
        )

    def _carry_out(self, rank: int, wish: Wish) -> None:
        try:
            done = self._done(wish)
        finally:
            self._slots.release()
        self._answer(rank, done)

    def _done(self, wish: Wish) -> WishDone:
        try:
            (self.load if wish.action == "load" else self.unload)(wish.model)
        except ShoalError as error:
            return WishDone(wish.id, status_of(error), error.message, error.next_step)
        except OSError as error:
            message = f"cannot {wish.action} {wish.model}: {error}"
            return WishDone(wish.id, 503, message, "mend what keeps its files from being read, and send it again")
        except Exception:  # noqa: BLE001  # the boundary: whatever is raised, the client is answered
            _LOG.exception("cannot %s %s", wish.action, wish.model)
            message = f"the server made a mistake when it was to {wish.action} {wish.model}"
            return WishDone(wish.id, 500, message, "look into the server's log, and report it to us")
        _LOG.info("%s of %s at a client's wish is done", wish.action, wish.model)
        return WishDone(wish.id, 200)

    def _answer(self, rank: int, done: WishDone) -> None:
        # A server that is being stopped has no front any more to tell.
        with suppress(InputError):
            self._supervision.answer_wish(rank, done)


def status_of(error: ShoalError) -> int:
    """The status, as over HTTP, of a wish that ended with an error."""
    if isinstance(error, ServeError):
        return error.status
    return next((status for kind, status in _STATUSES if isinstance(error, kind)), 503)


def _mark_of(path: str) -> Mark | None:
    """Of what a plan names; None for Python code, which has no file or not one alone."""
    for file in (Path(path), Path(path) / _MANIFEST):
        try:
            if file.is_file():
                facts = file.stat()
                return facts.st_size, facts.st_mtime_ns
        except OSError:
            continue
    return None
