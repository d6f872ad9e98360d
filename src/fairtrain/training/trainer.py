"""What all trainers share: the face of a scikit-learn estimator around the training loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import RegressorTags, Tags, check_random_state
from torch import Tensor, nn

from fairtrain._facade import require_positive_label
from fairtrain.constraints import BoundedGroupLoss, Constraint, RateParity
from fairtrain.data import inputs
from fairtrain.data.groups import Groups, GroupScheme
from fairtrain.exceptions import InvalidDataError, InvalidParameterError
from fairtrain.lagrangian import families_of
from fairtrain.metrics.report import FairnessReport
from fairtrain.metrics.verdicts import RowsRole, Verdict
from fairtrain.training.batch import Batch, Source, TensorRows, to_device
from fairtrain.training.cells import CellSums
from fairtrain.training.checkpoint import read_checkpoint
from fairtrain.training.continuous import ContinuousColumns, ReadColumns
from fairtrain.training.engine import Engine, process_group, trainable
from fairtrain.training.fitdata import FitData, Fractions, from_loaders, from_rows
from fairtrain.training.heads import Head
from fairtrain.training.judging import Decided, Judge, Members, decide
from fairtrain.training.loop import TrainingLoop
from fairtrain.training.modules import build_module
from fairtrain.training.predictor import Predictor, as_array, dtype_of
from fairtrain.training.run import Run, RunParts
from fairtrain.training.steps import GradientStep, PrimalStep, cosine_decay

__all__ = ["FairnessTrainer", "check_task", "local_randomness", "names_of"]

Floats = NDArray[np.float64]

_DECAYS: dict[str, Callable[[float], float] | None] = {"cosine": cosine_decay, "none": None}

_EPOCHS, _STEPS = 30, 1500
"""Epochs, and the steps they must at least come to, where nobody says how many."""

_MAY_DIFFER = {"callbacks", "device", "fabric", "timeout", "module"}
"""Settings that a resumed training need not share with the one it goes on with."""


class FairnessTrainer(Predictor, ClassifierMixin, BaseEstimator):
    """Base of the trainers of neural networks.

    Everything but the method is here: reading rows, groups and labels, splitting rows that train,
    steer and certify, running the loop, reports, and predictions. A subclass says what is asked
    (:meth:`_read_constraints`), what a step is (:meth:`_make_run`), and what there is to say
    afterwards.
    """

    module: Any
    optimizer: Any
    lr: float
    lr_decay: Any
    clip_norm: float | None
    ema: float | None
    batch_size: int | None
    max_epochs: int | None
    base_loss: Any
    validation_fraction: float | None
    certification_fraction: float | None
    frozen: str | Sequence[str]
    callbacks: Sequence[Any]
    device: Any
    precision: Any
    fabric: Any
    timeout: float
    positive_label: Any
    missing: Any
    min_count: int
    random_state: Any

    # Training -----------------------------------------------------------------------------------

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        sensitive_features: Any = None,
        sample_weight: Any = None,
        resume_from: str | Path | None = None,
    ) -> Self:
        """Train on rows in memory.

        Under ``torchrun`` every process passes the same rows: the sampler shares out the batches,
        and every pass over the rows is shared out too.

        Parameters
        ----------
        X : array, frame or Tensor of shape (n, d), or Tensor of shape (n, ...)
            Features: numbers without gaps.
        y : array-like of shape (n,)
            Labels, or numbers with ``task="regression"``.
        sensitive_features : frame, series, mapping, array or list of n rows, optional
            Who; left out where the constructor names columns of ``X``.
        sample_weight : array-like of shape (n,), optional
            Weights of the rows, in the loss and in the rates.
        resume_from : str or Path, optional
            A file that :class:`~fairtrain.training.callbacks.Checkpoint` wrote under the same
            settings and rows: training goes on from there.

        Returns
        -------
        self

        Raises
        ------
        InvalidDataError, InvalidParameterError
            If rows or settings cannot be used.

        Warns
        -----
        ConstraintNotMetWarning, NearConstantWarning
        """
        constraints = self._read_constraints()
        self._check_settings()
        seed = self._seed()
        with process_group(self.timeout):
            engine = Engine(self.device, self.precision, self.fabric)
            seed = engine.same(seed)
            given = X, y, sensitive_features, sample_weight
            data = self._read_rows(*given, constraints, engine, seed)
            self._train(data, constraints, engine, seed, resume_from)
        return self

    def _read_rows(
        self,
        X: Any,
        y: Any,
        sensitive_features: Any,
        sample_weight: Any,
        constraints: tuple[Constraint, ...],
        engine: Engine,
        seed: int,
    ) -> FitData:
        """Rows in memory, read and split."""
        rows, groups, head, labels, continuous = self._read(
            X, y, sensitive_features, sample_weight, constraints
        )
        return from_rows(
            rows,
            groups,
            head,
            labels,
            batch_size=self.batch_size,
            fractions=Fractions(self.validation_fraction, self.certification_fraction),
            engine=engine,
            seed=seed,
            continuous=continuous,
        )

    def fit_loader(
        self,
        train_loader: Iterable[Any],
        validation_loader: Iterable[Any] | None = None,
        certification_loader: Iterable[Any] | None = None,
        *,
        groups: Groups | GroupScheme | None = None,
        num_groups: int | Sequence[int] | None = None,
        num_classes: int = 2,
        resume_from: str | Path | None = None,
    ) -> Self:
        """Train on loaders, so that rows need not fit into memory.

        Under ``torchrun`` every process passes a loader of rows of its own, all with equally many
        batches.

        Parameters
        ----------
        train_loader, validation_loader, certification_loader : iterable
            Batches ``(x, y, sensitive_features)``, with ``sample_weight`` as a fourth, or mappings
            with these keys. Groups are integer codes (-1: unknown), labels 0/1 (1: the favourable
            outcome), class numbers, or real values. Without a validation loader the training rows
            steer.
        groups : Groups or GroupScheme, optional
            What the codes refer to: names, columns for ``over=``, and intersections.
        num_groups : int or sequence of int, optional
            Number of groups, or of levels of each sensitive column. Without either, one pass over
            the loaders looks for the largest codes.
        num_classes : int, default=2
            Classes.
        resume_from : str or Path, optional
            See :meth:`fit`.

        Returns
        -------
        self
        """
        constraints = self._read_constraints()
        self._check_settings()
        seed = self._seed()
        with process_group(self.timeout):
            engine = Engine(self.device, self.precision, self.fabric)
            data = from_loaders(
                train_loader,
                validation_loader,
                certification_loader,
                self._head_of(num_classes),
                groups=groups,
                num_groups=num_groups,
                engine=engine,
                **self._continuous_of_loaders(),
            )
            self.n_features_in_ = data.n_features or 1
            self._train(data, constraints, engine, engine.same(seed), resume_from)
        return self

    def _train(
        self,
        data: FitData,
        constraints: tuple[Constraint, ...],
        engine: Engine,
        seed: int,
        resume_from: str | Path | None,
    ) -> None:
        check_task(constraints, data.head)
        with local_randomness(seed, engine.device):
            module = self._make_module(data, engine)
            optimizer = self._make_optimizer(trainable(module, names_of(self.frozen)))
            net, optimizer = engine.prepare(module, optimizer)
            run = self._make_run(self._parts(data, constraints, engine, module, net), data)
            primal = self._make_primal(engine, module, optimizer)
            run.deployed = getattr(primal, "deployed", module)
            self._loop(run, primal, data, resume_from)
        self._keep(run, data, constraints, engine)

    def _make_module(self, data: FitData, engine: Engine) -> nn.Module:
        """The module before the first step, seen to take the rows."""
        module = build_module(self.module, data.n_features, data.head.n_outputs)
        if data.learn is not None:
            data.learn(module)
        module = module.to(engine.device)
        _try_module(module, data.cast(dtype_of(module)))
        return module

    def _parts(
        self,
        data: FitData,
        constraints: tuple[Constraint, ...],
        engine: Engine,
        module: nn.Module,
        net: nn.Module,
    ) -> RunParts:
        outcomes = None
        if data.head.task == "multiclass" and data.labels is not None:
            outcomes = data.labels.tolist()
        families = families_of(constraints, data.scheme, outcomes)
        return RunParts(
            engine=engine,
            module=module,
            net=net,
            head=data.head,
            cells=CellSums(families, data.head, engine.device),
            training=data.training,
            held=data.steering,
            base_loss=self.base_loss or data.head.base_loss,
        )

    def _loop(
        self, run: Run, primal: PrimalStep, data: FitData, resume_from: str | Path | None
    ) -> None:
        self.loop_ = TrainingLoop(
            run.step,
            primal,
            data.training,
            max_epochs=self._epochs(data),
            hooks=run,
            callbacks=self.callbacks,
            trainer=self,
        )
        self._run = run
        try:
            if resume_from is not None:
                self._resume(read_checkpoint(resume_from))
            self.loop_.run()
            self.history_ = pd.DataFrame(self.loop_.history)
            self.n_iter_, self.n_skipped_ = self.loop_.epoch, self.loop_.n_skipped
        finally:
            del self.loop_, self._run  # a trainer keeps no loop, no batch and no row

    def _keep(
        self, run: Run, data: FitData, constraints: tuple[Constraint, ...], engine: Engine
    ) -> None:
        """Keep what was trained, judge it, and say so."""
        self.constraints_ = constraints
        self.scheme_: GroupScheme = data.scheme
        self._head: Head = data.head
        if data.labels is not None:
            self.classes_ = np.sort(data.labels)
        self._labels = data.labels
        self._finish(run)
        self.module_ = run.finish()
        self._judge = Judge(
            constraints, data.scheme, data.head, data.labels, self._report_confidence
        )
        sources: dict[RowsRole, Source | None] = {
            "training": data.training,
            "steering": data.steering,
            "certification": data.certification,
        }
        there = {role: source for role, source in sources.items() if source is not None}
        self.reports_: dict[str, FairnessReport] = {
            role: self._judge(self._decide(self._members, source, engine), role)
            for role, source in there.items()
        }
        last = list(there)[-1]
        self.fairness_report_ = self.reports_[last]
        self.status_: Verdict = self.fairness_report_.verdict
        self.start_report_: FairnessReport | None = None
        if isinstance(self.module, nn.Module):
            start = [(1.0, build_module(self.module, None, 1))]
            self.start_report_ = self._judge(self._decide(start, there[last], engine), last)
        self._said = self._explain(run, data)
        self._warn()

    def _decide(self, members: Members, source: Source, engine: Engine) -> Decided:
        return decide(members, source.all(), self._head, engine.device)

    # What subclasses define ---------------------------------------------------------------------

    def _read_constraints(self) -> tuple[Constraint, ...]:
        raise NotImplementedError(f"{type(self).__name__} reads no constraints.")

    def _make_run(self, parts: RunParts, data: FitData) -> Run:
        raise NotImplementedError(f"{type(self).__name__} defines no run.")

    def _finish(self, run: Run) -> None:
        """After the last epoch, before the module is taken."""

    def _explain(self, run: Run, data: FitData) -> list[str]:
        """Sentences that follow the report's own."""
        return []

    def _warn(self) -> None:
        """Warn where the outcome calls for it."""

    @property
    def _report_confidence(self) -> float:
        return 0.95

    def _make_optimizer(self, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        if isinstance(self.lr, bool) or not 0 < self.lr < math.inf:
            raise InvalidParameterError(f"lr must be a number above 0, got {self.lr!r}.")
        made = self.optimizer
        if made is None:
            return torch.optim.AdamW(parameters, lr=self.lr, weight_decay=1e-3)
        optimizer = made(parameters, lr=self.lr) if isinstance(made, type) else made(parameters)
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise InvalidParameterError(
                "optimizer must be a class of torch.optim, or a function of the parameters that "
                f"gives an optimizer; it gave {type(optimizer).__name__}."
            )
        return optimizer

    def _make_primal(
        self, engine: Engine, module: nn.Module, optimizer: torch.optim.Optimizer
    ) -> PrimalStep:
        return GradientStep(
            engine,
            module,
            optimizer,
            clip_norm=self.clip_norm,
            decay=self._decay(),
            ema=self.ema,
        )

    def _decay(self) -> Callable[[float], float] | None:
        decay = self.lr_decay
        if not callable(decay) and decay not in _DECAYS:
            raise InvalidParameterError(
                f"lr_decay must be 'cosine', 'none' or a function of progress, got {decay!r}."
            )
        return decay if callable(decay) else _DECAYS[decay]

    # Checkpoints --------------------------------------------------------------------------------

    @property
    def is_main_process(self) -> bool:
        """Whether this process is the one that writes and shows."""
        return self._run.parts.engine.rank == 0

    def checkpoint_state(self) -> dict[str, Any]:
        """All that is needed to go on with a running training; for callbacks."""
        loop = self.loop_
        return {
            "fingerprint": self._fingerprint(),
            "epoch": loop.epoch,
            "n_steps": loop.n_steps,
            "n_skipped": loop.n_skipped,
            "history": loop.history,
            "run": self._run.state_dict(),
            "primal": loop.primal.state_dict(),
            "callbacks": [callback.state_dict() for callback in loop.callbacks],
            "random": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }

    def _resume(self, state: dict[str, Any]) -> None:
        own, theirs = self._fingerprint(), state["fingerprint"]
        if other := [name for name in own if own[name] != theirs.get(name)]:
            raise InvalidParameterError(
                f"resume_from was written under another {other[0]}: {theirs.get(other[0])}, now "
                f"{own[other[0]]}."
            )
        loop = self.loop_
        self._run.load_state_dict(state["run"])
        loop.primal.load_state_dict(state["primal"])
        loop.epoch, loop.n_steps = state["epoch"], state["n_steps"]
        loop.n_skipped, loop.history = state["n_skipped"], list(state["history"])
        for callback, kept in zip(loop.callbacks, state["callbacks"], strict=False):
            callback.load_state_dict(kept)
        torch.set_rng_state(state["random"])
        if state["cuda"]:
            torch.cuda.set_rng_state_all(state["cuda"])

    def _fingerprint(self) -> dict[str, str]:
        given = self.get_params(deep=False).items()
        settings = {k: repr(v) for k, v in given if k not in _MAY_DIFFER}
        settings = {k: v for k, v in settings.items() if " at 0x" not in v}  # a function's address
        groups = [family.scheme.names for family in self._run.families]
        return {
            **settings,
            "groups": repr(groups),
            "batches": repr(self.loop_.source.n_batches),
        }

    # Reading ------------------------------------------------------------------------------------

    def _seed(self) -> int:
        return int(check_random_state(self.random_state).randint(0, 2**31 - 1))

    def _check_settings(self) -> None:
        for name in ("batch_size", "max_epochs"):
            value = getattr(self, name)
            if value is None:
                continue
            if isinstance(value, bool) or int(value) != value or value < 1:
                raise InvalidParameterError(f"{name} must be a whole number >= 1, got {value!r}.")
        if self.task not in ("classification", "regression"):
            raise InvalidParameterError(
                f"task must be 'classification' or 'regression', got {self.task!r}."
            )

    def _epochs(self, data: FitData) -> int:
        """Epochs asked for, or enough for a number of steps."""
        if self.max_epochs is not None:
            return int(self.max_epochs)
        batches = data.training.n_batches
        return _EPOCHS if batches is None else max(_EPOCHS, -(-_STEPS // batches))

    def _head_of(self, n_classes: int) -> Head:
        temperature = float(getattr(self, "temperature", 1.0))
        if not temperature > 0:
            raise InvalidParameterError(f"temperature must be above 0, got {temperature!r}.")
        if self.task == "regression":
            return Head("regression", 1, temperature)
        if n_classes < 2:
            raise InvalidParameterError(f"num_classes must be 2 or more, got {n_classes!r}.")
        return Head("binary" if n_classes == 2 else "multiclass", n_classes, temperature)

    def _read(
        self,
        X: Any,
        y: Any,
        sensitive_features: Any,
        sample_weight: Any,
        constraints: tuple[Constraint, ...],
    ) -> tuple[TensorRows, Groups, Head, NDArray[Any] | None, ContinuousColumns | None]:
        X, sensitive = self._split_columns(X, sensitive_features)
        x = self._features(X, reset=True)
        labels = None
        y = as_array(y)
        if self.task == "regression":
            if y is None:
                raise InvalidDataError("requires y to be passed, but the target y is None.")
            head = self._head_of(1)
            target = torch.from_numpy(inputs.as_float_column(y, "y")).float()
        else:
            numbers, labels = inputs.class_target(y, self.positive_label)
            head = self._head_of(len(labels))
            if head.task == "binary":
                require_positive_label(constraints, labels, self.positive_label)
            target = torch.from_numpy(numbers)
        groups, continuous = self._read_sensitive(sensitive, X if inputs.has_index(X) else y)
        inputs.check_lengths(len(x), y=target, sensitive_features=groups.codes)
        weight = inputs.as_sample_weight(sample_weight, len(x))
        weights = None if weight is None else torch.from_numpy(weight)
        columns, values = (None, None) if continuous is None else continuous
        codes = torch.from_numpy(groups.codes)
        return TensorRows(x, target, codes, weights, values), groups, head, labels, columns

    def _read_sensitive(self, sensitive: Any, like: Any) -> tuple[Groups, ReadColumns | None]:
        """Groups, and continuous columns where a trainer takes any."""
        groups = Groups.from_sensitive(
            sensitive, missing=self.missing, min_count=self.min_count, like=like
        )
        return groups, None

    def _continuous_of_loaders(self) -> dict[str, Any]:
        """What :func:`from_loaders` has to know of continuous columns."""
        return {}

    # scikit-learn -------------------------------------------------------------------------------

    def __sklearn_is_fitted__(self) -> bool:
        """Whether ``fit`` has finished."""
        return hasattr(self, "fairness_report_")

    def __sklearn_tags__(self) -> Tags:
        """Tags of a classifier, or of a regressor with ``task="regression"``."""
        tags = super().__sklearn_tags__()
        if self.task == "regression":
            tags.estimator_type = "regressor"
            tags.classifier_tags = None
            tags.regressor_tags = RegressorTags()
        return tags


def check_task(constraints: tuple[Constraint, ...], head: Head) -> None:
    """Raise where a constraint is about decisions and the task has none."""
    if head.task != "regression":
        return
    for constraint in constraints:
        loss = constraint.loss if isinstance(constraint, BoundedGroupLoss) else None
        if not (loss == "squared" or callable(loss) or isinstance(constraint, RateParity)):
            raise InvalidParameterError(
                f"{constraint.name} is about decisions; regression takes "
                "BoundedGroupLoss(upper_bound=..., loss='squared') or RateParity."
            )


@torch.no_grad()
def _try_module(module: nn.Module, data: FitData) -> None:
    """See on a few rows whether the module takes them and gives what the task needs."""
    example: Batch = data.example
    x = to_device(example.x, example.y.device, dtype_of(module))
    was_training = module.training
    module.eval()
    try:
        raw = module(x)
    except (RuntimeError, TypeError, ValueError) as error:
        shown = f" of shape {tuple(x.shape)}" if isinstance(x, Tensor) else ""
        reason = str(error).strip().splitlines()[0]
        raise InvalidDataError(f"the module does not take rows{shown}: {reason}") from None
    finally:
        module.train(was_training)
    data.head.outputs(raw, len(example.y))


@contextmanager
def local_randomness(seed: int, device: torch.device) -> Iterator[None]:
    """Seed PyTorch for a while, and give the caller's generators back as they were."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def names_of(frozen: str | Sequence[str]) -> tuple[str, ...]:
    """Parts of a module, given as one name or several."""
    return (frozen,) if isinstance(frozen, str) else tuple(frozen)
