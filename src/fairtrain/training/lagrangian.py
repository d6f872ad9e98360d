"""``LagrangianFairnessTrainer``: hard constraints on any module."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.utils import check_random_state
from torch import nn

from fairtrain._parameters import ANYTHING, FLAG, FUNCTION, NONE, Choice, Real, Table, Where, Whole
from fairtrain.constraints import ConstraintSpec
from fairtrain.constraints.limits import require_linear
from fairtrain.data.draws import keyed_uniform
from fairtrain.lagrangian import (
    NETWORKS,
    Ascent,
    DualController,
    DualSettings,
    NuPI,
    explain_training,
    multiplier_frame,
)
from fairtrain.lagrangian.multipliers import DualRule
from fairtrain.training.batches.batch import FitData
from fairtrain.training.batches.inputs import row_values
from fairtrain.training.heads import Head
from fairtrain.training.loop.engine import Engine, Precision
from fairtrain.training.loop.game import (
    DUAL_STEPS,
    DualStep,
    LagrangianRun,
    TorchRule,
    best_mixture,
)
from fairtrain.training.loop.run import Run, RunParts
from fairtrain.training.loop.steps import PrimalStep
from fairtrain.training.modules import DefaultModule, ModuleSpec
from fairtrain.training.predictor import Members
from fairtrain.training.trainer import FairnessTrainer

__all__ = ["LagrangianFairnessTrainer"]

Floats = NDArray[np.float64]

Dual = Literal["ascent", "nu_pi", "augmented"]


class LagrangianFairnessTrainer(FairnessTrainer):
    r"""Train a network under hard fairness constraints: descent on weights, ascent on multipliers.

    .. math:: \min_\theta \max_{\lambda \ge 0}\; L(\theta)
              + \sum_{k, g} \lambda^+_{kg} (r_{kg} - c_k - \tfrac{b_k}{2})
              + \lambda^-_{kg} (c_k - \tfrac{b_k}{2} - r_{kg})

    with one free centre :math:`c_k` a rate, so that the rates of all groups must fit into an
    interval of the bound's width. Weights pay for *soft* rates of their batch, multipliers follow
    *hard* rates of rows that steer (proxy constraints; Cotter et al., 2019). Kept are the weights
    of the best epoch that keeps every bound on those rows, else of the least violating one, and
    what was achieved is measured and said.

    Parameters
    ----------
    module : nn.Module, callable or None, default=None
        A module, which is copied and never changed; its weights are the starting point. Or a
        factory ``(n_features, n_outputs) -> nn.Module``. Or None: two hidden layers of 64 on
        encoded features (:class:`~fairtrain.training.modules.TableEncoding`). It gives one logit a
        row (two are taken as one difference), C logits for C > 2 classes, or one number for
        regression.
    constraints : Constraint, str, fairlearn moment, or a list of these
        What is asked. Bounds limit the difference between *any two* groups. With several classes a
        parity is asked of each of them. Where constraints of different ``priority`` cannot all
        hold at an accuracy above the best constant, the lower ones give way first.
    difference_bound, ratio_bound : float, optional
        Replace the bounds of ``constraints``, so that they can be searched.
    task : {"classification", "regression"}, default="classification"
        Regression takes ``BoundedGroupLoss`` with a squared or own loss.
    optimizer : optimizer class or callable, optional
        Moves the weights: a class of ``torch.optim``, called with ``lr``, or a function of the
        parameters, with ``module`` as a second argument where it has one of that name: for
        learning rates that differ by layer. Default: AdamW with weight decay 0.001; for the default
        network of a classification 8,000 over the rows that train, at most 20.
    lr : float, default=2e-3
        Learning rate of the weights.
    dual_lr : float, default=0.5
        Step size of the multipliers: what a violation of 1 adds at one look.
    dual : {"ascent", "nu_pi", "augmented"} or DualRule, default="ascent"
        How multipliers move: plain ascent; with a proportional term against oscillation (Sohrabi
        et al., 2024); or plain ascent under an augmented Lagrangian, whose quadratic term damps
        the weights instead.
    dual_optimizer : callable, optional
        ``dual_optimizer(parameters)`` -> an optimizer of ``torch.optim`` that moves the multipliers
        in place of ``dual``, such as ``functools.partial(torch.optim.SGD, lr=0.1)``.
    dual_step : {"proxy", "simultaneous", "epoch"} or DualStep, default="proxy"
        When they move: at looks at the rows that steer; after every batch, on its own soft rates
        (the textbook); or once an epoch.
    dual_every : int, optional
        Steps of the weights between two looks. Default: ten looks an epoch, at least four steps
        apart.
    primal_step : callable, optional
        ``primal_step(engine, module, optimizer)`` -> a
        :class:`~fairtrain.training.loop.steps.PrimalStep` that takes the place of a gradient step.
    multiplier_cap : float, default=50.0
        Largest sum of a bound's multipliers on either side.
    temperature : float > 0, default=0.5
        Sharpness of the soft rates that weights pay for; smaller is closer to decisions.
    batch_size : int, optional
        Rows of a batch (of each process). Batches hold every group and label. Default: a twentieth
        of the training rows, between 64 and 512, or more where there are hundreds of groups.
    max_epochs : int, optional
        Epochs. Default: 30, or more where these come to less than 1,500 steps: multipliers need
        time to find their level.
    lr_decay : {"cosine", "none"} or callable, default="cosine"
        Factor of the learning rate as a function of the part of training that is over. What is
        left of a constant rate is noise around the bound.
    ema : float in (0, 1), optional
        Decay of a moving average of the weights, which then steers and is kept.
    clip_norm : float, optional, default=1.0
        Largest norm of a gradient.
    micro_batch_size : int, optional
        Rows that go through the module at once, where a batch does not fit into memory. Unlike
        accumulated gradients of small batches, whose rates are those of small batches, the loss
        stays that of the whole batch, to rounding; it costs a second forward pass. Batch
        normalisation sees the parts.
    objective : str, dict, matrix, ErrorCosts or callable, default="accuracy"
        What chooses the epoch, see :func:`~fairtrain.constraints.as_objective`: "accuracy",
        "balanced_accuracy", "f1", "auc", "log_loss", costs of errors, or a function. Where it says
        what errors cost (all but "auc", "log_loss" and functions) the usual loss charges it too.
        Several classes take "accuracy" or "log_loss".
    base_loss : callable, optional
        ``base_loss(logits, targets)`` -> a number, or one a row. Default: binary or multi-class
        cross entropy, or squared error.
    validation_fraction : float in [0, 1), default=0.2
        Share of the rows that steer. With 0 the training rows do, and bounds hold on them only.
    certification_fraction : float in [0, 1), default=0.0
        Share of the rows that are read once, after everything is decided.
    confidence : float in (0, 1), optional
        Tighten the working bounds until the *upper confidence limit* of every gap on the rows that
        steer keeps its bound, as far as their number allows (``explain()`` says where it does
        not). They choose among iterates, which flatters: no promise on new rows.
    margin : float in [0, 1), default=0.1
        Share of a difference bound (of 1 minus a ratio bound) that the multipliers leave unused, so
        that the iterates of a converged run lie inside the bound rather than on either side of it.
    tolerance : float, default=0.0
        Excess on the rows that steer that counts as kept when an epoch is chosen, as a share of
        the bound.
    mixture : bool, default=False
        Let the weights of several epochs share the decisions, where a mixture is more accurate than
        any one epoch that keeps the bounds: the best of all mixtures by the rows that steer. There
        may be one member more than groups and rates have bounds. Decisions are then drawn by a
        keyed hash of the row.
    frozen : str or sequence of str, default=()
        Names of submodules or parameters that keep their weights (fine-tuning), or patterns of
        names such as ``"*.bias"``.
    callbacks : sequence of Callback, default=()
        See :mod:`fairtrain.training.loop.callbacks`.
    device : str or torch.device, default="auto"
        Where to train; the trained module comes back on the CPU.
    precision : {"32", "bf16-mixed", "16-mixed"}, default="32"
        Autocast of the forward pass.
    fabric : lightning.fabric.Fabric, optional
        A launched Fabric that takes over device, precision and processes.
    timeout : float, default=600
        Seconds after which a process that waits for others under ``torchrun`` gives up.
    sensitive_features : str or list of str, optional
        Columns of ``X`` that hold the sensitive features: read at ``fit`` and dropped before the
        module. Alternatively pass the values to ``fit``.
    positive_label : label, optional
        The favourable outcome. May be left out for {0, 1}, {-1, 1}, booleans, and where the
        constraints treat both labels alike.
    missing : {"error", "group"}, default="error"
        Missing sensitive values raise, or form a group of their own.
    min_count : int, default=30
        Groups with fewer steering rows steer by their parents' rates, and are never judged fair on
        steering rows.
    random_state : int, RandomState or None
        Splits the rows, initialises a module that a factory makes, orders batches.

    Attributes
    ----------
    module_ : nn.Module
        The trained copy, on the CPU, in ``eval()`` mode.
    classes_ : ndarray of shape (C,)
        Labels, sorted.
    constraints_ : tuple of Constraint
        What was asked, bounds resolved.
    scheme_ : GroupScheme
        The groups: names and counts, no row.
    multipliers_ : DataFrame
        The last multipliers: constraint, group, above, below.
    history_ : DataFrame
        A row an epoch: ``loss``, ``base_loss``, ``penalty``, ``accuracy``, ``held_accuracy``,
        ``held_loss``; for every rate its gap on soft and hard decisions of training batches and on
        held-out rows (``gap_soft: ...``, ``gap_hard: ...``, ``gap_held: ...``), the bound that
        ``feasible`` is judged by and the sum of its multipliers; ``n_updates``, ``feasible``,
        ``lr``, ``gradient_norm``, ``dual_lr``, ``skipped``, ``seconds``.
    trace_ : DataFrame
        A row a dual update: excess over the working bound and sum of multipliers of every rate.
    best_epoch_ : int
        Epoch whose weights were kept.
    reports_ : dict of str to FairnessReport
        What was achieved on "training", "steering" and "certification" rows.
    fairness_report_ : FairnessReport
        The one on certification rows if there are any, else on steering rows, else on training
        rows.
    start_report_ : FairnessReport or None
        The same of the module as it came in, if one did.
    status_ : Verdict
        Verdict of ``fairness_report_``.
    mixture_ : tuple of (float, nn.Module) pairs or None
        The other members of the mixture with their shares of the decisions; ``module_`` makes
        what is left, the most.
    n_iter_, n_skipped_ : int
        Epochs, and batches skipped because a loss or gradient was not finite.
    n_features_in_, feature_names_in_
        As in scikit-learn, without the sensitive columns.

    Examples
    --------
    >>> import numpy as np
    >>> from fairtrain import LagrangianFairnessTrainer
    >>> rng = np.random.default_rng(0)
    >>> group = rng.integers(0, 2, 4000)
    >>> X = rng.normal(size=(4000, 2)) + 0.5 * group[:, None]
    >>> y = (X.sum(axis=1) + rng.normal(size=4000) > 0.5).astype(int)
    >>> trainer = LagrangianFairnessTrainer(difference_bound=0.05, max_epochs=20, random_state=0)
    >>> trainer = trainer.fit(X, y, sensitive_features=group)
    >>> str(trainer.status_)
    'not_certified'
    """

    _allowed: ClassVar[Table] = {
        "objective": ANYTHING,
        "dual_lr": Real(0, ends="()"),
        "dual": Choice("ascent", "nu_pi", "augmented") | FUNCTION,
        "dual_optimizer": FUNCTION | NONE,
        "dual_step": Choice(*DUAL_STEPS)
        | Where("be a DualStep", lambda step: hasattr(step, "after_batch")),
        "dual_every": Whole(1) | NONE,
        "primal_step": FUNCTION | NONE,
        "multiplier_cap": Real(0, ends="()"),
        "confidence": Real(0, 1, "()") | NONE,
        "micro_batch_size": Whole(1) | NONE,
        "margin": Real(0, 1, "[)"),
        "tolerance": Real(0, 1, "[)"),
        "mixture": FLAG,
    }

    def __init__(
        self,
        module: ModuleSpec = None,
        constraints: ConstraintSpec = "demographic_parity",
        *,
        difference_bound: float | None = None,
        ratio_bound: float | None = None,
        task: Literal["classification", "regression"] = "classification",
        optimizer: Any = None,
        lr: float = 2e-3,
        dual_lr: float = 0.5,
        dual: Dual | DualRule = "ascent",
        dual_optimizer: Callable[[list[torch.Tensor]], torch.optim.Optimizer] | None = None,
        dual_step: str | DualStep = "proxy",
        dual_every: int | None = None,
        primal_step: Callable[..., PrimalStep] | None = None,
        multiplier_cap: float = 50.0,
        temperature: float = 0.5,
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
        confidence: float | None = None,
        margin: float = 0.1,
        tolerance: float = 0.0,
        mixture: bool = False,
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
        self.constraints = constraints
        self.difference_bound = difference_bound
        self.ratio_bound = ratio_bound
        self.task = task
        self.optimizer = optimizer
        self.lr = lr
        self.dual_lr = dual_lr
        self.dual = dual
        self.dual_optimizer = dual_optimizer
        self.dual_step = dual_step
        self.dual_every = dual_every
        self.primal_step = primal_step
        self.multiplier_cap = multiplier_cap
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
        self.confidence = confidence
        self.margin = margin
        self.tolerance = tolerance
        self.mixture = mixture
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

    def _weight_decay(self, module: nn.Module, head: Head) -> float:
        # Not of penalties, which charge soft rates: small scores hide gaps of decisions from them.
        # Numbers to be predicted may be larger than decayed weights reach.
        if isinstance(module, DefaultModule) and head.task != "regression":
            return module.weight_decay
        return super()._weight_decay(module, head)

    def _make_run(self, parts: RunParts, data: FitData) -> LagrangianRun:
        if self.mixture:
            require_linear(self.constraints_, "mixture=True mixes rates; leave it out")
        settings = DualSettings(
            NETWORKS,
            iterates=data.epochs(self.max_epochs),
            cap=self.multiplier_cap,
            confidence=self.confidence,
            min_count=self.min_count,
            spare=self.margin,
            tolerance=self.tolerance,
            constant=data.constant_of(parts.cells.objective),
        )
        penalty = NETWORKS.proportional * self.dual_lr if self.dual == "augmented" else 0.0
        return LagrangianRun(
            parts,
            DualController(parts.cells.families, self._rule(), settings),
            self._dual_step(),
            augmented=penalty,
            keep_all=self.mixture,
        )

    def _rule(self) -> DualRule:
        if self.dual_optimizer is not None:
            return TorchRule(self.dual_optimizer)
        if self.dual in ("ascent", "augmented"):
            return Ascent(self.dual_lr)
        if self.dual == "nu_pi":
            return NuPI(self.dual_lr, NETWORKS.proportional * self.dual_lr, NETWORKS.memory)
        return copy.deepcopy(self.dual)  # type: ignore[return-value]

    def _dual_step(self) -> DualStep:
        if isinstance(self.dual_step, str):
            return DUAL_STEPS[self.dual_step](self.dual_every)
        return copy.deepcopy(self.dual_step)

    def _make_primal(
        self, engine: Engine, module: nn.Module, optimizer: torch.optim.Optimizer
    ) -> PrimalStep:
        if self.primal_step is not None:
            return self.primal_step(engine, module, optimizer)
        return super()._make_primal(engine, module, optimizer)

    def _finish(self, run: Run) -> None:
        assert isinstance(run, LagrangianRun)
        run.finish_choice()
        best = run.dual.choice.best
        self.best_epoch_ = -1 if best is None else best.when
        self.multipliers_ = multiplier_frame(run.families, run.multipliers)
        self.trace_ = _trace_frame(run)
        self.mixture_: tuple[tuple[float, nn.Module], ...] | None = None
        if self.mixture:
            self._mix(run)
        self.draw_key_ = int(check_random_state(self.random_state).randint(0, 2**62))

    def _mix(self, run: LagrangianRun) -> None:
        """Take the best mixture of all iterates, where it beats the one that was chosen."""
        choice = run.dual.choice
        kept = [(w, c, r) for w, c, r in run.iterates if c.when >= choice.warm_up]
        if not kept or choice.best is None:
            return
        shares = best_mixture(
            np.array([rates for _, _, rates in kept]),
            np.array([candidate.performance for _, candidate, _ in kept]),
            run.multipliers.bounds,
        )
        if shares is None or (shares > 0).sum() < 2:
            return
        first, *others = np.argsort(-shares, kind="stable")[: int((shares > 0).sum())].tolist()
        run.deployed.load_state_dict(kept[first][0])
        self.best_epoch_ = kept[first][1].when
        self.mixture_ = tuple(
            (float(shares[t]), _with_weights(run.deployed, kept[t][0])) for t in others
        )

    @property
    def _members(self) -> Members:
        others: Any = self.mixture_ or ()
        if others and isinstance(others[0], float):  # saved when a mixture was of two
            others = (others,)
        return [(1 - sum(share for share, _ in others), self.module_), *others]

    def predict(self, X: Any) -> NDArray[Any]:
        """Decide (for a mixture, by a draw that belongs to the row), or predict numbers.

        Returns
        -------
        ndarray of shape (n,)
            Labels; numbers for regression.
        """
        return super().predict(X)

    def _predicted(self, X: Any) -> NDArray[Any]:
        if self.mixture_ is None or self._coding is None:
            return super()._predicted(X)
        shares = self._coding.columns(self._decision(X))
        drawn = keyed_uniform(row_values(X), self.draw_key_)
        place = (np.cumsum(shares, axis=1) <= drawn[:, None]).sum(axis=1)
        return np.asarray(self.classes_[np.minimum(place, shares.shape[1] - 1)])

    def predict_proba(self, X: Any) -> Floats:
        """Probability of each class; for a mixture, of each decision.

        Returns
        -------
        ndarray of shape (n, C)
            In the order of ``classes_``.
        """
        return super().predict_proba(X)

    def _probabilities(self, X: Any) -> Floats:
        if self.mixture_ is None:
            return super()._probabilities(X)
        return self._classification("predict_proba").columns(self._decision(X))

    def plot_convergence(self, ax: Any = None) -> Any:
        """Draw loss, violation and multipliers over the epochs.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where; a new figure by default.

        Returns
        -------
        matplotlib Axes
        """
        from fairtrain.plotting import plot_convergence

        return plot_convergence(self.history_, ax=ax, best_epoch=self.best_epoch_)

    def _explain(self, run: Run, data: FitData) -> list[str]:
        assert isinstance(run, LagrangianRun)
        return explain_training(
            self.fairness_report_, run.dual, base_rates=data.base_rates, names=data.scheme.names
        )

    def _warn_of_outcome(self) -> None:
        self._warn_of_broken_bounds()
        self._warn_of_uselessness()


def _with_weights(module: nn.Module, weights: Any) -> nn.Module:
    """A module of other weights, on the CPU, to decide with."""
    # Whole, not as what differs: float32 differences do not add up exactly, and the bits that
    # differ pack into 53 to 77 % of the bytes of the weights, which pack into 88 % themselves.
    other = copy.deepcopy(module)
    other.load_state_dict(weights)
    return other.cpu().eval()


def _trace_frame(run: LagrangianRun) -> pd.DataFrame:
    names = [family.name for family in run.families]
    columns = [f"excess: {name}" for name in names] + [f"multipliers: {name}" for name in names]
    rows = np.hstack([run.dual.excess, run.dual.sums])
    return pd.DataFrame(rows.reshape(-1, len(columns)), columns=columns)
