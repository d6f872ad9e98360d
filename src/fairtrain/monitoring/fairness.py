"""Gaps between groups in windows of fresh decisions: whether a bound broke or fairness drifted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import pandas as pd

from fairtrain._parameters import (
    ANYTHING,
    DIFFERENCE,
    MISSING,
    NONE,
    RATIO,
    Choice,
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
from fairtrain.metrics.intervals import rows_needed
from fairtrain.metrics.measures import measure_cells
from fairtrain.monitoring.alarms import Alarm, look
from fairtrain.monitoring.dispersion import MIN_WINDOWS, is_overdispersed
from fairtrain.monitoring.pooling import Part, WindowSequence
from fairtrain.monitoring.waiting import Waiting

__all__ = ["FairnessMonitor"]

Key = tuple[int, str]
Measured = tuple[list[str], Part]


@dataclass
class FairnessMonitor:
    r"""Watch gaps between groups over windows of fresh decisions.

    Two questions are asked of every window, of blocks of 2, 4, 8 and 16 windows, and of all windows
    so far together (the first sees a sudden break, the others slow ones). *Broken*: does the lower
    confidence limit of the gap, which allows for the choice of the widest pair, lie beyond the
    bound? *Drifted*: does it lie beyond the upper limit of the gap in the reference? Half of alpha
    belongs to the first question and a quarter to the second; the reference, which is used again
    and again, spends the last quarter once. Rates and lengths of blocks share what a question has,
    and every look spends a part of that: a quarter of it goes to early looks, the rest is spread
    over about a hundred windows, with no end. All parts sum to alpha, so that over any number of
    windows the chance of one false alarm is at most alpha, up to the accuracy of the intervals.
    Windows must be disjoint sets of rows.

    That is so for rows that are independent. Where rates move from window to window by themselves
    (clients that bring many rows, decisions in batches, a state of the market that lasts) false
    alarms become likely, and ``dispersion="estimated"`` is the remedy: limits are then widened by
    what earlier windows varied beyond chance, and by how long that lasts. A season that all groups
    share needs no remedy.

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
    dispersion : {"binomial", "estimated"}, default="binomial"
        How much rates vary between windows without a change: as independent rows do, or as the
        earlier windows show; the latter needs twenty of them before the first alarm.

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
        "dispersion": Choice("binomial", "estimated"),
    }

    constraints: ConstraintSpec = "demographic_parity"
    difference_bound: float | None = None
    ratio_bound: float | None = None
    alpha: float = 0.05
    min_rows: int = 30
    positive_label: Any = None
    missing: Missing = "error"
    dispersion: Literal["binomial", "estimated"] = "binomial"
    windows: list[pd.DataFrame] = field(default_factory=list, repr=False)
    _constraints: tuple[Constraint, ...] = field(default=(), repr=False)
    _sequences: dict[Key, WindowSequence] = field(default_factory=dict, repr=False)
    _reference: dict[Key, Part] = field(default_factory=dict, repr=False)
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

    def set_reference(
        self, y_pred: Any, sensitive_features: Any, y_true: Any = None, *, clusters: Any = None
    ) -> None:
        """Give the decisions that later ones are compared with, such as the certification rows.

        Without this the first window with two groups of ``min_rows`` is the reference. Groups that
        the reference does not know, or knows by fewer rows, are not asked whether they drifted.

        Parameters
        ----------
        y_pred, sensitive_features, y_true, clusters
            As in :meth:`update`.
        """
        if self.windows:
            raise InvalidParameterError("the reference must be set before the first window.")
        self._require_labels(y_true)
        measured = self._measured(self._read(y_pred, sensitive_features, y_true, clusters))
        self._reference = {
            key: self._sequence(key).named(names, part) for key, (names, part) in measured.items()
        }

    def update(
        self,
        y_pred: Any,
        sensitive_features: Any,
        y_true: Any = None,
        *,
        ids: Any = None,
        clusters: Any = None,
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
            Names of the rows, by which :meth:`add_labels` finds those whose label comes later; with
            ``y_true`` no label comes later.
        clusters : array-like of shape (n,), optional
            Which rows belong together: those of a client, a branch, a judge. Limits then rest on
            how much clusters differ. Clusters of two windows are taken for different ones; of those
            that come in every window, what is found is true of them and not of others.

        Returns
        -------
        DataFrame
            A row a constraint and rate that could be judged: ``window``, ``constraint``, ``rate``,
            ``rows``, ``gap`` with ``lower`` and ``upper`` (95 %, of this window; a ratio for ratio
            bounds), ``gap_all`` (of all windows, each weighted by its rows), ``highest``,
            ``lowest``, ``bound``, ``broken``, ``drifted``, ``together`` (how many newest windows
            had to be pooled for the alarm; 0 without one), ``new_groups``, ``kind`` of bound, and
            ``rows_needed`` in the smallest group to tell a gap of half the bound from a broken one,
            where no group pair has rows enough to be compared or the interval does not tell.
        """
        if ids is None:
            self._require_labels(y_true)
        elif y_true is not None:
            raise InvalidParameterError(
                "ids name rows whose labels come later, and y_true gives these labels now; leave "
                "out one of the two."
            )
        inputs.require_same_index(y_pred=y_pred, ids=ids)
        rows = self._read(y_pred, sensitive_features, y_true, clusters)
        measured = self._measured(rows)
        if ids is not None:
            self._waiting.add(ids, y_pred, rows.sensitive, clusters)
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
        decisions, who, clusters = self._waiting.decided(ids)
        read = self._read(decisions, who, inputs.as_vector(y_true, "y_true"), clusters)
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

    def _sequence(self, key: Key) -> WindowSequence:
        return self._sequences.setdefault(key, WindowSequence())

    def _judged(self, measured: Mapping[Key, Measured]) -> pd.DataFrame:
        """Judge one window."""
        if not measured:
            return pd.DataFrame()
        number = len(self.windows) + 1
        new = [name for name in next(iter(measured.values()))[0] if name not in self._known]
        rows = []
        for key, (names, part) in measured.items():
            window = self._sequence(key).named(names, part)
            row = self._row(key, window, self._sequence(key).take(window))
            named = ", ".join(new) if number > 1 else ""
            rows.append({"window": number, **row, "new_groups": named})
            if key not in self._reference and window.has(self.min_rows).sum() > 1:
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
            return f"{len(self.windows)} windows, no alarm.{self._silent(history)}"
        first = alarms.iloc[0]
        what = "broke its bound" if first["broken"] else "is wider than in the reference"
        pooled = first["together"]
        told = f" (told by {pooled} windows together)" if pooled > 1 else ""
        return (
            f"{first['constraint']} {what} in window {first['window']}{told}: {first['rate']} of "
            f"{first['highest']!r} and {first['lowest']!r} at {first['gap']:.3f} "
            f"({first['lower']:.3f} to {first['upper']:.3f}; bound {first['bound']:g}). Find out "
            "what changed, and retrain or recalibrate on fresh rows before going on."
            f"{self._doubt()}"
        )

    def _silent(self, history: pd.DataFrame) -> str:
        """Why there may have been nothing to hear."""
        blind = int(history["gap"].isna().groupby(history["window"]).all().sum())
        more = f" {blind} of them had too few rows to compare groups." if blind else ""
        if self.dispersion == "estimated" and len(self.windows) <= MIN_WINDOWS:
            more += f" The first {MIN_WINDOWS} show the dispersion, and raise none."
        return more

    def _doubt(self) -> str:
        """A word of warning where the rows were taken for independent and cannot have been."""
        sequences = self._sequences.values()
        if self.dispersion == "estimated" or not any(
            is_overdispersed(s.before(0), self.min_rows) for s in sequences
        ):
            return ""
        return (
            " Rates vary between windows by more than independent rows do, by a change or all the "
            'time; if they always do, the alarm may be false: use dispersion="estimated".'
        )

    def _require_labels(self, y_true: Any) -> None:
        dependent = [c.name for c in self._constraints if any(map(_needs_labels, c.rates))]
        if y_true is None and dependent:
            raise InvalidDataError(
                f"y_true is missing: {dependent[0]} conditions on it. If it comes later, give "
                "update(..., ids=...) names of the rows, and add_labels(ids, y_true) the labels."
            )

    def _read(self, y_pred: Any, sensitive_features: Any, y_true: Any, clusters: Any) -> Rows:
        settings: dict[str, Any] = {"positive_label": self.positive_label, "missing": self.missing}
        return Rows.read_decided(y_true, y_pred, sensitive_features, clusters=clusters, **settings)

    def _measured(self, rows: Rows, *, late: bool = False) -> dict[Key, Measured]:
        """Every rate that the rows tell, in groups by name; only those that wait if late."""
        measured: dict[Key, Measured] = {}
        for number, constraint in enumerate(self._constraints):
            groups = rows.groups.over(constraint.over)
            given = dict(constraint.weights or ())  # of groups that may come in other windows
            judged = np.array([given.get(name, 1.0) > 0 for name in groups.names])
            names = [name for name in groups.names if given.get(name, 1.0) > 0]
            for rate in constraint.rates:
                if (late or rows.y is None) and _needs_labels(rate) != late:
                    continue
                cells = measure_cells(rows, rate, groups)
                df = None if cells.design is None else cells.design.df
                part = Part(np.nan_to_num(cells.mean), cells.effective, cells.total, df)
                measured[number, rate.name] = names, part.of(judged)
        return measured

    def _row(self, key: Key, window: Part, sequence: WindowSequence) -> dict[str, Any]:
        constraint = self._constraints[key[0]]
        kind, bound = constraint.kind, _pairwise_bound(constraint)
        names = sequence.names
        own, whole = (self._gap(part, kind, names) for part in (window, sequence.all))
        alarms = self._alarms(key, sequence)
        broken = [alarm.tested for alarm in alarms if alarm.breaks]
        together = [alarm.tested.windows for alarm in alarms if alarm.breaks or alarm.drifts]
        # Where only rows of several windows tell, their groups are the ones to name.
        alone = not broken or broken[0].windows == 1
        told = whole if not broken else self._gap(broken[0].part, kind, names)
        shown = own if own.highest and alone else told
        return {
            "constraint": constraint.name,
            "rate": key[1].replace("_", " "),
            "rows": int(window.count.sum()),
            "gap": own.gap,
            "lower": own.lower,
            "upper": own.upper,
            "gap_all": whole.gap,
            "highest": shown.highest,
            "lowest": shown.lowest,
            "bound": bound,
            "broken": bool(broken),
            "drifted": any(bool(alarm.drifts) for alarm in alarms),
            "together": min(together, default=0),
            "kind": kind,
            "rows_needed": np.nan if broken else _rows_needed(window, constraint),
        }

    def _alarms(self, key: Key, sequence: WindowSequence) -> list[Alarm]:
        constraint = self._constraints[key[0]]
        return look(
            sequence,
            self._reference.get(key),
            bound=_pairwise_bound(constraint),
            kind=constraint.kind,
            alpha=self.alpha / sum(len(c.rates) for c in self._constraints),
            min_rows=self.min_rows,
            dispersion=self.dispersion,
        )

    def _gap(self, part: Part, kind: str, names: list[str]) -> _Gap:
        """Gap among the groups with rows enough; NaN where fewer than two can be compared."""
        found = part.comparable(self.min_rows).gap(0.05, kind)
        if found.highest < 0:
            return _Gap()
        limits = float(found.estimate), float(found.lower), float(found.upper)
        return _Gap(*limits, names[int(found.highest)], names[int(found.lowest)])


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


def _rows_needed(window: Part, constraint: Constraint) -> float:
    mean, rows = (values[window.count >= 1] for values in (window.mean, window.rows))
    if len(rows) < 2:
        return np.nan
    is_ratio = constraint.kind == "ratio"
    bound = _pairwise_bound(constraint)
    room = ((1 - bound) if is_ratio else bound) / 2
    needed = rows_needed(mean, rows, max(room, 1e-4), 0.95, ratio=is_ratio)
    return float(np.max(needed)) if bool((needed > rows).any()) else np.nan
