"""What a fresh probe reads about a continuous sensitive column from a representation."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

__all__ = ["VALUE_PROBES", "ValueLeakage", "value_leakage_of"]

Floats = NDArray[np.float64]

_FOLDS = 5
_FEWEST = 20
_MAX_ROWS = 5000
_NORMAL = 1.959964

VALUE_PROBES = ("linear regression", "gradient boosting")


class ValueLeakage(NamedTuple):
    """R^2 of a probe on rows it did not see, with a 95 % interval.

    Attributes
    ----------
    r2, lower, upper : float
        Squared correlation of predictions and column, with the correlation's sign, and its limits;
        NaN where rows are too few.
    chance : float
        What guessing gives: 0.
    n_rows : int
        Rows that were read.
    """

    r2: float
    lower: float
    upper: float
    chance: float
    n_rows: int


def value_leakage_of(z: Floats, values: Floats, probe: str, *, seed: int = 0) -> ValueLeakage:
    r"""Let a fresh probe predict a number from a representation, cross-validated.

    With predictions for K = 5 folds left out in turn, r the correlation of predictions and values,
    both taken from their mean in the fold,

    .. math:: R^2 = r\,|r|, \qquad \operatorname{arctanh} r \pm 1.96
              \sqrt{\Bigl(1 + \frac{K}{K - 1}\Bigr) \frac{\overline{\psi^2}}{n (1 - r^2)^2}},
              \qquad \psi = ab - \tfrac r2 (a^2 + b^2)

    with a and b the two standardised (the correlation's influence function: no normal distribution
    is assumed; Devlin, Gnanadesikan & Kettenring, 1975). The first factor is there because folds
    share training rows (Nadeau & Bengio, 2003). An R^2 of squared errors would punish a probe that
    finds nothing for its noise and be below 0 where there is nothing to find; this one is 0 there.

    Parameters
    ----------
    z : ndarray of shape (n, d)
        Representation.
    values : ndarray of shape (n,)
        The column, in any unit.
    probe : {"linear regression", "gradient boosting"}
        Who reads: ridge regression, its penalty chosen inside, or trees.
    seed : int, default=0
        Deals rows into folds, and draws 5,000 of them where there are more.

    Returns
    -------
    ValueLeakage

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> age = rng.normal(40, 10, 1000)
    >>> noise = rng.normal(size=(1000, 1))
    >>> seen = value_leakage_of(noise + age[:, None] / 10, age, VALUE_PROBES[0])
    >>> hidden = value_leakage_of(noise, age, VALUE_PROBES[0])
    >>> seen.lower > 0.4, hidden.lower <= 0 <= hidden.upper
    (True, True)
    """
    rng = np.random.default_rng(seed)
    kept = np.flatnonzero(np.isfinite(z).all(axis=1) & np.isfinite(values))
    if len(kept) > _MAX_ROWS:
        kept = np.sort(rng.choice(kept, _MAX_ROWS, replace=False))
    z, values = z[kept], values[kept]
    n = len(values)
    if n < _FEWEST or np.ptp(values) == 0:
        return ValueLeakage(np.nan, np.nan, np.nan, 0.0, n)
    values = (values - values.mean()) / values.std()
    guessed, truth = np.zeros(n), np.zeros(n)
    for train, test in KFold(_FOLDS, shuffle=True, random_state=seed).split(z):
        found = _probe(probe, seed).fit(z[train], values[train]).predict(z[test])
        guessed[test] = found - found.mean()
        truth[test] = values[test] - values[test].mean()
    return ValueLeakage(*_signed_square(guessed, truth), 0.0, n)


def _signed_square(guessed: Floats, truth: Floats) -> tuple[float, float, float]:
    """Signed R^2 and its limits."""
    deviation = float(guessed.std())
    # A constant guess carries nothing: its interval is that of unrelated numbers.
    a = guessed / deviation if deviation > 1e-9 else np.zeros_like(guessed)
    b = truth / truth.std()
    r = float(np.clip(np.mean(a * b), -1 + 1e-9, 1 - 1e-9))
    psi = a * b - r / 2 * (a**2 + b**2)
    variance = float(np.mean(psi**2)) if deviation > 1e-9 else 1.0
    shared = 1 + _FOLDS / (_FOLDS - 1)
    width = _NORMAL * math.sqrt(shared * variance / len(a)) / (1 - r**2)
    limits = (r, math.tanh(math.atanh(r) - width), math.tanh(math.atanh(r) + width))
    estimate, lower, upper = (value * abs(value) for value in limits)
    return estimate, lower, upper


def _probe(name: str, seed: int) -> Any:
    if name == VALUE_PROBES[0]:
        return make_pipeline(StandardScaler(), RidgeCV(np.logspace(-3, 3, 7)))
    return HistGradientBoostingRegressor(
        max_iter=50, max_leaf_nodes=15, early_stopping=False, random_state=seed
    )
