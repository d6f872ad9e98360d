"""How well scores are calibrated in every group, and how sure one can be."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from fairtrain._figures import Dot, Lane, Scale, fragment, legend
from fairtrain._parameters import (
    CONFIDENCE,
    GENERATOR,
    LABEL,
    MISSING,
    NONE,
    Choice,
    Real,
    Where,
    Whole,
    checks,
)
from fairtrain._warnings import warn
from fairtrain.calibration.audit.measuring import Measuring
from fairtrain.calibration.cells import Codes, Mask
from fairtrain.calibration.intake import fingerprint, read_scored
from fairtrain.calibration.lattice import Family, Screen, families, hidden_subgroups, screen
from fairtrain.calibration.significance import adjusted
from fairtrain.data.groups import Missing
from fairtrain.data.rows import Rows
from fairtrain.exceptions import InvalidParameterError, SameRowsWarning
from fairtrain.metrics.disclosure import plain_value
from fairtrain.metrics.verdicts import Verdict

__all__ = ["CalibrationAudit", "calibration_audit"]

_MOST_LANES = 20


@dataclass(frozen=True, eq=False)
class CalibrationAudit:
    """Calibration of every group, each value beside what perfect calibration would give.

    Attributes
    ----------
    groups : DataFrame
        One line a group. ``group``, ``over`` (attributes), ``rows``, ``events``, ``mean_score``,
        ``event_rate``; ``effective_rows`` where rows are weighted; the measures ``ece`` (debiased,
        bins of equal mass), ``ece_equal_width``, ``smooth_ece``, ``mce``, ``brier``, ``log_loss``,
        each with ``*_null`` (95 % quantile under perfect calibration) and ``*_p``; ``ece_lower``
        and ``ece_upper``; the parts of the Brier score ``reliability``, ``resolution``,
        ``uncertainty``, ``within``; ``intercept`` and ``slope`` of logit y on logit s (0 and 1 are
        right), their joint score test ``calibration_p`` and ``calibration_p_adjusted``
        (Benjamini-Hochberg); ``verdict`` if a target was given.
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
        ``group``, ``bin``, ``rows`` (their effective number, where they are weighted),
        ``mean_score``, ``event_rate`` of bins of equal mass.
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
    _members: Mask = field(repr=False)  # (lines, leaves)
    _leaf_rows: Codes = field(repr=False)

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
            screened = self.screen.table
            lines.append(
                f"{len(screened):,} subgroups screened, "
                f"{int((screened['p_adjusted'] < 0.05).sum()):,} with adjusted p < .05; "
                f"{self.screen.pruned:,} not looked at"
                + (", families drawn by chance." if self.screen.sampled else ".")
            )
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.explain()

    def _repr_html_(self) -> str:
        """Show it in a notebook: the error of each group beside what calibrated scores would have.

        Groups that :meth:`hidden` names are left out.
        """
        table = self.groups[~self.hidden()].sort_values("ece", ascending=False)
        lanes = [
            Lane(
                row["group"], f"{row['rows']:,} rows",
                [Dot(row["ece"], row["ece_lower"], row["ece_upper"])],
                [(f"{row['ece']:.3f}", f"{row['ece_lower']:.3f} to {row['ece_upper']:.3f}")],
                room=(0.0, row["ece_null"]),
            )
            for row in table.head(_MOST_LANES).to_dict("records")
        ]  # fmt: skip
        told = self.to_dict()["disparity"]["value"] is not None
        first = f"{self.n_rows:,} rows, {len(self.groups)} groups."
        if told:
            first += (
                f" Disparity, largest minus smallest calibration error: {self.disparity:.3f}; "
                f"perfect calibration stays below {self.disparity_null:.3f} "
                f"(p = {self.disparity_p:.3f})."
            )
        left = len(self.groups) - len(lanes)
        key = legend(
            [
                (1, "calibration error, with its interval"),
                ("room", "95 % of samples of perfectly calibrated scores"),
            ]
        )
        last = f"{left} groups are not shown." if left else ""
        return fragment(first, Scale(lanes, percent=False).draw(key), last)

    def hidden(self, min_cell: int = 10) -> Mask:
        """Which lines of ``groups`` must not be published, shape (G,).

        Those of groups under ``min_cell`` rows, and as few others as keep these from being worked
        out, such as the second smallest intersection of a marginal that is shown.
        """
        over = self.groups["over"].tolist()
        return hidden_subgroups(self._members, over, self._leaf_rows, min_cell)

    def to_dict(self, *, min_cell: int = 10) -> dict[str, Any]:
        """Make a plain structure for JSON.

        Values of groups that :meth:`hidden` names are None, and so is a disparity that rests on
        one of them.
        """
        hidden = self.hidden(min_cell)
        lines = []
        for row, hide in zip(self.groups.to_dict("records"), hidden, strict=True):
            values = {k: None for k in row if hide and k not in ("group", "over")}
            few = {"rows": f"< {min_cell}"} if row["rows"] < min_cell else {}
            lines.append({str(k): plain_value(v) for k, v in (row | values | few).items()})
        ends = self.disparities.query("measure == 'ece' and disparity == @self.disparity")
        extremes = {*ends["highest"], *ends["lowest"]}
        told = not self.groups.loc[hidden, "group"].isin(extremes).any()
        return {
            "rows": self.n_rows,
            "n_bins": self.n_bins,
            "groups": lines,
            "disparity": {
                "value": self.disparity if told else None,
                "null": self.disparity_null,
                "p_value": self.disparity_p if told else None,
            },
        }


_TARGET = Where("be a number in [0, 1]", (Real(0, 1) | NONE).accepts)


@checks(
    depth=Where("be at least 1", (Whole(1) | NONE).accepts),
    n_bins=Where("lie between 1 and 100", Whole(1, 100).accepts),
    max_ece=_TARGET,
    max_disparity=_TARGET,
    n_simulations=Where("be at least 20", Whole(20).accepts),
    max_reported=Whole(0),
    max_subgroups=Whole(1),
    min_rows=Whole(0),
    confidence=CONFIDENCE,
    scale=Choice("probability", "logit"),
    missing=MISSING,
    positive_label=LABEL,
    random_state=Whole(0) | GENERATOR | NONE,
)
def calibration_audit(
    scores: Any,
    y: Any,
    sensitive_features: Any,
    sample_weight: Any = None,
    *,
    clusters: Any = None,
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
        The sensitive features: which group each person belongs to.
    sample_weight : array-like of shape (n,), optional
        Row weights. Measures are then weighted; noise, tests and intervals count the effective
        number of rows (Kish), which ``effective_rows`` of every group gives.
    clusters : array-like of shape (n,), optional
        Which rows belong together, such as those of one customer: effective rows are then divided
        by the design effect of outcomes less scores. Only the screening of more subgroups than
        ``max_reported`` takes rows for independent.
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
    rows = read_scored(
        scores,
        y,
        sensitive_features,
        sample_weight,
        clusters=clusters,
        scale=scale,
        positive_label=positive_label,
        missing=missing,
    )
    if calibrator is not None and _fitted_on(calibrator, rows):
        warn(
            "a calibrator was fitted on these rows, so its error on them is too small; audit rows "
            "that took no part in fitting.",
            SameRowsWarning,
        )
    rng = np.random.default_rng(random_state)
    rows = rows.take(np.argsort(rows.scores, kind="stable"))
    width = len(rows.groups.columns)
    depth = width if depth is None else min(depth, width)
    lattice = _within(families(rows.groups.scheme, depth), max_reported)
    screened: Screen | None = None
    if lattice is None:
        screened = screen(
            rows,
            depth=depth,
            n_bins=n_bins,
            min_rows=min_rows,
            max_subgroups=max_subgroups,
            rng=rng,
        )
        lattice = _worst(rows, screened, max_reported)
    measure = Measuring(rows, n_bins, confidence, n_simulations, rng)
    parts = [measure(family, chosen) for family, chosen in lattice]
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
    # Leaves that no line tells apart are one.
    members, of_leaf = np.unique(
        np.concatenate([p.members for p in parts]), axis=1, return_inverse=True
    )
    leaf_rows = np.bincount(of_leaf.reshape(-1), rows.groups.counts).astype(np.int64)
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
        _members=members,
        _leaf_rows=leaf_rows,
    )


Lattice = list[tuple[Family, Sequence[int] | None]]
"""Families to measure, whole (None) or only some of their subgroups."""


def _within(every: Iterable[Family], most: int) -> Lattice | None:
    """All families, whole; None where they have more subgroups than can be reported."""
    chosen: Lattice = []
    for family in every:
        chosen.append((family, None))
        if sum(len(f) for f, _ in chosen) > most:
            return None
    return chosen


def _worst(rows: Rows, screened: Screen, most: int) -> Lattice:
    """Single attributes, whole, and the worst of the screened subgroups of several."""
    chosen: Lattice = [(family, None) for family in families(rows.groups.scheme, 1)]
    left = max(most - sum(len(family) for family, _ in chosen), 0)
    worst: dict[tuple[int, ...], tuple[Family, list[int]]] = {}
    for family, g in [place for place in screened.places if len(place[0].columns) > 1][:left]:
        worst.setdefault(family.columns, (family, []))[1].append(g)
    return [*chosen, *worst.values()]


def _disparity_interval(table: pd.DataFrame) -> tuple[float, float]:
    low, high = table["ece_lower"].to_numpy(), table["ece_upper"].to_numpy()
    if len(table) < 2:
        return float("nan"), float("nan")
    least = max(float(np.nanmax(low) - np.nanmin(high)), 0.0)
    pairs = high[:, None] - low[None, :]
    np.fill_diagonal(pairs, 0.0)
    return least, float(np.nanmax(pairs))


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
    return bool(calibrator.fingerprint_ == fingerprint(rows.scores, rows.outcomes))
