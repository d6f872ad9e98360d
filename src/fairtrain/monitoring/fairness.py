"""Gaps between groups in windows of fresh decisions: whether a bound broke or fairness drifted."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fairtrain._parameters import (
    ANYTHING,
    DIFFERENCE,
    MISSING,
    NONE,
    RATIO,
    Real,
    Table,
    Whole,
    check_parameters,
)
from fairtrain.constraints import Constraint, ConstraintSpec, as_constraints
from fairtrain.data.groups import Missing
from fairtrain.data.rows import Rows
from fairtrain.exceptions import InvalidDataError, InvalidParameterError
from fairtrain.metrics.intervals import gap_interval, ratio_interval, rows_needed
from fairtrain.metrics.measures import measure_cells

__all__ = ["FairnessMonitor"]

Floats = NDArray[np.float64]
Key = tuple[int, str]


@dataclass
class _Counts:
    """Sum of a quantity and rows, by the name of the group."""

    sums: dict[str, float] = field(default_factory=dict)
    rows: dict[str, float] = field(default_factory=dict)

    def add(self, names: tuple[str, ...], sums: Floats, rows: Floats) -> None:
        for name, total, count in zip(names, sums, rows, strict=True):
            self.sums[name] = self.sums.get(name, 0.0) + float(total)
            self.rows[name] = self.rows.get(name, 0.0) + float(count)

    def names(self, least: float) -> list[str]:
        """Groups with rows enough."""
        return [name for name, count in self.rows.items() if count >= least]

    def arrays(
        self, least: float, among: Collection[str] | None = None
    ) -> tuple[list[str], Floats, Floats]:
        """Names, means and rows of the groups with rows enough."""
        names = [n for n in self.names(least) if among is None or n in among]
        rows = np.array([self.rows[name] for name in names])
        return names, np.array([self.sums[name] for name in names]) / rows, rows


@dataclass
class _Record(_Counts):
    r"""All windows so far, each with one weight for all groups: its rows.

    The mean of group g is :math:`\sum_t w_t r_{gt} / W`; a sum of rows would let groups that come
    at different times look unequal where no window treats them so (Simpson's paradox). A group that
    a window lacks is given the rate of that window, which widens no gap.
    """

    weight: float = 0.0
    overall: float = 0.0
    spread: float = 0.0
    means: dict[str, float] = field(default_factory=dict)
    variances: dict[str, float] = field(default_factory=dict)

    def take(self, window: _Counts) -> None:
        """Add a window."""
        n = sum(window.rows.values())
        if not n:
            return
        rate = sum(window.sums.values()) / n
        for name in window.rows:
            self.means.setdefault(name, self.overall)
            self.variances.setdefault(name, self.spread)
        for name in self.means:
            own = window.rows.get(name, 0.0)
            self.means[name] += n * (window.sums[name] / own if own else rate)
            self.variances[name] += n**2 / (own or n)
        self.weight, self.overall = self.weight + n, self.overall + n * rate
        self.spread += n
        self.add(tuple(window.rows), *_columns(window))

    def arrays(
        self, least: float, among: Collection[str] | None = None
    ) -> tuple[list[str], Floats, Floats]:
        """Names, weighted means and effective rows of the groups with rows enough."""
        names = [n for n in self.names(least) if among is None or n in among]
        mean = np.array([self.means[n] for n in names]) / max(self.weight, 1.0)
        rows = np.array([self.weight**2 / self.variances[n] for n in names])
        return names, mean, rows


@dataclass
class FairnessMonitor:
    r"""Watch gaps between groups over windows of fresh decisions.

    Two questions are asked of every window and of all windows so far together (the former sees a
    sudden break, the latter a slow one). *Broken*: does the lower confidence limit of the gap,
    which allows for the choice of the widest pair, lie beyond the bound? *Drifted*: does it lie
    beyond the upper limit of the gap in the reference? Window t may spend
    :math:`\alpha_t = \alpha \cdot 6 / (\pi^2 t^2)`, two thirds of which go to these questions and
    rates in equal parts; the reference, which is used again and again, spends the last third once.
    The shares sum to alpha, so that over any number of windows the chance of one false alarm is at
    most alpha, up to the accuracy of the intervals. Windows must be disjoint sets of rows.

    Parameters
    ----------
    constraints : Constraint, str, or list of these, default="demographic_parity"
        What is watched. Notions that condition on labels need them.
    difference_bound, ratio_bound : float, optional
        Replace the bounds in ``constraints``.
    alpha : float, default=0.05
        Chance of a false alarm, ever.
    min_rows : int, default=30
        Groups with fewer rows in the event are counted but not compared.
    positive_label : label, optional
        The favourable decision; may be left out for {0, 1}, {-1, 1} and booleans.
    missing : {"error", "group"}, default="error"
        What to do with missing sensitive values.

    Attributes
    ----------
    history : DataFrame
        What :meth:`update` returned, all windows.

    Examples
    --------
    >>> import numpy as np
    >>> from fairtrain import FairnessMonitor
    >>> rng = np.random.default_rng(0)
    >>> monitor = FairnessMonitor(difference_bound=0.1)
    >>> for shift in (0.0, 0.0, 0.3):
    ...     who = rng.integers(0, 2, 2000)
    ...     decided = rng.random(2000) < 0.4 + shift * who
    ...     _ = monitor.update(decided.astype(int), who)
    >>> monitor.broken, int(monitor.history.query("broken")["window"].min())
    (True, 3)
    """

    _allowed: ClassVar[Table] = {
        "alpha": Real(0, 1, "()"),
        "min_rows": Whole(1),
        "constraints": ANYTHING,
        "difference_bound": DIFFERENCE | NONE,
        "ratio_bound": RATIO | NONE,
        "positive_label": ANYTHING,
        "missing": MISSING,
    }

    constraints: ConstraintSpec = "demographic_parity"
    difference_bound: float | None = None
    ratio_bound: float | None = None
    alpha: float = 0.05
    min_rows: int = 30
    positive_label: Any = None
    missing: Missing = "error"
    windows: list[pd.DataFrame] = field(default_factory=list, repr=False)
    _asked: tuple[Constraint, ...] = field(default=(), repr=False)
    _total: dict[Key, _Record] = field(default_factory=dict, repr=False)
    _reference: dict[Key, _Counts] = field(default_factory=dict, repr=False)
    _known: dict[str, int] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        check_parameters(self)
        self._asked = as_constraints(
            self.constraints, difference_bound=self.difference_bound, ratio_bound=self.ratio_bound
        )
        if bad := [c.name for c in self._asked if c.absolute]:
            raise InvalidParameterError(f"{bad[0]} compares no groups; watch a parity instead.")

    @property
    def history(self) -> pd.DataFrame:
        """All windows so far."""
        return pd.concat(self.windows, ignore_index=True) if self.windows else pd.DataFrame()

    @property
    def broken(self) -> bool:
        """Whether a bound was found broken in any window."""
        return any(bool(window["broken"].any()) for window in self.windows)

    @property
    def drifted(self) -> bool:
        """Whether a gap was found wider than in the reference."""
        return any(bool(window["drifted"].any()) for window in self.windows)

    def set_reference(self, y_pred: Any, sensitive_features: Any, y_true: Any = None) -> None:
        """Give the decisions that later ones are compared with, such as the certification rows.

        Without this the first window with two groups of ``min_rows`` is the reference. Groups that
        the reference does not know, or knows by fewer rows, are not asked whether they drifted.

        Parameters
        ----------
        y_pred, sensitive_features, y_true
            As in :meth:`update`.
        """
        if self.windows:
            raise InvalidParameterError("the reference must be set before the first window.")
        self._reference = self._measured(self._read(y_pred, sensitive_features, y_true))

    def update(self, y_pred: Any, sensitive_features: Any, y_true: Any = None) -> pd.DataFrame:
        """Look at one window.

        Parameters
        ----------
        y_pred : array-like of shape (n,)
            Decisions, or probabilities of favourable ones.
        sensitive_features : frame, series, mapping, array or list of n rows
            Who. Groups are known by name, so windows may lack some or bring new ones.
        y_true : array-like of shape (n,), optional
            What happened; needed by notions that condition on it.

        Returns
        -------
        DataFrame
            A row a constraint and rate: ``window``, ``constraint``, ``rate``, ``rows``, ``gap``
            with ``lower`` and ``upper`` (95 %, of this window; a ratio for ratio bounds),
            ``gap_all`` (of all windows, each weighted by its rows), ``highest``, ``lowest``,
            ``bound``, ``broken``, ``drifted``, ``new_groups``, and ``rows_needed`` in the smallest
            group to tell a gap of half the bound from a broken one, where no group pair has rows
            enough to be compared or the interval does not tell.
        """
        found = self._measured(self._read(y_pred, sensitive_features, y_true))
        number = len(self.windows) + 1
        share = self.alpha * 6 / (np.pi**2 * number**2) / (6 * len(found))
        new = [name for name in next(iter(found.values())).rows if name not in self._known]
        rows = []
        for key, counts in found.items():
            total = self._total.setdefault(key, _Record())
            total.take(counts)
            rows.append(
                {
                    "window": number,
                    **self._row(key, counts, total, share),
                    "new_groups": ", ".join(new) if number > 1 else "",
                }
            )
            if key not in self._reference and len(counts.names(self.min_rows)) > 1:
                self._reference[key] = counts  # the first window that can be compared with
        self._known |= dict.fromkeys(new, number)
        table = pd.DataFrame(rows)
        self.windows.append(table)
        return table

    def explain(self) -> str:
        """Say in plain words what was seen and what to do."""
        if not self.windows:
            return "No window yet."
        history = self.history
        alarms = history[history["broken"] | history["drifted"]]
        if not len(alarms):
            blind = int(history["gap"].isna().groupby(history["window"]).all().sum())
            more = f" {blind} of them had too few rows to compare groups." if blind else ""
            return f"{len(self.windows)} windows, no alarm.{more}"
        first = alarms.iloc[0]
        what = "broke its bound" if first["broken"] else "is wider than in the reference"
        return (
            f"{first['constraint']} {what} in window {first['window']}: {first['rate']} of "
            f"{first['highest']!r} and {first['lowest']!r} at {first['gap']:.3f} "
            f"({first['lower']:.3f} to {first['upper']:.3f}; bound {first['bound']:g}). Find out "
            "what changed, and retrain or recalibrate on fresh rows before going on."
        )

    def _read(self, y_pred: Any, sensitive_features: Any, y_true: Any) -> Rows:
        dependent = [c.name for c in self._asked if any(r.event is not None for r in c.rates)]
        if y_true is None and dependent:
            raise InvalidDataError(f"y_true is missing: {dependent[0]} conditions on it.")
        return Rows.read_decided(
            y_true,
            y_pred,
            sensitive_features,
            positive_label=self.positive_label,
            missing=self.missing,
        )

    def _measured(self, rows: Rows) -> dict[Key, _Counts]:
        found: dict[Key, _Counts] = {}
        for number, constraint in enumerate(self._asked):
            groups = rows.groups.over(constraint.over)
            for rate in constraint.rates:
                cells = measure_cells(rows, rate, groups)
                counts = _Counts()
                counts.add(groups.names, np.nan_to_num(cells.mean) * cells.total, cells.total)
                found[number, rate.name] = counts
        return found

    def _row(self, key: Key, counts: _Counts, total: _Record, share: float) -> dict[str, Any]:
        constraint = self._asked[key[0]]
        is_ratio, bound = constraint.kind == "ratio", constraint.bound
        names, low, high, value, ends = self._compared(counts, is_ratio, 0.05)
        whole = self._compared(total, is_ratio, 0.05)
        worst = [self._worst(part, is_ratio, share) for part in (counts, total)]
        broken = [w < bound if is_ratio else w > bound for w in worst]
        drifted = self._drifted(key, (counts, total), is_ratio, share)
        # Where only the whole record tells, its groups are the ones to name.
        shown, at = (names, ends) if names and not (broken[1] and not broken[0]) else (
            whole[0], whole[4]
        )  # fmt: skip
        return {
            "constraint": constraint.name,
            "rate": key[1].replace("_", " "),
            "rows": int(sum(counts.rows.values())),
            "gap": value,
            "lower": low,
            "upper": high,
            "gap_all": whole[3],
            "highest": shown[at[0]] if shown else "",
            "lowest": shown[at[1]] if shown else "",
            "bound": bound,
            "broken": any(broken),
            "drifted": drifted,
            "rows_needed": np.nan if any(broken) else self._needed(counts, constraint),
        }

    def _drifted(
        self, key: Key, parts: tuple[_Counts, _Counts], is_ratio: bool, share: float
    ) -> bool:
        """Whether the gap among groups that the reference knows has certainly widened."""
        reference = self._reference.get(key)
        if reference is None:
            return False
        # One sample, used in every window: it spends its third of alpha once.
        spent = self.alpha / (3 * len(self._total))
        for part in parts:
            among = set(reference.names(self.min_rows)) & set(part.names(self.min_rows))
            known = self._compared(reference, is_ratio, spent, among)
            now = self._worst(part, is_ratio, share, among)
            if (now < known[1]) if is_ratio else (now > known[2]):
                return True
        return False

    def _compared(
        self,
        counts: _Counts,
        is_ratio: bool,
        alpha: float,
        among: Collection[str] | None = None,
    ) -> tuple[list[str], float, float, float, tuple[int, int]]:
        """Names, limits, estimate and extreme groups; NaN where fewer than two can be compared."""
        names, mean, rows = counts.arrays(self.min_rows, among)
        if len(names) < 2:
            return [], np.nan, np.nan, np.nan, (-1, -1)
        interval = ratio_interval if is_ratio else gap_interval
        found = interval(mean, rows, 1 - alpha)
        ends = int(found.highest), int(found.lowest)
        return names, float(found.lower), float(found.upper), float(found.estimate), ends

    def _worst(
        self,
        counts: _Counts,
        is_ratio: bool,
        alpha: float,
        among: Collection[str] | None = None,
    ) -> float:
        """The limit on the far side of the estimate from the bound: what is certain by now."""
        _, low, high, _, _ = self._compared(counts, is_ratio, alpha, among)
        return high if is_ratio else low

    def _needed(self, counts: _Counts, constraint: Constraint) -> float:
        names, mean, rows = counts.arrays(1)
        if len(names) < 2:
            return np.nan
        is_ratio = constraint.kind == "ratio"
        room = ((1 - constraint.bound) if is_ratio else constraint.bound) / 2
        needed = rows_needed(mean, rows, max(room, 1e-4), 0.95, ratio=is_ratio)
        return float(np.max(needed)) if bool((needed > rows).any()) else np.nan


def _columns(counts: _Counts) -> tuple[Floats, Floats]:
    return np.array(list(counts.sums.values())), np.array(list(counts.rows.values()))
