from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fairtrain import (
    AtLeast,
    BoundedGroupLoss,
    DemographicParity,
    EqualizedOdds,
    EqualOpportunity,
    Groups,
    Verdict,
    fairness_report,
)
from fairtrain.data.rows import Rows
from fairtrain.exceptions import FairtrainError
from fairtrain.metrics import ConstraintResult, verdicts
from fairtrain.metrics.intervals import gap_interval, ratio_interval
from fairtrain.metrics.verdicts import judge

BOUND = 0.1


def rows_with(rates: dict[str, tuple[int, int]]) -> tuple[np.ndarray, ...]:
    """Rows with (selected, all) rows a group; labels alternate."""
    group = np.repeat(list(rates), [n for _, n in rates.values()])
    p = np.concatenate([np.arange(n) < k for k, n in rates.values()]).astype(int)
    return np.arange(len(p)) % 2, p, group


def judged(
    rates: dict[str, tuple[int, int]], constraint: Any = None, **settings: Any
) -> ConstraintResult:
    constraint = DemographicParity(difference_bound=BOUND) if constraint is None else constraint
    return fairness_report(*rows_with(rates), constraint, **settings).results[0]


@pytest.mark.parametrize(
    ("base", "counts"),
    [(0.3, (500, 500)), (0.5, (2000, 150)), (0.05, (400, 60)), (0.4, (800, 300, 100, 40))],
)
def test_met_is_rarely_said_of_a_gap_just_above_the_bound(
    base: float, counts: tuple[int, ...]
) -> None:
    rng = np.random.default_rng(0)
    true = np.full(len(counts), base)
    true[-1] += BOUND + 1e-6
    n = np.array(counts)
    rates = rng.binomial(n, true, size=(1500, len(n))) / n
    # What `judge` calls met is the upper limit within the bound.
    wrong = gap_interval(rates, n).upper <= BOUND
    assert wrong.mean() < 0.025 + 4 * np.sqrt(0.025 * 0.975 / 1500)


def test_met_is_rarely_said_of_a_ratio_just_below_the_bound() -> None:
    n = np.array([600, 400, 150])
    rates = np.random.default_rng(1).binomial(n, [0.5, 0.5, 0.3999], size=(1500, 3)) / n
    wrong = ratio_interval(rates, n).lower >= 0.8
    assert wrong.mean() < 0.025 + 4 * np.sqrt(0.025 * 0.975 / 1500)


@pytest.mark.parametrize("seed", range(3))
def test_verdict_is_the_limit_against_the_bound(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(12):
        n = int(rng.integers(20, 4000))
        rates = {g: (int(rng.binomial(n, rng.uniform(0.4, 0.5))), n) for g in "abc"}
        found = judged(rates)
        assert (found.verdict is Verdict.MET) == (found.upper <= BOUND)
        if found.lower > BOUND:
            assert found.verdict is Verdict.NOT_MET
        if found.verdict is Verdict.TOO_FEW_ROWS:
            assert found.rows_needed


@pytest.mark.parametrize("role", ["steering", "training"])
def test_only_certification_rows_say_met(role: Any) -> None:
    rates = {"a": (5000, 10_000), "b": (5000, 10_000)}
    assert judged(rates, rows="certification").verdict is Verdict.MET
    assert judged(rates, rows=role).verdict is Verdict.NOT_CERTIFIED


@pytest.mark.parametrize("role", ["certification", "steering", "training"])
def test_a_broken_bound_is_not_met_anywhere(role: Any) -> None:
    assert judged({"a": (900, 1000), "b": (100, 1000)}, rows=role).verdict is Verdict.NOT_MET


def test_never_not_certified_on_certification() -> None:
    rng = np.random.default_rng(3)
    for _ in range(15):
        rates = {g: (int(rng.integers(0, 200)), 200) for g in "ab"}
        assert judged(rates).verdict is not Verdict.NOT_CERTIFIED


CONSTRAINTS = [
    DemographicParity(difference_bound=0.2),
    DemographicParity(ratio_bound=0.5),
    DemographicParity(difference_bound=0.2, reference="overall"),
    DemographicParity(ratio_bound=0.5, reference="overall"),
    EqualOpportunity(difference_bound=0.2),
    EqualizedOdds(difference_bound=0.2),
    BoundedGroupLoss(upper_bound=0.7),
    AtLeast("accuracy", 0.3),
]


def scaled(
    rates: dict[str, tuple[int, int]], needed: dict[str, float]
) -> dict[str, tuple[int, int]]:
    """The same rates, short groups brought up to the rows they need (twice, for the labels)."""
    factor = {g: int(np.ceil(2 * needed.get(g, 0) / n)) for g, (_, n) in rates.items()}
    return {g: (k * max(factor[g], 1), n * max(factor[g], 1)) for g, (k, n) in rates.items()}


@pytest.mark.parametrize("constraint", CONSTRAINTS, ids=lambda c: f"{c.notion}-{c.kind}")
@pytest.mark.parametrize(
    "rates",
    [
        {"a": (50, 100), "b": (6, 12)},
        {"a": (500, 1000), "b": (48, 100), "c": (20, 40)},
        {"a": (24, 40), "b": (20, 40)},
    ],
)
def test_with_the_rows_needed_the_verdict_is_reached(
    constraint: Any, rates: dict[str, tuple[int, int]]
) -> None:
    found = judged(rates, constraint)
    if found.verdict is Verdict.MET:
        assert not found.rows_needed
        return
    assert found.verdict is Verdict.TOO_FEW_ROWS
    assert all(
        np.isfinite(rows) and rows > found.counts[g] for g, rows in found.rows_needed.items()
    )
    assert judged(scaled(rates, found.rows_needed), constraint).verdict is Verdict.MET


def test_too_few_rows_names_the_small_group_in_words() -> None:
    rates = {"white": (5000, 10_000), "hispanic": (55, 111)}
    found = judged(rates, DemographicParity(difference_bound=0.05))
    assert found.verdict is Verdict.TOO_FEW_ROWS
    assert set(found.rows_needed) == {"hispanic"}
    assert "'hispanic' has 111 rows and needs about" in found.words()


def test_a_broken_bound_on_few_rows_is_too_few_on_many_not_met() -> None:
    assert judged({"a": (11, 20), "b": (8, 20)}).verdict is Verdict.TOO_FEW_ROWS
    assert judged({"a": (5110, 10_000), "b": (4100, 10_000)}).verdict is Verdict.NOT_MET


def test_small_group_on_steering_rows_needs_min_count() -> None:
    found = judged({"a": (50, 100), "b": (5, 10)}, rows="steering", min_count=30)
    assert found.verdict is Verdict.TOO_FEW_ROWS
    assert found.rows_needed == {"b": 30.0}


def test_rates_of_zero_leave_a_ratio_open() -> None:
    found = judged({"a": (0, 500), "b": (0, 500)}, DemographicParity(ratio_bound=0.8))
    assert found.verdict is Verdict.TOO_FEW_ROWS
    assert all(np.isinf(rows) for rows in found.rows_needed.values())
    assert "more than can be had" in found.words()


def test_groups_of_weight_zero_are_left_out() -> None:
    rates = {"a": (500, 1000), "b": (500, 1000), "odd": (0, 3)}
    constraint = DemographicParity(difference_bound=BOUND, weights={"odd": 0})
    assert judged(rates, constraint).verdict is Verdict.MET
    assert "odd" not in judged(rates, constraint).counts


@pytest.mark.parametrize(
    ("constraint", "message"),
    [
        (DemographicParity(weights={"z": 2}), "name the group 'z'"),
        (DemographicParity(weights={"a": 0}), "compares at least two groups"),
        (DemographicParity(over="sex"), "'sex' is not a sensitive column"),
    ],
)
def test_constraints_that_do_not_fit_the_groups(constraint: Any, message: str) -> None:
    with pytest.raises(FairtrainError, match=message):
        judged({"a": (5, 10), "b": (5, 10)}, constraint)


@pytest.mark.parametrize("constraint", ["demographic_parity", DemographicParity(ratio_bound=0.8)])
def test_a_single_group_is_no_comparison(constraint: Any) -> None:
    with pytest.raises(FairtrainError, match="compares at least two groups"):
        judged({"a": (5, 10)}, constraint)


def without_an_event(constraint: Any, *, gap: int = 0, **settings: Any) -> ConstraintResult:
    """Groups a and c with 1000 rows of either label; b has 60 rows, none with y=1."""
    y = np.repeat([0, 1, 0, 1, 0], [1000, 1000, 1000, 1000, 60])
    group = np.repeat(["a", "c", "b"], [2000, 2000, 60])
    p = np.arange(len(y)) % 2
    p[3000 : 3000 + gap] = 1
    return fairness_report(y, p, group, constraint, **settings).results[0]


EMPTY = [
    EqualOpportunity(difference_bound=0.5),
    EqualOpportunity(difference_bound=1.0),
    EqualOpportunity(ratio_bound=0.2),
    EqualOpportunity(difference_bound=0.5, reference="overall"),
    EqualOpportunity(ratio_bound=0.2, reference="overall"),
    EqualizedOdds(difference_bound=0.9),
]


@pytest.mark.parametrize("constraint", EMPTY, ids=lambda c: f"{c.name}-{c.kind}-{c.reference}")
@pytest.mark.parametrize("role", ["certification", "steering", "training"])
def test_a_group_without_a_row_in_the_event_is_named_and_nothing_is_met(
    constraint: Any, role: Any
) -> None:
    found = without_an_event(constraint, rows=role)
    assert found.verdict is Verdict.TOO_FEW_ROWS
    assert [(c.group, c.event, c.rows) for c in found.empty] == [("b", "y=1", 60)]
    assert "'b' has no row with y=1 and needs about" in found.words()
    assert np.isfinite(found.rows_needed["b"])
    assert found.rows_needed["b"] >= 1


@pytest.mark.parametrize("constraint", EMPTY, ids=lambda c: f"{c.name}-{c.kind}-{c.reference}")
def test_an_empty_cell_may_have_any_rate(constraint: Any) -> None:
    found = without_an_event(constraint)
    if constraint.kind == "ratio":
        assert found.lower == 0
    else:
        assert 0.5 < found.upper <= 1  # as far from b as a rate near .5 can be
    excluded = replace(constraint, weights={"b": 0})
    known = without_an_event(excluded)
    assert known.achieved == found.achieved
    if not isinstance(constraint, EqualizedOdds):
        assert known.verdict is Verdict.MET
    assert not known.empty


def test_a_bound_that_the_other_groups_break_is_not_met() -> None:
    found = without_an_event(EqualOpportunity(difference_bound=0.1), gap=1000)
    assert found.verdict is Verdict.NOT_MET
    assert not found.rows_needed


def test_min_count_does_not_excuse_an_empty_cell() -> None:
    found = without_an_event(EMPTY[0], rows="steering", min_count=0)
    assert found.rows_needed == {"b": 1.0}


def test_a_group_of_the_scheme_without_any_row_is_judged() -> None:
    scheme = Groups.from_sensitive(["a", "b", "c"]).scheme
    y, p, group = rows_with({"a": (500, 1000), "c": (500, 1000)})
    groups = Groups(scheme, scheme.encode(group))
    found = fairness_report(y, p, groups, difference_bound=BOUND).results[0]
    assert set(found.counts) == {"a", "c"}
    assert found.verdict is Verdict.TOO_FEW_ROWS
    assert "'b' has no row and needs about" in found.words()
    loss = fairness_report(y, p, groups, BoundedGroupLoss(upper_bound=0.7)).results[0]
    assert (loss.verdict, loss.upper) == (Verdict.TOO_FEW_ROWS, 1.0)


@pytest.mark.parametrize("kind", ["difference_bound", "ratio_bound"])
def test_one_group_with_rows_beside_an_empty_one_cannot_tell(kind: str) -> None:
    y, group = np.repeat([1, 0, 0], [200, 200, 50]), np.repeat(["a", "b"], [400, 50])
    for reference in ("pairwise", "overall"):
        constraint = EqualOpportunity(reference=reference, **{kind: 0.5})
        found = fairness_report(y, np.arange(450) % 2, group, constraint).results[0]
        assert found.verdict is Verdict.TOO_FEW_ROWS
        assert {found.highest, found.lowest} == {"a", "b"}
        assert np.isfinite([found.achieved, found.lower, found.upper, found.pairwise]).all()


def test_an_event_without_any_row_is_no_comparison() -> None:
    with pytest.raises(FairtrainError, match="compares at least two groups"):
        fairness_report([0, 0], [0, 1], ["a", "b"], "equal_opportunity", positive_label=1)


def test_a_group_of_one_loss_widens_the_limits_without_end() -> None:
    y, p = np.arange(401) % 2, np.full(401, 0.001)
    group = ["a"] * 200 + ["b"] * 200 + ["one"]
    constraint = BoundedGroupLoss(loss="log_loss", upper_bound=9.0)
    found = fairness_report(y, p, group, constraint).results[0]
    assert (found.verdict, found.upper) == (Verdict.TOO_FEW_ROWS, np.inf)


def test_met_is_rarely_false_where_events_are_rare() -> None:
    """True positive rates of .9, .9 and .5 in the population; c has 60 rows, 2 % of them y=1."""
    rng = np.random.default_rng(0)
    groups = Groups.from_sensitive(np.repeat(["a", "b", "c"], [1000, 1000, 60]))
    said = []
    for _ in range(120):
        y = (rng.random(2060) < np.where(groups.codes < 2, 0.3, 0.02)).astype(float)
        p = (rng.random(2060) < np.where(groups.codes < 2, 0.9, 0.5)).astype(float)
        rows = Rows.judged(y, p, groups)
        found = judge(EqualOpportunity(difference_bound=0.2), rows, "certification", 0.95)
        said.append(found.verdict is Verdict.MET)
    assert np.mean(said) <= 0.05


@pytest.mark.parametrize("ratio", [False, True])
def test_a_limit_on_the_bound_keeps_it_and_breaks_nothing(ratio: bool) -> None:
    """The verdict turns at equality: limits may touch the bound from either side."""

    def verdict(bound: float) -> Verdict:
        kind = {"ratio_bound": bound} if ratio else {"difference_bound": bound}
        return judged({"a": (36, 60), "b": (24, 60)}, DemographicParity(**kind)).verdict

    some = judged(
        {"a": (36, 60), "b": (24, 60)},
        DemographicParity(ratio_bound=0.6) if ratio else DemographicParity(difference_bound=0.2),
    )
    far, near = (some.lower, some.upper) if ratio else (some.upper, some.lower)
    stricter = 1.0 if ratio else 0.0
    assert verdict(far) is Verdict.MET
    assert verdict(np.nextafter(far, stricter)) is Verdict.TOO_FEW_ROWS
    assert verdict(np.nextafter(near, stricter)) is Verdict.NOT_MET
    assert verdict(near) is Verdict.TOO_FEW_ROWS


@pytest.mark.parametrize("ratio", [False, True])
def test_a_mixture_on_its_bound_is_within_it(ratio: bool) -> None:
    """What was achieved may pass the bound by rounding, by 1e-9, and by no more."""
    rates = {"a": (500, 1000), "b": (400, 1000)}

    def verdict(bound: float) -> Verdict:
        kind = {"ratio_bound": bound} if ratio else {"difference_bound": bound}
        return judged(rates, DemographicParity(**kind), rows="steering", min_count=1).verdict

    achieved, harder = (0.8, 1e-9) if ratio else (0.1, -1e-9)
    assert verdict(achieved) is Verdict.NOT_CERTIFIED
    assert verdict(achieved + 0.9 * harder) is Verdict.NOT_CERTIFIED
    assert verdict(achieved + 1.1 * harder) is not Verdict.NOT_CERTIFIED


@pytest.mark.parametrize(
    ("rows", "expected"),
    [(29, Verdict.TOO_FEW_ROWS), (30, Verdict.NOT_CERTIFIED)],
)
def test_min_count_rows_are_enough_on_steering_rows(rows: int, expected: Verdict) -> None:
    rates = {"a": (500, 1000), "b": (rows // 2, rows)}
    assert judged(rates, rows="steering", min_count=30).verdict is expected


BOTH = (False, True)


@pytest.mark.parametrize("role", ["certification", "steering", "training"])
@pytest.mark.parametrize("within", BOTH)
@pytest.mark.parametrize("short", BOTH)
@pytest.mark.parametrize("small", BOTH)
def test_the_table_of_verdicts(role: Any, within: bool, short: bool, small: bool) -> None:
    state = {"within": within, "short": short, "small": small}
    assert verdicts._verdict(role, shown=False, broken=True, **state) is Verdict.NOT_MET
    open_ = verdicts._verdict(role, shown=False, broken=False, **state)
    if role == "certification":
        assert verdicts._verdict(role, shown=True, broken=False, **state) is Verdict.MET
        few = within or short
        assert open_ is (Verdict.TOO_FEW_ROWS if few else Verdict.NOT_MET)
    elif within:
        assert open_ is (Verdict.TOO_FEW_ROWS if small else Verdict.NOT_CERTIFIED)
    else:
        assert open_ is (Verdict.TOO_FEW_ROWS if short else Verdict.NOT_MET)


@pytest.mark.parametrize("ratio", [False, True])
def test_fairlearn_s_reference_weighs_groups_by_their_weight(ratio: bool) -> None:
    y, p, group = rows_with({"a": (60, 100), "b": (20, 50)})
    weight = np.where(group == "a", 1.0, 5.0)
    bound = {"ratio_bound": 0.5} if ratio else {"difference_bound": 0.5}
    constraint = DemographicParity(reference="overall", **bound)
    found = fairness_report(y, p, group, constraint, sample_weight=weight).results[0]
    overall, own = np.average(p, weights=weight), np.array([0.6, 0.4])
    expected = (
        np.minimum(own / overall, overall / own).min() if ratio else np.abs(own - overall).max()
    )
    assert found.achieved == pytest.approx(expected, abs=1e-12)
    assert found.pairwise == pytest.approx(0.4 / 0.6 if ratio else 0.2, abs=1e-12)


def test_the_former_name_of_not_certified_still_reads() -> None:
    assert Verdict("met_on_steering_rows") is Verdict.NOT_CERTIFIED
    assert Verdict.MET_ON_STEERING_ROWS is Verdict.NOT_CERTIFIED
    with pytest.raises(ValueError, match="perhaps"):
        Verdict("perhaps")


def test_a_number_of_ones_own_is_advised_on_its_own_scale() -> None:
    rng = np.random.default_rng(0)
    who = np.repeat(["a", "b"], [300, 40])
    decided = (rng.random(340) < np.where(who == "a", 0.4, 0.62)).astype(int)
    limit = AtLeast("selection_rate", {"a": 0.2, "b": 0.6})
    result = fairness_report(np.ones(340, int), decided, who, limit).results[0]
    assert result.verdict is Verdict.TOO_FEW_ROWS
    assert (result.bound, result.lowest) == (0.6, "b")
    assert result.true_gap is not None
    assert result.true_gap > result.bound
    assert result.smallest_bound is not None  # one number that these rows show of both
    assert "certify no bound" not in str(result)


def test_endless_rows_are_not_about_endless() -> None:
    report = fairness_report([0, 1] * 50, [0] * 100, ["a", "b"] * 50, ratio_bound=0.8)
    assert "needs more than can be had" in str(report.results[0])


def test_numbers_that_were_hidden_are_said_to_be_missing() -> None:
    found = fairness_report(np.arange(400) % 2, np.arange(400) % 3 == 0, ["a", "b"] * 200)
    hidden = replace(found.results[0], achieved=np.nan, lower=np.nan, highest="", lowest="")
    assert hidden.words() == "the numbers rest on few rows, and were left out when this was saved."
