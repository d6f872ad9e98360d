"""Gaps between groups in windows of fresh decisions: whether a bound broke or fairness drifted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pandas as pd

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
from fairtrain.constraints import Constraint, ConstraintSpec, as_constraints, refuse_given
from fairtrain.constraints.rates import SELECTION_RATE, Rate
from fairtrain.data import inputs
from fairtrain.data.groups import Missing
from fairtrain.data.rows import Rows
from fairtrain.exceptions import InvalidDataError, InvalidParameterError
from fairtrain.metrics.intervals import gap_interval, ratio_interval, rows_needed
from fairtrain.metrics.measures import measure_cells
from fairtrain.monitoring.waiting import Waiting

__all__ = ["FairnessMonitor"]

Key = tuple[int, str]


@dataclass
class _Record:
    r"""All windows so far, each with one weight for all groups: its rows.

    The mean of group g is :math:`\sum_t w_t r_{gt} / W`; a sum of rows would let groups that come
    at different times look unequal where no window treats them so (Simpson's paradox). A group that
    a window lacks is given the rate of that window, which widens no gap.
    """

    weight: float = 0.0
    overall: float = 0.0
    spread: float = 0.0
    groups: pd.DataFrame = field(
        default_factory=lambda: pd.DataFrame(columns=["mean", "variance", "count"], dtype=float)
    )

    def take(self, window: pd.DataFrame) -> None:
        """Add a window's means and counts."""
        n = float(window["count"].sum())
        if not n:
            return
        rate = float((window["mean"] * window["count"]).sum()) / n
        names = [*self.groups.index, *window.index.difference(self.groups.index, sort=False)]
        before = self.groups.reindex(names)
        count = window["count"].reindex(names, fill_value=0.0)
        mean = window["mean"].reindex(names).where(count > 0, rate)
        variance = n**2 / count.where(count > 0, n)  # of the sum of n times the mean
        self.groups = pd.DataFrame(
            {
                "mean": before["mean"].fillna(self.overall) + n * mean,
                "variance": before["variance"].fillna(self.spread) + variance,
                "count": before["count"].fillna(0.0) + count,
            }
        )
        self.weight, self.overall = self.weight + n, self.overall + n * rate
        self.spread += n

    @property
    def means(self) -> pd.DataFrame:
        """Weighted means and effective rows, in the form of a window."""
        rows = self.weight**2 / self.groups["variance"]
        mean = self.groups["mean"] / max(self.weight, 1.0)
        return pd.DataFrame({"mean": mean, "rows": rows, "count": self.groups["count"]})


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

    Labels may come late: :meth:`update` takes ``ids`` then, and judges what needs no label at once;
    :meth:`add_labels` judges the rest, as a window of its own. Until then the monitor holds the id,
    decision and sensitive values of each row whose label has not come, and nothing of any other
    row. ``fairtrain.save`` and ``load`` keep a monitor with all of that, counts of small groups
    included, so that it goes on where it was.

    Parameters
    ----------
    constraints : Constraint, str, or list of these, default="demographic_parity"
        What is watched. Notions that condition on labels need them. Groups of weight 0 are left
        out. A bound around the overall rate, as fairlearn's, is watched as the bound between two
        groups that it implies: twice as wide, or the square of a ratio.
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
        What :meth:`update` and :meth:`add_labels` returned, all windows.
    n_waiting : int
        Rows whose labels have not come.

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
    _constraints: tuple[Constraint, ...] = field(default=(), repr=False)
    _total: dict[Key, _Record] = field(default_factory=dict, repr=False)
    _reference: dict[Key, pd.DataFrame] = field(default_factory=dict, repr=False)
    _known: list[str] = field(default_factory=list, repr=False)
    _waiting: Waiting = field(default_factory=Waiting, repr=False)

    def __post_init__(self) -> None:
        check_parameters(self)
        self._constraints = as_constraints(
            self.constraints, difference_bound=self.difference_bound, ratio_bound=self.ratio_bound
        )
        refuse_given(
            self._constraints,
            "a monitor compares groups over all people of a window",
            "one monitor for each stratum, or fairness_report on a window",
        )
        if bad := [c.name for c in self._constraints if c.absolute]:
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

    @property
    def n_waiting(self) -> int:
        """Rows whose labels have not come."""
        return len(self._waiting)

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
        self._require_labels(y_true)
        self._reference = self._measured(self._read(y_pred, sensitive_features, y_true))

    def update(
        self, y_pred: Any, sensitive_features: Any, y_true: Any = None, *, ids: Any = None
    ) -> pd.DataFrame:
        """Look at one window.

        Parameters
        ----------
        y_pred : array-like of shape (n,)
            Decisions, or probabilities of favourable ones.
        sensitive_features : frame, series, mapping, array or list of n rows
            Who. Groups are known by name, so windows may lack some or bring new ones.
        y_true : array-like of shape (n,), optional
            What happened; needed by notions that condition on it.
        ids : array-like of shape (n,), optional
            Names of the rows, by which :meth:`add_labels` finds those whose label comes later.

        Returns
        -------
        DataFrame
            A row a constraint and rate that could be judged: ``window``, ``constraint``, ``rate``,
            ``rows``, ``gap`` with ``lower`` and ``upper`` (95 %, of this window; a ratio for ratio
            bounds), ``gap_all`` (of all windows, each weighted by its rows), ``highest``,
            ``lowest``, ``bound``, ``broken``, ``drifted``, ``new_groups``, ``kind`` of bound, and
            ``rows_needed`` in the smallest group to tell a gap of half the bound from a broken one,
            where no group pair has rows enough to be compared or the interval does not tell.
        """
        if ids is None:
            self._require_labels(y_true)
        inputs.require_same_index(y_pred=y_pred, ids=ids)
        rows = self._read(y_pred, sensitive_features, y_true)
        measured = self._measured(rows)
        if ids is not None and y_true is None:
            self._waiting.add(ids, y_pred, rows.sensitive)
        return self._judged(measured)

    def add_labels(self, ids: Any, y_true: Any) -> pd.DataFrame:
        """Look at rows of earlier windows whose labels have come, as at one more window.

        Labels that come early may be of other people than those that come late: what is seen here
        is about the rows whose labels came.

        Parameters
        ----------
        ids : array-like of shape (n,)
            Which rows, as named in :meth:`update`.
        y_true : array-like of shape (n,)
            What happened.

        Returns
        -------
        DataFrame
            As from :meth:`update`, of the rates that need labels.

        Raises
        ------
        InvalidDataError
            If an id waits for no label, or is named twice.
        """
        inputs.require_same_index(ids=ids, y_true=y_true)
        decisions, who = self._waiting.decided(ids)
        read = self._read(decisions, who, inputs.as_vector(y_true, "y_true"))
        table = self._judged(self._measured(read, late=True))
        self.forget(ids)
        return table

    def forget(self, ids: Any) -> None:
        """Drop rows whose labels will not come; ids that do not wait are passed over."""
        self._waiting.forget(ids)

    def plot(self, ax: Any = None) -> Any:
        """Draw the windows; see :func:`fairtrain.plotting.plot_monitor`."""
        from fairtrain.plotting import plot_monitor

        return plot_monitor(self.history, ax)

    def _judged(self, measured: Mapping[Key, pd.DataFrame]) -> pd.DataFrame:
        """Judge one window."""
        if not measured:
            return pd.DataFrame()
        number = len(self.windows) + 1
        share = self.alpha * 6 / (np.pi**2 * number**2) / (6 * len(measured))
        new = [name for name in next(iter(measured.values())).index if name not in self._known]
        rows = []
        for key, window in measured.items():
            total = self._total.setdefault(key, _Record())
            total.take(window)
            row = self._row(key, window, total.means, share)
            named = ", ".join(new) if number > 1 else ""
            rows.append({"window": number, **row, "new_groups": named})
            if key not in self._reference and len(self._comparable(window)) > 1:
                self._reference[key] = window  # the first window that can be compared with
        self._known += new
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

    def _require_labels(self, y_true: Any) -> None:
        dependent = [c.name for c in self._constraints if any(map(_needs_labels, c.rates))]
        if y_true is None and dependent:
            raise InvalidDataError(
                f"y_true is missing: {dependent[0]} conditions on it. If it comes later, give "
                "update(..., ids=...) names of the rows, and add_labels(ids, y_true) the labels."
            )

    def _read(self, y_pred: Any, sensitive_features: Any, y_true: Any) -> Rows:
        settings: dict[str, Any] = {"positive_label": self.positive_label, "missing": self.missing}
        return Rows.read_decided(y_true, y_pred, sensitive_features, **settings)

    def _measured(self, rows: Rows, *, late: bool = False) -> dict[Key, pd.DataFrame]:
        """Means and counts of every rate that the rows tell; only of those that wait if late."""
        measured: dict[Key, pd.DataFrame] = {}
        for number, constraint in enumerate(self._constraints):
            groups = rows.groups.over(constraint.over)
            given = dict(constraint.weights or ())  # of groups that may come in other windows
            judged = [given.get(name, 1.0) > 0 for name in groups.names]
            for rate in constraint.rates:
                if (late or rows.y is None) and _needs_labels(rate) != late:
                    continue
                cells = measure_cells(rows, rate, groups)
                columns = {"mean": np.nan_to_num(cells.mean), "rows": cells.total}
                table = pd.DataFrame(columns, index=list(groups.names))[judged]
                measured[number, rate.name] = table.assign(count=table["rows"])
        return measured

    def _row(
        self, key: Key, window: pd.DataFrame, total: pd.DataFrame, share: float
    ) -> dict[str, Any]:
        constraint = self._constraints[key[0]]
        is_ratio, bound = constraint.kind == "ratio", _pairwise_bound(constraint)
        own, whole = (self._compared(part, is_ratio, 0.05) for part in (window, total))
        worst = [self._worst(part, is_ratio, share) for part in (window, total)]
        broken = [w < bound if is_ratio else w > bound for w in worst]
        # Where only the whole record tells, its groups are the ones to name.
        shown = own if own.highest and not (broken[1] and not broken[0]) else whole
        return {
            "constraint": constraint.name,
            "rate": key[1].replace("_", " "),
            "rows": int(window["count"].sum()),
            "gap": own.gap,
            "lower": own.lower,
            "upper": own.upper,
            "gap_all": whole.gap,
            "highest": shown.highest,
            "lowest": shown.lowest,
            "bound": bound,
            "broken": any(broken),
            "drifted": self._drifted(key, (window, total), is_ratio, share),
            "kind": constraint.kind,
            "rows_needed": np.nan if any(broken) else _rows_needed(window, constraint),
        }

    def _drifted(
        self, key: Key, parts: tuple[pd.DataFrame, pd.DataFrame], is_ratio: bool, share: float
    ) -> bool:
        """Whether the gap among groups that the reference knows has certainly widened."""
        if key not in self._reference:
            return False
        reference = self._comparable(self._reference[key])
        # One sample, used in every window: it spends its third of alpha once.
        spent = self.alpha / (3 * sum(len(c.rates) for c in self._constraints))
        for part in parts:
            known = reference[reference.index.isin(self._comparable(part).index)]
            before = self._compared(known, is_ratio, spent)
            now = self._worst(part[part.index.isin(known.index)], is_ratio, share)
            if (now < before.lower) if is_ratio else (now > before.upper):
                return True
        return False

    def _comparable(self, part: pd.DataFrame) -> pd.DataFrame:
        """Groups with rows enough."""
        return part[part["count"] >= self.min_rows]

    def _compared(self, part: pd.DataFrame, is_ratio: bool, alpha: float) -> _Gap:
        """Gap among the groups with rows enough; NaN where fewer than two can be compared."""
        part = self._comparable(part)
        if len(part) < 2:
            return _Gap()
        interval = ratio_interval if is_ratio else gap_interval
        found = interval(part["mean"].to_numpy(), part["rows"].to_numpy(), 1 - alpha)
        limits = float(found.estimate), float(found.lower), float(found.upper)
        return _Gap(*limits, part.index[int(found.highest)], part.index[int(found.lowest)])

    def _worst(self, part: pd.DataFrame, is_ratio: bool, alpha: float) -> float:
        """The limit on the far side of the estimate from the bound: what is certain by now."""
        gap = self._compared(part, is_ratio, alpha)
        return gap.upper if is_ratio else gap.lower


class _Gap(NamedTuple):
    """Gap between the extreme groups, with its limits."""

    gap: float = np.nan
    lower: float = np.nan
    upper: float = np.nan
    highest: str = ""
    lowest: str = ""


def _needs_labels(rate: Rate) -> bool:
    return rate != SELECTION_RATE


def _pairwise_bound(constraint: Constraint) -> float:
    """The bound between two groups; one around the overall rate implies a wider one."""
    if getattr(constraint, "reference", "pairwise") == "pairwise":
        return constraint.bound
    return constraint.bound**2 if constraint.kind == "ratio" else 2 * constraint.bound


def _rows_needed(window: pd.DataFrame, constraint: Constraint) -> float:
    seen = window[window["count"] >= 1]
    if len(seen) < 2:
        return np.nan
    is_ratio = constraint.kind == "ratio"
    bound = _pairwise_bound(constraint)
    room = ((1 - bound) if is_ratio else bound) / 2
    mean, rows = seen["mean"].to_numpy(), seen["rows"].to_numpy()
    needed = rows_needed(mean, rows, max(room, 1e-4), 0.95, ratio=is_ratio)
    return float(np.max(needed)) if bool((needed > rows).any()) else np.nan
