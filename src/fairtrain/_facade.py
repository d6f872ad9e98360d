"""What every fairtrain estimator does with its arguments before it trains."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairtrain.constraints import Constraint
from fairtrain.data import inputs
from fairtrain.exceptions import ConstraintNotMetWarning, InvalidParameterError
from fairtrain.metrics.report import FairnessReport

__all__ = ["require_positive_label", "warn_of_broken_bounds"]


def require_positive_label(
    constraints: Sequence[Constraint], labels: NDArray[Any], positive_label: Any
) -> None:
    """Raise where a notion depends on the favourable outcome and nobody named it.

    Parameters
    ----------
    constraints : sequence of Constraint
        What is asked.
    labels : ndarray of shape (2,)
        The two labels.
    positive_label : label or None
        The constructor's.
    """
    dependent = [c.name for c in constraints if c.depends_on_positive]
    if positive_label is None and dependent and inputs.needs_positive_label(labels):
        raise InvalidParameterError(
            f"positive_label is missing: {dependent[0]} depends on which of "
            f"{np.sort(labels).tolist()} is the favourable outcome."
        )


def warn_of_broken_bounds(reports: Mapping[str, FairnessReport], *, stacklevel: int) -> None:
    """Warn of every bound that the rows which steered, or else trained, do not keep.

    Parameters
    ----------
    reports : mapping of str to FairnessReport
        An estimator's ``reports_``.
    stacklevel : int
        As in ``warnings.warn``, counted from the caller.
    """
    steered = reports.get("steering", reports["training"])
    for result in steered.results:
        over = result.achieved - result.bound
        if (-over if result.kind == "ratio" else over) > 1e-6:
            warnings.warn(
                f"{result.constraint} on {steered.rows} rows: {result.words()}",
                ConstraintNotMetWarning,
                stacklevel=stacklevel + 1,
            )
