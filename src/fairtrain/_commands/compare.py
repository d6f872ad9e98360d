"""``fairtrain compare``: runs side by side, and whether they may be compared at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from fairtrain._commands.output import note, number_span, print_json, print_table
from fairtrain._commands.runs import new_file, read_config, read_summary
from fairtrain._commands.sinks import without_formulas
from fairtrain._text import one_line
from fairtrain.exceptions import InvalidParameterError
from fairtrain.report import Judged, RunSummary

__all__ = ["Compared", "compare"]


@dataclass(frozen=True)
class Compared:
    """Models of several runs.

    Attributes
    ----------
    models : tuple of dict
        Plain values, one for each model but the baselines.
    warnings : tuple of str
        Why they should not be compared.
    """

    models: tuple[dict[str, Any], ...]
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return {"models": list(self.models), "warnings": list(self.warnings)}


def compare(
    runs: Sequence[Path], *, out: Path | None = None, force: bool = False, json: bool = False
) -> int:
    """Show runs side by side; gives the exit code."""
    if out is not None and out.suffix.lower() not in (".csv", ".html", ".htm"):
        raise InvalidParameterError(f"--out '{one_line(out)}' must end in .html or .csv.")
    found = compared(runs)
    if out is not None:
        with new_file(out, force=force) as work:
            _write(work, found, is_csv=out.suffix.lower() == ".csv")
    if json:
        print_json(found.to_dict())
        note(*found.warnings)
        return 0
    lines = [
        [
            m["run"],
            m["method"],
            number_span(m["accuracy"]),
            number_span(m["gap"]),
            f"{m['bound']:g}",
            m["verdict"],
            f"{m['rows']:,}",
        ]
        for m in found.models
    ]
    headings = ["run", "method", "accuracy", "gap", "bound", "verdict", "rows"]
    print_table("Runs, each judged on its certification rows", headings, lines, words=["method"])
    note(*found.warnings)
    return 0


def compared(runs: Sequence[Path]) -> Compared:
    """Read runs.

    Raises
    ------
    InvalidDataError, InvalidParameterError
        If one of them is no run of ``train``, ``sweep`` or ``demo``, or there is one only.
    """
    if len(runs) < 2:
        raise InvalidParameterError("compare takes two runs or more.")
    models: list[dict[str, Any]] = []
    marks: dict[str, list[Any]] = {"constraint": [], "data_sha256": [], "certified_on": []}
    for run in runs:
        summary = read_summary(run)
        config = read_config(run)
        method = _method(config)
        models += [_plain(run, method, summary, model) for model in summary.models[1:]]
        marks["constraint"].append(summary.constraint)
        for name in ("data_sha256", "certified_on"):
            marks[name].append(summary.made_with.get(name))
    return Compared(tuple(models), tuple(_warnings(marks)))


def _method(config: dict[str, dict[str, Any]]) -> str:
    for command in ("train", "sweep"):
        if command in config:
            own = config[command]
            extra = [str(own[k]) for k in ("estimator",) if own.get(k)]
            extra += [f"{k} {own[k]:g}" for k in ("eta", "strength") if own.get(k) is not None]
            swept = "sweep of " if command == "sweep" else ""
            tail = f" ({', '.join(extra)})" if extra else ""
            return f"{swept}{own.get('method', 'reductions')}{tail}"
    return ""


def _plain(run: Path, method: str, summary: RunSummary, model: Judged) -> dict[str, Any]:
    result = model.report.results[0]
    base = summary.models[0]
    return {
        "run": run.name or str(run),
        "method": method or model.title,
        "model": model.title,
        "constraint": summary.constraint,
        "bound": result.bound,
        "accuracy": list(model.report.accuracy),
        "gap": _limits(model.gap(result)),
        "verdict": str(model.report.verdict),
        "near_constant": model.report.near_constant,
        "rows": summary.row_counts["certification"],
        "baseline_accuracy": list(base.report.accuracy),
        "baseline_gap": _limits(base.gap(base.report.results[0])),
    }


def _limits(found: tuple[float, float, float] | None) -> list[float] | None:
    return None if found is None else list(found)


def _warnings(marks: dict[str, list[Any]]) -> list[str]:
    said = []
    if len(set(marks["constraint"])) > 1:
        said.append(
            "the runs were asked for different things, so verdicts and gaps differ in kind."
        )
    if len(set(marks["data_sha256"])) > 1 or None in marks["data_sha256"]:
        said.append("the runs come from different data, so their numbers cannot be compared.")
    elif len(set(marks["certified_on"])) > 1:
        said.append(
            "the runs were judged on different rows of the same data (other groups, shares or "
            "seed), so small differences say nothing."
        )
    return said


def _write(path: Path, found: Compared, *, is_csv: bool) -> None:
    if is_csv:
        without_formulas(pd.DataFrame([_flat(m) for m in found.models])).to_csv(path, index=False)
        return
    environment = Environment(
        loader=PackageLoader("fairtrain.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: one_line(value) if isinstance(value, str) else value,
    )
    environment.filters["span"] = number_span
    page = environment.get_template("compare.html.j2").render(found=found)
    path.write_text(page, encoding="utf-8")


def _flat(model: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in model.items():
        if name in ("accuracy", "gap", "baseline_accuracy", "baseline_gap"):
            three = value or [None] * 3
            flat |= dict(zip((name, f"{name}_lower", f"{name}_upper"), three, strict=True))
        else:
            flat[name] = value
    return flat
