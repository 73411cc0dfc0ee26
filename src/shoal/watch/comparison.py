"""Drift by statistics: how far live columns lie from their reference, and how far chance alone could carry them.

Every threshold is a bound on chance, not a setting found by trial: if both sides came from the same world, a whole
report is wrong with probability `false_alarm` at most, whatever the columns look like. What that costs is power: with
200 rows a number must move its distribution function by about 0.19 to be told from chance at 1 in 100,000.
"""

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from shoal.base import ConfigError, InputError, SchemaError
from shoal.data import ColumnProfile, Profile

FALSE_ALARM = 1e-5
# Below this a difference is not worth a person's attention, however many rows prove that it is real.
SMALLEST_DISTANCE = 0.02
# Whole numbers with at most this many different values are compared as categories too: they may be codes.
_FEW_CATEGORIES = 64

Measure = Literal["ks", "tv"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnDrift:
    """How far one column moved.

    Attributes:
        column: its name in the profiles.
        measure: "ks" is the largest gap between the distribution functions, "tv" the total variation distance: the
            share of rows that would have to change category. Both lie between 0 and 1; missing values take part.
        distance: what was found.
        threshold: how far chance alone reaches; above 1 when there are too few rows to tell anything.
    """

    column: str
    measure: Measure
    distance: float
    threshold: float

    @property
    def drifted(self) -> bool:
        """Whether the column moved farther than chance could carry it."""
        return self.distance > self.threshold

    @property
    def strength(self) -> float:
        """The distance in multiples of the threshold: above 1 is drift, and columns compare by it."""
        return self.distance / self.threshold


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftReport:
    """What `compare` found; `columns` are sorted by strength, the strongest first.

    `not_compared` are columns of the reference without live values, such as the label, or the other way round.
    """

    rows_reference: int
    rows_live: int
    columns: tuple[ColumnDrift, ...]
    not_compared: tuple[str, ...] = ()

    @property
    def drifted(self) -> bool:
        """Whether any column drifted."""
        return self.worst.drifted

    @property
    def worst(self) -> ColumnDrift:
        """The column that moved most, in multiples of its threshold."""
        return self.columns[0]

    def column(self, name: str) -> ColumnDrift:
        """Return one column's drift; InputError when it was not compared."""
        for found in self.columns:
            if found.column == name:
                return found
        raise InputError(
            f"column {name!r} was not compared: compared were {[found.column for found in self.columns]}",
            next_step="check the name, and that both profiles have values in it",
        )


def compare(
    reference: Profile, live: Profile, *, false_alarm: float = FALSE_ALARM, columns: Collection[str] | None = None
) -> DriftReport:
    """Compare live rows with reference rows, column by column.

    Rows must be independent of each other within each profile; a live profile that repeats one request a thousand
    times claims more evidence than it has. A tensor column counts as many independent values as it has rows.

    Args:
        reference: of the data or the traffic that is known to be good, such as `package.profile`.
        live: of what came now.
        false_alarm: the probability, 0 < p < 1, that the report finds drift where there is none, over all its columns.
        columns: names to compare; by default all that both sides have values in.

    Returns:
        The report. Its cost does not depend on the number of rows.

    Raises:
        InputError: there is nothing to compare, or a named column lacks values on one side.
        SchemaError: a column is of another kind or shape on the other side.
    """
    if not 0 < false_alarm < 1:
        raise ConfigError(f"false_alarm={false_alarm} must lie between 0 and 1", next_step="leave it out for 1e-5")
    known = {name for side in (reference, live) for name in side.columns}
    shared = {name for name in known if _has_rows(reference, name) and _has_rows(live, name)}
    chosen = shared if columns is None else set(columns)
    if not chosen or chosen - shared:
        raise InputError(
            f"cannot compare {sorted(chosen - shared) or 'profiles'}: both sides have values only in {sorted(shared)}",
            next_step="profile the same columns on both sides",
        )
    measured = [test for name in chosen for test in _tests(reference.columns[name], live.columns[name])]
    share = false_alarm / len(measured)
    strongest: dict[str, ColumnDrift] = {}
    for test in measured:
        drift = test.judge(share)
        if drift.column not in strongest or drift.strength > strongest[drift.column].strength:
            strongest[drift.column] = drift
    return DriftReport(
        rows_reference=reference.num_rows,
        rows_live=live.num_rows,
        columns=tuple(sorted(strongest.values(), key=lambda drift: (-drift.strength, drift.column))),
        not_compared=tuple(sorted(known - chosen)),
    )


@dataclass(frozen=True, slots=True)
class _Test:
    """A measured distance, with what its threshold depends on besides the accepted false alarms."""

    column: str
    measure: Measure
    distance: float
    expected: float
    rows: float

    def judge(self, false_alarm: float) -> ColumnDrift:
        two_sided = 2 if self.measure == "ks" else 1
        bound = self.expected + math.sqrt(math.log(two_sided / false_alarm) / (2 * self.rows))
        return ColumnDrift(
            column=self.column,
            measure=self.measure,
            distance=self.distance,
            threshold=max(bound, SMALLEST_DISTANCE),
        )


def _tests(reference: ColumnProfile, live: ColumnProfile) -> Iterator[_Test]:
    if (reference.kind, reference.values_per_row) != (live.kind, live.values_per_row):
        raise SchemaError(
            f"cannot compare column {live.name!r}: the reference is {reference.kind} with {reference.values_per_row} "
            f"per row, live is {live.kind} with {live.values_per_row}",
            next_step="profile the same column on both sides",
        )
    # Two samples of n and m rows know as much about each other as one sample of this many.
    rows = 1 / (1 / _num_rows(reference) + 1 / _num_rows(live))
    if reference.kind == "number":
        yield _Test(live.name, "ks", _largest_gap(reference, live), 0.0, rows)
    if reference.kind == "category" or 0 < len(reference.kept.merge(live.kept).counts) <= _FEW_CATEGORIES:
        yield _total_variation(reference, live, rows)


def _largest_gap(reference: ColumnProfile, live: ColumnProfile) -> float:
    """Return the Kolmogorov-Smirnov distance, missing values counted as smaller than every number.

    Its threshold is the two-sample bound 2 exp(-2 n d^2), which binning and ties only make safer. It holds for the
    pooled numbers of a tensor column too when n counts rows: the pooled distribution is the mean of one per position,
    each from n independent rows, and a mean of such distances is no less concentrated than its members.

    Source: Massart 1990, "The tight constant in the Dvoretzky-Kiefer-Wolfowitz inequality"; Wei and Dudley 2012 for
    two samples.
    """
    steps = [np.cumsum(np.append(float(side.nulls), side.histogram)) / _num_values(side) for side in (reference, live)]
    return float(np.abs(steps[0] - steps[1]).max())


def _total_variation(reference: ColumnProfile, live: ColumnProfile, rows: float) -> _Test:
    """Measure the total variation distance and what it is by chance.

    Chance: its mean is at most half the sum of the categories' standard errors (Jensen), and as one row moves it by
    1/n at most, it exceeds its mean by d with probability exp(-2 n d^2) (McDiarmid 1989).
    """
    # Only names that neither side may have put among its "other" can be told apart; merging knows which.
    names = reference.kept.merge(live.kept).counts
    shares = []
    for side in (reference, live):
        counts = [side.kept.counts.get(name, 0) for name in names]
        counts += [side.nulls, sum(side.kept.counts.values()) + side.other - sum(counts)]
        shares.append(np.array(counts, np.float64) / _num_values(side))
    weight = _num_rows(live) / (_num_rows(live) + _num_rows(reference))
    together = weight * shares[1] + (1 - weight) * shares[0]
    expected = 0.5 * float(np.sqrt(together * (1 - together) / rows).sum())
    return _Test(live.name, "tv", 0.5 * float(np.abs(shares[0] - shares[1]).sum()), expected, rows)


def _num_values(column: ColumnProfile) -> int:
    return column.count + column.nulls


def _num_rows(column: ColumnProfile) -> float:
    return _num_values(column) / column.values_per_row


def _has_rows(profile: Profile, name: str) -> bool:
    return name in profile.columns and _num_values(profile.columns[name]) > 0
