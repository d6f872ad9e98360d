"""The moments that fairlearn's ``ExponentiatedGradient`` is given.

Ours stand on ``np.bincount``: decisions are relabelled, numbers of a regression re-weighted. A
moment of somebody else's is wrapped, so that all of them tell what they were asked.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from fairlearn.reductions import ClassificationMoment, LossMoment, Moment
from numpy.typing import NDArray

from fairtrain.constraints import Constraint, ErrorCosts, MomentConstraint
from fairtrain.constraints.families import families_of
from fairtrain.constraints.inequalities import constraint_rows
from fairtrain.constraints.mixture import Mixture, most_accurate_mixture, most_accurate_under
from fairtrain.constraints.rates import ClippedLoss
from fairtrain.constraints.table import RateTable
from fairtrain.data.groups import Groups
from fairtrain.data.rows import Rows
from fairtrain.exceptions import InvalidParameterError
from fairtrain.reductions.objectives import Loaded, MeanLoss, WeightedError, automatic_nu

__all__ = [
    "BincountMoment",
    "Call",
    "FairlearnMoment",
    "GroupLossMoment",
    "Recorded",
    "alone",
    "as_moment",
    "automatic_nu",
]

Floats = NDArray[np.float64]
Predictor = Callable[[Any], NDArray[Any]]

_NOTHING_LEFT = 1e-9
_ROOM = 1e-6  # what the solver may be out, in units of a loss that may be millions


class Call(NamedTuple):
    """What the oracle was asked, and how its answer does."""

    multipliers: Floats
    gamma: Floats
    objective: float
    rates: Floats


class Recorded(Moment):
    """A moment that keeps a log: the first look at the answer to every question.

    Attributes
    ----------
    calls : list of Call
    objective : Moment
        What is to be least.
    names : list of str
        What each entry of gamma says.
    constants : tuple of float
        What may be answered whoever asks, besides what the oracle answers.
    """

    constants: tuple[float, ...] = (0.0, 1.0)
    objective: Any
    names: list[str]

    def load_data(
        self, X: Any, y: Any, *, groups: Groups, sample_weight: Floats | None = None
    ) -> None:
        """Take the training rows. ``y`` holds 0 and 1, or numbers."""
        self.X = X
        self._y = pd.Series(np.asarray(y))
        self.data_loaded = True
        self.calls: list[Call] = []
        self._asked: Floats | None = None
        self._load(X, np.asarray(y, dtype=np.float64), groups, sample_weight)

    @abstractmethod
    def _load(self, X: Any, y: Floats, groups: Groups, weight: Floats | None) -> None:
        """Take the rows, and give them to the objective."""

    @abstractmethod
    def _measured(self, answers: Floats) -> tuple[pd.Series, Floats]:
        """Left-hand side of every row, and the rates it is made of."""

    @abstractmethod
    def _weights(self, lambda_vec: pd.Series) -> pd.Series:
        """What each row's answer earns under these multipliers."""

    @abstractmethod
    def mixture(self, answers: Floats, errors: Floats) -> Mixture:
        """Weights (T,) of least error under which answers (T, n) keep the bounds."""

    def suit(self, answers: Floats, y: NDArray[Any], groups: Groups, weight: Floats | None) -> None:
        """Learn from what the unconstrained estimator answers, before the run."""

    def nu(self, answers: Floats, y: NDArray[Any], weight: Floats) -> float:
        """Duality gap at which to stop, from what the unconstrained estimator answers."""
        return automatic_nu(np.abs(answers - y), weight)

    def widest_gap(self, rates: Floats) -> float:
        """Largest difference between two groups over all rates that are compared."""
        return float("nan")

    def default_objective(self) -> Moment:
        """What is to be least."""
        return self.objective

    def gamma(self, predictor: Predictor) -> pd.Series:
        """Left-hand side of every row, for one predictor."""
        answers = np.asarray(predictor(self.X)).reshape(-1)
        gamma, rates = self._measured(answers)
        if self._asked is not None:  # the first look at the oracle's answer to these multipliers
            error = float(self.objective.gamma(lambda _: answers).iloc[0])
            self.calls.append(Call(self._asked, gamma.to_numpy(dtype=np.float64), error, rates))
            self._asked = None
        return gamma

    def signed_weights(self, lambda_vec: pd.Series) -> pd.Series:
        """What each row's favourable decision costs under these multipliers, sign turned."""
        self._asked = lambda_vec.to_numpy(dtype=np.float64, copy=True)
        return self._weights(lambda_vec)


class _TableMoment(Recorded):
    """A list of constraints on the rates of a table.

    Memory is O(rows); one evaluation is one ``bincount`` for every rate.
    """

    constraints: tuple[Constraint, ...]

    @abstractmethod
    def _table(self, y: Floats, groups: Groups, weight: Floats | None) -> RateTable:
        """Rates of the constraints."""

    def _load(self, X: Any, y: Floats, groups: Groups, weight: Floats | None) -> None:
        self._size = float(len(y) if weight is None else weight.sum())
        self.table = self._table(y, groups, weight)
        self.rows = constraint_rows(self.table)
        self.names = self.rows.names
        self._index = pd.RangeIndex(len(self.rows.limits))
        self.objective.load_data(X, y, groups=groups, sample_weight=weight)

    @property
    def total_samples(self) -> float:
        """Sum of the training rows' weights: their number, where they have none."""
        return self._size

    @property
    def index(self) -> pd.RangeIndex:
        """One place for every constraint row; ``rows.names`` says what it means."""
        return self._index

    def _measured(self, answers: Floats) -> tuple[pd.Series, Floats]:
        rates = np.nan_to_num(self.table(answers))  # a cell without rows is in no constraint
        return pd.Series(self.rows.matrix @ rates, index=self._index), rates

    def bound(self) -> pd.Series:
        """Right-hand side of every row."""
        return pd.Series(self.rows.limits, index=self._index)

    def project_lambda(self, lambda_vec: pd.Series) -> pd.Series:
        """Multipliers that bound the Lagrangian at least as well."""
        projected = self.rows.projected(lambda_vec.to_numpy(dtype=np.float64))
        return pd.Series(projected, index=self._index)

    def widest_gap(self, rates: Floats) -> float:
        """Largest difference between two groups over all rates that are compared."""
        return float(max(np.ptp(rates[cells.part][cells.present]) for cells in self.table.cells))


class BincountMoment(_TableMoment, ClassificationMoment):
    """A list of constraints on decisions as one fairlearn moment.

    Parameters
    ----------
    constraints : sequence of Constraint
        Stacked: each contributes its own rows and multipliers.
    costs : ErrorCosts, optional
        What the objective says of the two errors.
    """

    def __init__(self, constraints: Sequence[Constraint], costs: ErrorCosts | None = None) -> None:
        super().__init__()
        self.constraints = tuple(constraints)
        self.objective = WeightedError(costs)

    def _table(self, y: Floats, groups: Groups, weight: Floats | None) -> RateTable:
        return RateTable.comparing(self.constraints, y, groups, weight)

    def _weights(self, lambda_vec: pd.Series) -> pd.Series:
        cell_weights = self.rows.matrix.T @ lambda_vec.to_numpy(dtype=np.float64)
        weights = -self._size * self.table.pull_back(cell_weights)
        gain = self.objective.signed_weights().to_numpy()
        if np.abs(weights + gain).max() < _NOTHING_LEFT * np.abs(gain).max():
            # The multipliers outweigh every label exactly: any decision is a best response, but
            # fairlearn would divide by the sum of weights, 0.
            weights *= 1 - 1e-6
        return pd.Series(weights)

    def mixture(self, answers: Floats, errors: Floats) -> Mixture:
        """Weights of least error under which decisions keep the bounds on their rates."""
        return most_accurate_mixture(self.table, answers, errors)


class GroupLossMoment(_TableMoment, LossMoment):
    """A list of bounds on mean losses of predicted numbers as one fairlearn moment.

    The estimator minimises a loss of its own; multipliers say how much each group's rows weigh.

    Parameters
    ----------
    constraints : sequence of BoundedGroupLoss
        The loss of the first is the objective.
    scale : float, optional
        A loss of this size counts as 1, so that steps of the multipliers know no unit; found by
        :meth:`suit`. fairlearn's losses are taken as they are.
    """

    constants = ()

    def __init__(self, constraints: Sequence[Constraint], scale: float | None = None) -> None:
        Moment.__init__(self)
        self.constraints = tuple(constraints)
        self.reduction_loss = constraints[0].rates[0].quantity
        fairlearns = all(isinstance(c.rates[0].quantity, ClippedLoss) for c in constraints)
        self.measured = fairlearns or scale is not None  # the scale is known
        self.scale = 1.0 if fairlearns or scale is None else scale
        self.objective = MeanLoss(self.reduction_loss, self.scale)

    def suit(self, answers: Floats, y: NDArray[Any], groups: Groups, weight: Floats | None) -> None:
        """Let the largest loss that there is, or is allowed, count as 1."""
        if not self.measured:
            rates = self._table(y, groups, weight)(answers)
            self.scale = max(float(np.nanmax(rates)), *(c.bound for c in self.constraints))
            self.objective = MeanLoss(self.reduction_loss, self.scale)

    def nu(self, answers: Floats, y: NDArray[Any], weight: Floats) -> float:
        """Half the standard error of the objective, of fairlearn's losses by its own rule."""
        if isinstance(self.reduction_loss, ClippedLoss):
            return super().nu(answers, y, weight)
        return automatic_nu(np.asarray(self.reduction_loss(y, answers)) / self.scale, weight)

    def _table(self, y: Floats, groups: Groups, weight: Floats | None) -> RateTable:
        families = families_of(self.constraints, groups.scheme)
        return RateTable(families, y, groups.members, weight, linear=[False] * len(families))

    def _measured(self, answers: Floats) -> tuple[pd.Series, Floats]:
        gamma, rates = super()._measured(answers)
        return gamma / self.scale, rates / self.scale

    def bound(self) -> pd.Series:
        """Right-hand side of every row, in units of the scale."""
        return super().bound() / self.scale

    def _weights(self, lambda_vec: pd.Series) -> pd.Series:
        cell_weights = self.rows.matrix.T @ lambda_vec.to_numpy(dtype=np.float64)
        weights = np.zeros(len(self._y))
        for cells in self.table.cells:
            price = cells.price(cell_weights[cells.part])
            weights[cells.rows] += price if cells.weight is None else price * cells.weight
        return pd.Series(self._size * weights)

    def mixture(self, answers: Floats, errors: Floats) -> Mixture:
        """Weights of least loss under which the lottery of answers keeps the bounds."""
        gammas = np.array([self._measured(a)[0] for a in answers])
        priority = np.zeros(len(self.names), dtype=np.int64)
        for cells, (_, places) in zip(self.table.cells, self.rows.blocks, strict=True):
            priority[places] = cells.family.constraint.priority
        limits = self.bound().to_numpy() - _ROOM
        return most_accurate_under(gammas, limits, errors, priority=priority, n_constant=0)


class FairlearnMoment(Recorded):
    """A moment of somebody else's, on fairlearn's own path.

    Parameters
    ----------
    constraint : MomentConstraint
        What holds it.
    costs : ErrorCosts, optional
        What the objective says of the two errors, where decisions are judged.
    """

    def __init__(self, constraint: MomentConstraint, costs: ErrorCosts | None = None) -> None:
        Moment.__init__(self)
        self.constraint = constraint
        self._costs = costs

    def _load(self, X: Any, y: Floats, groups: Groups, weight: Floats | None) -> None:
        rows = Rows(X, self._y.to_numpy(), groups, weight)
        self.inner: Any = self.constraint.loaded(rows)
        self.names = [_words(entry) for entry in self.inner.index]
        self.objective = self._objective(rows)

    def _objective(self, rows: Rows) -> Moment:
        objective = WeightedError(self._costs)
        objective.load_data(rows.X, rows.outcomes, sample_weight=rows.weight)
        return objective

    def default_objective(self) -> Moment:
        """What is to be least; it has its rows."""
        return Loaded(self.objective)

    @property
    def total_samples(self) -> float:
        """Number of training rows, as the moment counts them."""
        return float(self.inner.total_samples)

    @property
    def index(self) -> Any:
        """The moment's own."""
        return self.inner.index

    def _measured(self, answers: Floats) -> tuple[pd.Series, Floats]:
        return self.inner.gamma(lambda _: answers), np.empty(0)

    def bound(self) -> pd.Series:
        """Right-hand side of every row."""
        return pd.Series(self.inner.bound())

    def project_lambda(self, lambda_vec: pd.Series) -> pd.Series:
        """Multipliers that bound the Lagrangian at least as well."""
        return pd.Series(self.inner.project_lambda(lambda_vec))

    def _weights(self, lambda_vec: pd.Series) -> pd.Series:
        return pd.Series(self.inner.signed_weights(lambda_vec))

    def mixture(self, answers: Floats, errors: Floats) -> Mixture:
        """Weights of least error under which gamma keeps its bound."""
        gammas = np.array([self.inner.gamma(lambda _, a=a: a) for a in answers], dtype=np.float64)
        limits = self.bound().to_numpy(dtype=np.float64)
        return most_accurate_under(gammas, limits, errors, n_constant=len(self.constants))


class _OfDecisions(FairlearnMoment, ClassificationMoment):
    """One that relabels."""


class _OfLosses(FairlearnMoment, LossMoment):
    """One that re-weights."""

    constants = ()

    def _objective(self, rows: Rows) -> Moment:
        objective = self.constraint.moment.default_objective()
        return self.constraint.moved(objective, rows)


def alone(constraints: tuple[Constraint, ...]) -> tuple[Constraint, ...]:
    """Constraints as they are, unless a moment of somebody else's stands beside others."""
    for constraint in constraints:
        if isinstance(constraint, MomentConstraint) and len(constraints) > 1:
            raise InvalidParameterError(
                f"{constraint.name} is no constraint of fairlearn's or ours, so it stands alone; "
                "write it as fairtrain.RateParity(quantity=..., event=...) to join it to others."
            )
    return constraints


def as_moment(
    constraints: Sequence[Constraint], *, costs: ErrorCosts | None = None, values: bool = False
) -> Recorded:
    """Make the one moment of a list of constraints.

    Parameters
    ----------
    constraints : sequence of Constraint
        A moment of somebody else's stands alone.
    costs : ErrorCosts, optional
        What the objective says of the two errors.
    values : bool, default=False
        Numbers of a regression are judged, not decisions.
    """
    first = constraints[0]
    if isinstance(first, MomentConstraint):
        of_losses = isinstance(first.moment, LossMoment)
        return _OfLosses(first) if of_losses else _OfDecisions(first, costs)
    return GroupLossMoment(constraints) if values else BincountMoment(constraints, costs)


def _words(entry: Any) -> str:
    return ", ".join(map(str, entry)) if isinstance(entry, tuple) else str(entry)
