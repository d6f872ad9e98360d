"""skorch: groups for the criterion of a ``NeuralNet``, by ``fit(..., sensitive_features=...)``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from torch import Tensor

from fairtrain._imports import require
from fairtrain.data.groups import Groups
from fairtrain.exceptions import InvalidDataError

skorch: Any = require("skorch", extra="skorch")

__all__ = ["FairNetMixin"]

_GROUPS = "sensitive_features"


class FairNetMixin:
    """Hands the groups of a batch to the criterion; put it before a class of skorch's.

    ``class FairNet(FairNetMixin, NeuralNetBinaryClassifier)`` takes
    ``criterion=FairnessRegularizerLoss`` with its settings as ``criterion__penalty=...``. Groups
    travel beside ``X`` through skorch's splits and loaders, so that a batch and its groups stay
    together; the module never sees them, and ``predict`` needs none. ``scheme_`` says what codes
    mean.
    """

    criterion_: Any
    device: Any

    def fit(self, X: Any, y: Any, *, sensitive_features: Any, **fit_params: Any) -> Self:
        """Train; see ``NeuralNet.fit``.

        Parameters
        ----------
        X, y, **fit_params
            As skorch takes them.
        sensitive_features : frame, series, mapping, array or list of n rows
            Who.
        """
        found = Groups.from_sensitive(sensitive_features)
        self.scheme_ = found.scheme
        super().fit(_beside(X, found.codes), y, **fit_params)  # type: ignore[misc]
        return self

    def partial_fit(self, X: Any, y: Any = None, classes: Any = None, **fit_params: Any) -> Self:
        """Go on training, by rows whose groups :meth:`fit` put beside them."""
        if "sensitive_features" in fit_params:
            codes = self.scheme_.encode(fit_params.pop("sensitive_features"))
            X = _beside(X, codes)
        super().partial_fit(X, y, classes=classes, **fit_params)  # type: ignore[misc]
        return self

    def infer(self, x: Any, **fit_params: Any) -> Any:
        """What the module gives for the features of a batch."""
        if isinstance(x, Mapping) and _GROUPS in x:
            rest = {name: part for name, part in x.items() if name != _GROUPS}
            x = rest["X"] if set(rest) == {"X"} else rest
        return super().infer(x, **fit_params)  # type: ignore[misc]

    def get_loss(self, y_pred: Any, y_true: Any, X: Any = None, training: bool = False) -> Tensor:
        """The criterion of a batch and its groups."""
        if not isinstance(X, Mapping) or _GROUPS not in X:
            raise InvalidDataError("a batch has no groups: pass fit(X, y, sensitive_features=...).")
        targets, codes = (
            skorch.utils.to_tensor(part, device=self.device) for part in (y_true, X[_GROUPS])
        )
        loss: Tensor = self.criterion_(y_pred, targets, codes)
        return loss

    def _get_predict_nonlinearity(self) -> Any:
        """That of the usual loss inside the criterion, which skorch knows."""
        criterion = self.criterion_
        try:
            self.criterion_ = getattr(criterion, "base_loss", criterion)
            return super()._get_predict_nonlinearity()  # type: ignore[misc]
        finally:
            self.criterion_ = criterion


def _beside(X: Any, codes: Any) -> dict[str, Any]:
    rows = dict(X) if isinstance(X, Mapping) else {"X": X}
    return {**rows, _GROUPS: np.asarray(codes)}
