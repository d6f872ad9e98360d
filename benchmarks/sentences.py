"""Which sentence can be said to which method: every cell of the table is tried.

    python benchmarks/sentences.py               # all
    python benchmarks/sentences.py command "objective: f1"   # these columns and rows again

A cell is "works", "-" (no such keyword), "refused" with the one line that says so, or "bug" where
something else was raised. ``results/sentences.csv`` has the lines, ``docs/sentences.md`` the table.
"""

from __future__ import annotations

import io
import sys
import tempfile
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import fairlearn.reductions as fl
import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression

import fairtrain as ft
from fairtrain.cli import main as command
from fairtrain.exceptions import FairtrainError, InvalidParameterError

OUT = Path(__file__).parent / "results" / "sentences.csv"


class ByOutcome(fl.UtilityParity):
    """Selection rates within the outcome, by events and utilities of its own."""

    def load_data(
        self, X: Any, y: Any, *, sensitive_features: Any, control_features: Any = None
    ) -> None:
        """Hand events and utilities on."""
        y = pd.Series(np.asarray(y))
        super().load_data(
            X,
            y,
            event="outcome " + y.astype(int).astype(str),
            utilities=np.column_stack([np.zeros(len(y)), np.ones(len(y))]),
            sensitive_features=pd.Series(np.asarray(sensitive_features).ravel()),
        )


NOTIONS = {
    "demographic parity": ft.DemographicParity(),
    "equal opportunity": ft.EqualOpportunity(),
    "predictive equality": ft.PredictiveEquality(),
    "equalized odds": ft.EqualizedOdds(),
    "error-rate parity": ft.ErrorRateParity(),
    "predictive parity": ft.PredictiveParity(),
    "bounded group loss": ft.BoundedGroupLoss(upper_bound=0.6, loss="zero_one"),
    "bounded group log loss": ft.BoundedGroupLoss(upper_bound=0.9, loss="log_loss"),
    "ratio bound": ft.DemographicParity(ratio_bound=0.8),
    "floor (AtLeast)": ft.AtLeast("recall", 0.2),
    "floor of precision": ft.AtLeast("precision", 0.2),
    "cap (AtMost)": ft.AtMost("false_positive_rate", 0.6),
    "capacity": ft.AtMost("selection_rate", 0.6, overall=True),
    "no levelling down": [ft.DemographicParity(), ft.NoLevellingDown()],
    "given= (conditional parity)": ft.DemographicParity(given="region"),
    "several constraints": [ft.DemographicParity(), ft.EqualOpportunity(priority=1)],
    "over=": ft.DemographicParity(over="sex"),
    "weights of groups": ft.DemographicParity(weights={"f/n": 2.0}),
    "fairlearn's EqualizedOdds": fl.EqualizedOdds(difference_bound=0.1),
    "UtilityParity of one's own": ByOutcome(difference_bound=0.1),
}
OTHERS = ("objective: costs", "objective: f1", "objective: auc", "regression", "several classes",
          "continuous attribute")  # fmt: skip
METHODS = ("plug-in", "reductions", "boosting", "network", "penalty", "thresholds", "report",
           "command")  # fmt: skip


def rows(n: int = 400) -> tuple[Any, ...]:
    rng = np.random.default_rng(0)
    who = pd.DataFrame({"sex": rng.choice(["f", "m"], n), "region": rng.choice(["n", "s"], n)})
    X = rng.normal(size=(n, 3)) + (who["sex"] == "m").to_numpy()[:, None]
    value = X.sum(axis=1) + rng.normal(size=n)
    return X, (value > 1).astype(int), who, value, rng.uniform(20, 60, n)


def _model(method: str, constraints: Any, **more: Any) -> Any:
    line, own = LogisticRegression(), {"constraints": constraints, "random_state": 0, **more}
    if method == "plug-in":
        return ft.FairPlugInClassifier(line, group_estimator=line, cv=2, **own)
    if method == "reductions":
        return ft.ReductionsWrapper(line, max_iter=3, **own)
    if method == "boosting":
        return ft.LagrangianBoostingClassifier(n_estimators=3, max_depth=2, n_jobs=1, **own)
    if "continuous" in own:
        return ft.AdversarialDebiasingTrainer(
            constraint="demographic_parity", continuous="age", max_epochs=1, random_state=0
        )
    return ft.LagrangianFairnessTrainer(max_epochs=1, **own)


def said(method: str, sentence: str) -> None:
    """Say one sentence to one method; raises what it raises."""
    X, y, who, value, age = rows()
    constraint, more = NOTIONS.get(sentence, ft.DemographicParity()), {}
    if sentence.startswith("objective"):
        words = {"costs": {"false_negative": 3}}
        name = sentence.split(": ")[1]
        more["objective"] = words.get(name, name)
    if sentence == "several classes":
        y = np.arange(len(y)) % 3
    if sentence == "continuous attribute":
        who = who.assign(age=age)
        more = {"continuous": "age"} if method == "network" else {}
    if sentence == "regression":
        y, constraint = value, ft.BoundedGroupLoss(upper_bound=50.0, loss="squared")
    TRIED.get(method, _fitted)(method, constraint, X, y, who, more, sentence)


def _fitted(
    method: str, constraint: Any, X: Any, y: Any, who: Any, more: Any, sentence: str
) -> None:
    if sentence == "regression":
        model: Any = _regressor(method, constraint, more)
    else:
        model = _model(method, constraint, **more)
    model.fit(X, y, sensitive_features=who).predict(X)


def _regressor(method: str, constraint: Any, more: Any) -> Any:
    if method == "boosting":
        return ft.LagrangianBoostingRegressor(constraint, n_estimators=3, n_jobs=1)
    if method == "reductions" and hasattr(ft, "ReductionsRegressor"):
        from sklearn.linear_model import LinearRegression

        return ft.ReductionsRegressor(LinearRegression(), constraint, max_iter=3)
    if method == "network":
        more = {**more, "task": "regression"}
    return _model(method, constraint, **more)


def _penalty(
    method: str, constraint: Any, X: Any, y: Any, who: Any, more: Any, sentence: str
) -> None:
    task = {"task": "regression"} if sentence == "regression" else {}
    ft.RegularizedFairnessTrainer(
        penalty=constraint, max_epochs=1, random_state=0, **task, **more
    ).fit(X, y, sensitive_features=who)


def _thresholds(
    method: str, constraint: Any, X: Any, y: Any, who: Any, more: Any, sentence: str
) -> None:
    score = 1 / (1 + np.exp(-X.sum(axis=1)))
    plain = isinstance(constraint, ft.DemographicParity) and constraint == type(constraint)()
    plain = plain or sentence in ("equal opportunity", "predictive equality", "equalized odds")
    ft.GroupThresholds(constraint.notion if plain else constraint).fit(
        score, y, sensitive_features=who
    )


def _report(
    method: str, constraint: Any, X: Any, y: Any, who: Any, more: Any, sentence: str
) -> None:
    if more:
        ft.metrics.fair_scorer(constraint, more["objective"])
        return
    decided = y if sentence in ("several classes", "regression") else (X[:, 0] > 0).astype(int)
    ft.fairness_report(y, decided, who, constraint)


def _command(
    method: str, constraint: Any, X: Any, y: Any, who: Any, more: Any, sentence: str
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path, said = Path(folder) / "rows.csv", io.StringIO()
        pd.DataFrame(X, columns=list("abc")).join(who).assign(y=y).to_csv(path, index=False)
        people = ["--label", "y", "--positive", "1", *(f"--sensitive={name}" for name in who)]
        out = ["--out", str(Path(folder) / "run"), "--estimator", "logistic"]
        with redirect_stderr(said), redirect_stdout(io.StringIO()):
            code = command(["train", str(path), *people, *out, *COMMAND[sentence]])
    if code:
        raise InvalidParameterError(said.getvalue().rsplit("fairtrain: ", 1)[-1])


COMMAND = {
    **{
        name: ["--constraint", name.replace(" ", "_").replace("-", "_")]
        for name in list(NOTIONS)[:6]
    },
    "floor (AtLeast)": ["--at-least", "recall=0.2"],
    "floor of precision": ["--at-least", "precision=0.2"],
    "cap (AtMost)": ["--at-most", "false_positive_rate=0.6"],
    "ratio bound": ["--ratio", "0.8"],
    "given= (conditional parity)": ["--given", "region"],
    "over=": ["--over", "sex"],
    "objective: costs": ["--objective", "false_negative=3"],
    "objective: f1": ["--objective", "f1"],
    "objective: auc": ["--objective", "auc"],
    "regression": [],
    "several classes": [],
    "continuous attribute": [],
}
"""Options of ``fairtrain train`` that say a sentence."""

NOT_OFFERED = {("objective", "thresholds")}
"""Sentences that a method has no words for."""

TRIED: dict[str, Callable[..., None]] = {
    "penalty": _penalty,
    "thresholds": _thresholds,
    "report": _report,
    "command": _command,
}


def cells(again: Collection[str] = ()) -> Iterator[tuple[str, str, str, str]]:
    """Every cell: sentence, method, what came of it, and the line that said so."""
    for sentence in (*NOTIONS, *OTHERS):
        for method in METHODS:
            if again and not {sentence, method} & set(again):
                continue
            offered = method != "command" or sentence in COMMAND
            if not offered or (sentence.split(":")[0], method) in NOT_OFFERED:
                yield sentence, method, "-", "has no such keyword"
                continue
            try:
                said(method, sentence)
            except FairtrainError as refusal:
                yield sentence, method, "refused", " ".join(str(refusal).split())
            except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
                yield sentence, method, "bug", f"{type(error).__name__}: {error}".split("\n")[0]
            else:
                yield sentence, method, "works", ""


def main() -> None:
    """Try all, and write the table."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    again = sys.argv[1:]
    names = ["sentence", "method", "result", "said"]
    before = pd.read_csv(OUT, keep_default_na=False)[names] if again else None
    found = {} if before is None else {(r[0], r[1]): r for r in before.to_numpy().tolist()}
    for cell in cells(again):
        found[cell[0], cell[1]] = list(cell)
        print(*cell, sep=" | ", flush=True)
        ordered = [found[s, m] for s in (*NOTIONS, *OTHERS) for m in METHODS if (s, m) in found]
        table = pd.DataFrame(ordered, columns=names)
        table.to_csv(OUT, index=False)  # what was tried so far, if it is stopped
    wide = table.pivot_table("result", "sentence", "method", aggfunc="first")
    wide = wide.loc[[*NOTIONS, *OTHERS], list(METHODS)]
    wide.to_csv(OUT.with_name("sentences_table.csv"))
    print(table[table["result"] == "bug"].to_string())


if __name__ == "__main__":
    main()
