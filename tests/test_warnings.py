"""Every warning names the line of the person who called, not one of the library's."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.tree import DecisionTreeClassifier

import fairtrain
from fairtrain.calibration import GroupThresholds
from fairtrain.exceptions import (
    ConstraintNotMetWarning,
    FairtrainWarning,
    MemorisationWarning,
    NearConstantWarning,
    SkippedBatchWarning,
    StoredRowsWarning,
    UnseenGroupWarning,
    UselessModelWarning,
)
from fairtrain.training.stacked import fit_stacked

USELESS = (UselessModelWarning, NearConstantWarning)

MAKE: dict[str, Callable[..., Any]] = {
    "reductions": lambda **k: fairtrain.ReductionsWrapper(LogisticRegression(), max_iter=3, **k),
    "reductions, cv": lambda **k: fairtrain.ReductionsWrapper(
        LogisticRegression(), max_iter=3, cv=2, **k
    ),
    "boosting": lambda **k: fairtrain.LagrangianBoostingClassifier(n_estimators=2, **k),
    "plug-in": lambda **k: fairtrain.FairPlugInClassifier(LogisticRegression(), cv=2, **k),
    "network": lambda **k: fairtrain.LagrangianFairnessTrainer(max_epochs=2, **k),
    "penalty": lambda **k: fairtrain.RegularizedFairnessTrainer(max_epochs=2, **k),
    "adversary": lambda **k: fairtrain.AdversarialDebiasingTrainer(
        max_epochs=2, leakage="none", **k
    ),
}


def rows(*, of_use: bool, n: int = 400) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(0)
    group = rng.integers(0, 2, n)
    X = (rng.normal(size=(n, 3)) + 2 * group[:, None]).astype(np.float32)
    return X, (X[:, 0] > 1).astype(int) if of_use else (rng.random(n) < 0.2).astype(int), group


def named(kinds: Any, act: Callable[[], Any]) -> None:
    """Warnings of these kinds come, and each of the library's own names this file."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        act()
    own = [w for w in caught if issubclass(w.category, FairtrainWarning)]
    assert any(issubclass(w.category, kinds) for w in own), [w.category for w in own]
    assert {w.filename for w in own} == {__file__}


@pytest.mark.parametrize("method", MAKE)
def test_fit_warns_of_a_useless_model_where_it_was_called(method: str) -> None:
    X, y, group = rows(of_use=False)
    model = MAKE[method](random_state=0)
    named(USELESS, lambda: model.fit(X, y, sensitive_features=group))


@pytest.mark.parametrize("method", ["boosting", "plug-in", "network"])
def test_fit_warns_of_a_broken_bound_where_it_was_called(method: str) -> None:
    X, y, group = rows(of_use=True)
    both = [fairtrain.AtLeast("selection_rate", 0.9), fairtrain.AtMost("selection_rate", 0.1)]
    model = MAKE[method](constraints=both, random_state=0)
    named(ConstraintNotMetWarning, lambda: model.fit(X, y, sensitive_features=group))


def loader(*, of_use: bool) -> list[tuple[torch.Tensor, ...]]:
    X, y, group = map(torch.from_numpy, rows(of_use=of_use))
    return [(X[i : i + 50], y[i : i + 50], group[i : i + 50]) for i in range(0, len(y), 50)]


def test_fit_loader_warns_where_it_was_called() -> None:
    both = [fairtrain.AtLeast("selection_rate", 0.9), fairtrain.AtMost("selection_rate", 0.1)]
    model = MAKE["network"](constraints=both, random_state=0)
    named(ConstraintNotMetWarning, lambda: model.fit_loader(loader(of_use=True), num_groups=2))
    plain = MAKE["penalty"](random_state=0)
    named(USELESS, lambda: plain.fit_loader(loader(of_use=False), num_groups=2))


def test_a_skipped_batch_is_named_where_training_was_called() -> None:
    def sometimes_nan(outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        loss = torch.nn.functional.binary_cross_entropy_with_logits(outputs, y)
        return loss * (float("nan") if torch.rand(()) < 0.2 and loss.requires_grad else 1.0)

    X, y, group = rows(of_use=True)
    model = fairtrain.RegularizedFairnessTrainer(
        max_epochs=6, base_loss=sometimes_nan, random_state=0
    )
    named(SkippedBatchWarning, lambda: model.fit(X, y, sensitive_features=group))


def test_models_in_a_stack_warn_where_the_stack_was_called() -> None:
    X, y, group = rows(of_use=False)
    models = [MAKE["penalty"](random_state=0, eta=eta) for eta in (0.0, 1.0)]
    named(USELESS, lambda: fit_stacked(models, X, y, sensitive_features=group))


@pytest.mark.parametrize(
    ("estimator", "kind"),
    [
        (DecisionTreeClassifier(random_state=0), MemorisationWarning),
        (KNeighborsClassifier(), StoredRowsWarning),
    ],
)
def test_a_reduction_warns_of_its_estimator_where_it_was_called(estimator: Any, kind: Any) -> None:
    X, y, group = rows(of_use=True)
    model = fairtrain.ReductionsWrapper(estimator, resample=True, max_iter=2, random_state=0)
    named(kind, lambda: model.fit(X, y, sensitive_features=group))


def test_calibration_warns_where_it_was_called() -> None:
    scores = np.linspace(0.1, 0.9, 200)
    y, group = (scores > 0.85).astype(int), ["a", "b"] * 100
    calibrator = fairtrain.GroupFairnessCalibrator("hierarchical").fit(
        scores, y, sensitive_features=group
    )
    others = np.array(["c"] * 200)
    named(UnseenGroupWarning, lambda: calibrator.transform(scores, others))
    thresholds = GroupThresholds()
    strict = (scores > 0.999).astype(int)
    strict[0] = 1
    named(NearConstantWarning, lambda: thresholds.fit(scores, strict, group))
