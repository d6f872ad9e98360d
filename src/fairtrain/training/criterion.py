"""``FairCriterion``: a trainer's loss, multipliers and choice, for a training loop of one's own."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fairtrain.data.groups import GroupScheme
from fairtrain.data.inputs import check_lengths
from fairtrain.data.rows import Role
from fairtrain.exceptions import InvalidDataError, InvalidParameterError
from fairtrain.metrics.outcomes import judge_of
from fairtrain.metrics.report import FairnessReport
from fairtrain.training.answers import answered, to_judge
from fairtrain.training.batches.adapter import BatchAdapter, row_weights
from fairtrain.training.batches.batch import Batch
from fairtrain.training.batches.inputs import call_module, to_device
from fairtrain.training.batches.loaders import (
    as_targets,
    group_codes,
    levels_in,
    numbered_labels,
)
from fairtrain.training.loop.game import LagrangianRun
from fairtrain.training.loop.run import Run
from fairtrain.training.loop.steps import Losses
from fairtrain.training.predictor import told

__all__ = ["FairCriterion", "OwnLoop"]


@dataclass
class OwnLoop:
    """Training batches of somebody else's loop: their number, and nothing to go over.

    Attributes
    ----------
    n_batches : int or None
        Batches of an epoch, where it is known.
    """

    n_batches: int | None = None

    def batches(self, epoch: int) -> Iterator[Batch]:
        """None: they come one by one."""
        return iter(())

    def all(self) -> Iterator[Batch]:
        """None: they come one by one."""
        return iter(())

    def prepare(self, module: nn.Module) -> None:
        """Nothing."""


class FairCriterion:
    """What a trainer minimises, as a loss for a training loop of one's own.

    Made by :meth:`FairnessTrainer.criterion`. Call it on every training batch, :meth:`step` after
    every step of the optimizer, :meth:`end_epoch` after every epoch, and :meth:`finish` at the end.
    On several processes every one of them has to do so.

    Parameters
    ----------
    run : Run
        What is minimised.
    scheme : GroupScheme
        The groups.
    adapter : BatchAdapter or None
        Takes batches of loaders apart.

    Attributes
    ----------
    history : list of dict
        A record an epoch, as in ``history_`` of the trainer.
    """

    def __init__(self, run: Run, scheme: GroupScheme, adapter: BatchAdapter | None) -> None:
        self.run, self.scheme, self.adapter = run, scheme, adapter
        self.history: list[dict[str, Any]] = []
        self._last: tuple[Batch, Losses] | None = None

    def __call__(
        self, outputs: Any, targets: Any, groups: Any, sample_weight: Any = None
    ) -> Tensor:
        """Loss of a batch: the usual one, and what its rates cost.

        While the module is in ``eval()`` mode it is the usual loss alone, and nothing is counted.

        Parameters
        ----------
        outputs : Tensor, or object, mapping or tuple that holds logits
            What the module gave for n rows.
        targets, groups, sample_weight : Tensor of shape (n,)
            Labels, group codes and weights, as in ``fit_loader``.

        Returns
        -------
        Tensor of shape ()

        Raises
        ------
        InvalidDataError
            If lengths differ, a code is of no group, a label of no class, or a weight negative.
        """
        parts = self.run.parts
        y = as_targets(torch.as_tensor(targets), parts.head)
        logits = parts.head.outputs(outputs, len(y))
        if groups is None:
            raise InvalidDataError("a batch has no groups; pass group codes, -1 for unknown.")
        codes = group_codes(torch.as_tensor(groups), levels_in(self.scheme))
        check_lengths(len(y), groups=codes)
        weight = row_weights(sample_weight, len(y))
        batch = Batch(None, *(to_device(part, logits.device) for part in (y, codes, weight)))
        if not parts.module.training:
            return self.run.base(logits, batch)
        losses = self.run.losses_of(logits, batch)
        self._last = (batch, {name: value.detach() for name, value in losses.items()})
        return losses["loss"]

    def step(self) -> None:
        """After a step of the optimizer: multipliers move if it is their turn."""
        if self._last is not None:
            self.run.after_batch(*self._last)
        self._last = None

    def end_epoch(self) -> dict[str, Any]:
        """Measure the rows that steer, and keep these weights if they are the best so far.

        Returns
        -------
        dict
            What goes into :attr:`history`.
        """
        record: dict[str, Any] = {"epoch": len(self.history)}
        if self.run.parts.held is not None:
            self.run.after_epoch(record)
        elif isinstance(self.run, LagrangianRun):
            self.run.dual_step.after_epoch(self.run)
            sums = self.run.multipliers.sums.tolist()
            for family, total in zip(self.run.families, sums, strict=True):
                record[f"multipliers: {family.name}"] = total
        self.run.counted = None
        self.history.append(record)
        return record

    def finish(self) -> None:
        """Go back to the weights of the epoch that was chosen, where rows steered."""
        if isinstance(self.run, LagrangianRun):
            self.run.finish_choice()

    def report(
        self,
        loader: Iterable[Any],
        *,
        rows: Role = "certification",
        confidence: float = 0.95,
        threshold: float = 0.5,
        device: str | torch.device | None = None,
    ) -> FairnessReport:
        """Judge the module's decisions on all rows of a loader, by their weights and clusters.

        Under ``torch.distributed`` the rows of all processes are judged, and every process must
        call this.

        Parameters
        ----------
        loader : iterable
            Batches as in ``fit_loader``.
        rows, confidence, threshold, device
            As in :func:`fairtrain.evaluate_fairness`; a threshold other than .5 is for two classes.
        """
        module, head = self.run.parts.module, self.run.parts.head
        if threshold != 0.5 and (head.task != "binary" or not 0 < threshold < 1):
            raise InvalidParameterError(
                f"threshold={threshold!r} must lie in (0, 1), and is for two classes."
            )
        above = math.log(threshold / (1 - threshold))
        labels = None if head.task == "regression" else numbered_labels(head.n_classes)
        source, data = to_judge(
            loader, module, head, self.scheme, labels, device=device, adapter=self.adapter
        )

        def answer(batch: Batch) -> tuple[Tensor]:
            outputs = head.outputs(call_module(module, batch.x), len(batch.y))
            return (told(head, [(1.0, outputs - above if above else outputs)])[0],)

        was_training = module.training
        module.eval()
        try:
            judged, decided = answered(source.all(), data, answer)
        finally:
            module.train(was_training)
        asked = list(dict.fromkeys(family.constraint for family in self.run.families))
        judge = judge_of(labels)
        return judge(judged.decided(decided), asked, rows=rows, confidence=confidence)

    def state_dict(self) -> dict[str, Any]:
        """All but the module's present weights, which a loop keeps by itself."""
        run = {name: part for name, part in self.run.state_dict().items() if name != "module"}
        return {"run": run, "history": self.history}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state.

        Raises
        ------
        InvalidParameterError
            If it belongs to another criterion.
        """
        try:
            weights = self.run.parts.module.state_dict()
            self.run.load_state_dict({**state["run"], "module": weights})
            self.history = list(state["history"])
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise InvalidParameterError(
                f"the state belongs to another fair criterion ({type(error).__name__}): use the "
                "settings and groups that it was written under."
            ) from None
