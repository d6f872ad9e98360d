"""``AdversarialDebiasingTrainer``: a predictor against an adversary that reads the groups."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import pandas as pd
import torch
from torch import nn

from fairtrain._parameters import (
    ANYTHING,
    FLAG,
    FUNCTION,
    NAMES,
    NONE,
    Choice,
    Of,
    Real,
    Table,
    Whole,
)
from fairtrain.constraints import (
    Constraint,
    ConstraintSpec,
    RateParity,
    as_constraints,
    refuse_given,
)
from fairtrain.data.groups import Groups
from fairtrain.exceptions import InvalidParameterError
from fairtrain.losses.schedule import EtaSchedule
from fairtrain.training.adversarial.adversary import AdversarySettings, AdversarySpec, Notion, View
from fairtrain.training.adversarial.contest import AdversarialRun, ContestSettings, represent
from fairtrain.training.adversarial.leakage import in_words, leakage_table
from fairtrain.training.adversarial.reversal import strength_at
from fairtrain.training.batches.batch import FitData
from fairtrain.training.continuous import column_by_column, continuous_names, read_columns
from fairtrain.training.criterion import FairCriterion
from fairtrain.training.loop.engine import Precision
from fairtrain.training.loop.run import Run, RunParts
from fairtrain.training.modules import ModuleSpec
from fairtrain.training.trainer import FairnessTrainer

__all__ = ["AdversarialDebiasingTrainer"]

Method = Literal["reversal", "projection"]
Probed = Literal["both", "debiased", "none"]


class AdversarialDebiasingTrainer(FairnessTrainer):
    r"""Train a network so that an adversary cannot read the sensitive features from it.

    .. math:: \min_\theta \; L(\theta) - s\, A(\theta, \phi), \qquad \min_\phi \; A(\theta, \phi)

    A is the loss of an adversary that predicts the sensitive columns from what it sees: the output,
    or an inner layer. It is the cross entropy of each categorical column plus the squared error of
    each continuous one, standardised on the training rows, so that knowing nothing costs 1. If the
    output tells nothing about them, decisions are made equally often in all groups (demographic
    parity); if it tells nothing beyond the label, equalized odds hold
    (Zhang, Lemoine & Mitchell, 2018). The two are trained by gradient reversal (Ganin & Lempitsky,
    2015) or by Zhang et al.'s projected update.

    Nothing is enforced: ``strength`` can be searched, and :attr:`leakage_` says whether a *fresh*
    reader still finds the attribute, where the adversary of training was merely fooled (Elazar &
    Goldberg, 2018).

    Parameters
    ----------
    module : nn.Module, callable or None, default=None
        The predictor, as in ``LagrangianFairnessTrainer``.
    adversary : nn.Module, callable or None, default=None
        A module, which is copied, or a factory ``(n_inputs, n_outputs) -> nn.Module``. It takes
        rows of what is seen and gives a logit for every level of every categorical column, then a
        number for every continuous one. Default: two hidden layers of 32.
    constraint : {"demographic_parity", "equalized_odds", "equal_opportunity"}
        What the adversary knows besides: nothing; the label; or nothing, on rows of the favourable
        label alone.
    representation : str, optional
        Name of the layer that the adversary sees, such as ``"encoder.2"``; default: the output.
    strength : float >= 0 or callable, default=5.0
        s, or a schedule: a function of the number of steps so far, such as
        :class:`~fairtrain.losses.SigmoidRamp`.
    method : {"reversal", "projection"}, default="reversal"
        ``"projection"`` also takes out of the predictor's gradient its component along the
        adversary's (Zhang et al., 2018, equation 1).
    adversary_steps : int >= 1, default=1
        Steps of the adversary for each of the predictor.
    adversary_lr : float, default=5e-3
        Its learning rate (Adam).
    warm_up : int >= 0, default=1
        Epochs in which the adversary learns and the predictor pays nothing.
    spectral_norm : bool, default=False
        Bound the adversary's slopes by the spectral norms of its linear layers (Miyato et al.,
        2018).
    gradient_penalty : float >= 0, default=0.0
        Or by a penalty on the squared slope of the true level's logit (Mescheder et al., 2018).
    restart : bool, default=True
        Give an adversary fresh weights after an epoch in which it was worse than the best constant
        guess by 0.1 nats, or stood still while its input varied, or is no longer finite.
    leakage : {"both", "debiased", "none"}, default="both"
        Whom fresh probes read after training: this model and a baseline trained without adversary
        under the same settings (a second training), this model alone, or nobody.
    constraints : Constraint, str, or list of these, optional
        What reports judge. Default: ``constraint``; for regression, equal mean predictions. With
        continuous columns the default is judged over the categorical columns together, and over
        the groups of each continuous one.
    difference_bound, ratio_bound : float, optional
        Replace the bounds of ``constraints``.
    continuous : str or sequence of str, default=()
        Sensitive columns that are numbers, such as ``("age",)``; unnamed ones are called
        ``"group"``, or ``"group_0"``, ``"group_1"``... All others are categories. Nothing is
        guessed: a column of fractions that is not named here raises.
    continuous_bins : int >= 2, default=4
        Groups that each is cut into for reports, by its quantiles in the rows of ``fit`` (rounded,
        so that no cut point need be a person's value), such as ``"age in [28, 37)"``. The adversary
        reads the number itself.
    temperature : float > 0, default=0.5
        Sharpness of the probabilities that the adversary sees beside the logits, and of the soft
        rates in ``history_``.
    **others
        ``task``, ``optimizer``, ``lr``, ``batch_size``, ``max_epochs``, ``lr_decay``, ``ema``,
        ``clip_norm``, ``base_loss``, ``validation_fraction``, ``certification_fraction``,
        ``frozen``, ``callbacks``, ``device``, ``precision``, ``fabric``, ``timeout``,
        ``sensitive_features``, ``positive_label``, ``missing``, ``min_count``, ``random_state``:
        as in ``LagrangianFairnessTrainer``. Validation rows are measured after every epoch, are
        what probes read, and choose nothing here.

    Attributes
    ----------
    module_ : nn.Module
        The trained predictor; the adversary is not kept.
    history_ : DataFrame
        A row an epoch: ``loss``, ``base_loss`` (the predictor's), ``adversary_loss``,
        ``adversary_accuracy`` and ``majority_accuracy`` (means over sensitive columns; measured
        before the adversary learns from a batch; of categorical columns),
        ``adversary_r2: <column>`` for every continuous one (0: knows nothing), ``strength``,
        ``adversary_collapsed``, ``adversary_restarts``, and what ``RegularizedFairnessTrainer``
        keeps.
    leakage_ : DataFrame or None
        What probes found on rows that trained nothing: ``model`` ("debiased" or "baseline"),
        ``column``, ``rows`` ("all", or those of one label where ``constraint`` is about labels),
        ``probe``, ``balanced_accuracy`` with ``lower`` and ``upper`` limits (95 %), ``chance``,
        ``n_rows``; for a continuous column ``r2`` instead of ``balanced_accuracy``, and chance 0.
    continuous_ : ContinuousColumns or None
        Scale and cut points of the continuous columns.
    fairness_report_ : FairnessReport
        As in ``LagrangianFairnessTrainer``, like ``reports_``, ``start_report_``, ``status_``,
        ``constraints_``, ``scheme_``, ``classes_``, ``n_iter_`` and ``n_skipped_``.

    Notes
    -----
    With ``fit_loader`` continuous columns come as floats: ``sensitive_features`` of a batch is a
    floating tensor of shape (n,) or (n, k) with the columns in the order of ``continuous``, or a
    pair (codes, floats) where there are groups too. One pass over the training loader learns their
    scale and cut points. Squared error hides the mean of a column, not its spread; probes of
    ``leakage_`` look for the mean alone.

    Several columns have a head each, so that none of them is readable alone; their intersections
    are not the adversary's aim.

    Examples
    --------
    >>> import numpy as np
    >>> from fairtrain import AdversarialDebiasingTrainer
    >>> rng = np.random.default_rng(0)
    >>> group = rng.integers(0, 2, 2000)
    >>> X = rng.normal(size=(2000, 2)) + group[:, None]
    >>> y = (X.sum(axis=1) + rng.normal(size=2000) > 1).astype(int)
    >>> gaps = [
    ...     AdversarialDebiasingTrainer(
    ...         strength=strength, max_epochs=10, leakage="none", random_state=0
    ...     )
    ...     .fit(X, y, sensitive_features=group)
    ...     .fairness_report_.results[0].achieved
    ...     for strength in (0.0, 5.0)
    ... ]
    >>> gaps[1] < gaps[0] - 0.1
    True
    """

    _alone = False  # the baseline trains without adversary

    _allowed: ClassVar[Table] = {
        "adversary": ANYTHING,
        "constraint": Choice(*get_args(Notion)),
        "representation": Of("be a layer's name", str) | NONE,
        "strength": Real(0) | FUNCTION,
        "method": Choice(*get_args(Method)),
        "adversary_steps": Whole(1),
        "adversary_lr": Real(0, ends="()"),
        "warm_up": Whole(0),
        "spectral_norm": FLAG,
        "gradient_penalty": Real(0),
        "restart": FLAG,
        "leakage": Choice(*get_args(Probed)),
        "continuous": NAMES,
        "continuous_bins": Whole(2),
    }

    def __init__(
        self,
        module: ModuleSpec = None,
        adversary: AdversarySpec = None,
        *,
        constraint: Notion = "demographic_parity",
        representation: str | None = None,
        strength: float | EtaSchedule = 5.0,
        method: Method = "reversal",
        adversary_steps: int = 1,
        adversary_lr: float = 5e-3,
        warm_up: int = 1,
        spectral_norm: bool = False,
        gradient_penalty: float = 0.0,
        restart: bool = True,
        leakage: Probed = "both",
        constraints: ConstraintSpec = None,
        difference_bound: float | None = None,
        ratio_bound: float | None = None,
        continuous: str | Sequence[str] = (),
        continuous_bins: int = 4,
        task: Literal["classification", "regression"] = "classification",
        optimizer: Any = None,
        lr: float = 2e-3,
        temperature: float = 0.5,
        batch_size: int | None = None,
        max_epochs: int | None = None,
        lr_decay: str | Callable[[float], float] = "cosine",
        ema: float | None = None,
        clip_norm: float | None = 1.0,
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
        self.adversary = adversary
        self.constraint = constraint
        self.representation = representation
        self.strength = strength
        self.method = method
        self.adversary_steps = adversary_steps
        self.adversary_lr = adversary_lr
        self.warm_up = warm_up
        self.spectral_norm = spectral_norm
        self.gradient_penalty = gradient_penalty
        self.restart = restart
        self.leakage = leakage
        self.constraints = constraints
        self.difference_bound = difference_bound
        self.ratio_bound = ratio_bound
        self.continuous = continuous
        self.continuous_bins = continuous_bins
        self.task = task
        self.optimizer = optimizer
        self.lr = lr
        self.temperature = temperature
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.lr_decay = lr_decay
        self.ema = ema
        self.clip_norm = clip_norm
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
        continuous_names(self.continuous)
        strength_at(self.strength, 0)
        judged: ConstraintSpec = self.constraints
        if judged is None:
            regression = self.task == "regression"
            judged = RateParity(label="mean_prediction") if regression else self.constraint
        asked = as_constraints(
            judged, difference_bound=self.difference_bound, ratio_bound=self.ratio_bound
        )
        refuse_given(
            asked,
            "an adversary hides groups from everybody, not within strata",
            "LagrangianFairnessTrainer",
        )
        return asked

    def criterion(self, *args: Any, **options: Any) -> FairCriterion:
        """Not for an adversary, which learns between the steps of a loop that knows it.

        Raises
        ------
        InvalidParameterError
            Always.
        """
        raise InvalidParameterError(
            "an adversary takes steps of its own, which another loop would not: use fit_loader, or "
            "criterion of RegularizedFairnessTrainer or LagrangianFairnessTrainer."
        )

    def _make_run(self, parts: RunParts, data: FitData) -> AdversarialRun:
        if self.constraint == "equal_opportunity" and parts.head.task != "binary":
            raise InvalidParameterError(
                "equal_opportunity needs two classes; use constraint='equalized_odds', which shows "
                "the adversary any label."
            )
        contest = ContestSettings(
            view=View(self.constraint, parts.head, output=self.representation is None),
            strength=self.strength,
            method=self.method,
            representation=self.representation,
            warm_up=int(self.warm_up),
            restart=self.restart,
        )
        if self._alone:
            return AdversarialRun(parts, data, contest, None)
        adversary = AdversarySettings(
            spec=self.adversary,
            levels=tuple(len(data.scheme.levels[i]) for i in data.categorical),
            lr=self.adversary_lr,
            steps=int(self.adversary_steps),
            spectral_norm=self.spectral_norm,
            gradient_penalty=self.gradient_penalty,
            seed=torch.initial_seed() % 2**31,
            n_values=0 if data.continuous is None else len(data.continuous.names),
        )
        return AdversarialRun(parts, data, contest, adversary)

    def _learn(self, data: FitData, resume_from: str | Path | None) -> None:
        if self.constraints is None and data.continuous is not None:
            self.constraints_ = column_by_column(
                self.constraints_, data.scheme, data.continuous.names
            )
        self.continuous_ = data.continuous
        super()._learn(data, resume_from)
        self.leakage_: pd.DataFrame | None = None
        if self.leakage == "none":
            return
        tables = [self._probe(self.module_, data, "debiased")]
        if self.leakage == "both":
            settings = {**self.get_params(deep=False), "callbacks": ()}
            baseline = AdversarialDebiasingTrainer(**settings)
            baseline._alone = True
            baseline.constraints_ = self.constraints_
            plan, _ = baseline._run_plan(data)
            tables.append(self._probe(plan.run.finish(), data, "baseline"))
        self.leakage_ = pd.concat(tables, ignore_index=True)
        self._notes += in_words(self.leakage_)

    def _probe(self, module: nn.Module, data: FitData, model: str) -> pd.DataFrame:
        """What fresh probes read on rows that trained nothing, where there are any."""
        source = data.steering or data.certification or data.training
        rows = represent(module, source, data, data.engine, self.representation)
        within: dict[str, Any] = {"all": None}
        if self.constraint == "equal_opportunity":
            within = {"y=1": 1}
        elif self.constraint == "equalized_odds" and data.head.task != "regression":
            within = {f"y={label}": label for label in range(data.head.n_classes)}
        return leakage_table(
            rows,
            tuple(data.scheme.columns[i] for i in data.categorical),
            model=model,
            within=within,
            seed=data.seed,
            continuous=() if data.continuous is None else data.continuous.names,
        )

    def _grouping(self, *, reset: bool) -> Callable[[Any], Groups] | None:
        if reset:
            return self._read_groups
        return None if self.continuous_ is None else partial(self.continuous_.encode, self.scheme_)

    def _read_groups(self, sensitive: Any) -> Groups:
        names = continuous_names(self.continuous)
        if isinstance(sensitive, Groups) and not names:
            return sensitive
        return read_columns(
            sensitive,
            names,
            bins=int(self.continuous_bins),
            missing=self.missing,
            min_count=self.min_count,
        )

    def _continuous_of_loaders(self) -> dict[str, Any]:
        bins = int(self.continuous_bins)
        return {"continuous": continuous_names(self.continuous), "bins": bins}

    def _explain(self, run: Run, data: FitData) -> list[str]:
        assert isinstance(run, AdversarialRun)
        if run.adversary is None or not len(self.history_):
            return []
        last = self.history_.iloc[-1]
        sentences = []
        if "adversary_accuracy" in last:
            sentences.append(
                f"The adversary ended at accuracy {last['adversary_accuracy']:.3f}; naming the "
                f"largest group gives {last['majority_accuracy']:.3f}."
            )
        names = () if data.continuous is None else data.continuous.names
        sentences += [
            f"The adversary ended at R^2 {last[f'adversary_r2: {name}']:.3f} for {name}; knowing "
            "nothing gives 0."
            for name in names
        ]
        if run.adversary.n_restarts:
            sentences.append(
                f"The adversary collapsed and was restarted {run.adversary.n_restarts} times: "
                "lower adversary_lr or strength, or set spectral_norm or gradient_penalty."
            )
        return sentences
