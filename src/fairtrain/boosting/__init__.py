"""The same constraints inside one run of stock XGBoost or LightGBM."""

from __future__ import annotations

from fairtrain.boosting.classifier import LagrangianBoostingClassifier
from fairtrain.boosting.regressor import LagrangianBoostingRegressor

__all__ = ["LagrangianBoostingClassifier", "LagrangianBoostingRegressor"]
