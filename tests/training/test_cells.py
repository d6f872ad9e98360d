from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from fairtrain import fairness_report
from fairtrain.constraints import (
    AtLeast,
    AtMost,
    BoundedGroupLoss,
    DemographicParity,
    EqualizedOdds,
    ErrorRateParity,
)
from fairtrain.constraints.table import RateTable
from fairtrain.data.groups import Groups
from fairtrain.exceptions import InvalidParameterError
from fairtrain.lagrangian import families_of
from fairtrain.losses.base_loss import mean_base_loss
from fairtrain.training.batches.batch import Batch
from fairtrain.training.heads import Head
from fairtrain.training.loop.cells import CellSums, cluster_effects, fixed, measure

RNG = np.random.default_rng(0)
N = 400
RACE, SEX = RNG.choice(["a", "b", "c"], N), RNG.choice(["f", "m"], N)
GROUPS = Groups.from_sensitive({"race": RACE, "sex": SEX})
CONSTRAINTS = [
    DemographicParity(over="race"),
    EqualizedOdds(),
    BoundedGroupLoss(upper_bound=0.4, over="sex"),
]


def batches(x, y, weight=None, size=64):
    codes = torch.from_numpy(GROUPS.codes)
    for start in range(0, len(y), size):
        part = slice(start, start + size)
        yield Batch(x[part], y[part], codes[part], None if weight is None else weight[part])


def test_hard_rates_are_those_of_the_report():
    x = torch.from_numpy(RNG.normal(size=(N, 1))).float()
    y = torch.from_numpy(RNG.integers(0, 2, N))
    cells = CellSums(families_of(CONSTRAINTS, GROUPS.scheme), Head("binary"))
    found = measure(
        nn.Identity(), batches(x, y), cells,
        lambda z, t, w: mean_base_loss(nn.BCEWithLogitsLoss(), z, t, w),
    )  # fmt: skip
    decided = (x[:, 0] > 0).numpy().astype(int)
    report = fairness_report(y.numpy(), decided, {"race": RACE, "sex": SEX}, CONSTRAINTS)
    assert found.performance == pytest.approx(report.accuracy[0])
    assert found.loss == pytest.approx(
        float(nn.functional.binary_cross_entropy_with_logits(x[:, 0], y.float())), abs=1e-6
    )
    by_race = found.rates[:3]
    assert np.ptp(by_race) == pytest.approx(report.results[0].achieved)
    assert max(np.ptp(found.rates[3:9]), np.ptp(found.rates[9:15])) == pytest.approx(
        report.results[1].achieved
    )
    assert found.rates[15:].max() == pytest.approx(report.results[2].achieved)
    assert found.counts[:3].sum() == N
    assert found.minority == pytest.approx(min(decided.mean(), 1 - decided.mean()))


@pytest.mark.parametrize("weighted", [False, True])
def test_cells_within_strata_and_averages_over_them_are_the_tables(weighted):
    asked = [
        EqualizedOdds(over="sex", given="race"),
        DemographicParity(over="sex"),
        EqualizedOdds(over="sex", given="race", pooled=True),
        AtMost("selection_rate", 0.5, overall=True, given="sex"),
    ]
    families = families_of(asked, GROUPS.scheme)
    assert len(families) == 2 * 3 + 1 + 2 + 2
    x, y = torch.from_numpy(RNG.normal(size=(N, 1))), torch.from_numpy(RNG.integers(0, 2, N))
    weight = torch.from_numpy(RNG.uniform(0.5, 2, N)) if weighted else None
    known = fixed(families, batches(x, y, weight), Head("binary"))
    found = measure(
        nn.Identity(), batches(x, y, weight), CellSums(known, Head("binary")),
        lambda z, t, w: mean_base_loss(nn.BCEWithLogitsLoss(), z, t, w),
    )  # fmt: skip
    own = None if weight is None else weight.numpy()
    table = RateTable(families, y.numpy().astype(float), GROUPS.codes, own)
    decided = (x[:, 0] > 0).numpy().astype(float)
    np.testing.assert_allclose(found.rates, table(decided), rtol=1e-6)
    np.testing.assert_allclose(found.counts, table.totals, rtol=1e-6)
    np.testing.assert_allclose(found.effective, table.effective, rtol=1e-6)


def test_cells_of_several_classes_within_strata():
    outcomes = [0, 1, 2]
    asked = [EqualizedOdds(over="sex", given="race")]
    families = families_of(asked, GROUPS.scheme, outcomes)
    x, y = torch.from_numpy(RNG.normal(size=(N, 3))), torch.from_numpy(RNG.integers(0, 3, N))
    found = measure(
        nn.Identity(), batches(x, y), CellSums(families, Head("multiclass", 3)),
        lambda z, t, w: mean_base_loss(nn.CrossEntropyLoss(), z, t, w),
    )  # fmt: skip
    decided = x.argmax(1).numpy()
    at = 0
    for label in (0, 1):
        for outcome in outcomes:
            for race in "abc":
                for sex in "fm":
                    rows = (race == RACE) & (sex == SEX) & ((y.numpy() == outcome) == label)
                    assert found.rates[at] == pytest.approx((decided[rows] == outcome).mean())
                    at += 1
    pooled = families_of([replace(asked[0], pooled=True)], GROUPS.scheme, outcomes)
    with pytest.raises(InvalidParameterError, match="two classes only"):
        fixed(pooled, [], Head("multiclass", 3))


def test_accuracy_of_several_classes_is_of_the_true_class_as_errors_are():
    outcomes = ["low", "middle", "high"]
    floor, cap = AtLeast("accuracy", 0.7), AtMost("error_rate", 0.3)
    right, wrong = families_of([floor, cap], GROUPS.scheme, outcomes)
    assert right.outcome is wrong.outcome is None
    x, y = torch.from_numpy(RNG.normal(size=(N, 3))), torch.from_numpy(RNG.integers(0, 3, N))
    found = measure(
        nn.Identity(), batches(x, y), CellSums([right, wrong], Head("multiclass", 3)),
        lambda z, t, w: mean_base_loss(nn.CrossEntropyLoss(), z, t, w),
    )  # fmt: skip
    accuracy, error = np.split(found.rates, 2)
    np.testing.assert_allclose(accuracy + error, 1)
    assert (accuracy * found.counts[:6]).sum() / N == pytest.approx(found.performance)


def test_weights_count_as_repeated_rows():
    x = torch.from_numpy(RNG.normal(size=(N, 1))).float()
    y = torch.from_numpy(RNG.integers(0, 2, N))
    weight = torch.from_numpy(RNG.integers(1, 4, N)).float()
    cells = CellSums(families_of(CONSTRAINTS, GROUPS.scheme), Head("binary"))

    def loss(z, t, w):
        return mean_base_loss(nn.BCEWithLogitsLoss(), z, t, w)

    weighted = measure(nn.Identity(), batches(x, y, weight), cells, loss)
    times = weight.long()
    codes = torch.from_numpy(GROUPS.codes).repeat_interleave(times)
    rows = [Batch(x.repeat_interleave(times, 0), y.repeat_interleave(times), codes)]
    repeated = measure(nn.Identity(), rows, cells, loss)
    np.testing.assert_allclose(weighted.rates, repeated.rates)
    assert weighted.performance == pytest.approx(repeated.performance)
    assert weighted.loss == pytest.approx(repeated.loss, rel=1e-5)
    assert (weighted.effective < weighted.counts).all()


def test_several_classes_are_outcomes_of_their_own_except_for_errors():
    constraints = [DemographicParity(over="sex"), ErrorRateParity(over="sex")]
    families = families_of(constraints, GROUPS.scheme, outcomes=("x", "y", "z"))
    cells = CellSums(families, Head("multiclass", 3))
    y = torch.from_numpy(RNG.integers(0, 3, N))
    chosen = torch.from_numpy(RNG.integers(0, 3, N))
    decisions = nn.functional.one_hot(chosen, 3).double()
    sums, counts = cells(decisions, y, torch.from_numpy(GROUPS.codes))
    rates = (sums / counts).numpy().reshape(4, 2)
    for c in range(3):
        for g, sex in enumerate("fm"):
            assert rates[c, g] == pytest.approx((chosen.numpy() == c)[sex == SEX].mean())
    wrong = (chosen != y).numpy()
    np.testing.assert_allclose(rates[3], [wrong[sex == SEX].mean() for sex in "fm"])


def test_rows_of_unknown_group_are_left_out_and_gradients_flow():
    cells = CellSums(families_of([DemographicParity(over="race")], GROUPS.scheme), Head("binary"))
    p = torch.tensor([0.2, 0.6, 0.9], requires_grad=True)
    codes = torch.tensor([0, -1, 5])
    sums, counts = cells(p, torch.tensor([0, 1, 1]), codes)
    assert counts.tolist() == [1.0, 0.0, 1.0]
    sums.sum().backward()
    assert p.grad.tolist() == [1.0, 0.0, 1.0]


def test_clusters_take_from_effective_rows():
    copies, generator = 4, np.random.default_rng(1)
    codes = np.repeat(generator.integers(0, len(GROUPS.scheme), 2000), copies)
    y = np.repeat(generator.integers(0, 2, 2000), copies)
    batch = Batch(
        torch.zeros(len(y), 1),
        torch.from_numpy(y),
        torch.from_numpy(codes),
        clusters=torch.arange(2000).repeat_interleave(copies),
    )
    families = families_of([EqualizedOdds(), DemographicParity(over="race")], GROUPS.scheme)
    effects = cluster_effects(families, [batch])
    np.testing.assert_allclose(effects, copies, rtol=0.02)  # each row stands there four times
    np.testing.assert_array_equal(cluster_effects(families, [batch._replace(clusters=None)]), 1)
    outcomes = families_of([DemographicParity()], GROUPS.scheme, ["no", "yes"])
    both = cluster_effects(outcomes, [batch], ["no", "yes"])
    np.testing.assert_allclose(both, copies, rtol=0.02)
    cells = CellSums(families, Head("binary"))
    plain = measure(nn.Identity(), [batch], cells, lambda z, t, w: z.mean())
    cells.effects = effects
    less = measure(nn.Identity(), [batch], cells, lambda z, t, w: z.mean())
    np.testing.assert_allclose(less.effective * effects, plain.effective)
    np.testing.assert_array_equal(less.rates, plain.rates)
