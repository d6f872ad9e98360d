"""Run fairlearn's own unit tests of its ``ExponentiatedGradient`` against ours.

The tests are public, and no part of this project: get them from fairlearn's repository (the folder
``test``), or from a wheel that holds them (0.12), and say where they are::

    python benchmarks/fairlearn_suite.py DIR [pytest's arguments]

DIR holds ``test/unit/reductions``. No test is edited: a class of fairlearn's name and signature
stands in its place and hands everything to ``ReductionsWrapper`` or ``ReductionsRegressor``.
"""

from __future__ import annotations

import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import fairlearn
import fairlearn.reductions as fl
import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state

from fairtrain import ReductionsRegressor, ReductionsWrapper
from fairtrain.constraints import from_fairlearn

FILES = {
    "test/unit/reductions/exponentiated_gradient/test_exponentiatedgradient_arguments.py": "",
    "test/unit/reductions/exponentiated_gradient/test_exponentiatedgradient_smoke.py": "",
    "test/unit/reductions/exponentiated_gradient/test_control_features.py": "",
    "test/unit/reductions/exponentiated_gradient/test_pickle.py": "",
    "test/unit/reductions/test_smoke.py": "ExponentiatedGradient",
    "test/unit/test_random_state.py": "exponentiated_gradient",
}
"""Files that touch it, and what the names of such tests hold where not all do."""


class OurGradient(BaseEstimator):  # type: ignore[misc]
    """fairlearn's face on our estimators."""

    def __init__(
        self,
        estimator: Any,
        constraints: Any,
        *,
        objective: Any = None,
        eps: float = 0.01,
        max_iter: int = 50,
        nu: float | None = None,
        eta0: float = 2.0,
        run_linprog_step: bool = True,
        sample_weight_name: str = "sample_weight",
    ) -> None:
        self.estimator = estimator
        self.constraints = constraints
        self.objective = objective
        self.eps = eps
        self.max_iter = max_iter
        self.nu = nu
        self.eta0 = eta0
        self.run_linprog_step = run_linprog_step
        self.sample_weight_name = sample_weight_name

    def fit(self, X: Any, y: Any, *, sensitive_features: Any, control_features: Any = None) -> Any:
        """Fit ours, which warns of what fairlearn is silent about."""
        constraints = self.constraints
        if control_features is not None:  # ours name the column of strata in the constraint
            constraints = replace(from_fairlearn(constraints), given="control", over="sensitive")
            columns = {"sensitive": sensitive_features, "control": control_features}
            sensitive_features = pd.DataFrame({k: np.asarray(v) for k, v in columns.items()})
            sensitive_features.index = X.index
        settings = {"eps": self.eps, "max_iter": self.max_iter, "nu": self.nu}
        if isinstance(constraints, fl.LossMoment):
            self.model_ = ReductionsRegressor(self.estimator, constraints, **settings)
        else:
            objective = "accuracy" if self.objective is None else self.objective
            self.model_ = ReductionsWrapper(
                self.estimator, constraints, objective=objective, **settings
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.model_.fit(X, y, sensitive_features=sensitive_features)
        return self

    def __getattr__(self, name: str) -> Any:
        """Take fairlearn's bookkeeping from the one object that holds it."""
        if name.endswith("_") and not name.startswith("__") and "model_" in vars(self):
            return getattr(self.model_.exponentiated_gradient_, name)
        raise AttributeError(name)

    def __getattribute__(self, name: str) -> Any:
        # A fitted one of fairlearn's shows the nu that it chose in place of the parameter.
        if name == "nu" and "model_" in object.__getattribute__(self, "__dict__"):
            return object.__getattribute__(self, "model_").exponentiated_gradient_.nu
        return object.__getattribute__(self, name)

    def _pmf_predict(self, X: Any) -> Any:
        if isinstance(self.model_, ReductionsWrapper):
            return self.model_.predict_proba(X)
        run = self.model_.exponentiated_gradient_
        members = enumerate(zip(run.predictors_, run.weights_, strict=True))
        # Those without weight are not asked, in fairlearn.
        return pd.DataFrame({t: p.predict(X) if w else np.zeros(len(X)) for t, (p, w) in members})

    def predict(self, X: Any, random_state: Any = None) -> Any:
        """Draw by fairlearn's generator: ours draws by a key, whatever the generator."""
        chance = check_random_state(random_state)
        if isinstance(self.model_, ReductionsWrapper):
            share = self._pmf_predict(X)[:, 1]
            return (share >= chance.rand(len(share))) * 1
        values = self._pmf_predict(X).to_numpy()
        return np.array([chance.choice(row, p=self.weights_) for row in values])


OurGradient.__name__ = "ExponentiatedGradient"  # tests are chosen by it


class Tally:
    """What came of every test, and why it failed."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Count a test once: when it was called, or where it was stopped before."""
        if report.when == "call" or report.failed or report.skipped:
            self.outcomes[report.outcome] += 1
        if report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            said = str(crash.message if crash else report.longrepr).partition("\n")[0]
            name = report.nodeid.partition("::")[2].partition("[")[0]
            self.reasons[f"{name}: {said[:150]}"] += 1


@contextmanager
def replaced() -> Iterator[None]:
    """Put ours where tests import fairlearn's from."""
    theirs = fl.ExponentiatedGradient
    fl.ExponentiatedGradient = OurGradient
    try:
        yield
    finally:
        fl.ExponentiatedGradient = theirs


def main(folder: Path, arguments: list[str]) -> int:
    """Run what is there, and say what is not."""
    present = [name for name in FILES if (folder / name).is_file()]
    for name in sorted(set(FILES) - set(present)):
        print(f"missing: {folder / name}")
    if not present:
        print("fairlearn's tests are in the folder 'test' of its repository; pass what holds it.")
        return 2
    sys.path.insert(0, str(folder))
    tally = Tally()
    with replaced():
        for name in present:
            chosen = ["-k", FILES[name]] if FILES[name] else []
            options = ["-q", "--no-header", "--tb=short", "--no-summary", "-p", "no:cacheprovider"]
            pytest.main(
                [*options, "--rootdir", str(folder), *chosen, *arguments, str(folder / name)],
                plugins=[tally],
            )
    print(f"fairlearn {fairlearn.__version__}: {dict(tally.outcomes)}")
    for reason, times in tally.reasons.most_common():
        print(f"{times:4d}  {reason}")
    return int(bool(tally.outcomes["failed"]))


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    sys.exit(main(Path(sys.argv[1]).resolve(), sys.argv[2:]))
