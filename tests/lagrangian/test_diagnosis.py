import numpy as np
import pytest

from fairtrain import fairness_report
from fairtrain.constraints import DemographicParity, EqualizedOdds
from fairtrain.data.groups import Groups
from fairtrain.lagrangian import (
    NETWORKS,
    DualController,
    DualSettings,
    explain_training,
    families_of,
)
from fairtrain.lagrangian.diagnosis import base_rate_conflict, oscillation
from fairtrain.lagrangian.multipliers import Ascent
from fairtrain.metrics import Verdict

T = np.arange(60)


@pytest.mark.parametrize(
    ("excess", "sums", "sign"),
    [
        (0.001 * np.sin(T), 1 + 0.01 * np.sin(T), "none"),
        (0.1 * np.sin(T / 5), 1 + 0.8 * np.cos(T / 5), "dual"),
        (0.1 * np.cos(np.pi * T), np.ones(60), "primal"),
        (0.2 * np.exp(-T / 10), np.ones(60), "none"),
        (np.full(60, np.nan), np.ones(60), "none"),
    ],
)
def test_oscillation_is_told_from_noise_of_the_weights(excess, sums, sign):
    assert oscillation(excess, sums, 0.02) == sign


def test_far_base_rates_make_two_notions_conflict():
    both = [DemographicParity(difference_bound=0.02), EqualizedOdds(difference_bound=0.05)]
    said = base_rate_conflict(both, np.array([0.6, 0.2]), ["a", "b"])
    assert said is not None
    assert "0.400 apart ('a' 0.600, 'b' 0.200)" in said
    assert base_rate_conflict(both, np.array([0.30, 0.29]), ["a", "b"]) is None
    assert base_rate_conflict(both[:1], np.array([0.6, 0.2]), ["a", "b"]) is None


@pytest.mark.parametrize(
    ("parity", "odds", "rates", "conflict"),
    [
        ({"ratio_bound": 0.8}, {"ratio_bound": 0.8}, [0.6, 0.2], True),
        ({"ratio_bound": 0.8}, {"ratio_bound": 0.8}, [0.6, 0.5], False),  # 5/6 keeps four fifths
        ({"ratio_bound": 0.9}, {"difference_bound": 0.05}, [0.6, 0.5], True),
        ({"ratio_bound": 0.8}, {"difference_bound": 0.01}, [0.06, 0.02], True),  # rare outcomes
        ({"difference_bound": 0.02}, {"ratio_bound": 0.9}, [0.6, 0.2], True),
        ({"difference_bound": 0.02}, {"ratio_bound": 0.5}, [0.6, 0.2], False),
        ({"ratio_bound": 0.8}, {"ratio_bound": 0.8}, [0.0, 0.0], False),
    ],
)
def test_ratio_bounds_conflict_like_the_differences_they_allow(parity, odds, rates, conflict):
    both = [DemographicParity(**parity), EqualizedOdds(**odds)]
    assert (base_rate_conflict(both, np.array(rates), ["a", "b"]) is not None) is conflict


def settings(cap):
    return DualSettings(NETWORKS, 1, cap, confidence=None, min_count=30, constant=-np.inf)


def controller(constraint, excess, sums, cap=50.0):
    """A loop that left this trace behind, and multipliers moved by rates far apart."""
    families = families_of([constraint], Groups.from_sensitive(["a", "b"]).scheme)
    dual = DualController(families, Ascent(1.0), settings(cap))
    dual.multipliers.update(np.array([0.9, 0.1]))
    dual.excess, dual.sums = list(excess[:, None]), list(sums[:, None])
    return dual


SWINGS = 0.1 * np.sin(T / 5), 1 + 0.8 * np.cos(T / 5)
STILL = np.full(60, -0.01), np.ones(60)
CONSTRAINT = DemographicParity(difference_bound=0.05)


def test_the_outcome_is_said_in_words():
    dual = controller(CONSTRAINT, *SWINGS, cap=0.1)
    dual.yielding.slack = np.array([0.03])
    report = fairness_report([0, 1] * 50, [1, 1] * 50, ["a"] * 50 + ["b"] * 50, CONSTRAINT)
    said = "\n".join(explain_training(report, dual))
    for words in ("reached their cap (0.1)", "gave way by 0.030", "lower dual_lr", "everybody"):
        assert words in said


def said_of(dual, **more):
    rng = np.random.default_rng(0)
    y, group = rng.integers(0, 2, 400), np.repeat(["a", "b"], 200)
    report = fairness_report(y, y, group, CONSTRAINT)
    return explain_training(report, dual, **more)


def test_a_quiet_training_needs_no_word():
    assert said_of(controller(CONSTRAINT, *STILL)) == []
    assert said_of(controller(CONSTRAINT, STILL[0][:0], STILL[1][:0])) == []


def test_the_advice_names_the_learning_rate_to_lower():
    weights = 0.1 * np.cos(np.pi * T), np.ones(60)
    named = {"rates": ("learning_rate", "price_rate")}
    (said,) = said_of(controller(CONSTRAINT, *weights), **named)
    assert "stand still: lower learning_rate, or let it decay" in said
    (said,) = said_of(controller(CONSTRAINT, *SWINGS), **named)
    assert "together with the multipliers: lower price_rate." in said


def test_the_base_rates_explain_only_what_failed():
    families = families_of(
        [CONSTRAINT, EqualizedOdds(difference_bound=0.05)],
        Groups.from_sensitive(["a", "b"]).scheme,
    )
    dual = DualController(families, Ascent(1.0), settings(50.0))
    rates = {"base_rates": np.array([0.8, 0.2]), "names": ["a", "b"]}
    y, group = np.array([0, 1] * 4000), np.repeat(["a", "b"], 4000)
    failed = fairness_report(y, (group == "a").astype(int), group, CONSTRAINT)
    assert "base rates lie 0.600 apart" in "".join(explain_training(failed, dual, **rates))
    assert explain_training(failed, dual) == []
    met = fairness_report(y, y, group, DemographicParity(difference_bound=0.2))
    assert met.verdict is Verdict.MET
    assert explain_training(met, dual, **rates) == []


def test_a_conflict_is_one_of_rates_further_apart_than_what_was_allowed():
    def said(parity, odds, rates):
        both = [DemographicParity(difference_bound=parity), EqualizedOdds(difference_bound=odds)]
        return base_rate_conflict(both, np.array(rates), ["a", "b", "c"])

    assert said(0.01, 0.01, [0.30, 0.36, np.nan]) is not None
    assert said(0.01, 0.01, [0.30, 0.34, np.nan]) is None
    assert said(0.40, 0.01, [0.2, 0.5, np.nan]) is None
    assert said(0.01, 0.40, [0.2, 0.5, np.nan]) is None
    assert said(0.01, 0.01, [0.2, np.nan, np.nan]) is None
    assert "equalized odds" in said(0.01, 0.01, [0.2, 0.5, 0.3])
    assert "('b' 0.500, 'a' 0.200)" in said(0.01, 0.01, [0.2, 0.5, 0.3])
