"""Weights of groups: given by code or name, or computed from a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from fairtrain._parameters import Real
from fairtrain.exceptions import InvalidParameterError
from fairtrain.losses.functional import GroupMoments

__all__ = ["GroupWeights", "code_of", "data_weights", "read_weights"]

GroupWeights = (
    Mapping[Any, float] | Sequence[float] | Tensor | Literal["size", "inverse_variance"] | None
)


def read_weights(
    given: GroupWeights, names: tuple[str, ...] | None, by_name: tuple[str, ...]
) -> dict[Any, float] | str | None:
    """Check weights; names become codes, tuples of column levels stay as they are."""
    if given is None:
        return None
    if isinstance(given, str):
        if given not in by_name:
            allowed = " or ".join(repr(name) for name in by_name) or "none by name"
            raise InvalidParameterError(
                f"group_weights must be a mapping group -> weight ({allowed} here), got {given!r}."
            )
        return given
    if isinstance(given, Tensor):
        given = given.tolist()
    items = given.items() if isinstance(given, Mapping) else enumerate(given)
    weights: dict[Any, float] = {}
    for key, weight in items:
        if not Real(0).accepts(weight):
            raise InvalidParameterError(
                f"group_weights[{key!r}] must be a finite number >= 0, got {weight!r}."
            )
        weights[_known_key(key, names)] = float(weight)
    return weights


def _known_key(key: Any, names: tuple[str, ...] | None) -> Any:
    if not isinstance(key, str):
        return key
    if names is None:
        raise InvalidParameterError(
            f"group_weights names the group {key!r}; give group_names=groups.names too."
        )
    if key not in names:
        raise InvalidParameterError(
            f"group_weights names the group {key!r}, which is not among {list(names)[:8]}."
        )
    return names.index(key)


def code_of(key: Any, levels: tuple[int, ...]) -> int:
    """Code of a group given by code or by a tuple of column levels; -1 if there is none."""
    if not isinstance(key, tuple):
        return int(key)
    if len(key) != len(levels) or any(
        not 0 <= k < size for k, size in zip(key, levels, strict=False)
    ):
        return -1
    code = 0
    for level, size in zip(key, levels, strict=True):
        code = code * size + int(level)
    return code


def data_weights(kind: str, moments: GroupMoments) -> Tensor:
    """Weights that average 1 over present groups; constants for the gradient."""
    counts = moments.counts.detach()
    present = counts > 0
    raw = counts
    if kind == "inverse_variance":
        assert moments.variances is not None
        # A handful of equal scores has variance 0: every group borrows ten rows of the pooled one.
        variances = moments.variances.detach()
        known = torch.isfinite(variances)
        spread = torch.where(known, variances, 0) * counts
        pooled = (spread * counts).sum(-1, keepdim=True) / (counts * known).sum(
            -1, keepdim=True
        ).clamp(min=1)
        steady = (counts * spread + 10 * pooled) / (counts + 10) + torch.finfo(counts.dtype).eps
        raw = counts / steady
    mean = raw.sum(-1, keepdim=True) / present.sum(-1, keepdim=True).clamp(min=1)
    return raw / torch.where(mean > 0, mean, 1)
