"""``RegularizedFairnessTrainer``: base loss plus eta times a penalty, with a trainer's face."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from fairtrain._parameters import ANYTHING, FUNCTION, MAPPING, NONE, Real, Table, Whole
from fairtrain.constraints import (
    BoundedGroupLoss,
    Constraint,
    ConstraintSpec,
    DemographicParity,
    EqualizedOdds,
    EqualOpportunity,
    ErrorRateParity,
    Objective,
    ParityConstraint,
    PredictiveEquality,
    PredictiveParity,
    as_constraints,
    strata_of,
)
from fairtrain.data.groups import GroupScheme
from fairtrain.exceptions import InvalidParameterError
from fairtrain.losses.base import FairnessLoss
from fairtrain.losses.hierarchical import HierarchicalFairnessLoss
from fairtrain.losses.names import Penalty
from fairtrain.losses.rates import RateParityLoss
from fairtrain.losses.regularizer import FairnessRegularizerLoss
from fairtrain.losses.robust import BoundedGroupLossPenalty
from fairtrain.losses.schedule import EtaSchedule
from fairtrain.training.batches.batch import Batch, FitData, level_codes
from fairtrain.training.loop.engine import Precision
from fairtrain.training.loop.run import Run, RunParts
from fairtrain.training.loop.steps import Losses
from fairtrain.training.modules import ModuleSpec
from fairtrain.training.trainer import FairnessTrainer

__all__ = ["RegularizedFairnessTrainer"]


class RegularizedFairnessTrainer(FairnessTrainer):
    r"""Train a network on a usual loss plus eta times a fairness penalty: the soft way.

    .. math:: \min_\theta\; L(\theta) + \eta\, P(\theta)

    The face of :class:`~fairtrain.training.lagrangian.LagrangianFairnessTrainer`, and the same
    loop; nothing is enforced, and the last epoch's weights are kept. ``eta`` can be searched.

    Parameters
    ----------
    module : nn.Module, callable or None, default=None
        As in ``LagrangianFairnessTrainer``.
    penalty : FairnessLoss, constraint, str, list of these, or mapping to weights
        What is penalised; names are those of ``fairtrain.losses.PENALTIES``.
    eta : float >= 0 or callable, default=1.0
        Strength, or a schedule: a function of the number of steps so far.
    penalty_options : mapping, optional
        Keywords of penalties given by name or as constraints, such as ``{"memory": 0.9}``.
    constraints : Constraint, str, or list of these, optional
        What reports judge. Default: the notion of the penalty where it has one, else demographic
        parity.
    difference_bound, ratio_bound : float, optional
        Replace the bounds of ``constraints``.
    temperature : float > 0, default=1.0
        Sharpness of the soft rates in ``history_``; a penalty's own is one of its options.
    objective : str, dict, ErrorCosts, matrix or fairlearn's ``ErrorRate``, default="accuracy"
        What errors cost in the usual loss; see ``LagrangianFairnessTrainer``. As no epoch is
        chosen, "auc" and functions are for ``pareto_frontier(performance=...)``.
    **others
        ``task``, ``optimizer``, ``lr``, ``batch_size``, ``max_epochs``, ``lr_decay``, ``ema``,
        ``clip_norm``, ``micro_batch_size``, ``base_loss``, ``validation_fraction``,
        ``certification_fraction``, ``frozen``, ``callbacks``, ``device``, ``precision``,
        ``fabric``, ``timeout``, ``sensitive_features``, ``positive_label``, ``missing``,
        ``min_count``, ``random_state``: as in ``LagrangianFairnessTrainer``. Validation rows are
        measured after every epoch and choose nothing here; whoever picks ``eta`` by them steers.

    Attributes
    ----------
    module_ : nn.Module
        The trained copy.
    history_ : DataFrame
        A row an epoch: ``loss``, ``base_loss``, ``penalty`` (before eta), ``eta``, accuracies, gaps
        on soft and hard decisions of training batches and on held-out rows, learning rate, gradient
        norm, seconds.
    fairness_report_ : FairnessReport
        As in ``LagrangianFairnessTrainer``, like ``reports_``, ``start_report_``, ``status_``,
        ``constraints_``, ``scheme_``, ``classes_``, ``n_iter_`` and ``n_skipped_``.

    Examples
    --------
    >>> import numpy as np
    >>> from fairtrain import RegularizedFairnessTrainer
    >>> rng = np.random.default_rng(0)
    >>> group = rng.integers(0, 2, 2000)
    >>> X = rng.normal(size=(2000, 2)) + group[:, None]
    >>> y = (X.sum(axis=1) + rng.normal(size=2000) > 1).astype(int)
    >>> gaps = [
    ...     RegularizedFairnessTrainer(eta=eta, max_epochs=10, random_state=0)
    ...     .fit(X, y, sensitive_features=group)
    ...     .fairness_report_.results[0].achieved
    ...     for eta in (0.0, 20.0)
    ... ]
    >>> gaps[1] < gaps[0] - 0.1
    True
    """

    _allowed: ClassVar[Table] = {
        "penalty": ANYTHING,
        "objective": ANYTHING,
        "eta": Real(0) | FUNCTION,
        "penalty_options": MAPPING | NONE,
        "micro_batch_size": Whole(1) | NONE,
    }

    def __init__(
        self,
        module: ModuleSpec = None,
        penalty: Penalty | Sequence[Penalty] | Mapping[Any, float] = "demographic_parity",
        eta: float | EtaSchedule = 1.0,
        *,
        penalty_options: Mapping[str, Any] | None = None,
        constraints: ConstraintSpec = None,
        difference_bound: float | None = None,
        ratio_bound: float | None = None,
        task: Literal["classification", "regression"] = "classification",
        optimizer: Any = None,
        lr: float = 2e-3,
        temperature: float = 1.0,
        batch_size: int | None = None,
        max_epochs: int | None = None,
        lr_decay: str | Callable[[float], float] = "cosine",
        ema: float | None = None,
        clip_norm: float | None = 1.0,
        micro_batch_size: int | None = None,
        objective: Any = "accuracy",
        base_loss: Any = None,
        validation_fraction: float | None = 0.2,
        certification_fraction: float | None = 0.0,
        frozen: str | Sequence[str] = (),
        callbacks: Sequence[Any] = (),
        device: Any = "auto",
        precision: Precision = "32",
        fabric: Any = None,
        timeout: float = 600.0,
        sensitive_features: str | Sequence[str] | None = None,
        positive_label: Any = None,
        missing: str = "error",
        min_count: int = 30,
        random_state: Any = None,
    ) -> None:
        self.module = module
        self.penalty = penalty
        self.eta = eta
        self.penalty_options = penalty_options
        self.constraints = constraints
        self.difference_bound = difference_bound
        self.ratio_bound = ratio_bound
        self.task = task
        self.optimizer = optimizer
        self.lr = lr
        self.temperature = temperature
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.lr_decay = lr_decay
        self.ema = ema
        self.clip_norm = clip_norm
        self.micro_batch_size = micro_batch_size
        self.objective = objective
        self.base_loss = base_loss
        self.validation_fraction = validation_fraction
        self.certification_fraction = certification_fraction
        self.frozen = frozen
        self.callbacks = callbacks
        self.device = device
        self.precision = precision
        self.fabric = fabric
        self.timeout = timeout
        self.sensitive_features = sensitive_features
        self.positive_label = positive_label
        self.missing = missing
        self.min_count = min_count
        self.random_state = random_state

    def _read_constraints(self) -> tuple[Constraint, ...]:
        given = self.constraints if self.constraints is not None else _notion_of(self.penalty)
        return as_constraints(
            given, difference_bound=self.difference_bound, ratio_bound=self.ratio_bound
        )

    def _sought(self, data: FitData) -> Objective:
        objective = super()._sought(data)
        if objective.costs_at is None and objective.name != "log_loss":
            raise InvalidParameterError(
                f"the last epoch is kept and none is chosen, so that objective={objective.name!r} "
                "would do nothing: use LagrangianFairnessTrainer, or choose eta by it in "
                "pareto_frontier(performance=...)."
            )
        return objective

    def _make_run(self, parts: RunParts, data: FitData) -> PenaltyRun:
        given = self.penalty if isinstance(self.penalty, list | tuple) else [self.penalty]
        if any(isinstance(p, Constraint) and p.over is not None for p in given):
            raise InvalidParameterError(
                "a penalty is not taken over some of the columns (over=...): use "
                "HierarchicalFairnessLoss, or LagrangianFairnessTrainer, which enforces bounds "
                "over any of them."
            )
        within = _columns_within(self.penalty, data.scheme)
        if data.scheme.given and within is None and self.eta != 0:
            raise InvalidParameterError(
                f"groups are to be compared within {data.scheme.given[0][0]!r}, and this penalty "
                "knows no strata: pass penalty= a parity that is given them too, or use "
                "LagrangianFairnessTrainer."
            )
        return PenaltyRun(parts, self._criterion(parts, data), data, within)

    def _criterion(self, parts: RunParts, data: FitData) -> FairnessRegularizerLoss:
        options = dict(self.penalty_options or {})
        if order := _columns_within(self.penalty, data.scheme):
            levels = tuple(len(data.scheme.levels[i]) for i in order)
            options = {"num_groups": levels, **options}
        elif not _made(self.penalty):
            hierarchical = self.penalty == "hierarchical"
            levels = tuple(len(level) for level in data.scheme.levels)
            options = {"num_groups": levels if hierarchical else len(data.scheme), **options}
        penalty = copy.deepcopy(self.penalty)
        if parts.head.task == "regression" and isinstance(penalty, BoundedGroupLoss):
            penalty = BoundedGroupLossPenalty(
                penalty.upper_bound, loss=penalty.loss, on="outputs", **options
            )
            options = {}
        criterion = FairnessRegularizerLoss(
            base_loss=parts.base_loss, penalty=penalty, eta=self.eta, **options
        )
        return criterion.to(parts.engine.device)


class PenaltyRun(Run):
    """One run of base loss plus penalty.

    Parameters
    ----------
    parts : RunParts
        What is trained on what.
    criterion : FairnessRegularizerLoss
        The loss.
    data : FitData
        For the groups.
    within : list of int, optional
        Places of the columns of groups and then of strata, where groups are compared within these.
    """

    def __init__(
        self,
        parts: RunParts,
        criterion: FairnessRegularizerLoss,
        data: FitData,
        within: list[int] | None = None,
    ) -> None:
        super().__init__(parts)
        self.criterion = criterion.train()
        self._columns: Tensor | None = None
        if any(isinstance(p, HierarchicalFairnessLoss) for p in criterion.penalties):
            self._columns = level_codes(data.scheme).to(parts.engine.device)
        elif within:
            self._columns = level_codes(data.scheme)[:, within].to(parts.engine.device)

    def losses_of(self, outputs: Tensor, batch: Batch) -> Losses:
        """Base loss plus eta times the penalty of the batch."""
        parts = self.parts
        total = self.criterion(
            outputs, parts.head.labels(batch.y), self.who(batch), sample_weight=batch.weight
        )
        base, penalty, eta = total.fairness_terms
        loss = total + (self.share(batch) - 1.0) * base
        self.count(outputs, batch)
        return {
            "loss": loss,
            "base_loss": base,
            "penalty": torch.zeros_like(base) if penalty is None else penalty,
            "eta": torch.as_tensor(eta, dtype=base.dtype),
        }

    def terms(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Base loss and penalty of a batch, whatever eta is; outside the count of steps."""
        base, penalty = self.criterion.terms(
            outputs, self.parts.head.labels(batch.y), self.who(batch), sample_weight=batch.weight
        )
        assert penalty is not None
        return base, penalty

    def who(self, batch: Batch) -> Tensor:
        """Codes as the penalty reads them: of groups, or of the levels of every column."""
        return batch.codes if self._columns is None else self._columns[batch.codes + 1]

    def state_dict(self) -> dict[str, Any]:
        """Return what has to be kept to go on later."""
        return {**super().state_dict(), "criterion": self.criterion.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state."""
        super().load_state_dict(state)
        self.criterion.load_state_dict(state["criterion"])


def _columns_within(penalty: Any, scheme: GroupScheme) -> list[int] | None:
    """Places of the columns of groups, then of strata, for a penalty within strata."""
    items = list(penalty) if isinstance(penalty, list | tuple | Mapping) else [penalty]
    given = [p for p in items if isinstance(p, Constraint) and p.given is not None]
    if not given:
        return None
    if len(items) > 1 or not isinstance(given[0], ParityConstraint):
        raise InvalidParameterError(
            f"{given[0].name}: a penalty within strata is one parity; use "
            "LagrangianFairnessTrainer for several constraints, and for limits."
        )
    scheme.require_given(strata_of(given))
    groups = given[0].partition(scheme)[0].columns
    return [scheme.columns.index(name) for name in (*groups, *given[0].given_columns)]


def _made(penalty: Any) -> bool:
    """Whether all penalties are losses already, with settings of their own."""
    items = penalty if isinstance(penalty, list | tuple | Mapping) else [penalty]
    return all(isinstance(item, FairnessLoss) for item in items)


def _notion_of(penalty: Any) -> ConstraintSpec:
    """What a report on a penalty judges: its notion, or else demographic parity."""
    items = list(penalty) if isinstance(penalty, list | tuple | Mapping) else [penalty]
    notions: list[Any] = []
    for item in items:
        if isinstance(item, Constraint):
            notions.append(item)
        elif isinstance(item, RateParityLoss) and item.rates in _BY_RATES:
            notions.append(_BY_RATES[item.rates]())
        elif isinstance(item, BoundedGroupLossPenalty):
            notions.append(BoundedGroupLoss(upper_bound=item.upper_bound, loss=item.loss))
        elif isinstance(item, str) and item in _BY_NAME:
            notions.append(_BY_NAME[item]())
    return notions or "demographic_parity"


_PARITIES: tuple[type[ParityConstraint], ...] = (
    DemographicParity,
    EqualOpportunity,
    PredictiveEquality,
    PredictiveParity,
    EqualizedOdds,
    ErrorRateParity,
)
_BY_NAME = {cls.notion: cls for cls in _PARITIES} | {"precision_parity": PredictiveParity}
_BY_RATES = {cls().rates: cls for cls in _PARITIES}
