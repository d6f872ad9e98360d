"""``FairPlugInTrainer``: networks trained once, every notion and bound priced afterwards."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.sparse import issparse
from torch import Tensor, nn

from fairtrain._parameters import (
    ANYTHING,
    FUNCTION,
    NAMES,
    NONE,
    SPLITTER,
    Choice,
    Real,
    Several,
    Table,
    Whole,
)
from fairtrain._warnings import warn
from fairtrain.constraints import ConstraintSpec
from fairtrain.data.draws import keyed_uniform, new_key
from fairtrain.data.rows import Rows
from fairtrain.exceptions import InvalidDataError, InvalidParameterError, SkippedBatchWarning
from fairtrain.plugin.linear import JointScores
from fairtrain.plugin.priced import PricedClassifier
from fairtrain.plugin.repricing import Memory
from fairtrain.plugin.scores import GroupMaps
from fairtrain.training.batches.rows import batch_size_of
from fairtrain.training.crossfit import CrossFitRun, Fold, FoldStep, JointRows, joint_of
from fairtrain.training.joint import GroupLayer, JointHead, JointModule
from fairtrain.training.loop.callbacks import EarlyStopping
from fairtrain.training.loop.engine import Engine, Precision, dtype_of, local_randomness, trainable
from fairtrain.training.loop.epochs import TrainingLoop
from fairtrain.training.loop.steps import decay_of, make_optimizer
from fairtrain.training.modules import DefaultModule, ModuleSpec, build_module
from fairtrain.training.predictor import TensorFeatures, require_finite

__all__ = ["FairPlugInTrainer"]

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]

_EPOCHS, _STEPS = 30, 3000
"""Most epochs, and steps that they may come to all the same, where nobody says how many."""

_PATIENCE, _WAITED = 4, 100
"""Epochs without a smaller loss out of fold, and steps that they come to at least."""


class FairPlugInTrainer(TensorFeatures, PricedClassifier):
    r"""Train networks once for label and group, and price what they say for any bound.

    Networks learn P(g, y | x) by ordinary cross entropy, so that one trunk serves label and group.
    Decisions are those of :class:`~fairtrain.plugin.FairPlugInClassifier`,

    .. math:: d(x) = 1\Big[a(x) - \sum_j p_j\, h_j(x) > 0\Big], \qquad
       h_j(x) = E[s(y)\, 1(g, E) \mid x] / P(g, E),

    whose few prices :math:`p_j` follow from a convex problem on rows that trained none of the
    networks that score them: another notion or bound costs no training (:meth:`with_bounds`,
    :meth:`with_constraints`, :meth:`frontier`), and no multiplier has to find its level while
    weights move. Nobody's group is needed to decide.

    Parameters
    ----------
    module : nn.Module, callable or None, default=None
        A module, which is copied and never changed; its weights are the starting point. It gives
        the label's logit (or two) a row, and a linear layer for the groups is put beside its last
        one; or a logit for every group and label, group by group, (n, 2 G). Or a factory
        ``(n_features, n_outputs) -> nn.Module`` with ``n_outputs`` = 2 G. Or None: two hidden
        layers of 64 on encoded features.
    constraints : Constraint, str, fairlearn moment, or a list of these
        What is asked. Rates must be linear in decisions: not a bounded loss of probabilities.
        Where not all can hold together, those of lower ``priority`` give way.
    difference_bound, ratio_bound : float, optional
        Replace the bounds of the parities in ``constraints``, so that they can be searched.
    cv : int, splitter, iterable of (training, held-out) positions or None, default=5
        Folds, each with networks of its own; new people are scored by the mean of all. None trains
        on one part and prices on the other, ``validation_fraction``: for large networks.
    ensemble : int, default=1
        Networks a fold, which differ in what they start from and in the order of their rows.
    objective : str, dict, matrix, ErrorCosts or callable, default="accuracy"
        What decisions are best at, see :func:`~fairtrain.constraints.as_objective`. Measures of
        scores are refused: prices leave scores as they are.
    sensitive_at_predict : bool, default=False
        The group is known when deciding, and lawful to use: it replaces what would be estimated.
        ``predict`` and its kin then need ``sensitive_features``, and a factory makes one output.
    mixing : float, default=100
        Rows of a cell at which its counted rate weighs as much as the score-weighted one.
    aim : bool, default=True
        For demographic parity: aim at the bound at which the *expected* gap of rates as noisy as
        these is the bound asked for.
    confidence : float in (0, 1), optional
        Tighten bounds so that this confidence limit of the gap keeps them.
    optimizer : optimizer class or callable, optional
        Moves the weights: a class of ``torch.optim``, called with ``lr``, or a function of the
        parameters. Default: AdamW with weight decay 0.001.
    lr : float, default=2e-3
        Learning rate.
    batch_size : int, optional
        Rows of a batch of each network. Default: a twentieth of the rows that train it, between 64
        and 512.
    max_epochs : int, optional
        Most epochs. Default: 30, or more where these come to less than 3,000 steps.
    patience : int, optional
        Epochs without a smaller log loss out of fold after which training stops; the best epoch is
        kept. Default: 4, or more where these come to less than 100 steps.
    lr_decay : {"cosine", "none"} or callable, default="none"
        Factor of the learning rate as a function of the part of ``max_epochs`` that is over.
    ema : float in (0, 1) or None, default=0.99
        Decay of a moving average of the weights, which is judged and kept.
    clip_norm : float, optional, default=1.0
        Largest norm of a network's gradient.
    frozen : str or sequence of str, default=()
        Names of submodules or parameters of ``module`` that keep their weights (fine-tuning).
    callbacks : sequence of Callback, default=()
        See :mod:`fairtrain.training.loop.callbacks`; checkpoints are not kept.
    device : str or torch.device, default="auto"
        Where to train; trained modules come back on the CPU.
    precision : {"32", "bf16-mixed", "16-mixed"}, default="32"
        Autocast of the forward pass.
    validation_fraction : float in (0, 1), default=0.2
        With ``cv=None``, share of the rows that stop training and choose prices.
    certification_fraction : float, optional
        Share of the rows that are set aside and read once, after everything is decided.
    sensitive_features : str or list of str, optional
        Columns of ``X`` that hold the sensitive features, dropped before the module.
    positive_label : label, optional
        The favourable outcome; may be left out for {0, 1}, {-1, 1} and booleans.
    missing : {"error", "group"}, default="error"
        Missing sensitive values raise, or form a group of their own.
    min_count : int, default=30
        Groups with fewer rows are never judged fair on steering rows.
    random_state : int, RandomState or None
        Makes folds, initialises modules that a factory makes, orders batches, and makes the key of
        decisions drawn by lot.

    Attributes
    ----------
    modules_ : list of nn.Module
        The trained networks, fold by fold, on the CPU and in ``eval()`` mode.
    group_layers_ : list of GroupLayer or None
        The layer for the groups of each, where the module has none of its own.
    best_epoch_, n_iter_, n_skipped_ : int
        Epoch whose weights were kept, epochs, and batches skipped because a loss or gradient was
        not finite.
    history_ : DataFrame
        A row an epoch: ``loss``, ``held_loss`` (log loss of group and label out of fold),
        ``held_outcome_loss``, ``lr``, ``gradient_norm``, ``skipped``, ``seconds``.
    log_loss_ : dict of str to float
        Out-of-fold log loss of "outcome" and, given it, of "group", in nats.
    prices_ : DataFrame
        A row a cell: ``constraint``, ``group``, ``price`` in units of 2 P(y = 1 | x) - 1.
    estimator_name_, group_estimator_name_ : str
        What gives the scores; no name where the group is known.
    costs_ : ErrorCosts
        What the objective says of the two errors: given, or under which it is at its best.
    lottery_ : bool
        Whether people whose scores tie are decided by lot.
    baseline_report_ : FairnessReport or None
        The same scores without prices, on the same rows; None where errors cost differently.
    classes_, constraints_, scheme_, reports_, fairness_report_, status_, usefulness_
        See :class:`~fairtrain.estimator.FairEstimator`.
    n_features_in_, feature_names_in_
        As in scikit-learn, without the sensitive columns.

    Notes
    -----
    What another bound needs (scores, labels and codes of the rows of ``fit``) lives in memory only:
    pickles and saved folders drop it.

    Examples
    --------
    >>> import numpy as np
    >>> from fairtrain import FairPlugInTrainer
    >>> rng = np.random.default_rng(0)
    >>> group = rng.integers(0, 2, 2000)
    >>> X = rng.normal(size=(2000, 2)) + group[:, None]
    >>> y = (X.sum(axis=1) + rng.normal(size=2000) > 1).astype(int)
    >>> trainer = FairPlugInTrainer(difference_bound=0.1, cv=2, max_epochs=10, random_state=0)
    >>> trainer = trainer.fit(X, y, sensitive_features=group)
    >>> bool(trainer.fairness_report_.results[0].achieved < 0.12)
    True
    >>> looser = trainer.with_bounds(difference_bound=0.3)  # no training
    >>> bool(looser.score(X, y) > trainer.score(X, y))
    True
    """

    not_saved = ("_memory",)
    is_main_process = True  # processes of torchrun would each train the same networks

    _allowed: ClassVar[Table] = {
        "module": ANYTHING,
        "cv": Whole(2) | SPLITTER | NONE,
        "ensemble": Whole(1),
        "optimizer": ANYTHING,
        "lr": Real(0, ends="()"),
        "batch_size": Whole(1) | NONE,
        "max_epochs": Whole(1) | NONE,
        "patience": Whole(1) | NONE,
        "lr_decay": Choice("cosine", "none") | FUNCTION,
        "ema": Real(0, 1, "()") | NONE,
        "clip_norm": Real(0, ends="()") | NONE,
        "frozen": NAMES,
        "callbacks": Several(ANYTHING, "be a list of callbacks"),
        "device": ANYTHING,
        "precision": Choice("32", "bf16-mixed", "16-mixed"),
    }

    def __init__(
        self,
        module: ModuleSpec = None,
        constraints: ConstraintSpec = "demographic_parity",
        *,
        difference_bound: float | None = None,
        ratio_bound: float | None = None,
        cv: Any = 5,
        ensemble: int = 1,
        objective: Any = "accuracy",
        sensitive_at_predict: bool = False,
        mixing: float = 100.0,
        aim: bool = True,
        confidence: float | None = None,
        optimizer: Any = None,
        lr: float = 2e-3,
        batch_size: int | None = None,
        max_epochs: int | None = None,
        patience: int | None = None,
        lr_decay: str | Callable[[float], float] = "none",
        ema: float | None = 0.99,
        clip_norm: float | None = 1.0,
        frozen: str | Sequence[str] = (),
        callbacks: Sequence[Any] = (),
        device: Any = "auto",
        precision: Precision = "32",
        validation_fraction: float | None = 0.2,
        certification_fraction: float | None = None,
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
        self.cv = cv
        self.ensemble = ensemble
        self.objective = objective
        self.sensitive_at_predict = sensitive_at_predict
        self.mixing = mixing
        self.aim = aim
        self.confidence = confidence
        self.optimizer = optimizer
        self.lr = lr
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.patience = patience
        self.lr_decay = lr_decay
        self.ema = ema
        self.clip_norm = clip_norm
        self.frozen = frozen
        self.callbacks = callbacks
        self.device = device
        self.precision = precision
        self.validation_fraction = validation_fraction
        self.certification_fraction = certification_fraction
        self.sensitive_features = sensitive_features
        self.positive_label = positive_label
        self.missing = missing
        self.min_count = min_count
        self.random_state = random_state

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        sensitive_features: Any = None,
        sample_weight: Any = None,
        clusters: Any = None,
    ) -> Self:
        """Train networks fold by fold, then find prices.

        Parameters
        ----------
        X : array, frame or Tensor of shape (n, d), or Tensor of shape (n, ...)
            Features: numbers without gaps.
        y : array-like of shape (n,)
            Two labels.
        sensitive_features : frame, series, mapping, array or list of n rows, optional
            Who; left out where the constructor names columns of ``X``.
        sample_weight : array-like of shape (n,), optional
            Weights of the rows, in the loss, the gain and the rates.
        clusters : array-like of shape (n,) or str, optional
            Which rows belong together, such as those of one customer, or the column of ``X`` that
            says so: no split tears them apart, and limits allow for them.

        Returns
        -------
        self

        Raises
        ------
        InvalidDataError, InvalidParameterError
            If rows, settings or the module cannot be used.
        FairtrainError
            If batch after batch, or a weight, ends as NaN or infinity.

        Warns
        -----
        ConstraintNotMetWarning, NearConstantWarning, SkippedBatchWarning
        """
        if isinstance(X, Mapping) and not issparse(X):  # some sparse matrices are mappings
            raise InvalidDataError(
                "FairPlugInTrainer takes rows as one array, frame or tensor, not inputs by name: "
                "put them into one tensor, or use LagrangianFairnessTrainer."
            )
        return self._fit(X, y, sensitive_features, sample_weight, clusters)

    # Training -----------------------------------------------------------------------------------

    def _check_settings(self) -> None:
        if self.cv is None and not self.validation_fraction:
            raise InvalidParameterError(
                "cv=None prices on rows that are held out: validation_fraction must be above 0."
            )

    def _train(self, rows: Rows, rng: np.random.RandomState) -> Rows:
        if self.cv is not None:
            return super()._train(rows, rng)
        self._memory = None  # of an earlier fit
        split = rows.split
        assert split is not None
        held = np.arange(len(split.training), len(split.training) + len(split.steering))
        both = rows.take(np.concatenate([split.training, split.steering]))
        scores = self._cross_fit(both, [(np.arange(len(split.training)), held)], rng)
        self.draw_key_ = new_key(rng)
        steering = replace(rows.part("steering"), X=None)
        self._memory = Memory(scores, steering, "rates of rows that trained nothing")
        self._price(None)
        return rows

    def _learn(self, rows: Rows, rng: np.random.RandomState) -> JointScores:
        return self._cross_fit(rows, rows.folds(self.cv, rng), rng)

    def _cross_fit(
        self, rows: Rows, folds: Sequence[Fold], rng: np.random.RandomState
    ) -> JointScores:
        """Train the networks of all folds; scores of the rows that are held out, in their order."""
        engine = Engine(self.device, self.precision)
        seed = int(rng.randint(0, 2**31 - 1))
        self._head = JointHead(1 if self.sensitive_at_predict else len(rows.groups))
        with local_randomness(seed, engine.device):
            run = self._run(rows, folds, engine, seed)
            self._train_networks(run, engine)
        trained = run.finish()
        for network in trained:
            require_finite(network)
        self.modules_: list[nn.Module] = [network.body for network in trained]
        self.group_layers_: list[GroupLayer | None] = [n.group_layer() for n in trained]
        self.best_epoch_, self.log_loss_ = run.best_epoch, run.log_losses
        self.estimator_name_ = type(self.modules_[0]).__name__
        self.group_estimator_name_ = None
        joint = run.joint[np.sort(run.held)]
        if not self.sensitive_at_predict:
            self.group_estimator_name_ = "the same network"
            return JointScores.of(joint)
        del self.log_loss_["group"]
        known = rows.take(np.sort(run.held))
        outcome, y, codes = joint[:, 0, 1], known.outcomes.astype(np.int64), known.groups.codes
        self._maps = GroupMaps.fit(outcome, y, codes, len(rows.groups), known.weight)
        return JointScores.of_known(self._maps(outcome, codes), codes, len(rows.groups))

    def _run(self, rows: Rows, folds: Sequence[Fold], engine: Engine, seed: int) -> CrossFitRun:
        """Make the networks, and put the rows where they are."""
        x: Tensor = rows.X
        n_features = int(x.shape[1]) if x.ndim == 2 else None
        weight = None if rows.weight is None else torch.from_numpy(rows.weight)
        networks = []
        for _ in range(len(folds) * int(self.ensemble)):
            body = build_module(self.module, n_features, self._head.n_outputs)
            x = x.to(dtype_of(body)) if x.is_floating_point() else x
            if isinstance(body, DefaultModule):
                body.learn(x, weight)
            network = JointModule.around(body, self._head, x[:2], len(x[:2]))
            networks.append(network.to(engine.device))
        codes = np.zeros_like(rows.groups.codes) if self.sensitive_at_predict else rows.groups.codes
        cells = torch.from_numpy(2 * codes + rows.outcomes.astype(np.int64))
        placed = JointRows(
            x.to(engine.device),
            cells.to(engine.device),
            None if weight is None else (weight / weight.mean()).to(engine.device),
        )
        return CrossFitRun(
            networks,
            placed,
            folds,
            ensemble=int(self.ensemble),
            batch_size=int(self.batch_size or batch_size_of(min(len(t) for t, _ in folds))),
            seed=seed,
        )

    def _train_networks(self, run: CrossFitRun, engine: Engine) -> None:
        weights: list[nn.Parameter] = []
        for network in run.networks:
            weights += trainable(network.body, self.frozen)
            weights += [] if network.group is None else network.group.parameters()
        optimizer = make_optimizer(self.optimizer, weights, lr=self.lr)
        step = FoldStep(
            engine,
            run.stack,
            optimizer,
            clip_norm=self.clip_norm,
            decay=decay_of(self.lr_decay),
            ema=self.ema,
        )
        deployed = step.deployed
        assert isinstance(deployed, nn.ModuleList)
        run.deployed = deployed
        steps = run.n_batches
        self.loop_ = loop = TrainingLoop(
            run.step,
            step,
            run,
            max_epochs=int(self.max_epochs or max(_EPOCHS, -(-_STEPS // steps))),
            hooks=run,
            callbacks=[
                EarlyStopping(
                    int(self.patience or max(_PATIENCE, -(-_WAITED // steps))),
                    monitor="held_loss",
                    min_delta=1e-5,
                    lower_is_better=True,
                ),
                *self.callbacks,
            ],
            trainer=self,
        )
        try:
            loop.run()
        finally:
            del self.loop_  # a trainer keeps no loop, no batch and no row
        self.history_ = pd.DataFrame(loop.history)
        self.n_iter_, self.n_skipped_ = len(loop.history), loop.n_skipped
        if loop.n_skipped:
            warn(
                f"{loop.n_skipped} batches were skipped: their loss or gradient was not finite.",
                SkippedBatchWarning,
            )

    def checkpoint_state(self) -> dict[str, Any]:
        """Nothing to go on from is kept.

        Raises
        ------
        InvalidParameterError
            Always.
        """
        raise InvalidParameterError(
            "FairPlugInTrainer keeps no checkpoints: leave the Checkpoint callback out."
        )

    # Scores -------------------------------------------------------------------------------------

    def _joint(self, X: Tensor) -> Floats:
        """Mean P(g, y | x) of the networks, for features that were checked, (n, G, 2)."""
        pairs = zip(self.modules_, self.group_layers_, strict=True)
        return joint_of([JointModule(body, self._head, layer) for body, layer in pairs], X)

    def _outcomes(self, X: Any, codes: Codes | None) -> Floats:
        outcome = np.asarray(self._joint(X)[:, :, 1].sum(axis=1))
        return outcome if codes is None else self._maps(outcome, codes)

    def _scores(self, X: Any, codes: Codes | None) -> JointScores:
        if codes is not None:
            return JointScores.of_known(self._outcomes(X, codes), codes, len(self.scheme_))
        return JointScores.of(self._joint(X))

    def _drawn(self, X: Any) -> Floats:
        return keyed_uniform(X.flatten(1).numpy(), self.draw_key_)
