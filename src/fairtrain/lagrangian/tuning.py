"""The constants of the dual loop, each with its reason: networks and boosting side by side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["BOOSTING", "NETWORKS", "SPARE", "Tuning"]

SPARE = 0.1
"""Share of a parity's bound (of 1 minus a ratio's) that multipliers leave unused.

Multipliers come to rest where the bound holds with equality, so that without it half the iterates
of a converged run lie outside: 21 % of the last rounds of boosting keep a bound of .03 with nothing
spared, 37 % with .1, 22 % with .2 (three draws of 2,500 rows, three groups; the rows of all numbers
in this file).
"""


@dataclass(frozen=True)
class Tuning:
    """What the dual loop of one kind of model needs.

    Attributes
    ----------
    proportional : float
        Proportional part of a step of PI control, in units of its step size.
    memory : float
        Share of the smoothed violation that the next look keeps (nu of PI control).
    warm_up : float
        Part of training whose iterates are chosen only if there is no other.
    longest_warm_up : int
        Most iterates of it.
    rounded : callable
        How a broken number of them becomes a whole one.
    yield_every : int
        Iterates between two decisions whether a bound has to give way.
    spare_of_loss : float
        As :data:`SPARE`, for the upper bound on a loss.
    """

    proportional: float
    memory: float
    warm_up: float
    longest_warm_up: int
    rounded: Callable[[float], int]
    yield_every: int
    spare_of_loss: float

    def warm_up_of(self, iterates: int) -> int:
        """Iterates of the warm-up, of a run of so many."""
        return min(self.rounded(self.warm_up * iterates), self.longest_warm_up)


# proportional: trees come in steps of their learning rate and answer a price late, so that boosting
#   always runs with PI control: 29 % of the last rounds keep the bound at 0, 37 to 42 % at 2, 29 to
#   36 % at 5. A network answers within a few steps; there PI control is a choice (dual="nu_pi"),
#   and 67 % of the last epochs keep the bound at 5, 54 % at 2.
# memory: decisions of a round jump by whole leaves, which half a memory smooths; at 2 it made no
#   difference that three draws show (42, 37 and 41 % at 0, .5 and .9). Ten looks an epoch are
#   smooth by themselves (67 % at 0, 58 % at .5).
# warm_up: the first iterates are near constant and keep any parity. Without one boosting chose
#   them (accuracy .659 against .713); ten rounds are enough, a third of all is no better (.713).
#   Networks get a third, as their learning rate falls only then; a tenth does as well (.682, .679).
# rounded: of two epochs one must be left to choose; of fifteen rounds the first two are constant.
# yield_every: a round is one look, an epoch ten, and what gave way is never taken back. Where 35 %
#   of the labels are noise, asking every round loosened a bound of .05 to .167, every fifth to
#   .133, at the same accuracy (.549, .551).
# spare_of_loss: a loss falls slowly towards its bound, and trees come from above: 90 % of the last
#   rounds keep it with nothing spared, 97 % at .01, all at .1, where R^2 falls from
#   .773 to .768. All of a network's epochs keep it with nothing spared.
NETWORKS = Tuning(
    proportional=5.0,
    memory=0.0,
    warm_up=1 / 3,
    longest_warm_up=10**9,
    rounded=int,
    yield_every=1,
    spare_of_loss=0.0,
)
BOOSTING = Tuning(
    proportional=2.0,
    memory=0.5,
    warm_up=0.1,
    longest_warm_up=10,
    rounded=round,
    yield_every=5,
    spare_of_loss=0.01,
)
