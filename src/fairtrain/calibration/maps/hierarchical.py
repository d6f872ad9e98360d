"""One logistic map a group, each shrunk towards what the group shares with others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from fairtrain.calibration.cells import Cells, Codes, Floats
from fairtrain.calibration.maps.curvature import Curvature, fit_curvature
from fairtrain.calibration.maps.logistic import information, log_likelihood, score_of
from fairtrain.data.groups import GroupScheme

__all__ = ["HierarchicalMaps", "Hierarchy", "fit_hierarchical", "fit_hierarchy"]


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
    """

    centre: float
    overall: Floats
    levels: tuple[Floats, ...]
    own: Floats
    variances: Floats
    spread: Floats

    def coefficients(self, level_codes: Codes, group: Codes | None = None) -> Floats:
        """Intercept at logit 0 and slope of rows or groups, shape (m, 2).

        Parameters
        ----------
        level_codes : ndarray of shape (m, K)
            Level of every attribute; -1, a level never seen, adds nothing.
        group : ndarray of shape (m,), optional
            Intersection; -1, one never seen, adds nothing.
        """
        estimate = np.tile(self.overall, (len(level_codes), 1))
        for j, effects in enumerate(self.levels):
            known = level_codes[:, j] >= 0
            estimate[known] += effects[level_codes[known, j]]
        if group is not None:
            estimate[group >= 0] += self.own[group[group >= 0]]
        estimate[:, 1] = np.maximum(estimate[:, 1], SMALLEST_SLOPE)
        estimate[:, 0] -= estimate[:, 1] * self.centre
        return estimate


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
    return _Fit(cells, level_codes, sizes, (prior_levels, prior_variance)).run()


@dataclass(frozen=True, eq=False)
class HierarchicalMaps:
    """Shrunk logistic maps, corrected where curvature was found.

    Attributes
    ----------
    hierarchy : Hierarchy
        Effects and variances.
    coefficients : ndarray of shape (G, 2)
        Intercept and slope of every group.
    curvature : Curvature
        Corrections.
    """

    hierarchy: Hierarchy
    coefficients: Floats
    curvature: Curvature

    def __call__(self, x: Floats, codes: Codes) -> Floats:
        """Calibrate logits of rows in groups that were seen."""
        estimate = self.coefficients[codes]
        return self.curvature(estimate[:, 0] + estimate[:, 1] * x, codes)

    def inherited(self, x: Floats, level_codes: Codes) -> Floats:
        """Calibrate rows of intersections never seen by what their levels share with others."""
        estimate = self.hierarchy.coefficients(level_codes)
        nobody = np.full(len(x), -1)
        return self.curvature(estimate[:, 0] + estimate[:, 1] * x, nobody)


def fit_hierarchical(cells: Cells, scheme: GroupScheme) -> HierarchicalMaps:
    """Fit the hierarchy and then what it leaves over."""
    sizes = [len(levels) for levels in scheme.levels]
    hierarchy = fit_hierarchy(cells, scheme.level_codes, sizes)
    coefficients = hierarchy.coefficients(scheme.level_codes, np.arange(cells.size))
    estimate = coefficients[cells.group]
    curvature = fit_curvature(cells, estimate[:, 0] + estimate[:, 1] * cells.x)
    return HierarchicalMaps(hierarchy, coefficients, curvature)


class _Fit:
    """State of one fit."""

    def __init__(
        self, cells: Cells, level_codes: Codes, sizes: Sequence[int], prior: tuple[float, float]
    ) -> None:
        self.cells, self.prior = cells, prior
        total = cells.weight.sum()
        self.centre = float(cells.weight @ cells.x / total) if total else 0.0
        self.x = cells.x - self.centre
        # With a single attribute its levels are the intersections.
        self.sizes = list(sizes) if len(sizes) > 1 else []
        offsets = np.cumsum([1, *self.sizes])
        levels = level_codes[:, : len(self.sizes)] + offsets[:-1]
        self.columns = [np.zeros(cells.size, dtype=np.int64), *levels.T]
        self.width = int(offsets[-1])
        self.attribute = np.repeat(np.arange(len(self.sizes)), self.sizes)
        self.shared = np.zeros((self.width, 2))
        self.identity = np.array([self.centre, 1.0])
        self.shared[0] = self.identity
        self.own = np.zeros((cells.size, 2))
        self.variances = np.full((len(self.sizes) + 1, 2), 0.1)

    def run(self) -> Hierarchy:
        self._evaluate(self._of(self.shared, self.own))
        for _ in range(_ROUNDS):
            before = self.estimate
            shared, own, spread = self._target()
            self._move(shared, own)
            if np.abs(self.estimate - before).max() < 1e-5:
                break
        levels = np.split(self.shared[1:], np.cumsum(self.sizes)[:-1]) if self.sizes else []
        return Hierarchy(
            self.centre, self.shared[0], tuple(levels), self.own, self.variances, spread
        )

    def _of(self, shared: Floats, own: Floats) -> Floats:
        """Intercept and slope of every group."""
        return np.asarray(own + sum(shared[column] for column in self.columns))

    def _evaluate(self, estimate: Floats) -> None:
        """Pass over the cells: likelihood, gradient and information of each group."""
        cells, x = self.cells, self.x
        eta = estimate[cells.group, 0] + estimate[cells.group, 1] * x
        q = expit(eta)
        design = (np.ones_like(x), x)
        self.estimate = estimate
        self.likelihood = float(log_likelihood(cells, eta).sum())
        self.gradient = score_of(cells, design, cells.events - cells.weight * q)
        self.information = information(cells, design, cells.weight * q * (1 - q))

    def _target(self) -> tuple[Floats, Floats, Floats]:
        """Mode of the quadratic approximation here, its variances moved by EM."""
        H = self.information
        target = np.einsum("gij,gj->gi", H, self.estimate) + self.gradient
        for _ in range(_EM_STEPS):
            T = np.diag(self.variances[-1])
            shrink = np.linalg.inv(np.eye(2) + H @ T)
            A = shrink @ H  # information that is left once the intersection's effect is integrated
            c = np.einsum("gij,gj->gi", shrink, target)
            covariance: Floats = np.linalg.inv(self._normal(A)).astype(np.float64)
            gathered = self._gathered(c)
            gathered[0] += _OVERALL_PRECISION * self.identity
            shared = (covariance @ gathered.ravel()).reshape(-1, 2)
            mean = self._of(shared, np.zeros_like(c))
            own = (c - np.einsum("gij,gj->gi", A, mean)) * self.variances[-1]
            around = self._around(covariance)
            retained = np.eye(2) - T @ A
            spread: Floats = np.asarray(T - T @ A @ T + T @ A @ around @ A @ T, dtype=np.float64)
            whole = retained @ around @ retained.transpose(0, 2, 1) + T - T @ A @ T
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
        estimate = np.zeros((self.width, 2))
        for column in self.columns:
            np.add.at(estimate, column, c)
        return estimate

    def _around(self, covariance: Floats) -> Floats:
        """Covariance of each group's sum of shared effects, shape (G, 2, 2)."""
        S = covariance.reshape(self.width, 2, self.width, 2)
        estimate = np.zeros((self.cells.size, 2, 2))
        for p in self.columns:
            for q in self.columns:
                estimate += S[p, :, q, :]
        return estimate

    def _learn_variances(
        self, shared: Floats, own: Floats, covariance: Floats, spread: Floats
    ) -> None:
        levels, variance = self.prior
        squares = shared[1:] ** 2 + np.diag(covariance).reshape(-1, 2)[1:]
        estimate = [squares[self.attribute == j].sum(0) for j in range(len(self.sizes))]
        estimate.append((own**2 + np.einsum("gii->gi", spread)).sum(0))
        counts = np.array([*self.sizes, len(own)])[:, None]
        learned = (np.array(estimate) + levels * variance) / (counts + levels)
        # Steps not yet damped overshoot in separated groups; the variances must not follow.
        self.variances = np.minimum(learned, _LARGEST_VARIANCE)

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
            self._evaluate(self._of(self.shared, self.own))
            if self._objective(self.shared, self.own) >= start - 1e-9 * abs(start):
                return
