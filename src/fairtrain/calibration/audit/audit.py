"""How well scores are calibrated in every group, and how sure one can be."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fairtrain.calibration.audit.binning import GroupCells, make_cells
from fairtrain.calibration.audit.errors import MEASURES, brier_parts
from fairtrain.calibration.audit.null import NullReference, ece_interval, null_reference
from fairtrain.calibration.audit.screen import Screen, screen
from fairtrain.calibration.cells import gather
from fairtrain.calibration.fingerprint import fingerprint
from fairtrain.calibration.intake import read_scored
from fairtrain.calibration.lattice import Family, families, subgroup_names
from fairtrain.calibration.logistic import fit_logistic
from fairtrain.calibration.significance import adjusted, score_test
from fairtrain.data.groups import Missing
from fairtrain.data.rows import Rows
from fairtrain.exceptions import InvalidParameterError, SameRowsWarning
from fairtrain.metrics.verdicts import Verdict

__all__ = ["CalibrationAudit", "calibration_audit"]

Floats = NDArray[np.float64]

_LEVEL = 0.95


@dataclass(frozen=True, eq=False)
class CalibrationAudit:
    """Calibration of every group, each value beside what perfect calibration would give.

    Attributes
    ----------
    groups : DataFrame
        One line a group. ``group``, ``over`` (attributes), ``rows``, ``events``, ``mean_score``,
        ``event_rate``; the measures ``ece`` (debiased, bins of equal mass), ``ece_equal_width``,
        ``smooth_ece``, ``mce``, ``brier``, ``log_loss``, each with ``*_null`` (95 % quantile under
        perfect calibration) and ``*_p``; ``ece_lower`` and ``ece_upper``; the parts of the Brier
        score ``reliability``, ``resolution``, ``uncertainty``, ``within``; ``intercept`` and
        ``slope`` of logit y on logit s (0 and 1 are right), their joint score test
        ``calibration_p`` and ``calibration_p_adjusted`` (Benjamini-Hochberg); ``verdict`` if a
        target was given.
    disparities : DataFrame
        One line a family of disjoint groups and measure: ``over``, ``measure``, ``groups``,
        ``disparity`` (largest minus smallest value), ``null`` (its 95 % quantile under perfect
        calibration), ``p_value``, ``highest``, ``lowest``.
    disparity : float
        Of ``ece`` over the finest family. Where subgroups were screened, over the single attribute
        with the largest one, its p-value times the number of attributes.
    disparity_null, disparity_p : float
        Its null quantile and p-value.
    disparity_interval : (float, float)
        From the intervals of the groups: conservative.
    disparity_verdict : Verdict or None
        If a target was given.
    screen : Screen or None
        Tests of all subgroups, where there were too many to measure each.
    bins : DataFrame
        ``group``, ``bin``, ``rows``, ``mean_score``, ``event_rate`` of bins of equal mass.
    n_bins : int
        Bins a group.
    n_rows : int
        Rows audited.
    """

    groups: pd.DataFrame
    disparities: pd.DataFrame
    disparity: float
    disparity_null: float
    disparity_p: float
    disparity_interval: tuple[float, float]
    disparity_verdict: Verdict | None
    screen: Screen | None
    bins: pd.DataFrame
    n_bins: int
    n_rows: int

    @property
    def maximum(self) -> pd.Series:
        """Line of the group with the largest debiased error."""
        return self.groups.iloc[int(np.nanargmax(self.groups["ece"].to_numpy()))]

    @property
    def finest(self) -> pd.DataFrame:
        """Lines of the groups that all attributes (up to ``depth``) make together."""
        last = self.disparities["over"].iloc[-1]
        return pd.DataFrame(self.groups[self.groups["over"] == last])

    def explain(self) -> str:
        """Say in plain words what was found and what can be concluded."""
        worst = self.maximum
        lines = [
            f"{self.n_rows:,} rows, {len(self.groups)} groups. Largest calibration error: "
            f"{worst['ece']:.3f} ({worst['ece_lower']:.3f} to {worst['ece_upper']:.3f}) in "
            f"{worst['group']!r}, {worst['rows']:,} rows; perfect calibration stays below "
            f"{worst['ece_null']:.3f} in 95 % of samples of this size (p = {worst['ece_p']:.3f}).",
            f"Disparity, largest minus smallest error: {self.disparity:.3f}; perfect calibration "
            f"stays below {self.disparity_null:.3f} (p = {self.disparity_p:.3f}).",
        ]
        named = self.groups[self.groups["calibration_p_adjusted"] < 0.05]
        lines.append(
            f"{len(named)} groups are miscalibrated beyond chance (score test, adjusted p < .05)"
            + (": " + ", ".join(repr(g) for g in named["group"][:8]) if len(named) else "")
            + "."
        )
        if self.screen is not None:
            found = int((self.screen.table["p_adjusted"] < 0.05).sum())
            lines.append(
                f"{len(self.screen.table):,} subgroups screened, {found:,} with adjusted p < .05; "
                f"{self.screen.pruned:,} not looked at"
                + (", families drawn by chance." if self.screen.sampled else ".")
            )
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.explain()

    def to_dict(self, *, min_cell: int = 10) -> dict[str, Any]:
        """Make a plain structure for JSON; values of groups under ``min_cell`` rows are None."""
        table = self.groups.astype(object).where(self.groups.notna(), None)
        keep = {"group", "over"}
        lines = [
            row
            if row["rows"] >= min_cell
            else {k: v if k in keep else None for k, v in row.items()} | {"rows": f"< {min_cell}"}
            for row in table.to_dict("records")
        ]
        return {
            "rows": self.n_rows,
            "n_bins": self.n_bins,
            "groups": [{str(k): _plain(v) for k, v in row.items()} for row in lines],
            "disparity": {
                "value": self.disparity,
                "null": self.disparity_null,
                "p_value": self.disparity_p,
            },
        }


def calibration_audit(
    scores: Any,
    y: Any,
    sensitive_features: Any,
    *,
    depth: int | None = None,
    n_bins: int = 15,
    max_ece: float | None = None,
    max_disparity: float | None = None,
    n_simulations: int = 400,
    max_reported: int = 100,
    max_subgroups: int = 100_000,
    min_rows: int = 30,
    confidence: float = 0.95,
    scale: str = "probability",
    missing: Missing = "error",
    positive_label: Any = None,
    calibrator: Any = None,
    random_state: Any = None,
) -> CalibrationAudit:
    """Measure calibration in groups and intersections, honestly about their size.

    The plug-in calibration error of a *perfectly* calibrated group of 30 rows is about .19. So
    each value comes with its 95 % quantile and p-value under perfect calibration (outcomes drawn
    from the scores), and an interval that covers a true zero.

    Parameters
    ----------
    scores : array-like of shape (n,)
        Probability of the positive label.
    y : array-like of shape (n,)
        Two labels. The rows must not be those that fitted the calibrator.
    sensitive_features : frame, series, mapping, array or list of n rows
        Who.
    depth : int, optional
        Most attributes combined; all by default.
    n_bins : int, default=15
        Bins a group.
    max_ece, max_disparity : float in [0, 1], optional
        Targets, such as .05 and .02. A group's verdict is ``met`` if its whole interval is below,
        ``not_met`` if it is above, else ``too_few_rows``.
    n_simulations : int, default=400
        Draws of outcomes.
    max_reported : int, default=100
        Most subgroups that get all measures. Where there are more, all are screened by a test on
        sums, and the marginal groups and the worst others are reported.
    max_subgroups : int, default=100_000
        Most subgroups to screen; beyond, families are drawn by chance.
    min_rows : int, default=30
        Smallest subgroup to screen.
    confidence : float, default=0.95
        Level of the intervals.
    scale : {"probability", "logit"}, default="probability"
        What scores are.
    missing : {"error", "group"}, default="error"
        What to do with missing sensitive values.
    positive_label : label, optional
        May be left out for {0, 1}, {-1, 1} and booleans.
    calibrator : fitted GroupFairnessCalibrator or Multicalibrator, optional
        Where the scores come from: warns if these are the rows it was fitted on.
    random_state : int or Generator, optional
        Source of chance.

    Returns
    -------
    CalibrationAudit

    Raises
    ------
    InvalidDataError, InvalidParameterError
        If rows or settings cannot be used.

    Warns
    -----
    SameRowsWarning
        If the scores are those that ``calibrator`` gives the rows it was fitted on (up to a
        million): its error on them is too small, exactly 0 for isotonic regression.

    Examples
    --------
    >>> from fairtrain.datasets import make_miscalibrated
    >>> data = make_miscalibrated(8000, levels={"race": 3, "sex": 2}, random_state=0)
    >>> audit = calibration_audit(data.scores, data.y, data.sensitive_features, random_state=0)
    >>> int((audit.groups["calibration_p_adjusted"] < 0.05).sum())
    9
    >>> len(audit.groups)  # 3 + 2 + 6
    11
    """
    _check(depth, n_bins, confidence, n_simulations, max_ece=max_ece, max_disparity=max_disparity)
    rows = read_scored(
        scores,
        y,
        sensitive_features,
        scale=scale,
        positive_label=positive_label,
        missing=missing,
    )
    assert rows.score is not None
    if calibrator is not None and _fitted_on(calibrator, rows):
        warnings.warn(
            "a calibrator was fitted on these rows, so its error on them is too small; audit rows "
            "that took no part in fitting.",
            SameRowsWarning,
            stacklevel=2,
        )
    rng = np.random.default_rng(random_state)
    rows, groups = rows.take(np.argsort(rows.score, kind="stable")), rows.groups
    depth = len(groups.columns) if depth is None else min(depth, len(groups.columns))
    measured, screened = _choose(rows, n_bins, depth, max_reported, max_subgroups, min_rows, rng)
    parts = [
        _measure(rows, n_bins, family, chosen, confidence, n_simulations, rng)
        for family, chosen in measured
    ]
    table = pd.concat([p.table for p in parts], ignore_index=True)
    table["calibration_p_adjusted"] = adjusted(table["calibration_p"].to_numpy(np.float64))
    if max_ece is not None:
        table["verdict"] = [
            str(_verdict(low, high, max_ece))
            for low, high in zip(table["ece_lower"], table["ece_upper"], strict=True)
        ]
    whole = [p for p in parts if p.whole]
    disparities = pd.concat([p.disparities for p in whole], ignore_index=True)
    by_ece = disparities[disparities["measure"] == "ece"].reset_index(drop=True)
    at = len(by_ece) - 1 if screened is None else int(np.nanargmax(by_ece["disparity"]))
    last, interval = by_ece.iloc[at], _disparity_interval(whole[at].table)
    tries = 1 if screened is None else len(by_ece)
    return CalibrationAudit(
        groups=table,
        disparities=disparities,
        disparity=float(last["disparity"]),
        disparity_null=float(last["null"]),
        disparity_p=min(1.0, tries * float(last["p_value"])),
        disparity_interval=interval,
        disparity_verdict=None if max_disparity is None else _verdict(*interval, max_disparity),
        screen=screened,
        bins=pd.concat([p.bins for p in parts], ignore_index=True),
        n_bins=n_bins,
        n_rows=len(rows),
    )


@dataclass(frozen=True, eq=False)
class _Part:
    """Measures of one family, or of some of its subgroups."""

    table: pd.DataFrame
    disparities: pd.DataFrame
    bins: pd.DataFrame
    whole: bool


def _choose(
    rows: Rows,
    n_bins: int,
    depth: int,
    max_reported: int,
    max_subgroups: int,
    min_rows: int,
    rng: np.random.Generator,
) -> tuple[list[tuple[Family, Sequence[int] | None]], Screen | None]:
    """Families to measure, whole (None) or in part, and the screen if one was needed."""
    found: list[Family] = []
    for family in families(rows.groups.scheme, depth):
        found.append(family)
        if sum(len(f) for f in found) > max_reported:
            break
    else:
        return [(family, None) for family in found], None
    screened = screen(
        rows,
        depth=depth,
        n_bins=n_bins,
        min_rows=min_rows,
        max_subgroups=max_subgroups,
        rng=rng,
    )
    chosen: list[tuple[Family, Sequence[int] | None]] = [
        (family, None) for family in families(rows.groups.scheme, 1)
    ]
    left = max(max_reported - sum(len(family) for family, _ in chosen), 0)
    worst: dict[tuple[int, ...], tuple[Family, list[int]]] = {}
    for family, g in [place for place in screened.places if len(place[0].columns) > 1][:left]:
        worst.setdefault(family.columns, (family, []))[1].append(g)
    return chosen + list(worst.values()), screened


def _measure(
    rows: Rows,
    n_bins: int,
    family: Family,
    chosen: Sequence[int] | None,
    confidence: float,
    simulations: int,
    rng: np.random.Generator,
) -> _Part:
    size = len(family)
    place = np.arange(size)
    if chosen is not None:
        place = np.full(size, -1)
        place[list(chosen)] = np.arange(len(chosen))
        size = len(chosen)
    codes = place[family.of_leaf][rows.groups.codes]
    # Rows are sorted by score already: a stable sort of small integers is one linear pass.
    order = np.argsort(codes.astype(np.int32), kind="stable")
    order = order[np.searchsorted(codes[order], 0) :]
    assert rows.score is not None
    assert rows.y is not None
    x, s, y, codes = rows.X[order], rows.score[order], rows.y[order], codes[order]
    cells = make_cells(s, y, codes, size, n_bins)
    null = null_reference(cells, simulations, rng)
    lower, upper = ece_interval(cells, confidence, simulations, rng)
    names = subgroup_names(rows.groups.scheme, family)
    names = names if chosen is None else [names[g] for g in chosen]
    over = " x ".join(rows.groups.columns[j] for j in family.columns)
    table: dict[str, Any] = {
        "group": names,
        "over": over,
        "rows": cells.count.astype(np.int64),
        "events": cells.totals(cells.events).astype(np.int64),
        "mean_score": cells.totals(cells.score) / cells.count,
        "event_rate": cells.totals(cells.events) / cells.count,
    }
    for name in MEASURES:
        table[name] = null.observed[name]
        if name == "ece":
            table["ece_lower"] = np.minimum(lower, null.observed[name])
            table["ece_upper"] = np.maximum(upper, null.observed[name])
        table[f"{name}_null"] = null.quantile(name, _LEVEL)
        table[f"{name}_p"] = null.p_value(name)
    table |= brier_parts(cells)
    fit_cells = gather(x, y, codes, size)
    design = (np.ones_like(fit_cells.x), fit_cells.x)
    cox = fit_logistic(fit_cells, design, np.array([0.0, 1.0]), ridge=0.1)
    table["intercept"], table["slope"] = cox[:, 0], cox[:, 1]
    table["calibration_p"] = score_test(fit_cells, random_state=rng).p_value
    return _Part(
        pd.DataFrame(table),
        _disparities(null, names, over),
        _bins(cells, names),
        whole=chosen is None,
    )


def _disparities(null: NullReference, names: list[str], over: str) -> pd.DataFrame:
    lines = []
    for measure in ("ece", "ece_equal_width", "smooth_ece", "mce"):
        gap, level, p_value = null.disparity(measure, _LEVEL)
        values = null.observed[measure]
        lines.append(
            {
                "over": over,
                "measure": measure,
                "groups": len(names),
                "disparity": gap,
                "null": level,
                "p_value": p_value,
                "highest": names[int(np.nanargmax(values))],
                "lowest": names[int(np.nanargmin(values))],
            }
        )
    return pd.DataFrame(lines)


def _bins(cells: GroupCells, names: list[str]) -> pd.DataFrame:
    rows = cells.by_mass(cells.rows.astype(np.float64))
    g, b = np.nonzero(rows)
    n = rows[g, b]
    return pd.DataFrame(
        {
            "group": np.array(names, dtype=object)[g],
            "bin": b,
            "rows": n.astype(np.int64),
            "mean_score": cells.by_mass(cells.score)[g, b] / n,
            "event_rate": cells.by_mass(cells.events)[g, b] / n,
        }
    )


def _disparity_interval(table: pd.DataFrame) -> tuple[float, float]:
    low, high = table["ece_lower"].to_numpy(), table["ece_upper"].to_numpy()
    if len(table) < 2:
        return float("nan"), float("nan")
    least = max(float(low.max() - high.min()), 0.0)
    pairs = high[:, None] - low[None, :]
    np.fill_diagonal(pairs, 0.0)
    return least, float(pairs.max())


def _verdict(low: float, high: float, target: float) -> Verdict:
    if high <= target:
        return Verdict.MET
    return Verdict.NOT_MET if low > target else Verdict.TOO_FEW_ROWS


def _fitted_on(calibrator: Any, rows: Rows) -> bool:
    """Whether these are the rows of a calibrator's fit, and its outputs for them."""
    if not hasattr(calibrator, "fingerprint_"):
        raise InvalidParameterError(
            "calibrator must be a fitted GroupFairnessCalibrator or Multicalibrator, got "
            f"{type(calibrator).__name__}."
        )
    assert rows.score is not None
    assert rows.y is not None
    return bool(calibrator.fingerprint_ == fingerprint(rows.score, rows.y))


def _check(
    depth: int | None, n_bins: int, confidence: float, n_simulations: int, **targets: float | None
) -> None:
    for name, target in targets.items():
        if target is not None and not (_is_number(target) and 0 <= target <= 1):
            raise InvalidParameterError(f"{name} must be a number in [0, 1], got {target!r}.")
    if depth is not None and not depth >= 1:
        raise InvalidParameterError(f"depth must be at least 1, got {depth!r}.")
    if not 1 <= n_bins <= 100:
        raise InvalidParameterError(f"n_bins must lie between 1 and 100, got {n_bins!r}.")
    if not 0 < confidence < 1:
        raise InvalidParameterError(
            f"confidence must lie strictly between 0 and 1, got {confidence!r}."
        )
    if not n_simulations >= 20:
        raise InvalidParameterError(f"n_simulations must be at least 20, got {n_simulations!r}.")


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)
