"""Costs of errors whose best decisions suit an objective that names none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fairtrain.constraints import ErrorCosts, Objective

__all__ = ["ALLOWED", "costs_to_try"]

ALLOWED = 5e-4
"""Excess over a bound that no rows could show: among rules within it the objective decides."""

_GRID = 0.1  # of thresholds, which is then halved around the best
_HALVINGS = 3
_ROUNDS = 8  # of a ratio's own iteration: it gains quadratically
_SAME = 1e-4

Tried = Mapping[ErrorCosts, tuple[float, float]]
"""Costs -> (how far bounds are kept, value of the objective): larger is better."""


def costs_to_try(objective: Objective, share: float, tried: Tried) -> Iterator[ErrorCosts]:
    """Give costs one by one, the next ones by what came of those before.

    A ratio of linear functions says itself what to try next (Dinkelbach, 1967). For any other
    measure of decisions thresholds are searched: under linear constraints the best decisions are
    priced scores against a threshold for every measure that grows with the true and falls with the
    false positives (Narasimhan, 2018).

    Parameters
    ----------
    objective : Objective
        Of decisions.
    share : float
        Share of favourable labels.
    tried : mapping
        Filled by the caller.
    """
    if objective.costs_at is not None:
        value, before = 0.5, float("inf")
        while abs(value - before) > _SAME and len(tried) < _ROUNDS:
            costs = objective.costs(share, value)
            if costs in tried:
                return
            yield costs
            before, value = value, tried[costs][1]
        return
    step = _GRID
    yield from (ErrorCosts(t, 1 - t) for t in _between(step, 1 - step, step))
    for _ in range(_HALVINGS):
        step /= 2
        best = max(tried, key=lambda costs: tried[costs]).threshold
        yield from (ErrorCosts(t, 1 - t) for t in (best - step, best + step) if 0 < t < 1)


def _between(low: float, high: float, step: float) -> list[float]:
    return [low + i * step for i in range(round((high - low) / step) + 1)]
