"""Corrections learned by small boosted trees: for many attributes, or continuous ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit

from fairtrain._imports import require
from fairtrain.calibration.cells import Codes, Floats, Mask, effective
from fairtrain.calibration.multicalibration.columns import ColumnScheme, Settings, binned
from fairtrain.data.rows import Rows

__all__ = ["BoostedShift", "at_knots", "fit_boosted", "rearranged", "scale_of"]

Held = Mask

_KNOTS = 20
_LEARNING_RATE = 0.1
_STANDARD_ERRORS = 2.0
"""A round is kept if held-out log loss falls by more than so many of its standard errors."""
_PREDICTED_AT_ONCE = 1 << 21


@dataclass(frozen=True, eq=False)
class BoostedShift:
    """What is added to a logit, given the columns of its row: trees as text, and no row.

    Trees see only bins: of the starting logit, and of the columns. For given columns they are
    thus a table over the bins of the logit, which is made rising and interpolated.

    Attributes
    ----------
    columns : ColumnScheme
        How columns are read.
    edges, knots : ndarray of shape (K - 1,), (K,)
        Bins of the starting logit, and the mean logit of each.
    steps : tuple of dict
        ``trees``, ``scale`` (what they were multiplied by) and held-out ``gain`` in log loss.
    models : tuple of str
        The trees of each round, as LightGBM writes them.
    """

    columns: ColumnScheme
    edges: Floats
    knots: Floats
    steps: tuple[dict[str, Any], ...] = ()
    models: tuple[str, ...] = field(default=(), repr=False)

    def __call__(self, x: Floats, columns: dict[str, NDArray[Any]]) -> Floats:
        """Logits to add to rows; none where a category was never seen."""
        codes, known = self.columns.encode(columns)
        result = np.zeros(len(x))
        if self.models and known.any():
            result[known] = self._known(x[known], codes[known])
        return result

    def _known(self, x: Floats, codes: Codes) -> Floats:
        distinct, row = _distinct(codes)
        boosters = [require("lightgbm", extra="boosting").Booster(model_str=m) for m in self.models]
        size = max(1, _PREDICTED_AT_ONCE // len(self.knots))
        tables = [
            self._table(boosters, distinct[start : start + size])
            for start in range(0, len(distinct), size)
        ]
        return at_knots(np.concatenate(tables), row, x, self.knots)

    def _table(self, boosters: list[Any], distinct: Codes) -> Floats:
        """Logits to add at every knot, for rows of column codes, shape (m, K)."""
        table = np.zeros((len(distinct), len(self.knots)))
        for booster, done in zip(boosters, self.steps, strict=True):
            raw = done["scale"] * _at_every_knot(booster, distinct, len(self.knots))
            table = rearranged(table + raw, self.knots)
        return table


def fit_boosted(
    rows: Rows,
    columns: dict[str, NDArray[Any]],
    scheme: ColumnScheme,
    held: Held,
    settings: Settings,
    seed: int,
) -> BoostedShift:
    """Boost trees on top of calibrated logits, in a few rounds.

    Each round starts from what the last one left: trees are added until held-out log loss stops
    falling, multiplied by the factor of at most 1 that suits held-out rows best, and made rising
    in the score. A round that gains nothing beyond chance is dropped, and is the last.

    Parameters
    ----------
    rows : Rows
        ``X`` holds starting logits, ``y`` 0 or 1.
    columns : dict of str to ndarray of shape (n,)
        What trees may split on besides the logit.
    scheme : ColumnScheme
        How columns are read.
    held : ndarray of bool, shape (n,)
        Rows that decide on stopping and scaling.
    settings : Settings
        The rest.
    seed : int
        For what chance LightGBM needs.

    References
    ----------
    Boosting as multicalibration: Globus-Harris et al. (2023), "Multicalibration as boosting for
    regression", ICML; rounds with a factor each: Perini et al. (2025), "MCGrad". Rising by
    rearrangement: Chernozhukov, Fernandez-Val and Galichon (2009), Biometrika 96, 559-575.
    """
    x, y, w = rows.X, rows.outcomes, rows.weights
    w = w * (w.sum() / (w**2).sum())  # they sum to the effective number of rows
    edges, bins = binned(x, _KNOTS)
    knots = np.bincount(bins, x) / np.bincount(bins)
    codes, _ = scheme.encode(columns)
    distinct, row = _distinct(codes)
    matrix = np.column_stack([bins, codes]).astype(np.float32)
    table = np.zeros((len(distinct), len(knots)))
    rounds: list[dict[str, Any]] = []
    models: list[str] = []
    for number in range(settings.rounds if settings.max_iter else 0):
        now = x + at_knots(table, row, x, knots)
        fitting, judging = ((matrix[part], y[part], now[part], w[part]) for part in (~held, held))
        booster = _boost(fitting, judging, scheme.categorical, settings, seed + number)
        if not booster.num_trees():
            break
        raw = _at_every_knot(booster, distinct, len(knots))
        scale = scale_of(now[held], at_knots(raw, row, x, knots)[held], y[held], w[held])
        after = rearranged(table + scale * raw, knots)
        then = x + at_knots(after, row, x, knots)
        gains = (_losses(now, y) - _losses(then, y))[held]
        gain = float(np.average(gains, weights=w[held]))
        spread = np.sqrt(np.average((gains - gain) ** 2, weights=w[held]))
        n = effective(w[held].sum(), (w[held] ** 2).sum())
        if not gain > _STANDARD_ERRORS * spread / np.sqrt(n):
            break
        table = after
        rounds.append({"trees": booster.num_trees(), "scale": scale, "gain": gain})
        models.append(booster.model_to_string())
    return BoostedShift(scheme, edges, knots, tuple(rounds), tuple(models))


_Part = tuple[NDArray[np.float32], Floats, Floats, Floats]
"""Bins and codes, outcomes, starting logits and weights of some rows."""


def _boost(
    fitting: _Part, judging: _Part, categorical: Sequence[bool], settings: Settings, seed: int
) -> Any:
    """Trees up to the best held-out log loss."""
    lightgbm = require("lightgbm", extra="boosting")
    q = expit(np.concatenate([fitting[2], judging[2]]))
    options = {
        "objective": "binary",
        "learning_rate": _LEARNING_RATE,
        "num_leaves": settings.num_leaves,
        "min_data_in_leaf": settings.min_rows,
        "min_data_per_group": settings.min_rows,
        "min_sum_hessian_in_leaf": 1e-3,
        # So that it counts as so many rows, whatever the event rate.
        "lambda_l2": settings.shrinkage * float((q * (1 - q)).mean()),
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        "feature_pre_filter": False,
        "verbosity": -1,
    }
    places = [j + 1 for j, named in enumerate(categorical) if named]

    def dataset(part: _Part, reference: Any = None) -> Any:
        matrix, y, start, weight = part
        return lightgbm.Dataset(
            matrix,
            y,
            weight=None if (weight == 1).all() else weight,
            init_score=start,
            categorical_feature=places,
            reference=reference,
            params=options,
        )

    train = dataset(fitting)
    stop = lightgbm.early_stopping(settings.patience, verbose=False)
    booster = lightgbm.train(
        options, train, settings.max_iter, valid_sets=[dataset(judging, train)], callbacks=[stop]
    )
    best = booster.model_to_string(num_iteration=booster.best_iteration)
    return lightgbm.Booster(model_str=best)


def _at_every_knot(booster: Any, distinct: Codes, knots: int) -> Floats:
    """Sum of the trees at all bins of the logit, for rows of column codes, shape (m, K)."""
    bins = np.tile(np.arange(knots), len(distinct))
    matrix = np.column_stack([bins, np.repeat(distinct, knots, axis=0)]).astype(np.float32)
    return np.asarray(booster.predict(matrix, raw_score=True)).reshape(len(distinct), knots)


def rearranged(table: Floats, knots: Floats) -> Floats:
    """Sort ``knots + table`` within rows, so that a higher logit never ends up lower.

    Parameters
    ----------
    table : ndarray of shape (m, K)
        Logits to add at each knot.
    knots : ndarray of shape (K,)
        Logits, ascending.

    Returns
    -------
    ndarray of shape (m, K)
        Logits to add after which the sum ascends; nearer to any rising curve than before
        (Chernozhukov et al., 2009).
    """
    return np.asarray(np.sort(knots + table, axis=1) - knots)


def at_knots(table: Floats, row: Codes, x: Floats, knots: Floats) -> Floats:
    """Interpolate row ``row[i]`` of a table at ``x[i]``; end values hold beyond the knots."""
    place = np.interp(x, knots, np.arange(len(knots)))
    left = np.minimum(place.astype(np.int64), max(len(knots) - 2, 0))
    right = np.minimum(left + 1, len(knots) - 1)
    share = place - left
    return np.asarray((1 - share) * table[row, left] + share * table[row, right])


def scale_of(start: Floats, added: Floats, y: NDArray[Any], weight: Any = 1.0) -> float:
    """Factor in [0, 1] by which added logits give the smallest log loss."""

    def loss(scale: float) -> float:
        return float((weight * _losses(start + scale * added, y)).sum())

    return float(minimize_scalar(loss, bounds=(0.0, 1.0), method="bounded").x)


def _losses(logits: Floats, y: NDArray[Any]) -> Floats:
    return np.asarray(np.logaddexp(0.0, logits) - y * logits)


def _distinct(codes: Codes) -> tuple[Codes, Codes]:
    """Distinct rows of codes, and the place of each row among them."""
    distinct, row = np.unique(codes, axis=0, return_inverse=True)
    return distinct, row.reshape(-1)
