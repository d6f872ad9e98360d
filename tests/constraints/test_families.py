import numpy as np

from fairtrain.constraints import BoundedGroupLoss, DemographicParity, EqualizedOdds
from fairtrain.data.groups import Groups
from fairtrain.lagrangian import families_of

SCHEME = Groups.from_sensitive({"race": ["a", "a", "b", "b"], "sex": ["f", "m", "f", "m"]}).scheme


def test_one_family_for_every_rate_and_partition():
    families = families_of(
        [DemographicParity(over="race"), EqualizedOdds(over=["race", "sex"])], SCHEME
    )
    assert [f.name for f in families] == [
        "demographic_parity over race",
        "equalized_odds over race x sex: false_positive_rate",
        "equalized_odds over race x sex: true_positive_rate",
    ]
    assert [len(f.scheme) for f in families] == [2, 4, 4]
    assert families[0].parent.tolist() == [0, 0, 1, 1]


def test_every_class_is_an_outcome_except_for_errors():
    families = families_of(
        [DemographicParity(), BoundedGroupLoss(upper_bound=0.3)], SCHEME, outcomes=("x", "y", "z")
    )
    assert [f.outcome for f in families] == ["x", "y", "z", None]


def test_weights_of_a_constraint_become_importance():
    family = families_of([DemographicParity(over="race", weights={"b": 3.0})], SCHEME)[0]
    np.testing.assert_allclose(family.bounds.importance, [1.0, 3.0])


def test_an_intersection_knows_its_coarser_groups_and_a_column_all_rows():
    crossed, alone = families_of([DemographicParity(), DemographicParity(over="race")], SCHEME)
    assert sorted(size for size, _ in crossed.coarser) == [2, 2]
    assert alone.coarser[0][0] == 1
