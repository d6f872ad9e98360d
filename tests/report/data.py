"""Summaries for the tests of the page, the card and the numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fairtrain.constraints import DemographicParity, EqualizedOdds
from fairtrain.data.groups import Groups
from fairtrain.report import FrontierChart, FrontierPoint, RunSummary, judged

GAPS = {0.0: 0.30, 0.1: 0.22, 0.5: 0.15, 1.0: 0.08, 2.0: 0.05, 10.0: 0.01}


def chart(name: str = "regularized", param: str = "eta", chosen: int | None = 4) -> FrontierChart:
    points = tuple(
        FrontierPoint(eta, 0, 0.7 + gap / 5, gap, near_constant=eta == 10)
        for eta, gap in GAPS.items()
    )
    beaten = FrontierPoint(0.2, 0, 0.70, 0.26, (0.68, 0.72), (0.2, 0.3), dominated=True)
    return FrontierChart(
        name, param, (*points, beaten), chosen=chosen, bound=0.06, baseline=(0.31, 0.78)
    )


def summary(
    names: Sequence[str] = ("a", "b", "c"),
    sizes: Sequence[int] = (1500, 1200, 45),
    *,
    n_models: int = 2,
    several: int = 1,
    word: str = "run",
    **fields: Any,
) -> RunSummary:
    rng = np.random.default_rng(0)
    who = np.repeat(list(names), sizes)
    y = rng.integers(0, 2, len(who))
    groups = Groups.from_sensitive({"group": who})
    asked = (DemographicParity(difference_bound=0.1), EqualizedOdds(difference_bound=0.2))
    asked = asked[:several]
    base = np.where(who == names[0], 1, np.where(rng.random(len(who)) < 0.2, 1 - y, y))
    models = [judged("baseline", asked, y, base, groups, outcome="approved", score=base * 0.9)]
    for k in range(n_models - 1):
        fair = np.where(rng.random(len(who)) < 0.1 + 0.05 * k, 1 - y, y) * 0.8 + 0.1
        title = "fair model" if n_models == 2 else f"{word} {k + 1}"
        models.append(
            judged(title, asked, y, fair, groups, outcome="approved", over="group", against=base)
        )
    counts = {
        name: {"all": 3 * int(n), "training": int(n), "steering": int(n), "certification": int(n)}
        for name, n in zip(groups.names, groups.counts, strict=True)
    }
    given: dict[str, Any] = {
        "title": f"Title {word}",
        "data": f"data {word}",
        "outcome": "approved",
        "constraint": f"demographic parity by {word}",
        "models": tuple(models),
        "row_counts": {"training": 900, "steering": 300, "certification": len(y)},
        "group_counts": counts,
        "settings": {"sensitive": ("group", word), "bound": 0.1, "over": None},
        "notes": (f"note {word}",),
        "rationale": f"Policy of 2024 {word}.\nSecond reason.",
        "choice": (f"Chosen by {word}.",),
        "frontiers": (chart(f"sweep {word}", f"eta {word}"), chart("other", chosen=None)),
        "made_with": {"fairtrain": "0.1", "seed": 7, "data_sha256": "e3b0c442"},
    }
    return RunSummary(**{**given, **fields})
