"""The same seed gives the same model: in another process, under another hash seed, in threads."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

import fairtrain

N = 300
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 3))
WHO = RNG.choice(["a", "b", "c"], N)
Y = (X[:, 0] + (WHO == "a") + RNG.normal(size=N) > 0.5).astype(int)
MODELS = {
    "reductions": lambda: fairtrain.ReductionsWrapper(LogisticRegression(), random_state=0),
    "plug-in": lambda: fairtrain.FairPlugInClassifier(LogisticRegression(), cv=2, random_state=0),
    "priced": lambda: fairtrain.FairPlugInTrainer(max_epochs=2, cv=2, random_state=0),
    "boosting": lambda: fairtrain.LagrangianBoostingClassifier(n_estimators=8, random_state=0),
    "lagrangian": lambda: fairtrain.LagrangianFairnessTrainer(max_epochs=2, random_state=0),
    "regularized": lambda: fairtrain.RegularizedFairnessTrainer(max_epochs=2, random_state=0),
    "adversarial": lambda: fairtrain.AdversarialDebiasingTrainer(max_epochs=2, random_state=0),
}


def fitted(name: str) -> str:
    """Fingerprint of all probabilities of a fresh fit."""
    model = MODELS[name]().fit(X, Y, sensitive_features=WHO)
    return hashlib.sha256(np.ascontiguousarray(model.predict_proba(X)).tobytes()).hexdigest()


@pytest.mark.filterwarnings("ignore")
def test_in_two_threads_and_in_another_process() -> None:
    here = {name: fitted(name) for name in MODELS}
    with ThreadPoolExecutor(2) as pool:
        for name in ("boosting", "lagrangian"):
            assert set(pool.map(fitted, [name, name])) == {here[name]}
    environment = {**os.environ, "PYTHONHASHSEED": "12345", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, __file__]
    there = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert there.stdout.splitlines() == list(here.values())


@pytest.mark.filterwarnings("ignore")
def test_as_many_jobs_as_one_likes() -> None:
    one, several = (
        fairtrain.FairPlugInClassifier(LogisticRegression(), cv=2, random_state=0, n_jobs=n).fit(
            X, Y, sensitive_features=WHO
        )
        for n in (1, 2)
    )
    np.testing.assert_array_equal(one.predict_proba(X), several.predict_proba(X))


if __name__ == "__main__":
    for each in MODELS:
        sys.stdout.write(fitted(each) + "\n")
