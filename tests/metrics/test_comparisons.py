from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fairlearn.metrics import (
    demographic_parity_difference,
    demographic_parity_ratio,
    equalized_odds_difference,
)
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fairtrain import gap, ratio
from fairtrain.exceptions import FairtrainError

row = st.tuples(st.integers(0, 1), st.integers(0, 1), st.sampled_from("abc"), st.floats(0.1, 9))
rows_of_two_groups = st.lists(row, min_size=2, max_size=40).filter(
    lambda rows: len({group for _, _, group, _ in rows}) > 1
)


def columns(rows: list[Any], weighted: bool) -> tuple[np.ndarray, ...]:
    y, p, group, weight = (np.array(column) for column in zip(*rows, strict=True))
    return y, p, group, weight if weighted else None


@pytest.mark.parametrize("weighted", [False, True])
@settings(deadline=None, max_examples=25)
@given(rows=rows_of_two_groups)
def test_gap_is_fairlearn_s_demographic_parity_difference(weighted: bool, rows: list[Any]) -> None:
    y, p, group, weight = columns(rows, weighted)
    expected = demographic_parity_difference(y, p, sensitive_features=group, sample_weight=weight)
    found = gap(y, p, group, sample_weight=weight)
    assert found.value == pytest.approx(expected, abs=1e-12)
    assert found.rates[found.highest] - found.rates[found.lowest] == pytest.approx(found.value)


@pytest.mark.parametrize("weighted", [False, True])
@settings(deadline=None, max_examples=25)
@given(rows=rows_of_two_groups)
def test_ratio_is_fairlearn_s_demographic_parity_ratio(weighted: bool, rows: list[Any]) -> None:
    y, p, group, weight = columns(rows, weighted)
    assume(p.any())
    expected = demographic_parity_ratio(y, p, sensitive_features=group, sample_weight=weight)
    found = ratio(y, p, group, sample_weight=weight)
    assert found.value == pytest.approx(expected, abs=1e-12)


@settings(deadline=None, max_examples=25)
@given(rows=rows_of_two_groups)
def test_widest_of_two_rates_is_fairlearn_s_equalized_odds(rows: list[Any]) -> None:
    both = [(label, label, name, 1.0) for label in (0, 1) for name in {r[2] for r in rows}]
    y, p, group, _ = columns(rows + both, weighted=False)
    expected = equalized_odds_difference(y, p, sensitive_features=group)
    found = [gap(y, p, group, f"{sign}_positive_rate").value for sign in ("true", "false")]
    assert max(found) == pytest.approx(expected, abs=1e-12)


@settings(deadline=None, max_examples=25)
@given(rows=rows_of_two_groups)
def test_limits_hold_the_estimate(rows: list[Any]) -> None:
    y, p, group, _ = columns(rows, weighted=False)
    difference = gap(y, p, group)
    assert 0 <= max(difference.lower, 0) <= difference.value <= difference.upper <= 1
    assume(p.any())
    quotient = ratio(y, p, group)
    assert 0 <= quotient.lower <= quotient.value <= quotient.upper <= 1


def test_groups_without_rows_in_the_event_are_left_out() -> None:
    found = gap([1, 1, 1, 0], [1, 0, 1, 1], list("aabc"), "true_positive_rate")
    assert set(found.rates) == {"a", "b"}
    assert found.value == pytest.approx(0.5)


def test_ratio_to_a_named_group_may_exceed_one() -> None:
    p = [1, 0, 0, 0, 1, 1, 1, 0]
    found = ratio(p, p, list("aaaabbbb"), reference="a")
    assert (found.value, found.highest, found.lowest) == (3.0, "a", "b")


def test_ratio_of_rates_of_zero_is_undefined_and_says_nothing() -> None:
    found = ratio([0, 1, 0, 1], [0, 0, 0, 0], list("aabb"))
    assert np.isnan(found.value)
    assert (found.lower, found.upper) == (0.0, 1.0)


def test_over_merges_groups() -> None:
    sensitive = {"race": list("aabb"), "sex": list("fmfm")}
    p = [1, 0, 1, 1]
    assert gap(p, p, sensitive).value == 1.0
    assert gap(p, p, sensitive, over="race").value == pytest.approx(0.5)


def test_losses_have_a_gap_but_no_ratio() -> None:
    y, group, score = [0, 1] * 10, ["a"] * 10 + ["b"] * 10, [0.9, 0.2] * 5 + [0.1, 0.9] * 5
    found = gap(y, y, group, "log_loss", y_score=score)
    assert found.lower < found.value < found.upper
    with pytest.raises(FairtrainError, match="no rate"):
        ratio(y, y, group, "log_loss", y_score=score)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gap([0, 1], [0, 1], ["a", "a"]), "fewer than two groups"),
        (lambda: gap([0, 1], [0, 1], ["a", "b"], "true_positive_rate"), "fewer than two groups"),
        (lambda: gap([0, 1], [0, 1], ["a", "b"], "auc"), "unknown metric 'auc'"),
        (lambda: ratio([0, 1], [0, 1], ["a", "b"], reference="z"), "'z' is not a group"),
        (lambda: gap(["n", "y"], ["n", "y"], ["a", "b"]), "positive_label is missing"),
        (lambda: gap([0, 1], [0, 1], ["a", "b"], confidence=95), "confidence must"),
    ],
)
def test_what_cannot_be_compared(call: Any, message: str) -> None:
    with pytest.raises(FairtrainError, match=message):
        call()


def test_text_names_the_bias_the_groups_and_their_rows() -> None:
    said = str(gap([1, 0] * 4, [1, 0, 1, 1, 0, 0, 0, 0], list("aaaabbbb")))
    for part in ("biased upward", "'a' (0.750, 4 rows)", "'b' (0.000, 4 rows)", "95% interval"):
        assert part in said
