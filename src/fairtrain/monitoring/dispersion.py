"""How much more rates move from window to window than independent rows let them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from fairtrain.metrics.intervals.single import two_sided
from fairtrain.monitoring.pooling import Part

__all__ = ["MIN_WINDOWS", "Dispersion", "estimate_dispersion", "is_overdispersed"]

Floats = NDArray[np.float64]

# Of streams of two groups whose rates have an autocorrelation of .9, 16 % gave a false alarm with
# 12 windows and one standard error, 9 % with 12 and two, and 3.6 % with these
# (benchmarks/monitors.py).
MIN_WINDOWS = 20
_MARGIN = 2.0  # standard errors of the autocorrelation
_LONGEST = 64
_USUAL = 0.8  # share of the windows in which a group that is used must be comparable
_CORRELATIONS = np.linspace(0.0, 0.98, 40)


@dataclass(frozen=True)
class Dispersion:
    """Variance of a group's rate between windows, beyond that of independent rows.

    Attributes
    ----------
    variance, correlation : ndarray of shape (...)
        Of one window, and with the next one: an autoregression of order one.
    df : ndarray of shape (...)
        Degrees of freedom of the variance.
    """

    variance: Floats
    correlation: Floats
    df: Floats

    def widened(self, part: Part, windows: int, alpha: float) -> Part:
        """Rows of as many windows, so few that limits at ``alpha`` allow for the dispersion."""
        lag = np.arange(1, windows)
        together = ((1 - lag / windows) * self.correlation[..., None] ** lag).sum(axis=-1)
        between = self.variance * (1 + 2 * together) / windows
        student = (special.stdtrit(self.df, alpha / 2) / two_sided(alpha)) ** 2
        own = np.maximum(part.mean * (1 - part.mean), 1e-9)
        with np.errstate(divide="ignore"):
            rows = 1 / (student[..., None] * (1 / part.rows + between[..., None] / own))
        return replace(part, rows=rows)


def estimate_dispersion(windows: list[Part], min_rows: float) -> Dispersion | None:
    r"""Estimate the dispersion from windows in their order; None of fewer than `MIN_WINDOWS`.

    Residuals are a group's rate minus the mean of all groups in the window, so that what all share
    (a season) is none, minus a straight line over time, so that a slow drift is none either. Their
    variance and lagged covariance, less what independent rows give, determine variance and
    correlation: the line takes with it what a correlated series does slowly, so both are matched
    with their expectations under an autoregression. The correlation is taken two standard errors
    higher, because short series understate their long swings.

    References
    ----------
    Laney (2002), Quality Engineering 14, 531-537 (control charts with variance between windows).
    """
    if len(windows) < MIN_WINDOWS:
        return None
    found = _residuals(windows[-_LONGEST:], min_rows)
    if found is None:
        return None
    residual, chance = found
    length, groups = residual.shape[0], residual.shape[-1]
    square, lagged, df = _expected(length)
    own = (residual**2).sum(axis=(0, -1)) / (groups - 1) - chance * square[0]
    next_ = (residual[1:] * residual[:-1]).sum(axis=(0, -1)) / (groups - 1) - chance * lagged[0]
    some = own > 0
    ratio = np.where(some, next_ / np.where(some, own, 1.0), -np.inf)
    rho = np.interp(ratio, lagged / square, _CORRELATIONS)
    error = np.sqrt((1 - rho**2) / (length * (groups - 1)))
    rho = np.where(some, np.minimum(rho + _MARGIN * error, _CORRELATIONS[-1]), 0.0)
    variance = np.maximum(own, 0.0) / np.interp(rho, _CORRELATIONS, square)
    return Dispersion(variance, rho, np.interp(rho, _CORRELATIONS, df) * (groups - 1))


def is_overdispersed(windows: list[Part], min_rows: float, alpha: float = 0.01) -> bool:
    """Whether rates certainly moved more from window to window than independent rows let them."""
    found = _residuals(windows[-_LONGEST:], min_rows) if len(windows) >= MIN_WINDOWS else None
    if found is None:
        return False
    residual, chance = found
    df = (residual.shape[0] - 2) * (residual.shape[-1] - 1)
    return bool((residual**2).sum() / chance > stats.chi2.isf(alpha, df))


def _residuals(windows: list[Part], min_rows: float) -> tuple[Floats, Floats] | None:
    """Residuals, shape (T, ..., G), of the usual groups where all are there; their variance."""
    has = np.stack([part.has(min_rows) for part in windows])
    there = np.asarray(has.all(axis=tuple(range(1, has.ndim - 1))))
    usual = there.mean(axis=0) >= _USUAL
    whole = there[:, usual].all(axis=1)
    if usual.sum() < 2 or whole.sum() < MIN_WINDOWS:
        return None
    mean, rows = (
        np.stack([getattr(part, name) for part in windows])[whole][..., usual]
        for name in ("mean", "rows")
    )
    apart = mean - mean.mean(axis=-1, keepdims=True)
    line = _line(len(apart))
    residual = apart - np.tensordot(line @ line.T, apart, axes=1)
    return residual, np.asarray((mean * (1 - mean) / rows).mean(axis=(0, -1)))


def _line(length: int) -> Floats:
    """Orthonormal columns: a constant and a slope."""
    time = np.arange(length) - (length - 1) / 2
    return np.stack([np.full(length, length**-0.5), time / np.linalg.norm(time)], axis=1)


@lru_cache(maxsize=128)
def _expected(length: int) -> tuple[Floats, Floats, Floats]:
    """Of residuals from a line, by correlation: sum of squares, of products, degrees of freedom."""
    line, lag = _line(length), np.abs(np.subtract.outer(*[np.arange(length)] * 2))
    rest = np.eye(length) - line @ line.T
    found = []
    for correlation in _CORRELATIONS:
        covariance = rest @ correlation**lag @ rest
        trace = np.trace(covariance)
        found.append((trace, np.trace(covariance, 1), trace**2 / (covariance**2).sum()))
    square, lagged, df = np.array(found).T
    return square, lagged, df
