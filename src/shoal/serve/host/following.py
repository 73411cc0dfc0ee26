"""A server that follows the registry: what is promoted, rolled back or tried there is served a moment later."""

import threading

from shoal.base import ShoalError
from shoal.serve.host.looking import Looker
from shoal.serve.host.supervision import Supervision
from shoal.serve.host.target import plan_from_registry
from shoal.store import Store

_LOOK_EVERY_S = 0.2


class Follower:
    """Looks at the registry's change stream, and plans anew when a model's alias or canary has moved.

    Any thread may call any method.
    """

    def __init__(self, store: Store, name: str, alias: str, supervision: Supervision, *, since: int) -> None:
        """Follow changes after sequence number `since`, in a thread of its own, once `start` is called."""
        self._store = store
        self._supervision = supervision
        self._since = since
        # Model -> the alias to follow; "" for production, or else the newest.
        self._aliases = {name: alias}
        # Held from a look at the registry to the plan that follows from it.
        self._looking = threading.Lock()
        self._looker = Looker(
            self._plan_changes,
            every_s=_LOOK_EVERY_S,
            name="serve registry",
            failed=f"cannot follow {name} in the registry",
        )

    def start(self) -> None:
        """Begin to follow."""
        self._looker.start()

    def look_now(self) -> None:
        """Do not wait for the next regular look."""
        self._looker.look_now()

    def stop(self) -> None:
        """Return when the registry is not looked at any more. Idempotent."""
        self._looker.stop()

    def follows(self, name: str) -> bool:
        """Whether a model is planned from the registry whenever that changes."""
        return name in self._aliases

    def load(self, name: str, alias: str) -> int:
        """Plan a model as the registry has it now, follow it from now on, and return the plan's generation.

        Raises:
            NotFoundError: no such model or alias.
            ConfigError: a version that was served before would change its path.
        """
        with self._looking:
            generation = self._supervision.send_plan(name, plan_from_registry(self._store, name, alias))
            self._aliases[name] = alias
            return generation

    def unload(self, name: str) -> int:
        """Plan a model no more, follow it no more, and return the plan's generation."""
        with self._looking:
            self._aliases.pop(name, None)
            return self._supervision.drop_plan(name, keeps_place=True)

    def _plan_changes(self) -> None:
        with self._looking:
            changes = list(self._store.changes(self._since))
            if not changes:
                return
            failure: ShoalError | None = None
            for name, alias in self._aliases.items():
                try:
                    self._plan(name, alias)
                except ShoalError as error:
                    # One that cannot be planned, as its alias is gone, should not hold up the others.
                    failure = failure or error
            if failure is not None:
                raise failure
            # Only now: a look that failed must find the change again.
            self._since = changes[-1].sequence

    def _plan(self, name: str, alias: str) -> None:
        # Any change is a reason to look; what counts is the state now, so missed steps in between do no harm.
        planned = plan_from_registry(self._store, name, alias)
        known = self._supervision.plan_of(name)
        if known is None or not planned.equals(known):
            self._supervision.send_plan(name, planned)
