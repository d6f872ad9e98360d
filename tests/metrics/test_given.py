"""Reports on groups within strata, against brute force and the population."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from fairlearn.reductions import DemographicParity as FairlearnParity
from fairlearn.reductions import EqualizedOdds as FairlearnOdds

from fairtrain import fairness_report
from fairtrain.constraints import BoundedGroupLoss, DemographicParity, EqualizedOdds
from fairtrain.data.groups import Groups
from fairtrain.data.rows import Rows
from fairtrain.exceptions import InvalidDataError
from fairtrain.metrics import gap, group_rates, ratio
from fairtrain.metrics.outcomes import report_on_values
from fairtrain.metrics.standing import group_standings
from fairtrain.metrics.verdicts import Verdict, judge

RATES = {("f", "high"): 0.7, ("m", "high"): 0.7, ("f", "low"): 0.3, ("m", "low"): 0.4}


def sample(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, pd.DataFrame]:
    """Bands differ between the sexes, so that the overall gap is none of the two within."""
    rng = np.random.default_rng(seed)
    sex = rng.choice(["f", "m"], n)
    band = np.where(rng.random(n) < np.where(sex == "f", 0.3, 0.6), "high", "low")
    rate = np.array([RATES[pair] for pair in zip(sex, band, strict=True)])
    y = rng.integers(0, 2, n)
    return y, (rng.random(n) < rate).astype(int), pd.DataFrame({"sex": sex, "band": band})


def test_the_widest_stratum_counts() -> None:
    y, decided, who = sample(20_000)
    (result,) = fairness_report(y, decided, who, DemographicParity(given="band")).results
    rates = who.assign(d=decided).pivot_table("d", "band", "sex", "mean")
    gaps = (rates["m"] - rates["f"]).abs()
    assert result.achieved == pytest.approx(gaps.max())
    assert (result.highest, result.lowest) == ("m/low", "f/low")
    assert result.lower < 0.1 < result.upper
    counts = who.assign(cell=who["sex"] + "/" + who["band"])["cell"].value_counts()
    assert result.counts == counts.to_dict()
    assert "given band" in result.constraint
    wide = gap(y, decided, who, given="band")
    assert (wide.value, wide.lower, wide.upper) == (result.achieved, result.lower, result.upper)
    least = ratio(y, decided, who, given="band", reference="m")
    assert least.value == pytest.approx((rates["f"] / rates["m"]).min())
    frame = group_rates(y, decided, who, given="band", over="sex", metrics="selection_rate")
    assert set(frame["group"]) == {"f/high", "f/low", "m/high", "m/low"}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (DemographicParity(given="band", reference="overall"), FairlearnParity),
        (EqualizedOdds(given="band", reference="overall"), FairlearnOdds),
    ],
)
def test_fairlearns_control_features_give_the_same_gap(ours: object, theirs: type) -> None:
    y, decided, who = sample(3_000, seed=4)
    (result,) = fairness_report(y, decided, who, ours).results
    moment = theirs()
    X = pd.DataFrame({"x": np.arange(len(y))})
    moment.load_data(X, y, sensitive_features=who["sex"], control_features=who["band"])
    assert result.achieved == pytest.approx(moment.gamma(lambda X: decided).max())


def test_the_pooled_difference_is_mantel_and_haenszels() -> None:
    y, decided, who = sample(20_000)
    constraint = DemographicParity(given="band", pooled=True)
    (result,) = fairness_report(y, decided, who, constraint).results
    counts = who.assign(d=decided).pivot_table("d", "band", "sex", ["sum", "count"])
    top = bottom = spread = 0.0
    for band in ("high", "low"):
        a, n1 = counts.loc[band, ("sum", "m")], counts.loc[band, ("count", "m")]
        b, n2 = counts.loc[band, ("sum", "f")], counts.loc[band, ("count", "f")]
        top += (a * n2 - b * n1) / (n1 + n2)
        bottom += n1 * n2 / (n1 + n2)
        weight = n1 * n2 / (n1 + n2)
        spread += weight**2 * (a * (n1 - a) / n1**3 + b * (n2 - b) / n2**3)
    assert result.achieved == pytest.approx(top / bottom)
    # The limits take rows as if their stratum were not known: at least as wide as those that do.
    exact = 1.96 * np.sqrt(spread) / bottom
    width = (result.upper - result.lower) / 2
    assert exact * 0.99 < width < 1.25 * exact


def test_limits_hold_over_all_strata_together() -> None:
    rng = np.random.default_rng(5)
    missed = 0
    for _ in range(60):
        strata, sex = rng.integers(0, 4, 1_000), rng.integers(0, 2, 1_000)
        decided = rng.integers(0, 2, 1_000)
        found = gap(None, decided, {"sex": sex, "s": strata}, given="s")
        missed += found.lower > 0  # all true gaps are 0
    assert missed <= 8  # .05 of 60 are 3, and 9 come with a chance below 1 %


def test_an_empty_cell_is_named_and_never_certified() -> None:
    y, decided, who = sample(20_000)
    third = who.copy()
    third.loc[(who["band"] == "low") & (np.arange(20_000) % 3 == 0), "sex"] = "x"
    constraint = DemographicParity(given="band", difference_bound=0.3)
    report = fairness_report(y, decided, third, constraint)
    (result,) = report.results
    assert result.verdict is Verdict.TOO_FEW_ROWS
    assert [str(cell) for cell in result.empty] == ["'x/high' has no row"]
    assert "x/high" in result.rows_needed
    assert result.upper > 0.6
    excluded = DemographicParity(given="band", difference_bound=0.3, weights={"x": 0})
    assert fairness_report(y, decided, third, excluded).verdict is Verdict.MET
    # A band that only one sex has compares nobody.
    lonely = who.assign(band=np.where(who["sex"] == "f", "f only", who["band"]))
    with pytest.raises(InvalidDataError, match="no two of them meet"):
        fairness_report(y, decided, lonely, constraint)
    lonely.loc[who["sex"] == "f", "band"] = np.where(
        np.arange((who["sex"] == "f").sum()) % 2, "low", "f only"
    )
    found = fairness_report(y, decided, lonely, constraint).results[0]
    assert not found.empty
    assert found.strata_left_out == ("f only", "high")
    assert "Not compared, for want of groups: within f only, high." in found.words()
    # In a band of f and m an average of three groups compares nothing.
    lonely.iloc[:3] = [["x", "low"], ["x", "high"], ["m", "f only"]]
    settings = {"difference_bound": 0.3, "given": "band"}
    for pooled, left in ((False, ()), (True, ("f only", "high"))):
        asked = DemographicParity(**settings, pooled=pooled)
        result = fairness_report(y, decided, lonely, asked).results[0]
        assert result.strata_left_out == left


def test_a_stratum_without_judged_rows_may_hold_anything() -> None:
    y, decided, who = sample(4_000)
    everyone = Rows.read_decided(y, decided, who, positive_label=1, given=(("band", ()),))
    low = everyone.take(np.flatnonzero(who["band"] == "low"))
    constraint = DemographicParity(given="band", difference_bound=0.3)
    result = judge(constraint, low, "certification", 0.95)
    assert result.verdict is Verdict.TOO_FEW_ROWS
    assert {cell.group for cell in result.empty} == {"f/high", "m/high"}
    assert (result.lower > 0, result.upper) == (True, 1.0)
    assert set(result.rows_needed) == {"f/high", "m/high"}


def test_every_cell_has_a_standing() -> None:
    y, decided, who = sample(20_000)
    constraint = DemographicParity(given="band", difference_bound=0.05)
    rows = Rows.read_decided(y, decided, who, positive_label=1, given=(("band", ()),))
    report = fairness_report(y, decided, who, constraint)
    standings = group_standings(constraint, rows, report.results[0])
    broken = {name for name, s in standings.items() if s.verdict is Verdict.NOT_MET}
    assert set(standings) == {"f/high", "m/high", "f/low", "m/low"}
    assert broken == {"f/low", "m/low"}


def test_a_loss_of_one_row_in_a_stratum_may_be_anything() -> None:
    who = {"sex": ["f", "m"] * 100, "age": ["old"] * 198 + ["young"] * 2}
    groups = Groups.from_sensitive(who, given=(("age", ()),))
    decided = np.where(np.arange(200) < 198, 1.0, 100.0)
    rows = Rows(None, np.zeros(200), groups, decision=decided)
    asked = BoundedGroupLoss(upper_bound=30, loss="squared", given="age")
    (result,) = report_on_values(rows, [asked], rows="certification").results
    assert (result.achieved, result.upper) == (10_000, np.inf)
    assert result.verdict is Verdict.TOO_FEW_ROWS


def test_a_stratum_where_nobody_is_selected_hides_no_smaller_ratio() -> None:
    sex, age = np.array(["f", "m"] * 60), np.repeat(["a", "b", "c"], 40)
    chosen = (np.arange(120) % 3 == 0) & (age != "a") | (age == "b") & (sex == "m")
    found = [
        ratio(None, chosen.astype(int), {"sex": sex, "age": named}, given="age")
        for named in (age, np.where(age == "a", "z", age))  # the empty one first, and last
    ]
    assert (
        found[0].value
        == found[1].value
        == pytest.approx(chosen[(age == "b") & (sex == "f")].mean())
    )


@pytest.mark.parametrize("reference", ["pairwise", "overall"])
@pytest.mark.parametrize("pooled", [False, True])
def test_an_event_that_a_stratum_lacks_is_named_with_clusters_too(
    reference: str, pooled: bool
) -> None:
    y, p, who = sample(400)
    y[who["band"] == "high"] = 0
    asked = EqualizedOdds(given="band", reference=reference, pooled=pooled)  # type: ignore[arg-type]
    for clusters in (None, np.arange(400) // 2):
        (result,) = fairness_report(y, p, who, asked, clusters=clusters).results
        assert result.verdict is Verdict.TOO_FEW_ROWS
        assert {str(cell) for cell in result.empty} == (
            set() if pooled else {f"'{sex}/high' has no row with y=1" for sex in "fm"}
        )
