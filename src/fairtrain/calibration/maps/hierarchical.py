"""One logistic map a group, each shrunk towards what the group shares with others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from fairtrain.calibration.cells import Cells
from fairtrain.calibration.logistic import information, log_likelihood

__all__ = ["Hierarchy", "fit_hierarchy"]

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]

PRIOR_LEVELS = 0.3
PRIOR_VARIANCE = 0.01
SMALLEST_SLOPE = 0.05

# Around the identity: standard deviations 10 and 3.
_OVERALL_PRECISION = np.array([0.01, 0.1])
_LARGEST_VARIANCE = 25.0

_ROUNDS = 60
_EM_STEPS = 10


@dataclass(frozen=True, eq=False)
class Hierarchy:
    r"""Effects of attribute levels and intersections on intercept and slope.

    .. math:: \operatorname{logit} q = \Bigl(a_0 + \sum_e a_e\Bigr)
              + \Bigl(b_0 + \sum_e b_e\Bigr) (x - \bar x)

    Attributes
    ----------
    centre : float
        Mean logit of all rows, at which intercepts are measured.
    overall : ndarray of shape (2,)
        Intercept and slope shared by everyone.
    levels : tuple of ndarrays of shape (L_j, 2)
        Effects of the levels of each attribute.
    own : ndarray of shape (G, 2)
        Effects of the intersections; none (all 0) with a single attribute.
    variances : ndarray of shape (K + 1, 2)
        Variance of the effects of each attribute and, last, of the intersections.
    spread : ndarray of shape (G, 2, 2)
        Posterior covariance of each group's intercept and slope.
    n_iter : int
        Newton steps taken.
    """

    centre: float
    overall: Floats
    levels: tuple[Floats, ...]
    own: Floats
    variances: Floats
    spread: Floats
    n_iter: int

    def coefficients(self, level_codes: Codes, group: Codes | None = None) -> Floats:
        """Intercept at logit 0 and slope of rows or groups, shape (m, 2).

        Parameters
        ----------
        level_codes : ndarray of shape (m, K)
            Level of every attribute; -1, a level never seen, adds nothing.
        group : ndarray of shape (m,), optional
            Intersection; -1, one never seen, adds nothing.
        """
        found = np.tile(self.overall, (len(level_codes), 1))
        for j, effects in enumerate(self.levels):
            known = level_codes[:, j] >= 0
            found[known] += effects[level_codes[known, j]]
        if group is not None:
            found[group >= 0] += self.own[group[group >= 0]]
        found[:, 1] = np.maximum(found[:, 1], SMALLEST_SLOPE)
        found[:, 0] -= found[:, 1] * self.centre
        return found


def fit_hierarchy(
    cells: Cells,
    level_codes: Codes,
    sizes: Sequence[int],
    *,
    prior_levels: float = PRIOR_LEVELS,
    prior_variance: float = PRIOR_VARIANCE,
) -> Hierarchy:
    r"""Fit all groups together; how far each is shrunk is learned from the groups themselves.

    The effects of an attribute (and those of the intersections) are draws from
    :math:`N(0, \tau^2)`, with a variance of its own for intercepts and for slopes. Posterior mode
    by damped Newton steps (undamped ones diverge on separated groups), variances by EM under the
    Laplace approximation, held back from 0 and from too much by ``prior_levels`` made-up levels
    of variance ``prior_variance``. What everyone shares has a prior too, of standard deviation 10
    in the intercept and 3 in the slope around the identity, which only a handful of rows notice.

    Each step passes once over the cells; everything else is 2 x 2 algebra on groups, the
    intersections eliminated first, so memory is linear in groups.

    Parameters
    ----------
    cells : Cells
        Rows as sums, groups being the intersections.
    level_codes : ndarray of int64, shape (G, K)
        Level of every attribute in each group.
    sizes : sequence of K ints
        Number of levels of each attribute.
    prior_levels, prior_variance : float
        Strength and centre of the prior of the variances.

    References
    ----------
    Empirical Bayes for generalised linear mixed models: Breslow and Clayton (1993), JASA 88, 9-25;
    Platt (1999) for the map of one group.
    """
    return _Fit(cells, level_codes, sizes, prior_levels, prior_variance).run()


class _Fit:
    """State of one fit."""

    def __init__(
        self,
        cells: Cells,
        level_codes: Codes,
        sizes: Sequence[int],
        prior_levels: float,
        prior_variance: float,
    ) -> None:
        self.cells = cells
        self.prior = (prior_levels, prior_variance)
        total = cells.weight.sum()
        self.centre = float(cells.weight @ cells.x / total) if total else 0.0
        self.x = cells.x - self.centre
        # With a single attribute its levels are the intersections.
        self.sizes = list(sizes) if len(sizes) > 1 else []
        offsets = np.cumsum([1, *self.sizes])
        self.columns = [
            offset + level_codes[:, j] for j, offset in enumerate(offsets[: len(self.sizes)])
        ]
        self.columns.insert(0, np.zeros(cells.size, dtype=np.int64))
        self.width = int(offsets[-1])
        self.attribute = np.repeat(np.arange(len(self.sizes)), self.sizes)
        self.shared = np.zeros((self.width, 2))
        self.identity = np.array([self.centre, 1.0])
        self.shared[0] = self.identity
        self.own = np.zeros((cells.size, 2))
        self.variances = np.full((len(self.sizes) + 1, 2), 0.1)

    def run(self) -> Hierarchy:
        self._look(self._of(self.shared, self.own))
        spread = np.zeros((self.cells.size, 2, 2))
        rounds = 0
        for _ in range(_ROUNDS):
            rounds += 1
            before = self.found
            shared, own, spread = self._target()
            self._move(shared, own)
            if np.abs(self.found - before).max() < 1e-5:
                break
        levels = np.split(self.shared[1:], np.cumsum(self.sizes)[:-1]) if self.sizes else []
        return Hierarchy(
            self.centre,
            self.shared[0],
            tuple(levels),
            self.own,
            self.variances,
            spread,
            rounds,
        )

    def _of(self, shared: Floats, own: Floats) -> Floats:
        """Intercept and slope of every group."""
        return np.asarray(own + sum(shared[column] for column in self.columns))

    def _look(self, found: Floats) -> None:
        """Pass over the cells: likelihood, gradient and information of each group."""
        cells, x = self.cells, self.x
        eta = found[cells.group, 0] + found[cells.group, 1] * x
        q = expit(eta)
        residual = cells.events - cells.weight * q
        self.found = found
        self.likelihood = float(log_likelihood(cells, eta, cells.events).sum())
        self.gradient = np.stack([cells.sums(residual), cells.sums(residual * x)], axis=1)
        ones = np.ones_like(x)
        self.information = information(cells, (ones, x), cells.weight * q * (1 - q))

    def _target(self) -> tuple[Floats, Floats, Floats]:
        """Mode of the quadratic approximation here, its variances moved by EM."""
        H = self.information
        pull = np.einsum("gij,gj->gi", H, self.found) + self.gradient
        for _ in range(_EM_STEPS):
            T = np.diag(self.variances[-1])
            shrink = np.linalg.inv(np.eye(2) + H @ T)
            A = shrink @ H  # information that is left once the intersection's effect is integrated
            c = np.einsum("gij,gj->gi", shrink, pull)
            covariance: Floats = np.linalg.inv(self._normal(A)).astype(np.float64)
            pulled = self._gathered(c)
            pulled[0] += _OVERALL_PRECISION * self.identity
            shared = (covariance @ pulled.ravel()).reshape(-1, 2)
            mean = self._of(shared, np.zeros_like(c))
            own = (c - np.einsum("gij,gj->gi", A, mean)) * self.variances[-1]
            around = self._around(covariance)
            kept = np.eye(2) - T @ A
            spread: Floats = np.asarray(T - T @ A @ T + T @ A @ around @ A @ T, dtype=np.float64)
            whole = kept @ around @ kept.transpose(0, 2, 1) + T - T @ A @ T
            self._learn_variances(shared, own, covariance, spread)
        return shared, own, whole

    def _normal(self, A: Floats) -> Floats:
        """Precision matrix of the shared effects, rows and columns (effect, intercept or slope)."""
        N = np.zeros((self.width, self.width, 2, 2))
        for p in self.columns:
            for q in self.columns:
                np.add.at(N, (p, q), A)
        N[np.arange(1, self.width), np.arange(1, self.width)] += (
            np.eye(2) / self.variances[self.attribute][:, None, :]
        )
        N[0, 0] += np.diag(_OVERALL_PRECISION)
        return N.transpose(0, 2, 1, 3).reshape(2 * self.width, 2 * self.width)

    def _gathered(self, c: Floats) -> Floats:
        found = np.zeros((self.width, 2))
        for column in self.columns:
            np.add.at(found, column, c)
        return found

    def _around(self, covariance: Floats) -> Floats:
        """Covariance of each group's sum of shared effects, shape (G, 2, 2)."""
        S = covariance.reshape(self.width, 2, self.width, 2)
        found = np.zeros((self.cells.size, 2, 2))
        for p in self.columns:
            for q in self.columns:
                found += S[p, :, q, :]
        return found

    def _learn_variances(
        self, shared: Floats, own: Floats, covariance: Floats, spread: Floats
    ) -> None:
        levels, variance = self.prior
        squares = shared[1:] ** 2 + np.diag(covariance).reshape(-1, 2)[1:]
        for j, size in enumerate(self.sizes):
            here = squares[self.attribute == j].sum(0)
            self._set_variance(j, (here + levels * variance) / (size + levels))
        here = (own**2 + np.einsum("gii->gi", spread)).sum(0)
        self._set_variance(-1, (here + levels * variance) / (len(own) + levels))

    def _set_variance(self, j: int, value: Floats) -> None:
        # Steps not yet damped overshoot in separated groups; the variances must not follow.
        self.variances[j] = np.minimum(value, _LARGEST_VARIANCE)

    def _objective(self, shared: Floats, own: Floats) -> float:
        penalty = (shared[1:] ** 2 / self.variances[self.attribute]).sum()
        penalty += (own**2 / self.variances[-1]).sum()
        penalty += (_OVERALL_PRECISION * (shared[0] - self.identity) ** 2).sum()
        return self.likelihood - 0.5 * float(penalty)

    def _move(self, shared: Floats, own: Floats) -> None:
        """Go to the target, or as far towards it as the posterior rises."""
        start, before = self._objective(self.shared, self.own), (self.shared, self.own)
        for halvings in range(25):
            step = 0.5**halvings
            self.shared = before[0] + step * (shared - before[0])
            self.own = before[1] + step * (own - before[1])
            self._look(self._of(self.shared, self.own))
            if self._objective(self.shared, self.own) >= start - 1e-9 * abs(start):
                return
