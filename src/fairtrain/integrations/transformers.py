"""``transformers``: a ``Trainer`` that trains under constraints, and learning rates by layer.

``LagrangianFairnessTrainer`` and ``RegularizedFairnessTrainer`` train a classifier of this package
as they train any module, and need nothing of what is here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fairtrain._imports import require
from fairtrain.data.groups import Groups, GroupScheme
from fairtrain.exceptions import InvalidDataError, InvalidParameterError
from fairtrain.metrics.report import FairnessReport
from fairtrain.training.batches.adapter import BatchColumns
from fairtrain.training.criterion import FairCriterion
from fairtrain.training.loop.callbacks import read_checkpoint, write_checkpoint
from fairtrain.training.trainer import FairnessTrainer

transformers = require("transformers", extra="transformers")

__all__ = ["FairTrainer", "FairTrainerMixin", "layer_wise"]

STATE = "fairness.pt"
"""File in a checkpoint's folder."""


class FairTrainerMixin:
    """Lets a ``transformers.Trainer`` minimise a fair loss, and keep its state.

    Put it before the trainer: ``class MyTrainer(FairTrainerMixin, Trainer)``, as
    :class:`FairTrainer` does. The loss is ``fairness``'s; multipliers move after every optimizer
    step, by decisions about ``eval_dataset``, else about training batches; weights of the best
    epoch by these rows come back at the end, unless ``load_best_model_at_end`` chooses others.
    Checkpoints hold a file ``fairness.pt``, from which ``train(resume_from_checkpoint=...)`` goes
    on.

    Parameters
    ----------
    *args, **kwargs
        What the trainer takes.
    fairness : LagrangianFairnessTrainer or RegularizedFairnessTrainer
        What is asked; see :meth:`~fairtrain.training.trainer.FairnessTrainer.criterion`.
    groups : Groups or GroupScheme, optional
        What group codes refer to.
    num_groups : int, optional
        Or how many there are.
    groups_column : str, default="groups"
        Column of group codes in the data sets; it is no input of the model.
    weight_column : str, optional
        Column of row weights.

    Attributes
    ----------
    criterion_ : FairCriterion
        The loss, with its multipliers and ``history``.

    Notes
    -----
    ``gradient_accumulation_steps`` averages the losses of several batches: their rates are those
    of single batches, which should therefore hold some rows of every group.
    ``RegularizedFairnessTrainer(penalty_options={"memory": 0.9})`` pools over batches;
    ``micro_batch_size`` of fairtrain's own trainers has the loss of the whole batch.

    Under ``torchrun`` loss, multipliers and reports are those of the rows of all processes.
    """

    criterion_: FairCriterion | None = None
    _resume_from: Path | None = None

    def __init__(
        self,
        *args: Any,
        fairness: FairnessTrainer,
        groups: Groups | GroupScheme | None = None,
        num_groups: int | None = None,
        groups_column: str = "groups",
        weight_column: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if groups is None and num_groups is None:
            raise InvalidParameterError("FairTrainer needs groups= or num_groups=.")
        arguments: Any = self.args  # type: ignore[attr-defined]
        if arguments.label_smoothing_factor or getattr(self, "compute_loss_func", None):
            raise InvalidParameterError(
                "the loss is that of fairness: pass base_loss= there instead of "
                "label_smoothing_factor or compute_loss_func."
            )
        self.fairness, self.groups, self.num_groups = fairness, groups, num_groups
        self.groups_column, self.weight_column = groups_column, weight_column
        self.target_column: str = self.label_names[0]
        own = [groups_column] if weight_column is None else [groups_column, weight_column]
        # Columns of these names are kept, and count as no input.
        self.label_names: list[str] = [*self.label_names, *own]
        self.model_accepts_loss_kwargs = False  # accumulated losses are averaged
        self.add_callback(_Moments(self))  # type: ignore[attr-defined]

    def make_criterion(self) -> FairCriterion:
        """Make the loss for the model as it is now, on its device."""
        held = None
        if isinstance(self.eval_dataset, Mapping):  # type: ignore[attr-defined]
            raise InvalidParameterError(
                "eval_dataset holds several data sets: pass the one whose rows steer, and "
                "evaluate(...) the others."
            )
        if self.eval_dataset is not None:  # type: ignore[attr-defined]
            held = self._rows_once()
        steps = None
        if hasattr(self.train_dataset, "__len__"):  # type: ignore[attr-defined]
            steps = len(self.get_train_dataloader())  # type: ignore[attr-defined]
        return self.fairness.criterion(
            self.model,  # type: ignore[attr-defined]
            groups=self.groups,
            num_groups=self.num_groups,
            num_classes=max(2, getattr(self.model.config, "num_labels", 2)),  # type: ignore[attr-defined]
            validation_loader=held,
            adapter=self.batch_columns,
            n_batches=steps,
            n_epochs=math.ceil(self.args.num_train_epochs),  # type: ignore[attr-defined]
        )

    @property
    def batch_columns(self) -> BatchColumns:
        """Where in a batch its parts are."""
        return BatchColumns(
            targets=self.target_column, groups=self.groups_column, weight=self.weight_column
        )

    def train(self, resume_from_checkpoint: Any = None, **kwargs: Any) -> Any:
        """Train, or go on from a checkpoint, with the multipliers that it holds."""
        self._resume_from, self.criterion_ = None, None
        if resume_from_checkpoint:
            last: Any = resume_from_checkpoint
            if last is True:
                folder = self.args.output_dir  # type: ignore[attr-defined]
                last = transformers.trainer_utils.get_last_checkpoint(folder)
            self._resume_from = None if last is None else Path(last) / STATE
        train = super().train  # type: ignore[misc]
        return train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Mapping[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Fair loss of a training batch; the usual loss alone of a batch that is evaluated."""
        own = (self.target_column, self.groups_column, self.weight_column)
        if absent := [name for name in own if name is not None and name not in inputs]:
            raise InvalidDataError(f"a batch has no {absent[0]!r}; it has {list(inputs)}.")
        targets, groups = inputs[own[0]], inputs[own[1]]
        weight = None if own[2] is None else inputs[own[2]]
        if self.criterion_ is None:
            self.criterion_ = self.make_criterion()
        outputs = model(**{name: part for name, part in inputs.items() if name not in own})
        loss = self.criterion_(outputs, targets, groups, weight)
        if not return_outputs:
            return loss
        # Loss first, as a model that is given labels answers.
        return loss, {"loss": loss, **_named(outputs)}

    def prediction_step(self, *args: Any, **kwargs: Any) -> Any:
        """Loss, logits and targets: ``compute_metrics`` gets no groups or weights as labels."""
        loss, logits, labels = super().prediction_step(*args, **kwargs)  # type: ignore[misc]
        return loss, logits, labels[0] if isinstance(labels, tuple) else labels

    def fairness_report(self, dataset: Any = None, **options: Any) -> FairnessReport:
        """Judge decisions about a data set, or about ``eval_dataset``, which steered.

        Parameters
        ----------
        dataset : data set, optional
            Rows.
        **options
            Those of :meth:`~fairtrain.training.criterion.FairCriterion.report`.
        """
        if self.criterion_ is None:
            self.criterion_ = self.make_criterion()
        rows = {"rows": "steering"} if dataset is None else {}
        return self.criterion_.report(self._rows_once(dataset), **{**rows, **options})

    def _rows_once(self, dataset: Any = None) -> Any:
        """A loader whose rows processes share out, none twice so that all have as many batches."""
        accelerator: Any = self.accelerator  # type: ignore[attr-defined]
        even, accelerator.even_batches = accelerator.even_batches, False
        try:
            return self.get_eval_dataloader(dataset)  # type: ignore[attr-defined]
        finally:
            accelerator.even_batches = even
            getattr(self, "_eval_dataloaders", {}).pop("eval", None)  # the trainer's are even

    def fairness_begins(self) -> None:
        """Make the loss anew, with the state of the checkpoint that training goes on from."""
        self.criterion_ = self.make_criterion()
        if self._resume_from is not None:
            self.criterion_.load_state_dict(read_checkpoint(self._resume_from))


class _Moments(transformers.TrainerCallback):  # type: ignore[name-defined]
    """Tells the loss how far training is."""

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Make the loss."""
        self.trainer.fairness_begins()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Let multipliers move."""
        self.trainer.criterion_.step()

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Measure, choose and log."""
        record = self.trainer.criterion_.end_epoch()
        numbers = {f"fair_{k}": float(v) for k, v in record.items() if isinstance(v, float | int)}
        self.trainer.log({name: v for name, v in numbers.items() if math.isfinite(v)})

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Bring the chosen weights back."""
        if not args.load_best_model_at_end:
            self.trainer.criterion_.finish()

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write the state beside the model's."""
        kept = self.trainer.criterion_.state_dict()
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if state.is_world_process_zero and folder.is_dir():
            write_checkpoint(kept, folder / STATE)


class FairTrainer(FairTrainerMixin, transformers.Trainer):  # type: ignore[name-defined]
    """``transformers.Trainer`` under constraints; see :class:`FairTrainerMixin`."""


_LAYER = re.compile(r"(?:^|\.)(?:layers?|h|blocks?)\.(\d+)\.")


def layer_wise(
    optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.AdamW,
    *,
    lr: float = 5e-5,
    decay: float = 0.9,
    **options: Any,
) -> Callable[..., torch.optim.Optimizer]:
    r"""Learning rates that fall from the head of a transformer to its embeddings.

    .. math:: \eta_l = \eta\, d^{\,L + 1 - l}

    for layer l = 1..L; the head has :math:`\eta`, embeddings (l = 0) the least (Howard & Ruder,
    2018; Clark et al., 2020).

    Parameters
    ----------
    optimizer : optimizer class, default=AdamW
        What moves the weights.
    lr : float > 0, default=5e-5
        Rate of the head.
    decay : float in (0, 1], default=0.9
        Factor from one layer to the one below.
    **options
        Those of ``optimizer``.

    Returns
    -------
    callable
        For the ``optimizer=`` of a trainer.
    """

    def make(parameters: Sequence[Tensor], module: nn.Module) -> torch.optim.Optimizer:
        wanted = {id(parameter) for parameter in parameters}
        named = [(name, p) for name, p in module.named_parameters() if id(p) in wanted]
        last = 1 + max((_depth(name, 0) for name, _ in module.named_parameters()), default=0)
        groups: dict[int, list[nn.Parameter]] = {}
        for name, parameter in named:
            groups.setdefault(_depth(name, last), []).append(parameter)
        return optimizer(
            [
                {"params": some, "lr": lr * decay ** (last - depth)}
                for depth, some in sorted(groups.items())
            ],
            lr=lr,
            **options,
        )

    return make


def _depth(name: str, otherwise: int) -> int:
    """Place of a parameter's layer, from 1 on; 0 for embeddings."""
    if found := _LAYER.search(name):
        return 1 + int(found[1])
    return 0 if "embed" in name else otherwise


def _named(outputs: Any) -> dict[str, Any]:
    if isinstance(outputs, Mapping):
        return dict(outputs)
    return {"logits": outputs[0] if isinstance(outputs, list | tuple) else outputs}
