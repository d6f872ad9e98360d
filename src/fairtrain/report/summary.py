"""What a run found, as plain values: the one source of terminal table, page and numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from fairtrain.exceptions import InvalidDataError
from fairtrain.metrics.disclosure import shown_count
from fairtrain.report import plain
from fairtrain.report.chart import FrontierChart
from fairtrain.report.judged import Judged

__all__ = ["SCHEMA", "RunSummary"]

SCHEMA = 1
"""Version of the structure; whoever changes the meaning of a key raises it."""


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

    def __post_init__(self) -> None:
        if len(self.models) < 2:
            raise InvalidDataError(
                f"a summary compares a baseline with at least one model, got {len(self.models)}."
            )

    def explanation(self) -> list[str]:
        """Say in plain sentences what was done and what can be concluded."""
        rows = self.row_counts
        everyone = "both models" if len(self.models) == 2 else f"all {len(self.models)} models"
        lines = [
            f"Asked for: {self.constraint}.",
            f"{rows['training']:,} rows trained, {rows['steering']:,} steered, and {everyone} "
            f"were judged on {rows['certification']:,} rows that took part in neither.",
        ]
        for model in self.models:
            for result in model.report.results:
                said = model.words(result, self.outcome)
                lines.append(f"{model.title}: {result.verdict}. {said[:1].upper()}{said[1:]}")
            if model.report.near_constant:
                lines.append(
                    f"{model.title}: near_constant. (Almost) everybody gets the same decision, "
                    "which keeps any bound and helps nobody."
                )
            if model.cost is not None:
                lines.append(f"{model.title}: {model.cost.words()}")
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Give everything that the page shows as plain values for JSON, small cells left out."""
        return {
            "schema": SCHEMA,
            "title": self.title,
            "data": self.data,
            "outcome": self.outcome,
            "constraint": self.constraint,
            "rationale": self.rationale,
            "choice": list(self.choice),
            "rows": {name: int(count) for name, count in self.row_counts.items()},
            "group_counts": {
                group: {part: shown_count(count) for part, count in parts.items()}
                for group, parts in self.group_counts.items()
            },
            "models": [model.to_dict() for model in self.models],
            "frontiers": [plain.chart_dict(chart) for chart in self.frontiers],
            "settings": {str(k): plain.setting_text(v) for k, v in self.settings.items()},
            "made_with": {str(k): plain.setting_text(v) for k, v in self.made_with.items()},
            "notes": list(self.notes),
        }

    @classmethod
    def from_dict(cls, found: Any) -> Self:
        """Read what :meth:`to_dict` gave: it makes the same page.

        Counts of fewer than ten rows come back as nine, and are shown as "under 10".

        Raises
        ------
        InvalidDataError
            If another version wrote it, or it is something else.
        """
        schema = found.get("schema") if isinstance(found, Mapping) else None
        if schema != SCHEMA:
            raise InvalidDataError(
                f"these numbers have schema {schema!r}, and this fairtrain reads schema {SCHEMA}; "
                "use the version of fairtrain that wrote them, or run again."
            )
        try:
            return cls(
                title=found["title"],
                data=found["data"],
                outcome=found["outcome"],
                constraint=found["constraint"],
                models=tuple(Judged.from_dict(model) for model in found["models"]),
                row_counts=dict(found["rows"]),
                group_counts={
                    group: {part: plain.uncount(count) for part, count in parts.items()}
                    for group, parts in found["group_counts"].items()
                },
                settings=dict(found["settings"]),
                notes=tuple(found["notes"]),
                rationale=found["rationale"],
                choice=tuple(found["choice"]),
                frontiers=tuple(plain.chart(chart) for chart in found["frontiers"]),
                made_with=dict(found["made_with"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, InvalidDataError):
                raise
            raise InvalidDataError(
                "these numbers are damaged or no summary of a run "
                f"({type(error).__name__}: {error})."
            ) from error
