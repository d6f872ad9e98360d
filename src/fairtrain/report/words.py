"""A summary in plain words: the constraint, the result in one sentence, warnings, short names."""

from __future__ import annotations

from typing import Any

from fairtrain.constraints import NoLevellingDown
from fairtrain.data.groups import EVERYBODY
from fairtrain.metrics.disclosure import MIN_CELL
from fairtrain.metrics.standing import GroupStanding
from fairtrain.metrics.verdicts import ConstraintResult, Verdict
from fairtrain.report.judged import Judged
from fairtrain.report.story import fair_models
from fairtrain.report.summary import RunSummary, joined, the_model

__all__ = ["constraint_meaning", "group_warnings", "in_one_sentence", "short_names", "shorten"]

_COMPARED = {
    "demographic_parity": "the share of people who are {outcome}",
    "equal_opportunity": "among those whose label is {outcome}, the share who are {outcome}",
    "predictive_equality": "among those whose label is not {outcome}, the share who are {outcome}",
    "equalized_odds": (
        "the share who are {outcome}, both among those whose label is {outcome} and among those "
        "whose label is not,"
    ),
    "predictive_parity": "among those who are {outcome}, the share whose label is {outcome}",
    "error_rate_parity": "the share of decisions that disagree with the label",
}

_SAID = {
    Verdict.MET: "keeps the bound",
    Verdict.NOT_CERTIFIED: (
        "keeps the bound on the rows that chose the model, which says little about others"
    ),
    Verdict.NOT_MET: "does not keep the bound",
    Verdict.TOO_FEW_ROWS: "cannot be judged, for there are too few rows",
}

_LEVELLING = NoLevellingDown.notion
_YES = ("selection_rate", "true_positive_rate", "false_positive_rate")
_LONGEST = 100
_MOST_NAMED = 3


def shorten(text: str, longest: int = _LONGEST) -> str:
    """Cut the middle out of a long text and say how long it was.

    Examples
    --------
    >>> shorten("x" * 500, 12)
    'xxxxxx…xxx (500 characters)'
    """
    if len(text) <= longest:
        return text
    return f"{text[: longest // 2]}…{text[-longest // 4 :]} ({len(text):,} characters)"


def short_names(summary: RunSummary) -> dict[str, str]:
    """Long group names, as they are and quoted inside sentences -> short ones."""
    names: set[str] = set(summary.group_counts)
    for model in summary.models:
        names |= set(model.names)
        for result in model.report.results:
            names |= {result.highest, result.lowest, *result.counts}
    long = sorted((n for n in names if len(n) > _LONGEST), key=len, reverse=True)
    table = {name: shorten(name) for name in long}
    return table | {repr(n)[1:-1]: repr(s)[1:-1] for n, s in table.items()}


def constraint_meaning(result: ConstraintResult, outcome: str) -> str:
    """Say what one constraint asks, for somebody who does not know its name."""
    bound = result.bound
    if result.absolute:
        what = result.rate.replace("_", " ")
        way = "smaller" if result.larger_is_fairer else "larger"
        if result.extreme == EVERYBODY:
            return f"The {what} of all people together may not be {way} than {bound:g}."
        if "its own number" in result.constraint or result.constraint.startswith(_LEVELLING):
            known = f", {bound:g} for '{result.extreme}'" if result.extreme else ""
            return f"The {what} of each group may not be {way} than a number of its own{known}."
        if named := result.constraint.partition(f" {bound:g} of ")[2].partition(" over ")[0]:
            return f"The {what} may not be {way} than {bound:g} in any of these groups: {named}."
        return f"The {what} of no group may be {way} than {bound:g}."
    notion, _, strata = result.constraint.partition(" given ")
    what = _COMPARED.get(notion, f"the {result.rate.replace('_', ' ')}")
    what = what.format(outcome=outcome)
    if strata:
        columns, _, pooled = strata.partition(", ")
        within = f"averaged over {columns}" if pooled else f"within each {columns}"
        what = f"{within}, {what}"
    against = "all people together" if result.reference == "overall" else "any other group"
    if result.kind == "ratio":
        return f"{_upper(what)} must in every group be at least {bound:.0%} of that in {against}."
    points = f"{100 * bound:g} percentage point{'' if bound == 0.01 else 's'}"
    return f"{_upper(what)} may in no group differ by more than {points} from that in {against}."


def in_one_sentence(summary: RunSummary) -> str:
    """Say the verdict first: whether the bound is kept, on which rows, and what that costs."""
    baseline, *fair = summary.models
    rows = summary.judging_rows
    if len(fair) > 1:
        met = [m.title for m in fair_models(summary) if m.report.verdict is Verdict.MET]
        some = f": {joined(met)}" if met else ""
        keep = "keep" if len(met) > 1 else "keeps"
        asked = fair_models(summary)
        which = "beside the first" if len(asked) == len(fair) else "trained under the bound"
        return (
            f"Of the {len(asked)} models {which}, {len(met) or 'none'} "
            f"{keep} what was asked with confidence on {rows}{some}."
        )
    model = fair[0]
    result = _decisive(model)
    said = f"{_upper(the_model(model.title))} {_SAID[model.report.verdict]}"
    if len(model.report.results) > 1:
        said = said.replace("does not keep the bound", "does not keep every bound")
        said = said.replace("keeps the bound", "keeps every bound")
    achieved = model.gap(result)
    if achieved is None:
        return f"{said} (judged on {rows}; the numbers rest on a small group and are not shown)."
    kind = {
        "difference": "largest difference",
        "ratio": "smallest ratio",
        "lower": "smallest value",
    }
    what = f"{kind.get(result.kind, 'largest value')} {_between(result, summary.outcome)}"
    said += f": on {rows}, the {what} is {achieved[0]:.3f} ({achieved[1]:.3f} to {achieved[2]:.3f})"
    same = [r for r in baseline.report.results if r.constraint == result.constraint]
    before = baseline.gap(same[0]) if same else None
    if before is not None:
        when = "when it was certified" if summary.on_fresh_rows else "for the baseline"
        said += f", against {before[0]:.3f} {when}"
    said += f", where {result.bound:g} is asked."
    return f"{said} {model.cost_words}".rstrip()


def group_warnings(summary: RunSummary, most: int = 8) -> list[str]:
    """Warn in plain words of groups that little can be said of, and of constant decisions."""
    lines = [
        f"{_upper(the_model(model.title))} gives (almost) everybody the same decision: that keeps "
        "any bound and helps nobody."
        for model in summary.models
        if model.report.near_constant
    ]
    lines += [
        f"The verdict on '{model.title}' rests on rows that took part in choosing or training it."
        for model in summary.models
        if model.report.rows != "certification"
    ]
    lines += [line for model in summary.models if (line := _levelled_down(summary, model))]
    few = {n: found for n in summary.models[0].names if (found := _too_few(summary, n))}
    alike: dict[Any, tuple[tuple[str, str, str], list[tuple[str, str]]]] = {}
    for name in list(few)[:most]:
        which, rows = _in_want(few[name], len(summary.models))
        # Where not all are named, each stands by itself.
        key = which if len(few) <= most else name
        alike.setdefault(key, (which, []))[1].append((name, rows))
    lines += [_want(groups, *which) for which, groups in alike.values()]
    if len(few) > most:
        lines.append(f"{len(few) - most} more groups are too small; see the table of groups.")
    return lines


def _levelled_down(summary: RunSummary, model: Judged) -> str:
    """Warn where the widest gap closed mainly because the group above lost favourable decisions.

    Mainly: what the upper group loses, at its near limit, is more than the lower gains at its far
    one.
    """
    before = next((m for m in summary.models if m.title == model.baseline), None)
    if model.cost is None or before is None or before.report.n_rows != model.report.n_rows:
        return ""
    net = {c.group: c.net for c in model.cost.changes}
    for was, now in zip(before.report.results, model.report.results, strict=True):
        old, new = before.gap(was), model.gap(now)
        upper, lower = net.get(was.highest), net.get(was.lowest)
        if was.absolute or was.rate not in _YES or not (old and new and upper and lower):
            continue
        closed = new[0] > old[0] if now.larger_is_fairer else new[0] < old[0]
        if closed and -upper[2] > max(lower[2], 0.0):
            given = f"gains {100 * lower[0]:.1f}" if lower[0] > 0 else "gains none"
            return (
                f"Levelling down: under {the_model(model.title)} the gap between '{was.highest}' "
                f"and '{was.lowest}' closes mainly by taking favourable decisions away: "
                f"'{was.highest}' loses {-100 * upper[0]:.1f} in 100, '{was.lowest}' {given}."
            )
    return ""


def _too_few(summary: RunSummary, name: str) -> dict[str, GroupStanding]:
    """Models that a group has too few rows to judge, with what it has and needs."""
    return {
        model.title: standing
        for model in summary.models
        for judged in model.standings
        if (standing := judged.get(name)) is not None and standing.verdict is Verdict.TOO_FEW_ROWS
    }


def _in_want(few: dict[str, GroupStanding], n_models: int) -> tuple[tuple[str, str, str], str]:
    """What is said alike of several groups (models, verb, rows needed), and a group's own rows."""
    models = joined(the_model(title) for title in few)
    if len(few) > _MOST_NAMED:
        models = f"{len(few)} of the {n_models} models (see the table of groups)"
    verb = "does" if len(few) == 1 else "do"
    if min(standing.rows for standing in few.values()) < MIN_CELL:
        return (models, verb, ""), ""
    worst = max(few.values(), key=lambda standing: standing.needed or float("inf"))
    has = f"{worst.rows:,} rows to judge by" if worst.told else ""
    return (models, verb, worst.words().partition("needs ")[2]), has


def _want(groups: list[tuple[str, str]], models: str, verb: str, needs: str) -> str:
    """Say in one sentence of which groups too little is known."""
    several = len(groups) > 1
    it, its = ("them", "their") if several else ("it", "its")
    if not needs:
        named = joined(f"'{name}'" for name, _ in groups)
        return (
            f"{'Groups' if several else 'Group'} {named} {'have' if several else 'has'} fewer than "
            f"{MIN_CELL} rows to judge by: nothing can be said of what {models} {verb} to {it}, "
            f"and {its} rates are not shown because they would tell of single people."
        )
    known = f"whether the bound holds for {it} under {models} is not known."
    if several:
        named = joined(f"'{name}' ({has})" if has else f"'{name}'" for name, has in groups)
        return f"Groups {named} would each need {needs}: {known}"
    ((name, has),) = groups
    return f"Group '{name}' {f'has {has} and ' if has else ''}would need {needs}: {known}"


def _decisive(model: Judged) -> ConstraintResult:
    """The first constraint with the verdict that stands for all."""
    return next(r for r in model.report.results if r.verdict is model.report.verdict)


def _between(result: ConstraintResult, outcome: str) -> str:
    rate = result.rate.replace("_", " ").replace("selection rate", f"share {outcome}")
    return f"of the {rate}" if result.absolute else f"in {rate} between two groups"


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]
