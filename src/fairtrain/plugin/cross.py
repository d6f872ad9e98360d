r"""Certificates from all rows: members that never saw the rows they are judged on.

K members each train and choose their prices on all folds but one and are judged on that one.
Deployed is the lottery among them, drawn for every person: its rates are the means of the members'
rates, each of which was measured on rows that its member never saw. So every row trains, steers and
certifies. Held-out decisions of different folds share most of their training rows, which correlates
them slightly; their variance is taken to be :data:`DESIGN_EFFECT` times that of independent rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairtrain.data.rows import Rows
from fairtrain.data.splits import RowSplit
from fairtrain.exceptions import InvalidParameterError

__all__ = ["DESIGN_EFFECT", "FOLDS", "HeldOut", "Lottery", "require_linear", "train_members"]

Floats = NDArray[np.float64]

FOLDS = 5
"""Members: each trains on four fifths of the rows."""

DESIGN_EFFECT = 1.1
"""Variance of pooled held-out rates over that of independent rows, see benchmarks/certificates.py.

Measured for prices on logistic scores (two and four groups, 1,000 to 16,000 rows): 1.06.
"""


@dataclass(frozen=True, eq=False)
class Lottery:
    """Several models, one of which decides about a person, drawn with equal chances.

    Attributes
    ----------
    members : tuple of FairPlugInClassifier
        Fitted, each on all rows of ``fit`` but those of one fold.
    disagreement : float
        Share of the rows of ``fit`` about which not all members decide alike.
    """

    members: tuple[Any, ...]
    disagreement: float

    def mean(self, of: Callable[[Any], Floats]) -> Floats:
        """Mean over members of what each of them gives."""
        return np.asarray(np.mean([of(member) for member in self.members], axis=0))


@dataclass(frozen=True, eq=False)
class HeldOut:
    """What members said of the rows of ``fit`` that they never saw.

    Attributes
    ----------
    decision : ndarray of shape (n,)
        Decisions, or chances of a favourable one where scores tie.
    score : ndarray of shape (n,)
        Chances after prices, of which a favourable decision would be taken at .5.
    outcome : ndarray of shape (n,)
        P(y = 1 | x), before any price.
    """

    decision: Floats
    score: Floats
    outcome: Floats


def require_linear(**estimators: Any) -> None:
    """Raise unless scores are linear, or left to the default.

    Pooled held-out rates of boosted scores varied 1.0 to 1.55 times as much as those of independent
    rows, by seed, so that no fixed design effect serves them.
    """
    for name, estimator in estimators.items():
        last = estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator
        modules = [owner.__module__ for owner in type(last).__mro__]
        if estimator is not None and not any(m.startswith("sklearn.linear_model") for m in modules):
            raise InvalidParameterError(
                f"certification='cross' is shown to hold for linear scores only, and {name} is a "
                f"{type(last).__name__}: certify it with certification_fraction, or pass a linear "
                "model, such as LogisticRegression."
            )


def train_members(
    make: Callable[[Rows, int], Any], rows: Rows, rng: np.random.RandomState
) -> tuple[Lottery, HeldOut]:
    """Train the members, and decide about every row by the one that never saw it.

    Parameters
    ----------
    make : callable
        Makes a fitted member of rows and a seed.
    rows : Rows
        All of them.
    rng : RandomState
        Source of chance.

    Returns
    -------
    lottery : Lottery
    held_out : HeldOut
        What each row was told by it.
    """
    members, decided = [], []
    told = HeldOut(*np.empty((3, len(rows))))
    for training, held in rows.folds(FOLDS, rng):
        nobody = training[:0]
        part = rows.take(training)
        everybody = RowSplit(np.arange(len(part)), nobody, nobody)
        member = make(replace(part, split=everybody), int(rng.randint(0, 2**31 - 1)))
        members.append(member)
        decided.append(member._decided(rows).decisions)
        told.decision[held] = decided[-1][held]
        told.outcome[held], told.score[held] = member._chances(rows.take(held))
    disagreement = np.average(np.ptp(decided, axis=0) > 0, weights=rows.weight)
    return Lottery(tuple(members), float(disagreement)), told
