"""Simulated scores whose miscalibration is known, group by group."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit

from fairtrain._parameters import GENERATOR, MAPPING, NONE, Choice, Real, Where, Whole, checks
from fairtrain.exceptions import InvalidParameterError

__all__ = ["Distortion", "MiscalibratedData", "make_miscalibrated"]

Floats = NDArray[np.float64]
Distortion = Literal["additive", "own", "one", "nonlinear"]

_LEVELS = {"sex": 2, "race": 3, "age": 2}
_SCORE_SPREAD = 1.3  # standard deviation of logit scores


@dataclass(frozen=True, eq=False)
class MiscalibratedData:
    r"""Scores, outcomes and what the scores should have been.

    With :math:`x` the logit of a score, the true probability of a row of group g is

    .. math:: p = \sigma\bigl(a_g + b_g \, (x + c_g \sin(1.5 x))\bigr)

    Attributes
    ----------
    scores : ndarray of shape (n,)
        Miscalibrated probabilities.
    y : ndarray of int64, shape (n,)
        Outcomes, 0 or 1.
    sensitive_features : DataFrame of n rows
        A column for each attribute.
    true_probability : ndarray of shape (n,)
        P(y = 1) of each row.
    groups : DataFrame of G rows
        Levels of every intersection, its ``rows``, and its ``intercept``, ``slope`` and ``wave``:
        a, b and c above.
    """

    scores: Floats
    y: NDArray[np.int64]
    sensitive_features: pd.DataFrame
    true_probability: Floats
    groups: pd.DataFrame

    def __len__(self) -> int:
        return len(self.y)

    @property
    def codes(self) -> NDArray[np.int64]:
        """Row of ``groups`` that each row belongs to, shape (n,)."""
        attributes = list(self.sensitive_features.columns)
        index = pd.MultiIndex.from_frame(self.groups[attributes])
        return np.asarray(
            index.get_indexer(pd.MultiIndex.from_frame(self.sensitive_features)), dtype=np.int64
        )

    def fresh(self, rows_per_group: int = 2000, *, random_state: Any = None) -> MiscalibratedData:
        """Draw new rows from the same groups, equally many from each.

        Parameters
        ----------
        rows_per_group : int, default=2000
            Rows of every group.
        random_state : int or Generator, optional
            Source of chance.
        """
        sizes = np.full(len(self.groups), rows_per_group)
        return _draw(self.groups, sizes, np.random.default_rng(random_state))

    def group_errors(self, probabilities: Any) -> Floats:
        r"""Mean of :math:`|q - p|` in every group, shape (G,).

        Parameters
        ----------
        probabilities : array-like of shape (n,)
            Calibrated probabilities q of these rows.
        """
        distance = np.abs(np.asarray(probabilities, dtype=np.float64) - self.true_probability)
        codes = self.codes
        size = len(self.groups)
        return np.bincount(codes, distance, size) / np.bincount(codes, minlength=size)


@checks(
    n_samples=Whole(1),
    distortion=Where(
        f"be one of {', '.join(get_args(Distortion))}", Choice(*get_args(Distortion)).accepts
    ),
    levels=MAPPING | NONE,
    smallest=Whole(0),
    strength=Real(),
    random_state=Whole(0) | GENERATOR | NONE,
)
def make_miscalibrated(
    n_samples: int = 50_000,
    *,
    distortion: Distortion = "additive",
    levels: Mapping[str, int] | None = None,
    smallest: int = 20,
    strength: float = 1.0,
    random_state: Any = None,
) -> MiscalibratedData:
    """Simulate scores that are miscalibrated in a known way in every intersection of attributes.

    Parameters
    ----------
    n_samples : int, default=50_000
        Rows. The sizes of the groups form a geometric series, in random order.
    distortion : {"additive", "own", "one", "nonlinear"}, default="additive"
        How intercept and slope of the true logit vary: as sums of effects of the attributes'
        levels; independently from group to group; not at all; as sums again, with a wave that
        no logistic map can undo.
    levels : mapping of str to int, optional
        Attributes and their numbers of levels; sex 2, race 3, age 2 by default: 12 groups.
    smallest : int, default=20
        Rows of the smallest group.
    strength : float, default=1.0
        Scales all distortions; 0 makes perfectly calibrated scores.
    random_state : int or Generator, optional
        Source of chance.

    Returns
    -------
    MiscalibratedData

    Raises
    ------
    InvalidParameterError
        If the distortion is unknown or there are too few rows for the groups.

    Examples
    --------
    >>> data = make_miscalibrated(5000, distortion="one", random_state=0)
    >>> data.groups["rows"].agg(["min", "sum"]).tolist()
    [20, 5000]
    >>> fresh = data.fresh(random_state=1)
    >>> float(fresh.group_errors(fresh.true_probability).max())
    0.0
    """
    levels = dict(_LEVELS if levels is None else levels)
    rng = np.random.default_rng(random_state)
    names = [[f"{name}{i}" for i in range(size)] for name, size in levels.items()]
    groups = pd.DataFrame(list(product(*names)), columns=list(levels))
    places = np.array(list(product(*(range(size) for size in levels.values()))))
    sizes = rng.permutation(_sizes(n_samples, len(groups), smallest))
    intercept, log_slope = (
        scale * strength * _effects(distortion, places, list(levels.values()), rng)
        for scale in (1.0, 0.35)
    )
    wave = rng.uniform(0.35, 0.65, len(groups)) if distortion == "nonlinear" else 0.0
    groups["rows"] = sizes
    groups["intercept"] = intercept
    groups["slope"] = np.exp(log_slope)
    groups["wave"] = wave * min(strength, 1.0)
    return _draw(groups, sizes, rng)


def _effects(
    distortion: Distortion, places: NDArray[np.int64], sizes: list[int], rng: np.random.Generator
) -> Floats:
    """Standard effects of the groups, shape (G,)."""
    if distortion == "one":
        return np.full(len(places), 0.56 * rng.choice([-1.0, 1.0]))
    if distortion == "own":
        return 0.85 * rng.standard_normal(len(places))
    drawn = [rng.standard_normal(size)[places[:, i]] for i, size in enumerate(sizes)]
    return np.asarray(np.sum(drawn, axis=0) * 1.15 / np.sqrt(len(sizes)))


def _sizes(total: int, count: int, smallest: int) -> NDArray[np.int64]:
    """Geometric series of group sizes from ``smallest`` up that sums to ``total``."""
    if total < count * smallest:
        raise InvalidParameterError(
            f"n_samples={total} is too small for {count} groups of at least {smallest} rows."
        )
    if count == 1:
        return np.array([total])

    def excess(ratio: float) -> float:
        return float(smallest * np.sum(ratio ** np.arange(count)) - total)

    ratio = brentq(excess, 1.0, (total / smallest) ** (1 / (count - 1)) + 1e-9)
    sizes: NDArray[np.int64] = np.floor(smallest * ratio ** np.arange(count)).astype(np.int64)
    sizes[0] = smallest
    sizes[-1] += total - sizes.sum()
    return sizes


def _draw(
    groups: pd.DataFrame, sizes: NDArray[np.int64], rng: np.random.Generator
) -> MiscalibratedData:
    codes = np.repeat(np.arange(len(groups)), sizes)
    codes = codes[rng.permutation(len(codes))]
    x = rng.normal(0.0, _SCORE_SPREAD, len(codes))
    a, b, c = (groups[name].to_numpy()[codes] for name in ("intercept", "slope", "wave"))
    truth = expit(a + b * (x + c * np.sin(1.5 * x)))
    attributes = [name for name in groups if name not in ("rows", "intercept", "slope", "wave")]
    return MiscalibratedData(
        scores=expit(x),
        y=(rng.uniform(size=len(codes)) < truth).astype(np.int64),
        sensitive_features=groups[attributes].iloc[codes].reset_index(drop=True),
        true_probability=truth,
        groups=groups.assign(rows=sizes),
    )
