"""Watching scores after deployment: windows of fresh outcomes, tests that allow for repetition."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats
from scipy.special import expit

from fairtrain._parameters import MISSING, NONE, Choice, Real, Table, Whole, check_parameters
from fairtrain.calibration.cells import Cells, gather
from fairtrain.calibration.intake import as_logits
from fairtrain.calibration.significance import Evidence, adjusted, score_test, statistic_of
from fairtrain.constraints.table import CellRows
from fairtrain.data import inputs
from fairtrain.data.groups import Groups
from fairtrain.exceptions import InvalidDataError
from fairtrain.metrics.clusters import LEAST_CLUSTERS, clustered

__all__ = ["CalibrationMonitor"]

Floats = NDArray[np.float64]


@dataclass
class CalibrationMonitor:
    r"""Test calibration of each group in windows of fresh rows, and say when to refit.

    Window t may spend :math:`\alpha_t = \alpha \cdot 6 / (\pi^2 t^2)`, half on the window by
    itself and half on all windows so far: a sudden break shows in the first, a slow drift adds up
    in the second. The shares sum to alpha, so the chance of one false alarm is at most alpha over
    any number of windows; within a window the groups share by Holm's method. Windows must be
    disjoint sets of rows.

    That is so for rows that are independent. Where several belong together, such as those of one
    client, name them with ``clusters``: variances are then taken between clusters, by the design
    effect of outcomes less scores (Rao and Scott, 1992), and Hotelling's F, which allows for their
    number, replaces chi-squared. Clusters of two windows are taken for different ones.

    Parameters
    ----------
    alpha : float, default=0.05
        Chance of a false alarm, ever.
    min_rows : int, default=30
        A group with fewer rows in a window is only counted.
    scale : {"probability", "logit"}, default="probability"
        What scores are.
    missing : {"error", "group"}, default="error"
        What to do with missing sensitive values.
    random_state : int or None
        Draws outcomes where events are few.

    Attributes
    ----------
    history : list of DataFrame
        What :meth:`update` returned, window by window.
    refit : bool
        Whether any group has raised an alarm.

    Examples
    --------
    >>> from fairtrain.datasets import make_miscalibrated
    >>> monitor = CalibrationMonitor()
    >>> for window in range(3):
    ...     calm = make_miscalibrated(3000, strength=0, random_state=window)
    ...     _ = monitor.update(calm.scores, calm.y, calm.sensitive_features)
    >>> monitor.refit
    False
    >>> drifted = make_miscalibrated(3000, random_state=9)
    >>> _ = monitor.update(drifted.scores, drifted.y, drifted.sensitive_features)
    >>> monitor.refit
    True
    """

    _allowed: ClassVar[Table] = {
        "alpha": Real(0, 1, "()"),
        "min_rows": Whole(1),
        "scale": Choice("probability", "logit"),
        "missing": MISSING,
        "random_state": Whole(0) | NONE,
    }

    alpha: float = 0.05
    min_rows: int = 30
    scale: str = "probability"
    missing: str = "error"
    random_state: Any = None
    history: list[pd.DataFrame] = field(default_factory=list, repr=False)
    _score: dict[str, Floats] = field(default_factory=dict, repr=False)
    _information: dict[str, Floats] = field(default_factory=dict, repr=False)
    _freedom: dict[str, float] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        check_parameters(self)

    @property
    def refit(self) -> bool:
        """Whether any group has raised an alarm."""
        return any(bool(window["alarm"].any()) for window in self.history)

    def update(
        self, scores: Any, y: Any, sensitive_features: Any, *, clusters: Any = None
    ) -> pd.DataFrame:
        """Test one window.

        Parameters
        ----------
        scores : array-like of shape (n,)
            Calibrated scores as they were used.
        y : array-like of shape (n,)
            What happened: 0 or 1.
        sensitive_features : frame, series, mapping, array or list of n rows
            Who. Groups are known by name, so windows may lack some.
        clusters : array-like of shape (n,), optional
            Which rows belong together. A group in fewer than ten clusters is only counted.

        Returns
        -------
        DataFrame
            ``window``, ``group``, ``rows``, ``events``, ``gap`` (event rate minus mean score),
            ``p_window`` and ``p_all`` (of the window, and of all so far), ``p_adjusted``
            (Benjamini-Hochberg over groups, of the window), ``level`` (alpha of this window) and
            ``alarm``.
        """
        inputs.require_same_index(scores=scores, y=y, sensitive_features=sensitive_features)
        x = as_logits(scores, self.scale)
        target = inputs.as_float_column(y, "y")
        if not np.isin(target, (0, 1)).all():
            raise InvalidDataError("y must hold 0 and 1.")
        groups = Groups.from_sensitive(
            sensitive_features,
            missing=self.missing,  # type: ignore[arg-type]
        )
        inputs.check_lengths(len(x), y=target, sensitive_features=groups.codes)
        window = len(self.history) + 1
        seed = None if self.random_state is None else [self.random_state, window]
        rng = np.random.default_rng(seed)
        cells = gather(x, target, groups.codes, len(groups))
        freedom = np.full(len(groups), np.inf)
        if (of_cluster := inputs.as_clusters(clusters, len(x))) is not None:
            cells, freedom = _between_clusters(cells, groups, target - expit(x), of_cluster)
        own, counts = Evidence.at(cells, expit(cells.x)), groups.counts
        judged = (counts >= self.min_rows) & (freedom >= LEAST_CLUSTERS - 1)
        test = score_test(cells, random_state=rng)
        wider = np.fmax(test.p_value, _p_value(test.statistic, test.df, freedom))
        p_window = np.where(np.isfinite(freedom), wider, test.p_value)
        p_window = np.where(judged, p_window, np.nan)
        p_all = np.where(judged, self._cumulative(own, freedom, groups.names), np.nan)
        level = self.alpha * 6 / (np.pi**2 * window**2)
        alarm = _holm(p_window, level / 2) | _holm(p_all, level / 2)
        table = pd.DataFrame(
            {
                "window": window,
                "group": list(groups.names),
                "rows": counts,
                "events": cells.sums(cells.events).astype(np.int64),
                "gap": own.score[:, 0] / counts,
                "p_window": p_window,
                "p_all": p_all,
                "p_adjusted": adjusted(p_window),
                "level": level,
                "alarm": alarm,
            }
        )
        self.history.append(table)
        return table

    def _cumulative(self, window: Evidence, freedom: Floats, names: tuple[str, ...]) -> Floats:
        """P-values of scores and their variances summed over all windows."""
        shown = vars(self).setdefault("_freedom", {})  # older folders have none
        for g, name in enumerate(names):
            self._score[name] = self._score.get(name, np.zeros(2)) + window.score[g]
            known = self._information.get(name, np.zeros((2, 2)))
            self._information[name] = known + window.variance[g]
            shown[name] = shown.get(name, 0.0) + freedom[g]
        information = np.stack([self._information[name] for name in names])
        statistic, df, _ = statistic_of(
            np.stack([self._score[name] for name in names]),
            information,
            np.trace(information, axis1=1, axis2=2),
        )
        return _p_value(statistic, df, np.array([shown[name] for name in names]))

    def explain(self) -> str:
        """Say in plain words whether to refit, and for whom."""
        if not self.history:
            return "No window yet."
        alarms = pd.concat(self.history)
        alarms = alarms[alarms["alarm"]]
        if not len(alarms):
            return (
                f"{len(self.history)} windows, no alarm: nothing speaks against the calibration "
                "in use."
            )
        first = alarms.iloc[0]
        who = ", ".join(repr(name) for name in dict.fromkeys(alarms["group"]))
        return (
            f"Refit: first alarm in window {first['window']}, for {first['group']!r} (event rate "
            f"minus mean score {first['gap']:+.3f} on {first['rows']:,} rows). Groups concerned: "
            f"{who}."
        )


def _between_clusters(
    cells: Cells, groups: Groups, residual: Floats, clusters: NDArray[np.int64]
) -> tuple[Cells, Floats]:
    """Cells worth as many rows as their clusters leave, and degrees of freedom of each group."""
    people = CellRows(groups.codes, len(groups), None)
    found = clustered(people, residual[people.rows], clusters[people.rows])
    freedom = np.minimum(found.design.df, found.number - 1)
    return replace(cells, squares=cells.squares * found.effect[cells.group]), freedom


def _p_value(statistic: Floats, df: NDArray[np.int64], freedom: Floats) -> Floats:
    """Hotelling's, of a variance with so many degrees of freedom; chi-squared for infinitely many.

    A group that has fewer than two has shown nothing.
    """
    df = np.maximum(df, 1)
    left = np.where(np.isfinite(freedom), freedom, 1e12) - df + 1
    ratio = statistic * left / ((left + df - 1) * df)
    p = np.where(left > 0, stats.f.sf(ratio, df, np.maximum(left, 1e-9)), 1.0)
    return np.where(np.isfinite(freedom), p, stats.chi2.sf(statistic, df))


def _holm(p_value: Floats, level: float) -> NDArray[np.bool_]:
    """Holm's (1979) step-down rejections; NaN is never rejected."""
    tested = np.flatnonzero(~np.isnan(p_value))
    found = np.zeros(len(p_value), dtype=bool)
    order = tested[np.argsort(p_value[tested], kind="stable")]
    for i, g in enumerate(order):
        if p_value[g] > level / (len(order) - i):
            break
        found[g] = True
    return found
