"""From rates to a verdict on one constraint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fairtrain.constraints import Constraint, MomentConstraint
from fairtrain.constraints.families import RateFamily, families_of, strata_not_compared
from fairtrain.constraints.rates import (
    FALSE_POSITIVE_RATE,
    TRUE_POSITIVE_RATE,
    Rate,
    prediction,
    rejection,
)
from fairtrain.data.rows import Rows
from fairtrain.metrics.cells import Cells
from fairtrain.metrics.clusters import LEAST_CLUSTERS
from fairtrain.metrics.limits import Limited, limited, nothing_known
from fairtrain.metrics.measures import family_cells
from fairtrain.metrics.power import POWER, bound_in_reach, chance_broken, rows_short

__all__ = [
    "ConstraintResult",
    "EmptyCell",
    "RowsRole",
    "Usefulness",
    "Verdict",
    "judge",
    "usefulness",
]

Floats = NDArray[np.float64]
RowsRole = Literal["certification", "steering", "training"]

_ROUNDING = 1e-9  # a mixture that was put on its bound must not read as over it


class Verdict(StrEnum):
    """What can be said of a bound.

    ``met``
        On rows that steered nothing, the confidence limit lies within the bound.
    ``not_certified``
        The bound is kept on the rows that chose the model, which says little about others, or
        limits are not known at all (a moment of fairlearn's kind).
    ``not_met``
        The bound is broken, or not kept although the rows would suffice to show it.
    ``too_few_rows``
        The rows cannot tell, or a group has none; the result says how many would.
    """

    MET = "met"
    NOT_CERTIFIED = "not_certified"
    NOT_MET = "not_met"
    TOO_FEW_ROWS = "too_few_rows"
    MET_ON_STEERING_ROWS = NOT_CERTIFIED  # its former name

    @classmethod
    def _missing_(cls, value: object) -> Verdict | None:
        return cls.NOT_CERTIFIED if value == "met_on_steering_rows" else None


class Usefulness(StrEnum):
    """What a model is worth beside two that cost nothing.

    ``useful``
        Neither of the two below.
    ``no_better_than_constant``
        Deciding alike for everybody, in a way that keeps every bound, is as accurate.
    ``beaten_by_baseline``
        The unconstrained model is more accurate and nearer to every bound.
    """

    USEFUL = "useful"
    NO_BETTER_THAN_CONSTANT = "no_better_than_constant"
    BEATEN_BY_BASELINE = "beaten_by_baseline"


def usefulness(accuracy: float, constant: float) -> Usefulness:
    """What decisions are worth beside deciding alike for everybody, by their accuracies."""
    if accuracy <= constant + _ROUNDING:
        return Usefulness.NO_BETTER_THAN_CONSTANT
    return Usefulness.USEFUL


@dataclass(frozen=True)
class EmptyCell:
    """A group that a constraint speaks of and that has no row in an event.

    Attributes
    ----------
    group : str
        The group.
    event : str
        ``"y=1"`` (the favourable label), ``"y=0"``, ``"d=1"`` (the favourable decision), ``"d=0"``,
        or empty for all rows.
    rows : int
        Rows of the group in all.
    """

    group: str
    event: str
    rows: int

    def __str__(self) -> str:
        return f"{self.group!r} has no row" + (f" with {self.event}" if self.event else "")


@dataclass(frozen=True)
class ConstraintResult:
    """One constraint on one set of rows.

    Attributes
    ----------
    constraint : str
        Name of the constraint.
    kind : {"difference", "ratio", "upper", "lower"}
        What the bound limits.
    reference : {"pairwise", "overall", "absolute"}
        What groups are compared with under the bound.
    bound : float
        The bound.
    rate : str
        The rate that is widest apart.
    achieved, lower, upper : float
        The quantity the bound limits, and its confidence limits.
    pairwise : float
        The same between any two groups (equal to ``achieved`` unless the bound is fairlearn's).
    highest, lowest : str
        The extreme groups; within strata, names of cells such as ``"female/low income"``.
    verdict : Verdict
        What can be said.
    rows_needed : dict of str to float
        Groups with too few rows -> rows in the event that give an 80 % chance of ``met``, were the
        true gap ``true_gap`` (inf: no number would).
    counts : dict of str to int
        Rows in the event, of every group that has some.
    empty : tuple of EmptyCell
        Groups without a row in an event: their rate may be anything, so the bound is never met.
    true_gap : float or None
        The true gap (ratio, mean) that ``rows_needed`` supposes: the one observed, or what leaves
        a quarter of the bound; None where no rows are lacking. Where groups have numbers of their
        own, that of the group whose number ``bound`` is.
    smallest_bound : float or None
        Where there are too few rows, the strictest bound that as many would show with a chance of
        80 %, were the true gap half of it; None where none would. One number for all groups.
    left_out : tuple of str
        Groups of the scheme that a parity does not judge, because it gives them weight 0.
    strata_left_out : tuple of str
        Strata in which it compares nothing, as one group alone has rows there (or, where it
        averages over strata, as some group has none).
    chance_broken : float or None
        Where the verdict is ``not_certified``: the estimated chance that the bound is broken in the
        population (:func:`~fairtrain.metrics.power.chance_broken`).
    clusters : dict of str to int
        Where rows come in clusters: how many there are, of every group, in the event where it has
        fewest. A group in fewer than ten is neither shown to keep a bound nor to break it.
    """

    constraint: str
    kind: str
    reference: str
    bound: float
    rate: str
    achieved: float
    lower: float
    upper: float
    pairwise: float
    highest: str
    lowest: str
    verdict: Verdict
    rows_needed: dict[str, float]
    counts: dict[str, int]
    empty: tuple[EmptyCell, ...] = ()
    true_gap: float | None = None
    smallest_bound: float | None = None
    clusters: dict[str, int] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    strata_left_out: tuple[str, ...] = ()
    chance_broken: float | None = None

    @property
    def absolute(self) -> bool:
        """Whether the bound limits every group's rate by itself; else groups are compared."""
        return self.kind in ("upper", "lower")

    @property
    def larger_is_fairer(self) -> bool:
        """Whether what was achieved must be at least the bound."""
        return self.kind in ("ratio", "lower")

    @property
    def extreme(self) -> str:
        """Under an absolute bound, the group that is nearest to it, or farthest beyond it."""
        return self.lowest if self.larger_is_fairer else self.highest

    @property
    def excess(self) -> float:
        """By how much the bound is exceeded; 0 or less is inside."""
        over = self.achieved - self.bound
        return -over if self.larger_is_fairer else over

    def __str__(self) -> str:
        return f"{self.constraint}: {self.verdict}. {self.words()}"

    def words(self, confidence: float = 0.95) -> str:
        """Say what was achieved and what can be concluded, in a few sentences."""
        if np.isnan(self.achieved) and self.empty and not self.counts:
            said = f"{self.rate.replace('_', ' ')} is not known: "
            return f"{said}{'; '.join(map(str, self.empty[:4]))}. No group has one."
        if np.isnan(self.achieved):
            return "the numbers rest on few rows, and were left out when this was saved."
        if np.isnan(self.lower) and np.isnan(self.upper):
            return (
                f"{self.rate} of {self.highest!r} is {self.achieved:.3f}; at most {self.bound:g} "
                "is asked. fairlearn's moment gives no limits, so nothing can be certified."
            )
        interval = f"{100 * confidence:.4g}% interval {self.lower:.3f} to {self.upper:.3f}"
        most = "at least" if self.larger_is_fairer else "at most"
        subject = self.rate.replace("_", " ")
        if self.absolute:
            said = f"{subject} of {self.extreme!r} is {self.achieved:.3f}"
            if len(self.counts) > 1:  # a smaller group may be the one that these limits allow for
                interval = interval.replace("interval", "interval of the worst off, whoever it is,")
                said += ", the worst off of all groups"
            said += f" ({interval})"
        else:
            what = "differs by" if self.kind == "difference" else "has the ratio"
            said = (
                f"{subject} {what} {self.achieved:.3f} ({interval}) between {self.highest!r} and "
                f"{self.lowest!r}"
            )
            if self.reference == "overall":
                said = (
                    f"{subject} {what} {self.achieved:.3f} ({interval}) between a group and all "
                    f"rows, and {self.pairwise:.3f} between {self.highest!r} and {self.lowest!r}"
                )
        said += f"; {most} {self.bound:g} is asked."
        if self.left_out:
            said += f" Not judged, as the constraint leaves them out: {', '.join(self.left_out)}."
        if self.strata_left_out:
            said += f" Not compared, for want of groups: within {', '.join(self.strata_left_out)}."
        if self.chance_broken is not None:
            said += f" {broken_words(self.chance_broken)}"
        if self.verdict is Verdict.TOO_FEW_ROWS and self.rows_needed:
            said += f" {self._needs()}"
        return said

    def _needs(self, most: int = 4) -> str:
        empty = {cell.group: str(cell) for cell in reversed(self.empty)}
        ordered = sorted(
            self.rows_needed.items(), key=lambda item: (item[0] not in empty, -item[1])
        )
        has = {name: f"{self._has(name)} and" for name in self.counts}
        has |= {name: f"{said} and" for name, said in empty.items()}
        parts = [
            f"{has.get(name, repr(name))} needs {self._wants(name, rows)}"
            for name, rows in ordered[:most]
        ]
        more = len(ordered) - most
        said = f"To tell, {'; '.join(parts)}"
        said += f"; {more} more groups are short" if more > 0 else ""
        if min(self.clusters.values(), default=LEAST_CLUSTERS) < LEAST_CLUSTERS:
            return (
                f"{said}: fewer than {LEAST_CLUSTERS} clusters of a group tell nothing, however "
                "many rows they hold. Get more clusters, or merge small groups."
            )
        if self.true_gap is None:
            return f"{said}."
        what = {"difference": "gap", "ratio": "ratio"}.get(self.kind, "mean")
        said += f" (for a chance of {POWER:.0%} if the true {what} is {self.true_gap:.2g}). "
        return said + self._next_step(what)

    def _has(self, name: str) -> str:
        said = f"{name!r} has {self.counts[name]:,} rows"
        return f"{said} in {self.clusters[name]} clusters" if name in self.clusters else said

    def _wants(self, name: str, rows: float) -> str:
        said = rounded_rows(rows, "about ")
        if name not in self.clusters or name not in self.counts or not np.isfinite(rows):
            return said
        clusters = rows * self.clusters[name] / self.counts[name]
        return f"{said} in {rounded_rows(float(np.round(clusters)))}"

    def _next_step(self, what: str) -> str:
        """Say what these rows can show, and what to do."""
        if self.smallest_bound is None:
            return "So few rows can certify no bound: get more of them, or merge small groups."
        supposed = {"difference": "half of it", "ratio": "halfway to 1"}.get(self.kind, "as now")
        bound = bound_words(self.smallest_bound)
        return (
            f"As many untouched rows can certify a bound of {bound} with that chance if the true "
            f"{what} is {supposed}: get more rows, widen the bound or merge small groups "
            "(fairtrain.certification_plan)."
        )


def broken_words(chance: float) -> str:
    """Say a chance that a bound is broken as so many of ten models.

    Examples
    --------
    >>> print(broken_words(0.61))
    These rows chose the model: about 6 in 10 such models break the bound on new people.
    """
    tenths = round(10 * chance)
    many = f"about {tenths} in 10" if 0 < tenths < 10 else "fewer than 1 in 10"
    many = "more than 9 in 10" if tenths == 10 else many
    return f"These rows chose the model: {many} such models break the bound on new people."


def rounded_rows(rows: float, about: str = "") -> str:
    """Write a number of rows with two digits, rounded up, after a word that says so."""
    if not np.isfinite(rows):
        return "more than can be had"
    digits = max(0, int(np.floor(np.log10(max(rows, 1)))) - 1)
    return f"{about}{int(np.ceil(rows / 10**digits) * 10**digits):,}"


def bound_words(bound: float) -> str:
    """Write a bound with two digits, or with those that tell it from 1.

    Examples
    --------
    >>> bound_words(0.0512), bound_words(0.9962)
    ('0.051', '0.996')
    """
    return f"{bound:.3f}" if 0.9 < bound < 1 else f"{bound:.2g}"


def judge(
    constraint: Constraint,
    rows: Rows,
    role: RowsRole,
    confidence: float,
    *,
    advise: bool = True,
) -> ConstraintResult:
    """Compare one constraint's rates across its groups and reach a verdict.

    Strata count as rates do: the widest gap of any is what was achieved, its near limit holds for
    all of them together (Bonferroni), and the far one needs no correction (Berger, 1982). Judged
    are all groups of the scheme but those of weight 0, whether they have rows or not.

    Without ``advise`` the limits, and whether it is ``met``, are worked out and nothing is said of
    the rows that would be needed.

    Raises
    ------
    InvalidDataError
        If a parity constraint speaks of fewer than two groups, or no row belongs to its event.
    """
    if isinstance(constraint, MomentConstraint):
        return _judge_moment(constraint, rows, role)
    families = families_of([constraint], rows.groups.scheme)
    scheme = families[0].scheme
    kept = np.flatnonzero(constraint.group_weights(scheme.names) > 0)
    names = [scheme.names[g] for g in kept]
    labels = [[family.cell_names[g] for g in kept] for family in families]
    cells = [family_cells(rows, family).of(kept) for family in families]
    empty = tuple(
        EmptyCell(label[g], _event(family.rate), _rows_of(rows, family, kept[g]))
        for family, label, cell in zip(families, labels, cells, strict=True)
        for g in np.flatnonzero(cell.count == 0)
    )
    shift = constraint.shifts(names)
    # In some strata nobody may be judged; where that is so in all of them, `limited` says so, but
    # of decisions that go to nobody there is nothing to say that would be wrong.
    blank = [not (c.count > 0 if constraint.absolute else c.known).any() for c in cells]
    decided = any(family.rate.among is not None for family in families)
    if not decided and (constraint.given is None or all(blank)):
        blank = [False] * len(cells)
    unlimited = nothing_known(cells)
    of_rates = [
        unlimited if unknown else limited(constraint, cell, confidence, len(cells), shift)
        for cell, unknown in zip(cells, blank, strict=True)
    ]
    least = constraint.larger_is_fairer
    values = np.array([f.achieved for f in of_rates])
    known = np.where(np.isnan(values), np.inf if least else -np.inf, values)
    worst = int(known.argmin() if least else known.argmax())
    extreme = of_rates[worst]
    own = float(shift[extreme.lowest if least else extreme.highest])
    bound = constraint.bound + own
    achieved, lower, upper = _over_rates(of_rates, least)
    within = achieved >= bound - _ROUNDING if least else achieved <= bound + _ROUNDING
    clusters, scarce = _scarce(cells, labels)
    shown = not (empty or scarce) and (lower >= bound if least else upper <= bound)
    broken = not scarce and (upper < bound if least else lower > bound)
    rows_of: dict[str, list[int]] = {}
    for label, cell in zip(labels, cells, strict=True):
        for name, count in zip(label, cell.count.tolist(), strict=True):
            rows_of.setdefault(name, []).append(count)
    fewest = max(scheme.min_count, 1)  # what a verdict on steering rows asks for
    small = {name: float(fewest) for name, counts in rows_of.items() if min(counts) < fewest}
    small |= scarce
    true_gap: float | None = None
    if not advise or shown or broken or (within and role != "certification"):
        short = small  # nothing to tell, or nothing but whether all groups are large enough
    else:
        short, true_gap = rows_short(
            constraint, cells, names, confidence, within=within, labels=labels
        )
        short |= {name: max(rows, short.get(name, 0.0)) for name, rows in scarce.items()}
    verdict = _verdict(
        role, within=within, shown=shown, broken=broken, short=bool(short), small=bool(small)
    )
    few = verdict is Verdict.TOO_FEW_ROWS
    return ConstraintResult(
        constraint=constraint.name,
        kind=constraint.kind,
        reference=getattr(constraint, "reference", "absolute"),
        bound=bound,
        rate=families[worst].rate.name,
        achieved=achieved,
        lower=lower,
        upper=upper,
        pairwise=extreme.pairwise,
        highest=labels[worst][extreme.highest],
        lowest=labels[worst][extreme.lowest],
        verdict=verdict,
        rows_needed=short if few else {},
        counts={
            name: min(n for n in counts if n) for name, counts in rows_of.items() if any(counts)
        },
        empty=empty,
        true_gap=None if true_gap is None or not few else true_gap + own,
        smallest_bound=bound_in_reach(constraint, cells, confidence)
        if few and advise and not scarce
        else None,
        clusters=clusters,
        left_out=_left_out(constraint, scheme.names),
        strata_left_out=strata_not_compared(constraint, rows.groups.scheme),
        chance_broken=chance_broken(constraint, cells, shift)
        if verdict is Verdict.NOT_CERTIFIED
        else None,
    )


def _judge_moment(constraint: MomentConstraint, rows: Rows, role: RowsRole) -> ConstraintResult:
    """Say what a moment's ``gamma`` says: its worst entry, of which no limits are known."""
    moment: Any = constraint.loaded(rows)
    gamma = moment.gamma(lambda _: rows.decisions)
    excess = np.asarray(gamma - moment.bound(), dtype=np.float64)
    worst = int(np.nanargmax(excess))
    entry = gamma.index[worst]
    words = ", ".join(map(str, entry)) if isinstance(entry, tuple) else str(entry)
    few = role != "certification" and rows.groups.counts.min() < max(
        rows.groups.scheme.min_count, 1
    )
    kept = Verdict.TOO_FEW_ROWS if few else Verdict.NOT_CERTIFIED
    achieved = float(gamma.iloc[worst])
    return ConstraintResult(
        constraint=constraint.name,
        kind=constraint.kind,
        reference="absolute",
        bound=achieved - float(excess[worst]),
        rate="gamma",
        achieved=achieved,
        lower=np.nan,
        upper=np.nan,
        pairwise=np.nan,
        highest=words,
        lowest=words,
        verdict=kept if excess[worst] <= _ROUNDING else Verdict.NOT_MET,
        rows_needed={},
        counts=dict(zip(rows.groups.names, rows.groups.counts.tolist(), strict=True)),
    )


def _verdict(
    role: RowsRole, *, within: bool, shown: bool, broken: bool, short: bool, small: bool
) -> Verdict:
    if broken:
        return Verdict.NOT_MET
    if role != "certification":
        if within:
            return Verdict.TOO_FEW_ROWS if small else Verdict.NOT_CERTIFIED
        return Verdict.TOO_FEW_ROWS if short else Verdict.NOT_MET
    if shown:
        return Verdict.MET
    return Verdict.TOO_FEW_ROWS if within or short else Verdict.NOT_MET


def _left_out(constraint: Constraint, names: Sequence[str]) -> tuple[str, ...]:
    """Groups that a parity gives no weight; a cap or floor names those that it is about."""
    if constraint.absolute:
        return ()
    weights = constraint.group_weights(names)
    return tuple(name for name, weight in zip(names, weights, strict=True) if not weight > 0)


def _event(rate: Rate) -> str:
    """The event of a rate in words; none where it is all rows."""
    known: dict[Any, str]
    if rate.among is not None:
        known = {prediction: "d=1", rejection: "d=0"}
        return known.get(rate.among, f"those who count in {rate.name}")
    known = {None: "", TRUE_POSITIVE_RATE.event: "y=1", FALSE_POSITIVE_RATE.event: "y=0"}
    return known.get(rate.event, f"the event of {rate.name}")


def _rows_of(rows: Rows, family: RateFamily, group: int) -> int:
    """Rows of a group in the family's stratum, in the event or not."""
    return int(rows.groups.merged(family.scheme, family.parent).counts[group])


def _scarce(
    cells: Sequence[Cells], labels: Sequence[Sequence[str]]
) -> tuple[dict[str, int], dict[str, float]]:
    """Clusters of each group in the event where it has fewest; groups in too few of them.

    The latter with the rows that enough clusters of this size would hold.
    """
    fewest: dict[str, int] = {}
    rows: dict[str, float] = {}
    for label, cell in zip(labels, cells, strict=True):
        if cell.clusters is None:
            continue
        for name, k, n in zip(label, cell.clusters.tolist(), cell.count.tolist(), strict=True):
            if k and k <= fewest.get(name, k):
                fewest[name], rows[name] = k, float(np.ceil(n * LEAST_CLUSTERS / k))
    return fewest, {name: rows[name] for name, k in fewest.items() if k < LEAST_CLUSTERS}


def _over_rates(of_rates: Sequence[Limited], least: bool) -> tuple[float, float, float]:
    """Worst over the rates of a notion; the far limit needs no correction (Berger, 1982)."""
    extreme = np.fmin.reduce if least else np.fmax.reduce
    return (
        float(extreme([f.achieved for f in of_rates])),
        float(extreme([f.lower for f in of_rates])),
        float(extreme([f.upper for f in of_rates])),
    )
