"""A server that follows the registry: what is promoted, rolled back or tried there is served a moment later."""

from shoal.serve.looking import Looker
from shoal.serve.supervision import Supervision
from shoal.serve.target import plan_from_registry
from shoal.store import Store

_LOOK_EVERY_S = 0.2


class Follower:
    """Looks at the registry's change stream, and plans anew when the model's alias or canary has moved."""

    def __init__(self, store: Store, name: str, alias: str, supervision: Supervision, *, since: int) -> None:
        """Follow changes after sequence number `since`, in a thread of its own, once `start` is called."""
        self._store = store
        self._name = name
        self._alias = alias
        self._supervision = supervision
        self._since = since
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

    def _plan_changes(self) -> None:
        changes = list(self._store.changes(self._since))
        if not changes:
            return
        # Any change is a reason to look; what counts is the state now, so missed steps in between do no harm.
        planned = plan_from_registry(self._store, self._name, self._alias)
        known = self._supervision.plan_of(self._name)
        if known is None or not planned.equals(known):
            self._supervision.send_plan(self._name, planned)
        # Only now: a look that failed must find the change again.
        self._since = changes[-1].sequence
