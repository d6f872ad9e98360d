import numpy as np
import pytest

from fairtrain import fairness_report
from fairtrain.constraints import DemographicParity, EqualizedOdds
from fairtrain.data.groups import Groups
from fairtrain.lagrangian import explain_training, families_of
from fairtrain.lagrangian.diagnosis import base_rate_conflict, oscillation
from fairtrain.lagrangian.multipliers import Ascent, Multipliers

T = np.arange(60)


@pytest.mark.parametrize(
    ("excess", "pulls", "sign"),
    [
        (0.001 * np.sin(T), 1 + 0.01 * np.sin(T), "none"),
        (0.1 * np.sin(T / 5), 1 + 0.8 * np.cos(T / 5), "dual"),
        (0.1 * np.cos(np.pi * T), np.ones(60), "primal"),
        (0.2 * np.exp(-T / 10), np.ones(60), "none"),
        (np.full(60, np.nan), np.ones(60), "none"),
    ],
)
def test_oscillation_is_told_from_noise_of_the_weights(excess, pulls, sign):
    assert oscillation(excess, pulls, 0.02) == sign


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


def test_the_outcome_is_said_in_words():
    scheme = Groups.from_sensitive(["a", "b"]).scheme
    constraint = DemographicParity(difference_bound=0.05)
    families = families_of([constraint], scheme)
    m = Multipliers([families[0].bounds], Ascent(1.0), cap=0.1)
    m.update(np.array([0.9, 0.1]))
    report = fairness_report([0, 1] * 50, [1, 1] * 50, ["a"] * 50 + ["b"] * 50, constraint)
    said = "\n".join(
        explain_training(
            report,
            families,
            m,
            (0.1 * np.sin(T / 5))[:, None],
            (1 + 0.8 * np.cos(T / 5))[:, None],
            slack=np.array([0.03]),
        )
    )
    for words in ("reached their cap (0.1)", "gave way by 0.030", "lower dual_lr", "everybody"):
        assert words in said
