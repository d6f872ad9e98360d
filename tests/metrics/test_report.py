from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from fairtrain import (
    BoundedGroupLoss,
    EqualizedOdds,
    FairnessReport,
    Groups,
    Verdict,
    fairness_report,
)
from fairtrain.data.rows import Rows
from fairtrain.exceptions import FairtrainError


def data(small: int = 3, selected: int = 1, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Two large groups and a small one with ``selected`` favourable decisions."""
    rng = np.random.default_rng(seed)
    group = np.array(["a"] * 300 + ["b"] * 200 + ["rare"] * small)
    y, p = rng.integers(0, 2, len(group)), rng.integers(0, 2, len(group))
    y[500:], p[500:] = 0, np.arange(small) < selected
    return y, p, group


def report(**settings: Any) -> FairnessReport:
    return fairness_report(*data(), "demographic_parity", **settings)


def cells(plain: dict[str, Any], **where: Any) -> list[dict[str, Any]]:
    return [c for c in plain["group_rates"] if all(c[k] == v for k, v in where.items())]


CONSTRAINTS = ["demographic_parity", "equalized_odds", BoundedGroupLoss(upper_bound=0.6)]


def shareable(selected: int, small: int = 3) -> dict[str, Any]:
    """What is saved, without the numbers over all rows and the verdicts."""
    plain = fairness_report(*data(small, selected), CONSTRAINTS).to_dict()
    for name in ("accuracy", "selection_rate", "verdict"):
        plain.pop(name)
    for constraint in plain["constraints"]:
        constraint.pop("verdict")
        constraint["rows_needed"] = set(constraint["rows_needed"].values())
    return plain


@pytest.mark.parametrize("small", [1, 3, 9])
def test_nothing_saved_depends_on_the_decisions_in_a_small_cell(small: int) -> None:
    one, other = (json.dumps(shareable(s, small), default=sorted) for s in (0, small))
    assert json.loads(one)["group_rates"] == json.loads(other)["group_rates"]
    for a, b in zip(json.loads(one)["constraints"], json.loads(other)["constraints"], strict=True):
        assert {**a, "rows_needed": 0} == {**b, "rows_needed": 0}
        assert set(a["rows_needed"]) | set(b["rows_needed"]) <= {None}


@pytest.mark.parametrize("metric", ["accuracy", "selection_rate"])
def test_a_small_cell_is_not_the_difference_of_what_is_shown(metric: str) -> None:
    hidden = cells(fairness_report(*data(), CONSTRAINTS).to_dict(), metric=metric, suppressed=True)
    assert {c["group"] for c in hidden} == {"rare", "b"}
    assert [c["rate"] for c in hidden] == [None, None]


def test_few_labels_of_one_kind_hide_every_rate_on_labels() -> None:
    y = np.array([1] * 3 + [0] * 97 + [0, 1] * 100)
    p, group = np.arange(300) % 3 == 0, ["few"] * 100 + ["many"] * 200
    plain = fairness_report(y, p.astype(int), group).to_dict()
    hidden = {c["metric"] for c in cells(plain, group="few", suppressed=True)}
    assert hidden == {
        "accuracy",
        "true_positive_rate",
        "false_positive_rate",
        "positive_predictive_value",
    }
    assert not cells(plain, metric="selection_rate", suppressed=True)


def test_large_cells_are_saved_in_full_and_as_json() -> None:
    y, p, group = (column[:500] for column in data())
    found = fairness_report(y, p, group, CONSTRAINTS)
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert not cells(plain, suppressed=True)
    for constraint, result in zip(plain["constraints"], found.results, strict=True):
        assert constraint["achieved"] == result.achieved
        assert (constraint["highest"], constraint["lowest"]) == (result.highest, result.lowest)
    shown = cells(plain, metric="selection_rate", group="a")[0]
    assert (shown["rate"], shown["count"]) == (pytest.approx(p[:300].mean()), 300)


def test_min_cell_zero_hides_nothing() -> None:
    assert not cells(report().to_dict(min_cell=0), suppressed=True)


@pytest.mark.parametrize(("share", "constant"), [(0.0, True), (0.01, True), (0.05, False)])
@pytest.mark.parametrize("flip", [False, True])
def test_near_constant_decisions_say_so(share: float, constant: bool, flip: bool) -> None:
    p = (np.arange(1000) % 100 < 100 * share).astype(int)
    found = fairness_report(
        np.arange(1000) % 2, 1 - p if flip else p, ["a"] * 500 + ["b"] * 500, difference_bound=0.2
    )
    assert found.near_constant is constant
    assert ("near_constant" in str(found)) is constant
    assert found.verdict is Verdict.MET


def test_overall_verdict_is_the_least_favourable() -> None:
    y, p, group = (column[:500] for column in data())
    loose, tight = (BoundedGroupLoss(upper_bound=b) for b in (0.99, 0.01))
    assert fairness_report(y, p, group, [loose]).verdict is Verdict.MET
    assert fairness_report(y, p, group, [loose, tight]).verdict is Verdict.NOT_MET


def test_accuracy_and_selection_are_over_all_rows() -> None:
    y, p, group = data()
    weight = np.linspace(1, 2, len(y))
    found = fairness_report(y, p, group, sample_weight=weight)
    assert found.accuracy[0] == pytest.approx(np.average(y == p, weights=weight), abs=1e-12)
    assert found.selection_rate == pytest.approx(np.average(p, weights=weight), abs=1e-12)
    assert found.accuracy[1] < found.accuracy[0] < found.accuracy[2]


def test_text_speaks_of_the_outcome_and_the_rows() -> None:
    y, p, group = data()
    named = fairness_report(
        np.where(y, "approved", "denied"),
        np.where(p, "approved", "denied"),
        group,
        positive_label=np.str_("approved"),
        rows="training",
    )
    assert "favourable outcome 'approved'" in str(named)
    assert "say nothing about new people" in str(named)


def test_labels_as_text_or_numbers_give_the_same_report() -> None:
    y, p, group = data()
    words = np.array(["good", "default"])  # the favourable one sorts last, and need not
    for label, swap in (("good", True), ("default", False)):
        found = fairness_report(words[y], words[p], group, CONSTRAINTS, positive_label=label)
        numbers = fairness_report(1 - y if swap else y, 1 - p if swap else p, group, CONSTRAINTS)
        assert found.results == numbers.results


@pytest.mark.parametrize(
    "constraint", ["error_rate_parity", "equalized_odds", "demographic_parity"]
)
def test_notions_that_swap_labels_freely_need_no_name(constraint: str) -> None:
    y, p, group = data()
    words = np.array(["no", "yes"])
    found = fairness_report(words[y], words[p], group, constraint)
    assert found.results[0].achieved == fairness_report(y, p, group, constraint).results[
        0
    ].achieved or found.results[0].achieved == pytest.approx(
        fairness_report(y, p, group, constraint).results[0].achieved
    )


@pytest.mark.parametrize("constraint", ["equal_opportunity", EqualizedOdds(ratio_bound=0.8)])
def test_notions_that_do_not_need_the_favourable_label(constraint: Any) -> None:
    y, p, group = data()
    words = np.array(["no", "yes"])
    with pytest.raises(FairtrainError, match="positive_label is missing"):
        fairness_report(words[y], words[p], group, constraint)


def test_frame_has_a_row_a_constraint() -> None:
    found = fairness_report(*data(), CONSTRAINTS)
    frame = found.frame()
    assert frame["verdict"].tolist() == [str(r.verdict) for r in found.results]
    assert frame["achieved"].tolist() == [r.achieved for r in found.results]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rows": "test"}, "rows must be"),
        ({"confidence": 95}, "confidence must lie"),
        ({"difference_bound": 5}, "difference_bound must lie"),
        ({"sample_weight": [1.0]}, "sample_weight has 1 rows"),
        ({"positive_label": "yes"}, "'yes' is none of"),
    ],
)
def test_settings_that_cannot_be_used(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(FairtrainError, match=message):
        report(**settings)


@pytest.mark.parametrize(
    ("y", "p", "group", "message"),
    [
        (None, [0, 1], ["a", "b"], "y_true is missing"),
        ([], [], [], "no rows"),
        ([0, 1], [0, 1], ["a", None], "missing values"),
        ([0, 1], [0, 1], ["a", "a"], "at least two groups"),
        ([0, np.nan], [0, 1], ["a", "b"], "y_true contains missing"),
    ],
)
def test_rows_that_cannot_be_judged(y: Any, p: Any, group: Any, message: str) -> None:
    with pytest.raises(FairtrainError, match=message):
        fairness_report(y, p, group)


@pytest.mark.parametrize(("small", "named"), [(9, False), (10, True)])
def test_a_few_people_without_an_event_are_not_named(small: int, named: bool) -> None:
    """That nobody of a group of nine has y=1 tells the label of all nine."""
    y = np.r_[np.arange(400) % 2, np.zeros(small)]
    group = np.repeat(["a", "b", "rare"], [200, 200, small])
    found = fairness_report(y, np.arange(len(y)) % 2, group, "equal_opportunity")
    plain = found.to_dict()["constraints"][0]
    assert found.results[0].empty
    assert ("rare" in json.dumps([plain["words"], plain["empty"]])) is named
    assert plain["suppressed"] is not named


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
@pytest.mark.parametrize("what", ["decision", "y", "score"])
def test_there_is_no_report_over_nan(what: str, wrong: float) -> None:
    groups = Groups.from_sensitive(["a", "b"] * 20)
    columns = {"y": np.arange(40) % 2.0, "decision": np.ones(40), "score": np.ones(40)}
    columns[what][7] = wrong
    with pytest.raises(FairtrainError, match=r"must be finite, got (nan|inf) in row 7"):
        Rows.judged(columns["y"], columns["decision"], groups, score=columns["score"])
    if what != "y":
        rows = Rows.judged(columns["y"], np.zeros(40), groups)
        with pytest.raises(FairtrainError, match="must be finite"):
            rows.decided(columns["decision"], columns["score"])


@pytest.mark.parametrize("place", [0, 1])
def test_complex_numbers_are_no_labels(place: int) -> None:
    given = [np.arange(40) % 2, np.arange(40) % 2]
    given[place] = given[place] + 0j
    with pytest.raises(FairtrainError, match="must be real, got complex numbers"):
        fairness_report(*given, ["a", "b"] * 20)


@pytest.mark.parametrize(
    "setting", [{"min_count": -5}, {"min_count": np.nan}, {"min_count": "x"}, {"confidence": "x"}]
)
def test_settings_that_are_no_numbers(setting: dict[str, Any]) -> None:
    with pytest.raises(FairtrainError, match=f"{next(iter(setting))} must"):
        report(**setting)


@pytest.mark.parametrize("min_cell", [np.nan, -1, "x"])
def test_min_cell_that_would_hide_nothing_by_mistake(min_cell: Any) -> None:
    with pytest.raises(FairtrainError, match="min_cell must"):
        report().to_dict(min_cell=min_cell)
