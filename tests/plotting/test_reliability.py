"""Pictures: what is drawn, hostile names, nothing disclosed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from fairtrain import GroupFairnessCalibrator, calibration_audit
from fairtrain.datasets import make_miscalibrated
from fairtrain.exceptions import InvalidDataError, InvalidParameterError
from fairtrain.plotting import plot_disparity, plot_reliability
from fairtrain.plotting.style import plain_text


@pytest.fixture(scope="module")
def audits() -> Any:
    data = make_miscalibrated(8000, levels={"race": 3}, smallest=8, random_state=0)
    who = data.sensitive_features.replace({"race0": r"$\frac{$ <b>"})
    model = GroupFairnessCalibrator().fit(data.scores, data.y, who)
    new = make_miscalibrated(8000, levels={"race": 3}, smallest=8, random_state=0)
    fresh = new.fresh(900, random_state=1)
    who = fresh.sensitive_features.replace({"race0": r"$\frac{$ <b>"})
    q = model.transform(fresh.scores, who)
    return [
        calibration_audit(s, fresh.y, who, n_simulations=40, random_state=0)
        for s in (fresh.scores, q)
    ]


def drawn(ax: Any) -> Any:
    """The picture's pixels: drawing fails if a name is read as mathematics."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(ax.figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


def test_reliability_shows_the_bins(audits: Any) -> None:
    before, after = audits
    ax = plot_reliability(after, before=before)
    assert drawn(ax).std() > 0
    line = ax.containers[0].lines[0]
    name = after.finest.sort_values("ece", ascending=False)["group"].iloc[0]
    bins = after.bins[after.bins["group"] == name]
    np.testing.assert_allclose(line.get_xdata(orig=False), bins["mean_score"])
    np.testing.assert_allclose(line.get_ydata(orig=False), bins["event_rate"])
    assert "before calibration" in ax.get_title()
    own = Figure().add_subplot()
    assert plot_reliability(after, "race=race1", ax=own) is own


def test_disparity_shows_errors_and_null_band(audits: Any) -> None:
    before, after = audits
    ax = plot_disparity(after, before=before)
    drawn(ax)
    widths = [bar.get_width() for bar in ax.patches]
    np.testing.assert_allclose(widths, after.finest.sort_values("ece")["ece_null"])
    assert "lower is better" in ax.get_xlabel()
    assert f"{after.disparity:.3f}" in ax.get_title()


def test_names_stay_text() -> None:
    assert plain_text(r"$\frac{$") == r"\$\frac{\$"
    assert plain_text("a\nb") == "a b"
    assert len(plain_text("x" * 200)) == 48


def test_small_cells_stay_out_and_errors_say_why(audits: Any) -> None:
    after = audits[1]
    with pytest.raises(InvalidParameterError, match="the audit has no group 'race=9'"):
        plot_reliability(after, "race=9")
    with pytest.raises(InvalidDataError, match="no group has 5000 rows"):
        plot_disparity(after, min_cell=5000)
    with pytest.raises(InvalidParameterError, match="at most 7 groups"):
        plot_reliability(after, ["race=race1"] * 8)
    ax = plot_reliability(after, "race=race1", min_cell=10**6)
    assert not ax.containers
    assert ax.get_legend() is None
