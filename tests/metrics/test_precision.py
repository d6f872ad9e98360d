"""What is reported of precision: the rate of the selected, their number, and limits."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import precision_score

from fairtrain import AtLeast, PredictiveParity, fairness_report, gap, group_rates
from fairtrain.metrics.intervals import short_exact
from fairtrain.metrics.verdicts import Verdict

RNG = np.random.default_rng(0)
N = 4000
GROUP = RNG.choice(["a", "b"], N)
Y = (RNG.random(N) < 0.5).astype(int)
DECIDED = np.where(RNG.random(N) < 0.8, Y, 1 - Y)
NOBODY = np.zeros(N, dtype=int)


def test_limits_are_binomial_given_who_is_selected() -> None:
    frame = group_rates(Y, DECIDED, GROUP, metrics="precision").set_index("group")
    for name, row in frame.iterrows():
        own = name == GROUP
        selected = int(DECIDED[own].sum())
        assert row["count"] == selected
        assert row["rate"] == pytest.approx(precision_score(Y[own], DECIDED[own]))
        lower, upper = short_exact(row["rate"], selected)
        assert (row["lower"], row["upper"]) == pytest.approx((float(lower), float(upper)))
    widest = gap(Y, DECIDED, GROUP, metric="precision")
    assert widest.value == pytest.approx(np.ptp(frame["rate"]))


def test_a_lot_counts_people_by_their_chance() -> None:
    chance = RNG.random(N)
    frame = group_rates(Y, chance, GROUP, metrics=["precision", "false_omission_rate"])
    for name, rate in frame.groupby("group")["rate"]:
        own = name == GROUP
        assert rate.tolist() == pytest.approx(
            [np.average(Y[own], weights=w[own]) for w in (chance, 1 - chance)]
        )


def test_verdicts_and_advice_speak_of_the_selected() -> None:
    asked = [
        AtLeast("precision", 0.75),
        AtLeast("precision", 0.85),
        PredictiveParity(difference_bound=0.1),
        PredictiveParity(difference_bound=0.02, rate="false_omission_rate"),
    ]
    report = fairness_report(Y, DECIDED, GROUP, asked)
    assert [r.verdict for r in report.results] == [
        Verdict.MET,
        Verdict.NOT_MET,
        Verdict.MET,
        Verdict.TOO_FEW_ROWS,
    ]
    selected = {name: int(DECIDED[name == GROUP].sum()) for name in ("a", "b")}
    assert report.results[0].counts == selected
    assert max(report.results[3].rows_needed.values()) > 2000
    shown = report.group_rates
    assert "false_omission_rate" in set(shown["metric"])  # as it was asked about
    assert shown.query("metric == 'positive_predictive_value'")["count"].tolist() == list(
        selected.values()
    )


@pytest.mark.parametrize("asked", [AtLeast("precision", 0.1), PredictiveParity()], ids=str)
@pytest.mark.parametrize("whom", ["nobody", "one group"])
def test_a_group_of_whom_nobody_is_selected_has_no_precision(asked: object, whom: str) -> None:
    decided = NOBODY if whom == "nobody" else np.where(GROUP == "a", DECIDED, 0)
    report = fairness_report(Y, decided, GROUP, asked)
    (result,) = report.results
    assert result.verdict is Verdict.TOO_FEW_ROWS
    assert "'b' has no row with d=1" in result.words()
    assert report.to_dict()["verdict"] == "too_few_rows"
    if whom == "nobody":
        assert np.isnan(result.achieved)
        assert (result.lower, result.upper) == (0.0, 1.0)
        assert report.no_better_than_constant
        assert report.near_constant
    else:
        known = precision_score(Y[GROUP == "a"], DECIDED[GROUP == "a"])
        is_parity = isinstance(asked, PredictiveParity)
        assert result.achieved == pytest.approx(0.0 if is_parity else known)
