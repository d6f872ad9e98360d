"""Measures of calibration error, computed for all groups (and all simulated outcomes) at once.

Sorted rows become cells, and every measure, observed or simulated, is a sum over them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import erf, logit

from fairtrain.calibration.cells import CLIP, Codes, Floats, effective
from fairtrain.data.groups import group_sums

__all__ = [
    "MEASURES",
    "Bins",
    "GroupCells",
    "brier_parts",
    "debiased_ece",
    "drawn_events",
    "folded_mean",
    "make_cells",
    "measures_of",
    "smooth_ece",
]


MEASURES = ("ece", "ece_equal_width", "smooth_ece", "mce", "brier", "log_loss")
"""Measures that come with a null quantile and a p-value."""

_FINE = 200
_EXACT_ROWS = 1000
_PSEUDO_ROWS = 2.0
_HALVINGS = 12


@dataclass(frozen=True, eq=False)
class GroupCells:
    """Rows of G groups, pooled where group, bins and (nearly) score agree.

    Attributes
    ----------
    group : ndarray of int64, shape (m,)
        Group of each cell.
    mass, fine : ndarray of int64, shape (m,)
        Its bin of equally many rows, and its place on a fine grid that parts bins of equal width.
    weight, squares : ndarray of shape (m,)
        Sums of the rows' weights and of their squares; both are the number of rows where nothing
        is weighted.
    score, events, square : ndarray of shape (m,)
        Weighted sums of the rows' scores, outcomes and squared scores.
    size, n_bins : int
        Number of groups, and of bins a group.
    """

    group: Codes
    mass: Codes
    fine: Codes
    weight: Floats
    squares: Floats
    score: Floats
    events: Floats
    square: Floats
    size: int
    n_bins: int

    @property
    def n_fine(self) -> int:
        """Places of the fine grid."""
        return _steps(self.n_bins) * self.n_bins

    @cached_property
    def total(self) -> Floats:
        """Sum of weights of each group, shape (G,); NaN without rows."""
        result = self.totals(self.weight)
        return np.where(result > 0, result, np.nan)

    @cached_property
    def mean_score(self) -> Floats:
        """Mean score of each cell."""
        return np.clip(self.score / self.weight, 0.0, 1.0)

    @cached_property
    def bins(self) -> Bins:
        """Bins of equally many rows."""
        weight, squares, score = map(self.by_mass, (self.weight, self.squares, self.score))
        mean = score / np.where(weight > 0, weight, 1.0)
        return Bins(weight, effective(weight, squares), mean, weight / self.total[:, None])

    def totals(self, values: Floats) -> Floats:
        """Sums over each group: (..., m) to (..., G)."""
        return self._gathered(self.group, self.size, values)

    def by_mass(self, values: Floats) -> Floats:
        """Sums over bins of equally many rows: (..., m) to (..., G, bins)."""
        return self._binned(self.mass, self.n_bins, values)

    def by_width(self, values: Floats) -> Floats:
        """Sums over bins of equal width: (..., m) to (..., G, bins)."""
        return self._binned(self.fine // _steps(self.n_bins), self.n_bins, values)

    def by_place(self, values: Floats) -> Floats:
        """Sums over the fine grid: (..., m) to (..., G, places)."""
        return self._binned(self.fine, self.n_fine, values)

    def _binned(self, at: Codes, bins: int, values: Floats) -> Floats:
        result = self._gathered(self.group * bins + at, self.size * bins, values)
        return result.reshape(*values.shape[:-1], self.size, bins)

    def _gathered(self, keys: Codes, size: int, values: Floats) -> Floats:
        if values.ndim == 1:
            return group_sums(values, keys, size)
        ones = np.ones(len(keys))
        matrix = sparse.csr_array((ones, keys, np.arange(len(keys) + 1)), (len(keys), size))
        return np.asarray((matrix.T @ values.T).T)

    def drawn(self, simulations: int, rng: np.random.Generator) -> Floats:
        """Outcomes under perfect calibration, shape (simulations, m).

        Exact for cells of one row; a cell of several draws from the binomial of its effective
        number of rows at its mean score.
        """
        return drawn_events(
            self.weight, effective(self.weight, self.squares), self.mean_score, simulations, rng
        )


@dataclass(frozen=True)
class Bins:
    """Bins of every group, each attribute of shape (G, B).

    Attributes
    ----------
    weight, rows : ndarray
        Sum of weights, and effective number of rows.
    mean : ndarray
        Mean score; 0 in empty bins.
    share : ndarray
        Share of the group's weight.
    """

    weight: Floats
    rows: Floats
    mean: Floats
    share: Floats

    def distance(self, events: Floats) -> Floats:
        """Event rate minus mean score for sums of ``events``, (..., G, B); 0 in empty bins."""
        return np.asarray(events / np.where(self.weight > 0, self.weight, 1.0) - self.mean)

    def noise(self, events: Floats) -> Floats:
        r"""Standard error of the event rate, shape (..., G, B).

        :math:`\sqrt{p (1 - p) / n}` with p the event rate of the bin and two made-up rows at its
        mean score: a bin without events is not free of noise.
        """
        of_weight = self.rows / np.where(self.weight > 0, self.weight, 1.0)
        p = (events * of_weight + _PSEUDO_ROWS * self.mean) / (self.rows + _PSEUDO_ROWS)
        variance = np.clip(p * (1 - p), 0.0, None) / np.maximum(self.rows, 1.0)
        return np.asarray(np.sqrt(variance) * (self.rows > 0))


def drawn_events(
    weight: Floats, rows: Floats, rate: Floats, simulations: int, rng: np.random.Generator
) -> Floats:
    """Weight of the events in ``rows`` (effective) rows at a rate, (simulations, *shape)."""
    count = np.rint(rows).astype(np.int64)
    each = weight / np.maximum(count, 1)
    return each * rng.binomial(count, rate, (simulations, *np.shape(rate)))


def make_cells(
    scores: Floats,
    y: NDArray[Any],
    codes: Codes,
    size: int,
    n_bins: int,
    weight: Floats | None = None,
) -> GroupCells:
    """Make cells of rows sorted by group and score.

    Bins of equal mass hold ranks ``floor(n_bins * rank / n)``, with ranks that count weights, rows
    of one score all in the bin of the first; bins of equal width are [k, k + 1) / n_bins, the last
    one closed. Both are assigned once, here, and never recomputed, so that counts and means always
    speak of the same rows.

    Parameters
    ----------
    scores, y, codes : ndarray of shape (n,)
        Probabilities, outcomes and groups, sorted by group, then score; no code is negative.
    size : int
        Number of groups.
    n_bins : int
        Bins a group. Bins without rows are kept, empty.
    weight : ndarray of shape (n,), optional
        Weights, above 0.
    """
    n = len(scores)
    w = np.ones(n) if weight is None else weight
    total = group_sums(w, codes, size)
    before = np.cumsum(w) - w
    tied = np.append(False, (scores[1:] == scores[:-1]) & (codes[1:] == codes[:-1]))[:n]
    first_of_tie = np.maximum.accumulate(np.where(tied, 0, np.arange(n)))
    start = np.searchsorted(codes, np.arange(size))
    rank = before[first_of_tie] - before[start[codes]]
    mass = np.minimum(np.floor(n_bins * rank / total[codes]), n_bins - 1).astype(np.int64)
    n_fine = _steps(n_bins) * n_bins
    fine = np.minimum((scores * n_fine).astype(np.int64), n_fine - 1)
    changes = (np.diff(codes) != 0) | (np.diff(mass) != 0) | (np.diff(fine) != 0)
    few = np.bincount(codes, minlength=size)[codes] <= _EXACT_ROWS
    at = np.flatnonzero(np.append(True, changes)[:n] | (few & ~tied))
    clipped = np.clip(scores, CLIP, 1 - CLIP)
    pooled, squares, score, events, square = (
        np.add.reduceat(w * values, at) if n else np.zeros(0)
        for values in (np.ones(n), w, scores, np.asarray(y, dtype=np.float64), clipped**2)
    )
    return GroupCells(
        codes[at], mass[at], fine[at], pooled, squares, score, events, square, size, n_bins
    )


def _steps(n_bins: int) -> int:
    """Places of the fine grid in a bin of equal width."""
    return -(-_FINE // n_bins)


def measures_of(cells: GroupCells, events: Floats) -> dict[str, Floats]:
    """All of ``MEASURES``.

    Parameters
    ----------
    cells : GroupCells
        Rows as cells.
    events : ndarray of shape (..., m)
        Outcomes of the cells, observed or simulated.

    Returns
    -------
    dict of str to ndarray of shape (..., G)
        NaN for groups without rows.
    """
    residual = events - cells.score
    bins, in_bins = cells.bins, cells.by_mass(events)
    distance = bins.distance(in_bins)
    width = np.abs(cells.by_width(residual)).sum(-1)
    s = np.clip(cells.mean_score, CLIP, 1 - CLIP)
    cost = -(events * logit(s) + cells.weight * np.log1p(-s))
    return {
        "ece": np.maximum(debiased_ece(bins.share, distance, bins.noise(in_bins)), 0.0),
        "ece_equal_width": width / cells.total,
        "smooth_ece": smooth_ece(cells.by_place(residual) / cells.total[:, None]),
        "mce": np.abs(distance).max(-1),
        "brier": _brier(cells, events),
        "log_loss": cells.totals(cost) / cells.total,
    }


def _brier(cells: GroupCells, events: Floats) -> Floats:
    s = np.clip(cells.mean_score, CLIP, 1 - CLIP)
    return np.asarray(cells.totals(cells.square - 2 * events * s + events) / cells.total)


def folded_mean(distance: Floats, noise: Floats) -> Floats:
    r"""Mean of :math:`|N(d, \sigma^2)|`."""
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(noise > 0, distance / np.where(noise > 0, noise, 1.0), np.inf)
    bell = noise * np.sqrt(2 / np.pi) * np.exp(-0.5 * np.square(z))
    return np.asarray(np.where(noise > 0, bell + distance * erf(z / np.sqrt(2)), np.abs(distance)))


def debiased_ece(share: Floats, distance: Floats, noise: Floats) -> Floats:
    r"""Expected calibration error over bins, less what noise alone adds to it.

    .. math:: \sum_b w_b |d_b| - \sum_b w_b \bigl(E|N(t d_b, \sigma_b^2)| - t |d_b|\bigr),
              \qquad t^2 = \max\Bigl(0, 1 - \frac{\sum w_b \sigma_b^2}{\sum w_b d_b^2}\Bigr)

    The plug-in :math:`\sum w_b |d_b|` is about .19 for 30 perfectly calibrated rows in 10 bins.
    Its bias depends on the true distances; t d, shrunk by the unbiased estimate of their mean
    square, stands in for them. With d itself (t = 1) four tenths of the bias at 0 would remain.

    Parameters
    ----------
    share, distance, noise : ndarray of shape (..., G, B)
        w, d (event rate minus mean score) and its standard error.

    Returns
    -------
    ndarray of shape (..., G)
        Not yet cut at 0.

    References
    ----------
    Kumar, Liang and Ma (2019), "Verified uncertainty calibration", NeurIPS (debiasing); Roelofs,
    Cain, Shlens and Mozer (2022), "Mitigating bias in calibration error estimation", AISTATS
    (bins of equal mass).
    """
    square = (share * distance**2).sum(-1, keepdims=True)
    excess = 1 - (share * noise**2).sum(-1, keepdims=True) / np.maximum(square, 1e-300)
    near = np.sqrt(np.clip(excess, 0.0, 1.0)) * np.abs(distance)
    bias = folded_mean(near, noise) - near
    return np.asarray((share * (np.abs(distance) - bias)).sum(-1))


def smooth_ece(residual: Floats) -> Floats:
    r"""Smooth calibration error.

    :math:`\int_0^1 |(r * K_\sigma)(t)| \, dt` with r the measure that puts
    :math:`(y_i - s_i) / n` at :math:`s_i`, K the Gaussian kernel reflected at 0 and 1, and
    :math:`\sigma` the width at which the integral equals it.

    Parameters
    ----------
    residual : ndarray of shape (..., M)
        r on a grid of M cells of [0, 1].

    Returns
    -------
    ndarray of shape (...)
        In [1/(2M), 1] or 0; NaN where the residual is.

    References
    ----------
    Blasiok and Nakkiran (2023), "Smooth ECE: principled reliability diagrams via kernel smoothing".
    """
    places = residual.shape[-1]
    flat = residual.reshape(-1, places)
    k = np.arange(places)
    # Reflection makes cosines the eigenfunctions of the smoothing.
    waves = np.cos(np.pi * np.outer(k, np.arange(places) + 0.5) / places)
    coefficients = np.nan_to_num(flat) @ waves.T
    coefficients[:, 1:] *= 2
    low = np.full(len(flat), np.log(0.5 / places))
    high = np.zeros(len(flat))

    def smoothed(log_width: Floats) -> Floats:
        used = int(np.ceil(6 / (np.pi * np.exp(log_width.min(initial=0.0))))) + 1
        damping = np.exp(-0.5 * np.square(np.pi * np.exp(log_width)[:, None] * k[:used]))
        curve: Floats = (coefficients[:, :used] * damping) @ waves[:used]
        return np.asarray(np.abs(curve).mean(axis=1))

    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        above = smoothed(middle) > np.exp(middle)
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    value = np.minimum(smoothed(low), np.exp(high))
    value = np.where(np.isnan(flat).any(axis=1), np.nan, value)
    return np.asarray(value.reshape(residual.shape[:-1]))


def brier_parts(cells: GroupCells) -> dict[str, Floats]:
    """Parts of the Brier score over bins of equal mass, each of shape (G,).

    Brier = reliability - resolution + uncertainty + within, where ``within`` is what the spread
    of scores inside bins adds.

    References
    ----------
    Murphy (1973), Journal of Applied Meteorology 12, 595-600.
    """
    bins, events = cells.bins, cells.by_mass(cells.events)
    rate = bins.distance(events) + bins.mean
    base = cells.totals(cells.events) / cells.total
    reliability = (bins.share * bins.distance(events) ** 2).sum(-1)
    resolution = (bins.share * (rate - base[:, None]) ** 2).sum(-1)
    uncertainty = base * (1 - base)
    return {
        "reliability": reliability,
        "resolution": resolution,
        "uncertainty": uncertainty,
        "within": _brier(cells, cells.events) - reliability + resolution - uncertainty,
    }
