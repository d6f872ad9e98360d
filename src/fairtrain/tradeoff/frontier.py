"""What a sweep found: points, the front among them, and the choice of one."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy import stats

from fairtrain._figures import Dot, Lane, Scale, fragment, legend
from fairtrain._text import no_formula, one_line
from fairtrain._warnings import warn
from fairtrain.constraints import as_constraints
from fairtrain.constraints.objectives import as_said
from fairtrain.data import inputs
from fairtrain.exceptions import (
    InvalidParameterError,
    NearConstantWarning,
    SameRowsWarning,
    UselessModelWarning,
)
from fairtrain.metrics.disclosure import FEW_WORDS
from fairtrain.metrics.report import FairnessReport
from fairtrain.tradeoff.dominance import dominated, hypervolume, knee
from fairtrain.tradeoff.scoring import Score, Scorer

__all__ = ["Chosen", "ParetoFrontier", "sketch"]

MEASURED = tuple(each.name for each in fields(Score) if each.type == "float")
"""Columns of numbers that every point has."""

_SKETCH = 128
_MOST_LANES = 20

_CONSTANT = ("near_constant", "no_better_than_constant")


@dataclass(frozen=True)
class Chosen:
    """One point of a frontier.

    Attributes
    ----------
    model : estimator
        The trained model.
    param : str
        What was moved.
    value, seed
        Where it stood.
    performance, gap : float
        On the validation rows, which chose the point: both are flattering.
    near_constant : bool
        Whether (almost) everybody gets the same decision.
    """

    model: Any = field(repr=False)
    param: str
    value: Any
    seed: int
    performance: float
    gap: float
    near_constant: bool


@dataclass(frozen=True)
class ParetoFrontier:
    """Models between the most accurate and the fairest, scored on validation rows.

    Attributes
    ----------
    points : DataFrame
        A row a trained model: the moved parameter under its own name, ``seed``, ``performance`` and
        ``gap``, each with ``_lower`` and ``_upper`` (over validation rows), ``dominated``,
        ``near_constant``, ``seconds`` of training, and ``no_better_than_constant``: whether
        deciding the same for everybody, which has no gap in decisions, performs at least as well.
    models : tuple of estimators
        The trained models, in the order of ``points``.
    param : str
        What was moved.
    scorer : Scorer
        How they were scored.
    name : str
        Heading of its curve.
    bound : float or None
        Gap that is asked for, if one is.
    baseline : Score or None
        An ordinary model on the same rows.
    notes : tuple of str
        What happened on the way: warnings, and why models were trained one by one.
    n_validation : int
        Rows that scored.
    rests_on_few : bool
        Whether gaps rest on a group of fewer than ten of them, see :meth:`published`.
    """

    points: pd.DataFrame
    models: tuple[Any, ...] = field(repr=False)
    param: str
    scorer: Scorer = field(repr=False)
    name: str = "sweep"
    bound: float | None = None
    baseline: Score | None = None
    notes: tuple[str, ...] = ()
    n_validation: int = 0
    known_rows: frozenset[int] = field(default=frozenset(), repr=False)
    rests_on_few: bool = False

    @property
    def performance_name(self) -> str:
        """What performance is, in words."""
        return self.scorer.performance_name

    @property
    def gap_name(self) -> str:
        """What the gap is, in words."""
        return self.scorer.gap_name

    def published(self) -> ParetoFrontier:
        """Leave out gaps that would tell of single people.

        What is drawn, written to a file or shown to others is this; ``points`` and ``select`` keep
        them for whoever holds the rows.

        Returns
        -------
        ParetoFrontier
            Itself, unless ``rests_on_few``: then gaps are NaN, of the baseline as well.
        """
        if not self.rests_on_few:
            return self
        unknown: dict[str, Any] = dict.fromkeys(("gap", "gap_lower", "gap_upper"), math.nan)
        return replace(
            self,
            points=self.points.assign(**unknown, dominated=True),
            baseline=None if self.baseline is None else replace(self.baseline, **unknown),
        )

    @property
    def front(self) -> pd.DataFrame:
        """The points that no other one beats, from the narrowest gap to the widest."""
        return self.points[~self.points["dominated"]].sort_values(["gap", "performance"])

    @property
    def beaten_by_baseline(self) -> pd.Series[bool]:
        """Which points have at least the gap of the baseline and perform no better, and not equal.

        None where there is no baseline.
        """
        gap, performance = self.points["gap"], self.points["performance"]
        plain = self.baseline
        if plain is None:
            return gap.isna() & False
        no_better = (gap >= plain.gap) & (performance <= plain.performance)
        return no_better & ((gap > plain.gap) | (performance < plain.performance))

    def by_value(self) -> pd.DataFrame:
        """Average the seeds of every value.

        Returns
        -------
        DataFrame
            A row a value: the parameter, ``n_seeds``, means of performance and gap with 95 %
            limits (Student's t over seeds; over validation rows where there is one seed),
            ``dominated`` among the means, ``near_constant`` and ``no_better_than_constant`` of
            any, mean ``seconds``.
        """
        rows = []
        shown = self.points[self.param].map(repr)
        flags = [name for name in _CONSTANT if name in self.points]
        for _, same in self.points.groupby(shown, sort=False):
            row: dict[str, Any] = {self.param: same[self.param].iloc[0], "n_seeds": len(same)}
            for name in ("performance", "gap"):
                low, high = same[[f"{name}_lower", f"{name}_upper"]].iloc[0]
                row[name] = same[name].mean()
                if len(same) > 1:
                    level = (1 + self.scorer.confidence) / 2
                    half = stats.t.ppf(level, len(same) - 1) * stats.sem(same[name])
                    low, high = row[name] - half, row[name] + half
                    low = max(low, 0.0) if name == "gap" else low
                row[f"{name}_lower"], row[f"{name}_upper"] = low, high
            rows.append({**row, **same[flags].any(), "seconds": same["seconds"].mean()})
        table = pd.DataFrame(rows)
        table["dominated"] = dominated(table["gap"], table["performance"])
        return table

    def hypervolume(self, reference: tuple[float, float]) -> float:
        """Area of (gap, performance) that the points dominate, up to a reference point.

        Parameters
        ----------
        reference : (float, float)
            Gap and performance of a point worse than any of interest; only frontiers measured up to
            the same one can be compared.
        """
        return hypervolume(self.points["gap"], self.points["performance"], reference)

    def select(
        self, max_gap: float | None = None, *, by: Literal["gap", "gap_upper"] = "gap"
    ) -> Chosen:
        """Choose the model that performs best among those with a gap no wider than a limit.

        Parameters
        ----------
        max_gap : float, optional
            The limit; the frontier's ``bound`` by default.
        by : {"gap", "gap_upper"}, default="gap"
            Hold the estimate to the limit, or its upper confidence limit: stricter, and less often
            broken by rows that were not seen.

        Returns
        -------
        Chosen
            Models that decide (almost) the same for everybody come last.

        Raises
        ------
        InvalidParameterError
            If no point is under the limit.

        Warns
        -----
        NearConstantWarning
            If only such a model is.
        UselessModelWarning
            If the best one performs no better than a constant, or the baseline beats it in gap and
            performance.
        """
        limit = self._limit(max_gap)
        if by not in ("gap", "gap_upper"):
            raise InvalidParameterError(f"by must be 'gap' or 'gap_upper', got {by!r}.")
        under = self.points[(self.points[by] <= limit) & self.points["performance"].notna()]
        if not len(under):
            raise InvalidParameterError(
                f"no model has a {self.gap_name} ({by}) of at most {limit:g} on the validation "
                f"rows; the smallest is {self.points[by].min():.4g}. Allow more, or sweep further."
            )
        best = under.sort_values(
            ["near_constant", "performance", "gap"], ascending=[True, False, True], kind="stable"
        ).index[0]
        return self._handed_out(int(best), f"of those with a gap of at most {limit:g}")

    def knee(self) -> Chosen:
        """Choose the point after which fairness gets dear; see :func:`~.dominance.knee`.

        Warns
        -----
        NearConstantWarning, UselessModelWarning
            As :meth:`select`.
        """
        usable = self.points[~self.points["near_constant"]]
        table = usable if len(usable) else self.points
        return self._handed_out(
            int(table.index[knee(table["gap"], table["performance"])]), "at the knee"
        )

    def _handed_out(self, best: int, where: str) -> Chosen:
        """Give a model, and warn where one that costs nothing would do as well."""
        chosen = self._chosen(best)
        said = ""
        if chosen.near_constant:
            said = "decides (almost) the same for everybody"
        elif self.points.loc[best].get("no_better_than_constant", False):
            said = "performs no better than one decision for everybody"
        elif self.beaten_by_baseline[best]:
            said = "is beaten: the baseline performs better at a gap no wider"
        if said:
            kind = NearConstantWarning if chosen.near_constant else UselessModelWarning
            warn(f"the best model, {where}, {said}.", kind)
        return chosen

    def evaluate(
        self,
        X: Any,
        y: Any,
        sensitive_features: Any,
        *,
        chosen: Chosen | None = None,
        max_gap: float | None = None,
        sample_weight: Any = None,
        clusters: Any = None,
    ) -> FairnessReport:
        """Judge the chosen model on rows that no choice was made on.

        Parameters
        ----------
        X, y, sensitive_features, sample_weight, clusters
            Fresh rows. The validation rows chose the point, so they cannot certify it.
        chosen : Chosen, optional
            What :meth:`select` or :meth:`knee` gave; ``select(max_gap)`` by default.
        max_gap : float, optional
            Bound that is judged; the frontier's ``bound`` by default.

        Returns
        -------
        FairnessReport

        Warns
        -----
        SameRowsWarning
            If rows that trained or chose are among them; the report then says that they steered.
        """
        limit = self._limit(max_gap)
        if callable(self.scorer.metric):
            raise InvalidParameterError(
                "a gap that is a function of yours cannot be judged with an interval; sweep with "
                "metric='demographic_parity' or another constraint."
            )
        chosen = self.select(limit) if chosen is None else chosen
        rows = self.scorer.read(X, y, sensitive_features, sample_weight, clusters)
        # Hashes of a sample of the rows that trained and chose: all, or a good part, are found.
        same = bool(self.known_rows & _row_hashes(rows.X))
        if same:
            warn(
                "some of these rows trained the models or chose the point, so they cannot certify "
                "it; pass others.",
                SameRowsWarning,
            )
        decided = self.scorer.decided(chosen.model, rows)
        asked = as_constraints(list(self.scorer.metric), difference_bound=limit)
        return self.scorer.report(decided, "steering" if same else "certification", asked)

    def plot(self, ax: Any = None, **options: Any) -> Any:
        """Draw it; see :func:`fairtrain.plotting.plot_frontier`."""
        from fairtrain.plotting.frontier import plot_frontier

        if self.rests_on_few:  # where the chosen point lies would tell its gap
            options = {k: v for k, v in options.items() if k != "chosen"}
        return plot_frontier(self.published(), ax, **options)

    def to_dict(self) -> dict[str, Any]:
        """Give the numbers as plain values for JSON, as :meth:`published`."""
        shown = self.published()
        return {
            "name": self.name,
            "param": self.param,
            "performance": self.performance_name,
            "gap": self.gap_name,
            "bound": self.bound,
            "validation_rows": self.n_validation,
            "baseline": None if shown.baseline is None else _plain(vars(shown.baseline)),
            "points": [_plain(row) for row in shown.points.to_dict("records")],
            "notes": list(self.notes),
        }

    def to_json(self, path: str | Path) -> None:
        """Write :meth:`to_dict` to a file."""
        text = json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
        Path(path).write_text(text + "\n", encoding="utf-8")

    def to_csv(self, path: str | Path) -> None:
        """Write ``points`` as :meth:`published`, what was moved in words where it is no number."""
        table = self.published().points.copy()
        if not pd.api.types.is_numeric_dtype(table[self.param]):
            table[self.param] = [no_formula(_as_text(value)) for value in table[self.param]]
        table.to_csv(path, index=False)

    def renamed(self, name: str) -> ParetoFrontier:
        """Give the curve another heading."""
        return replace(self, name=name)

    def __str__(self) -> str:
        if self.rests_on_few:
            return f"{one_line(self.name)}: {len(self.points)} models; {FEW_WORDS}"
        front = self.front
        lines = [
            f"{one_line(self.name)}: {len(self.points)} models on {self.n_validation:,} "
            f"validation rows; {len(front)} that no other beats in {self.performance_name} and "
            f"{self.gap_name}:"
        ]
        for row in front.to_dict("records"):
            constant = " (near constant)" if row["near_constant"] else ""
            lines.append(
                f"  {self.param} = {_as_text(row[self.param])}, seed {row['seed']}: "
                f"{self._said(row):.3f} at a gap of {row['gap']:.3f}{constant}"
            )
        return "\n".join(lines)

    def _said(self, row: dict[Any, Any]) -> float:
        """Performance as people name it: costs and losses above 0."""
        return as_said(self.performance_name, row["performance"])

    def _repr_html_(self) -> str:
        """Show it in a notebook: a lane for each model that no other beats."""
        room = None if self.bound is None else (0.0, self.bound)
        lanes = [
            Lane(
                f"{self.param} = {_as_text(row[self.param])}", f"seed {row['seed']}",
                [Dot(row["gap"], row["gap_lower"], row["gap_upper"])],
                [(f"{row['gap']:.3f}", f"at {self.performance_name} {self._said(row):.3f}")],
                room=room,
            )
            for row in self.front.head(_MOST_LANES).to_dict("records")
        ]  # fmt: skip
        entries: list[tuple[int | str, str]] = [(1, f"{self.gap_name}, with its interval")]
        if room is not None:
            entries.append(("room", f"bound {self.bound:g}"))
        said, _, _ = str(self).partition(":\n")
        if self.rests_on_few:
            return fragment(f"{said}.", FEW_WORDS)
        return fragment(f"{said}.", Scale(lanes, percent=False).draw(legend(entries)))

    def _limit(self, max_gap: float | None) -> float:
        limit = self.bound if max_gap is None else max_gap
        if limit is None:
            raise InvalidParameterError("max_gap is missing: the frontier has no bound of its own.")
        return limit

    def _chosen(self, at: int) -> Chosen:
        row: dict[Any, Any] = self.points.loc[at].to_dict()  # plain values
        measured = {name: float(row[name]) for name in ("performance", "gap")}
        constant = bool(row["near_constant"])
        return Chosen(
            self.models[at], self.param, row[self.param], int(row["seed"]), **measured,
            near_constant=constant,
        )  # fmt: skip


def _as_text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else one_line(value)


def _plain(row: Mapping[Any, Any]) -> dict[str, Any]:
    found = {}
    for key, value in row.items():
        plain = value.item() if isinstance(value, np.generic) else value
        if isinstance(plain, float) and not np.isfinite(plain):
            plain = None
        is_plain = plain is None or isinstance(plain, bool | int | float | str)
        found[str(key)] = plain if is_plain else one_line(plain)
    return found


def sketch(X: Any) -> frozenset[int]:
    """The smallest hashes of the rows: enough to know all, or a good part of them, again."""
    return frozenset(sorted(_row_hashes(X))[:_SKETCH])


def _row_hashes(X: Any) -> frozenset[int]:
    """A number for every row of features, whatever its place and its index."""
    X = X.detach().cpu().numpy() if hasattr(X, "detach") else X
    X = X.toarray() if hasattr(X, "toarray") else X
    X = X.to_pandas() if hasattr(X, "to_pandas") else X
    flat = np.reshape(X, (inputs.number_of_rows(X), -1)) if isinstance(X, np.ndarray) else X
    table = pd.DataFrame(flat)
    is_number = pd.api.types.is_numeric_dtype
    columns = [
        column.astype(np.float32) if is_number(column) else column.astype(str)
        for _, column in table.items()
    ]
    plain = pd.concat(columns, axis=1) if columns else table
    return frozenset(pd.util.hash_pandas_object(plain, index=False).tolist())
