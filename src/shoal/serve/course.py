"""What should be served, and how far the fronts have come with it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from shoal.base import ConfigError
from shoal.serve.messages import ModelPlan, Plan, Problem, Serving


@dataclass(slots=True)
class Course:
    """The newest plan, and what each front has told of it. Not for several threads at once.

    Attributes:
        plan: the newest one.
        serving: what fronts said last, by their ranks; a front that is away has none.
        listening: ranks of the fronts that take connections.
    """

    plan: Plan = field(default_factory=lambda: Plan(0, {}))
    serving: dict[int, Serving] = field(default_factory=dict)
    listening: set[int] = field(default_factory=set)
    # Of every version ever planned: a number must not come to mean other content while the server runs.
    _paths: dict[str, str] = field(default_factory=dict)

    def put(self, plans: Mapping[str, ModelPlan]) -> Plan:
        """Plan some models anew, beside those that are planned already, and return the whole.

        Raises:
            ConfigError: a version that was planned before would change its path.
        """
        for name, planned in plans.items():
            for version, path in planned.versions.items():
                known = self._paths.setdefault(f"{name}@{version}", path)
                if known != path:
                    raise ConfigError(
                        f"version {version} of {name} was served from {known}, found {path}",
                        next_step="give changed content a new version",
                    )
        return self._follow({**self.plan.models, **plans})

    def drop(self, name: str) -> Plan:
        """Plan a model no more, and return the whole."""
        return self._follow({model: planned for model, planned in self.plan.models.items() if model != name})

    def lose(self, rank: int) -> None:
        """A front is away: it routes nothing until its successor says so."""
        self.serving.pop(rank, None)
        self.listening.discard(rank)

    def is_started(self, ranks: Iterable[int]) -> bool:
        """Whether all these fronts take connections, and serve what is planned."""
        ranks = set(ranks)
        return ranks <= self.listening and ranks <= self.serving.keys() and self.is_reached

    @property
    def is_reached(self) -> bool:
        """Whether each front that is there serves what is planned."""
        return bool(self.serving) and not self.missing and all(self._is_current(told) for told in self.serving.values())

    @property
    def missing(self) -> set[str]:
        """Models that some front does not serve as planned."""
        return {
            name
            for name, planned in self.plan.models.items()
            for told in self.serving.values()
            if list(told.shares.get(name, {}).items()) != list(planned.shares.items())
        }

    @property
    def problems(self) -> list[Problem]:
        """What is not served as planned, and why."""
        return [problem for told in self.serving.values() if self._is_current(told) for problem in told.problems]

    def _is_current(self, told: Serving) -> bool:
        return told.generation == self.plan.generation

    def _follow(self, models: dict[str, ModelPlan]) -> Plan:
        self.plan = Plan(self.plan.generation + 1, models)
        return self.plan
