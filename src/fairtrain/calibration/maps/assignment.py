"""Which map serves which group: fitting by method, by policy, by cross-validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairtrain.calibration.cells import CLIP, Cells
from fairtrain.calibration.maps.curvature import Curvature, fit_curvature
from fairtrain.calibration.maps.hierarchical import Hierarchy, fit_hierarchy
from fairtrain.calibration.maps.parents import EVERYONE, Parents
from fairtrain.calibration.maps.plain import PLAIN_METHODS, GroupMaps
from fairtrain.data.groups import GroupScheme
from fairtrain.data.rows import Rows
from fairtrain.data.splits import stratified_folds

__all__ = [
    "METHODS",
    "Assignment",
    "HierarchicalMaps",
    "assign",
    "choose_methods",
    "fit_hierarchical",
    "log_loss_and_gap",
]

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]

METHODS = (*PLAIN_METHODS, "hierarchical", "auto")
"""Names of all methods."""

CANDIDATES = ("hierarchical", "platt", "isotonic", "temperature", "beta")
"""Among which "auto" chooses; the first wins ties."""


@dataclass(frozen=True, eq=False)
class HierarchicalMaps:
    """Shrunk logistic maps, corrected where curvature was found.

    Attributes
    ----------
    hierarchy : Hierarchy
        Effects and variances.
    coefficients : ndarray of shape (G, 2)
        Intercept and slope of every group.
    curvature : Curvature
        Corrections.
    """

    hierarchy: Hierarchy
    coefficients: Floats
    curvature: Curvature

    def __call__(self, x: Floats, codes: Codes) -> Floats:
        """Calibrate logits of rows in groups that were seen."""
        found = self.coefficients[codes]
        return self.curvature(found[:, 0] + found[:, 1] * x, codes)

    def inherited(self, x: Floats, level_codes: Codes) -> Floats:
        """Calibrate rows of intersections never seen by what their levels share with others."""
        found = self.hierarchy.coefficients(level_codes)
        nobody = np.full(len(x), -1)
        return self.curvature(found[:, 0] + found[:, 1] * x, nobody)


def fit_hierarchical(cells: Cells, scheme: GroupScheme) -> HierarchicalMaps:
    """Fit the hierarchy and then what it leaves over."""
    sizes = [len(levels) for levels in scheme.levels]
    hierarchy = fit_hierarchy(cells, scheme.level_codes, sizes)
    coefficients = hierarchy.coefficients(scheme.level_codes, np.arange(cells.size))
    found = coefficients[cells.group]
    curvature = fit_curvature(cells, found[:, 0] + found[:, 1] * cells.x)
    return HierarchicalMaps(hierarchy, coefficients, curvature)


@dataclass
class Assignment:
    """Sets of maps, and for every group the set and the place in it that serve it.

    Attributes
    ----------
    sets : list of GroupMaps
        Fitted maps.
    which, place : ndarray of int64, shape (G + 1,)
        Set and map of every group; the last entry serves groups never seen.
    method, owner : list of str, length G
        Method and owner ("own", a parent's name, "shrunk") of each group's map.
    """

    sets: list[GroupMaps]
    which: Codes
    place: Codes
    method: list[str]
    owner: list[str]
    hierarchical: HierarchicalMaps | None = field(default=None)

    def __call__(self, x: Floats, codes: Codes) -> Floats:
        """Calibrate logits of rows; code -1 is a group never seen."""
        which = self.which[codes]
        if (which == which[:1]).all() and len(which):
            return np.asarray(self.sets[which[0]](x, self.place[codes]))
        found = np.empty(len(x))
        for s, maps in enumerate(self.sets):
            rows = np.flatnonzero(which == s)
            if len(rows):
                found[rows] = maps(x[rows], self.place[codes[rows]])
        return found

    def give(
        self, groups: Any, maps: GroupMaps, place: Any, method: str, owner: Sequence[str]
    ) -> None:
        """Serve some groups by a new set of maps."""
        self.sets.append(maps)
        self.which[groups] = len(self.sets) - 1
        self.place[groups] = place
        for g, name in zip(np.atleast_1d(groups).tolist(), owner, strict=True):
            if g < len(self.method):
                self.method[g], self.owner[g] = method, name


def assign(
    cells: Cells,
    scheme: GroupScheme,
    methods: Sequence[str],
    parents: Parents,
    inherits: Mapping[str, NDArray[np.bool_]],
) -> Assignment:
    """Fit every method on the groups that use it.

    Parameters
    ----------
    cells : Cells
        Rows as sums.
    scheme : GroupScheme
        The groups.
    methods : sequence of str, length G
        Method of each group.
    parents : Parents
        Whose map a group may inherit.
    inherits : mapping
        ``"parent"`` and ``"global"``: groups that take their parent's, or everyone's, map.
    """
    size = cells.size
    none = np.zeros(size + 1, dtype=np.int64)
    made = Assignment(
        [], none.copy(), none.copy(), ["" for _ in range(size)], ["" for _ in methods]
    )
    main = max(set(methods), key=list(methods).count)
    everyone = cells.merged(np.zeros(size, dtype=np.int64), 1)
    plain_main = main if main in PLAIN_METHODS else "platt"
    made.give([size], PLAIN_METHODS[plain_main](everyone), 0, plain_main, [EVERYONE])
    for method in dict.fromkeys(methods):
        groups = np.flatnonzero([m == method for m in methods])
        if method == "hierarchical":
            made.hierarchical = fit_hierarchical(cells, scheme)
            made.give(groups, made.hierarchical, groups, method, ["shrunk"] * len(groups))
            continue
        fit = PLAIN_METHODS[method]
        keep = np.zeros(size, dtype=bool)
        keep[groups] = True
        own = groups[~(inherits["parent"] | inherits["global"])[groups]]
        if len(own):
            maps = fit(cells.take(keep[cells.group]))
            made.give(own, maps, own, method, ["own"] * len(own))
        shared = groups[inherits["global"][groups]]
        if len(shared):
            made.give(shared, fit(everyone), 0, method, [EVERYONE] * len(shared))
        for p, (names, codes) in enumerate(parents.partitions):
            children = groups[(inherits["parent"] & (parents.choice == p))[groups]]
            if len(children):
                coarse = cells.merged(codes, len(names))
                owners = [names[codes[g]] for g in children]
                made.give(children, fit(coarse), codes[children], method, owners)
    return made


def choose_methods(
    rows: Rows, *, folds: int, min_group_size: int, rng: np.random.Generator
) -> list[str]:
    """Give each group the candidate with the smallest cross-validated log loss.

    Groups under ``min_group_size`` rows take the hierarchical map: their losses are noise.
    """
    scheme = rows.groups.scheme
    assert rows.y is not None
    loss = np.zeros((len(CANDIDATES), len(scheme)))
    for train, test in stratified_folds((rows.groups.codes, rows.y), folds, rng):
        cells = Cells.of(rows.take(train))
        missing = cells.sums(cells.weight) == 0
        judged = Cells.of(rows.take(test[~missing[rows.groups.codes[test]]]))
        for c, name in enumerate(CANDIDATES):
            maps: GroupMaps = (
                fit_hierarchical(cells, scheme)
                if name == "hierarchical"
                else PLAIN_METHODS[name](cells)
            )
            loss[c] += judged.sums(_log_loss(judged, maps(judged.x, judged.group)))
    best = np.argmin(loss, axis=0)
    best[scheme.counts < min_group_size] = 0
    return [CANDIDATES[c] for c in best]


def log_loss_and_gap(cells: Cells, q: Floats) -> tuple[Floats, Floats]:
    """Mean log loss, and mean probability minus event rate, of every group."""
    total = cells.sums(cells.weight)
    with np.errstate(invalid="ignore"):
        return cells.sums(_log_loss(cells, q)) / total, cells.sums(
            cells.weight * q - cells.events
        ) / total


def _log_loss(cells: Cells, q: Floats) -> Floats:
    inside = np.clip(q, CLIP, 1 - CLIP)
    misses = cells.weight - cells.events
    return np.asarray(-(cells.events * np.log(inside) + misses * np.log1p(-inside)))
