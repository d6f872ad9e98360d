"""Which rows train, steer and certify: the same ones for every model of a run, and of all runs."""

from __future__ import annotations

import hashlib

import numpy as np

from fairtrain._commands.asked import Shares
from fairtrain._commands.columns import Label
from fairtrain._commands.methods.base import split_seed
from fairtrain.data.groups import Groups
from fairtrain.data.splits import RowSplit, split_rows
from fairtrain.exceptions import InvalidDataError, InvalidParameterError

__all__ = ["certified_digest", "group_counts", "row_counts", "split"]


def split(groups: Groups, label: Label, shares: Shares) -> RowSplit:
    """Split by group and label, as every method does under the same seed and shares.

    Raises
    ------
    InvalidDataError, InvalidParameterError
        If a share is out of range, or a part would have one label only.
    """
    for name, share in (
        ("validation", shares.validation),
        ("certification", shares.certification),
    ):
        if not 0 < share < 1:
            raise InvalidParameterError(f"--{name} must lie between 0 and 1, got {share:g}.")
    if shares.validation + shares.certification >= 1:
        raise InvalidParameterError(
            f"--validation {shares.validation:g} and --certification {shares.certification:g} "
            "leave no row to train on; their sum must stay below 1."
        )
    if not 0 <= shares.seed < 2**32:
        raise InvalidParameterError(f"--seed must lie in 0 .. 4294967295, got {shares.seed}.")
    found = split_rows(
        groups.codes,
        label.target,
        validation_fraction=shares.validation,
        certification_fraction=shares.certification,
        random_state=np.random.RandomState(split_seed(shares.seed)),
    )
    for name, rows in (
        ("train", found.training),
        ("steer", found.steering),
        ("certify", found.certification),
    ):
        if len(np.unique(label.target[rows])) < 2:
            raise InvalidDataError(
                f"the {len(rows)} rows that {name} have one label only; more rows are needed."
            )
    return found


def certified_digest(data_digest: str, found: RowSplit) -> str:
    """Stands for the very rows that certify: runs that share it can be compared."""
    rows = np.ascontiguousarray(found.certification, dtype="<i8").tobytes()
    return hashlib.sha256(data_digest.encode() + rows).hexdigest()


def row_counts(found: RowSplit) -> dict[str, int]:
    """Rows of each part."""
    return {
        "training": len(found.training),
        "steering": len(found.steering),
        "certification": len(found.certification),
    }


def group_counts(groups: Groups, found: RowSplit) -> dict[str, dict[str, int]]:
    """Rows of each group in each part."""
    parts = {
        "all": groups.counts,
        "training": groups.take(found.training).counts,
        "steering": groups.take(found.steering).counts,
        "certification": groups.take(found.certification).counts,
    }
    return {
        name: {part: int(counts[g]) for part, counts in parts.items()}
        for g, name in enumerate(groups.names)
    }
