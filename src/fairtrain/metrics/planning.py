"""Before training: which bound the rows can certify, and what would make a stricter one so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fairtrain._parameters import CONFIDENCE, DIFFERENCE, LABEL, NONE, RATIO, Real, checks
from fairtrain.constraints import Constraint, ConstraintSpec, as_constraints, refuse_given
from fairtrain.constraints.families import families_of
from fairtrain.constraints.table import RateTable
from fairtrain.data import inputs
from fairtrain.data.groups import EVERYBODY, Groups
from fairtrain.data.inputs import is_number
from fairtrain.data.labels import LabelCoding
from fairtrain.exceptions import InvalidDataError, InvalidParameterError
from fairtrain.metrics.clusters import design_effects
from fairtrain.metrics.disclosure import count_words
from fairtrain.metrics.power import (
    POWER,
    Requirement,
    check_shares,
    least_rows,
    level_cells,
    smallest_bound,
    spread_cells,
)
from fairtrain.metrics.verdicts import bound_words, rounded_rows

__all__ = ["CertificationPlan", "certification_plan"]

Floats = NDArray[np.float64]

_FRACTIONS = (0.1, 0.2, 0.3, 0.5, 1.0)
_GAPS = (0.0, 0.25, 0.5, 0.75)


@dataclass(frozen=True)
class CertificationPlan:
    """What certification rows can show of one constraint.

    Attributes
    ----------
    constraint : str
        Name of the constraint.
    kind : {"difference", "ratio", "upper", "lower"}
        What the bound limits.
    bound : float
        The bound wanted; where groups have numbers of their own, the one that asks for least.
    power, confidence : float
        Chance of ``met`` that is planned for, and the level of the limits.
    true_gap : float
        The true gap (ratio, mean) that chances suppose; where groups have numbers of their own,
        the others' true means lie the same part of the way to them.
    fraction : float
        Share of the rows that certify.
    counts : dict of str to int
        All rows of every group, in the event where it has fewest.
    chance : float
        Chance of ``met`` with these rows.
    smallest_bounds : dict of float to float
        Share of rows that certify -> the strictest bound with the chance ``power``, were the true
        gap the same part of that bound; NaN where there is none. One number for all groups.
    rows_needed : dict of float to float
        True gap -> certification rows that every group needs.
    merged : tuple of tuple of str
        Groups to be judged as one, the fewest of the smallest, so that the bound can be met; empty
        where none need to be, or where it would not do.
    design_effect : float
        Where rows come in clusters: how many of them tell as much as one independent row. Rows
        needed count it in.
    rows_per_cluster : float or None
        Mean size of these clusters.
    """

    constraint: str
    kind: str
    bound: float
    power: float
    confidence: float
    true_gap: float
    fraction: float
    counts: dict[str, int]
    chance: float
    smallest_bounds: dict[float, float]
    rows_needed: dict[float, float]
    merged: tuple[tuple[str, ...], ...]
    design_effect: float = 1.0
    rows_per_cluster: float | None = None

    def to_frame(self) -> pd.DataFrame:
        """Rows of every group for every true gap.

        Returns
        -------
        DataFrame
            Columns ``group``, ``rows`` (all there are), ``certification_rows``, ``true_gap``,
            ``rows_needed`` (certification rows) and ``enough``.
        """
        table = pd.DataFrame(
            {
                "group": list(self.counts),
                "rows": list(self.counts.values()),
                "certification_rows": [int(self.fraction * n) for n in self.counts.values()],
            }
        )
        curve = pd.DataFrame(
            {"true_gap": list(self.rows_needed), "rows_needed": list(self.rows_needed.values())}
        )
        table = table.merge(curve, how="cross")
        return table.assign(enough=table["certification_rows"] >= table["rows_needed"])

    def explain(self) -> str:
        """Say in plain words what these rows can certify and what to do."""
        what = {"difference": "gap", "ratio": "ratio"}.get(self.kind, "mean")
        smallest, least = min(self.counts.items(), key=lambda item: item[1])
        lines = [
            f"{self.constraint} within {self.bound:g}: {self.chance:.0%} chance of met with "
            f"{self.fraction:.0%} of the rows as certification rows, if the true {what} is "
            f"{self.true_gap:.3g}.",
            f"Of {len(self.counts)} groups {smallest!r} has fewest rows to compare: "
            f"{count_words(least)} in all.",
        ]
        if self.rows_per_cluster is not None:
            lines.append(
                f"Rows come in clusters of {self.rows_per_cluster:.2g}, which are alike: "
                f"{self.design_effect:.2g} of them tell as much as one that stands alone."
            )
        for gap, rows in self.rows_needed.items():
            enough = f"{rounded_rows(rows)} certification rows a group give"
            if self.rows_per_cluster is not None:
                clusters = rounded_rows(float(np.round(rows / self.rows_per_cluster)))
                enough = enough.replace(" give", f" (in {clusters} clusters) give")
            if not np.isfinite(rows):
                enough = "no number of rows gives"
            lines.append(f"If the true {what} is {gap:.3g}, {enough} a chance of {self.power:.0%}.")
        reach = [
            f"{fraction:.0%} of the rows: " + ("none" if np.isnan(bound) else bound_words(bound))
            for fraction, bound in self.smallest_bounds.items()
        ]
        lines.append(f"Strictest bound with that chance: {'; '.join(reach)}.")
        if self.merged:
            joined = "; ".join(" + ".join(names) for names in self.merged)
            lines.append(f"It can be met for fewer groups, judged together: {joined}.")
        elif self.chance < self.power:
            lines.append("No merging of groups would do: get more rows or widen the bound.")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.explain()


@checks(
    power=CONFIDENCE,
    true_gap=Real(0, 1) | NONE,
    rate=CONFIDENCE | NONE,
    certification_fraction=Real(0, 1, "(]"),
    difference_bound=DIFFERENCE | NONE,
    ratio_bound=RATIO | NONE,
    positive_label=LABEL,
    confidence=CONFIDENCE,
)
def certification_plan(
    groups: Any,
    constraint: ConstraintSpec = "demographic_parity",
    *,
    y: Any = None,
    clusters: Any = None,
    power: float = POWER,
    true_gap: float | None = None,
    rate: float | None = None,
    certification_fraction: float = 0.2,
    difference_bound: float | None = None,
    ratio_bound: float | None = None,
    positive_label: Any = None,
    confidence: float = 0.95,
) -> CertificationPlan:
    r"""Say before training which bound the rows can certify, and how many rows would do.

    A bound is ``met`` when its far confidence limit keeps it, so the chance of ``met`` depends on
    the rows of the groups and on how far below the bound the truth is. It is computed over samples
    of these sizes from rates that lie evenly between two that are ``true_gap`` apart.

    Parameters
    ----------
    groups : mapping of str to int, or frame, series, mapping of columns, array, list or Groups
        Rows of every group (for a rate over an event: rows in the event), or who, one row a person.
    constraint : Constraint, str or fairlearn moment, default="demographic_parity"
        What is to be certified.
    y : array-like of shape (n,), optional
        Labels: needed for rates over those with one label, unless ``groups`` holds counts. For
        precision those with the favourable label stand for those who will be selected.
    clusters : array-like of shape (n,), optional
        Which rows belong together. How alike they are is estimated from ``y``, which is then
        needed.
    power : float in (0, 1), default=0.8
        Chance of ``met`` to plan for.
    true_gap : float, optional
        True difference or ratio to suppose, for a cap or a floor the true mean. Default: halfway
        between equality (a mean of 0 under a cap, of 1 above a floor) and the bound.
    rate : float in (0, 1), optional
        Middle of the groups' rates. Default: the share of the favourable label for selection rates
        where ``y`` is given, otherwise one half, which needs most rows for a difference.
    certification_fraction : float in (0, 1], default=0.2
        Share of the rows that will certify; 1 if these rows are all for that.
    difference_bound, ratio_bound : float, optional
        Replace the bound of ``constraint``.
    positive_label : label, optional
        The favourable one of ``y``.
    confidence : float, default=0.95
        Level of the limits.

    Returns
    -------
    CertificationPlan

    Raises
    ------
    InvalidParameterError
        If a number lies outside its range, or there is more than one constraint.
    InvalidDataError
        If labels are needed and missing, or there is nothing to compare.

    Examples
    --------
    >>> plan = certification_plan({"a": 20_000, "b": 4_000}, difference_bound=0.05)
    >>> round(plan.chance, 1), plan.smallest_bounds[0.2]
    (0.2, 0.107)
    >>> plan.to_frame().query("group == 'b'")["rows_needed"].tolist()
    [2092.0, 2741.0, 6113.0, 24458.0]
    """
    one = as_constraints(constraint, difference_bound=difference_bound, ratio_bound=ratio_bound)
    if len(one) != 1:
        raise InvalidParameterError(f"a plan is for one constraint, got {len(one)}; plan each.")
    wanted = one[0]
    refuse_given(
        one,
        "a plan is for groups, not for cells of groups and strata",
        "a plan of the groups of the smallest stratum",
    )
    counts, middle = _counts(groups, wanted, y, positive_label)
    effects, size = _effects(groups, wanted, y, clusters, positive_label, list(counts))
    effect = float(effects.max())
    middle = middle if rate is None else rate
    check_shares(rate=middle)
    if wanted.absolute and not 0 <= wanted.bound <= 1:
        raise InvalidParameterError(
            f"a plan is for rates, which lie in [0, 1]; {wanted.name} has the bound "
            f"{wanted.bound:g}."
        )
    part = 0.5 if true_gap is None else _part(wanted, true_gap)
    plan = _Plan(wanted, power, confidence, middle, part, wanted.shifts(tuple(counts)))
    rows = np.array(list(counts.values()), dtype=np.float64) / effects
    fractions = sorted({*_FRACTIONS, certification_fraction})
    parts = sorted({*_GAPS, part})
    chance = plan.wanted(certification_fraction * rows)
    return CertificationPlan(
        constraint=wanted.name,
        kind=wanted.kind,
        bound=wanted.bound,
        power=power,
        confidence=confidence,
        true_gap=plan.gap(wanted.bound),
        fraction=certification_fraction,
        counts=counts,
        chance=chance,
        smallest_bounds={f: round(plan.smallest(f * rows), 3) for f in fractions},
        rows_needed={
            plan.gap(wanted.bound, p): float(np.ceil(effect * plan.least(len(rows), p)))
            for p in parts
        },
        merged=()
        if chance >= power
        else plan.merged(counts, certification_fraction / float(np.mean(effects))),
        design_effect=effect,
        rows_per_cluster=size,
    )


@dataclass(frozen=True)
class _Plan:
    """The chance of ``met`` for one constraint, as a function of rows, bound and true gap."""

    constraint: Constraint
    power: float
    confidence: float
    rate: float
    part: float
    shift: Floats

    def gap(self, bound: float, part: float | None = None) -> float:
        """The true gap that is a part of the way from equality to the bound."""
        part = self.part if part is None else part
        return 1 - part * (1 - bound) if self.constraint.larger_is_fairer else part * bound

    def chance(
        self,
        rows: Floats,
        bound: float,
        least: float = 0.0,
        part: float | None = None,
        shift: Floats | float = 0.0,
    ) -> float:
        if not np.maximum(rows, least).all():
            return 0.0
        required = Requirement.of(self.constraint, self.confidence, bound, shift)
        if self.constraint.absolute:
            cells = level_cells(rows, required, self.part if part is None else part)
        else:
            cells = spread_cells(rows, self.rate, self.gap(bound, part), self.constraint.kind)
        return float(required.chance(cells, least) ** len(self.constraint.rates))

    def wanted(self, rows: Floats, least: float = 0.0, part: float | None = None) -> float:
        """The chance for the bound wanted, each group's own."""
        return self.chance(rows, self.constraint.bound, least, part, self.shift)

    def smallest(self, rows: Floats) -> float:
        """The strictest bound: of a floor the largest, found as a cap on the opposite."""
        if self.constraint.kind == "lower":
            return 1 - smallest_bound(lambda cap: self.chance(rows, 1 - cap), "upper", self.power)
        return smallest_bound(
            lambda bound: self.chance(rows, bound), self.constraint.kind, self.power
        )

    def least(self, groups: int, part: float) -> float:
        """Rows that each of so many groups needs."""
        none = np.zeros(groups)
        return least_rows(lambda n: self.wanted(none, n, part), self.power)

    def merged(self, counts: Mapping[str, int], fraction: float) -> tuple[tuple[str, ...], ...]:
        """Join the smallest two groups until the bound can be met; none with its own number."""
        if self.shift.any():
            return ()
        parts: list[tuple[int, tuple[str, ...]]] = [(n, (name,)) for name, n in counts.items()]
        parts.sort(key=lambda part: part[0])
        while len(parts) > 2:
            (first, names), (second, others), *rest = parts
            parts = sorted([(first + second, names + others), *rest], key=lambda part: part[0])
            rows = fraction * np.array([n for n, _ in parts], dtype=np.float64)
            if self.chance(rows, self.constraint.bound) >= self.power:
                return tuple(names for _, names in parts if len(names) > 1)
        return ()


def _part(constraint: Constraint, true_gap: float) -> float:
    """How far from equality to the bound a true gap lies."""
    least, bound = constraint.larger_is_fairer, constraint.bound
    if not is_number(true_gap) or not (bound < true_gap <= 1 if least else 0 <= true_gap < bound):
        raise InvalidParameterError(
            f"true_gap must lie inside the bound of {bound:g}, got {true_gap!r}: no rows show a "
            "bound that the truth breaks."
        )
    return (1 - true_gap) / (1 - bound) if least else true_gap / bound


def _counts(
    groups: Any, constraint: Constraint, y: Any, positive_label: Any
) -> tuple[dict[str, int], float]:
    """Rows of every group in the event where it has fewest, and the middle of the rates."""
    if isinstance(groups, Mapping) and _are_counts(groups):
        counts = {str(name): int(n) for name, n in groups.items()}
        if getattr(constraint, "overall", False):
            counts = {EVERYBODY: sum(counts.values())}
        weights, middle = constraint.group_weights(tuple(counts)), 0.5
    else:
        who = groups if isinstance(groups, Groups) else Groups.from_sensitive(groups)
        who = who.merged(*constraint.partition(who.scheme))
        fewest, middle = _fewest(who, constraint, y, positive_label)
        counts = dict(zip(who.names, fewest.tolist(), strict=True))
        weights = constraint.group_weights(who.names)
    counts = {name: n for (name, n), w in zip(counts.items(), weights, strict=True) if w > 0}
    if min(counts.values(), default=0) < 0 or len(counts) < (1 if constraint.absolute else 2):
        raise InvalidDataError(f"{constraint.name} needs groups with their rows, got {counts!r}.")
    return counts, middle


def _effects(
    groups: Any,
    constraint: Constraint,
    y: Any,
    clusters: Any,
    positive_label: Any,
    names: list[str],
) -> tuple[Floats, float | None]:
    """Design effects of groups, the largest of their rates', and the mean size of clusters."""
    if clusters is None:
        return np.ones(len(names)), None
    if y is None or (isinstance(groups, Mapping) and _are_counts(groups)):
        raise InvalidDataError(
            "clusters need groups with a row a person, and y: from these it is estimated how alike "
            "the rows of a cluster are."
        )
    who = groups if isinstance(groups, Groups) else Groups.from_sensitive(groups)
    target = LabelCoding.read(y, positive_label)[0].astype(np.float64)
    at = inputs.as_clusters(clusters, len(target))
    if at is None:
        return np.ones(len(names)), None
    table = RateTable(families_of([constraint], who.scheme), target, who.members)
    found = np.ones((len(table.cells), len(names)))
    effects = design_effects(table, target, who.members, at)
    for k, cells in enumerate(table.cells):
        place = {name: g for g, name in enumerate(cells.family.scheme.names)}
        found[k] = effects[cells.part][[place[name] for name in names]]
    return found.max(axis=0), len(target) / len(np.unique(at))


def _are_counts(groups: Mapping[Any, Any]) -> bool:
    return all(isinstance(n, int | np.integer) for n in groups.values())


def _fewest(
    who: Groups, constraint: Constraint, y: Any, positive_label: Any
) -> tuple[NDArray[np.int64], float]:
    if y is None:
        if any(rate.event is not None or rate.among is not None for rate in constraint.rates):
            raise InvalidDataError(f"{constraint.name} needs y: its rates are over some labels.")
        return who.counts, 0.5
    target, _ = LabelCoding.read(y, positive_label)
    if len(target) != len(who.codes):
        raise InvalidDataError(f"y has {len(target)} rows and groups have {len(who.codes)}.")
    # Who will be selected is not known: as many as have the favourable label.
    inside = [
        np.asarray(rate.mask(target))
        & (True if rate.among is None else np.asarray(rate.among(target, target)) > 0)
        for rate in constraint.rates
    ]
    counts = [np.bincount(who.codes[i & (who.codes >= 0)], minlength=len(who)) for i in inside]
    decided = [rate.name for rate in constraint.rates] == ["selection_rate"]
    middle = float(np.clip(target.mean(), 0.01, 0.99)) if decided else 0.5
    return np.min(counts, axis=0), middle
