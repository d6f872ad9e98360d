import numpy as np
import pytest

from fairtrain.constraints import BoundedGroupLoss, DemographicParity
from fairtrain.constraints.bounds import RateBounds
from fairtrain.training.loop.game import best_mixture

PARITY = RateBounds(DemographicParity(difference_bound=0.1), np.ones(2))


def test_two_iterates_keep_a_bound_that_neither_keeps():
    rates = np.array([[0.7, 0.4], [0.4, 0.7], [0.5, 0.5]])
    found = best_mixture(rates, np.array([0.9, 0.88, 0.6]), [PARITY])
    # share s of the first: the gap is |0.6 s - 0.3|, and the larger share is the more accurate
    assert found == pytest.approx([2 / 3, 1 / 3, 0])


def test_one_iterate_is_enough_where_it_is_best():
    rates = np.array([[0.5, 0.45], [0.9, 0.1]])
    found = best_mixture(rates, np.array([0.9, 0.8]), [PARITY])
    assert found.tolist() == [1, 0]


def test_three_iterates_keep_what_no_two_of_them_keep():
    bounds = RateBounds(DemographicParity(difference_bound=0.01), np.ones(3))
    rates = np.array([[0.9, 0.3, 0.3], [0.3, 0.9, 0.3], [0.3, 0.3, 0.9], [0.5, 0.5, 0.5]])
    found = best_mixture(rates, np.array([0.9, 0.9, 0.9, 0.6]), [bounds])
    assert found[:3] == pytest.approx(1 / 3, abs=0.02)
    assert found[3] == 0


def test_no_mixture_keeps_what_none_can():
    rates = np.array([[0.9, 0.1], [0.8, 0.1]])
    assert best_mixture(rates, np.array([0.9, 0.8]), [PARITY]) is None


@pytest.mark.parametrize(
    "constraint",
    [
        DemographicParity(difference_bound=0.1),
        DemographicParity(ratio_bound=0.8),
        DemographicParity(difference_bound=0.05, reference="overall"),
        BoundedGroupLoss(upper_bound=0.5),
    ],
)
def test_the_mixture_keeps_every_kind_of_bound(constraint):
    rng = np.random.default_rng(0)
    bounds = RateBounds(constraint, np.ones(3))
    rates, performance = rng.uniform(0.3, 0.6, (12, 3)), rng.uniform(size=12)
    found = best_mixture(rates, performance, [bounds])
    assert found is not None
    assert bounds.excess(found @ rates) <= 1e-9
    gained = found @ performance
    alone = [p for r, p in zip(rates, performance, strict=True) if bounds.excess(r) <= 1e-9]
    assert gained >= max(alone, default=0)


def test_an_empty_group_takes_no_part():
    bounds = RateBounds(DemographicParity(difference_bound=0.1), np.ones(3))
    rates = np.array([[0.7, 0.4, np.nan], [0.4, 0.7, np.nan]])
    assert best_mixture(rates, np.array([0.9, 0.9]), [bounds]) is not None
