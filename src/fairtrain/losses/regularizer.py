"""A usual loss plus a fairness penalty, for people who keep their own training loop."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from fairtrain._parameters import (
    ANYTHING,
    FLAG,
    FUNCTION,
    NONE,
    NUMBER_OF_GROUPS,
    Real,
    Table,
    Where,
    Whole,
    checked,
)
from fairtrain.exceptions import FairtrainError, InvalidDataError, InvalidParameterError
from fairtrain.losses.base import FairnessLoss
from fairtrain.losses.base_loss import mean_base_loss
from fairtrain.losses.batch import check_chances, read_column, read_weight
from fairtrain.losses.diagnosis import GradientNorms, compare_gradients
from fairtrain.losses.group_mean import GroupMeanLoss
from fairtrain.losses.names import Penalty, as_penalty
from fairtrain.losses.schedule import EtaSchedule
from fairtrain.losses.weights import GroupWeights

__all__ = ["FairnessRegularizerLoss"]


@dataclass
class _LastCall:
    """What a call leaves behind; not attributes of the module, which are slow to set."""

    base: Tensor | None = None
    penalty: Tensor | None = None
    total: Tensor | None = None
    eta: float | Tensor = 0.0
    loss: weakref.ref[Tensor] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "loss": None}


def _is_eta(value: Any) -> bool:
    return isinstance(value, Tensor) and value.numel() == 1 and Real(0).accepts(value.item())


class FairnessRegularizerLoss(nn.Module):
    r"""Base loss plus eta times a fairness penalty: two changed lines make a training loop fair.

    .. math:: \ell = \ell_{\text{base}}(z, y) + \eta \sum_j v_j P_j(z, y, a)

    Parameters
    ----------
    base_loss : callable, optional
        ``base_loss(logits, targets)`` -> one number, or one a row, which is then averaged. Default:
        ``nn.BCEWithLogitsLoss()``. Shapes (n, 1) reach it as (n,).
    penalty : FairnessLoss, constraint, str, list of these, or mapping to weights
        What is penalised; several are added up. Names: ``fairtrain.losses.PENALTIES``. Constraints
        of fairlearn's are read as ours; a penalty knows their notion, and no bound of a parity.
    eta : float >= 0 or callable, default=1.0
        Strength, or a schedule: a function of the number of training-mode calls so far, such as
        :class:`~fairtrain.losses.schedule.LinearWarmup`. May be assigned to at any time.
    every : int >= 1, default=1
        Compute the penalty at every k-th training call only, times k: the same gradient on
        average at less cost. In ``eval()`` it is always computed, once.
    group_weights, num_groups, group_names, reduction, temperature, shrinkage, memory, debias
        Keywords of penalties given by name or as constraints; see
        :class:`~fairtrain.losses.group_mean.GroupMeanLoss`. None is the penalty's own default.

    Raises
    ------
    InvalidParameterError
        If a setting is out of range or a penalty unknown.

    Notes
    -----
    Under ``DistributedDataParallel`` the base loss is that of the process's own rows and the
    penalty that of all rows, so that the averaged gradient is exact where processes hold equally
    many rows.

    Examples
    --------
    >>> import torch
    >>> from fairtrain.losses import FairnessRegularizerLoss
    >>> loss = FairnessRegularizerLoss(penalty="demographic_parity", eta=2.0, num_groups=2)
    >>> logits = torch.tensor([1.0, 0.0, -1.0, -2.0], requires_grad=True)
    >>> targets, codes = torch.tensor([1.0, 0.0, 1.0, 0.0]), torch.tensor([0, 0, 1, 1])
    >>> total = loss(logits, targets, codes)
    >>> print(loss.gradient_norms([logits]))
    eta=2: the penalty's gradient is 1.4 times the base loss's; both drive training.
    >>> total.backward()
    >>> {name: round(float(term), 3) for name, term in loss.last_terms.items()}
    {'base': 0.612, 'penalty': 0.178, 'eta': 2.0, 'total': 0.967}
    """

    _allowed: ClassVar[Table] = {
        "base_loss": FUNCTION | NONE,
        "penalty": ANYTHING,
        "eta": Real(0) | FUNCTION | Where("be a tensor of one such number", _is_eta),
        "group_weights": FairnessLoss._allowed["group_weights"],
        "every": Whole(1),
        "num_groups": NUMBER_OF_GROUPS,
        "group_names": FairnessLoss._allowed["group_names"],
        "reduction": GroupMeanLoss._allowed["reduction"] | NONE,
        "temperature": FairnessLoss._allowed["temperature"] | NONE,
        "shrinkage": GroupMeanLoss._allowed["shrinkage"] | NONE,
        "memory": GroupMeanLoss._allowed["memory"] | NONE,
        "debias": FLAG | NONE,
    }

    @checked
    def __init__(
        self,
        base_loss: Callable[[Tensor, Tensor], Tensor] | None = None,
        penalty: Penalty | Sequence[Penalty] | Mapping[Any, float] = "demographic_parity",
        eta: float | Tensor | EtaSchedule = 1.0,
        group_weights: GroupWeights = None,
        *,
        every: int = 1,
        num_groups: int | Sequence[int] | None = None,
        group_names: Sequence[str] | None = None,
        reduction: str | None = None,
        temperature: float | None = None,
        shrinkage: float | None = None,
        memory: float | None = None,
        debias: bool | None = None,
    ) -> None:
        super().__init__()
        settings = {
            "group_weights": group_weights,
            "num_groups": num_groups,
            "group_names": group_names,
            "reduction": reduction,
            "temperature": temperature,
            "shrinkage": shrinkage,
            "memory": memory,
            "debias": debias,
        }
        given = {name: value for name, value in settings.items() if value is not None}
        self.base_loss = nn.BCEWithLogitsLoss() if base_loss is None else base_loss
        self.penalties, self.strengths = _read_penalties(penalty, given)
        self._chances = isinstance(self.base_loss, nn.BCEWithLogitsLoss)
        self._labels_read = any(loss.target_kind == "label" for loss in self.penalties)
        self.eta = eta
        self.every = every
        self.calls = 0
        self._last = _LastCall()

    def forward(
        self,
        logits: Shaped[Tensor, "..."],
        targets: Shaped[Tensor, "..."],
        sensitive_features: Shaped[Tensor, "..."],
        *,
        sample_weight: Shaped[Tensor, "..."] | None = None,
    ) -> Tensor:
        """Total loss of a batch.

        Parameters
        ----------
        logits : Tensor of shape (n,), (n, 1) or (n, C)
            Model outputs.
        targets : Tensor of shape (n,) or (n, 1)
            Labels; class numbers for C columns; real values for regression.
        sensitive_features : Tensor of shape (n,) or (n, k)
            Group codes, -1 for unknown.
        sample_weight : Tensor of shape (n,), optional
            Weight of each row, in the base loss and in the penalties. Needs a base loss that gives
            one number a row, or one of PyTorch's, which are asked to.

        Returns
        -------
        Tensor of shape ()
        """
        counted = self.training and (self.every > 1 or callable(self.eta))
        eta = self.eta(self.calls) if callable(self.eta) else self.eta
        active = isinstance(eta, Tensor) or eta != 0
        base, penalty = self.terms(
            logits,
            targets,
            sensitive_features,
            sample_weight=sample_weight,
            skip_penalty=counted and self.calls % self.every != 0,
            with_gradient=active,
        )
        if counted:
            self.calls += 1
        last = self._last
        if penalty is not None:
            last.penalty = penalty.detach()
        if penalty is None or not active:
            penalty, total = None, base.clone()
        else:
            factor = eta * self.every if self.training else eta
            if isinstance(factor, Tensor):
                total = base + factor * penalty
            else:
                total = torch.add(base, penalty, alpha=factor)
        last.base, last.total, last.eta = base.detach(), total.detach(), eta
        if not torch.compiler.is_compiling():
            # The caller's loss keeps the graph alive, not this module.
            total.fairness_terms = (base, penalty, eta)  # type: ignore[attr-defined]
            last.loss = weakref.ref(total)
        return total

    @property
    def last_terms(self) -> dict[str, Tensor]:
        """Base, penalty (before eta), eta and total of the last call, detached; empty before it."""
        last = self._last
        if last.base is None or last.total is None:
            return {}
        penalty = torch.zeros_like(last.base) if last.penalty is None else last.penalty
        eta = torch.as_tensor(last.eta)
        return {"base": last.base, "penalty": penalty, "eta": eta, "total": last.total}

    def terms(
        self,
        logits: Shaped[Tensor, "..."],
        targets: Shaped[Tensor, "..."],
        sensitive_features: Shaped[Tensor, "..."],
        *,
        sample_weight: Shaped[Tensor, "..."] | None = None,
        skip_penalty: bool = False,
        with_gradient: bool = True,
    ) -> tuple[Tensor, Tensor | None]:
        """Base loss and penalty apart, before eta; keeps no record.

        Parameters
        ----------
        logits, targets, sensitive_features, sample_weight
            As in :meth:`forward`.
        skip_penalty : bool, default=False
            Leave the penalty out.
        with_gradient : bool, default=True
            Whether the penalty's gradient is needed.

        Returns
        -------
        base : Tensor of shape ()
        penalty : Tensor of shape () or None
        """
        if not isinstance(logits, Tensor):
            raise InvalidDataError(f"logits must be a tensor, got {type(logits).__name__}.")
        if logits.ndim == 2 and logits.shape[1] == 1:
            logits = logits.squeeze(1)
        targets = read_column(targets, len(logits), "targets")
        # What the penalty does not look at; reading values would stall an accelerator.
        readable = logits.device.type == "cpu" and not torch.compiler.is_compiling()
        read_weight(sample_weight, logits, check=readable)
        if readable and self._chances and (skip_penalty or not self._labels_read):
            check_chances(targets)
        base = mean_base_loss(self.base_loss, logits, targets, sample_weight)
        if skip_penalty:
            return base, None
        if with_gradient:
            return base, self._penalty(logits, targets, sensitive_features, sample_weight)
        with torch.no_grad():
            return base, self._penalty(logits, targets, sensitive_features, sample_weight)

    def gradient_norms(self, parameters: Iterable[Tensor]) -> GradientNorms:
        """Compare the gradients of the two terms, to see whether eta is too small or too large.

        Call it after the loss and before ``backward()``, which frees the graph; it costs two
        backward passes and leaves every ``.grad`` as it was. With several processes it sees this
        process's gradients and must be called on all.

        Parameters
        ----------
        parameters : iterable of Tensor
            Usually ``model.parameters()``.

        Returns
        -------
        GradientNorms
            Prints as a sentence.

        Raises
        ------
        FairtrainError
            If there is no loss to look at any more.
        """
        total = None if self._last.loss is None else self._last.loss()
        if total is None:
            raise FairtrainError(
                "gradient_norms needs the last loss: call it after loss = criterion(...), while "
                "that loss is alive and before loss.backward()."
            )
        base, penalty, eta = total.fairness_terms  # type: ignore[attr-defined]
        return compare_gradients(base, penalty, float(eta), parameters)

    def get_extra_state(self) -> Tensor:
        """Number of training calls, so that a resumed run goes on with its schedule."""
        return torch.tensor(self.calls)

    def set_extra_state(self, state: Tensor) -> None:
        """Restore the number of training calls."""
        self.calls = int(state)

    def extra_repr(self) -> str:
        """Settings shown by ``print``."""
        return f"eta={self.eta}, every={self.every}"

    def _penalty(
        self, logits: Tensor, targets: Tensor, sensitive: Tensor, sample_weight: Tensor | None
    ) -> Tensor:
        values: list[Tensor] = []
        for penalty, strength in zip(self.penalties, self.strengths, strict=True):
            value = penalty(logits, targets, sensitive, sample_weight=sample_weight)
            values.append(value if strength == 1 else strength * value)
        return values[0] if len(values) == 1 else torch.stack(values).sum()


def _read_penalties(
    penalty: Penalty | Sequence[Penalty] | Mapping[Any, float], settings: Mapping[str, Any]
) -> tuple[nn.ModuleList, tuple[float, ...]]:
    if isinstance(penalty, Mapping):
        pairs = list(penalty.items())
    else:
        items = penalty if isinstance(penalty, list | tuple) else [penalty]
        pairs = [(item, 1.0) for item in items]
    if not pairs:
        raise InvalidParameterError("penalty is empty; name at least one.")
    for key, strength in pairs:
        if not Real(0).accepts(strength):
            raise InvalidParameterError(
                f"the weight of penalty {key!r} must be a finite number >= 0, got {strength!r}."
            )
    losses = [as_penalty(key, settings) for key, _ in pairs]
    return nn.ModuleList(losses), tuple(float(strength) for _, strength in pairs)
