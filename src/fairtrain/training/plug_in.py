"""``FairPlugInTrainer``: networks trained once, every notion and bound priced afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils import check_random_state
from torch import nn

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
    check_parameters,
)
from fairtrain._warnings import warn
from fairtrain.constraints import ConstraintSpec
from fairtrain.data.draws import new_key
from fairtrain.data.groups import Groups, GroupScheme
from fairtrain.data.rows import Role, Rows
from fairtrain.exceptions import InvalidParameterError, SkippedBatchWarning
from fairtrain.losses.distributed import is_distributed
from fairtrain.metrics.ledger import Ledger
from fairtrain.plugin.linear import JointScores
from fairtrain.plugin.repricing import Memory
from fairtrain.training.batches.adapter import BatchAdapter
from fairtrain.training.batches.batch import FitData
from fairtrain.training.batches.loaders import from_loaders
from fairtrain.training.batches.rows import as_batch, batch_size_of
from fairtrain.training.crossfit import CrossFitRun, FoldStep
from fairtrain.training.heads import Head
from fairtrain.training.joint import JointHead, JointModule
from fairtrain.training.joint_rows import (
    Fold,
    FoldRows,
    HeldOut,
    JointSource,
    LoaderRows,
)
from fairtrain.training.loop.callbacks import EarlyStopping
from fairtrain.training.loop.engine import (
    Engine,
    Precision,
    by_torchrun,
    dtype_of,
    local_randomness,
    trainable,
)
from fairtrain.training.loop.epochs import TrainingLoop
from fairtrain.training.loop.steps import WEIGHT_DECAY, decay_of, make_optimizer
from fairtrain.training.modules import DefaultModule, ModuleSpec
from fairtrain.training.predictor import require_finite
from fairtrain.training.priced_networks import PricedNetworks
from fairtrain.training.resumable import Resumable

__all__ = ["FairPlugInTrainer"]

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]

_EPOCHS, _STEPS = 30, 3000
"""Most epochs, and steps that they may come to all the same, where nobody says how many."""

_PATIENCE, _WAITED = 4, 100
"""Epochs without a smaller loss out of fold, and steps that they come to at least."""

_APART = "rates of rows that trained nothing"

_LESS_DECAY = 0.25
"""Share of the default network's weight decay, which is for weights of the last step.

On five sets of 455 to 3,000 rows, three splits each, log loss of the label falls by .0015 to .004,
of the group by .001 to .009, and AUC rises by .0003 to .0034; the whole decay adds .045 to the log
loss of income on 1,000 rows.
"""


class FairPlugInTrainer(PricedNetworks, Resumable):
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
        parameters, and of the module if it has an argument ``module``. Default: AdamW with weight
        decay 0.001; for the default network 2,000 over the number of rows, at most 5.
    lr : float, default=2e-3
        Learning rate.
    batch_size : int, optional
        Rows of a batch of each network. Default: a twentieth of the rows that train it, between 64
        and 512. Rows that are no vectors go through a network that many at a time afterwards too.
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
        See :mod:`fairtrain.training.loop.callbacks`.
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
    _may_differ = frozenset(
        {"callbacks", "device", "module", "constraints", "difference_bound", "ratio_bound"}
        | {"objective", "mixing", "aim", "confidence"}  # only prices heed these
    )

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
        y: Any = None,
        *,
        sensitive_features: Any = None,
        sample_weight: Any = None,
        clusters: Any = None,
        resume_from: str | Path | None = None,
    ) -> Self:
        """Train networks fold by fold, then find prices.

        Parameters
        ----------
        X : array, frame or Tensor of shape (n, d), Tensor of shape (n, ...), or mapping of these
            Features: numbers without gaps. What a mapping holds goes to the module by name.
        y : array-like of shape (n,)
            Two labels.
        sensitive_features : frame, series, mapping, array or list of n rows, optional
            Who; left out where the constructor names columns of ``X``.
        sample_weight : array-like of shape (n,), optional
            Weights of the rows, in the loss, the gain and the rates.
        clusters : array-like of shape (n,) or str, optional
            Which rows belong together, such as those of one customer, or the column of ``X`` that
            says so: no split tears them apart, and limits allow for them.
        resume_from : str or Path, optional
            A file that :class:`~fairtrain.training.loop.callbacks.Checkpoint` wrote under the same
            rows and settings of training: it goes on from there. What is asked may be another.

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
        self._resume_from = resume_from
        try:
            return self._fit(X, y, sensitive_features, sample_weight, clusters)
        finally:
            del self._resume_from

    def fit_loader(
        self,
        train_loader: Iterable[Any],
        validation_loader: Iterable[Any],
        certification_loader: Iterable[Any] | None = None,
        *,
        groups: Groups | GroupScheme | None = None,
        num_groups: int | Sequence[int] | None = None,
        adapter: BatchAdapter | None = None,
        resume_from: str | Path | None = None,
    ) -> Self:
        """Train on the batches of one loader, stop and price by those of another.

        With ``cv=None`` only: folds need rows at hand, for a loader that shuffles does not tell
        which row is which. Networks of an ensemble see the same batches, and differ in what they
        start from.

        Parameters
        ----------
        train_loader, validation_loader, certification_loader : iterable
            Batches as in :meth:`LagrangianFairnessTrainer.fit_loader`; labels are 0/1. The rows of
            the second choose epoch and prices, those of the third are read once, at the end.
        groups, num_groups, adapter
            As there. Rows of unknown group (-1) teach the label alone.
        resume_from : str or Path, optional
            See :meth:`fit`.

        Returns
        -------
        self
        """
        check_parameters(self)
        if self.cv is not None:
            raise InvalidParameterError(
                "fit_loader trains on one loader and prices on another; folds need rows at hand, "
                "for a loader that shuffles does not tell which row is which: set cv=None, or use "
                "fit."
            )
        if is_distributed() or by_torchrun():
            raise InvalidParameterError(
                "FairPlugInTrainer trains in one process: start it without torchrun, or use "
                "LagrangianFairnessTrainer, which sums over processes."
            )
        self._forget()
        rng = check_random_state(self.random_state)
        self.constraints_, self._notes = self._read_constraints(), []
        loaders: dict[Role, Any] = {"training": train_loader, "steering": validation_loader}
        if certification_loader is not None:
            loaders["certification"] = certification_loader
        data = from_loaders(
            loaders,
            Head("binary"),
            groups=groups,
            num_groups=num_groups,
            engine=Engine(self.device, self.precision),
            seed=int(rng.randint(0, 2**31 - 1)),
            adapter=adapter,
        )
        assert data.labels is not None
        self.scheme_, self._coding, self.classes_ = data.scheme, data.labels, data.labels.classes
        self.n_features_in_ = data.width
        self._sought(data.labels)
        self._resume_from = resume_from
        try:
            self._learn_from(data, rng)
        finally:
            del self._resume_from
        self._warn_of_outcome()
        return self

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
        self._memory = Memory(scores, replace(rows.part("steering"), X=None), _APART)
        self._price(None)
        return rows

    def _learn(self, rows: Rows, rng: np.random.RandomState) -> JointScores:
        return self._cross_fit(rows, rows.folds(self.cv, rng), rng)

    def _learn_from(self, data: FitData, rng: np.random.RandomState) -> None:
        """Train on loaders, price, and judge."""
        self._memory = None
        assert data.steering is not None
        source = LoaderRows(data.training, data.steering, int(self.ensemble))
        engine, first = data.engine, data.example
        self._head = JointHead(1 if self.sensitive_at_predict else len(data.scheme))
        with local_randomness(data.seed, engine.device):
            networks = self._networks(first, data.n_features, engine, source.ensemble)
            for each in data.sources.values():
                each.prepare(networks[0])
            held = self._train_networks(networks, source, engine)
        self.draw_key_ = new_key(rng)
        known = held.rows
        rows = Rows(
            None,
            known.y.double().numpy(),
            Groups(data.scheme, known.codes.numpy()),
            None if known.weight is None else known.weight.numpy(),
            data.labels,
            clusters=None if known.clusters is None else known.clusters.numpy(),
        )
        self._memory = Memory(self._scores_of(held), rows, _APART)
        steering = rows.decided(self._price(None))
        reports, self.ledger_ = {}, Ledger()
        for role, part in data.sources.items():
            decided, hashes = self._decide_and_hash(part, data)
            self.ledger_.enter(role, hashes)
            reports[role] = self._judged(steering if role == "steering" else decided, role)
        self._keep_reports(reports)

    def _cross_fit(
        self, rows: Rows, folds: Sequence[Fold], rng: np.random.RandomState
    ) -> JointScores:
        """Train the networks of all folds; scores of the rows that are held out, in their order."""
        engine = Engine(self.device, self.precision)
        seed = int(rng.randint(0, 2**31 - 1))
        self._head = JointHead(1 if self.sensitive_at_predict else len(rows.groups))
        batch = as_batch(rows)
        n_features = int(batch.x.shape[1]) if self._is_table(batch.x) else None
        with local_randomness(seed, engine.device):
            size = len(folds) * int(self.ensemble)
            networks = self._networks(batch, n_features, engine, size, at_hand=True)
            source = FoldRows(
                batch.to(engine.device, dtype_of(networks[0])),
                folds,
                ensemble=int(self.ensemble),
                batch_size=int(self.batch_size or batch_size_of(min(len(t) for t, _ in folds))),
                seed=seed,
                chunk=self._chunk(batch.x),
            )
            return self._scores_of(self._train_networks(networks, source, engine))

    def _train_networks(
        self, networks: Sequence[JointModule], source: JointSource, engine: Engine
    ) -> HeldOut:
        """Train them, and keep those of the best epoch; what they say of rows held out."""
        run = CrossFitRun(networks, source)
        weights: list[nn.Parameter] = []
        for network in networks:
            weights += trainable(network.body, self.frozen)
            weights += [] if network.group is None else network.group.parameters()
        more: dict[str, Any] = {}
        if isinstance(body := run.networks[0].body, DefaultModule):
            more["weight_decay"] = max(_LESS_DECAY * body.weight_decay, WEIGHT_DECAY)
        step = FoldStep(
            engine,
            run.stack,
            make_optimizer(self.optimizer, weights, lr=self.lr, module=run.stack, **more),
            clip_norm=self.clip_norm,
            decay=decay_of(self.lr_decay),
            ema=self.ema,
        )
        deployed = step.deployed
        assert isinstance(deployed, nn.ModuleList)
        run.deployed = deployed
        self._run_loop(run, step)
        trained, held = run.finish()
        for each in trained:
            require_finite(each)
        self.modules_ = [network.body for network in trained]
        self.group_layers_ = [n.group_layer() for n in trained]
        self.best_epoch_ = run.best_epoch
        return held

    def _run_loop(self, run: CrossFitRun, step: FoldStep) -> None:
        steps = run.source.n_batches or _STEPS
        self.loop_ = loop = TrainingLoop(
            run.step,
            step,
            run.source,
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
            self._resume(self._resume_from)
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

    def _trained_groups(self) -> Any:
        return self.scheme_.names

    def _division_seed(self) -> int | None:
        source = self.loop_.source
        return source.seed if isinstance(source, FoldRows) else None
