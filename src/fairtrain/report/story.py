"""A run as one paragraph that anybody can repeat: before, with the model, and what it costs."""

from __future__ import annotations

import math

from fairtrain.data.groups import EVERYBODY
from fairtrain.metrics.paired import Change, Cost
from fairtrain.metrics.verdicts import ConstraintResult, Verdict
from fairtrain.report.judged import Judged
from fairtrain.report.summary import RunSummary, joined, the_model

__all__ = ["answer", "baseline_of", "fair_models", "in_hundred", "plain_words"]

Limits = tuple[float, float, float]

_ANSWERS = {
    Verdict.MET: "keeps {what}",
    Verdict.NOT_CERTIFIED: "keeps {what}, but only on the rows that chose it",
    Verdict.NOT_MET: "does not keep {what}",
    Verdict.TOO_FEW_ROWS: "cannot be judged: too few rows",
}
_THEREFORE = {
    Verdict.MET: "{model} keeps that, even at the unfavourable end of what these rows leave open",
    Verdict.NOT_CERTIFIED: "{model} keeps that on the rows that chose it, which flatter it",
    Verdict.NOT_MET: "{model} does not keep that",
    Verdict.TOO_FEW_ROWS: "whether {model} keeps that, so few rows cannot tell",
}
_HAPPENED = {
    "selection_rate": ("people", "{outcome}"),
    "true_positive_rate": ("people whose label is {outcome}", "{outcome}"),
    "false_positive_rate": ("people whose label is not {outcome}", "{outcome}"),
    "error_rate": ("people", "decided against their label"),
    "zero_one_loss": ("people", "decided against their label"),
}
"""Of whom a rate speaks, and what they were."""


def fair_models(summary: RunSummary) -> tuple[Judged, ...]:
    """The models that were asked to keep the bound: those that are compared with a baseline."""
    asked = tuple(m for m in summary.models if m.cost is not None)
    return asked or summary.models[1:]


def baseline_of(summary: RunSummary, model: Judged) -> Judged:
    """What a model is compared with."""
    named = (m for m in summary.models if m.title == model.baseline and m is not model)
    return next(named, summary.models[0])


def answer(summary: RunSummary) -> tuple[str, str]:
    """The verdict of a page and its words: of its one model, or of several together."""
    fair = fair_models(summary)
    if len(fair) == 1:
        verdict = fair[0].report.verdict
        what = "every bound" if len(fair[0].report.results) > 1 else "the bound"
        return str(verdict), _upper(
            f"{the_model(fair[0].title)} {_ANSWERS[verdict].format(what=what)}"
        )
    kept = sum(m.report.verdict is Verdict.MET for m in fair)
    keep = "keep" if kept > 1 else "keeps"
    said = f"{kept or 'none'} of {len(fair)} models {keep} what was asked, with confidence"
    verdicts = {m.report.verdict for m in fair}
    one = next(iter(verdicts)) if len(verdicts) == 1 else Verdict.NOT_MET
    return str(Verdict.MET if kept else one), _upper(said)


def plain_words(summary: RunSummary) -> list[str]:
    """Sentences for somebody who knows no statistics, each of them naming its model.

    Numbers are counts in a hundred, and every one of them stands in the tables of the page too.
    """
    fair = fair_models(summary)
    if len(fair) > 1:
        return _of_several(fair)
    (model,) = fair
    result = next(r for r in model.report.results if r.verdict is model.report.verdict)
    lines = _before_and_now(summary, model, result)
    if model.cost is not None:
        lines.append(_cost_words(model.cost, model, summary))
        lines += _who_pays(model.cost, the_model(model.title))
    return lines


def in_hundred(share: float, digits: int = 0) -> str:
    """A share as so many in a hundred; one digit more where there would be none left.

    Examples
    --------
    >>> in_hundred(0.231), in_hundred(0.004), in_hundred(0.0)
    ('23', '0.4', '0')
    """
    many = abs(100 * share)
    if digits == 0 and round(many, 1) and many < 1:
        digits = 1
    return f"{many:.{digits}f}"


def _of_several(fair: tuple[Judged, ...]) -> list[str]:
    kinds = (
        (Verdict.MET, "keep{s} it with confidence"),
        (Verdict.NOT_CERTIFIED, "keep{s} it only on the rows that chose it"),
        (Verdict.TOO_FEW_ROWS, "cannot be judged on so few rows"),
        (Verdict.NOT_MET, "do{es} not keep it"),
    )
    counts = [(sum(m.report.verdict is v for m in fair), words) for v, words in kinds]
    parts = [
        f"{n} {words.format(s='s' if n == 1 else '', es='es' if n == 1 else '')}"
        for n, words in counts
        if n
    ]
    lines = [f"{len(fair)} models were asked to keep the bound: {joined(parts)}."]
    kept = [m for m in fair if m.report.verdict is Verdict.MET]
    if kept:
        best = max(kept, key=lambda m: m.report.worth)
        among = "That is" if len(kept) == 1 else "The best of these is"
        lines.append(f"{among} {the_model(best.title)}, {_right(best)}.")
        return lines
    return lines + _as_counted(fair)


def _as_counted(fair: tuple[Judged, ...]) -> list[str]:
    """Name the best model within its bound, or else the one nearest to it."""
    told = [(m, r, g[0]) for m in fair for r in m.report.results[:1] if (g := m.gap(r))]
    within = [one for one in told if one[1].excess <= 0]
    if not told:
        return []
    if len(within) > 1:
        named = max(within, key=lambda one: _known(one[0].report.worth))
        how = "the best of those that keep it is {}"
    else:
        named = min(told, key=lambda one: one[1].excess)
        how = "only {} keeps it" if within else "{} comes nearest"
    model, result, gap = named
    return [
        f"As counted, {how.format(the_model(model.title))}, with {gap:.3f} where "
        f"{result.bound:g} is asked, {_right(model)}."
    ]


def _known(worth: float) -> float:
    return -math.inf if math.isnan(worth) else worth


def _right(model: Judged) -> str:
    return f"right in {in_hundred(model.report.accuracy[0])} decisions of 100"


def _before_and_now(summary: RunSummary, model: Judged, result: ConstraintResult) -> list[str]:
    now, baseline = model.gap(result), baseline_of(summary, model)
    name = the_model(model.title)
    if now is None:
        return [
            f"What {name} does to some group rests on so few people that it is not shown: it "
            "would tell of single people."
        ]
    same = [r for r in baseline.report.results if r.constraint == result.constraint]
    was = baseline.gap(same[0]) if same else None
    digits = _digits(now, result.bound)
    full = _full(now, result, summary.outcome, digits)
    if was is None:
        lines = [f"{_upper(f'with {name}')}, {full}{_margin(now, digits)}."]
    else:
        fresh = summary.on_fresh_rows
        before = "When it was certified" if fresh else f"With {the_model(baseline.title)}"
        before += ", " + _full(was, same[0], summary.outcome, digits)
        alike = (same[0].highest, same[0].lowest, same[0].rate)
        alike_now = (result.highest, result.lowest, result.rate)
        then = _short(now, result, digits) if alike == alike_now else full
        lines = [f"{before}; with {name}{' now' if fresh else ''}, {then}{_margin(now, digits)}."]
    therefore = _THEREFORE[result.verdict].format(model=name)
    return [*lines, f"{_asked(result)}: {therefore}."]


def _full(found: Limits, result: ConstraintResult, outcome: str, digits: int) -> str:
    """What was found between two groups, or of one."""
    value, high, low = found[0], result.highest, result.lowest
    who, what = (w.format(outcome=outcome) for w in _HAPPENED.get(result.rate, ("", "")))
    rate = result.rate.replace("_", " ")
    if result.absolute:
        whom = "all people together" if result.extreme == EVERYBODY else f"'{result.extreme}'"
        if not who:
            return f"the {rate} of {whom} is {value:.3f}"
        return f"{in_hundred(value, digits)} in 100 {who} of {whom} were {what}"
    if not who or result.reference == "overall":
        return f"the {rate} of '{high}' and that of '{low}' are {value:.3f} apart"
    if result.kind == "ratio":
        return (
            f"for every 100 {who} of '{high}' who were {what}, {in_hundred(value, digits)} of as "
            f"many of '{low}' were"
        )
    return f"of 100 {who}, {in_hundred(value, digits)} more of '{high}' than of '{low}' were {what}"


def _short(found: Limits, result: ConstraintResult, digits: int) -> str:
    """The same again, of the same groups."""
    if result.rate not in _HAPPENED or result.reference == "overall":
        return f"{found[0]:.3f}"
    many = in_hundred(found[0], digits)
    return f"{many} more" if result.kind == "difference" else many


def _margin(found: Limits, digits: int) -> str:
    """How far chance may have moved a number."""
    value, low, high = found
    if not (math.isfinite(low) and math.isfinite(high)):
        return ""
    down, up = value - low, high - value
    if abs(up - down) <= 0.25 * max(up, down):
        return f", give or take {in_hundred(max(up, down), digits)}"
    return f" (by these rows between {in_hundred(low, digits)} and {in_hundred(high, digits)})"


def _digits(found: Limits, bound: float, most: int = 3) -> int:
    """So many that no rounding hides on which side of the bound a number lies."""
    known = [100 * v for v in found if math.isfinite(v)]
    limit = 100 * bound

    def told(value: float, digits: int) -> bool:
        shown = round(value, digits)
        return math.isclose(value, limit) or (shown != limit and (shown > limit) == (value > limit))

    return next((d for d in range(most) if all(told(v, d) for v in known)), most)


def _asked(result: ConstraintResult) -> str:
    bound = f"{100 * result.bound:g}"
    if result.rate not in _HAPPENED or result.reference == "overall":
        least = "at least" if result.larger_is_fairer else "at most"
        return f"Asked for is {least} {result.bound:g}"
    if result.kind == "difference":
        return f"Asked for are at most {bound} in 100 between any two groups"
    if result.kind == "ratio":
        return f"Asked for are at least {bound} for every 100, between any two groups"
    least = "at least" if result.larger_is_fairer else "at most"
    return f"Asked for are {least} {bound} in 100"


def _cost_words(cost: Cost, model: Judged, summary: RunSummary) -> str:
    """Say in right decisions of a hundred what a model costs."""
    value, low, high = cost.accuracy
    name, other = the_model(model.title), the_model(baseline_of(summary, model).title)
    margin = max(high - value, value - low)
    if round(100 * value, 1) == 0:
        said = f"{name} makes as many right decisions as {other}, give or take "
        return _upper(f"{said}{in_hundred(margin)} in 100.")
    decisions = "decision" if in_hundred(value) == "1" else "decisions"
    many = f"{in_hundred(value)} {'more ' if value < 0 else ''}right {decisions} in 100"
    verb = "costs" if value > 0 else "makes"
    chance = "; that may be chance" if low <= 0 <= high else ""
    return _upper(
        f"{name} {verb} {many} beside {other}, give or take {in_hundred(margin)}{chance}."
    )


def _who_pays(cost: Cost, model: str, most: int = 3) -> list[str]:
    """Say of the groups with the clearest changes how many gain and how many lose."""
    told = [c for c in cost.clearest() if c.rows]
    if not told:
        return []
    if not any(c.gained or c.lost for c in told):
        return [f"Under {model} nobody's decision changes in the groups that are shown."]
    return [f"Under {model}, {'; '.join(_counts(c) for c in told[:most])}."]


def _counts(change: Change) -> str:
    rows = change.rows or 0
    ups, downs = (round((share or 0.0) * rows) for share in (change.gained, change.lost))
    return (
        f"of {rows:,} people of '{change.group}' {ups:,} gain{'s' * (ups == 1)} and "
        f"{downs:,} lose{'s' * (downs == 1)} a favourable decision"
    )


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]
