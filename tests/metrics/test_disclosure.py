"""What an attacker can work out from everything that is written of a report."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import optimize

from fairtrain import (
    AtLeast,
    AtMost,
    BoundedGroupLoss,
    DemographicParity,
    EqualizedOdds,
    fairness_report,
)
from fairtrain.data.groups import Groups
from fairtrain.metrics import FairnessReport
from fairtrain.metrics.disclosure import hidden_cells
from fairtrain.metrics.paired import cost_against
from fairtrain.metrics.publication import Publication
from fairtrain.report import plain


def report(
    cells: dict[tuple[str, str], tuple[int, int]], constraints: Any, seed: int = 0
) -> FairnessReport:
    """Groups of two columns with (selected, rows)."""
    rows = [n for _, n in cells.values()]
    sex, race = (np.repeat([who[i] for who in cells], rows) for i in (0, 1))
    p = np.concatenate([np.arange(n) < k for k, n in cells.values()]).astype(int)
    y = np.random.default_rng(seed).integers(0, 2, len(p))
    return fairness_report(y, p, pd.DataFrame({"sex": sex, "race": race}), constraints)


SIX = {("f", "rare"): (4, 6), ("m", "rare"): (2, 6), ("f", "w"): (60, 200), ("m", "w"): (70, 180)}
MANY = {**SIX, ("f", "b"): (20, 60), ("m", "b"): (15, 50)}


def selected_range(plain_report: dict[str, Any], group: str) -> tuple[float, float]:
    """Selected people of a hidden group that fit all that is written (an attack of its own)."""
    cells = [c for c in plain_report["group_rates"] if c["metric"] == "selection_rate"]
    names = [c["group"] for c in cells]
    total = round(plain_report["selection_rate"] * plain_report["n_rows"])
    rows, values = [np.ones(len(names))], [float(total)]
    for i, cell in enumerate(cells):
        if cell["rate"] is not None:
            rows.append(np.eye(len(names))[i])
            values.append(round(cell["rate"] * cell["count"]))
    for found in plain_report["constraints"]:
        if found["rate"] == "selection_rate" and not found["suppressed"]:
            # Two sexes, their gap and their total: how many are selected of either.
            ends = [
                np.array([n.split("/")[0] == found[end] for n in names])
                for end in ("highest", "lowest")
            ]
            size = [
                sum(n for n, inside in zip(sizes(names), end, strict=True) if inside)
                for end in ends
            ]
            low = (total - found["achieved"] * size[0]) / sum(size)
            rows.append(ends[1].astype(float))
            values.append(low * size[1])
    goal = np.eye(len(names))[names.index(group)]
    limits = [(0, n) for n in sizes(names)]
    ends = [
        optimize.linprog(s * goal, A_eq=np.array(rows), b_eq=values, bounds=limits) for s in (1, -1)
    ]
    assert all(end.status == 0 for end in ends)
    return float(ends[0].fun), float(-ends[1].fun)


def sizes(names: list[str]) -> list[int]:
    """Rows of every group; an attacker may know them."""
    return [{**MANY}[tuple(name.split("/"))][1] for name in names]  # type: ignore[index]


@pytest.mark.parametrize("cells", [SIX, MANY])
def test_two_cells_of_six_cannot_be_solved_from_a_gap_and_a_total(cells: Any) -> None:
    """They came out as 4 and 2 of 6: the gap of the sexes and the total tell both their rates."""
    found = report(cells, DemographicParity(over="sex", difference_bound=0.2)).to_dict()
    written = {c["group"]: c for c in found["group_rates"] if c["metric"] == "selection_rate"}
    assert not found["constraints"][0]["suppressed"]
    for group in ("f/rare", "m/rare"):
        assert (written[group]["rate"], written[group]["count"]) == (None, "under 10")
        low, high = selected_range(found, group)
        assert high - low >= 2
    # The same attack on what would be written if small cells alone were hidden.
    small = [c for c in found["group_rates"] if c["metric"] == "selection_rate"]
    rates = report(cells, "demographic_parity").group_rates.set_index(["metric", "group"])["rate"]
    for cell in small:
        if cell["group"] not in ("f/rare", "m/rare"):
            cell["rate"] = rates["selection_rate", cell["group"]]
    low, high = selected_range(found, "f/rare")
    assert high - low < 1e-6
    assert low == pytest.approx(4)


def test_accuracy_and_selection_are_not_given_away_by_the_rates_on_labels() -> None:
    rng = np.random.default_rng(0)
    group = np.repeat(["a", "b", "rare"], [300, 200, 5])
    y, p = rng.integers(0, 2, (2, 505))
    hidden = hidden_cells(fairness_report(y, p, group).group_rates)
    # Shown true and false positive rates of b would tell its selection rate, and the total rare's.
    assert {m for m, g in hidden if g == "b"} >= {"true_positive_rate", "selection_rate"}
    assert not {g for _, g in hidden} - {"rare", "b"}


def test_the_baseline_and_the_fair_model_are_one_publication() -> None:
    rng = np.random.default_rng(1)
    group = np.repeat(["a", "b", "rare"], [300, 200, 5])
    y, p, q = rng.integers(0, 2, (3, 505))
    tables = [fairness_report(y, d, group).group_rates for d in (p, q)]
    joint = hidden_cells(tables)
    assert joint >= hidden_cells(tables[0]) | hidden_cells(tables[1])
    assert not hidden_cells([t[t["group"] != "rare"] for t in tables])


def test_a_count_does_not_tell_how_many_have_the_other_label() -> None:
    y = np.array([1] * 3 + [0] * 97 + [0, 1] * 100)
    p, group = np.arange(300) % 3 == 0, ["few"] * 100 + ["many"] * 200
    found = fairness_report(y, p.astype(int), group)
    cells = {c["metric"]: c for c in found.to_dict()["group_rates"] if c["group"] == "few"}
    assert cells["true_positive_rate"]["count"] == "under 10"
    assert cells["false_positive_rate"]["count"] == "hidden"
    assert cells["selection_rate"]["count"] == 100
    row = found.group_rates.to_dict("records")[0]
    empty = plain.cell_dict({**row, "metric": "true_positive_rate", "count": 0}, hidden=True)
    assert empty["count"] == "under 10"


def test_what_was_hidden_stays_hidden_when_it_is_read_back() -> None:
    found = report(MANY, EqualizedOdds(difference_bound=0.2))
    cells = json.loads(json.dumps(found.to_dict()))["group_rates"]
    rates = plain.frame(cells)
    hidden = {(c["metric"], c["group"]) for c in cells if c["suppressed"]}
    assert hidden
    assert hidden_cells(rates) >= hidden


@pytest.mark.parametrize(
    ("limit", "same"),
    [
        (AtMost("false_negative_rate", 0.9, over="sex"), AtLeast("recall", 0.1, over="sex")),
        (
            AtLeast("true_negative_rate", 0.1, over="sex"),
            AtMost("false_positive_rate", 0.9, over="sex"),
        ),
        (BoundedGroupLoss(upper_bound=0.9, over="sex"), AtMost("error_rate", 0.9, over="sex")),
        (BoundedGroupLoss(upper_bound=0.9, over="sex"), AtLeast("accuracy", 0.1, over="sex")),
    ],
)
def test_a_rate_and_its_complement_tell_the_same(limit: Any, same: Any) -> None:
    told = []
    for constraint in (limit, same):
        found = report(MANY, constraint)
        publication = Publication([found.group_rates], found.results, 10)
        told.append(publication.equations(hidden_cells(found.group_rates, results=found.results)))
    first, second, both = (np.linalg.matrix_rank(t) for t in (*told, np.concatenate(told)))
    silent = Publication([found.group_rates], (), 10)
    hidden = hidden_cells(found.group_rates, results=found.results)
    assert first == second == both > np.linalg.matrix_rank(silent.equations(hidden))


def test_a_limit_over_everybody_tells_of_all_groups() -> None:
    found = report(MANY, AtMost("false_positive_rate", 0.9, overall=True))
    publication = Publication([found.group_rates], found.results, 10)
    assert publication.members("everybody").tolist() == list(range(len(MANY)))
    hidden = hidden_cells(found.group_rates, results=found.results)
    silent = Publication([found.group_rates], (), 10).equations(hidden)
    told = publication.equations(hidden)
    assert np.linalg.matrix_rank(told) > np.linalg.matrix_rank(silent)


def test_many_rows_of_few_customers_tell_of_few() -> None:
    rng = np.random.default_rng(0)
    group = np.repeat(["a", "b", "few"], [400, 300, 120])
    customer = np.concatenate([np.arange(700) // 4, 1000 + np.arange(120) // 40])  # three of them
    y, p = rng.integers(0, 2, (2, 820))
    plainly = fairness_report(y, p, group)
    assert not hidden_cells(plainly.group_rates, results=plainly.results)
    found = fairness_report(y, p, group, clusters=customer)
    hidden = hidden_cells(found.group_rates, results=found.results)
    told = {g for m, g in hidden if m == "selection_rate"}
    assert told == {"few", "b"}  # and what would give them away as the rest of all rows
    written = found.to_dict()
    assert written["constraints"][0]["suppressed"]
    cells = [c for c in written["group_rates"] if c["group"] == "few"]
    assert {(c["rate"], c["clusters"]) for c in cells} == {(None, "hidden")}
    shares = rng.random(820)
    cost = cost_against(y, p, shares, Groups.from_sensitive(group), clusters=customer)
    assert [c.gained is None for c in cost.changes] == [False, True, True]


def test_a_rate_averaged_over_strata_is_an_equation() -> None:
    """Cells of one stratum could be solved from it, were the others all shown."""
    size = {("f", "a"): 60, ("f", "b"): 90, ("f", "c"): 6}
    size |= {("m", "a"): 80, ("m", "b"): 50, ("m", "c"): 40}
    cells = {who: (n // 3, n) for who, n in size.items()}
    asked = DemographicParity(over="sex", given="race", pooled=True, difference_bound=0.2)
    found = report(cells, asked)
    (result,) = found.results
    assert {result.highest, result.lowest} == {"f", "m"}
    hidden = hidden_cells(found.group_rates, results=found.results)
    weight = {s: 1 / (1 / size["f", s] + 1 / size["m", s]) for s in "abc"}
    names = [f"{g}/{s}" for g, s in size]
    equations = [np.ones(len(names))]
    equations += [e for e, n in zip(np.eye(len(names)), names, strict=True)
                  if ("selection_rate", n) not in hidden]  # fmt: skip
    equations += [
        np.array([weight[s] / n if g == sex else 0 for (g, s), n in size.items()]) for sex in "fm"
    ]
    selected = np.array([k for k, _ in cells.values()], dtype=float)
    goal = np.eye(len(names))[names.index("f/c")]
    ends = [
        optimize.linprog(
            sign * goal,
            A_eq=np.array(equations),
            b_eq=np.array(equations) @ selected,
            bounds=[(0, n) for n in size.values()],
        ).fun
        for sign in (1, -1)
    ]
    assert sum(ends) <= -2
    published = Publication([found.group_rates], found.results, 10)
    told = published.equations({("selection_rate", name) for name in names})
    wanted = published.row(0, [], np.zeros(4)).reshape(published.people.shape)
    for g, (sex, s) in enumerate(sorted(size)):
        if sex == "f":
            n = size[sex, s]
            wanted[0, g] = np.subtract([1, 1, 0, 0], cells[sex, s][0] / n) * weight[s] / n
    wanted = wanted.ravel() / sum(weight.values())
    assert np.linalg.matrix_rank(np.vstack([told, wanted])) == np.linalg.matrix_rank(told)
