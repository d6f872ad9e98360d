"""What the numbers of a publication, taken together, tell of the people in its small cells."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import optimize

from fairtrain.data.groups import EVERYBODY
from fairtrain.metrics.verdicts import ConstraintResult

__all__ = ["Publication", "Results", "Tables", "fewest"]

Floats = NDArray[np.float64]
Cell = tuple[str, str]

_ALL = (1.0, 1.0, 1.0, 1.0)
# Numerator and denominator of each rate in the people with (label 1, decision 1), (0, 1), (1, 0),
# (0, 0).
_RATES = {
    "selection_rate": ((1.0, 1.0, 0.0, 0.0), _ALL),
    "accuracy": ((1.0, 0.0, 0.0, 1.0), _ALL),
    "error_rate": ((0.0, 1.0, 1.0, 0.0), _ALL),
    "true_positive_rate": ((1.0, 0.0, 0.0, 0.0), (1.0, 0.0, 1.0, 0.0)),
    "false_positive_rate": ((0.0, 1.0, 0.0, 0.0), (0.0, 1.0, 0.0, 1.0)),
    "false_negative_rate": ((0.0, 0.0, 1.0, 0.0), (1.0, 0.0, 1.0, 0.0)),
    "true_negative_rate": ((0.0, 0.0, 0.0, 1.0), (0.0, 1.0, 0.0, 1.0)),
    "zero_one_loss": ((0.0, 1.0, 1.0, 0.0), _ALL),
    "squared_loss": ((0.0, 1.0, 1.0, 0.0), _ALL),
    "positive_predictive_value": ((1.0, 0.0, 0.0, 0.0), (1.0, 1.0, 0.0, 0.0)),
    "false_discovery_rate": ((0.0, 1.0, 0.0, 0.0), (1.0, 1.0, 0.0, 0.0)),
    "negative_predictive_value": ((0.0, 0.0, 0.0, 1.0), (0.0, 0.0, 1.0, 1.0)),
    "false_omission_rate": ((0.0, 0.0, 1.0, 0.0), (0.0, 0.0, 1.0, 1.0)),
    "base_rate": ((1.0, 0.0, 1.0, 0.0), _ALL),
}

_RATES["precision"] = _RATES["positive_predictive_value"]
# Rates that count people of one label above the line.
_OF_FAVOURABLE = ("true_positive_rate", "false_negative_rate", "positive_predictive_value",
                  "precision", "false_omission_rate")  # fmt: skip
_OF_OTHERS = ("false_positive_rate", "true_negative_rate", "false_discovery_rate",
              "negative_predictive_value")  # fmt: skip

_POOLED = re.compile(r", pooled(: |$)")
"""How the name of a constraint ends whose rates are means over strata."""

_TOTALLED = {"selection_rate", "accuracy", "base_rate"}  # what is told of all people together

Tables = Sequence[pd.DataFrame | Sequence[pd.DataFrame]]
Results = Sequence[ConstraintResult] | Sequence[Sequence[ConstraintResult]]


class Publication:
    """Tables of rates and results of constraints as equations in the people of every group.

    Parameters
    ----------
    tables : sequence of DataFrame, or of sequences of them
        As in :func:`fairtrain.metrics.disclosure.hidden_cells`.
    results : sequence of ConstraintResult, or of sequences of them
        Those whose numbers are shown, of all models or of each.
    min_cell : int
        Cells with fewer rows, or clusters, are small.
    """

    def __init__(self, tables: Tables, results: Results, min_cell: int) -> None:
        self.min_cell = min_cell
        models = [[table] if isinstance(table, pd.DataFrame) else list(table) for table in tables]
        names = max((list(dict.fromkeys(t["group"])) for m in models for t in m), key=len)
        self.groups = [str(name) for name in names]
        # One block for every model and class: (metric, group) -> what is told of it.
        self.blocks: list[dict[Cell, _Told]] = []
        self.spelled: list[str] = []
        self.results: list[Sequence[ConstraintResult]] = []
        for frames, said in zip(models, _of_each(results, len(models)), strict=True):
            parts: dict[str, dict[Cell, _Told]] = {}
            for metric, group, told in (row for table in frames for row in _cells(table)):
                name, _, label = metric.partition(": ")
                if name in _RATES:
                    parts.setdefault(label, {})[name, group] = told
            self.blocks += parts.values()
            self.spelled += [f": {label}" if label else "" for label in parts]
            self.results += [said] * len(parts)

    @cached_property
    def people(self) -> Floats:
        """True numbers of people, shape (blocks, groups, 4), as far as the tables tell them."""
        result = np.zeros((len(self.blocks), len(self.groups), 4))
        for b, block in enumerate(self.blocks):
            for g, group in enumerate(self.groups):
                result[b, g] = _people(block, group)
        return result

    def members(self, name: str) -> NDArray[np.intp]:
        """Finest groups that a group consists of: those whose name has all its parts, in order."""
        if name in self.groups:
            return np.array([self.groups.index(name)])
        if name == EVERYBODY:
            return np.arange(len(self.groups))
        inside = [g for g, group in enumerate(self.groups) if _within(name, group)]
        return np.array(inside, dtype=np.intp)

    def row(self, block: int, groups: Iterable[int], weight: Sequence[float] | Floats) -> Floats:
        """One equation: weighted people of some groups in one block."""
        result = np.zeros(self.people.shape)
        result[block, list(groups)] = weight
        return result.ravel()

    @cached_property
    def cells(self) -> set[Cell]:
        """All cells, by metric as the tables spell it and group."""
        blocks = zip(self.blocks, self.spelled, strict=True)
        return {(metric + label, group) for block, label in blocks for metric, group in block}

    def equations(self, hidden: set[Cell]) -> Floats:
        """Everything that is told, shape (equations, unknown numbers).

        Groups of which nothing is hidden are known: their numbers are no unknowns.
        """
        known = set(self.groups) - {group for _, group in hidden}
        rows = [row for b in range(len(self.blocks)) for row in self._told(b, hidden, known)]
        told = np.array(rows).reshape(len(rows), *self.people.shape)
        told[:, :, [group in known for group in self.groups]] = 0.0
        flat = told.reshape(len(rows), self.people.size)
        return np.asarray(np.unique(flat[flat.any(axis=1)], axis=0))

    def _told(self, b: int, hidden: set[Cell], known: set[str]) -> Iterator[Floats]:
        """Equations of one block: totals, cells that are shown, gaps, and labels."""
        everyone, label = range(len(self.groups)), self.spelled[b]
        for metric in {metric for metric, _ in self.blocks[b]} & _TOTALLED:
            yield from (self.row(b, everyone, part) for part in _RATES[metric])
        for (metric, group), (rate, count, _) in self.blocks[b].items():
            if group in known:
                continue
            inside, (top, whole) = self.members(group), _RATES[metric]
            shown = (metric + label, group) not in hidden
            if shown and np.isfinite(rate):
                yield self.row(b, inside, np.subtract(top, np.multiply(rate, whole)))
            if (shown or whole is _ALL) and count >= self.min_cell:
                yield self.row(b, inside, whole)
        for result in self.results[b]:
            if result.rate in _RATES and (not label or result.constraint.endswith(label)):
                for name in (result.highest, result.lowest):
                    yield from self._rate(b, result, name)
        if (first := self.spelled.index(label)) < b:  # the labels are those of the first model
            for part in ((1.0, 0.0, 1.0, 0.0), (0.0, 1.0, 0.0, 1.0)):
                yield from (self.row(b, [g], part) - self.row(first, [g], part) for g in everyone)

    def _rate(self, b: int, result: ConstraintResult, name: str) -> Iterator[Floats]:
        """Equations of a rate that a result tells: both its parts, or its mean over strata."""
        top, whole = _RATES[result.rate]
        if not _POOLED.search(result.constraint):
            yield from (self.row(b, self.members(name), part) for part in (top, whole))
            return
        rows = {
            group: {
                _left(group, self.groups[g]): (g, float(self.people[b, g] @ whole))
                for g in self.members(group)
            }
            for group in result.counts
        }
        equation = np.zeros(self.people.shape)
        for stratum, (g, n) in rows.get(name, {}).items():
            others = [own.get(stratum, (g, 0.0))[1] for own in rows.values()]
            if min(others) > 0:
                rate = self.people[b, g] @ top / n
                equation[b, g] = np.subtract(top, np.multiply(rate, whole))
                equation[b, g] *= 1 / (n * sum(1 / other for other in others))
        yield equation.ravel()

    def exposed(self, hidden: set[Cell]) -> list[tuple[str, str, int]]:
        """Small cells, with their blocks, whose people are determined, or to within one person."""
        told: Floats | None = None
        result = []
        for b, block in enumerate(self.blocks):
            swaps = self._swaps(hidden, b)
            for (metric, group), (_, count, people) in block.items():
                # Where rows come in clusters, two people are as many rows as these have.
                inside, least = self.members(group), min(2.0, count) * count / max(people, 1)
                if not 0 < people < self.min_cell or swaps[metric][inside].sum() >= least:
                    continue
                told = self.equations(hidden) if told is None else told
                if self._range(told, self.row(b, inside, _RATES[metric][0])) < least - 1e-6:
                    result.append((metric + self.spelled[b], group, b))
        return result

    def _swaps(self, hidden: set[Cell], block: int) -> dict[str, Floats]:
        """People that wholly hidden groups of the same sets could swap unseen, shape (groups,).

        Two groups that exchange a decision between people of one label change no total. The range
        of a cell is no smaller, so this saves the linear programs of most.
        """
        metrics = {metric + self.spelled[block] for metric, _ in self.blocks[block]}
        whole = np.array([all((m, g) in hidden for m in metrics) for g in self.groups])
        kinds = np.unique(["|".join(sorted(s)) for s in self._sets], return_inverse=True)[1]
        people = self.people[block] * whole[:, None]
        total = np.zeros((kinds.max() + 1, 4))
        np.add.at(total, kinds, people)
        rest = total[kinds] - people
        first, second = (
            whole * (np.minimum(people[:, j], rest[:, k]) + np.minimum(people[:, k], rest[:, j]))
            for k, j in ((0, 2), (1, 3))
        )
        either = np.maximum(first, second)
        by_label = dict.fromkeys(_OF_FAVOURABLE, first) | dict.fromkeys(_OF_OTHERS, second)
        # Labels are the same in every block, so that no two of them can be exchanged unseen.
        by_label["base_rate"] = np.zeros(len(self.groups))
        return dict.fromkeys(_RATES, either) | by_label

    @cached_property
    def _sets(self) -> list[frozenset[str]]:
        """Coarser groups that are spoken of and that each finest group lies in.

        In a mean over strata each of them counts by itself.
        """
        names = {group for block in self.blocks for _, group in block} - set(self.groups)
        told = [(r, n) for said in self.results for r in said for n in (r.highest, r.lowest)]
        names |= {name for _, name in told}
        averaged = {name for result, name in told if _POOLED.search(result.constraint)}
        inside = {name: set(self.members(name).tolist()) for name in names}
        sets = [{n for n in names if g in inside[n]} for g in range(len(self.groups))]
        return [
            frozenset(own | ({group} if own & averaged else set()))
            for own, group in zip(sets, self.groups, strict=True)
        ]

    def _range(self, told: Floats, wanted: Floats) -> float:
        """Largest minus smallest value of a number of people that fits everything told."""
        free = np.flatnonzero(np.abs(told).sum(axis=0) + np.abs(wanted))
        people, ends = self.people.ravel()[free], []
        limits = [(-float(n), None) for n in people]
        for sign in (1.0, -1.0):
            answer = optimize.linprog(
                sign * wanted[free], A_eq=told[:, free], b_eq=np.zeros(len(told)), bounds=limits
            )
            if answer.status != 0 or answer.fun is None:  # unbounded: nothing is told
                return float("inf")
            ends.append(sign * float(answer.fun))
        return float(ends[1] - ends[0])

    def next(self, hidden: set[Cell], exposed: Sequence[tuple[str, str, int]]) -> set[Cell]:
        """Cells of the smallest group that is still shown, one of the exposed cell's sets first."""
        metric, group, _ = exposed[0]
        near = self._sets[int(self.members(group)[0])]
        cells = [
            (name + self.spelled[b], other, self._size(block, other))
            for b, block in enumerate(self.blocks)
            for name, other in block
        ]
        on_labels = [cell for cell in cells if not cell[0].startswith("selection_rate")]
        for some in (cells,) if metric == "selection_rate" else (on_labels, cells):
            shown = [(self._apart(near, g), n, g) for m, g, n in some if n and (m, g) not in hidden]
            if shown:
                chosen = min(shown)[2]
                return {(m, g) for m, g, _ in some if g == chosen}
        return set()

    def _apart(self, near: frozenset[str], group: str) -> bool:
        """Whether a group shares none of these sets."""
        if group not in self.groups:
            return True
        return bool(near) and not near & self._sets[self.groups.index(group)]

    @staticmethod
    def _size(block: dict[Cell, _Told], group: str) -> int:
        return max(told.rows for (_, other), told in block.items() if other == group)


class _Told(NamedTuple):
    """What a table tells of a cell; ``people`` are clusters, where rows come in such."""

    rate: float
    rows: int
    people: int


def fewest(table: pd.DataFrame) -> pd.Series[int]:
    """Rows of each cell, or its clusters where these are known and fewer."""
    return table["count"] if "clusters" not in table else table[["count", "clusters"]].min(axis=1)


def _cells(table: pd.DataFrame) -> Iterator[tuple[str, str, _Told]]:
    columns = (table[c] for c in ("metric", "group", "rate", "count"))
    for metric, group, rate, count, people in zip(*columns, fewest(table), strict=True):
        yield str(metric), str(group), _Told(float(rate), int(count), int(people))


def _of_each(results: Results, n: int) -> list[Sequence[ConstraintResult]]:
    """Results of every model, where they are those of all."""
    flat = [r for r in results if isinstance(r, ConstraintResult)]
    if flat or not results:
        return [flat] * n
    return [said for said in results if not isinstance(said, ConstraintResult)]


def _people(block: dict[Cell, _Told], group: str) -> Floats:
    """People of one group by label and decision; without rates on labels, all have label 0."""
    empty = _Told(0.0, 0, 0)
    yes, positives, _ = block.get(("true_positive_rate", group), empty)
    no, negatives, _ = block.get(("false_positive_rate", group), empty)
    if not positives and not negatives:
        if ("base_rate", group) in block:
            share, count, _ = block["base_rate", group]
            positives = np.nan_to_num(share) * count
            return np.array([0.0, 0.0, positives, count - positives])
        no, negatives, _ = next((v for (_, g), v in block.items() if g == group), empty)
    first, second = np.nan_to_num([yes * positives, no * negatives])
    return np.array([first, second, positives - first, negatives - second])


def _left(name: str, group: str) -> str:
    """Levels of a finer name that a coarser one does not have: those of its stratum."""
    levels = group.split("/")
    for level in name.split("/"):
        levels.remove(level)
    return "/".join(levels)


def _within(name: str, group: str) -> bool:
    """Whether all levels in a coarse name come in a finer one, in the same order."""
    levels = iter(group.split("/"))
    return all(level in levels for level in name.split("/"))
