"""MLflow: models as pyfunc, with their signature and what is known of their fairness.

Numbers of every epoch go to a run by ``LogMetrics(mlflow)``, as the package itself has
``log_metrics``.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

import fairtrain
from fairtrain._imports import require
from fairtrain.data import inputs
from fairtrain.exceptions import InvalidParameterError
from fairtrain.persistence import load, save
from fairtrain.report import RunSummary, render_card

mlflow: Any = require("mlflow", extra="mlflow")

__all__ = ["SavedModel", "log_model"]

_FOLDER = "fairtrain_model"
METHODS = ("predict", "predict_proba", "decision_proba")


class SavedModel(mlflow.pyfunc.PythonModel):
    """What MLflow runs: a folder that :func:`fairtrain.load` reads; no model is pickled."""

    def load_context(self, context: Any) -> None:
        """Read the model."""
        self.model = load(context.artifacts[_FOLDER])

    # MLflow would read annotations here as a schema, in the place of the signature.
    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """Decide, or what ``params={"method": ...}`` names."""
        method = (params or {}).get("method", METHODS[0])
        if method not in METHODS:
            raise InvalidParameterError(f"method must be one of {METHODS}, got {method!r}.")
        return getattr(self.model, method)(model_input)


def log_model(
    model: Any,
    name: str = "model",
    *,
    example: Any,
    summary: RunSummary | None = None,
    **options: Any,
) -> Any:
    """Log a fitted model to the active run of MLflow, as pyfunc.

    The model is the folder that :func:`fairtrain.save` writes: nothing in it is run when it is
    read. Beside it the run gets ``fairness_report.txt``, and a model card where there is a summary.

    Parameters
    ----------
    model : estimator
        Fitted. One that needs the sensitive features to decide must name their columns in its
        constructor, since pyfunc has one input.
    name : str, default="model"
        Name of the logged model.
    example : frame or array of shape (n, d)
        A few rows as ``predict`` takes them: for the signature; they are not stored.
    summary : RunSummary, optional
        What a run found; gives the model card.
    **options
        Those of ``mlflow.pyfunc.log_model``, such as ``registered_model_name``.

    Returns
    -------
    mlflow.models.model.ModelInfo

    Raises
    ------
    InvalidParameterError
        If the model needs sensitive features that no column of its input holds.
    """
    check_is_fitted(model)
    if getattr(model, "needs_sensitive_at_predict", False) and not model.sensitive_features:
        raise InvalidParameterError(
            f"{type(model).__name__} needs sensitive features to decide, and pyfunc has one input: "
            "name their columns with sensitive_features= in the constructor, and fit again."
        )
    inputs.as_features(example)
    answers = np.asarray(model.predict(example))
    signature = mlflow.models.infer_signature(example, answers, params={"method": METHODS[0]})
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / _FOLDER
        save(model, folder)
        info = mlflow.pyfunc.log_model(
            name=name,
            python_model=SavedModel(),
            artifacts={_FOLDER: str(folder)},
            signature=signature,
            pip_requirements=options.pop(
                "pip_requirements", [f"fairtrain=={fairtrain.__version__}"]
            ),
            **options,
        )
    report = getattr(model, "fairness_report_", None)
    if report is not None:
        mlflow.log_text(str(report), "fairness_report.txt")
    if summary is not None:
        mlflow.log_text(render_card(summary), "model_card.md")
    return info
