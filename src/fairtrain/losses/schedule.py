"""Schedules for the weight of a penalty: a function of the training step.

Any function ``step -> eta`` will do in their place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from fairtrain._parameters import Real, Table, Where, Whole, check_parameters

__all__ = ["CosineRamp", "EtaSchedule", "LinearWarmup", "SigmoidRamp", "StepRamp"]

EtaSchedule = Callable[[int], float]


@dataclass(frozen=True)
class _Ramp:
    _allowed: ClassVar[Table] = {
        "eta": Real(0),
        "steps": Whole(1),
        "start": Whole(0),
        "initial": Real(0),
    }

    eta: float
    steps: int
    start: int = 0
    initial: float = 0.0

    def __post_init__(self) -> None:
        check_parameters(self)

    def __call__(self, step: int) -> float:
        """Eta at a training step."""
        progress = min(max((step - self.start) / self.steps, 0.0), 1.0)
        return self.initial + (self.eta - self.initial) * self._share(progress)

    def _share(self, progress: float) -> float:
        return progress


class LinearWarmup(_Ramp):
    """Straight line from ``initial`` to ``eta``.

    Parameters
    ----------
    eta : float >= 0
        Last value, kept afterwards.
    steps : int >= 1
        Length of the ramp in training steps.
    start : int, default=0
        Step at which it begins.
    initial : float >= 0, default=0.0
        First value.

    Examples
    --------
    >>> schedule = LinearWarmup(2.0, steps=100)
    >>> [schedule(step) for step in (0, 50, 100, 500)]
    [0.0, 1.0, 2.0, 2.0]
    """


class CosineRamp(_Ramp):
    """Half a cosine from ``initial`` to ``eta``: gentle at both ends.

    Parameters
    ----------
    eta, steps, start, initial
        See :class:`LinearWarmup`.

    Examples
    --------
    >>> schedule = CosineRamp(1.0, steps=100)
    >>> [round(schedule(step), 3) for step in (0, 25, 50, 100)]
    [0.0, 0.146, 0.5, 1.0]
    """

    def _share(self, progress: float) -> float:
        return (1 - math.cos(math.pi * progress)) / 2


class SigmoidRamp(_Ramp):
    r"""The ramp of Ganin & Lempitsky (2015): fast at first, flat at the end.

    .. math:: \eta(p) = \eta_0 + (\eta_1 - \eta_0) \left(\frac{2}{1 + e^{-10 p}} - 1\right)

    with p the part of the ramp that is over.

    Parameters
    ----------
    eta, steps, start, initial
        See :class:`LinearWarmup`.

    Examples
    --------
    >>> schedule = SigmoidRamp(1.0, steps=100)
    >>> [round(schedule(step), 3) for step in (0, 10, 50, 100)]
    [0.0, 0.462, 0.987, 1.0]
    """

    def _share(self, progress: float) -> float:
        return 2 / (1 + math.exp(-10 * progress)) - 1


def _are_etas(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(Whole(0).accepts(step) and Real(0).accepts(eta) for step, eta in value.items())
    )


@dataclass(frozen=True)
class StepRamp:
    """Constant pieces.

    Parameters
    ----------
    etas : mapping of int to float
        Step -> eta from that step on; 0 before the first.

    Examples
    --------
    >>> schedule = StepRamp({0: 0.0, 100: 0.5, 200: 2.0})
    >>> [schedule(step) for step in (0, 99, 100, 250)]
    [0.0, 0.0, 0.5, 2.0]
    """

    _allowed: ClassVar[Table] = {
        "etas": Where("map steps >= 0 to finite numbers >= 0", _are_etas),
    }

    etas: Mapping[int, float]

    def __post_init__(self) -> None:
        check_parameters(self)

    def __call__(self, step: int) -> float:
        """Eta at a training step."""
        reached = [start for start in self.etas if start <= step]
        return float(self.etas[max(reached)]) if reached else 0.0
