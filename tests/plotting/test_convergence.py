import matplotlib as mpl
import pandas as pd
import pytest

mpl.use("Agg")

import matplotlib.pyplot as plt

from fairtrain.exceptions import InvalidDataError
from fairtrain.plotting import plot_convergence


def history(name: str = "demographic_parity", epochs: int = 5) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "epoch": range(epochs),
            "held_loss": 0.5,
            f"gap_held: {name}": [0.3 / (e + 1) for e in range(epochs)],
            f"bound: {name}": 0.05,
            f"multipliers: {name}": [0.1 * e for e in range(epochs)],
        }
    )


def test_gap_bound_loss_and_multipliers_are_drawn_into_the_given_axes():
    _, ax = plt.subplots()
    drawn = plot_convergence(history(), ax=ax, best_epoch=3)
    assert drawn is ax
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["gap: demographic_parity", "held-out loss", "multipliers"]
    gap, bound, kept = ax.get_lines()
    assert gap.get_ydata()[0] == pytest.approx(0.3)
    assert set(bound.get_ydata()) == {0.05}
    assert kept.get_xdata()[0] == 4
    assert ax.get_ylim()[0] == 0
    plt.close("all")


def test_hostile_names_stay_text_and_a_penalty_has_no_multipliers():
    frame = history("$\\frac{$ <script>" * 20, epochs=1)
    frame = frame[[c for c in frame if not c.startswith(("bound", "multipliers"))]]
    ax = plot_convergence(frame)
    ax.figure.canvas.draw()
    assert len(ax.get_legend().get_texts()[0].get_text()) < 80
    plt.close("all")


def test_an_empty_history_is_refused():
    with pytest.raises(InvalidDataError, match="fit first"):
        plot_convergence(history(epochs=0))
