"""A booster in training beside twins, which answer for the rows that they never saw."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from fairtrain.boosting.backend import Derivatives, Settings, TreeData, TreeRun
from fairtrain.data.inputs import take_rows

__all__ = ["CrossFitted", "Folds"]

Floats = NDArray[np.float64]
Folds = Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]]
"""Positions of the rows outside and inside each fold."""


class CrossFitted:
    """A :class:`~fairtrain.boosting.backend.TreeRun` that steers by out-of-fold margins.

    A twin a fold grows by the same prices, on the rows outside the fold.

    Parameters
    ----------
    start : callable
        As in :class:`~fairtrain.boosting.backend.Backend`.
    data : TreeData
        All rows.
    settings : Settings
        The same for all.
    folds : sequence of (training, held-out) positions
        Each row is held out once.
    """

    def __init__(
        self,
        start: Callable[[TreeData, Settings], TreeRun],
        data: TreeData,
        settings: Settings,
        folds: Folds,
    ) -> None:
        self._folds, self._n_rows = folds, len(data.y)
        self._whole = start(data, settings)
        self._twins = []
        for training, held in folds:
            weight = None if data.weight is None else data.weight[training]
            X, steering = take_rows(data.X, training), take_rows(data.X, held)
            self._twins.append(start(TreeData(X, data.y[training], weight, steering), settings))
        self.training_margin = self._whole.training_margin
        self.watched_margin = self._whole.watched_margin
        self.model = self._whole.model

    @property
    def n_rounds(self) -> int:
        """Rounds so far."""
        return self._whole.n_rounds

    @property
    def can_go_plain(self) -> bool:
        """As the booster."""
        return self._whole.can_go_plain

    def plain_round(self) -> None:
        """Add a tree each by the booster's own objective."""
        for run in (self._whole, *self._twins):
            run.plain_round()

    def round(self, derivatives: Derivatives) -> None:
        """Add a tree each; the derivatives at a row depend on its own margin only."""

        def of_rows(margin: Floats, rows: NDArray[np.int64]) -> tuple[Floats, Floats]:
            everywhere = np.zeros(self._n_rows, margin.dtype)
            everywhere[rows] = margin
            gradient, hessian = derivatives(everywhere)
            return gradient[rows], hessian[rows]

        self._whole.round(derivatives)
        for twin, (training, _) in zip(self._twins, self._folds, strict=True):
            twin.round(partial(of_rows, rows=training))

    def steering_margin(self) -> Floats:
        """Out-of-fold margins of all rows."""
        margin = np.empty(self._n_rows)
        for twin, (_, held) in zip(self._twins, self._folds, strict=True):
            margin[held] = twin.steering_margin()
        return margin
