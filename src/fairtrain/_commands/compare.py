"""``fairtrain compare``: runs side by side, whether they may be compared, and which to take."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from fairtrain._commands.advice import advised
from fairtrain._commands.output import note, number_span, print_json, print_table, say
from fairtrain._commands.runs import new_file, read_summary
from fairtrain._commands.sinks import without_formulas
from fairtrain._text import one_line
from fairtrain.exceptions import InvalidParameterError
from fairtrain.metrics.disclosure import plain_value
from fairtrain.report import Judged, RunSummary
from fairtrain.report.view import environment

__all__ = ["compare"]

_DECIDED = ("threshold", "select_top", "cost_fp", "cost_fn", "objective")
_MUST_AGREE = ("constraint", "data_sha256", "decided")


def compare(
    runs: Sequence[Path], *, out: Path | None = None, force: bool = False, json: bool = False
) -> int:
    """Show runs side by side; gives the exit code."""
    if out is not None and out.suffix.lower() not in (".csv", ".html", ".htm"):
        raise InvalidParameterError(f"--out '{one_line(out)}' must end in .html or .csv.")
    comparison = compared(runs)
    models = [*comparison["models"], *comparison["references"]]
    if out is not None:
        with new_file(out, force=force) as work:
            _write(work, comparison, is_csv=out.suffix.lower() == ".csv")
    if json:
        print_json(comparison)
    else:
        say(*comparison["usefulness"])
        columns: dict[str, Callable[[Any], str]] = {
            "run": str, "method": str, "accuracy": number_span, "gap": number_span,
            "bound": "{:g}".format, "verdict": str, "rows": "{:,}".format,
        }  # fmt: skip
        lines = [[show(model[name]) for name, show in columns.items()] for model in models]
        title = "Runs, each judged on its certification rows"
        print_table(title, list(columns), lines, words=["method"])
        say("", *comparison["advice"])
    note(*comparison["warnings"])
    return 0


def compared(runs: Sequence[Path]) -> dict[str, list[Any]]:
    """Read runs.

    Returns
    -------
    dict of lists
        ``models`` and ``references`` (baselines and constants, each once) as plain values;
        ``warnings``: why runs should not be compared; ``usefulness``: which models are of no use;
        ``advice``: which run to take, and why.

    Raises
    ------
    InvalidDataError, InvalidParameterError
        If one of them is no run of ``train``, ``sweep`` or ``demo``, or there is one only.
    """
    if len(runs) < 2:
        raise InvalidParameterError("compare takes two runs or more.")
    comparison: dict[str, list[Any]] = {"models": [], "references": [], "usefulness": []}
    marks: dict[str, list[Any]] = {name: [] for name in (*_MUST_AGREE, "certified_on")}
    folders: list[str] = []
    for run in runs:
        summary = read_summary(run)
        folders += [str(run)] * len(summary.models[1:])
        comparison["models"] += [_plain(run, summary, model) for model in summary.models[1:]]
        for model in (summary.constant, summary.models[0]):
            if model is not None:
                reference = _plain(run, summary, model) | {"method": model.title}
                _add_once(comparison["references"], reference)
        comparison["usefulness"] += [f"Run '{run.name}': {line}" for line in summary.warnings()]
        marks["constraint"].append(summary.constraint)
        marks["decided"].append(tuple(summary.settings.get(name) for name in _DECIDED))
        for name in ("data_sha256", "certified_on"):
            marks[name].append(summary.made_with.get(name))
    warnings = _warnings(marks)
    advice = advised(
        [
            {**model, "folder": folder}
            for model, folder in zip(comparison["models"], folders, strict=True)
        ]
    )
    if None in marks["data_sha256"] or any(len(set(marks[name])) > 1 for name in _MUST_AGREE):
        advice = [f"No run is recommended: {warnings[0]}"]
    return {**comparison, "warnings": warnings, "advice": advice}


def _add_once(references: list[Any], new: dict[str, Any]) -> None:
    """Add a baseline or constant; where it is there already, name this run beside the others."""
    names = ("run", "baseline_accuracy", "baseline_gap")
    for old in references:
        if all(new[name] == value for name, value in old.items() if name not in names):
            old["run"] += f", {new['run']}"
            return
    references.append(new)


def _method(settings: Mapping[str, Any]) -> str:
    extra = [str(settings["estimator"])] if settings.get("estimator") else []
    strengths = {k: settings[k] for k in ("eta", "strength") if settings.get(k) is not None}
    extra += [f"{name} {value:g}" for name, value in strengths.items()]
    swept = "sweep of " if "max_gap" in settings else ""
    return f"{swept}{settings['method']}" + (f" ({', '.join(extra)})" if extra else "")


def _plain(run: Path, summary: RunSummary, model: Judged) -> dict[str, Any]:
    result = model.report.results[0]
    base = summary.models[0]
    return {
        "run": run.name or str(run),
        "method": _method(summary.settings) if len(summary.models) == 2 else model.title,
        "model": model.title,
        "constraint": summary.constraint,
        "bound": result.bound,
        "larger_is_fairer": result.larger_is_fairer,
        "accuracy": model.report.accuracy,
        "gap": model.gap(result),
        "verdict": str(model.report.verdict),
        "near_constant": model.report.near_constant,
        "useful": not summary.is_useless(model),
        "objective": model.report.objective,
        "performance": plain_value(model.report.worth),
        "smallest_bound": result.smallest_bound,
        "rows": summary.row_counts["certification"],
        "baseline_accuracy": base.report.accuracy,
        "baseline_gap": base.gap(base.report.results[0]),
    }


def _warnings(marks: dict[str, list[Any]]) -> list[str]:
    said = []
    if len(set(marks["constraint"])) > 1:
        said.append(
            "the runs were asked for different things, so verdicts and gaps differ in kind."
        )
    if len(set(marks["decided"])) > 1:
        said.append(
            "the runs decide at different operating points, so that neither accuracies nor costs "
            "can be compared."
        )
    if len(set(marks["data_sha256"])) > 1 or None in marks["data_sha256"]:
        said.append("the runs come from different data, so their numbers cannot be compared.")
    elif len(set(marks["certified_on"])) > 1:
        said.append(
            "the runs were judged on different rows of the same data (other groups, shares or "
            "seed), so small differences say nothing."
        )
    return said


def _write(path: Path, comparison: dict[str, list[Any]], *, is_csv: bool) -> None:
    if is_csv:
        table = pd.DataFrame([_flat(model) for model in comparison["models"]])
        without_formulas(table).to_csv(path, index=False)
        return
    pages = environment(lambda v: one_line(v) if isinstance(v, str) else v, html=True)
    pages.filters["span"] = number_span
    page = pages.get_template("compare.html.j2").render(**comparison)
    path.write_text(page, encoding="utf-8")


def _flat(model: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in model.items():
        if name.endswith(("accuracy", "gap")):
            three = value or [None] * 3
            flat |= dict(zip((name, f"{name}_lower", f"{name}_upper"), three, strict=True))
        else:
            flat[name] = value
    return flat
