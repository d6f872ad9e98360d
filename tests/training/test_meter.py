from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from fairtrain import constraints as c
from fairtrain.data.groups import Groups
from fairtrain.exceptions import InvalidDataError, InvalidParameterError
from fairtrain.metrics import fairness_report, gap, group_rates
from fairtrain.training import EpochFairnessMeter, evaluate_fairness


@pytest.fixture
def people() -> tuple[torch.Tensor, np.ndarray, pd.DataFrame]:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"race": rng.choice(["a", "b", "c"], 500), "sex": rng.choice(["f", "m"], 500)}
    )
    logits = torch.tensor(rng.normal(size=500) + (frame["sex"] == "m").to_numpy())
    return logits, rng.integers(0, 2, 500), frame


ALL = ["demographic_parity", "equal_opportunity", "predictive_equality", "error_rate_parity"]


def metered(people: Any, constraints: Any, batch: int = 64, **settings: Any) -> Any:
    logits, labels, frame = people
    groups = Groups.from_sensitive(frame)
    meter = EpochFairnessMeter(constraints, groups=groups, **settings)
    for start in range(0, len(labels), batch):
        part = slice(start, start + batch)
        meter.update(logits[part], torch.tensor(labels[part]), torch.tensor(groups.codes[part]))
    return meter


@pytest.mark.parametrize("threshold", [0.5, 0.8])
def test_same_numbers_as_the_metrics(people: Any, threshold: float) -> None:
    logits, labels, frame = people
    found = metered(people, ALL, threshold=threshold).compute()
    decisions = (torch.sigmoid(logits) >= threshold).int().numpy()
    expected = group_rates(labels, decisions, frame)
    for name, measured in found.rates.items():
        for g, group in enumerate(found.group_names):
            row = expected[(expected["group"] == group) & (expected["metric"] == name)]
            if len(row):
                assert measured.rate[g].item() == pytest.approx(row["rate"].item())
                assert measured.count[g].item() == row["count"].item()
        assert measured.gap == pytest.approx(gap(labels, decisions, frame, name).value)
    assert found.accuracy == pytest.approx((decisions == labels).mean())
    assert found.n_rows == 500


def test_batches_do_not_matter(people: Any) -> None:
    assert metered(people, ALL, 7).compute().gaps == metered(people, ALL, 500).compute().gaps


def test_over_merges_intersections(people: Any) -> None:
    logits, labels, frame = people
    constraint = c.EqualizedOdds(over="race")
    found = metered(people, constraint).compute()
    decisions = (logits >= 0).int().numpy()
    expected = max(
        gap(labels, decisions, frame, name, over="race").value
        for name in ("true_positive_rate", "false_positive_rate")
    )
    assert found.gaps[constraint.name] == pytest.approx(expected)
    with pytest.raises(InvalidParameterError, match="groups="):
        EpochFairnessMeter(constraint, num_groups=6)


def test_bounded_group_loss_gives_the_largest_mean(people: Any) -> None:
    logits, labels, frame = people
    found = metered(people, c.BoundedGroupLoss(upper_bound=0.3)).compute()
    wrong = pd.Series((logits >= 0).int().numpy() != labels)
    expected = wrong.groupby([frame["race"], frame["sex"]]).mean().max()
    assert found.gaps["bounded_group_loss"] == pytest.approx(expected)


def test_empty_groups_are_masked_and_unknown_rows_count_for_accuracy_alone() -> None:
    meter = EpochFairnessMeter("equal_opportunity", num_groups=3)
    meter.update(torch.tensor([1.0, -1.0, 1.0]), torch.tensor([1, 1, 0]), torch.tensor([0, 2, -1]))
    found = meter.compute()
    assert found.rates["true_positive_rate"].count.tolist() == [1, 0, 1]
    assert found.gaps == {"equal_opportunity": 1.0}
    assert found.accuracy == pytest.approx(1 / 3)
    meter.reset()
    meter.update(torch.tensor([1.0]), torch.tensor([1]), torch.tensor([0]))
    assert math.isnan(meter.compute().gaps["equal_opportunity"])


def test_weights() -> None:
    meter = EpochFairnessMeter(num_groups=2)
    meter.update(
        torch.tensor([1.0, -1.0, 1.0]),
        torch.ones(3),
        torch.tensor([0, 0, 1]),
        sample_weight=torch.tensor([3.0, 1.0, 1.0]),
    )
    assert meter.compute().gaps["demographic_parity"] == pytest.approx(0.25)


def test_number_of_groups_grows_and_two_logits_are_read() -> None:
    meter = EpochFairnessMeter()
    meter.update(torch.tensor([[0.0, 1.0]]), torch.tensor([1]), torch.tensor([0]))
    meter.update(torch.tensor([[1.0, 0.0]]), torch.tensor([1]), torch.tensor([4]))
    assert meter.compute().rates["selection_rate"].count.tolist() == [1, 0, 0, 0, 1]


@pytest.mark.parametrize(
    "floor",
    [
        c.AtLeast("selection_rate", {"0": 0.9, "2": 0.2}),
        c.AtMost("error_rate", 0.1, groups="1"),
        c.AtLeast("accuracy", 0.5),
        c.AtMost("selection_rate", 0.3, overall=True),
        c.BoundedGroupLoss(upper_bound=0.2, loss="zero_one", weights={"0": 0.0}),
    ],
)
def test_floors_and_caps_are_those_of_the_report(floor: Any) -> None:
    rng = np.random.default_rng(0)
    scores, y, who = rng.normal(size=300), rng.integers(0, 2, 300), rng.integers(0, 3, 300)
    scores[who == 1] += 1
    groups = Groups.from_sensitive(who)
    meter = EpochFairnessMeter(floor, groups=groups)
    meter.update(*map(torch.from_numpy, (scores, y, groups.codes)))
    report = fairness_report(y, (scores >= 0).astype(int), who, [floor])
    assert list(meter.compute().gaps.values()) == pytest.approx([report.results[0].achieved])


def test_no_row_of_a_known_group_still_has_an_accuracy() -> None:
    meter = EpochFairnessMeter()
    meter.update(torch.tensor([1.0, 1.0]), torch.tensor([1, 0]), torch.tensor([-1, -1]))
    found = meter.compute()
    assert found.accuracy == 0.5
    assert math.isnan(found.gaps["demographic_parity"])


def test_codes_that_number_no_groups_are_refused() -> None:
    """A table of a thousand million groups is an allocation, not an error that one can read."""
    meter = EpochFairnessMeter()
    with pytest.raises(InvalidDataError, match="expected at most 1000000; number groups from 0"):
        meter.update(torch.zeros(2), torch.tensor([1, 0]), torch.tensor([0, 10**9]))
    with pytest.raises(InvalidParameterError, match="make at most 1000000 groups"):
        EpochFairnessMeter(num_groups=(1000, 1000, 1000))


def test_columns() -> None:
    meter = EpochFairnessMeter(num_groups=(2, 3))
    meter.update(torch.tensor([1.0]), torch.tensor([1]), torch.tensor([[1, 2]]))
    assert meter.compute().rates["selection_rate"].count.tolist() == [0, 0, 0, 0, 0, 1]


@pytest.mark.parametrize(
    ("logits", "labels", "codes", "message"),
    [
        ([[0.0, 1.0, 2.0]], [1], [0], "one or two logits"),
        ([0.0], [2], [0], "targets must be"),
        ([math.nan], [1], [0], "NaN"),
        ([0.0], [1], [5], "code 5"),
        ([0.0], [1], [0.0], "integer codes"),
        ([0.0, 1.0], [1], [0, 1], "targets must have shape"),
    ],
)
def test_bad_rows(logits: list, labels: list, codes: list, message: str) -> None:
    meter = EpochFairnessMeter(num_groups=2)
    with pytest.raises(InvalidDataError, match=message):
        meter.update(torch.tensor(logits), torch.tensor(labels), torch.tensor(codes))


def test_nothing_counted() -> None:
    with pytest.raises(InvalidDataError, match="no rows"):
        EpochFairnessMeter(num_groups=2).compute()
    with pytest.raises(InvalidDataError, match="no rows"):
        evaluate_fairness(nn.Identity(), [])
    with pytest.raises(InvalidParameterError, match="threshold"):
        EpochFairnessMeter(threshold=1.0)


class TestEvaluateFairness:
    """The report on a loader is the report on its rows."""

    def test_same_report_as_from_arrays(self, people: Any) -> None:
        logits, labels, frame = people
        groups = Groups.from_sensitive(frame)
        rows = TensorDataset(
            logits[:, None].float(), torch.tensor(labels), torch.tensor(groups.codes)
        )
        constraints = [c.DemographicParity(over="sex"), c.EqualizedOdds(), "error_rate_parity"]
        module = nn.Sequential(nn.Identity(), nn.Dropout(0.5))
        found = evaluate_fairness(
            module, DataLoader(rows, batch_size=33), constraints=constraints, groups=groups
        )
        decisions = (logits >= 0).int().numpy()
        expected = fairness_report(labels, decisions, groups, constraints)
        pd.testing.assert_frame_equal(found.frame(), expected.frame())
        assert found.accuracy == pytest.approx(expected.accuracy)
        pd.testing.assert_frame_equal(found.group_rates, expected.group_rates)
        assert module.training

    def test_mappings_structures_and_bare_codes(self) -> None:
        class Model(nn.Module):
            def forward(self, x: dict[str, torch.Tensor]) -> torch.Tensor:
                return x["a"] + x["b"][0]

        x = {"a": torch.tensor([1.0, -1.0, 2.0]), "b": [torch.zeros(3)]}
        batch = {
            "x": x,
            "y": torch.tensor([1, 0, 1]),
            "sensitive_features": torch.tensor([3, 3, 7]),
        }
        report = evaluate_fairness(Model(), [batch, batch], rows="steering")
        assert report.results[0].achieved == pytest.approx(0.5)
        assert set(report.group_rates["group"]) == {"3", "7"}
        assert report.n_rows == 6

    def test_sensitive_columns(self) -> None:
        codes = torch.cartesian_prod(torch.arange(2), torch.arange(3)).repeat(4, 1)
        batch = (torch.randn(24), torch.arange(24) % 2, codes)
        report = evaluate_fairness(nn.Identity(), [batch], num_groups=(2, 3))
        assert set(report.group_rates["group"]) >= {"0/0", "1/2"}

    @pytest.mark.parametrize("batch", [(torch.zeros(2), torch.zeros(2)), {"x": 1}, 3])
    def test_bad_batches(self, batch: object) -> None:
        with pytest.raises(InvalidDataError, match="batch"):
            evaluate_fairness(nn.Identity(), [batch])


def test_a_limit_is_read_in_the_groups_that_it_speaks_of(people: Any) -> None:
    logits, labels, frame = people
    limits = [
        c.AtLeast("recall", 0.1, over="sex", groups="m"),
        c.AtLeast("recall", {"f": 0.2, "m": 0.9}, over="sex"),
        c.AtMost("selection_rate", 0.2, overall=True),
    ]
    found = metered(people, limits).compute()
    decided = (logits.numpy() > 0).astype(int)
    report = fairness_report(labels, decided, frame, limits)
    of_m, own, everybody = (r.achieved for r in report.results)
    assert found.gaps[limits[0].name] == pytest.approx(of_m)
    assert found.gaps[limits[1].name] == pytest.approx(own)  # beside the bound of its own
    assert report.results[1].lowest == "m"
    assert found.gaps[limits[2].name] == pytest.approx(everybody)
