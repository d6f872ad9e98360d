"""Reading what a training loop hands in: shapes that would broadcast are errors here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from fairtrain._parameters import MOST_GROUPS
from fairtrain.exceptions import InvalidDataError

__all__ = ["FairnessBatch", "TargetKind", "read_outputs", "read_sensitive", "read_targets"]

TargetKind = Literal["none", "label", "real"]


class FairnessBatch(NamedTuple):
    """The rows of one batch, checked.

    Attributes
    ----------
    outputs : Tensor of shape (n,) or (n, C)
        What the model gave, at least float32.
    targets : Tensor of shape (n,) or None
        Labels (0/1 or class numbers) or real values.
    codes : integer Tensor of shape (n,)
        Group of each row, -1 for unknown. All 0 when ``attributes`` are given instead.
    num_groups : int
        Number of groups G.
    levels : tuple of int
        Groups of each sensitive column; their product is ``num_groups``.
    attributes : Tensor of shape (n, k) or None
        Continuous sensitive columns.
    weights : Tensor of shape (n,) or None
        Weight of each row.
    """

    outputs: Tensor
    targets: Tensor | None
    codes: Tensor
    num_groups: int
    levels: tuple[int, ...]
    attributes: Tensor | None = None
    weights: Tensor | None = None


def read_outputs(logits: object) -> Tensor:
    """Check model outputs; (n, 1) becomes (n,), half precision float32."""
    if not isinstance(logits, Tensor) or not logits.is_floating_point():
        raise InvalidDataError(f"logits must be a floating-point tensor, got {_kind(logits)}.")
    if logits.ndim == 2 and logits.shape[1] == 1:
        logits = logits.squeeze(1)
    if logits.ndim not in (1, 2):
        raise InvalidDataError(
            f"logits must have shape (n,), (n, 1) or (n, C), got {tuple(logits.shape)}; "
            "flatten further axes into rows first."
        )
    return logits if logits.dtype in (torch.float32, torch.float64) else logits.float()


def read_column(values: object, n: int, name: str) -> Tensor:
    """Check one number a row; (n, 1) becomes (n,)."""
    if not isinstance(values, Tensor):
        raise InvalidDataError(
            f"{name} must be a tensor, got {_kind(values)}; wrap it in torch.as_tensor."
        )
    if values.ndim == 2 and values.shape[1] == 1:
        values = values.squeeze(1)
    if tuple(values.shape) != (n,):
        raise InvalidDataError(
            f"{name} must have shape ({n},) or ({n}, 1) like the {n} rows of logits, "
            f"got {tuple(values.shape)}."
        )
    return values


def read_weight(sample_weight: object, outputs: Tensor, *, check: bool) -> Tensor | None:
    """Check the weight of every row; ``check`` also reads values: none is negative or NaN."""
    if sample_weight is None:
        return None
    weights = read_column(sample_weight, len(outputs), "sample_weight").to(outputs.dtype)
    bounds = value_range(weights.detach()) if check else None
    if bounds is not None and not 0 <= bounds[0] <= bounds[1] < math.inf:
        raise InvalidDataError(
            f"sample_weight must be finite and not negative, found {bounds[0]:g} to {bounds[1]:g}."
        )
    return weights


def read_targets(
    targets: object, outputs: Tensor, kind: TargetKind, *, check: bool
) -> Tensor | None:
    """Check labels or real targets against the outputs; ``check`` also reads their values."""
    if kind == "none" or targets is None:
        return None
    column = read_column(targets, len(outputs), "targets")
    if kind == "real":
        if outputs.ndim == 2:
            raise InvalidDataError(
                f"this loss needs one output a row, got shape {tuple(outputs.shape)}."
            )
        column = column.to(outputs.dtype)
        bounds = value_range(column.detach()) if check else None
        if bounds is not None and not -math.inf < bounds[0] <= bounds[1] < math.inf:
            raise InvalidDataError("targets hold NaN or infinite values; drop or fill those rows.")
        return column
    classes = outputs.shape[1] if outputs.ndim == 2 else 2
    if check and not _only_labels(column, classes):
        raise InvalidDataError(
            f"targets must be 0 .. {classes - 1}"
            + (" (1: the favourable outcome)." if classes == 2 else ", one class number a row.")
        )
    return column


def read_sensitive(sensitive: object, n: int) -> Tensor:
    """Check the shape of sensitive features; (n, 1) becomes (n,)."""
    if sensitive is None:
        raise InvalidDataError(
            "sensitive_features is missing; pass integer group codes, one a row: "
            "loss(logits, targets, codes)."
        )
    if not isinstance(sensitive, Tensor):
        raise InvalidDataError(
            f"sensitive_features must be a tensor of integer codes, got {_kind(sensitive)}; "
            "fairtrain.Groups.from_sensitive(...).codes makes them from any columns."
        )
    if sensitive.ndim == 2 and sensitive.shape[1] == 1:
        sensitive = sensitive.squeeze(1)
    if sensitive.ndim not in (1, 2) or len(sensitive) != n:
        raise InvalidDataError(
            f"sensitive_features must have shape ({n},) or ({n}, k) like the {n} rows of logits, "
            f"got {tuple(sensitive.shape)}."
        )
    return sensitive


def check_codes(codes: Tensor, levels: tuple[int, ...]) -> None:
    """Raise if a code lies outside ``-1 .. levels - 1`` of its column."""
    columns = [codes] if codes.ndim == 1 else list(codes.unbind(1))
    for column, size in zip(columns, levels, strict=True):
        bounds = value_range(column)
        if bounds is not None and not -1 <= bounds[0] <= bounds[1] < size:
            wrong = int(bounds[0] if bounds[0] < -1 else bounds[1])
            raise InvalidDataError(
                f"sensitive_features holds the code {wrong}, expected -1 (unknown) or "
                f"0 .. {size - 1}; raise num_groups={size} if there are more groups."
            )


def require_few_groups(levels: Sequence[int]) -> None:
    """Raise if the codes seen make more groups than memory is set aside for."""
    if math.prod(levels) > MOST_GROUPS:
        raise InvalidDataError(
            f"sensitive_features holds codes up to {max(levels) - 1}, which makes "
            f"{math.prod(levels)} groups, expected at most {MOST_GROUPS}; number groups from 0: "
            "fairtrain.Groups.from_sensitive(...).codes does."
        )


def check_chances(targets: Tensor) -> None:
    """Raise if a label is no probability."""
    if targets.dtype == torch.bool or _unmoved(targets, 0, 1):
        return
    if (bounds := value_range(targets)) is not None:
        raise InvalidDataError(
            f"targets must be 0 or 1 (1: the favourable outcome), or lie between for soft labels; "
            f"found {bounds[0]:g} to {bounds[1]:g}. For class numbers pass "
            "base_loss=nn.CrossEntropyLoss()."
        )


def value_range(values: Tensor) -> tuple[float, float] | None:
    """Smallest and largest value; None for no rows, or where values cannot be read (vmap)."""
    if not values.numel():
        return None
    if values.dtype == torch.bool:
        return (0, 1)
    low, high = torch.aminmax(values)
    try:
        return low.item(), high.item()
    except RuntimeError:  # a tensor that vmap has batched over
        return None


def _unmoved(values: Tensor, low: float, high: float) -> bool:
    """Whether all values lie between two; cheaper than to read the smallest and the largest."""
    try:
        return torch.equal(values.clamp(low, high), values)
    except RuntimeError:  # a tensor that vmap has batched over
        return True


def _only_labels(column: Tensor, classes: int) -> bool:
    if column.dtype == torch.bool:
        return True
    try:
        if classes == 2:
            return torch.equal(column * column, column)
        bounds = value_range(column)
        whole = not column.is_floating_point() or torch.equal(column, column.round())
    except RuntimeError:  # a tensor that vmap has batched over
        return True
    return whole and (bounds is None or 0 <= bounds[0] <= bounds[1] <= classes - 1)


def _kind(value: object) -> str:
    return f"a {value.dtype} tensor" if isinstance(value, Tensor) else type(value).__name__
