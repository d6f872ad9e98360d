"""The operating point: a threshold, a number of places, or what the two errors cost.

All of them are costs. Whoever decides from a chance t on acts as if a wrong favourable decision
cost t and a missed one 1 - t (Elkan, 2001). Whoever has few places wants those in them who deserve
them, so that only a missed one costs, under a limit of the share that is chosen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fairtrain._commands.options import Decide
from fairtrain._text import one_line
from fairtrain.constraints import (
    AtMost,
    Constraint,
    DemographicParity,
    Objective,
    as_objective,
)
from fairtrain.constraints.objectives import OBJECTIVES
from fairtrain.exceptions import InvalidParameterError
from fairtrain.report.judged import best_constant

__all__ = ["AtThreshold", "OperatingPoint", "read_objective", "read_point"]

Floats = NDArray[np.float64]

_PLACES = {"false_positive": 0.0, "false_negative": 1.0}


@dataclass(frozen=True)
class OperatingPoint:
    """Where decisions are made, and what they are best at there.

    Attributes
    ----------
    objective : str or mapping
        As estimators take it.
    option : str
        What said so, for messages; empty where nobody did.
    threshold : float or None
        Chance from which on it is decided favourably, where a person named it.
    places : float or None
        Largest share of favourable decisions, or above 1 their number among the rows of the table.
    """

    objective: Any = "accuracy"
    option: str = ""
    threshold: float | None = None
    places: float | None = None

    def among(self, rows: int) -> Self:
        """The same point, with a number of places read as a share of these rows.

        Raises
        ------
        InvalidParameterError
            If there are places for all.
        """
        if self.places is None or self.places < 1:
            return self
        if self.places >= rows:
            raise InvalidParameterError(
                f"--select-top {self.places:g} has a place for each of the {rows:,} rows; name "
                "fewer, or a share such as 20%."
            )
        return replace(self, places=self.places / rows)

    @property
    def sought(self) -> Objective:
        """What decisions are to be best at."""
        return as_objective(self.objective)

    def limited(self, constraint: Constraint) -> list[Constraint]:
        """What is asked of an estimator: a parity, within the places that there are."""
        if self.places is None or self.places >= 1:  # a number, of rows that are not read yet
            return [constraint]
        return [constraint, AtMost("selection_rate", self.places, overall=True)]

    def unasked(self, constraint: Constraint) -> list[Constraint]:
        """The same where groups may differ at will."""
        nothing = DemographicParity() if constraint.absolute else constraint
        return self.limited(nothing.with_bounds(1.0))

    def cut(self, y: Floats) -> float | None:
        """Chance from which on an ordinary model decides favourably; None: as it does by itself.

        Parameters
        ----------
        y : ndarray of shape (n,)
            1 for the favourable label.
        """
        sought = self.sought
        if sought.is_accuracy or sought.costs_at is None or not sought.settled:
            return None
        return sought.costs(float(np.mean(y))).threshold

    def constant(self, y: Floats) -> Floats:
        """The best decision that is the same for everybody, or the best share of a lot, (n,)."""
        return best_constant(y, self.sought, 1.0 if self.places is None else self.places)

    def decided(self, score: Floats) -> Floats:
        """Decide by scores alone: from the threshold on, or the best there are places for, (n,).

        Those who tie for the last places share them, whatever the order of the rows.
        """
        if self.places is not None:
            most = round(self.places * len(score))
            last = np.sort(score)[::-1][max(most - 1, 0)]
            above, level = score > last, score == last
            shared = (most - above.sum()) / level.sum()
            return np.asarray(np.where(level, shared, above), dtype=np.float64)
        cut = 0.5 if self.option == "" else self.sought.costs(0.5).threshold
        return np.asarray(score >= cut, dtype=np.float64)

    def words(self, outcome: str) -> tuple[str, ...]:
        """Say where decisions are made, and what that means."""
        if self.places is not None:
            spent = "at most" if self.objective != _PLACES else "the best"
            return (
                f"Operating point: {spent} {100 * self.places:.3g} % of people are chosen "
                f"({outcome}), the baseline's and the constant's too; the limit is learnt, so that "
                "of other people about as many are.",
            )
        if self.threshold is not None:
            odds = (1 - self.threshold) / self.threshold
            return (
                f"Operating point: {outcome} from a chance of {self.threshold:g} on, the "
                "baseline's too. That is best where to miss one that deserves it costs "
                f"{odds:.3g} times as much as a wrong one, and 'cost' is measured so.",
            )
        if self.option:
            costs = self.sought.costs(0.5)
            return (
                f"Operating point: a wrong decision for {outcome} costs {costs.false_positive:g}, "
                f"a missed one {costs.false_negative:g}, so that the baseline decides from a "
                f"chance of {costs.threshold:.3g} on.",
            )
        return ()


class AtThreshold:
    """A classifier that decides from a chance of its own on.

    Parameters
    ----------
    model : estimator
        With ``predict_proba``.
    favourable : label
        The favourable one of its classes.
    threshold : float
        From here on.
    """

    def __init__(self, model: Any, favourable: Any, threshold: float) -> None:
        self.model, self.threshold = model, threshold
        self.classes_ = np.asarray(model.classes_)
        self._column = self.classes_.tolist().index(favourable)

    def predict(self, X: Any) -> NDArray[Any]:
        """Labels, shape (n,)."""
        chosen = self.predict_proba(X)[:, self._column] >= self.threshold
        return np.asarray(self.classes_[np.where(chosen, self._column, 1 - self._column)])

    def predict_proba(self, X: Any) -> Floats:
        """The classifier's own, shape (n, 2)."""
        return np.asarray(self.model.predict_proba(X), dtype=np.float64)


def read_point(options: Decide, objective: str | None) -> OperatingPoint:
    """Read the options that say where decisions are made; at most one of a kind.

    Raises
    ------
    InvalidParameterError
        If two of them contradict each other, or a number is none that can be used.
    """
    costs = _costs(options)
    given = {
        "--objective": objective,
        "--threshold": options.threshold,
        "--cost-fp and --cost-fn": costs,
    }
    names = [name for name, value in given.items() if value is not None]
    places = None if options.select_top is None else _read_places(options.select_top)
    if places is not None:
        names = [name for name in names if name != "--cost-fp and --cost-fn"] + ["--select-top"]
    if len(names) > 1:
        raise InvalidParameterError(
            f"{names[0]} and {names[1]} both say where decisions are made; give one of them."
        )
    option = next(iter(names), "")
    if places is not None:
        return OperatingPoint(costs or _PLACES, option, places=places)
    if options.threshold is not None:
        t = options.threshold
        if not 0 < t < 1:
            raise InvalidParameterError(f"--threshold must be a number between 0 and 1, got {t:g}.")
        odds = {"false_positive": t, "false_negative": 1 - t}
        return OperatingPoint(odds, option, threshold=t)
    if costs is not None:
        return OperatingPoint(costs, option)
    return OperatingPoint(read_objective(objective))


def _costs(options: Decide) -> dict[str, float] | None:
    """What the two errors cost; one left out costs 1."""
    named = {"false_positive": options.cost_fp, "false_negative": options.cost_fn}
    if all(cost is None for cost in named.values()):
        return None
    for name, cost in named.items():
        if cost is not None and not 0 <= cost < math.inf:
            option = "--cost-fp" if name == "false_positive" else "--cost-fn"
            raise InvalidParameterError(f"{option} must be a number >= 0, got {cost:g}.")
    costs = {name: 1.0 if cost is None else float(cost) for name, cost in named.items()}
    as_objective(costs)
    return costs


def _read_places(text: str) -> float:
    """Read ``"20%"`` or ``"0.2"``, a share, or ``"500"``, a number of people.

    Examples
    --------
    >>> _read_places("20%"), _read_places("0.2"), _read_places("500")
    (0.2, 0.2, 500.0)
    """
    number = text.strip()
    try:
        value = float(number.removesuffix("%")) / (100 if number.endswith("%") else 1)
    except ValueError:
        value = math.nan
    count = number.isdigit() and value >= 1
    if not count and not 0 < value < 1:
        raise InvalidParameterError(
            f"--select-top must be a share such as 20% or 0.2, or a number of people such as 500, "
            f"got '{one_line(text)}'."
        )
    return value


def read_objective(text: str | None) -> Any:
    """Read ``"f1"``, or ``"false_positive=1,false_negative=5"``; accuracy, if nothing is said.

    Examples
    --------
    >>> read_objective("false_negative=5")
    {'false_negative': 5.0}
    """
    if text is None:
        return "accuracy"
    if "=" not in text:
        try:
            as_objective(text)
        except InvalidParameterError:
            raise InvalidParameterError(
                f"--objective must be {', '.join(OBJECTIVES)}, or costs such as "
                f"false_positive=1,false_negative=5, got '{one_line(text)}'."
            ) from None
        return text
    costs = {}
    for part in text.split(","):
        name, _, number = part.partition("=")
        try:
            costs[name.strip()] = float(number)
        except ValueError:
            raise InvalidParameterError(
                f"--objective: '{one_line(number)}' is not a number; write --objective "
                "false_positive=1,false_negative=5."
            ) from None
    as_objective(costs)
    return costs
