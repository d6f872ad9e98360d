"""What all trainers share: the face of a scikit-learn estimator around the training loop."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch
from sklearn.utils import check_random_state
from torch import nn

from fairtrain._parameters import (
    ANYTHING,
    FUNCTION,
    NAMES,
    NONE,
    Choice,
    Real,
    Several,
    Table,
    Whole,
    check_parameters,
)
from fairtrain._warnings import warn
from fairtrain.constraints import Objective
from fairtrain.data.groups import Groups, GroupScheme
from fairtrain.data.rows import Role, Rows
from fairtrain.exceptions import InvalidParameterError, SkippedBatchWarning
from fairtrain.lagrangian import families_of
from fairtrain.losses.base_loss import BaseLoss, CostSensitiveLoss
from fairtrain.metrics.ledger import Ledger
from fairtrain.metrics.report import FairnessReport
from fairtrain.training.batches.adapter import BatchAdapter
from fairtrain.training.batches.batch import FitData, Source, nobody
from fairtrain.training.batches.loaders import (
    LoaderSource,
    from_loaders,
    levels_in,
    levels_of,
    numbered_labels,
    numbered_scheme,
)
from fairtrain.training.batches.rows import RowSource, from_rows
from fairtrain.training.criterion import FairCriterion, OwnLoop
from fairtrain.training.heads import Head, check_task
from fairtrain.training.loop.cells import CellSums, cluster_effects, fixed
from fairtrain.training.loop.engine import (
    Engine,
    device_of,
    local_randomness,
    process_group,
    trainable,
)
from fairtrain.training.loop.epochs import TrainingLoop
from fairtrain.training.loop.run import Plan, Run, RunParts
from fairtrain.training.loop.steps import (
    WEIGHT_DECAY,
    GradientStep,
    PrimalStep,
    decay_of,
    make_optimizer,
)
from fairtrain.training.modules import build_module
from fairtrain.training.predictor import Predictor, decide, require_finite
from fairtrain.training.resumable import Resumable

__all__ = ["FairnessTrainer"]


class FairnessTrainer(Predictor, Resumable):
    """Base of the trainers of neural networks.

    Everything but the method is here: rows or loaders become :class:`FitData`, a :class:`Plan` is
    made of it, the loop runs, and what came out is judged. A subclass says what a step is
    (:meth:`_make_run`), and what there is to say afterwards.

    Attributes
    ----------
    start_report_ : FairnessReport or None
        The report of the module as it came in, if one did.
    history_ : DataFrame
        A row an epoch.
    n_iter_, n_skipped_ : int
        Epochs, and batches skipped because a loss or gradient was not finite.
    """

    _allowed: ClassVar[Table] = {
        "module": ANYTHING,
        "task": Choice("classification", "regression"),
        "optimizer": ANYTHING,
        "lr": Real(0, ends="()"),
        "temperature": Real(0, ends="()"),
        "batch_size": Whole(1) | NONE,
        "max_epochs": Whole(1) | NONE,
        "lr_decay": Choice("cosine", "none") | FUNCTION,
        "ema": Real(0, 1, "()") | NONE,
        "clip_norm": Real(0, ends="()") | NONE,
        "base_loss": FUNCTION | NONE,
        "frozen": NAMES,
        "callbacks": Several(ANYTHING, "be a list of callbacks"),
        "device": ANYTHING,
        "precision": Choice("32", "bf16-mixed", "16-mixed"),
        "fabric": ANYTHING,
        "timeout": Real(0, 1e9, "(]"),
    }

    _may_differ = frozenset(
        {"callbacks", "device", "fabric", "micro_batch_size", "timeout", "module"}
    )

    module: Any
    optimizer: Any
    lr: float
    lr_decay: Any
    clip_norm: float | None
    micro_batch_size: int | None = None
    ema: float | None
    temperature: float
    batch_size: int | None
    max_epochs: int | None
    base_loss: Any
    frozen: str | Sequence[str]
    callbacks: Sequence[Any]
    device: Any
    precision: Any
    fabric: Any
    timeout: float
    positive_label: Any
    start_report_: FairnessReport | None

    # Training -----------------------------------------------------------------------------------

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
        """Train on rows in memory.

        Under ``torchrun`` every process passes the same rows: the sampler shares out the batches,
        and every pass over the rows is shared out too.

        Parameters
        ----------
        X : array, frame or Tensor of shape (n, d), Tensor of shape (n, ...), or mapping of these
            Features: numbers without gaps. What a mapping holds goes to the module by name.
        y : array-like of shape (n,)
            Labels, or numbers with ``task="regression"``.
        sensitive_features : frame, series, mapping, array or list of n rows, optional
            Who; left out where the constructor names columns of ``X``.
        sample_weight : array-like of shape (n,), optional
            Weights of the rows, in the loss and in the rates.
        clusters : array-like of shape (n,) or str, optional
            Which rows belong together, such as those of one customer, or the column of ``X`` that
            says so: no split tears them apart, and limits allow for them.
        resume_from : str or Path, optional
            A file that :class:`~fairtrain.training.loop.callbacks.Checkpoint` wrote under the same
            settings and rows: training goes on from there.

        Returns
        -------
        self

        Raises
        ------
        InvalidDataError, InvalidParameterError
            If rows or settings cannot be used.
        FairtrainError
            If weights or predictions end as NaN or infinity.

        Warns
        -----
        ConstraintNotMetWarning, NearConstantWarning, SkippedBatchWarning
        """
        with process_group(self.timeout):
            self._learn(self.read(X, y, sensitive_features, sample_weight, clusters), resume_from)
        return self

    def read(
        self, X: Any, y: Any, sensitive_features: Any, sample_weight: Any, clusters: Any = None
    ) -> FitData:
        """Read the rows of a fit, divide them, and put them into batches."""
        engine, seed = self._start()
        rng = np.random.RandomState(seed)
        rows = self._begin(X, y, sensitive_features, sample_weight, rng, clusters)
        self._head = self._head_of(1 if rows.labels is None else len(rows.labels.labels))
        return from_rows(
            rows,
            self._head,
            batch_size=self.batch_size,
            engine=engine,
            seed=seed,
            chunk=self._chunk,
        )

    def read_as(self, other: Self) -> None:
        """Take over what another trainer of the same settings kept when it read the rows."""
        own = self.get_params(deep=False)
        self.__dict__.update({k: v for k, v in vars(other).items() if k not in own})

    def _start(self) -> tuple[Engine, int]:
        """Check settings; where training runs, and a seed that all processes share."""
        self.__dict__.pop("fairness_report_", None)
        check_parameters(self)
        engine = Engine(self.device, self.precision, self.fabric)
        return engine, engine.same(check_random_state(self.random_state).randint(0, 2**31 - 1))

    def _train(self, rows: Rows, rng: np.random.RandomState, *args: Any, **more: Any) -> Rows:
        raise NotImplementedError("a trainer learns from FitData, which loaders give too.")

    def fit_loader(
        self,
        train_loader: Iterable[Any],
        validation_loader: Iterable[Any] | None = None,
        certification_loader: Iterable[Any] | None = None,
        *,
        groups: Groups | GroupScheme | None = None,
        num_groups: int | Sequence[int] | None = None,
        num_classes: int = 2,
        adapter: BatchAdapter | None = None,
        resume_from: str | Path | None = None,
    ) -> Self:
        """Train on loaders, so that rows need not fit into memory.

        Under ``torchrun`` every process passes a loader of rows of its own, all with equally many
        batches.

        Parameters
        ----------
        train_loader, validation_loader, certification_loader : iterable
            Batches ``(x, y, sensitive_features)``, with ``sample_weight`` (or None) as a fourth and
            ``clusters`` as a fifth, mappings with these keys, or mappings such as ``{input_ids,
            attention_mask, labels, groups}``, whose inputs go to the module by name; what is
            guessed says :class:`~fairtrain.training.batches.adapter.BatchColumns`. Groups are
            integer codes (-1: unknown), labels 0/1 (1: the favourable outcome), class numbers, or
            real values.
            Clusters are whole numbers that say which rows belong together, in all batches of a
            loader or in none; keep those of one cluster in one loader. Without a validation loader
            the training rows steer.
        groups : Groups or GroupScheme, optional
            What the codes refer to: names, columns for ``over=``, and intersections.
        num_groups : int or sequence of int, optional
            Number of groups, or of levels of each sensitive column. Without either, one pass over
            the loaders looks for the largest codes.
        num_classes : int, default=2
            Classes.
        adapter : BatchAdapter, optional
            Takes batches apart that cannot be guessed: ``BatchColumns`` with the names of their
            parts, or a function that gives inputs, targets, groups and weight of a batch.
        resume_from : str or Path, optional
            See :meth:`fit`.

        Returns
        -------
        self
        """
        with process_group(self.timeout):
            engine, seed = self._start()
            self._forget()
            self.constraints_ = self._read_constraints()
            loaders: dict[Role, Any] = {
                "training": train_loader,
                "steering": validation_loader,
                "certification": certification_loader,
            }
            data = from_loaders(
                {role: loader for role, loader in loaders.items() if loader is not None},
                self._head_of(num_classes),
                groups=groups,
                num_groups=num_groups,
                engine=engine,
                seed=seed,
                adapter=adapter,
                **self._continuous_of_loaders(),
            )
            self.scheme_, self._head, self._coding = data.scheme, data.head, data.labels
            if data.labels is not None:
                self.classes_ = data.labels.classes
            self.n_features_in_ = data.width
            self._learn(data, resume_from)
        return self

    # From rows to a judged model ----------------------------------------------------------------

    def _learn(self, data: FitData, resume_from: str | Path | None) -> None:
        plan, loop = self._run_plan(data, resume_from)
        self.conclude(plan, loop.history, loop.n_skipped)

    def _run_plan(
        self, data: FitData, resume_from: str | Path | None = None
    ) -> tuple[Plan, TrainingLoop]:
        with local_randomness(data.seed, data.engine.device):
            self._plan = plan = self.plan(data)
            self.loop_ = loop = TrainingLoop(
                plan.run.step,
                plan.primal,
                data.training,
                max_epochs=plan.max_epochs,
                hooks=plan.run,
                callbacks=self.callbacks,
                trainer=self,
            )
            try:
                self._resume(resume_from)
                loop.run()
            finally:
                del self.loop_, self._plan  # a trainer keeps no loop, no batch and no row
        return plan, loop

    def plan(self, data: FitData) -> Plan:
        """Make module, run and optimizer for rows that were read.

        Parameters
        ----------
        data : FitData
            From :meth:`read`, or from loaders.
        """
        check_task(self.constraints_, data.head)
        engine = data.engine
        module = build_module(self.module, data.n_features, data.head.n_outputs)
        data.prepare(module)
        trained = trainable(module, self.frozen)
        decay = self._weight_decay(module, data.head)
        optimizer = make_optimizer(
            self.optimizer, trained, lr=self.lr, module=module, weight_decay=decay
        )
        net, optimizer = engine.prepare(module, optimizer)
        run = self._run_of(data, module, net)
        primal = self._make_primal(engine, module, optimizer)
        run.deployed = getattr(primal, "deployed", module)
        return Plan(data, run, primal, data.epochs(self.max_epochs))

    def _weight_decay(self, module: nn.Module, head: Head) -> float:
        """Of AdamW, where no optimizer is given."""
        return WEIGHT_DECAY

    def _run_of(self, data: FitData, module: nn.Module, net: nn.Module) -> Run:
        """What is minimised, over a module."""
        objective, engine = self._sought(data), data.engine
        several = data.labels if data.head.task == "multiclass" else None
        outcomes = None if several is None else several.labels.tolist()
        families = families_of(self.constraints_, data.scheme, outcomes)
        families = fixed(families, data.training.all(), data.head)
        cells = CellSums(families, data.head, engine.device, objective)
        judges = data.steering or data.training
        cells.effects = cluster_effects(families, judges.all(), outcomes or ())
        parts = RunParts(
            engine=engine,
            module=module,
            net=net,
            head=data.head,
            cells=cells,
            training=data.training,
            held=data.steering,
            base_loss=self.base_loss or self._usual_loss(objective, data),
            micro_batch_size=self.micro_batch_size,
        )
        return self._make_run(parts, data)

    def criterion(
        self,
        module: nn.Module,
        *,
        groups: Groups | GroupScheme | None = None,
        num_groups: int | Sequence[int] | None = None,
        num_classes: int = 2,
        validation_loader: Iterable[Any] | None = None,
        adapter: BatchAdapter | None = None,
        n_batches: int | None = None,
        n_epochs: int | None = None,
    ) -> FairCriterion:
        """What this trainer minimises, as a loss for a training loop of one's own.

        Constraints, penalty, bounds and multipliers are this trainer's; what moves the weights
        (``optimizer``, ``lr``, ``batch_size``, ``ema``, ``clip_norm``, ``frozen``...) is the
        loop's, and not looked at.

        Parameters
        ----------
        module : nn.Module
            The module that the loop trains, where it trains it: it is not copied.
        groups, num_groups, num_classes, adapter
            As in :meth:`fit_loader`; ``groups`` or ``num_groups`` is needed.
        validation_loader : iterable, optional
            Rows that steer. Without it multipliers follow the decisions about training batches,
            and no epoch is chosen.
        n_batches, n_epochs : int, optional
            Batches of an epoch, and epochs, of the loop; ``max_epochs`` where it is set.

        Returns
        -------
        FairCriterion

        Examples
        --------
        >>> import torch
        >>> from fairtrain import LagrangianFairnessTrainer
        >>> x, group = torch.randn(200, 3), torch.arange(200) % 2
        >>> y = (x[:, 0] + group > 0.5).long()
        >>> module = torch.nn.Linear(3, 1)
        >>> optimizer = torch.optim.Adam(module.parameters(), lr=0.05)
        >>> fair = LagrangianFairnessTrainer(difference_bound=0.1).criterion(module, num_groups=2)
        >>> for _ in range(20):
        ...     loss = fair(module(x), y, group)
        ...     optimizer.zero_grad()
        ...     loss.backward()
        ...     optimizer.step()
        ...     fair.step()
        """
        check_parameters(self)
        self.constraints_ = self._read_constraints()
        if groups is None and num_groups is None:
            raise InvalidParameterError("criterion needs groups= or num_groups=.")
        if getattr(self, "mixture", False):
            raise InvalidParameterError(
                "mixture=True lets weights of several epochs decide, and a loop of one's own has "
                "one module: leave it out, or use fit_loader."
            )
        if pooled := [c.name for c in self.constraints_ if getattr(c, "pooled", False)]:
            raise InvalidParameterError(
                f"{pooled[0]}: averages over strata need all rows that train; use fit_loader."
            )
        given = groups.scheme if isinstance(groups, Groups) else groups
        scheme = numbered_scheme(levels_of(num_groups)) if given is None else given
        engine, head = Engine(device_of(module)), self._head_of(num_classes)
        sources: dict[Role, Source] = {"training": OwnLoop(n_batches)}
        if validation_loader is not None:
            levels = levels_in(scheme)
            held = LoaderSource(validation_loader, engine.device, levels, head, None, adapter)
            held.prepare(module)
            sources["steering"] = held
        labels = None if self.task == "regression" else numbered_labels(head.n_classes)
        data = FitData(sources, scheme, head, labels, engine, 0, nobody(), n_epochs=n_epochs)
        check_task(self.constraints_, head)
        return FairCriterion(self._run_of(data, module, module), scheme, adapter)

    def _sought(self, data: FitData) -> Objective:
        """The objective, where this task and trainer can use it."""
        objective = self._objective(data.labels)
        if objective.is_accuracy:
            return objective
        if data.head.task != "binary" and not (
            data.head.task == "multiclass" and objective.name == "log_loss"
        ):
            kind = "numbers" if data.head.task == "regression" else "several classes"
            raise InvalidParameterError(
                f"objective={objective.name!r} is about two classes, and y holds {kind}: leave it "
                "out, or pass base_loss=."
            )
        return objective

    def _usual_loss(self, objective: Objective, data: FitData) -> BaseLoss:
        share = data.favourable_share
        if objective.costs_at is None or objective.is_accuracy:
            return data.head.base_loss
        if share is None and objective.name == "balanced_accuracy":
            raise InvalidParameterError(
                "objective='balanced_accuracy' needs the share of favourable labels, which loaders "
                "do not tell: use fit, or costs such as {'false_negative': 3}."
            )
        share = 0.5 if share is None else share
        return CostSensitiveLoss(objective.costs(share), share)

    def conclude(self, plan: Plan, history: Sequence[dict[str, Any]], n_skipped: int) -> None:
        """Keep what was trained, judge it, and say so.

        Parameters
        ----------
        plan : Plan
            What was trained.
        history : sequence of dict
            A record an epoch.
        n_skipped : int
            Batches that were skipped.
        """
        data, run = plan.data, plan.run
        self.history_ = pd.DataFrame(history)
        self.n_iter_, self.n_skipped_ = len(history), n_skipped
        self._finish(run)
        self.module_ = run.finish()
        for _, module in self._members:
            require_finite(module)
        self.ledger_ = Ledger(data.engine.same(Ledger().key >> 1))
        reports = {}
        for role, source in data.sources.items():
            decided, hashes = self._decide_and_hash(source, data)
            self.ledger_.enter(role, hashes)
            reports[role] = self._judged(decided, role)
        self._keep_reports(reports)
        self.start_report_ = None
        if isinstance(self.module, nn.Module):
            last, source = list(data.sources.items())[-1]
            start = [(1.0, build_module(self.module, None, 1))]
            self.start_report_ = self._judged(decide(start, source.all(), data), last)
        self._notes = self._explain(run, data)
        if n_skipped:
            said = f"{n_skipped} batches were skipped: their loss or gradient was not finite."
            self._notes.append(said)
            warn(said, SkippedBatchWarning)
        self._warn_of_outcome()

    def _warn_of_outcome(self) -> None:
        """Nothing is enforced here, so that no bound is broken."""
        self._warn_of_uselessness()

    # What subclasses define ---------------------------------------------------------------------

    def _make_run(self, parts: RunParts, data: FitData) -> Run:
        raise NotImplementedError(f"{type(self).__name__} defines no run.")

    def _finish(self, run: Run) -> None:
        """After the last epoch, before the module is taken."""

    def _explain(self, run: Run, data: FitData) -> list[str]:
        """Sentences that follow the report's own."""
        return []

    def _make_primal(
        self, engine: Engine, module: nn.Module, optimizer: torch.optim.Optimizer
    ) -> PrimalStep:
        return GradientStep(
            engine,
            module,
            optimizer,
            clip_norm=self.clip_norm,
            decay=decay_of(self.lr_decay),
            ema=self.ema,
        )

    # Checkpoints --------------------------------------------------------------------------------

    @property
    def is_main_process(self) -> bool:
        """Whether this process is the one that writes and shows."""
        return self._plan.data.engine.rank == 0

    def _trained_groups(self) -> Any:
        return [family.scheme.names for family in self._plan.run.families]

    def _division_seed(self) -> int | None:
        data = self._plan.data
        return data.seed if isinstance(data.training, RowSource) else None

    # Settings -----------------------------------------------------------------------------------

    def _head_of(self, n_classes: int) -> Head:
        return Head.of(self.task, n_classes, float(self.temperature))

    def _continuous_of_loaders(self) -> dict[str, Any]:
        """What :func:`from_loaders` has to know of continuous columns."""
        return {}
