"""Weights of groups: given by code or name, or computed from a batch."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from fairtrain._parameters import Real, Whole
from fairtrain.exceptions import InvalidParameterError
from fairtrain.losses.functional import GroupMoments

__all__ = ["GroupWeights", "data_weights", "read_weights", "weight_table"]

GroupWeights = (
    Mapping[Any, float] | Sequence[float] | Tensor | Literal["size", "inverse_variance"] | None
)


def read_weights(
    given: GroupWeights, names: tuple[str, ...] | None, by_name: tuple[str, ...]
) -> dict[Any, float] | str | None:
    """Check weights; names become codes, codes and tuples of column levels stay as they are."""
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
    parts = key if isinstance(key, tuple) else (key,)
    if not all(isinstance(part, str) for part in parts):
        return key
    if names is None:
        raise InvalidParameterError(
            f"group_weights names the group {key!r}; give group_names=groups.names too."
        )
    if key in names:
        return names.index(key)
    levels = _levels_of(key)
    alike = [code for code, name in enumerate(names) if _levels_of(name) == levels]
    if len(alike) != 1:
        raise InvalidParameterError(
            f"group_weights names the group {key!r}, which is not among {list(names)[:8]}."
        )
    return alike[0]


def _levels_of(name: str | tuple[str, ...]) -> tuple[str, ...]:
    """Levels that an intersection is named by: ``"F/Black"``, ``"F x Black"``, or both apart."""
    return name if isinstance(name, tuple) else tuple(re.split(r"/|\s+x\s+", name))


def weight_table(given: Mapping[Any, float], levels: tuple[int, ...]) -> Tensor:
    """Weight of every group, shape (G,): 1 where none is given.

    Raises
    ------
    InvalidParameterError
        If a code, or a tuple of column levels, is none of the groups.
    """
    weights = torch.ones(levels)
    for key, weight in given.items():
        table = weights if isinstance(key, tuple) else weights.view(-1)
        place = key if isinstance(key, tuple) else (key,)
        sizes = zip(place, table.shape, strict=False)
        if len(place) != table.ndim or not all(Whole(0, n - 1).accepts(at) for at, n in sizes):
            raise InvalidParameterError(
                f"group_weights names the group {key!r}, but there are {weights.numel()}."
            )
        table[place] = weight
    return weights.view(-1)


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
