"""What a run found, as plain values: the one source of terminal table, page and numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from fairtrain.constraints.objectives import as_said
from fairtrain.exceptions import InvalidDataError
from fairtrain.metrics.disclosure import shown_count
from fairtrain.report import plain
from fairtrain.report.chart import FrontierChart
from fairtrain.report.judged import Judged, published

__all__ = ["SCHEMA", "RunSummary", "joined", "the_model"]

SCHEMA = 1
"""Version of the structure; whoever changes the meaning of a key raises it."""

_TEXTS = ("title", "data", "outcome", "constraint", "rationale")
_SENTENCES = ("notes", "choice", "method", "columns", "signed")


@dataclass(frozen=True)
class RunSummary:
    """A baseline beside fair models.

    Attributes
    ----------
    title, data : str
        What the run is about, and where its rows came from.
    outcome : str
        The favourable outcome in words, such as ``"approved"``.
    constraint : str
        What was asked, in words.
    models : tuple of Judged
        Two or more, baseline first.
    row_counts : mapping of str to int
        Rows that train, steer and certify.
    group_counts : mapping of str to mapping
        Group -> rows of each of those, and in all.
    settings : mapping
        Options.
    notes : tuple of str
        Warnings of the run.
    rationale : str
        Why this constraint was asked for, in the words of whoever did.
    choice : tuple of str
        Sentences: what was chosen, and what it costs.
    frontiers : tuple of FrontierChart
        Sweeps to draw.
    made_with : mapping
        Versions, seed, hash of the data.
    method : tuple of str
        Sentences: how the models were trained, and what is inferred of people inside.
    columns : tuple of str
        Sentences: what the columns are used as, which are left out, and what looks wrong.
    constant : Judged or None
        The best decision that is the same for everybody, on the rows that judged the models.
    proxies : tuple of mapping
        A feature each, as :func:`~fairtrain.metrics.feature_proxies` finds it in the labels of the
        rows that train: what tells the group, and what the gap goes with.
    crossed : bool
        Whether all rows trained, steered and judged, each the member of a lottery that never saw
        it.
    intended_use : str
        What the model is for, and what it is not for, in the words of whoever answers for it.
    signed : tuple of str
        Who signed, as what, and when, a sentence each.
    """

    title: str
    data: str
    outcome: str
    constraint: str
    models: tuple[Judged, ...]
    row_counts: Mapping[str, int]
    group_counts: Mapping[str, Mapping[str, int]]
    settings: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    rationale: str = ""
    choice: tuple[str, ...] = ()
    frontiers: tuple[FrontierChart, ...] = ()
    made_with: Mapping[str, Any] = field(default_factory=dict)
    method: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    constant: Judged | None = None
    proxies: tuple[Mapping[str, Any], ...] = ()
    crossed: bool = False
    intended_use: str = ""
    signed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.models) < 2:
            raise InvalidDataError(
                f"a summary compares a baseline with at least one model, got {len(self.models)}."
            )

        # Whatever is shown, written or saved of any of them is one publication.
        together = [m for m in (self.constant, *self.models) if m is not None]
        by_rows: dict[int, list[Judged]] = {}
        for model in together:
            by_rows.setdefault(model.report.n_rows, []).append(model)
        hidden = {rows: published(models) for rows, models in by_rows.items()}
        shown = [model.among(hidden[model.report.n_rows]) for model in together]
        object.__setattr__(self, "models", tuple(shown[-len(self.models) :]))
        # What a verdict says in the same words is no note beside it.
        said = tuple(r.words(m.report.confidence) for m in self.models for r in m.report.results)
        notes = tuple(note for note in self.notes if not note.endswith(said))
        object.__setattr__(self, "notes", notes)
        if self.constant is not None:
            object.__setattr__(self, "constant", shown[0])

    @property
    def on_fresh_rows(self) -> bool:
        """Whether the last model is a saved one on rows that came later, beside itself before."""
        return "judged_on_sha256" in self.made_with

    @property
    def judging_rows(self) -> str:
        """The rows that judge, in words that say whether they did anything before."""
        rows = f"{self.row_counts['certification']:,}"
        if not self.on_fresh_rows and self.crossed:
            return f"{rows} rows, each told by a model that never saw it"
        if not self.on_fresh_rows:
            return f"{rows} rows that trained and steered nothing"
        if self.models[-1].report.reading > 1:
            return f"{rows} rows, some or all of which certified it before"
        if self.models[-1].report.rows == "certification":
            return f"{rows} fresh rows"
        return f"{rows} rows of the table that it was made from"

    @property
    def crossed_words(self) -> str:
        """Say what the rows did where all of them trained, steered and judged."""
        return (
            f"All {self.row_counts['training']:,} rows trained, steered and judged: one of several "
            "models decides, drawn for every person, and each was judged on rows that it never "
            "saw. Met speaks of this lottery among the members, of no member by itself and of no "
            "average of them."
        )

    def warnings(self) -> list[str]:
        """Say which models are of no use: no better than a constant, or than their own baseline.

        Each sentence names the models that it speaks of.
        """
        lines = []
        best, sought = self._constant_worth, self.models[-1].report.objective
        if idle := [model for model in self.models if self._idle(model)]:
            names = joined(f"{the_model(m.title)} ({m.report.worth_said:.3f})" for m in idle)
            are = "is" if len(idle) == 1 else "are"
            better = "more accurate" if sought == "accuracy" else f"better by {_plain(sought)}"
            lines.append(
                f"Warning: {names} {are} no {better} than the same decision for everybody "
                f"({as_said(sought, best):.3f})."
            )
        for model in self.models:
            if (baseline := self._better_baseline(model)) is not None:
                worse = "less accurate" if sought == "accuracy" else f"worse by {_plain(sought)}"
                lines.append(
                    f"Warning: {the_model(model.title)} is beaten by {the_model(baseline.title)} "
                    f"in both: it is {worse} ({model.report.worth_said:.3f} against "
                    f"{baseline.report.worth_said:.3f}), and its groups are farther apart."
                )
        return lines

    def is_useless(self, model: Judged) -> bool:
        """Whether a constant, or its own baseline, would do as well as one of the models."""
        return self._idle(model) or self._better_baseline(model) is not None

    @property
    def _constant_worth(self) -> float:
        """What the constant is worth by what was sought."""
        if self.constant is None:
            return math.nan
        best = self.constant.report.worth
        # By a measure of scores a constant decision is worth nothing that is known.
        return self.constant.report.constant_performance if math.isnan(best) else best

    def _idle(self, model: Judged) -> bool:
        # In a report on fresh rows one model was judged on others than the constant.
        return _same_rows(model, self.constant) and model.report.worth <= self._constant_worth

    def _better_baseline(self, model: Judged) -> Judged | None:
        """Its own baseline, where that is better in both."""
        for other in self.models:
            if other.cost is None and other.title == model.baseline and model.cost is not None:
                return other if _beaten(model, other) else None
        return None

    def explanation(self) -> list[str]:
        """Say in plain sentences what was done and what can be concluded."""
        rows = self.row_counts
        learnt = f"{rows['training']:,} rows for training and {rows['steering']:,} for steering"
        everyone = "both models" if len(self.models) == 2 else f"all {len(self.models)} models"
        judged = (
            f"{everyone} were judged on {rows['certification']:,} rows that took part in neither"
        )
        if self.on_fresh_rows:
            judged = f"it is judged on {self.judging_rows}"
        lines = [f"Asked for: {self.constraint}.", f"There were {learnt}; {judged}."]
        if self.crossed:
            lines[1] = self.crossed_words + (f" Now {judged}." if self.on_fresh_rows else "")
        for model in self.models:
            own = (model.verdict_words(result, self.outcome) for result in model.report.results)
            of_all = model.report.reading_words() + model.report.joint_words(shown=True)
            lines += [f"{model.title}: {line}" for line in (*own, *of_all)]
            if model.report.near_constant:
                lines.append(
                    f"{model.title}: near_constant. (Almost) everybody gets the same decision, "
                    "which keeps any bound and helps nobody."
                )
            if model.cost is not None:
                lines.append(f"{model.title}: {model.cost_words}")
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Give everything that the page shows as plain values for JSON, small cells left out."""
        return {
            "schema": SCHEMA,
            **{name: getattr(self, name) for name in _TEXTS},
            **{name: list(getattr(self, name)) for name in _SENTENCES},
            "rows": {name: int(count) for name, count in self.row_counts.items()},
            "group_counts": {
                group: {part: shown_count(count) for part, count in parts.items()}
                for group, parts in self.group_counts.items()
            },
            "models": [model.to_dict() for model in self.models],
            "constant": None if self.constant is None else self.constant.to_dict(),
            "usefulness": self.warnings(),
            "crossed": self.crossed,
            "intended_use": self.intended_use,
            "proxies": [dict(one) for one in self.proxies],
            "frontiers": [plain.chart_dict(chart) for chart in self.frontiers],
            "settings": {str(k): plain.setting_text(v) for k, v in self.settings.items()},
            "made_with": {str(k): plain.setting_text(v) for k, v in self.made_with.items()},
        }

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """Read what :meth:`to_dict` gave: it makes the same page.

        Counts of fewer than ten rows come back as nine, and are shown as "under 10".

        Raises
        ------
        InvalidDataError
            If another version wrote it, or it is something else.
        """
        schema = values.get("schema") if isinstance(values, Mapping) else None
        if schema != SCHEMA:
            raise InvalidDataError(
                f"these numbers have schema {schema!r}, and this fairtrain reads schema {SCHEMA}; "
                "use the version of fairtrain that wrote them, or run again."
            )
        try:
            # Earlier versions knew neither a constant nor how the models were trained.
            values = {"constant": None, "method": (), "crossed": False, **values}
            constant = values["constant"]
            words: dict[str, Any] = {name: values[name] for name in _TEXTS}
            words |= {name: tuple(values.get(name, ())) for name in _SENTENCES}
            return cls(
                **words,
                models=tuple(Judged.from_dict(model) for model in values["models"]),
                constant=None if constant is None else Judged.from_dict(constant),
                crossed=bool(values["crossed"]),
                intended_use=str(values.get("intended_use", "")),
                proxies=tuple(dict(one) for one in values.get("proxies", ())),
                row_counts=dict(values["rows"]),
                group_counts={
                    group: {part: plain.uncount(count) for part, count in parts.items()}
                    for group, parts in values["group_counts"].items()
                },
                frontiers=tuple(plain.chart(chart) for chart in values["frontiers"]),
                settings=dict(values["settings"]),
                made_with=dict(values["made_with"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, InvalidDataError):
                raise
            raise InvalidDataError(
                "these numbers are damaged or no summary of a run "
                f"({type(error).__name__}: {error})."
            ) from error


def _plain(objective: str) -> str:
    return objective.replace("_", " ")


def _same_rows(model: Judged, other: Judged | None) -> bool:
    return other is not None and model.report.n_rows == other.report.n_rows


def _beaten(model: Judged, other: Judged) -> bool:
    """Whether another model is better at what was sought and keeps its groups closer together."""
    if not other.report.worth > model.report.worth:
        return False
    for own, its in zip(model.report.results, other.report.results, strict=True):
        mine, theirs = model.gap(own), other.gap(its)
        if mine is None or theirs is None:
            return False
        if mine[0] >= theirs[0] if own.larger_is_fairer else mine[0] <= theirs[0]:
            return False
    return True


def the_model(title: str) -> str:
    """Name a model inside a sentence."""
    return f"the {title}" if title in ("baseline", "fair model") else f"model '{title}'"


def joined(names: Iterable[str]) -> str:
    """Join words by commas and an "and"."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
