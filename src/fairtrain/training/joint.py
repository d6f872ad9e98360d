"""What a network says of label and group together: log P(g, y | x)."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fairtrain._text import one_line
from fairtrain.exceptions import InvalidDataError, InvalidParameterError
from fairtrain.training.batches.inputs import call_module
from fairtrain.training.heads import Head, read_logits

__all__ = ["GroupLayer", "JointHead", "JointModule"]


@dataclass(frozen=True)
class JointHead:
    """Reads outputs as P(g, y | x).

    Attributes
    ----------
    n_groups : int
        Groups G; 1 where the group is known and nothing is said of it.
    """

    n_groups: int

    @property
    def n_outputs(self) -> int:
        """Numbers a row that a module made for this gives: one a group and label."""
        return 1 if self.n_groups == 1 else 2 * self.n_groups

    def of_cells(self, raw: Any, n: int) -> bool:
        """Whether an output has a logit for every group and label."""
        wide = self.n_groups > 1 and isinstance(raw, Tensor)
        return wide and tuple(raw.shape) == (n, self.n_outputs)

    def log_joint(self, raw: Any, groups: Tensor | None, n: int) -> Tensor:
        """Logarithms of P(g, y | x).

        Parameters
        ----------
        raw : Tensor
            What the module gave: logits of the cells, group by group, shape (n, 2 G); or of the
            label, in a shape that :class:`~fairtrain.training.heads.Head` reads.
        groups : Tensor of shape (n, 2 G), optional
            Logits of the groups given y = 0, then given y = 1, beside those of the label.
        n : int
            Rows.

        Returns
        -------
        Tensor of shape (n, G, 2)
        """
        if self.of_cells(raw, n):
            return F.log_softmax(_wide(raw), dim=1).view(-1, self.n_groups, 2)
        outcome = _wide(Head("binary").outputs(raw, n))
        label = torch.stack([F.logsigmoid(-outcome), F.logsigmoid(outcome)], dim=1)
        if groups is None:
            return label.unsqueeze(1)
        given = F.log_softmax(_wide(groups).view(-1, 2, self.n_groups), dim=2)
        return (given + label.unsqueeze(2)).transpose(1, 2)


@dataclass(frozen=True, eq=False)
class GroupLayer:
    """A layer for the groups, on the inputs of a module's last linear layer.

    Attributes
    ----------
    beside : str
        Name of that layer.
    weight, bias : Tensor of shape (2 G, f) and (2 G,)
        Its own.
    """

    beside: str
    weight: Tensor
    bias: Tensor


class JointModule(nn.Module):
    """A module, and what it lacks to tell label and group.

    Where it has a logit for the label alone, a linear layer for the groups reads the same inputs as
    its last linear layer, and both move all that lies before.

    Parameters
    ----------
    body : nn.Module
        Gives logits of the cells or of the label.
    head : JointHead
        Reads them.
    group : GroupLayer, optional
        The layer for the groups, where the body has none.
    """

    def __init__(self, body: nn.Module, head: JointHead, group: GroupLayer | None = None) -> None:
        super().__init__()
        self.body, self.head = body, head
        self.beside = "" if group is None else group.beside
        self.group: nn.Linear | None = None
        if group is not None:
            size, features = group.weight.shape
            self.group = nn.Linear(features, size).to(group.weight)
            self.group.load_state_dict({"weight": group.weight, "bias": group.bias})

    @classmethod
    def around(cls, body: nn.Module, head: JointHead, x: Any, n: int) -> Self:
        """See on a few rows what the body gives, and add what it lacks.

        Raises
        ------
        InvalidDataError
            If it does not take the rows, or gives something else.
        InvalidParameterError
            If it gives a logit for the label and has no linear layer to put one beside.
        """
        seen: dict[str, Tensor] = {}

        def note(name: str) -> Any:
            def hook(_: nn.Module, given: tuple[Any, ...]) -> None:
                seen.pop(name, None)  # so that the last one called is the last one here
                seen[name] = given[0]

            return hook

        layers = [(name, m) for name, m in body.named_modules() if isinstance(m, nn.Linear)]
        handles = [m.register_forward_pre_hook(note(name)) for name, m in layers]
        was_training = body.training
        body.eval()
        try:
            with torch.no_grad():
                raw = read_logits(call_module(body, x))
        except (IndexError, RuntimeError, TypeError, ValueError) as error:
            if isinstance(error, InvalidDataError):
                raise
            shown = f" of shape {tuple(x.shape)}" if isinstance(x, Tensor) else ""
            shown = f" of {list(x)}" if isinstance(x, Mapping) else shown
            raise InvalidDataError(
                f"the module does not take rows{shown}: {one_line(error)[:200]}"
            ) from None
        finally:
            body.train(was_training)
            for handle in handles:
                handle.remove()
        if head.n_groups == 1 or head.of_cells(raw, n):
            head.log_joint(raw, None, n)  # raises on other shapes
            return cls(body, head)
        Head("binary").outputs(raw, n)
        flat = [name for name, given in seen.items() if given.ndim == 2 and len(given) == n]
        if not flat:
            raise InvalidParameterError(
                "the module gives the label's logit and has no nn.Linear at its end to put the "
                f"groups' beside: give it {head.n_outputs} outputs, one a group and label, or pass "
                "a factory (n_features, n_outputs) -> nn.Module."
            )
        features = seen[flat[-1]]
        layer = nn.Linear(features.shape[1], head.n_outputs).to(features)
        group = GroupLayer(flat[-1], layer.weight.detach(), layer.bias.detach())
        return cls(body, head, group)

    def forward(self, x: Any) -> Tensor:
        """Logarithms of P(g, y | x), shape (n, G, 2)."""
        if self.group is None:
            raw = read_logits(call_module(self.body, x))
            return self.head.log_joint(raw, None, raw.shape[0])
        seen: list[Tensor] = []
        own = threading.get_ident()

        def note(_: nn.Module, given: tuple[Any, ...]) -> None:
            if threading.get_ident() == own:  # another thread may be asking the same body
                seen.append(given[0])

        handle = self.body.get_submodule(self.beside).register_forward_pre_hook(note)
        try:
            raw = call_module(self.body, x)
        finally:
            handle.remove()
        return self.head.log_joint(raw, self.group(seen[-1]), seen[-1].shape[0])

    def group_layer(self) -> GroupLayer | None:
        """The layer for the groups as it is now, apart from this module."""
        if self.group is None:
            return None
        weight, bias = self.group.weight.detach(), self.group.bias.detach()
        return GroupLayer(self.beside, weight.cpu().clone(), bias.cpu().clone())


def _wide(outputs: Tensor) -> Tensor:
    """At least 32 bits."""
    return outputs if outputs.dtype == torch.float64 else outputs.float()
