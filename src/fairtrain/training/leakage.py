"""What a fresh probe reads about sensitive columns from a representation."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fairtrain.training.readout import VALUE_PROBES, value_leakage_of

__all__ = ["Leakage", "Represented", "in_words", "leakage_of", "leakage_table"]

Floats = NDArray[np.float64]

_FOLDS = 5
_MAX_ROWS = 5000
_NORMAL = 1.959964

PROBES = ("logistic regression", "gradient boosting")


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
    values : ndarray of shape (n, m) or None
        Continuous columns.
    """

    z: Floats
    y: NDArray[Any]
    columns: NDArray[np.int64]
    values: Floats | None = None


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
    kept = np.flatnonzero(np.isin(codes, _large_enough(codes)) & np.isfinite(z).all(axis=1))
    if len(kept) > _MAX_ROWS:
        kept = np.sort(rng.choice(kept, _MAX_ROWS, replace=False))
        kept = kept[np.isin(codes[kept], _large_enough(codes[kept]))]
    z, codes = z[kept], codes[kept]
    names, counts = np.unique(codes, return_counts=True)
    chance = 1 / max(len(names), 1)
    if len(names) < 2:
        return Leakage(np.nan, np.nan, np.nan, chance, len(codes))
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        guessed = cross_val_predict(_probe(probe, seed), z, codes, cv=folds)
    right = np.array([np.sum(guessed[codes == name] == name) for name in names])
    recall, shrunk = right / counts, (right + 2) / (counts + 4)
    shared = 1 + _FOLDS / (_FOLDS - 1)
    deviation = np.sqrt(shared * np.sum(shrunk * (1 - shrunk) / (counts + 4))) / len(names)
    mean = float(recall.mean())
    lower, upper = mean - _NORMAL * deviation, mean + _NORMAL * deviation
    return Leakage(mean, max(float(lower), 0.0), min(float(upper), 1.0), chance, len(codes))


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
        :class:`~fairtrain.training.readout.ValueLeakage`.
    """
    found: list[dict[str, Any]] = []
    for j, name in enumerate(names):
        for which, label in within.items():
            part = np.ones(len(rows.y), dtype=bool) if label is None else rows.y == label
            for probe in PROBES:
                leak = leakage_of(rows.z[part], rows.columns[part, j], probe, seed=seed)
                place = {"model": model, "column": name, "rows": which, "probe": probe}
                found.append({**place, **leak._asdict()})
    for j, name in enumerate(continuous):
        assert rows.values is not None
        for which, label in within.items():
            part = np.ones(len(rows.y), dtype=bool) if label is None else rows.y == label
            for probe in VALUE_PROBES:
                read = value_leakage_of(rows.z[part], rows.values[part, j], probe, seed=seed)
                place = {"model": model, "column": name, "rows": which, "probe": probe}
                found.append({**place, **read._asdict()})
    return pd.DataFrame(found)


def in_words(leakage: pd.DataFrame) -> list[str]:
    """Sentences on the better probe of every column and set of rows."""
    said = []
    for (column, rows), part in leakage.groupby(["column", "rows"], sort=False):
        number = "r2" in part and not part["r2"].isna().all()
        measure, called = ("r2", "R^2") if number else ("balanced_accuracy", "balanced accuracy")
        known = part.dropna(subset=measure)
        if not len(known):
            said.append(f"Too few rows to probe for {column}.")
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
        said.append(f"{text}: it is still readable." if still else f"{text}.")
    return said


def _large_enough(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    names, counts = np.unique(codes[codes >= 0], return_counts=True)
    return np.asarray(names[counts >= _FOLDS])


def _probe(name: str, seed: int) -> Any:
    if name == PROBES[0]:
        return make_pipeline(
            StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=500)
        )
    return HistGradientBoostingClassifier(
        max_iter=50, max_leaf_nodes=15, class_weight="balanced", early_stopping=False,
        random_state=seed,
    )  # fmt: skip
