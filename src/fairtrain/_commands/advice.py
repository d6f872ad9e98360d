"""Which of several runs to take, by a rule that is stated: feasible, then useful, then accurate."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from fairtrain._text import one_line
from fairtrain.constraints.objectives import as_said
from fairtrain.metrics.verdicts import bound_words
from fairtrain.report.summary import joined

__all__ = ["advised"]

_FRESH = "fairtrain report {run} --data FRESH.csv"
_95 = 1.96

Model = Mapping[str, Any]


def advised(models: Sequence[Model]) -> list[str]:
    """Say which run to take, and why.

    Runs that are ``met`` come first, then those that keep their bound as counted; among these the
    useful ones; among these the one that is best at what was sought. Differences that the rows
    cannot tell are named as such.

    Parameters
    ----------
    models : sequence of mapping
        Judged on the same data by the same constraint: ``run``, ``model``, ``verdict``, ``gap``,
        ``bound``, ``useful``, ``accuracy`` with its limits, ``objective``, ``performance`` and
        ``smallest_bound``; ``folder``, where the run lies, if not where its name says.

    Returns
    -------
    list of str
    """
    best = min(models, key=_order)
    rivals = [m for m in models if m is not best and _order(m)[:2] == _order(best)[:2]]
    said = [_choice(best, models)]
    close = [m for m in rivals if _within_noise(m, best)]
    if close:
        names = joined(f"{_name(m)} ({m['performance']:.3f})" for m in close)
        said.append(
            f"Within noise of it: {names}. These intervals cannot tell which is more accurate, so "
            f"that reasons of your own may choose; the smallest gap among them has "
            f"{_name(min([best, *close], key=_gap))}."
        )
    if best["verdict"] == "met" and len(models) > 1:
        said.append(
            "Each verdict holds by itself; the best of several, chosen by the rows that judged "
            f"them, is flattered: {_fresh(best)} judges it anew."
        )
    elif best["verdict"] != "met":
        said.append(_next_step(best))
    return said


def _fresh(model: Model) -> str:
    return _FRESH.format(run=shlex.quote(one_line(model.get("folder", model["run"]))))


def _order(model: Model) -> tuple[int, bool, float]:
    return _feasible(model), not model["useful"], -_performance(model)


def _performance(model: Model) -> float:
    known = model["performance"]
    return -math.inf if known is None else float(known)


def _feasible(model: Model) -> int:
    """0 for met, 1 where the bound is kept as counted, 2 where rows do not tell, 3 broken."""
    if model["verdict"] == "met":
        return 0
    gap = model["gap"]
    kept = gap is not None and (
        gap[0] >= model["bound"] if model.get("larger_is_fairer") else gap[0] <= model["bound"]
    )
    if model["verdict"] == "not_met":
        return 3
    return 1 if kept else 2


def _choice(best: Model, models: Sequence[Model]) -> str:
    rule = "The rule: what is met first, then what is useful, then the best "
    rule += f"{str(best['objective']).replace('_', ' ')}."
    if not best["useful"]:
        return (
            f"Take none of them yet: {_name(best)} comes first, but is of no use (see the warning "
            f"above). {rule}"
        )
    verdict = str(best["verdict"]).replace("_", " ")
    alone = sum(m["verdict"] == "met" for m in models) == 1
    if best["verdict"] == "met":
        why = "it alone is met" if alone else "it is met and useful, and best among those that are"
        return f"Take {_name(best)}: {why} ({_worth(best)}). {rule}"
    return (
        f"No run is shown to keep its bound. {_name(best, first=True)} comes nearest: {verdict}, "
        f"{_worth(best)}. {rule}"
    )


def _next_step(best: Model) -> str:
    """What to do where nothing is certified."""
    if best["verdict"] == "too_few_rows":
        bound = best["smallest_bound"]
        reach = "" if bound is None else f"These rows can show {bound_words(bound)} at best. "
        return (
            f"{reach}Judge it on fresh rows ({_fresh(best)}), set more "
            "aside with --certification, merge small groups, or ask for less."
        )
    return (
        "Train with a stricter --bound (or --ratio, --at-least, --at-most) than the one to be "
        "shown, or with --method auto."
    )


def _worth(model: Model) -> str:
    name = str(model["objective"]).replace("_", " ")
    worth = (
        "unknown"
        if model["performance"] is None
        else f"{as_said(model['objective'], model['performance']):.3f}"
    )
    gap = "hidden" if model["gap"] is None else f"{model['gap'][0]:.3f}"
    return f"{name} {worth}, gap {gap}, bound {model['bound']:g}"


def _name(model: Model, *, first: bool = False) -> str:
    run = f"{'Run' if first else 'run'} '{one_line(model['run'])}'"
    return run if model["model"] == "fair model" else f"{run}, {one_line(model['model'])}"


def _gap(model: Model) -> float:
    if model["gap"] is None:
        return math.inf
    value = float(model["gap"][0])
    return -value if model.get("larger_is_fairer") else value


def _within_noise(one: Model, other: Model) -> bool:
    """Whether the limits of both accuracies allow for the difference, as of independent rows.

    Of runs judged on the same rows, which are mostly right about the same people, that claims too
    little rather than too much.
    """
    if one["objective"] != "accuracy" or None in (one["performance"], other["performance"]):
        return False
    errors = [(m["accuracy"][2] - m["accuracy"][1]) / (2 * _95) for m in (one, other)]
    return bool(abs(one["performance"] - other["performance"]) <= _95 * math.hypot(*errors))
