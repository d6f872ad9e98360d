"""Watching scores after deployment: windows of fresh outcomes, tests that allow for repetition."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats
from scipy.special import expit

from fairtrain._parameters import MISSING, NONE, Choice, Real, Table, Whole, check_parameters
from fairtrain.calibration.cells import gather
from fairtrain.calibration.intake import as_logits
from fairtrain.calibration.significance import Evidence, adjusted, score_test, statistic_of
from fairtrain.data import inputs
from fairtrain.data.groups import Groups
from fairtrain.exceptions import InvalidDataError

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

    def __post_init__(self) -> None:
        check_parameters(self)

    @property
    def refit(self) -> bool:
        """Whether any group has raised an alarm."""
        return any(bool(window["alarm"].any()) for window in self.history)

    def update(self, scores: Any, y: Any, sensitive_features: Any) -> pd.DataFrame:
        """Test one window.

        Parameters
        ----------
        scores : array-like of shape (n,)
            Calibrated scores as they were used.
        y : array-like of shape (n,)
            What happened: 0 or 1.
        sensitive_features : frame, series, mapping, array or list of n rows
            Who. Groups are known by name, so windows may lack some.

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
        own, counts = Evidence.at(cells, expit(cells.x)), groups.counts
        judged = counts >= self.min_rows
        p_window = np.where(judged, score_test(cells, random_state=rng).p_value, np.nan)
        p_all = np.where(judged, self._cumulative(own, groups.names), np.nan)
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

    def _cumulative(self, window: Evidence, names: tuple[str, ...]) -> Floats:
        """Chi-squared p-values of scores and information summed over all windows."""
        for g, name in enumerate(names):
            self._score[name] = self._score.get(name, np.zeros(2)) + window.score[g]
            known = self._information.get(name, np.zeros((2, 2)))
            self._information[name] = known + window.slope[g]
        information = np.stack([self._information[name] for name in names])
        statistic, df, _ = statistic_of(
            np.stack([self._score[name] for name in names]),
            information,
            np.trace(information, axis1=1, axis2=2),
        )
        return np.asarray(stats.chi2.sf(statistic, np.maximum(df, 1)))

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
