"""Bad data into every public name, generated from signatures: one clear line each, and at once.

An argument's name says what it holds (:data:`KINDS`), and what it holds says what can be wrong with
it (:data:`FAULTS`). Settings are the matter of ``test_parameters``.
"""

from __future__ import annotations

import inspect
import signal
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression, LogisticRegression

import fairtrain
from fairtrain import datasets, losses, metrics, monitoring, plotting
from fairtrain.exceptions import FairtrainError

pytestmark = pytest.mark.filterwarnings("ignore")

SECONDS = 20  # a case takes milliseconds; on a busy machine, more
N = 80
RNG = np.random.default_rng(0)
WHO = np.repeat(["a", "b"], N // 2)
X = RNG.normal(size=(N, 2)) + 0.3 * (WHO == "a")[:, None]
Y = (X.sum(axis=1) + RNG.normal(size=N) > 0).astype(int)
SCORES = np.clip(0.5 + 0.2 * X[:, 0], 0.05, 0.95)
FLAT = LogisticRegression(solver="liblinear")
LIMIT = fairtrain.BoundedGroupLoss(upper_bound=9.0, loss="squared")

# What an argument holds, by its name ------------------------------------------------------------

KINDS = {
    "X": "features",
    "features": "features",
    "y": "labels",
    "y_true": "labels",
    "y_pred": "labels",
    "scores": "scores",
    "y_score": "scores",
    "before": "scores",
    "after": "scores",
    "sensitive_features": "groups",
    "groups": "groups",
    "sample_weight": "weights",
    "clusters": "names",
    "ids": "names",
}
GOOD = {
    "features": X,
    "labels": Y,
    "scores": SCORES,
    "groups": WHO,
    "weights": np.ones(N),
    "names": np.arange(N) // 2,
}


def at_first(good: np.ndarray, value: Any) -> np.ndarray:
    changed = good.astype(object if not isinstance(value, float | complex) else type(value))
    changed[0] = value
    return changed


class Strange:
    """Whatever is asked of it fails."""

    def __repr__(self) -> str:
        return "<strange>"


Fault = Callable[[np.ndarray], Any]
ANY_COLUMN: dict[str, Fault] = {
    "shorter": lambda good: good[:-1],
    "longer": lambda good: np.concatenate([good, good[:1]]),
    "one row": lambda good: good[:1],
    "empty": lambda good: good[:0],
    "empty list": lambda _: [],
    "a number": lambda _: 5,
    "a word": lambda _: "y",
    "an object": lambda _: Strange(),
    "a function": lambda _: len,
    "three dimensions": lambda good: np.stack([np.stack([good, good])] * 2),
    "uneven lists": lambda good: [[1, 2], [3], *good[2:].tolist()],
    "an index of other rows": lambda good: pd.Series(list(good)).iloc[:-1],
}
NUMBERS: dict[str, Fault] = {
    "NaN": lambda good: at_first(good, float("nan")),
    "infinite": lambda good: at_first(good, float("inf")),
    "None within": lambda good: at_first(good, None),
    "complex": lambda good: at_first(good, 1j),
    "words": lambda good: np.array(["x y"] * len(good), dtype=object),
    "a list within": lambda good: [[1], *good[1:].tolist()],
    "an object within": lambda good: at_first(good, Strange()),
    "a date": lambda good: np.array(["2020-01-01"] * len(good), dtype="datetime64[D]"),
    "10^400": lambda good: at_first(good, 10**400),
}
FAULTS: dict[str, dict[str, Fault]] = {
    "labels": {
        **ANY_COLUMN,
        **{k: NUMBERS[k] for k in ("NaN", "infinite", "None within", "complex", "10^400")},
        "an object within": NUMBERS["an object within"],
        "a continuum": lambda good: good + np.linspace(0, 0.9, len(good)),
        "two columns": lambda good: np.column_stack([good, good]),
    },
    "scores": {
        **ANY_COLUMN,
        **NUMBERS,
        "two columns": lambda good: np.column_stack([good, good]),
    },
    "groups": {
        **ANY_COLUMN,
        "None within": NUMBERS["None within"],
        "NaN": lambda good: at_first(good.astype(object), None),
        "dictionaries": lambda good: [{"a": 1}] * len(good),
        "lists within": lambda good: at_first(good, ["a"]),
        "a column shorter": lambda good: {"who": good, "age": good[1:]},
        "no column": lambda good: pd.DataFrame(index=range(len(good))),
        "one name twice": lambda good: pd.DataFrame({1: good, "1": good}),
        "a mapping of none": lambda _: {},
    },
    "weights": {
        **ANY_COLUMN,
        **NUMBERS,
        "negative": lambda good: at_first(good, -1.0),
        "all 0": lambda good: 0 * good,
        "1e308": lambda good: 1e308 * good,
        "two columns": lambda good: np.column_stack([good, good]),
    },
    "names": {
        **ANY_COLUMN,
        "None within": NUMBERS["None within"],
        "NaN": NUMBERS["NaN"],
        "lists within": lambda good: at_first(good, [1]),
        "two columns": lambda good: np.column_stack([good, good]),
    },
    "features": {
        **{k: ANY_COLUMN[k] for k in ("shorter", "longer", "empty", "empty list", "a number")},
        **{k: ANY_COLUMN[k] for k in ("a word", "an object", "a function", "uneven lists")},
        "missing": lambda _: None,
        "three dimensions": lambda good: np.stack([good, good], axis=2),
        "one dimension": lambda good: good[:, 0],
        "no column": lambda good: good[:, :0],
        "complex": lambda good: good + 1j,
        "words": lambda good: np.full(good.shape, "x y", dtype=object),
        "objects": lambda good: np.full(good.shape, Strange(), dtype=object),
        "infinite": lambda good: np.where(np.arange(good.size).reshape(good.shape), good, np.inf),
    },
}

# Every public name that takes rows --------------------------------------------------------------


def methods() -> dict[str, Callable[[], Any]]:
    quick = {"random_state": 0, "difference_bound": 0.9}
    return {
        "AdversarialDebiasingTrainer": lambda: fairtrain.AdversarialDebiasingTrainer(
            max_epochs=1, random_state=0
        ),
        "LagrangianFairnessTrainer": lambda: fairtrain.LagrangianFairnessTrainer(
            max_epochs=1, **quick
        ),
        "RegularizedFairnessTrainer": lambda: fairtrain.RegularizedFairnessTrainer(
            max_epochs=1, random_state=0
        ),
        "LagrangianBoostingClassifier": lambda: fairtrain.LagrangianBoostingClassifier(
            n_estimators=1, **quick
        ),
        "LagrangianBoostingRegressor": lambda: fairtrain.LagrangianBoostingRegressor(
            LIMIT, n_estimators=1, random_state=0
        ),
        "ReductionsWrapper": lambda: fairtrain.ReductionsWrapper(FLAT, max_iter=1, **quick),
        "ReductionsRegressor": lambda: fairtrain.ReductionsRegressor(
            LinearRegression(),
            LIMIT,
            max_iter=1,
            random_state=0,
        ),
        "FairPlugInClassifier": lambda: fairtrain.FairPlugInClassifier(FLAT, **quick),
        "FairPlugInTrainer": lambda: fairtrain.FairPlugInTrainer(max_epochs=1, cv=2, **quick),
        "CalibratedFairClassifier": lambda: fairtrain.CalibratedFairClassifier(FLAT),
        "GroupFairnessCalibrator": fairtrain.GroupFairnessCalibrator,
        "GroupThresholds": fairtrain.GroupThresholds,
        "Multicalibrator": fairtrain.Multicalibrator,
    }


USES = ("fit", "fit_transform", "predict", "predict_proba", "decision_function", "decision_proba",
        "transform", "score", "evaluate", "contributions", "update")  # fmt: skip
MONITORS = {
    "FairnessMonitor": fairtrain.FairnessMonitor,
    "CalibrationMonitor": fairtrain.CalibrationMonitor,
}
FUNCTIONS: dict[str, dict[str, Any]] = {
    "calibration_audit": {"n_simulations": 20},
    "certification_plan": {},
    "fairness_report": {},
    "gap": {},
    "gap_score": {},
    "group_rates": {},
    "ratio": {},
    "threshold_effects": {},
    "plot_scores": {},
    "pareto_frontier": {"model": FLAT, "param": "C", "values": [1.0]},
}
REGRESSORS = {"LagrangianBoostingRegressor", "ReductionsRegressor"}


def place_of(name: str) -> Any:
    for room in (fairtrain, metrics, losses, datasets, plotting, monitoring):
        if name in room.__all__:
            return getattr(room, name)
    raise KeyError(name)


@cache
def fitted(name: str) -> Any:
    made = methods()[name]()
    taken = arguments(made.fit)
    return made.fit(**{k: good(k, name) for k in taken if k not in ("features", "sample_weight")
                       and k != "clusters"})  # fmt: skip


def arguments(function: Any) -> list[str]:
    """Its arguments that hold rows."""
    return [name for name in inspect.signature(function).parameters if name in KINDS]


def good(argument: str, owner: str = "") -> Any:
    return X[:, 0] if owner in REGRESSORS and argument == "y" else GOOD[KINDS[argument]]


def entries() -> Iterator[tuple[str, Callable[[], Callable[..., Any]], list[str]]]:
    """Name, a maker of the function to be called, and its arguments that hold rows."""
    for name in methods():
        for use in USES:
            if (found := getattr(place_of(name), use, None)) is None:
                continue
            if name in REGRESSORS and use == "decision_proba":
                continue
            if use.startswith("fit"):
                made = lambda name=name, use=use: getattr(methods()[name](), use)  # noqa: E731
            else:
                made = lambda name=name, use=use: getattr(fitted(name), use)  # noqa: E731
            yield f"{name}.{use}", made, arguments(found)
    for name, kind in MONITORS.items():
        yield f"{name}.update", lambda kind=kind: kind().update, arguments(kind.update)
    for name, settings in FUNCTIONS.items():
        yield name, lambda n=name, s=settings: _bound(place_of(n), s), arguments(place_of(name))


def _bound(function: Any, settings: dict[str, Any]) -> Callable[..., Any]:
    return lambda **rows: function(**rows, **settings)


OPTIONAL = {"features", "sample_weight", "clusters", "ids", "y_score"}
"""Left out unless it is their turn."""
ENTRIES = {name: (made, taken) for name, made, taken in entries()}
CASES = [(name, argument) for name, (_, taken) in ENTRIES.items() for argument in taken]


def kind_of(entry: str, argument: str) -> str:
    owner = entry.partition(".")[0]
    return "scores" if owner in REGRESSORS and argument == "y" else KINDS[argument]


def bad_calls(entry: str, argument: str) -> Iterator[tuple[str, Callable[[], Any]]]:
    make, taken = ENTRIES[entry]
    owner = entry.partition(".")[0]
    rows = {name: good(name, owner) for name in taken if name == argument or name not in OPTIONAL}
    if entry == "certification_plan" and argument == "groups":
        rows.pop("y", None)  # so many rows a group
    if argument == "ids":
        rows.pop("y_true")  # which waits
    for fault, spoil in FAULTS[kind_of(entry, argument)].items():
        if legal(entry, argument, fault):
            continue
        bad = spoil(good(argument, owner))
        yield fault, lambda bad=bad: make()(**{**rows, argument: bad})


def legal(entry: str, argument: str, fault: str) -> bool:
    """Whether what is a fault elsewhere means something here."""
    needed = [name for name in ENTRIES[entry][1] if name not in OPTIONAL]
    if fault in ("shorter", "longer", "an index of other rows"):
        return needed == [argument] or (entry, argument) == ("certification_plan", "groups")
    if (entry, argument) == ("GroupThresholds.predict", "X"):  # whatever tells people apart
        return fault not in ("empty", "empty list", "a number", "a word", "an object")
    if (entry, argument) == ("Multicalibrator.transform", "features"):  # cells need none
        return fault in ("missing", "one dimension", "complex", "words", "objects", "infinite")
    return fault == "missing" and argument == "features"


# What came of a call ----------------------------------------------------------------------------


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise TimeoutError("hang")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def outcome(call: Callable[[], Any]) -> str:
    """``clear``, ``scikit-learn``, or what is wrong."""
    try:
        with limited(SECONDS), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            call()
    except TimeoutError:
        return "hang"
    except FairtrainError as error:
        said = str(error)
        return "clear" if "\n" not in said and 10 < len(said) < 500 else f"unclear: {said[:80]!r}"
    except Exception as error:  # noqa: BLE001 - judged by where it was raised
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = Path(last.filename).as_posix()
        said = f"{type(error).__name__}: {str(error)[:90]!r} at {where[-40:]}:{last.lineno}"
        raised = (last.line or "").startswith("raise")
        if isinstance(error, ValueError | TypeError):
            # "could not convert string to float" comes out of scikit-learn's check_array, too.
            if "/sklearn/utils/" in where or ("/sklearn/" in where and raised):
                return "scikit-learn"
            if "/fairtrain/" in where and raised and "\n" not in str(error):
                return "clear"
        return f"deep: {said}"
    return "silent"


@pytest.mark.parametrize(("entry", "argument"), CASES)
def test_rows_that_cannot_be_used_are_refused_in_one_line(entry: str, argument: str) -> None:
    found = {fault: outcome(call) for fault, call in bad_calls(entry, argument)}
    wrong = {fault: said for fault, said in found.items() if said not in ("clear", "scikit-learn")}
    assert not wrong


def test_there_are_many_cases() -> None:
    assert sum(1 for case in CASES for _ in bad_calls(*case)) >= 500


UNFITTED = [
    name for name in ENTRIES if "." in name and name.rpartition(".")[2] not in (
        "fit", "fit_transform", "update")
]  # fmt: skip


@pytest.mark.parametrize("entry", UNFITTED)
def test_what_is_not_fitted_says_so(entry: str) -> None:
    name, _, use = entry.partition(".")
    made = methods()[name]()
    rows = {argument: good(argument, name) for argument in arguments(getattr(made, use))
            if argument not in OPTIONAL}  # fmt: skip
    with pytest.raises(NotFittedError, match="not fitted"):
        getattr(made, use)(**rows)
