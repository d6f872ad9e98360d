"""What is written makes the same page and card again."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from tests.report.data import summary

from fairtrain.exceptions import InvalidDataError
from fairtrain.report import RunSummary, render_card, render_report
from fairtrain.report.plain import setting_text


def through_json(found: RunSummary) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    return plain


@pytest.mark.parametrize(
    ("sizes", "n_models", "several"),
    [
        ((1500, 1200, 45), 2, 1),
        ((400, 300, 3), 2, 2),  # the smallest shown group is hidden too
        ((400, 12, 3), 8, 2),
        ((30, 4, 4), 3, 1),  # two small groups of fewer than ten rows together
        ((5, 4, 3), 2, 1),
    ],
)
def test_round_trip(sizes: tuple[int, ...], n_models: int, several: int) -> None:
    found = summary(sizes=sizes, n_models=n_models, several=several)
    plain = through_json(found)
    again = RunSummary.from_dict(plain)
    assert render_report(again) == render_report(found)
    assert render_card(again) == render_card(found)
    assert through_json(again) == plain
    assert again.explanation() == found.explanation()


def test_nothing_small_is_written() -> None:
    plain = through_json(summary(sizes=(400, 300, 3)))
    for model in plain["models"]:
        cells = [c for c in [*model["group_rates"], *model["shown_rates"]] if c["group"] == "c"]
        assert cells
        for cell in cells:
            assert cell["rate"] is None or cell["count"] == 0
            assert cell["count"] in ("under 10", 0)
        assert model["constraints"][0]["achieved"] is None
        assert model["constraints"][0]["counts"]["c"] == "under 10"
        assert model["groups"][0]["c"]["rows"] == "under 10"
    assert plain["group_counts"]["c"]["certification"] == "under 10"
    assert plain["models"][1]["cost"]["changes"][2]["rows"] is None


@pytest.mark.parametrize("schema", [2, None, "1"])
def test_another_schema_is_one_clear_error(schema: Any) -> None:
    with pytest.raises(InvalidDataError, match=r"have schema .*reads schema 1; use the version"):
        RunSummary.from_dict({**through_json(summary()), "schema": schema})


@pytest.mark.parametrize("damage", ["models", "frontiers", "rows"])
def test_damage_is_one_clear_error(damage: str) -> None:
    plain = through_json(summary())
    with pytest.raises(InvalidDataError, match=f"damaged or no summary.*{damage}"):
        RunSummary.from_dict({k: v for k, v in plain.items() if k != damage})
    with pytest.raises(InvalidDataError):
        RunSummary.from_dict({**plain, damage: 3})
    with pytest.raises(InvalidDataError, match="have schema None"):
        RunSummary.from_dict([])  # type: ignore[arg-type]


def test_one_model_is_no_comparison() -> None:
    found = summary()
    with pytest.raises(InvalidDataError, match="at least one model, got 1"):
        summary(models=found.models[:1])


def test_settings_become_plain() -> None:
    assert setting_text(np.float64(0.5)) == 0.5
    assert setting_text(float("inf")) == "inf"
    assert setting_text([("a", 1), None]) == "a, 1, None"
