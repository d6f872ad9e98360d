"""What all fairness losses share: reading a batch and its groups."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar, TypedDict, get_args

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from fairtrain._parameters import (
    ANYTHING,
    MOST_GROUPS,
    NONE,
    NUMBER_OF_GROUPS,
    Choice,
    Real,
    Several,
    Table,
    checked,
)
from fairtrain.exceptions import InvalidDataError, InvalidParameterError
from fairtrain.losses.batch import (
    FairnessBatch,
    TargetKind,
    check_codes,
    read_outputs,
    read_sensitive,
    read_targets,
    read_weight,
    require_few_groups,
    value_range,
)
from fairtrain.losses.distributed import gather_rows, is_distributed
from fairtrain.losses.functional import GroupMoments, Link, combine_codes, soft_decisions
from fairtrain.losses.weights import GroupWeights, data_weights, read_weights, weight_table

__all__ = ["FairnessLoss", "GroupSettings", "refuse"]


class GroupSettings(TypedDict, total=False):
    """Keywords of every :class:`FairnessLoss`."""

    num_groups: int | Sequence[int] | None
    group_names: Sequence[str] | None
    group_weights: GroupWeights
    temperature: float
    link: Link
    process_group: Any


_WEIGHTS = (
    Several(ANYTHING, "be a mapping group -> weight, or one weight a group")
    | Choice("size", "inverse_variance")
    | NONE
)


class FairnessLoss(nn.Module):
    """Base of all fairness losses: a scalar that is 0 when groups are treated alike.

    Call it like any PyTorch loss, with the groups as third argument::

        loss = loss + eta * penalty(logits, targets, sensitive_features)

    A penalty that reads no labels (``target_kind`` is ``"none"``) does without them::

        loss = loss + eta * penalty(logits, sensitive_features=sensitive_features)

    Under ``torch.distributed`` a loss in training mode judges the rows of *all* processes; every
    process must then call it. In ``eval()`` mode it judges its own rows only.

    Parameters
    ----------
    num_groups : int or sequence of int, optional
        Number of groups, or of levels of each sensitive column. Default: the largest code seen so
        far plus one, which costs a look at the data, breaks a ``torch.compile`` graph and is not
        allowed under ``torch.distributed``.
    group_names : sequence of str, optional
        Names of the groups, such as ``Groups.names``; implies ``num_groups``.
    group_weights : mapping, sequence, "size" or "inverse_variance", optional
        Importance of groups: code, tuple of column levels, or name -> weight >= 0 (1 where none is
        given; 0 leaves a group out), or one weight a group. With ``group_names`` an intersection
        may be called ``"F/Black"``, ``"F x Black"`` or ``("F", "Black")``. ``"size"`` weights by
        rows, ``"inverse_variance"`` by the precision of the group mean; both average 1.
    temperature : float > 0, default=1.0
        Sharpness of soft decisions; see :func:`~fairtrain.losses.functional.soft_decisions`.
    link : {"sigmoid", "probit"}, default="sigmoid"
        Form of soft decisions.
    process_group : ProcessGroup, optional
        Processes that train together; all of them by default.

    Notes
    -----
    A subclass says what targets it reads (``target_kind``) and implements :meth:`penalty`. One
    that indexes by group code, where a code out of range raises by itself, sets
    ``checks_codes_late`` and saves a pass over the codes.
    """

    target_kind: TargetKind = "none"
    accepts_continuous: ClassVar[bool] = False
    gathers_rows: ClassVar[bool] = True
    checks_codes_late: bool = False
    weights_by_name: ClassVar[tuple[str, ...]] = ()

    _fixed_weights: Tensor | None

    _allowed: ClassVar[Table] = {
        "num_groups": NUMBER_OF_GROUPS,
        "group_names": Several(ANYTHING, "be a list of names") | NONE,
        "group_weights": _WEIGHTS,
        "temperature": Real(0, ends="()"),
        "link": Choice(*get_args(Link)),
        "process_group": ANYTHING,
    }

    @checked
    def __init__(
        self,
        *,
        num_groups: int | Sequence[int] | None = None,
        group_names: Sequence[str] | None = None,
        group_weights: GroupWeights = None,
        temperature: float = 1.0,
        link: Link = "sigmoid",
        process_group: Any = None,
    ) -> None:
        super().__init__()
        self.group_names = None if group_names is None else tuple(map(str, group_names))
        self.levels = _read_levels(num_groups, self.group_names)
        self.group_weights = read_weights(group_weights, self.group_names, self.weights_by_name)
        self.temperature = temperature
        self.link: Link = link
        self.process_group = process_group
        self._seen: tuple[int, ...] = ()
        self._checked = False
        # Made once where the number of groups is known; remade where it is still growing.
        table = None
        if self.levels is not None and isinstance(self.group_weights, dict):
            table = weight_table(self.group_weights, self.levels)
        self.register_buffer("_fixed_weights", table, persistent=False)

    def forward(
        self,
        logits: Shaped[Tensor, "..."],
        targets: Shaped[Tensor, "..."] | None = None,
        sensitive_features: Shaped[Tensor, "..."] | None = None,
        *,
        sample_weight: Shaped[Tensor, "..."] | None = None,
    ) -> Tensor:
        """Judge a batch.

        Parameters
        ----------
        logits : Tensor of shape (n,), (n, 1) or (n, C)
            Model outputs before the sigmoid or softmax, of any floating type.
        targets : Tensor of shape (n,) or (n, 1), optional
            Labels: 0/1, or class numbers for C > 2 columns. Losses that need none take None.
        sensitive_features : integer Tensor of shape (n,) or (n, k)
            Group codes, -1 for unknown rows, which are left out; k columns make intersections.
        sample_weight : Tensor of shape (n,), optional
            Weight >= 0 of each row.

        Returns
        -------
        Tensor of shape ()
            At least float32. Exactly 0, with a gradient of 0, when there is nothing to compare.

        Raises
        ------
        InvalidDataError
            If shapes do not agree, labels or codes are out of range, or a needed input is missing.
        """
        batch = self.read(logits, targets, sensitive_features, sample_weight)
        if not self.checks_codes_late or torch.compiler.is_compiling():
            return self.penalty(batch)
        try:
            return self.penalty(batch)
        except (IndexError, RuntimeError):
            check_codes(batch.codes, (batch.num_groups,))  # says it better
            raise

    def penalty(self, batch: FairnessBatch) -> Tensor:
        """Compute the loss of a checked batch."""
        raise NotImplementedError(f"{type(self).__name__} implements no penalty.")

    def read(
        self,
        logits: Shaped[Tensor, "..."],
        targets: Shaped[Tensor, "..."] | None,
        sensitive_features: Shaped[Tensor, "..."] | None,
        sample_weight: Shaped[Tensor, "..."] | None = None,
    ) -> FairnessBatch:
        """Check what came in and code the groups."""
        outputs = read_outputs(logits)
        sensitive = read_sensitive(sensitive_features, len(outputs))
        # Reading values stalls an accelerator: there only the first batch is looked at.
        check = not torch.compiler.is_compiling() and (
            outputs.device.type == "cpu" or not self._checked
        )
        column = read_targets(targets, outputs, self.target_kind, check=check)
        if column is None and self.target_kind != "none":
            raise InvalidDataError(f"{type(self).__name__} needs targets, got None.")
        weights = read_weight(sample_weight, outputs, check=check)
        read_who = self._attributes if sensitive.is_floating_point() else self._codes
        codes, levels, attributes = read_who(sensitive, outputs, check)
        groups = math.prod(levels)
        batch = FairnessBatch(outputs, column, codes, groups, levels, attributes, weights)
        if check and not self._checked:
            self._checked = True
        return self._gathered(batch) if self.gathers_rows and self.synced else batch

    @property
    def synced(self) -> bool:
        """Whether the rows of other processes count: in training mode, under a process group."""
        return self.training and is_distributed(self.process_group)

    def decisions(self, outputs: Float[Tensor, "n *classes"]) -> Float[Tensor, "n *outcomes"]:
        """Soft decisions in [0, 1]; two columns become the probability of the second."""
        if outputs.ndim == 2 and outputs.shape[1] == 2:
            outputs = outputs[:, 1] - outputs[:, 0]
        return soft_decisions(outputs, self.temperature, self.link)

    def weights_of_groups(
        self, moments: GroupMoments | None, levels: tuple[int, ...], like: Tensor
    ) -> Tensor:
        """Weight of each group, shape (G,) or (K, G), like a tensor that ends with the groups."""
        if self.group_weights is None:
            return torch.ones_like(like)
        if isinstance(self.group_weights, str):
            assert moments is not None
            return data_weights(self.group_weights, moments)
        table = self._fixed_weights
        return (table if table is not None else weight_table(self.group_weights, levels)).to(like)

    def extra_repr(self) -> str:
        """Settings shown by ``print``."""
        groups = "inferred" if self.levels is None else math.prod(self.levels)
        return f"num_groups={groups}, temperature={self.temperature}"

    def _codes(
        self, sensitive: Tensor, outputs: Tensor, check: bool
    ) -> tuple[Tensor, tuple[int, ...], None]:
        """Group of each row, and the groups of each column."""
        codes = sensitive.long()
        width = codes.shape[1] if codes.ndim == 2 else 1
        levels = self._infer_levels(codes) if self.levels is None else self.levels
        if len(levels) != width:
            raise InvalidDataError(
                f"sensitive_features has {width} column(s), but num_groups={levels} (given, or "
                f"seen before) describes {len(levels)}; give num_groups one number a column."
            )
        late = self.checks_codes_late and codes.ndim == outputs.ndim == 1
        if (check or self.levels is None) and not late:
            check_codes(codes, levels)
        if codes.ndim == 2:
            codes = combine_codes(codes, levels)
        return codes, levels, None

    def _infer_levels(self, codes: Tensor) -> tuple[int, ...]:
        if self.synced:
            raise InvalidParameterError(
                f"{type(self).__name__} needs num_groups under torch.distributed: processes may "
                "see different groups."
            )
        columns = [codes] if codes.ndim == 1 else codes.unbind(1)
        seen = self._seen or (1,) * len(columns)
        if not len(codes) or len(seen) != len(columns):
            return seen
        bounds = [value_range(column) for column in columns]
        if None in bounds:
            raise InvalidParameterError(
                f"{type(self).__name__} needs num_groups under vmap over sensitive_features."
            )
        largest = tuple(
            max(size, int(b[1]) + 1) for size, b in zip(seen, bounds, strict=True) if b is not None
        )
        require_few_groups(largest)
        if len(largest) > 1 and largest != seen and self._seen and self.remembers_groups:
            raise InvalidParameterError(
                "a new level appeared in sensitive_features; with memory give num_groups one "
                "number a column."
            )
        self._seen = largest
        return largest

    @property
    def remembers_groups(self) -> bool:
        """Whether the loss keeps state by group code, so that codes must not be renumbered."""
        return False

    def _attributes(
        self, sensitive: Tensor, outputs: Tensor, check: bool
    ) -> tuple[Tensor, tuple[int, ...], Tensor]:
        """All rows as one group, and their continuous columns."""
        if not self.accepts_continuous:
            raise InvalidDataError(
                f"{type(self).__name__} needs integer group codes, got {sensitive.dtype}; "
                "call .long() on codes, or cut a continuous attribute into groups."
            )
        columns = sensitive if sensitive.ndim == 2 else sensitive.unsqueeze(1)
        codes = torch.zeros(len(outputs), dtype=torch.int64, device=outputs.device)
        return codes, (1,), columns.to(outputs)

    def _gathered(self, batch: FairnessBatch) -> FairnessBatch:
        rows = {
            name: gather_rows(part, self.process_group)
            for name, part in batch._asdict().items()
            if isinstance(part, Tensor)
        }
        return batch._replace(**rows)  # type: ignore[arg-type]


def refuse(loss: FairnessLoss, settings: Mapping[str, Any], *names: str) -> None:
    """Raise if a keyword of a base class is set that the loss's own formula fixes."""
    for name in names:
        if not any(settings.get(name) is unset for unset in (None, False)):
            raise InvalidParameterError(
                f"{type(loss).__name__} takes no {name}: its formula fixes it."
            )


def _read_levels(
    num_groups: int | Sequence[int] | None, names: tuple[str, ...] | None
) -> tuple[int, ...] | None:
    if num_groups is None:
        return None if names is None else (len(names),)
    levels = tuple(map(int, num_groups)) if isinstance(num_groups, Collection) else (num_groups,)
    if not levels or math.prod(levels) > MOST_GROUPS:
        raise InvalidParameterError(
            f"num_groups={num_groups!r} makes {math.prod(levels)} intersections, expected 1 to "
            f"{MOST_GROUPS}."
        )
    if names is not None and len(names) != math.prod(levels):
        raise InvalidParameterError(
            f"group_names has {len(names)} names for num_groups={num_groups!r}."
        )
    return levels
