"""Numbers and models in a real store of MLflow's."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from tests.training.data import make_rows

from fairtrain import CalibratedFairClassifier, FairPlugInClassifier, LagrangianFairnessTrainer
from fairtrain.exceptions import InvalidParameterError
from fairtrain.training import LogMetrics

mlflow = pytest.importorskip("mlflow", reason="needs the mlflow extra")

with warnings.catch_warnings(action="ignore"):  # MLflow warns of its own annotations
    from fairtrain.integrations.mlflow import log_model

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's advice on stores and hints

X, Y, GROUP = make_rows(500)
FRAME = pd.DataFrame(X.astype(np.float64), columns=list("abcd")).assign(region=GROUP)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri((tmp_path / "store").as_uri())
    with mlflow.start_run() as active:
        yield active


def test_every_epoch_s_numbers_are_in_the_store(run: Any) -> None:
    trainer = LagrangianFairnessTrainer(
        difference_bound=0.1, max_epochs=3, random_state=0, callbacks=[LogMetrics(mlflow)]
    ).fit(X, Y, sensitive_features=GROUP)
    client = mlflow.MlflowClient()
    for name in ("held_accuracy", "gap_held: demographic_parity"):
        logged = client.get_metric_history(run.info.run_id, name)
        assert [m.step for m in logged] == [0, 1, 2]
        np.testing.assert_allclose([m.value for m in logged], trainer.history_[name])


def test_a_logged_model_decides_as_the_model_does(run: Any) -> None:
    model = FairPlugInClassifier(
        LogisticRegression(), group_estimator=LogisticRegression(), cv=2, difference_bound=0.1,
        sensitive_features="region", random_state=0,
    ).fit(FRAME, Y)  # fmt: skip
    info = log_model(model, example=FRAME.head())
    loaded = mlflow.pyfunc.load_model(info.model_uri)
    np.testing.assert_array_equal(loaded.predict(FRAME), model.predict(FRAME))
    proba = loaded.predict(FRAME, params={"method": "predict_proba"})
    np.testing.assert_array_equal(proba, model.predict_proba(FRAME))
    assert [c.name for c in loaded.metadata.signature.inputs] == list(FRAME)
    text = mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/fairness_report.txt")
    assert text == str(model.fairness_report_)


def test_a_model_that_asks_for_the_group_must_name_its_columns(run: Any) -> None:
    model = CalibratedFairClassifier(LogisticRegression(), cv=2, random_state=0)
    model.fit(X, Y, sensitive_features=GROUP)
    with pytest.raises(InvalidParameterError, match="sensitive_features="):
        log_model(model, example=X[:5])
