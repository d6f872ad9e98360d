"""What a model costs beside the baseline, both judged on the same rows."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fairtrain.constraints import Constraint
from fairtrain.constraints.rates import Rate
from fairtrain.data.groups import Groups, group_sums
from fairtrain.data.rows import Rows
from fairtrain.exceptions import InvalidDataError
from fairtrain.metrics.cells import cell_means
from fairtrain.metrics.disclosure import MIN_CELL, hidden_cells
from fairtrain.metrics.intervals.single import error_rate, student_rows, two_sided
from fairtrain.metrics.measures import measure_cells
from fairtrain.metrics.verdicts import ConstraintResult, Verdict

__all__ = [
    "Change",
    "Cost",
    "Narrowing",
    "cost_against",
    "narrowed",
    "narrowings",
    "paired_difference",
]


@dataclass(frozen=True)
class Change:
    """Whose decision changes in one group.

    Attributes
    ----------
    group : str
        The group.
    rows : int or None
        Its rows; None where there are fewer than :data:`~.disclosure.MIN_CELL`.
    gained, lost : float or None
        Shares whose decision becomes favourable, and no longer is; None where left out.
    net : tuple of three floats, or None
        ``gained - lost`` with limits for paired rows, of this group by itself.
    """

    group: str
    rows: int | None
    gained: float | None
    lost: float | None
    net: tuple[float, float, float] | None = None

    def words(self) -> str:
        """Say what the group gains or loses; empty where that is left out.

        Examples
        --------
        >>> print(Change("65+", 500, 0.0, 0.194, (-0.194, -0.231, -0.157)).words())
        '65+' loses 19.4 in 100 (15.7 to 23.1; of 500, 0 gain one and 97 lose one)
        """
        if self.net is None or self.rows is None or self.gained is None or self.lost is None:
            return ""
        value, low, high = (100 * v for v in self.net)
        low, high = (low, high) if value >= 0 else (-high, -low)
        ups, downs = (round(share * self.rows) for share in (self.gained, self.lost))
        # + 0.0 turns -0.0 into 0.0.
        return (
            f"'{self.group}' {'gains' if value >= 0 else 'loses'} {abs(value):.1f} in 100 "
            f"({round(low, 1) + 0.0:.1f} to {round(high, 1) + 0.0:.1f}; of {self.rows:,}, "
            f"{ups:,} gain{'s' * (ups == 1)} one and {downs:,} lose{'s' * (downs == 1)} one)"
        )


@dataclass(frozen=True)
class Cost:
    """Accuracy given up, and decisions that change.

    Attributes
    ----------
    accuracy : tuple of three floats
        Accuracy of the baseline minus that of the model, with limits for paired rows.
    confidence : float
        Their level.
    gained, lost : float
        Shares of all rows whose decision becomes favourable, and no longer is.
    changes : tuple of Change
        The same by group, small ones left out.
    """

    accuracy: tuple[float, float, float]
    confidence: float
    gained: float
    lost: float
    changes: tuple[Change, ...]

    def without(self, groups: Collection[str]) -> Self:
        """Leave out what changes in these groups."""
        changes = (
            replace(c, gained=None, lost=None, net=None) if c.group in groups else c
            for c in self.changes
        )
        return replace(self, changes=tuple(changes))

    def words(self) -> str:
        """Say in a sentence what it costs.

        Examples
        --------
        >>> print(Cost((0.012, 0.003, 0.021), 0.95, 0.05, 0.02, ()).words())
        Accuracy is 1.2 percentage points lower than the baseline's (95 % interval of the
        difference: 0.3 to 2.1, on the same rows).
        """
        value, low, high = (100 * v for v in self.accuracy)
        level = f"{100 * self.confidence:g} %"
        if round(value, 1) == 0:
            said = "Accuracy is the same as the baseline's to a tenth of a percentage point"
        elif value > 0:
            said = f"Accuracy is {value:.1f} percentage points lower than the baseline's"
        else:
            said = f"Accuracy is {-value:.1f} percentage points higher than the baseline's"
        if value < 0 and round(value, 1) != 0:
            low, high = -high, -low
        # + 0.0 turns -0.0 into 0.0.
        span = f"{round(low, 1) + 0.0:.1f} to {round(high, 1) + 0.0:.1f}"
        return f"{said} ({level} interval of the difference: {span}, on the same rows)."

    def clearest(self) -> list[Change]:
        """Groups whose changes may be told, the clearest first."""
        told = [c for c in self.changes if c.net is not None]
        # By the limit that is nearer to no change: a few rows make large changes by chance.
        return sorted(told, key=lambda c: min(-c.net[1], c.net[2]) if c.net else 0.0)

    def who_pays(self, most: int = 3) -> str:
        """Say who gains and who loses favourable decisions, the clearest changes first.

        Examples
        --------
        >>> a = Change("a", 500, 0.02, 0.12, (-0.1, -0.13, -0.07))
        >>> b = Change("b", None, None, None)
        >>> print(Cost((0.012, 0.003, 0.021), 0.95, 0.05, 0.02, (a, b)).who_pays())
        Favourable decisions, beside the baseline: 'a' loses 10.0 in 100 (7.0 to 13.0; of 500, 10
        gain one and 60 lose one). Intervals are at 95 %, for each group by itself; 1 group is not
        shown.
        """
        told = self.clearest()
        if not told:
            return ""
        said = "; ".join(c.words() for c in told[:most])
        left = [
            f"{n} {'group is' if n == 1 else 'groups are'} {what}"
            for n, what in (
                (len(told) - most, "in the table of decisions that change"),
                (len(self.changes) - len(told), "not shown"),
            )
            if n > 0
        ]
        return (
            f"Favourable decisions, beside the baseline: {said}. "
            + "; ".join(
                [f"Intervals are at {100 * self.confidence:g} %, for each group by itself", *left]
            )
            + "."
        )


@dataclass(frozen=True)
class Narrowing:
    """By how much a model brought two groups together, on rows that the baseline decided too.

    Attributes
    ----------
    rate : str
        What they differ in.
    highest, lowest : str
        The groups that are farthest apart under the baseline.
    change : tuple of three floats
        Their difference under the baseline less that under the model, with limits.
    confidence : float
        Level of the limits, whichever pair of groups was farthest apart.
    """

    rate: str
    highest: str
    lowest: str
    change: tuple[float, float, float]
    confidence: float

    def words(self) -> str:
        """Say it in a sentence.

        Examples
        --------
        >>> print(Narrowing("selection_rate", "a", "b", (0.11, 0.08, 0.14), 0.95).words())
        Even so, between 'a' and 'b', farthest apart under the baseline, the difference in selection
        rate is 0.110 smaller (95% interval 0.080 to 0.140, on the same rows): an improvement.
        """
        value, low, high = self.change
        way = "smaller" if value >= 0 else "larger"
        ends = (low, high) if value >= 0 else (-high, -low)
        sure = "an improvement" if low > 0 else "no improvement" if high < 0 else "maybe by chance"
        return (
            f"Even so, between '{self.highest}' and '{self.lowest}', farthest apart under the "
            f"baseline, the difference in {self.rate.replace('_', ' ')} is {abs(value):.3f} {way} "
            f"({100 * self.confidence:.4g}% interval {ends[0]:.3f} to {ends[1]:.3f}, on the same "
            f"rows): {sure}."
        )


def narrowed(
    constraint: Constraint, baseline: Rows, model: Rows, confidence: float = 0.95
) -> Narrowing | None:
    r"""Compare the widest difference of the baseline with the same difference under a model.

    With the paired change :math:`c_g` of the rate in each of the two groups and its limits
    :math:`l_g, u_g` (:func:`paired_difference`), the change of their difference has

    .. math:: L = c_a - c_b - \sqrt{(c_a - l_a)^2 + (u_b - c_b)^2}

    and U likewise (Zou & Donner, 2008); all pairs and rates share the level (Bonferroni), so that
    it does not matter that the widest was picked.

    Parameters
    ----------
    constraint : Constraint
        A parity of differences.
    baseline, model : Rows
        The same rows as each decided them.
    confidence : float, default=0.95
        Level.

    Returns
    -------
    Narrowing or None
        None for other bounds, within strata, where fewer than two groups have rows, for a quantity
        that is not in [0, 1], and for precision, which either model has on people of its own.
    """
    if constraint.kind != "difference" or constraint.given is not None:
        return None
    groups = model.groups.merged(*constraint.partition(model.groups.scheme))
    if groups.members.ndim > 1 or any(rate.among is not None for rate in constraint.rates):
        return None
    judged = constraint.group_weights(groups.names) > 0
    found: list[tuple[float, Rate, int, int]] = []
    for rate in constraint.rates:
        cells = measure_cells(baseline, rate, groups)
        mean = np.where(judged & (cells.count > 0), cells.mean, np.nan)
        if np.isfinite(mean).sum() > 1:
            top, bottom = int(np.nanargmax(mean)), int(np.nanargmin(mean))
            found.append((float(mean[top] - mean[bottom]), rate, top, bottom))
    if not found:
        return None
    _, rate, top, bottom = max(found, key=lambda one: one[0])
    pairs = len(constraint.rates) * judged.sum() * (judged.sum() - 1) / 2
    y, inside = model.outcomes, np.asarray(rate.mask(model.outcomes), dtype=bool)
    change = rate.quantity(y, baseline.decisions) - rate.quantity(y, model.decisions)
    if np.abs(change).max() > 1:
        return None

    def of(group: int) -> tuple[float, float, float]:
        at = np.flatnonzero((groups.codes == group) & inside)
        return paired_difference(
            change[at],
            1 - (1 - confidence) / pairs,
            weight=None if model.weight is None else model.weight[at],
            clusters=None if model.clusters is None else model.clusters[at],
            design_effect=model.design_effect,
        )

    (a, low_a, high_a), (b, low_b, high_b) = of(top), of(bottom)
    low, high = (
        a - b - float(np.hypot(a - low_a, high_b - b)),
        a - b + float(np.hypot(high_a - a, b - low_b)),
    )
    names = groups.names
    return Narrowing(rate.name, names[top], names[bottom], (a - b, low, high), confidence)


def narrowings(
    constraints: Sequence[Constraint],
    results: Sequence[ConstraintResult],
    baseline: Rows,
    model: Rows,
    confidence: float = 0.95,
) -> tuple[Narrowing | None, ...]:
    """What :func:`narrowed` finds for each constraint on which rows are too few for a verdict."""
    return tuple(
        narrowed(c, baseline, model, confidence) if r.verdict is Verdict.TOO_FEW_ROWS else None
        for c, r in zip(constraints, results, strict=True)
    )


def paired_difference(
    difference: NDArray[Any],
    confidence: float = 0.95,
    *,
    weight: NDArray[Any] | None = None,
    clusters: NDArray[np.int64] | None = None,
    design_effect: float = 1.0,
) -> tuple[float, float, float]:
    r"""Mean of paired differences in [-1, 1] of two rates, with limits.

    .. math:: \tilde d \pm z \sqrt{\frac{(\sum d_i^2 + 1) / (n + 2) - \tilde d^2}{n + 2}},
        \quad \tilde d = \frac{\sum d_i}{n + 2}

    Half a row is added to every cell of the table of pairs, so that two models without a single
    disagreement still have an interval.

    Parameters
    ----------
    difference : ndarray of shape (n,)
        Difference in every row.
    confidence : float, default=0.95
        Level.
    weight : ndarray of shape (n,), optional
        Weights of the rows; n is then their effective number.
    clusters : ndarray of int64, shape (n,), optional
        Cluster of each row; n is then divided by the design effect, and z is Student's t.
    design_effect : float, default=1
        Variance of a mean over these rows, over that of independent ones.

    References
    ----------
    Agresti and Min (2005), Statistics in Medicine 24, 729-740.

    Examples
    --------
    >>> value, low, high = paired_difference(np.repeat([1, -1, 0], [40, 20, 940]))
    >>> round(value, 3), round(low, 4), round(high, 4)
    (0.02, 0.0047, 0.0353)
    """
    d = np.asarray(difference, dtype=float)
    if not len(d):
        raise InvalidDataError("there are no rows to compare two models on.")
    everyone, z = np.zeros(len(d), dtype=np.int64), two_sided(error_rate(confidence))
    cells = cell_means(d, everyone, 1, weight, clusters=clusters).inflated(design_effect)
    value, rows = float(cells.mean[0]), float(student_rows(cells.effective, z, cells.design)[0])
    n = rows + 2
    centre = value * rows / n
    variance = (np.average(d**2, weights=weight) * rows + 1) / n - centre**2
    half = float(z) * np.sqrt(variance / n)
    low, high = max(-1.0, float(centre - half)), min(1.0, float(centre + half))
    return value, min(low, value), max(high, value)


def cost_against(
    target: NDArray[Any],
    baseline: NDArray[Any],
    decision: NDArray[Any],
    groups: Groups,
    confidence: float = 0.95,
    *,
    clusters: NDArray[np.int64] | None = None,
    design_effect: float = 1.0,
) -> Cost:
    """Compare a model's decisions with the baseline's, row by row.

    Parameters
    ----------
    target : ndarray of shape (n,)
        1 for the favourable label.
    baseline, decision : ndarray of shape (n,)
        1 for the favourable decision, or its probability (drawn independently of each other).
    groups : Groups
        The sensitive features: which group each person belongs to.
    confidence : float, default=0.95
        Level of the interval.
    clusters : ndarray of int64, shape (n,), optional
        Cluster of each row.
    design_effect : float, default=1
        Variance of a mean over these rows, over that of independent ones.

    Returns
    -------
    Cost
    """
    y, b, f = (np.asarray(v, dtype=float) for v in (target, baseline, decision))
    if not len(y) == len(b) == len(f) == len(groups.codes):
        raise InvalidDataError(
            f"baseline and model must decide the same rows, got {len(b)} and {len(f)} decisions "
            f"on {len(y)} rows."
        )
    gained, lost = (1 - b) * f, b * (1 - f)
    return Cost(
        accuracy=paired_difference(
            np.abs(y - f) - np.abs(y - b),
            confidence,
            clusters=clusters,
            design_effect=design_effect,
        ),
        confidence=confidence,
        gained=float(gained.mean()),
        lost=float(lost.mean()),
        changes=_changes(gained, lost, groups, confidence, clusters, design_effect),
    )


def _changes(
    gained: NDArray[Any],
    lost: NDArray[Any],
    groups: Groups,
    confidence: float,
    clusters: NDArray[np.int64] | None,
    design_effect: float,
) -> tuple[Change, ...]:
    counts, known = groups.counts, groups.codes >= 0
    codes, size = groups.codes[known], len(groups)
    sums = (group_sums(v[known], codes, size) for v in (gained, lost))
    shares = [np.divide(v, counts, out=np.zeros(size), where=counts > 0) for v in sums]
    names = {"metric": "selection_rate", "group": groups.names, "count": counts}
    if clusters is not None:
        pairs = np.unique(np.stack([groups.codes[known], clusters[known]]), axis=1)
        names["clusters"] = np.bincount(pairs[0], minlength=size)
    left_out = hidden_cells([pd.DataFrame({**names, "rate": share}) for share in shares])
    hidden = {group for _, group in left_out}
    changes = []
    for code, (name, count) in enumerate(zip(groups.names, counts, strict=True)):
        if not count:
            continue
        rows = int(count) if count >= MIN_CELL else None
        if name in hidden:
            changes.append(Change(name, rows, None, None))
        else:
            at = np.flatnonzero(groups.codes == code)
            net = paired_difference(
                gained[at] - lost[at],
                confidence,
                clusters=None if clusters is None else clusters[at],
                design_effect=design_effect,
            )
            up, down = (float(share[code]) for share in shares)
            changes.append(Change(name, rows, up, down, net))
    return tuple(changes)
