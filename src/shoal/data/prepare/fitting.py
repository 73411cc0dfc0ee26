"""Learning in passes: each reads all rows once, by any number of readers whose passes merge, until nothing is left."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from shoal.data.prepare.base import Values
from shoal.data.prepare.chain import Chain
from shoal.data.prepare.fitted import FittedPreparation, Plan
from shoal.data.prepare.learning import ColumnPass


@dataclass(slots=True)
class Fitting:
    """One pass over the rows; not for several threads: give each reader its own (`Fitting.begin(plan)`), and merge."""

    plan: Plan
    passes: dict[str, ColumnPass]
    num_rows: int = 0

    @classmethod
    def begin(cls, plan: Plan) -> "Fitting | FittedPreparation":
        """Return the next pass, or the finished preparation when no operator has anything left to learn."""
        passes = {chain.name: ColumnPass(chain) for chain in plan.chains if _learns(chain)}
        # Checked before any row is read: a wrong declaration must not cost a pass.
        plan.outputs()
        return cls(plan, passes) if passes else FittedPreparation(plan)

    @property
    def column_names(self) -> tuple[str, ...]:
        """The columns that this pass reads."""
        return tuple(self.passes)

    def update(self, batch: Mapping[str, Values]) -> None:
        """Look at a batch: arrays by name, with "<name>_mask" where values may be missing."""
        for column in self.passes.values():
            column.update(dict(batch))
        self.num_rows += len(np.asarray(batch[next(iter(self.passes))]))

    def merge(self, other: "Fitting") -> "Fitting":
        """Return what both have seen together, the same in any order; neither is changed."""
        passes = {name: mine.merge(other.passes[name]) for name, mine in self.passes.items()}
        return Fitting(self.plan, passes, self.num_rows + other.num_rows)

    def finish(self) -> "Fitting | FittedPreparation":
        """Return the next pass over the same rows, or the finished preparation."""
        chains = tuple(
            self.passes[chain.name].finish() if chain.name in self.passes else chain for chain in self.plan.chains
        )
        return Fitting.begin(replace(self.plan, chains=chains))


def _learns(chain: Chain) -> bool:
    columns = chain.columns()
    return any(operator.need(column) is not None for operator, column in zip(chain.operators, columns, strict=False))
