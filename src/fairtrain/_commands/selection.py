"""Which of several fitted models to take, by the rows that steered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fairtrain.constraints.objectives import as_said
from fairtrain.metrics.report import FairnessReport
from fairtrain.metrics.verdicts import Usefulness

__all__ = ["best_of"]

_HIDDEN_BY_NOISE = 2e-3
"""Of a rate: an excess over the bound that no rows which steer could show."""


def best_of(names: Sequence[str], models: Sequence[Any]) -> tuple[int, tuple[str, ...]]:
    """Take the best model: feasible first, then useful, then best at what was sought.

    Only rows that steered are looked at, so that those which certify judge one model, once.

    Parameters
    ----------
    names : sequence of str
        Of the methods.
    models : sequence of FairEstimator
        Fitted.

    Returns
    -------
    place : int
        Of the model to take.
    sentences : tuple of str
        What was chosen, by which rule, and what the others did; empty for one model.
    """
    if len(models) == 1:
        return 0, ()
    found = [(_steered(model), model.usefulness_) for model in models]
    ranks = [
        (not _kept(report), worth is not Usefulness.USEFUL, -report.worth)
        for report, worth in found
    ]
    best = min(range(len(models)), key=ranks.__getitem__)
    sought = found[best][0].objective.replace("_", " ")
    said = [
        f"Chosen among {', '.join(names)}: {names[best]}. The rule: those that keep the bound on "
        f"the rows that steered, of these the useful ones, of these the best {sought}."
    ]
    said += [
        f"{name}: {'keeps' if _kept(report) else 'does not keep'} it there, "
        f"{str(worth).replace('_', ' ')}, {sought} "
        f"{as_said(report.objective, report.worth):.3f} on {report.n_rows:,} rows."
        for name, (report, worth) in zip(names, found, strict=True)
    ]
    said.append("The rows that certify judged this one model alone, once.")
    return best, tuple(said)


def _steered(model: Any) -> FairnessReport:
    reports: dict[str, FairnessReport] = model.reports_
    return reports.get("steering") or reports["training"]


def _kept(report: FairnessReport) -> bool:
    return all(result.excess <= _HIDDEN_BY_NOISE for result in report.results)
