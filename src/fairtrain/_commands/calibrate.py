"""``fairtrain calibrate``: a column of scores that shall mean the same in every group."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from numpy.typing import NDArray

from fairtrain._commands.data import Data, read_data
from fairtrain._commands.methods import as_passed
from fairtrain._commands.options import People, Place
from fairtrain._commands.output import note, print_json, print_table, say
from fairtrain._commands.progress import working
from fairtrain._commands.runs import (
    check_place,
    new_run,
    options_of,
    read_rationale,
    versions,
    write_config,
    write_json,
    write_model,
)
from fairtrain._commands.scores import TableCalibrator, read_score
from fairtrain._commands.sinks import without_formulas
from fairtrain._commands.training import notes_of
from fairtrain.calibration import CalibrationAudit, GroupFairnessCalibrator, calibration_audit
from fairtrain.data.rows import Rows
from fairtrain.plotting.style import save_figure

__all__ = ["Calibrate", "calibrate"]

MIN_CELL = 10


@dataclass(frozen=True)
class Calibrate:
    """What ``fairtrain calibrate`` was asked; see ``fairtrain calibrate --help``."""

    data: Path
    people: People
    place: Place
    score: str
    method: str = "hierarchical"
    certification: float = 0.3
    seed: int = 0
    json: bool = False

    @property
    def settings(self) -> dict[str, Any]:
        """Options, as ``config.toml`` keeps them."""
        own = {
            "data": str(self.data),
            "score": self.score,
            "method": self.method,
            "certification": self.certification,
            "seed": self.seed,
        }
        return {**own, **options_of(self.people, self.place)}


def calibrate(asked: Calibrate) -> int:
    """Fit, audit on rows that the map never saw, write the run folder."""
    check_place(asked.place.out, force=asked.place.force)
    rationale = read_rationale(asked.place.rationale)
    data = read_data(asked.data, asked.people)
    read_score(data.rows.X, asked.score)  # raises before a folder is made
    data = data.divided(
        certification=asked.certification, seed=asked.seed, training_does="fit the map"
    )
    training, certification = data.rows.part("training"), data.rows.part("certification")
    with new_run(asked.place.out, force=asked.place.force) as folder:
        with notes_of() as notes:
            model = _fit(asked, data, training)
            scores = {
                "before": read_score(certification.X, asked.score),
                "after": model.transform(certification.X),
            }
            before, after = (
                _audited(when, score, certification, data, asked.seed)
                for when, score in scores.items()
            )
        numbers: dict[str, Any] = {
            "title": f"Calibration of {asked.score}",
            "data": data.name,
            "outcome": data.outcome,
            "rationale": rationale,
            "rows": {"training": len(training), "certification": len(certification)},
            "before": before.to_dict(min_cell=MIN_CELL),
            "after": after.to_dict(min_cell=MIN_CELL),
            "notes": list(notes),
            "made_with": {**versions(), "data_sha256": data.digest},
        }
        write_model(folder, model, {"data_sha256": data.digest})
        write_config(folder, {"calibrate": asked.settings, "made_with": numbers["made_with"]})
        write_json(folder / "metrics.json", numbers)
        _table(before, after).to_csv(folder / "calibration.csv", index=False)
        _draw(folder / "reliability.png", before, after)
    _show(asked, numbers, before, after)
    return 0


def _fit(asked: Calibrate, data: Data, training: Rows) -> TableCalibrator:
    calibrator = GroupFairnessCalibrator(
        asked.method,
        missing=data.sensitive.missing,
        positive_label=data.favourable,
        random_state=asked.seed,
    )
    model = TableCalibrator(asked.score, data.sensitive, calibrator)
    with working(f"fitting a {asked.method} map for each of {len(training.groups)} groups"):
        return model.fit(*as_passed(training)[:2])


def _audited(
    when: str, scores: NDArray[Any], rows: Rows, data: Data, seed: int
) -> CalibrationAudit:
    with working(f"auditing scores {when} calibration on {len(rows):,} untouched rows"):
        return calibration_audit(
            scores,
            *as_passed(rows)[1:],
            missing=data.sensitive.missing,
            positive_label=data.favourable,
            random_state=seed,
        )


def _table(before: CalibrationAudit, after: CalibrationAudit) -> pd.DataFrame:
    """Groups before and after, without the numbers that must be hidden; no name is a formula."""
    parts = []
    for name, audit in (("before", before), ("after", after)):
        table = audit.groups.copy()
        few = (table["rows"] < MIN_CELL).to_numpy()
        numbers = [c for c in table.columns if c not in ("group", "over")]
        table[numbers] = table[numbers].astype(object)
        table.loc[audit.hidden(MIN_CELL), numbers] = None
        table.loc[few, "rows"] = f"under {MIN_CELL}"
        table.insert(0, "calibration", name)
        parts.append(table)
    return without_formulas(pd.concat(parts, ignore_index=True))


def _draw(path: Path, before: CalibrationAudit, after: CalibrationAudit) -> None:
    from fairtrain.plotting import plot_reliability

    save_figure(path, lambda ax: plot_reliability(after, before=before, ax=ax), size=(7.0, 8.0))


def _show(
    asked: Calibrate,
    numbers: Mapping[str, Any],
    before: CalibrationAudit,
    after: CalibrationAudit,
) -> None:
    out = asked.place.out
    if asked.json:
        print_json(numbers)
        note(*numbers["notes"], f"the run is in {out}")
        return
    print_table(
        f"Calibration error on {after.n_rows:,} rows that the map never saw (lower is better)",
        ["group", "rows", "before", "after [95 %]", "if calibrated, below"],
        _lines(before, after),
    )
    for name, audit in (("Before", before), ("After", after)):
        say(
            f"{name}: disparity (largest minus smallest error) {audit.disparity:.3f}; perfect "
            f"calibration stays below {audit.disparity_null:.3f} in 95 % of samples of this size "
            f"(p = {audit.disparity_p:.3f})."
        )
    say(*(f"Note: {line}" for line in numbers["notes"]))
    say(
        "",
        f"Model, numbers and pictures are in {out}: fairtrain predict {out} DATA calibrates "
        f"column {asked.score} of a table with the sensitive columns.",
    )


def _lines(before: CalibrationAudit, after: CalibrationAudit) -> list[list[str]]:
    old = {(r["over"], r["group"]): r["ece"] for r in before.groups.to_dict("records")}
    lines = []
    for row, hidden in zip(after.groups.to_dict("records"), after.hidden(MIN_CELL), strict=True):
        if hidden:
            rows = f"under {MIN_CELL}" if row["rows"] < MIN_CELL else "hidden"
            lines.append([row["group"], rows, "hidden", "hidden", ""])
            continue
        interval = f"{row['ece']:.3f} [{row['ece_lower']:.3f}, {row['ece_upper']:.3f}]"
        first = f"{old[row['over'], row['group']]:.3f}"
        lines.append([row["group"], f"{row['rows']:,}", first, interval, f"{row['ece_null']:.3f}"])
    return lines
