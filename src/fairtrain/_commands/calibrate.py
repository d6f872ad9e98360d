"""``fairtrain calibrate``: a column of scores that shall mean the same in every group."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fairtrain._commands.data import Data, read_data
from fairtrain._commands.methods import as_passed
from fairtrain._commands.options import CalibrationOptions
from fairtrain._commands.output import note, notes_of, print_json, print_table, say
from fairtrain._commands.progress import working
from fairtrain._commands.runs import (
    check_place,
    new_run,
    options_of,
    read_rationale,
    write_config,
    write_json,
)
from fairtrain._commands.scores import TableCalibrator, read_score
from fairtrain._commands.sinks import without_formulas
from fairtrain._versions import versions
from fairtrain.calibration import CalibrationAudit, GroupFairnessCalibrator, calibration_audit
from fairtrain.data.rows import Rows
from fairtrain.exceptions import InvalidParameterError
from fairtrain.metrics.disclosure import MIN_CELL
from fairtrain.persistence import save
from fairtrain.plotting import plot_reliability
from fairtrain.plotting.style import save_figure

__all__ = ["calibrate"]


def calibrate(path: Path, options: CalibrationOptions) -> int:
    """Fit, audit on rows that the map never saw, write the run folder."""
    check_place(options.place.out, force=options.place.force)
    rationale = read_rationale(options.place.rationale)
    if options.people.given or options.people.pooled:
        raise InvalidParameterError(
            "--given and --pooled are for rates within strata: use them with train, sweep or audit."
        )
    data = read_data(path, options.people)
    read_score(data.rows.X, options.score)  # raises before a folder is made
    data = data.divided(
        certification=options.certification, seed=options.seed, training_does="fit the map"
    )
    training, certification = data.rows.part("training"), data.rows.part("certification")
    with new_run(options.place.out, force=options.place.force) as folder:
        notes: list[str] = []
        with notes_of(notes):
            model = _fit(options, data, training)
            given = read_score(certification.X, options.score)
            before = _audited("before", given, certification, data, options.seed)
            calibrated = model.transform(certification.X)
            after = _audited("after", calibrated, certification, data, options.seed)
        numbers: dict[str, Any] = {
            "title": f"Calibration of {options.score}",
            "data": data.name,
            "outcome": data.outcome,
            "rationale": rationale,
            "rows": {"training": len(training), "certification": len(certification)},
            "before": before.to_dict(min_cell=MIN_CELL),
            "after": after.to_dict(min_cell=MIN_CELL),
            "notes": notes,
            "made_with": {**versions(), "data_sha256": data.digest},
        }
        save(model, folder / "model", metadata={"data_sha256": data.digest})
        write_config(
            folder, {"calibrate": options_of(path, options), "made_with": numbers["made_with"]}
        )
        write_json(folder / "metrics.json", numbers)
        _table(before, after).to_csv(folder / "calibration.csv", index=False)
        save_figure(
            folder / "reliability.png",
            lambda ax: plot_reliability(after, before=before, ax=ax),
            size=(7.0, 8.0),
        )
    _show(options, numbers, before, after)
    return 0


def _fit(options: CalibrationOptions, data: Data, training: Rows) -> TableCalibrator:
    calibrator = GroupFairnessCalibrator(
        options.method,
        missing=data.sensitive.missing,
        positive_label=data.favourable,
        random_state=options.seed,
    )
    model = TableCalibrator(options.score, data.sensitive, calibrator)
    with working(f"fitting a {options.method} map for each of {len(training.groups)} groups"):
        return model.fit(*as_passed(training)[:2], clusters=training.clusters)


def _audited(
    when: str, scores: NDArray[Any], rows: Rows, data: Data, seed: int
) -> CalibrationAudit:
    with working(f"auditing scores {when} calibration on {len(rows):,} untouched rows"):
        return calibration_audit(
            scores,
            *as_passed(rows)[1:],
            clusters=rows.clusters,
            missing=data.sensitive.missing,
            positive_label=data.favourable,
            random_state=seed,
        )


def _table(before: CalibrationAudit, after: CalibrationAudit) -> pd.DataFrame:
    """Groups before and after, without the numbers that must be hidden; no name is a formula."""
    audits = {"before": before, "after": after}
    groups = {when: audit.groups for when, audit in audits.items()}
    table = pd.concat(groups, names=["calibration"]).reset_index(0).reset_index(drop=True)
    hidden = np.concatenate([audit.hidden(MIN_CELL) for audit in audits.values()])
    few = (table["rows"] < MIN_CELL).to_numpy()
    numbers = [c for c in table.columns if c not in ("calibration", "group", "over")]
    table = table.astype(dict.fromkeys(numbers, object))
    table.loc[hidden, numbers] = None
    table.loc[few, "rows"] = f"under {MIN_CELL}"
    return without_formulas(table)


def _show(
    options: CalibrationOptions,
    numbers: Mapping[str, Any],
    before: CalibrationAudit,
    after: CalibrationAudit,
) -> None:
    out = options.place.out
    if options.json:
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
        f"column {options.score} of a table with the sensitive columns.",
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
