"""The paragraph that anybody can repeat: its numbers, its grammar, and what it leaves out."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from tests.report.data import summary

from fairtrain.metrics.verdicts import ConstraintResult, Verdict
from fairtrain.report import RunSummary
from fairtrain.report.story import _digits, _full, answer, plain_words


def with_result(found: RunSummary, which: int, **changes: Any) -> RunSummary:
    models = list(found.models)
    report = models[which].report
    result = replace(report.results[0], **changes)
    models[which] = replace(models[which], report=replace(report, results=(result,)))
    return replace(found, models=tuple(models))


@pytest.fixture(scope="module")
def found() -> RunSummary:
    run = summary(sizes=(1500, 1200, 400))
    pair = {"highest": "a", "lowest": "b"}
    run = with_result(run, 0, achieved=0.23, lower=0.2, upper=0.26, **pair)
    return with_result(
        run, 1, achieved=0.08, lower=0.02, upper=0.14, verdict=Verdict.TOO_FEW_ROWS, **pair
    )


def test_before_now_and_the_cost_in_a_hundred(found: RunSummary) -> None:
    first, asked, cost, who = plain_words(found)
    assert first == (
        "With the baseline, of 100 people, 23 more of 'a' than of 'b' were approved; with the fair "
        "model, 8 more, give or take 6."
    )
    assert asked == (
        "Asked for are at most 10 in 100 between any two groups: whether the fair model keeps "
        "that, so few rows cannot tell."
    )
    fair = found.models[1].cost
    assert fair is not None
    assert f"{abs(100 * fair.accuracy[0]):.0f} " in cost
    assert " right decisions in 100 beside the baseline, give or take " in cost
    change = next(c for c in fair.changes if c.group == "a")
    assert change.lost is not None
    assert f"of 1,500 people of 'a' 0 gain and {change.lost * 1500:,.0f} lose" in who


def test_other_groups_are_named_again(found: RunSummary) -> None:
    other = with_result(found, 1, highest="c", lowest="a")
    assert "with the fair model, of 100 people, 8 more of 'c' than of 'a'" in plain_words(other)[0]


def test_limits_that_lie_uneven_are_both_said(found: RunSummary) -> None:
    uneven = with_result(found, 1, lower=0.06, upper=0.2)
    assert "8 more (by these rows between 6 and 20)." in plain_words(uneven)[0]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"kind": "ratio", "achieved": 0.84},
            "for every 100 people of 'a' who were hired, 84 of as many of 'b' were",
        ),
        (
            {"rate": "true_positive_rate"},
            "of 100 people whose label is hired, 8 more of 'a' than of 'b' were hired",
        ),
        (
            {"rate": "error_rate"},
            "of 100 people, 8 more of 'a' than of 'b' were decided against their label",
        ),
        (
            {"kind": "upper", "reference": "absolute"},
            "8 in 100 people of 'a' were hired",
        ),
        (
            {"kind": "upper", "reference": "absolute", "rate": "log_loss"},
            "the log loss of 'a' is 0.080",
        ),
        ({"reference": "overall"}, "the selection rate of 'a' and that of 'b' are 0.080 apart"),
    ],
)
def test_every_kind_of_bound_has_words(
    found: RunSummary, changes: dict[str, Any], said: str
) -> None:
    result = replace(found.models[1].report.results[0], **changes)
    assert _full((result.achieved, 0.0, 1.0), result, "hired", 0) == said


@pytest.mark.parametrize("gap", [0.0996, 0.1, 0.1004, 0.099996, 0.23, 0.004, 0.1049])
def test_rounding_never_hides_the_side_of_the_bound(gap: float) -> None:
    digits = _digits((gap, gap, gap), 0.1)
    shown = round(100 * gap, digits)
    if digits < 3:
        assert (shown > 10) == (gap > 0.1)
        assert (shown < 10) == (gap < 0.1)


def test_what_rests_on_few_is_not_told() -> None:
    small = summary(sizes=(400, 300, 3))
    (first, *rest) = plain_words(small)
    assert first.startswith("What the fair model does to some group rests on so few people")
    assert not [line for line in rest if "'c'" in line]
    assert not re.search(r"\d", first)


@pytest.mark.parametrize(
    ("verdicts", "said"),
    [
        ("nnn", "None of 3 models keeps what was asked, with confidence"),
        ("mnn", "1 of 3 models keeps what was asked, with confidence"),
        ("mmf", "2 of 3 models keep what was asked, with confidence"),
    ],
)
def test_several_models_agree_with_their_verbs(verdicts: str, said: str) -> None:
    kinds = {"n": Verdict.NOT_MET, "m": Verdict.MET, "f": Verdict.TOO_FEW_ROWS}
    run = summary(n_models=4, sizes=(600, 500, 400))
    for i, kind in enumerate(verdicts, 1):
        run = with_result(run, i, verdict=kinds[kind])
    verdict, words = answer(run)
    assert words == said
    assert verdict == ("met" if "m" in verdicts else "not_met")
    lines = plain_words(run)
    assert lines[0].startswith("3 models were asked to keep the bound: ")
    assert "1 keep " not in lines[0]
    assert not re.search(r"[02-9] (keeps|does) ", lines[0])
    # The second sentence names one model, a kept one wherever there is one.
    titles = [m.title for m in run.models[1:] if m.report.verdict is Verdict.MET]
    assert any(f"'{t}'" in lines[1] for t in titles or [m.title for m in run.models[1:]])


@pytest.mark.parametrize(
    ("gaps", "said"),
    [
        ((0.3, 0.2, 0.25), "'{2}' comes nearest, with 0.200"),
        ((0.3, 0.06, 0.25), "only model '{2}' keeps it, with 0.060"),
        ((0.01, 0.2, 0.08), "the best of those that keep it is model '{3}', with 0.080"),
    ],
)
def test_of_models_that_cannot_be_judged_the_best_within_the_bound_is_named(
    gaps: tuple[float, ...], said: str
) -> None:
    """Not the one with the smallest gap: a constant has none."""
    run = summary(n_models=4, sizes=(600, 500, 400))
    for i, achieved in enumerate(gaps, 1):
        run = with_result(run, i, achieved=achieved, verdict=Verdict.TOO_FEW_ROWS, bound=0.1)
    models = list(run.models)
    for i, right in enumerate((0.6, 0.9, 0.7), 1):
        accuracy = (right, right - 0.02, right + 0.02)
        models[i] = replace(models[i], report=replace(models[i].report, accuracy=accuracy))
    run = replace(run, models=tuple(models))
    assert said.format(*(m.title for m in run.models)) in plain_words(run)[1]


def test_results_without_limits_have_no_margin(found: RunSummary) -> None:
    unknown = with_result(found, 1, lower=float("nan"), upper=float("nan"))
    assert plain_words(unknown)[0].endswith("with the fair model, 8 more.")
    assert isinstance(unknown.models[1].report.results[0], ConstraintResult)
