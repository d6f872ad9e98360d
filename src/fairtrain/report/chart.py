"""A trade-off as plain values: points of a sweep, the front among them, and the one chosen."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fairtrain._text import one_line
from fairtrain.exceptions import InvalidDataError

if TYPE_CHECKING:
    from fairtrain.tradeoff import ParetoFrontier

__all__ = ["FrontierChart", "FrontierPoint"]


@dataclass(frozen=True)
class FrontierPoint:
    """One trained model of a sweep.

    Attributes
    ----------
    value : float or str
        Where the moved parameter stood.
    seed : int
        Its seed.
    performance, gap : float
        On the rows that scored the sweep.
    performance_limits, gap_limits : tuple of two floats
        Lower and upper confidence limit; NaN where there is none.
    dominated : bool
        Whether another point is better in one and no worse in the other.
    near_constant : bool
        Whether (almost) everybody gets the same decision.
    """

    value: float | str
    seed: int
    performance: float
    gap: float
    performance_limits: tuple[float, float] = (math.nan, math.nan)
    gap_limits: tuple[float, float] = (math.nan, math.nan)
    dominated: bool = False
    near_constant: bool = False

    @property
    def label(self) -> str:
        """The value in words."""
        return f"{self.value:g}" if isinstance(self.value, float) else one_line(self.value)


@dataclass(frozen=True)
class FrontierChart:
    """A sweep, ready to be drawn.

    Attributes
    ----------
    name : str
        Heading of the curve.
    param : str
        What was moved, such as ``"eta"``.
    points : tuple of FrontierPoint
        One for each trained model.
    chosen : int or None
        Index of the point that was chosen.
    performance_name, gap_name : str
        What is on the axes.
    bound : float or None
        Gap that is asked for.
    baseline : tuple of two floats, or None
        Gap and performance of an ordinary model on the same rows.
    """

    name: str
    param: str
    points: tuple[FrontierPoint, ...]
    chosen: int | None = None
    performance_name: str = "accuracy"
    gap_name: str = "gap"
    bound: float | None = None
    baseline: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.chosen is not None and not 0 <= self.chosen < len(self.points):
            raise InvalidDataError(
                f"chosen={self.chosen} is no point of the {len(self.points)} of {self.name!r}."
            )

    @property
    def front(self) -> tuple[FrontierPoint, ...]:
        """Points that no other one beats, from the narrowest gap to the widest."""
        front = [p for p in self.points if not p.dominated and math.isfinite(p.gap)]
        return tuple(sorted(front, key=lambda p: (p.gap, p.performance)))

    @classmethod
    def from_frontier(cls, frontier: ParetoFrontier, chosen: Any = None) -> FrontierChart:
        """Read the points of a :class:`~fairtrain.ParetoFrontier`.

        Parameters
        ----------
        frontier : ParetoFrontier
            What a sweep found; gaps that rest on few rows are left out.
        chosen : optional
            What ``frontier.select`` or ``frontier.knee`` gave.
        """
        frontier = frontier.published()
        rows = frontier.points.to_dict("records")
        points = tuple(_point(row, frontier.param) for row in rows)
        same = [
            i
            for i, row in enumerate(rows if chosen is not None else [])
            if row[frontier.param] == chosen.value and row["seed"] == chosen.seed
        ]
        base = frontier.baseline
        return cls(
            name=frontier.name,
            param=frontier.param,
            points=points,
            chosen=same[0] if same else None,
            performance_name=frontier.performance_name,
            gap_name=frontier.gap_name,
            bound=frontier.bound,
            baseline=None if base is None else (float(base.gap), float(base.performance)),
        )


def _point(row: dict[Any, Any], param: str) -> FrontierPoint:
    value = row[param].item() if isinstance(row[param], np.generic) else row[param]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return FrontierPoint(
        value=float(value) if is_number else one_line(value),
        seed=int(row["seed"]),
        performance=float(row["performance"]),
        gap=float(row["gap"]),
        performance_limits=(float(row["performance_lower"]), float(row["performance_upper"])),
        gap_limits=(float(row["gap_lower"]), float(row["gap_upper"])),
        dominated=bool(row["dominated"]),
        near_constant=bool(row["near_constant"]),
    )
