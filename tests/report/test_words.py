"""Sentences: what is asked, what was found, what to beware of."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.report.data import summary

from fairtrain.constraints import (
    AtLeast,
    AtMost,
    BoundedGroupLoss,
    DemographicParity,
    EqualOpportunity,
    ErrorRateParity,
    PredictiveEquality,
)
from fairtrain.metrics import fairness_report
from fairtrain.metrics.verdicts import Verdict
from fairtrain.report import GroupStanding
from fairtrain.report.words import (
    constraint_meaning,
    group_warnings,
    in_one_sentence,
    short_names,
    shorten,
)


@pytest.mark.parametrize(
    ("constraint", "said"),
    [
        (DemographicParity(difference_bound=0.05), "The share of people who are hired may in no"),
        (DemographicParity(difference_bound=0.01), "by more than 1 percentage point from that"),
        (DemographicParity(ratio_bound=0.8), "be at least 80% of that in any other group"),
        (EqualOpportunity(difference_bound=0.1), "Among those whose label is hired, the share"),
        (PredictiveEquality(difference_bound=0.1), "whose label is not hired"),
        (ErrorRateParity(difference_bound=0.1), "decisions that disagree with the label"),
        (BoundedGroupLoss(upper_bound=0.4), "of no group may be larger than 0.4"),
        (AtLeast("recall", 0.7), "The true positive rate of no group may be smaller than 0.7"),
        (
            AtMost("selection_rate", 0.2, overall=True),
            "The selection rate of all people together may not be larger than 0.2",
        ),
    ],
)
def test_constraints_in_words(constraint: Any, said: str) -> None:
    y = [0, 1] * 50
    (result,) = fairness_report(y, y, ["a"] * 50 + ["b"] * 50, constraint).results
    assert said in constraint_meaning(result, "hired")


@pytest.mark.parametrize(
    ("verdict", "said"),
    [
        (Verdict.MET, "The fair model keeps the bound: on 2,745 rows"),
        (Verdict.NOT_MET, "The fair model does not keep the bound: on"),
        (Verdict.TOO_FEW_ROWS, "The fair model cannot be judged, for there are too few rows: on"),
        (Verdict.MET_ON_STEERING_ROWS, "only on rows that took part in choosing it"),
    ],
)
def test_the_verdict_comes_first(verdict: Verdict, said: str) -> None:
    found = summary()
    fair = found.models[1]
    result = replace(fair.report.results[0], verdict=verdict)
    fair = replace(fair, report=replace(fair.report, results=(result,)))
    sentence = in_one_sentence(replace(found, models=(found.models[0], fair)))
    assert said in sentence
    before = found.models[0].report.results[0].achieved
    assert f"{result.achieved:.3f} ({result.lower:.3f} to {result.upper:.3f})" in sentence
    assert f"against {before:.3f} for the baseline, where 0.1 is asked. Accuracy is" in sentence


def test_numbers_of_small_groups_are_not_in_the_sentence() -> None:
    sentence = in_one_sentence(summary(sizes=(400, 300, 3)))
    assert "rest on a small group and are not shown" in sentence
    assert "0." not in sentence.partition("Accuracy")[0]


def test_many_models_are_counted() -> None:
    found = summary(n_models=4, sizes=(4000, 4000, 4000))
    kept = [m.title for m in found.models[1:] if m.report.verdict is Verdict.MET]
    assert kept
    assert in_one_sentence(found).startswith(f"Of the 3 models beside the first, {len(kept)} keep")


def test_warnings_name_groups_and_what_they_need() -> None:
    found = summary(sizes=(1500, 1200, 3))
    said = " ".join(group_warnings(found))
    assert "Group 'c' has fewer than 10 rows to judge by" in said
    standing = GroupStanding(Verdict.TOO_FEW_ROWS, 45, 1234.0)
    models = tuple(replace(m, standings=({"c": standing},)) for m in found.models)
    said = " ".join(group_warnings(replace(found, models=models)))
    assert "'c' has 45 rows to judge by and would need about 1,300" in said
    constant = replace(models[1], report=replace(models[1].report, near_constant=True))
    lines = group_warnings(replace(found, models=(models[0], constant)))
    assert "everybody the same decision" in lines[0]


def test_many_small_groups_are_counted() -> None:
    names = [f"g{i:02}" for i in range(20)]
    lines = group_warnings(summary(names, [900, 800, *[12] * 18]))
    assert len(lines) == 9
    assert lines[-1].startswith("12 more groups")


def test_long_names_are_shortened_as_they_are_and_as_they_are_quoted() -> None:
    name = "it's \n" + "x" * 500
    short = short_names(summary((name, "b", "c")))
    assert short[name].endswith("(506 characters)")
    assert short[repr(name)[1:-1]] == repr(short[name])[1:-1]
    assert shorten("short") == "short"
