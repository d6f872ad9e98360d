"""What a fresh probe reads about sensitive columns, groups or numbers, from a representation."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import KFold, StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

__all__ = [
    "Leakage",
    "Represented",
    "ValueLeakage",
    "in_words",
    "leakage_of",
    "leakage_table",
    "value_leakage_of",
]

Floats = NDArray[np.float64]

_FOLDS = 5
_FEWEST = 20
_MAX_ROWS = 5000
_NORMAL = 1.959964
_SHARED = 1 + _FOLDS / (_FOLDS - 1)
"""Factor of a variance over folds that share training rows (Nadeau & Bengio, 2003)."""
_TREES = {"max_iter": 50, "max_leaf_nodes": 15, "early_stopping": False}

PROBES = ("logistic regression", "gradient boosting")
VALUE_PROBES = ("linear regression", "gradient boosting")


class Represented(NamedTuple):
    """Rows as a module represents them.

    Attributes
    ----------
    z : ndarray of shape (n, d)
        What is read.
    y : ndarray of shape (n,)
        Labels as class numbers, or numbers.
    columns : ndarray of int64, shape (n, k)
        Level of every categorical column; -1 for unknown.
    values : ndarray of shape (n, m)
        Continuous columns.
    """

    z: Floats
    y: NDArray[Any]
    columns: NDArray[np.int64]
    values: Floats


class Leakage(NamedTuple):
    """Balanced accuracy of a probe, with a 95 % interval.

    Attributes
    ----------
    balanced_accuracy, lower, upper : float
        Mean of the groups' recalls, and its limits; NaN where rows are too few.
    chance : float
        What guessing gives: 1 over the number of groups.
    n_rows : int
        Rows that were read.
    """

    balanced_accuracy: float
    lower: float
    upper: float
    chance: float
    n_rows: int


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


Reader = Callable[..., Leakage | ValueLeakage]


def leakage_of(z: Floats, codes: NDArray[np.int64], probe: str, *, seed: int = 0) -> Leakage:
    r"""Let a fresh probe read groups from a representation, cross-validated.

    .. math:: \mathrm{BA} = \frac1G \sum_g r_g, \qquad
              \widehat{\mathrm{Var}} = \Bigl(1 + \frac{K}{K - 1}\Bigr)
              \frac1{G^2} \sum_g \frac{\tilde r_g (1 - \tilde r_g)}{n_g + 4}

    with :math:`r_g` the recall of group g over all K = 5 folds and :math:`\tilde r_g` the same with
    two successes and two failures added (Agresti & Coull, 1998), so that a recall of 1 has a width
    too. The first factor is there because folds share training rows (Nadeau & Bengio, 2003).
    Groups weigh equally in training. (Probes as in Elazar & Goldberg, 2018.)

    Parameters
    ----------
    z : ndarray of shape (n, d)
        Representation.
    codes : ndarray of int64, shape (n,)
        Groups; groups of fewer than 5 rows are left out.
    probe : {"logistic regression", "gradient boosting"}
        Who reads.
    seed : int, default=0
        Deals rows into folds, and draws 5,000 of them where there are more.

    Returns
    -------
    Leakage

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> codes = rng.integers(0, 2, 1000)
    >>> seen = leakage_of(rng.normal(size=(1000, 1)) + codes[:, None], codes, PROBES[0])
    >>> hidden = leakage_of(rng.normal(size=(1000, 1)), codes, PROBES[0])
    >>> bool(seen.lower > seen.chance), bool(hidden.lower > hidden.chance)
    (True, False)
    """
    rng = np.random.default_rng(seed)
    whole = np.isfinite(z).all(axis=1)
    used = _some(np.flatnonzero(np.isin(codes, _large_enough(codes)) & whole), rng)
    used = used[np.isin(codes[used], _large_enough(codes[used]))]
    z, codes = z[used], codes[used]
    names, counts = np.unique(codes, return_counts=True)
    chance = 1 / max(len(names), 1)
    if len(names) < 2:
        return Leakage(np.nan, np.nan, np.nan, chance, len(codes))
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        guessed = cross_val_predict(_group_probe(probe, seed), z, codes, cv=folds)
    right = np.array([np.sum(guessed[codes == name] == name) for name in names])
    recall, shrunk = right / counts, (right + 2) / (counts + 4)
    deviation = np.sqrt(_SHARED * np.sum(shrunk * (1 - shrunk) / (counts + 4))) / len(names)
    mean = float(recall.mean())
    lower, upper = np.clip([mean - _NORMAL * deviation, mean + _NORMAL * deviation], 0.0, 1.0)
    return Leakage(mean, float(lower), float(upper), chance, len(codes))


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
    used = _some(np.flatnonzero(np.isfinite(z).all(axis=1) & np.isfinite(values)), rng)
    z, values = z[used], values[used]
    n = len(values)
    if n < _FEWEST or np.ptp(values) == 0:
        return ValueLeakage(np.nan, np.nan, np.nan, 0.0, n)
    values = (values - values.mean()) / values.std()
    guessed, truth = np.zeros(n), np.zeros(n)
    for train, test in KFold(_FOLDS, shuffle=True, random_state=seed).split(z):
        guess = _value_probe(probe, seed).fit(z[train], values[train]).predict(z[test])
        guessed[test] = guess - guess.mean()
        truth[test] = values[test] - values[test].mean()
    return ValueLeakage(*_signed_square(guessed, truth), 0.0, n)


def leakage_table(
    rows: Represented,
    names: tuple[str, ...],
    *,
    model: str,
    within: dict[str, Any],
    seed: int = 0,
    continuous: tuple[str, ...] = (),
) -> pd.DataFrame:
    """Let every probe read every sensitive column.

    Parameters
    ----------
    rows : Represented
        Rows that no weight was trained on.
    names : tuple of str
        Names of the categorical columns.
    model : str
        What goes into the column ``model``.
    within : dict of str to label or None
        Name -> label of the rows that are read together; None for all rows.
    seed : int, default=0
        Seed of the probes.
    continuous : tuple of str, default=()
        Names of the continuous columns.

    Returns
    -------
    DataFrame
        A row for each column, set of rows and probe: ``model``, ``column``, ``rows``, ``probe``,
        and the fields of :class:`Leakage`, or for a continuous column those of
        :class:`ValueLeakage`.
    """
    columns: list[tuple[str, tuple[str, ...], Reader, NDArray[Any]]] = [
        *((name, PROBES, leakage_of, rows.columns[:, j]) for j, name in enumerate(names)),
        *((n, VALUE_PROBES, value_leakage_of, rows.values[:, j]) for j, n in enumerate(continuous)),
    ]
    table: list[dict[str, Any]] = []
    for (name, probes, reader, column), (which, label) in product(columns, within.items()):
        part = np.full(len(rows.y), True) if label is None else rows.y == label
        for probe in probes:
            leak = reader(rows.z[part], column[part], probe, seed=seed)
            place = {"model": model, "column": name, "rows": which, "probe": probe}
            table.append({**place, **leak._asdict()})
    return pd.DataFrame(table)


def in_words(leakage: pd.DataFrame) -> list[str]:
    """Sentences on the better probe of every column and set of rows."""
    sentences = []
    for (column, rows), part in leakage.groupby(["column", "rows"], sort=False):
        number = "r2" in part and not part["r2"].isna().all()
        measure, called = ("r2", "R^2") if number else ("balanced_accuracy", "balanced accuracy")
        known = part.dropna(subset=measure)
        if not len(known):
            sentences.append(f"Too few rows to probe for {column}.")
            continue
        best = known.loc[known.groupby("model")[measure].idxmax()].set_index("model")
        own = best.loc["debiased"]
        where = "" if rows == "all" else f" on rows with {rows}"
        text = (
            f"A fresh probe ({own['probe']}) reads {column}{where} at {called} "
            f"{own[measure]:.3f} ({own['lower']:.3f} to {own['upper']:.3f}; chance "
            f"{own['chance']:.3f})"
        )
        if "baseline" in best.index:
            without = best.loc["baseline"]
            text += f", and at {without[measure]:.3f} without the adversary"
        still = own["lower"] > own["chance"]
        sentences.append(f"{text}: it is still readable." if still else f"{text}.")
    return sentences


def _signed_square(guessed: Floats, truth: Floats) -> tuple[float, float, float]:
    """Signed R^2 and its limits."""
    deviation = float(guessed.std())
    # A constant guess carries nothing: its interval is that of unrelated numbers.
    a = guessed / deviation if deviation > 1e-9 else np.zeros_like(guessed)
    b = truth / truth.std()
    r = float(np.clip(np.mean(a * b), -1 + 1e-9, 1 - 1e-9))
    psi = a * b - r / 2 * (a**2 + b**2)
    variance = float(np.mean(psi**2)) if deviation > 1e-9 else 1.0
    width = _NORMAL * math.sqrt(_SHARED * variance / len(a)) / (1 - r**2)
    limits = (r, math.tanh(math.atanh(r) - width), math.tanh(math.atanh(r) + width))
    estimate, lower, upper = (value * abs(value) for value in limits)
    return estimate, lower, upper


def _some(rows: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.intp]:
    """At most 5,000 of the rows, in their order."""
    return rows if len(rows) <= _MAX_ROWS else np.sort(rng.choice(rows, _MAX_ROWS, replace=False))


def _large_enough(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    names, counts = np.unique(codes[codes >= 0], return_counts=True)
    return np.asarray(names[counts >= _FOLDS])


def _group_probe(name: str, seed: int) -> Any:
    if name == PROBES[0]:
        return make_pipeline(
            StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=500)
        )
    return HistGradientBoostingClassifier(class_weight="balanced", random_state=seed, **_TREES)


def _value_probe(name: str, seed: int) -> Any:
    if name == VALUE_PROBES[0]:
        return make_pipeline(StandardScaler(), RidgeCV(np.logspace(-3, 3, 7)))
    return HistGradientBoostingRegressor(random_state=seed, **_TREES)
