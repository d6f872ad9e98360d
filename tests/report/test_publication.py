"""An attack on everything that a run prints of two models, in its numbers, page and card."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
from scipy import optimize

from fairtrain.constraints import DemographicParity, EqualizedOdds
from fairtrain.data.groups import Groups
from fairtrain.report import RunSummary, judged, render_card, render_report
from fairtrain.report.judged import best_constant

SIZES = {
    ("f", "w"): 230,
    ("m", "w"): 190,
    ("f", "b"): 61,
    ("m", "b"): 47,
    ("f", "r"): 7,
    ("m", "r"): 8,
}
NAMES = ["/".join(who) for who in SIZES]
KINDS = 4  # (label 1, decision 1), (0, 1), (1, 0), (0, 0)
PARTS = {
    "selection_rate": ((1, 1, 0, 0), (1, 1, 1, 1)),
    "accuracy": ((1, 0, 0, 1), (1, 1, 1, 1)),
    "true_positive_rate": ((1, 0, 0, 0), (1, 0, 1, 0)),
    "false_positive_rate": ((0, 1, 0, 0), (0, 1, 0, 1)),
    "positive_predictive_value": ((1, 0, 0, 0), (1, 1, 0, 0)),
}


def run(seed: int, over: str | None = None) -> tuple[RunSummary, np.ndarray]:
    """A run, and how many people of each model, group and kind there truly are."""
    rng = np.random.default_rng(seed)
    sex, race = (np.repeat([who[i] for who in SIZES], list(SIZES.values())) for i in (0, 1))
    groups = Groups.from_sensitive({"sex": sex, "race": race})
    y = rng.integers(0, 2, len(sex))
    base = np.where(rng.random(len(y)) < 0.8, y, 1 - y)
    fair = np.where(rng.random(len(y)) < 0.9, base, 1 - base)
    asked = (DemographicParity(difference_bound=0.1), EqualizedOdds(difference_bound=0.2))
    asked = tuple(type(c)(difference_bound=c.bound, over=over) for c in asked)
    given: dict[str, Any] = {"outcome": "yes", "over": over}
    models = (
        judged("baseline", asked, y, base, groups, **given),
        judged("fair model", asked, y, fair, groups, against=base, **given),
    )
    names = np.array(["/".join(pair) for pair in zip(sex, race, strict=True)])
    truth = np.array(
        [
            [
                [((names == g) & (y == a) & (d == b)).sum() for b in (1, 0) for a in (1, 0)]
                for g in NAMES
            ]
            for d in (base, fair)
        ]
    )
    made = RunSummary(
        title="t",
        data="d",
        outcome="yes",
        constraint="parity",
        models=models,
        constant=judged("constant", asked, y, best_constant(y), groups, **given),
        row_counts={"training": 9, "steering": 9, "certification": len(y)},
        group_counts={n: {"all": int((names == n).sum())} for n in NAMES},
    )
    return made, truth


def members(name: str) -> list[int]:
    return [i for i, g in enumerate(NAMES) if set(name.split("/")) <= set(g.split("/"))]


def told(numbers: dict[str, Any]) -> tuple[list[np.ndarray], list[float]]:
    """Every number of the summary as an equation in the people of two models."""
    rows: list[np.ndarray] = []
    values: list[float] = []

    def say(model: int, groups: list[int], weight: Any, value: float) -> None:
        row = np.zeros((2, len(NAMES), KINDS))
        row[model, groups] = weight
        rows.append(row.ravel())
        values.append(value)

    everyone = list(range(len(NAMES)))
    for g in everyone:  # row counts of groups, and one label a person whatever the model
        for model in (0, 1):
            say(model, [g], 1, SIZES[tuple(NAMES[g].split("/"))])  # type: ignore[index]
        row = np.zeros((2, len(NAMES), KINDS))
        row[0, g], row[1, g] = (1, 0, 1, 0), (-1, 0, -1, 0)
        rows.append(row.ravel())
        values.append(0.0)
    for m, model in enumerate(numbers["models"]):
        n = model["n_rows"]
        say(m, everyone, (1, 1, 0, 0), model["selection_rate"] * n)
        say(m, everyone, (1, 0, 0, 1), model["accuracy"]["estimate"] * n)
        for cell in (*model["group_rates"], *model["shown_rates"]):
            if cell["rate"] is None or cell["metric"] not in PARTS:
                continue
            top, whole = PARTS[cell["metric"]]
            inside = members(cell["group"])
            say(m, inside, np.subtract(top, cell["rate"] * np.array(whole)), 0.0)
            say(m, inside, whole, cell["count"])
    labels = numbers["constant"]
    favourable = labels["selection_rate"] == 1
    for cell in (*labels["group_rates"], *labels["shown_rates"]):
        if cell["metric"] == "accuracy" and cell["rate"] is not None:
            positive = cell["rate"] if favourable else 1 - cell["rate"]
            say(0, members(cell["group"]), (1, 0, 1, 0), positive * cell["count"])
    for change in (numbers["models"][1]["cost"] or {"changes": []})["changes"]:
        if change["gained"] is not None:
            inside = members(change["group"])
            row = np.zeros((2, len(NAMES), KINDS))
            row[1, inside], row[0, inside] = (1, 1, 0, 0), (-1, -1, 0, 0)
            rows.append(row.ravel())
            values.append((change["gained"] - change["lost"]) * change["rows"])
    return rows, values


@pytest.mark.parametrize(("seed", "over"), [(0, None), (1, None), (2, "race"), (3, "sex")])
def test_no_small_cell_of_either_model_follows_from_all_that_is_printed(
    seed: int, over: str | None
) -> None:
    found, truth = run(seed, over)
    rows, values = told(json.loads(json.dumps(found.to_dict())))
    equations, sums = np.array(rows), np.array(values)
    np.testing.assert_allclose(equations @ truth.ravel(), sums, atol=1e-6)  # the attack reads right
    for model in (0, 1):
        for g, name in enumerate(NAMES):
            if sum(truth[model, g]) >= 10:
                continue
            wanted = np.zeros((2, len(NAMES), KINDS))
            wanted[model, g] = (1, 1, 0, 0)
            ends = []
            for sign in (1.0, -1.0):
                best = optimize.linprog(sign * wanted.ravel(), A_eq=equations, b_eq=sums)
                assert best.status == 0
                ends.append(sign * best.fun)
            assert ends[1] - ends[0] >= 2 - 1e-6, (model, name)


def test_page_card_and_numbers_hide_the_same_cells() -> None:
    found, _ = run(0)
    cells = [c for m in found.to_dict()["models"] for c in m["group_rates"]]
    hidden = {(c["metric"], c["group"]) for c in cells if c["suppressed"]}
    for model in found.models:
        assert {(m, g) for m, g in model.hidden if m in PARTS} == hidden
    shown = {g for m, g in hidden if m == "selection_rate"}
    card = render_card(found)
    for name in NAMES:
        line = next(
            li
            for li in card.splitlines()
            if (li.startswith(f"| {name} |") and "%" in li)
            or (li.startswith(f"| {name} |") and "not shown" in li)
        )
        assert line.count("not shown") == (2 if name in shown else 0)
    page = render_report(found)
    assert len(re.findall(r"not shown</div>", page)) >= 2 * len(shown)
