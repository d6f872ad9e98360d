r"""Gradient and Hessian of a loss with priced group rates. NumPy only; knows no booster.

Boosting minimises, over the margins m of the training rows,

.. math:: \sum_i w_i\, \ell(y_i, m_i) + W \sum_k \pi_k\, r_k(m),\qquad W = \sum_i w_i,

where :math:`r_k` is the mean of a quantity q(y, p) over the rows of cell k (one rate in one group)
at the soft prediction :math:`p = \sigma(m)` and :math:`\pi_k` its price: the derivative of the
Lagrangian in that rate (:meth:`fairtrain.lagrangian.multipliers.Multipliers.prices`). With log loss
and a quantity linear in p the sum is quasi-convex in every margin, and decides for a row when its
probability exceeds 1/2 plus a quarter of its price: the form of the best fair rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_expit

from fairtrain.constraints import BoundedGroupLoss, Constraint, ErrorCosts, Objective
from fairtrain.constraints.objectives import binned
from fairtrain.constraints.rates import Quantity, log_loss, squared_error
from fairtrain.constraints.table import GroupSums, RateTable
from fairtrain.data.groups import group_sums
from fairtrain.lagrangian import RateFamily

__all__ = [
    "GroupSums",
    "Lagrangian",
    "Task",
    "is_probability_loss",
    "predictions",
    "quantity_derivatives",
]

Floats = NDArray[np.float64]
Task = Literal["classification", "regression"]

_LEAST_HESSIAN = 1e-6
_STEP = 1e-4


class Lagrangian:
    """A loss, and group rates as functions of margins, over one set of rows.

    Parameters
    ----------
    families : sequence of RateFamily
        The rates; their cells, one after the other, are what prices belong to.
    y : ndarray of shape (n,)
        Labels, 1 for the favourable one; or values, in regression.
    codes : ndarray of int64, shape (n,)
        Finest group of each row; rows with code -1 are in no rate.
    weight : ndarray of shape (n,), optional
        Weights of the rows.
    task : {"classification", "regression"}, default="classification"
        Log loss of margins, or half the squared error of predictions.
    sums : callable, default=group_sums
        See :data:`~fairtrain.constraints.table.GroupSums`.
    dtype : {float64, float32}, default=float64
        Precision of derivatives; boosters round them to single precision. Sums are always double.

    Attributes
    ----------
    counts : ndarray of shape (n_cells,)
        Effective number of rows behind each rate (Kish); their number where weights are equal.
    totals : ndarray of shape (n_cells,)
        Sum of their weights.
    constant_error : float
        Error of the best constant; in regression the variance of y.

    Examples
    --------
    >>> from fairtrain.constraints import DemographicParity
    >>> from fairtrain.data.groups import Groups
    >>> from fairtrain.lagrangian import families_of
    >>> groups = Groups.from_sensitive(["a", "a", "b", "b"])
    >>> families = families_of([DemographicParity()], groups.scheme)
    >>> rows = Lagrangian(families, np.array([1.0, 0, 1, 0]), groups.codes)
    >>> gradient, _ = rows.derivatives(np.zeros(4), np.array([0.2, -0.2]))
    >>> gradient.tolist()  # the first group is pushed down, the second up
    [-0.4, 0.6, -0.6, 0.4]
    """

    def __init__(
        self,
        families: Sequence[RateFamily],
        y: NDArray[Any],
        codes: NDArray[np.int64],
        weight: Floats | None = None,
        *,
        task: Task = "classification",
        sums: GroupSums = group_sums,
        dtype: Any = np.float64,
    ) -> None:
        self.task = task
        self.y: Floats = np.asarray(y, dtype=dtype)
        self.weight: Floats | None = None if weight is None else np.asarray(weight, dtype=dtype)
        self._sums = sums
        self._everyone = np.zeros(len(self.y), dtype=np.int64)
        ones = np.ones(len(self.y), dtype) if self.weight is None else self.weight
        self.total = float(sums(ones, self._everyone, 1)[0])
        self.table = RateTable(
            families,
            self.y,
            codes,
            self.weight,
            sums=sums,
            linear=[
                task == "classification" and not is_probability_loss(family.constraint)
                for family in families
            ],
        )
        mean = self._mean(self.y)
        variance = max(self._mean((self.y - mean) ** 2), 1e-12)
        self.constant_error = variance if task == "regression" else min(mean, 1 - mean)
        self.counts, self.totals = self.table.effective, self.table.totals
        self.share = mean
        self.loss_weight = self.weight

    def charge(self, costs: ErrorCosts) -> None:
        """Let errors cost differently in the loss, whose weights keep their mean; rates stay."""
        unfavourable, favourable = costs.relative(self.share)
        own = np.where(self.y == 1, favourable, unfavourable).astype(self.y.dtype)
        if not costs.equal:
            self.loss_weight = own if self.weight is None else own * self.weight

    def derivatives(self, margin: Floats, prices: Floats) -> tuple[Floats, Floats]:
        """Gradient and positive Hessian in every margin, each of shape (n,).

        The curvature that prices add is kept where it is positive.

        Parameters
        ----------
        margin : ndarray of shape (n,)
            Log odds; predictions, in regression.
        prices : ndarray of shape (n_cells,)
            Derivative of the Lagrangian in every rate.
        """
        p, first, second = self._link(margin)
        gradient, hessian = p - self.y, first
        if self.loss_weight is not None:
            gradient, hessian = gradient * self.loss_weight, hessian * self.loss_weight
        slope, bend = self._priced(p, prices)
        gradient += slope * first
        added = slope * second if bend is None else slope * second + bend * first**2
        hessian = hessian + np.maximum(added, 0)
        return gradient, np.maximum(hessian, _LEAST_HESSIAN, out=hessian)

    def value(self, margin: Floats, prices: Floats) -> float:
        """What is minimised: weighted loss, plus W times the priced soft rates."""
        return self.loss(margin) * self.total + self.total * float(
            np.nansum(prices * self.soft_rates(margin))
        )

    def loss(self, margin: Floats) -> float:
        """Weighted mean of the log loss, or of half the squared error."""
        if self.task == "regression":
            losses = 0.5 * (margin - self.y) ** 2
        else:
            losses = -log_expit(np.where(self.y == 1, margin, -margin))
        return self._mean(losses)

    def error(self, margin: Floats) -> float:
        """Weighted share of wrong decisions; mean squared error, in regression."""
        if self.task == "regression":
            return self._mean((margin - self.y) ** 2)
        return self._mean(((margin > 0) != (self.y == 1)).astype(np.float64))

    def value_of(self, objective: Objective, margin: Floats) -> float:
        """Value of an objective; of accuracy, or minus the squared error, in regression."""
        if self.task == "regression":
            return -self.error(margin)
        if objective.is_accuracy:
            return 1 - self.error(margin)
        if objective.name == "log_loss":
            return -self.loss(margin)
        return objective.of_bins(self._binned(margin))

    def best_constant(self, objective: Objective) -> float:
        """The same of the best constant."""
        if self.task == "regression" or objective.is_accuracy:
            return -self.constant_error if self.task == "regression" else 1 - self.constant_error
        return objective.best_constant([0.0, 1.0], [1 - self.share, self.share])

    def _binned(self, margin: Floats) -> Floats:
        return binned(self.y, expit(margin), margin > 0, self.weight, self._sums)

    def favourable_share(self, margin: Floats) -> float:
        """Weighted share of favourable decisions."""
        return self._mean((margin > 0).astype(np.float64))

    def dual_units(self) -> Floats:
        r"""What a step of the multipliers is measured in, one number a family.

        1 for rates. A multiplier trades half the squared error against another loss; with s the
        loss of the best constant it has the unit :math:`\operatorname{Var}(y) / s` and moves by
        violations in units of s.
        """
        if self.task != "regression":
            return np.ones(len(self.table.cells))
        mean = self._mean(self.y)
        losses = self.table(np.full(len(self.y), mean, self.y.dtype))
        units = []
        for cells in self.table.cells:
            s = float(cells.shares @ np.nan_to_num(losses[cells.part]))
            units.append(self.constant_error / max(s, 1e-12) ** 2)
        return np.array(units)

    def soft_rates(self, margin: Floats) -> Floats:
        """Rates at the soft prediction, shape (n_cells,); NaN for an empty cell."""
        return self.table(self._link(margin)[0])

    def hard_rates(self, margin: Floats) -> Floats:
        """Rates of the decisions (losses: of the probabilities), shape (n_cells,)."""
        decided = (margin > 0).astype(np.float64)
        if all(cells.at_decisions for cells in self.table.cells):
            return self.table(decided)
        return self.table(decided, self._link(margin)[0])

    def counts_at(self, margin: Floats) -> Floats:
        """Effective rows behind every rate of the decisions, shape (n_cells,)."""
        if all(cells.family.rate.among is None for cells in self.table.cells):
            return self.counts
        counted = self.table.effective_at((margin > 0).astype(np.float64))
        per_row = np.divide(
            self.counts, self.table.effective, out=np.zeros(len(counted)), where=self.counts > 0
        )  # what design effects leave of them
        return np.asarray(counted * per_row)

    def _priced(self, p: Floats, prices: Floats) -> tuple[Floats, Floats | None]:
        """First and second derivative in p of W times the priced rates."""
        kind = self.y.dtype
        slope, bend = np.zeros(len(self.y), kind), None
        for cells in self.table.cells:
            if not prices[cells.part].any():
                continue
            if cells.at_decisions:
                slope[cells.rows] += cells.pull(p, prices[cells.part] * self.total)
                continue
            price = cells.price(prices[cells.part] * self.total, kind)
            if cells.weight is not None:
                price = price * cells.weight
            first, second = quantity_derivatives(
                cells.family.rate.quantity, cells.y, p[cells.rows], self.task
            )
            bend = np.zeros(len(self.y), kind) if bend is None else bend
            slope[cells.rows] += price * first
            bend[cells.rows] += price * second
        return slope, bend

    def _link(self, margin: Floats) -> tuple[Floats, Floats, Floats]:
        """Prediction, and its first two derivatives in the margin."""
        if self.task == "regression":
            return margin, np.ones(len(margin)), np.zeros(len(margin))
        p = expit(margin)
        first = p * (1 - p)
        return p, first, first * (1 - 2 * p)

    def _mean(self, values: Floats) -> float:
        weighted = values if self.weight is None else values * self.weight
        return float(self._sums(weighted, self._everyone, 1)[0]) / self.total


def predictions(margin: Floats, task: Task) -> Floats:
    """Probability of the favourable label, or the value, at a margin."""
    return np.asarray(expit(margin) if task == "classification" else margin, dtype=np.float64)


def is_probability_loss(constraint: Constraint) -> bool:
    """Whether a classifier's bound is on a loss of probabilities rather than of decisions."""
    return isinstance(constraint, BoundedGroupLoss) and constraint.loss != "zero_one"


def quantity_derivatives(
    quantity: Quantity, y: Floats, p: Floats, task: Task
) -> tuple[Floats, Floats]:
    """First and second derivative of a quantity in the prediction, each of shape (n,).

    Exact for the squared error and the log loss, central differences for any other function.

    Parameters
    ----------
    quantity : callable
        ``quantity(y, prediction)`` -> one number a row.
    y, p : ndarray of shape (n,)
        Labels or values, and predictions.
    task : {"classification", "regression"}
        Predictions of a classifier stay inside (0, 1).
    """
    if quantity is squared_error:
        return 2 * (p - y), np.full(len(p), 2.0)
    if quantity is log_loss:
        p = np.clip(p, 1e-7, 1 - 1e-7)
        return (p - y) / (p * (1 - p)), y / p**2 + (1 - y) / (1 - p) ** 2
    if task == "classification":
        step, p = np.full(len(p), _STEP), np.clip(p, 2 * _STEP, 1 - 2 * _STEP)
    else:
        step = _STEP * np.maximum(1.0, np.abs(p))
    up, here, down = (
        np.asarray(quantity(y, p + shift), dtype=np.float64) for shift in (step, 0, -step)
    )
    return (up - down) / (2 * step), (up - 2 * here + down) / step**2
