"""Which map serves which group: fitting by method, by policy, by cross-validation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from fairtrain.calibration.cells import Cells, Codes, Floats, Mask, clipped_logit
from fairtrain.calibration.maps.hierarchical import HierarchicalMaps, fit_hierarchical
from fairtrain.calibration.maps.logistic import fit_beta, fit_platt, fit_temperature, log_likelihood
from fairtrain.calibration.maps.steps import fit_histogram, fit_isotonic, fit_venn_abers
from fairtrain.calibration.significance import EVERYONE, Parents
from fairtrain.data.groups import GroupScheme
from fairtrain.data.rows import Rows

__all__ = [
    "METHODS",
    "PLAIN_METHODS",
    "Assignment",
    "GroupMaps",
    "assign",
    "choose_methods",
    "log_loss_and_gap",
]


class GroupMaps(Protocol):
    """Maps of G groups: logits and groups of n rows in, n probabilities out."""

    def __call__(self, x: Floats, codes: Codes) -> Floats:
        """Calibrate."""


PLAIN_METHODS: dict[str, Callable[[Cells], GroupMaps]] = {
    "platt": fit_platt,
    "isotonic": fit_isotonic,
    "temperature": fit_temperature,
    "beta": fit_beta,
    "histogram": fit_histogram,
    "venn_abers": fit_venn_abers,
}
"""Methods that fit each group by itself."""

METHODS = (*PLAIN_METHODS, "hierarchical", "auto")
"""Names of all methods."""

CANDIDATES = ("hierarchical", "platt", "isotonic", "temperature", "beta")
"""Among which "auto" chooses; the first wins ties."""


@dataclass
class Assignment:
    """Sets of maps, and for every group the set and the place in it that serve it.

    Attributes
    ----------
    sets : list of GroupMaps
        Fitted maps.
    which, place : ndarray of int64, shape (G + 1,)
        Set and map of every group; the last entry serves groups never seen.
    method, owner : list of str, length G + 1
        Method and owner ("own", a parent's name, "shrunk") of each map.
    """

    sets: list[GroupMaps]
    which: Codes
    place: Codes
    method: list[str]
    owner: list[str]

    def __call__(self, x: Floats, codes: Codes) -> Floats:
        """Calibrate logits of rows; code -1 is a group never seen."""
        which = self.which[codes]
        if (which == which[:1]).all() and len(which):
            return np.asarray(self.sets[which[0]](x, self.place[codes]))
        result = np.empty(len(x))
        for s, maps in enumerate(self.sets):
            rows = np.flatnonzero(which == s)
            if len(rows):
                result[rows] = maps(x[rows], self.place[codes[rows]])
        return result

    @property
    def hierarchical(self) -> HierarchicalMaps | None:
        """The shrunk maps, where some group has one."""
        return next((maps for maps in self.sets if isinstance(maps, HierarchicalMaps)), None)

    def give(self, groups: Codes, maps: GroupMaps, place: Any, method: str, owner: Any) -> None:
        """Serve some groups by a new set of maps; ``owner`` is one name, or one a group."""
        if not len(groups):
            return
        self.sets.append(maps)
        self.which[groups] = len(self.sets) - 1
        self.place[groups] = place
        owners = [owner] * len(groups) if isinstance(owner, str) else owner
        for g, name in zip(groups.tolist(), owners, strict=True):
            self.method[g], self.owner[g] = method, name


def assign(
    cells: Cells,
    scheme: GroupScheme,
    methods: Sequence[str],
    parents: Parents | None = None,
    *,
    to_parent: Mask | None = None,
    to_everyone: Mask | None = None,
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
    parents : Parents, optional
        Whose map a group may inherit.
    to_parent, to_everyone : ndarray of bool, shape (G,), optional
        Groups of plain methods that take their parent's, or everyone's, map; none by default.
    """
    size = cells.size
    nobody = np.zeros(size, dtype=bool)
    to_parent = nobody if to_parent is None else to_parent
    to_everyone = nobody if to_everyone is None else to_everyone
    places = np.zeros((2, size + 1), dtype=np.int64)
    made = Assignment([], places[0], places[1], [""] * (size + 1), [""] * (size + 1))
    main = max(set(methods), key=list(methods).count)
    everyone = cells.merged(np.zeros(size, dtype=np.int64), 1)
    shared_method = main if main in PLAIN_METHODS else "platt"
    made.give(np.array([size]), PLAIN_METHODS[shared_method](everyone), 0, shared_method, EVERYONE)
    for method in dict.fromkeys(methods):
        here = np.array([m == method for m in methods])
        groups = np.flatnonzero(here)
        if method == "hierarchical":
            made.give(groups, fit_hierarchical(cells, scheme), groups, method, "shrunk")
            continue
        fit = PLAIN_METHODS[method]
        own = np.flatnonzero(here & ~(to_parent | to_everyone))
        if len(own):
            made.give(own, fit(cells.take(here[cells.group])), own, method, "own")
        shared = np.flatnonzero(here & to_everyone)
        if len(shared):
            made.give(shared, fit(everyone), 0, method, EVERYONE)
        if parents is None:
            continue
        for p in np.unique(parents.choice[here & to_parent]):
            names, codes = parents.partitions[p]
            children = np.flatnonzero(here & to_parent & (parents.choice == p))
            coarse = fit(cells.merged(codes, len(names)))
            owners = [names[codes[g]] for g in children]
            made.give(children, coarse, codes[children], method, owners)
    return made


def choose_methods(
    rows: Rows, *, folds: int, min_group_size: int, rng: np.random.Generator
) -> list[str]:
    """Give each group the candidate with the smallest cross-validated log loss.

    Groups under ``min_group_size`` rows take the hierarchical map: their losses are noise.
    """
    scheme = rows.groups.scheme
    gain = np.zeros((len(CANDIDATES), len(scheme)))
    for train, test in rows.folds(folds, rng):
        cells = Cells.of(rows.take(train))
        missing = cells.sums(cells.weight) == 0
        judged = Cells.of(rows.take(test[~missing[rows.groups.codes[test]]]))
        for c, name in enumerate(CANDIDATES):
            maps = assign(cells, scheme, [name] * len(scheme))
            gain[c] += log_likelihood(judged, clipped_logit(maps(judged.x, judged.group)))
    best = np.argmax(gain, axis=0)
    best[scheme.counts < min_group_size] = 0
    return [CANDIDATES[c] for c in best]


def log_loss_and_gap(cells: Cells, q: Floats) -> tuple[Floats, Floats]:
    """Mean log loss, and mean probability minus event rate, of every group."""
    total = cells.sums(cells.weight)
    with np.errstate(invalid="ignore"):
        loss = -log_likelihood(cells, clipped_logit(q)) / total
        return loss, cells.sums(cells.weight * q - cells.events) / total
