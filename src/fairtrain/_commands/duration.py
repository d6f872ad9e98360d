"""How long training will take, measured by training on few of the rows."""

from __future__ import annotations

import time
import warnings

import numpy as np
from numpy.typing import NDArray

from fairtrain._commands.methods import Method, Settings
from fairtrain._commands.progress import in_words
from fairtrain.data.rows import Rows
from fairtrain.exceptions import FairtrainError

__all__ = ["about", "seconds_needed"]

_FEWEST = 1_000
_TIMES = 4  # as many rows in the second try as in the first: two points of a line
_PART = 64  # of the rows in the first try
_MANY = {"plug-in": 200_000}  # below, its small fits would take a third of what they foretell
_MANY_ELSE = 50_000  # below, it is done before anybody looks at a clock


def about(method: Method, rows: Rows, settings: Settings) -> str:
    """Words for a line that says what goes on; empty where it is short or shows its epochs."""
    if "epochs" in method.options or len(rows) < _MANY.get(method.name, _MANY_ELSE):
        return ""
    few = max(_FEWEST, len(rows) // _PART)
    seconds = seconds_needed(method, rows, settings, (few, _TIMES * few))
    if seconds is None:
        return ""
    return (
        f", roughly {in_words(seconds)}, or a third to three times that, by what {few:,} and "
        f"{_TIMES * few:,} of the {len(rows):,} rows take"
    )


def seconds_needed(
    method: Method, rows: Rows, settings: Settings, sizes: tuple[int, int]
) -> float | None:
    """Extend a line through the times that two smaller fits take; None where they fail.

    A rough guide: on 25,000 and 36,000 rows of census data the line said 76, 3.3 and 0.9 seconds of
    the plug-in, reductions and boosting, which took 27, 6.6 and 0.9: trees stop growing with the
    rows, and more rows can take more rounds.
    """
    order = np.random.RandomState(settings.shares.seed).permutation(len(rows))
    spent = []
    for size in sizes:
        start = time.perf_counter()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of few rows; those of all are shown
                method.fit_fair(_some(rows, order[:size], settings), settings)
        except FairtrainError:  # a group or label is missing among so few
            return None
        spent.append(time.perf_counter() - start)
    slope = max(spent[1] - spent[0], 0.0) / (sizes[1] - sizes[0])
    return spent[1] + slope * (len(rows) - sizes[1])


def _some(rows: Rows, at: NDArray[np.int64], settings: Settings) -> Rows:
    shares = settings.shares
    return rows.take(np.sort(at)).divided(
        validation_fraction=shares.validation,
        certification_fraction=shares.share or None,
        random_state=np.random.RandomState(shares.seed),
    )
