"""Lightning: one's own ``LightningModule`` under constraints, by a callback and one line.

The loss is :class:`~fairtrain.training.criterion.FairCriterion`'s, that of fairtrain's own
trainers. With several processes it is the loss of all their rows: what crosses process borders are
sums, and ``DistributedDataParallel`` averages gradients of the same penalty.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from fairtrain._imports import require
from fairtrain.data.groups import Groups, GroupScheme
from fairtrain.exceptions import InvalidParameterError
from fairtrain.training.batches.adapter import BatchAdapter, read_batch
from fairtrain.training.batches.inputs import call_module
from fairtrain.training.criterion import FairCriterion
from fairtrain.training.loop.callbacks import plain_state, restored_state
from fairtrain.training.trainer import FairnessTrainer

lightning: Any = require("lightning", extra="lightning")

__all__ = ["FairnessCallback", "fair_training_step"]


class FairnessCallback(lightning.Callback):
    """Holds the multipliers of a ``LightningModule``'s training, and chooses its weights.

    Use it with :func:`fair_training_step`, or call ``criterion_`` in a ``training_step`` of one's
    own. Multipliers move after every step of the optimizer, by decisions about the rows of the
    validation loader, else about training batches. After every epoch the module's ``log_dict`` gets
    the row that ``history_`` of fairtrain's trainers has; in the end the weights of the best epoch
    by the validation rows come back. Lightning's checkpoints hold all of it: ``fit(ckpt_path=...)``
    goes on, and a ``fit`` without one begins anew, with multipliers of 0.

    Parameters
    ----------
    fairness : LagrangianFairnessTrainer or RegularizedFairnessTrainer
        What is asked; see :meth:`~fairtrain.training.trainer.FairnessTrainer.criterion`.
    groups : Groups or GroupScheme, optional
        What group codes refer to.
    num_groups : int or sequence of int, optional
        Or how many there are.
    num_classes : int, default=2
        Classes.
    adapter : BatchAdapter, optional
        Takes batches apart that cannot be guessed.
    steer : bool, default=True
        Let the rows of the validation loader move multipliers and choose an epoch, where the module
        or data module has one. Lightning reads it only for a module with ``validation_step``.

    Attributes
    ----------
    criterion_ : FairCriterion
        The loss, with its multipliers and ``history``.
    """

    def __init__(
        self,
        fairness: FairnessTrainer,
        *,
        groups: Groups | GroupScheme | None = None,
        num_groups: int | Sequence[int] | None = None,
        num_classes: int = 2,
        adapter: BatchAdapter | None = None,
        steer: bool = True,
    ) -> None:
        super().__init__()
        self.fairness, self.groups, self.num_groups = fairness, groups, num_groups
        self.num_classes, self.adapter, self.steer = num_classes, adapter, steer
        self.criterion_: FairCriterion | None = None
        self._kept: Mapping[str, Any] | None = None
        self._steps = 0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Make the loss, with the state of the checkpoint that training goes on from."""
        batches = trainer.num_training_batches
        held = _validation_loader(trainer) if self.steer else None
        self.criterion_ = self.fairness.criterion(
            pl_module,
            groups=self.groups,
            num_groups=self.num_groups,
            num_classes=self.num_classes,
            validation_loader=held,
            adapter=self.adapter,
            n_batches=int(batches) if math.isfinite(batches) else None,
            n_epochs=trainer.max_epochs if (trainer.max_epochs or -1) > 0 else None,
        )
        self._steps = trainer.global_step
        if self._kept is not None:
            self.criterion_.load_state_dict(restored_state(self._kept))
            self._kept = None

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Let multipliers move, unless gradients are still being accumulated."""
        if trainer.global_step != self._steps and self.criterion_ is not None:
            self._steps = trainer.global_step
            self.criterion_.step()

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Measure, choose and log."""
        assert self.criterion_ is not None
        record = self.criterion_.end_epoch()
        numbers = {k: float(v) for k, v in record.items() if isinstance(v, int | float)}
        del numbers["epoch"]  # Lightning's own
        pl_module.log_dict({k: v for k, v in numbers.items() if math.isfinite(v)})

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Bring the chosen weights back."""
        assert self.criterion_ is not None
        self.criterion_.finish()

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps: plain values and tensors, so that reading it runs no code."""
        if self.criterion_ is None:
            return {}
        kept: dict[str, Any] = plain_state(self.criterion_.state_dict())
        return kept

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up a state, when training begins."""
        self._kept = state_dict or None


def fair_training_step(module: Any, batch: Any) -> Tensor:
    """Fair loss of a batch, to be returned by ``training_step``.

    The batch is taken apart as in ``fit_loader``, its inputs go through ``module``, and the loss is
    that of the :class:`FairnessCallback` among the callbacks of the module's trainer.

    Parameters
    ----------
    module : LightningModule
        Whose ``forward`` gives logits.
    batch : any
        As the loader gives it.

    Returns
    -------
    Tensor of shape ()

    Raises
    ------
    InvalidParameterError
        If the trainer has no such callback.
    """
    found = [c for c in module.trainer.callbacks if isinstance(c, FairnessCallback)]
    if len(found) != 1 or found[0].criterion_ is None:
        raise InvalidParameterError(
            f"fair_training_step needs one FairnessCallback among the trainer's callbacks, found "
            f"{len(found)}: pass Trainer(callbacks=[FairnessCallback(...)])."
        )
    parts = read_batch(batch, found[0].adapter, required=("targets", "groups"))
    loss: Tensor = found[0].criterion_(
        call_module(module, parts.inputs), parts.targets, parts.groups, parts.weight
    )
    return loss


def _validation_loader(trainer: Any) -> Iterable[Any] | None:
    """The one validation loader, where there is any."""
    loop = trainer.fit_loop.epoch_loop.val_loop
    if trainer.enable_validation and trainer.val_dataloaders is None:
        trainer.validating = True  # as Lightning itself does where the first epoch validates
        loop.setup_data()
        trainer.training = True
    loaders = trainer.val_dataloaders
    if loaders is None and loop._data_source.is_defined() and trainer.limit_val_batches:
        raise InvalidParameterError(
            "Lightning gives no validation loader to a module without validation_step: write one "
            "(it may do nothing), so that these rows steer, or pass steer=False."
        )
    several = loaders if isinstance(loaders, list | tuple) else [loaders]
    if len(several) > 1 or isinstance(loaders, Mapping):
        raise InvalidParameterError(
            "there are several validation loaders; pass steer=False, or one whose rows steer."
        )
    return several[0] if several else None
