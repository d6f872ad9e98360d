"""Thresholds by group: bounds kept, optimum found, effects counted."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from fairtrain import GroupThresholds, group_rates, threshold_effects
from fairtrain.datasets import make_miscalibrated
from fairtrain.exceptions import (
    InvalidDataError,
    InvalidParameterError,
    NearConstantWarning,
    UnseenGroupError,
)

NOTIONS = {
    "demographic_parity": ["selection_rate"],
    "equal_opportunity": ["true_positive_rate"],
    "predictive_equality": ["false_positive_rate"],
    "equalized_odds": ["true_positive_rate", "false_positive_rate"],
}


@pytest.fixture(scope="module")
def data() -> Any:
    return make_miscalibrated(8000, levels={"race": 3, "sex": 2}, smallest=300, random_state=1)


@pytest.mark.parametrize("randomized", [False, True])
@pytest.mark.parametrize("constraint", NOTIONS)
def test_the_bound_is_kept_and_rates_are_those_of_the_decisions(
    data: Any, constraint: str, randomized: bool
) -> None:
    tolerance = 0.06 if constraint == "equalized_odds" and not randomized else 0.02
    rule = GroupThresholds(constraint, tolerance=tolerance, randomized=randomized, random_state=0)
    q, who = data.true_probability, data.sensitive_features
    rule.fit(q, data.y, who)
    assert rule.gap_ <= tolerance + 1e-9
    share = rule.decision_probability(q, who)
    measured = group_rates(data.y, share, who, metrics=NOTIONS[constraint])
    for name in NOTIONS[constraint]:
        rates = measured.query("metric == @name").set_index("group")["rate"]
        found = rule.rates_.set_index("group")[name]
        np.testing.assert_allclose(rates[found.index], found, atol=1e-6)
    expected = np.mean(np.where(data.y == 1, share, 1 - share))
    assert rule.accuracy_ == pytest.approx(expected, abs=1e-6)
    decided = rule.predict(q, who, X=np.arange(len(q))[:, None])
    assert abs((decided == data.y).mean() - rule.accuracy_) < 0.02
    if not randomized:
        assert set(share) <= {0.0, 1.0}


def test_lots_are_never_worse_and_a_loose_bound_is_free(data: Any) -> None:
    q, who = data.true_probability, data.sensitive_features
    fixed, drawn = (
        GroupThresholds("equalized_odds", tolerance=0.06, randomized=r).fit(q, data.y, who)
        for r in (False, True)
    )
    assert drawn.accuracy_ >= fixed.accuracy_ - 1e-9
    loose = GroupThresholds(tolerance=0.999, randomized=True).fit(q, data.y, who)
    assert loose.accuracy_ >= ((q >= 0.5) == data.y).mean() - 0.002


def test_a_notebook_shows_thresholds_and_rates_without_small_groups() -> None:
    rng = np.random.default_rng(0)
    who = np.repeat(["a", "b", "c", "d"], [400, 300, 40, 5])
    s = rng.uniform(size=len(who))
    y = (rng.uniform(size=len(who)) < s).astype(int)
    rule = GroupThresholds(tolerance=0.2, n_candidates=20)
    assert 'fairtrain"><style>' not in rule._repr_html_()
    shown = rule.fit(s, y, who)._repr_html_()
    rate, cut = rule.rates_["selection_rate"][0], rule.thresholds_["threshold"][0]
    assert f"{rate:.1%} <small>selection rate" in shown
    assert f"400 rows, from {cut:.3g} on" in shown
    assert "2 groups are not shown" in shown  # d, and c, which totals would tell d by
    assert "40 rows" not in shown


def test_deterministic_optimum_is_brute_force() -> None:
    rng = np.random.default_rng(0)
    s, codes = rng.uniform(size=24), np.repeat([0, 1], 12)
    y = (rng.uniform(size=24) < s).astype(int)
    rule = GroupThresholds(tolerance=0.1, n_candidates=13).fit(s, y, codes)
    best = 0.0
    cuts = [np.append(np.sort(s[codes == g]), np.inf) for g in (0, 1)]
    for a, b in product(*cuts):
        decided = s >= np.where(codes == 0, a, b)
        if abs(decided[codes == 0].mean() - decided[codes == 1].mean()) <= 0.1 + 1e-12:
            best = max(best, (decided == y).mean())
    assert rule.accuracy_ == pytest.approx(best)


def test_lots_belong_to_the_person(data: Any) -> None:
    q, who = np.round(data.true_probability, 1), data.sensitive_features
    rule = GroupThresholds(tolerance=0.0, randomized=True, random_state=0).fit(q, data.y, who)
    people = np.arange(len(q))[:, None]
    together = rule.predict(q, who, X=people)
    one = [
        rule.predict(q[i : i + 1], who.iloc[i : i + 1], X=people[i : i + 1])[0] for i in range(40)
    ]
    assert together[:40].tolist() == one
    selected = group_rates(data.y, together, who, metrics="selection_rate")["rate"]
    assert np.ptp(selected) < 0.08


def test_any_labels_and_errors(data: Any) -> None:
    q, who = data.true_probability, data.sensitive_features
    words = np.where(data.y == 1, "approve", "deny")
    rule = GroupThresholds(positive_label="approve").fit(q, words, who)
    assert set(rule.predict(q, who)) == {"approve", "deny"}
    assert rule.predict([1.0], who[:1]).tolist() == ["approve"]
    with pytest.raises(InvalidParameterError, match="positive_label is missing"):
        GroupThresholds().fit(q, words, who)
    with pytest.raises(InvalidParameterError, match="constraint must be one of"):
        GroupThresholds("parity").fit(q, data.y, who)
    with pytest.raises(InvalidParameterError, match=r"tolerance must lie in \[0, 1\), got 1"):
        GroupThresholds(tolerance=1).fit(q, data.y, who)
    with pytest.raises(
        InvalidDataError, match="'b' has no row that a true positive rate speaks of"
    ):
        GroupThresholds("equal_opportunity").fit([0.1, 0.9, 0.4], [0, 1, 0], ["a", "a", "b"])
    with pytest.raises(InvalidDataError, match="calibrate them first"):
        GroupThresholds().fit(q * 3, data.y, who)
    with pytest.raises(UnseenGroupError):
        rule.predict([0.5], [["race9", "sex0"]])


def test_effects_are_counted_and_calibration_moves_error_rates(data: Any) -> None:
    who = data.sensitive_features
    table = threshold_effects(data.scores, data.true_probability, data.y, who, threshold=0.4)
    for when, s in (("before", data.scores), ("after", data.true_probability)):
        decided = (s >= 0.4).astype(int)
        for rate in ("selection_rate", "true_positive_rate", "false_positive_rate"):
            expected = group_rates(data.y, decided, who, metrics=rate)["rate"].to_numpy()
            found = table[f"{rate}_{when}"].to_numpy()
            np.testing.assert_allclose(found[:-1], expected)
            assert found[-1] == pytest.approx(np.ptp(expected))
    # Base rates differ: calibrated scores select, and err, at different rates.
    assert table.iloc[-1]["selection_rate_after"] > table.iloc[-1]["selection_rate_before"]


def test_a_bound_kept_by_one_decision_for_all_is_said(data: Any) -> None:
    rule = GroupThresholds("equalized_odds", tolerance=0.0)
    with pytest.warns(NearConstantWarning, match="the same decision. Set randomized=True"):
        rule.fit(data.true_probability, data.y, data.sensitive_features)
    assert rule.gap_ == 0
