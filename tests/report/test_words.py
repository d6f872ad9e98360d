"""Sentences: what is asked, what was found, what to beware of."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.report.data import summary

from fairtrain.constraints import (
    AtLeast,
    AtMost,
    BoundedGroupLoss,
    DemographicParity,
    EqualOpportunity,
    ErrorRateParity,
    NoLevellingDown,
    PredictiveEquality,
    PredictiveParity,
)
from fairtrain.data.groups import Groups
from fairtrain.metrics import fairness_report
from fairtrain.metrics.verdicts import Verdict
from fairtrain.report import GroupStanding, RunSummary, judged, render_card, render_report
from fairtrain.report.judged import best_constant
from fairtrain.report.story import answer, plain_words
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
        (PredictiveParity(difference_bound=0.1), "those who are hired, the share whose label is"),
        (ErrorRateParity(difference_bound=0.1), "decisions that disagree with the label"),
        (BoundedGroupLoss(upper_bound=0.4), "of no group may be larger than 0.4"),
        (AtLeast("recall", 0.7), "The true positive rate of no group may be smaller than 0.7"),
        (AtLeast("recall", {"a": 0.5, "b": 0.7}), "than a number of its own, 0.7 for 'b'"),
        (NoLevellingDown(value={"a": 0.2, "b": 0.1}), "than a number of its own, 0.2 for 'a'"),
        (AtLeast("recall", 0.7, groups=["a", "b"]), "than 0.7 in any of these groups: a, b."),
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
        (Verdict.NOT_CERTIFIED, "on the rows that chose the model, which says little about others"),
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


def useless(**decisions: Any) -> RunSummary:
    """Two groups of 3,000; the baseline errs in 10 % of them, the fair model as given."""
    rng = np.random.default_rng(0)
    y, noise = (np.arange(6000) % 10 > 2).astype(int), rng.random(6000)
    groups = Groups.from_sensitive({"group": np.repeat(["a", "b"], 3000)})
    asked = (DemographicParity(difference_bound=0.1),)
    base = np.where(noise < decisions.get("base", 0.1), 1 - y, y)
    fair = np.where(noise < decisions.get("fair", 0.4), 1 - y, y)
    wide = np.where(np.repeat([True, False], 3000), 1, fair) if "wide" in decisions else fair
    models = (
        judged("baseline", asked, y, base, groups, outcome="approved"),
        judged("fair model", asked, y, wide, groups, outcome="approved", against=base),
    )
    constant = judged("constant", asked, y, best_constant(y), groups, outcome="approved")
    counts = {"certification": 6000, "training": 10, "steering": 10}
    return RunSummary("t", "d", "approved", "c", models, counts, {}, constant=constant)


def test_a_model_no_better_than_a_constant_says_so_first() -> None:
    found = useless(fair=0.4)
    (said,) = found.warnings()
    assert said.startswith("Warning: the fair model (0.6")
    assert said.endswith("is no more accurate than the same decision for everybody (0.700).")
    both = useless(base=0.4, fair=0.4).warnings()[0]
    assert both.startswith("Warning: the baseline (")
    assert ") and the fair model (" in both
    assert not useless(fair=0.1).warnings()


def test_a_model_that_its_baseline_beats_in_both_says_so_first() -> None:
    (said,) = useless(fair=0.25, wide=True).warnings()
    assert said.startswith("Warning: the fair model is beaten by the baseline in both: it is less")
    assert not useless(fair=0.2).warnings()  # less accurate, and no wider


@pytest.mark.parametrize("summarised", [useless(fair=0.4), useless(fair=0.25, wide=True)])
def test_a_page_with_both_kinds_of_verdict_does_not_contradict_itself(
    summarised: RunSummary,
) -> None:
    verdict = summarised.models[1].report.verdict
    page, card = render_report(summarised), render_card(summarised)
    phrase = {Verdict.MET: "The fair model keeps the bound: on", Verdict.NOT_MET: "does not keep"}
    for text in (page, card):
        assert phrase[verdict] in text
        (idle,) = summarised.warnings()
        assert idle in text.replace("\\", "")
        assert text.index("Warning: the fair model") < text.index(phrase[verdict])
    # The phrase of the other verdict stands in no sentence about the same model.
    lines = [in_one_sentence(summarised), *summarised.explanation(), *summarised.warnings()]
    for line in [*lines, answer(summarised)[1], *plain_words(summarised)]:
        if line.lower().startswith("the fair model") and "keep" in line:
            assert ("does not keep" in line) == (verdict is Verdict.NOT_MET)
    assert answer(summarised)[0] == verdict
    for line in plain_words(summarised):
        assert "the fair model" in line.lower()


def test_every_warning_names_the_model_it_speaks_of() -> None:
    found = summary(sizes=(1500, 1200, 3))
    standing = GroupStanding(Verdict.TOO_FEW_ROWS, 45, 1234.0)
    fair = replace(found.models[1], standings=({"c": standing},))
    for one in (found, replace(found, models=(found.models[0], fair)), useless()):
        lines = [*one.warnings(), *group_warnings(one)]
        assert lines
        assert all("fair model" in line or "baseline" in line for line in lines)


def test_where_many_models_cannot_be_judged_they_are_counted() -> None:
    found = summary(n_models=6, sizes=(1500, 1200, 30))
    said = " ".join(group_warnings(found))
    assert "of the 6 models (see the table of groups) is not known" in said


def _levelled(base: list[float], fair: list[float]) -> list[str]:
    """Warnings where 'a' and 'b' (600 rows each) have these shares, before and after."""
    y = np.tile([0, 1], 600)
    groups = Groups.from_sensitive(np.repeat(["a", "b"], 600))

    def decided(shares: list[float]) -> Any:
        return np.concatenate([np.arange(600) < 600 * share for share in shares]).astype(float)

    asked = (DemographicParity(difference_bound=0.1),)
    b, f = decided(base), decided(fair)
    before = judged("baseline", asked, y, b, groups, outcome="yes")
    after = judged("fair model", asked, y, f, groups, outcome="yes", against=b)
    return [w for w in group_warnings(summary(models=(before, after))) if "Levelling" in w]


def test_levelling_down_is_a_warning() -> None:
    (line,) = _levelled([0.5, 0.2], [0.25, 0.2])
    assert "'a' loses 25.0 in 100, 'b' gains none." in line
    (line,) = _levelled([0.5, 0.2], [0.25, 0.22])
    assert "'b' gains 2.0." in line


def test_what_is_given_as_much_as_taken_is_no_levelling_down() -> None:
    assert not _levelled([0.5, 0.2], [0.35, 0.35])
    assert not _levelled([0.5, 0.2], [0.5, 0.45])
    assert not _levelled([0.5, 0.2], [0.45, 0.1])  # the gap is wider than before


def test_the_first_sentence_says_who_gains_and_who_loses() -> None:
    lead = in_one_sentence(summary())
    assert "Favourable decisions, beside the baseline: 'a' loses" in lead
    again = RunSummary.from_dict(json.loads(json.dumps(summary().to_dict())))
    assert in_one_sentence(again) == lead


def test_what_a_verdict_says_already_is_no_note() -> None:
    model = summary().models[-1].report
    said = model.results[0].words(model.confidence)
    notes = (f"fair model: demographic_parity on certification rows: {said}", "another")
    assert summary(notes=notes).notes == ("another",)


def test_rows_that_were_read_before_are_not_called_fresh() -> None:
    run = summary(made_with={"judged_on_sha256": "0"})
    assert run.judging_rows == "2,745 fresh rows"
    last = run.models[-1]
    again = replace(last, report=replace(last.report, reading=2))
    read = replace(run, models=(run.models[0], again))
    assert read.judging_rows == "2,745 rows, some or all of which certified it before"
    assert "fresh rows;" not in render_report(read)


def test_rows_that_did_everything_are_named_without_a_stray_comma() -> None:
    assert ",," not in in_one_sentence(summary(crossed=True))
    assert "share approved between two groups" in in_one_sentence(summary())


def test_groups_of_which_the_same_is_to_be_said_share_a_sentence() -> None:
    names = ("a", "b", "c", "d")
    (tiny,) = (
        w for w in group_warnings(summary(names, (1500, 1200, 3, 4))) if "fewer than 10" in w
    )
    assert tiny.startswith("Groups 'c' and 'd' have fewer than 10 rows to judge by: nothing can")
    assert "to them, and their rates are not shown" in tiny
    found = summary(names, (1500, 1200, 45, 46))
    alike = {
        name: GroupStanding(Verdict.TOO_FEW_ROWS, n, 1234.0) for name, n in [("c", 45), ("d", 46)]
    }
    models = tuple(replace(m, standings=(alike,)) for m in found.models)
    said = " ".join(group_warnings(replace(found, models=models)))
    assert "Groups 'c' (45 rows to judge by) and 'd' (46 rows to judge by) would each need" in said
