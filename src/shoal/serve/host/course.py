"""What should be served, and how far the fronts have come with it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from shoal.base import ConfigError
from shoal.serve.links.messages import ModelPlan, Plan, Problem, Serving

# Plans whose failure is remembered, for whoever still waits for them.
_MOST_FAILED = 64
_NOTHING = ModelPlan({}, {})


@dataclass(frozen=True, slots=True)
class Outcome:
    """What has become of a model's plan.

    Attributes:
        problem: why it is not served as planned; None where it is.
        is_overtaken: whether the model was planned otherwise since, so that this will never come.
    """

    problem: Problem | None = None
    is_overtaken: bool = False


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
    # The generation in which each model was last planned or dropped, and what became known of some generations.
    _generations: dict[str, int] = field(default_factory=dict)
    _failed: dict[int, Problem] = field(default_factory=dict)
    # Models in the order of the plan, those that were unloaded and may come back with them.
    _places: dict[str, None] = field(default_factory=dict)

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
        self._places |= dict.fromkeys(plans)
        return self._follow({**self.plan.models, **plans}, plans)

    def drop(self, name: str, *, keeps_place: bool = False) -> Plan:
        """Plan a model no more, and return the whole; with `keeps_place` it stays the default if it is."""
        if not keeps_place:
            self._places.pop(name, None)
        return self._follow({model: each for model, each in self.plan.models.items() if model != name}, [name])

    def hear(self, rank: int, told: Serving) -> None:
        """A front says what it serves."""
        self.serving[rank] = told
        if self._is_current(told):
            for problem in told.problems:
                # One of a version that was let go meanwhile says nothing about the plan of now.
                if problem.version in self.plan.models.get(problem.model, _NOTHING).versions:
                    self._failed.setdefault(self._generations[problem.model], problem)
            while len(self._failed) > _MOST_FAILED:
                del self._failed[next(iter(self._failed))]

    def outcome(self, name: str, generation: int, *, is_wanted: bool) -> Outcome | None:
        """What has become of a wish that a generation has put into the plan: a model served or not; None for not yet.

        Every front that is there must have come to it. A newer plan that fulfils the same wish counts as well.
        """
        if generation in self._failed:
            return Outcome(self._failed[generation])
        if (name in self.plan.models) != is_wanted:
            return Outcome(is_overtaken=True)
        newest = self._generations.get(name, generation)
        if newest in self._failed:
            return Outcome(self._failed[newest])
        planned = list(self.plan.models[name].shares.items()) if is_wanted else []
        is_reached = bool(self.serving) and all(
            told.generation >= newest and list(told.shares.get(name, {}).items()) == planned
            for told in self.serving.values()
        )
        return Outcome() if is_reached else None

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

    def _follow(self, models: dict[str, ModelPlan], changed: Iterable[str]) -> Plan:
        ordered = {name: models[name] for name in self._places if name in models}
        default = next(iter(self._places), "")
        generation = self.plan.generation + 1
        self._generations |= dict.fromkeys(changed, generation)
        self.plan = Plan(generation, ordered, "" if default in ordered else default)
        return self.plan
