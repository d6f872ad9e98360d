"""Measures of calibration error, computed for all groups (and all simulated outcomes) at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf, logit

from fairtrain.calibration.audit.binning import GroupCells
from fairtrain.calibration.cells import CLIP

__all__ = [
    "MEASURES",
    "brier_parts",
    "debiased_ece",
    "folded_mean",
    "measures_of",
    "noise_of",
    "smooth_ece",
]

Floats = NDArray[np.float64]

MEASURES = ("ece", "ece_equal_width", "smooth_ece", "mce", "brier", "log_loss")
"""Measures that come with a null quantile and a p-value."""

_PSEUDO_ROWS = 2.0
_HALVINGS = 12


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
    share, distance = _bin_distances(cells, residual)
    noise = noise_of(cells, cells.by_mass(events))
    width = np.abs(cells.by_width(residual)).sum(-1)
    n = np.where(cells.count > 0, cells.count, np.nan)
    s = np.clip(cells.mean_score, CLIP, 1 - CLIP)
    cost = -(events * logit(s) + cells.rows * np.log1p(-s))
    brier = cells.square - 2 * events * s + events
    return {
        "ece": np.maximum(debiased_ece(share, distance, noise), 0.0),
        "ece_equal_width": width / n,
        "smooth_ece": smooth_ece(cells.by_place(residual) / n[:, None]),
        "mce": np.abs(distance).max(-1),
        "brier": cells.totals(brier) / n,
        "log_loss": cells.totals(cost) / n,
    }


def _bin_distances(cells: GroupCells, residual: Floats) -> tuple[Floats, Floats]:
    """Shares of rows, (G, B), and event rate minus mean score, (..., G, B); 0 in empty bins."""
    rows = cells.by_mass(cells.rows.astype(np.float64))
    with np.errstate(invalid="ignore"):
        share = rows / cells.count[:, None]
    return share, cells.by_mass(residual) / np.maximum(rows, 1.0)


def noise_of(cells: GroupCells, events: Floats) -> Floats:
    r"""Standard error of the event rate of bins with ``events``, shape (..., G, B) both.

    :math:`\sqrt{p (1 - p) / n}` with p the event rate of the bin and two made-up rows at its mean
    score: a bin without events is not free of noise.
    """
    rows = cells.by_mass(cells.rows.astype(np.float64))
    score = cells.by_mass(cells.score)
    safe = np.maximum(rows, 1.0)
    p = (events + _PSEUDO_ROWS * score / safe) / (rows + _PSEUDO_ROWS)
    return np.asarray(np.sqrt(np.clip(p * (1 - p), 0.0, None) / safe) * (rows > 0))


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
        damping = np.exp(-0.5 * np.square(np.pi * np.exp(log_width)[:, None] * k))
        used = int(np.ceil(6 / (np.pi * np.exp(log_width.min(initial=0.0))))) + 1
        curve: Floats = (coefficients * damping)[:, :used] @ waves[:used]
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
    share, distance = _bin_distances(cells, cells.events - cells.score)
    rows = np.maximum(cells.by_mass(cells.rows.astype(np.float64)), 1.0)
    rate = cells.by_mass(cells.events) / rows
    n = np.where(cells.count > 0, cells.count, np.nan)
    base = cells.totals(cells.events) / n
    reliability = (share * distance**2).sum(-1)
    resolution = (share * (rate - base[:, None]) ** 2).sum(-1)
    uncertainty = base * (1 - base)
    brier = measures_of_brier(cells) / n
    return {
        "reliability": reliability,
        "resolution": resolution,
        "uncertainty": uncertainty,
        "within": brier - reliability + resolution - uncertainty,
    }


def measures_of_brier(cells: GroupCells) -> Floats:
    """Sum of squared distances between outcomes and scores, shape (G,)."""
    s = np.clip(cells.mean_score, CLIP, 1 - CLIP)
    return cells.totals(cells.square - 2 * cells.events * s + cells.events)
