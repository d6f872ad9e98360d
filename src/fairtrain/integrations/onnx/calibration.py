"""Calibration maps as nodes: for everybody the numbers of their group, looked up by code."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairtrain.calibration.calibrator import GroupFairnessCalibrator
from fairtrain.calibration.cells import CLIP
from fairtrain.calibration.maps.assignment import Assignment
from fairtrain.calibration.maps.curvature import Curvature
from fairtrain.calibration.maps.hierarchical import HierarchicalMaps
from fairtrain.calibration.maps.logistic import BetaMaps, LogisticMaps
from fairtrain.calibration.maps.steps import _SPAN, GroupTables, VennAbers
from fairtrain.exceptions import InvalidParameterError
from fairtrain.integrations.onnx.graph import Graph

__all__ = ["People", "calibrated"]

_MOST = 100_000  # combinations of levels, each a row of a table


class People:
    """Who each row is, as its place in tables with a row for every combination of levels.

    Parameters
    ----------
    graph : Graph
        Where the sensitive columns become inputs.
    scheme : GroupScheme
        The groups that fit saw.

    Attributes
    ----------
    row : str
        Place of each person, int64 of shape (n,).
    levels : ndarray of int64, shape (m, K)
        Levels of every combination; -1 for one that fit never saw.
    codes : ndarray of int64, shape (m,)
        Group of every combination; -1 where fit never saw it.
    """

    def __init__(self, graph: Graph, scheme: Any) -> None:
        if scheme.given:
            raise InvalidParameterError(
                "groups within strata are not exported; deploy the model with fairtrain.save."
            )
        sizes = [len(levels) + 1 for levels in scheme.levels]
        if int(np.prod(sizes)) > _MOST:
            raise InvalidParameterError(
                f"{int(np.prod(sizes))} combinations of sensitive values are more than the "
                f"{_MOST} that an exported table may have; deploy it with fairtrain.save."
            )
        self.graph = graph
        self.levels = np.array(list(product(*(range(size) for size in sizes))), dtype=np.int64)
        for j, size in enumerate(sizes):
            self.levels[self.levels[:, j] == size - 1, j] = -1
        seen = {tuple(own): code for code, own in enumerate(scheme.level_codes.tolist())}
        self.codes = np.array([seen.get(tuple(own), -1) for own in self.levels.tolist()])
        places = []
        for name, levels, size in zip(scheme.columns, scheme.levels, sizes, strict=True):
            places.append(graph.places(_column(graph, str(name), levels), levels, size - 1))
        self.row = places[0]
        for place, size in zip(places[1:], sizes[1:], strict=True):
            wider = graph("Mul", self.row, graph.constant(np.int64(size)))
            self.row = graph("Add", wider, place)

    def look_up(self, values: NDArray[Any]) -> str:
        """Everybody's own of a value for every combination, shape (m,) or (m, k)."""
        return self.graph("Gather", self.graph.constant(values), self.row)


def _column(graph: Graph, name: str, levels: Any) -> str:
    upright = graph.constant(np.array([1]))  # as columns of features are, which it may be too
    if all(isinstance(level, str) for level in levels):
        return graph("Squeeze", graph.input(name, str, 1), upright)
    if all(isinstance(level, int | np.integer) and not isinstance(level, bool) for level in levels):
        return graph("Squeeze", graph.input(name, np.float64, 1), upright)
    raise InvalidParameterError(
        f"the levels of {name!r} are neither words nor whole numbers; make them so before fit."
    )


def calibrated(calibrator: GroupFairnessCalibrator, people: People, x: str) -> str:
    """Calibrated probabilities of people with logits ``x``, shape (n,)."""
    maps = calibrator._maps
    if not isinstance(maps, Assignment):
        raise InvalidParameterError(
            "calibration of three or more classes is not exported; deploy it with fairtrain.save."
        )
    graph, codes = people.graph, people.codes
    which, place = maps.which[codes], maps.place[codes]  # the last of each is for code -1
    shrunk = maps.hierarchical
    if shrunk is not None and calibrator.method == "hierarchical":
        # Combinations never seen take what their levels share with others.
        which = np.where(codes < 0, maps.sets.index(shrunk), which)
    result = ""
    for s in np.unique(which).tolist():
        own = _mapped(maps.sets[s], people, np.where(which == s, place, 0), x)
        result = graph("Where", people.look_up(which == s), own, result) if result else own
    return result


def _mapped(maps: Any, people: People, place: NDArray[np.int64], x: str) -> str:
    """One set of maps, as if it served everybody."""
    graph = people.graph
    if isinstance(maps, LogisticMaps):
        return graph("Sigmoid", _line(people, maps.intercept[place], maps.slope[place], x))
    if isinstance(maps, HierarchicalMaps):
        estimate = maps.hierarchy.coefficients(people.levels, people.codes)
        eta = _line(people, estimate[:, 0], estimate[:, 1], x)
        return _curved(maps.curvature, people, eta)
    if isinstance(maps, BetaMaps):
        below = graph("Neg", graph("Softplus", graph("Neg", x)))
        parts = [people.look_up(part[place]) for part in (maps.a, maps.b, maps.c)]
        eta = graph("Add", parts[2], graph("Mul", parts[0], below))
        return graph("Sigmoid", graph("Add", eta, graph("Mul", parts[1], graph("Softplus", x))))
    if isinstance(maps, GroupTables):
        return _table(maps, people, place, x)
    if isinstance(maps, VennAbers):
        return _venn_abers(maps, people, place, x)
    raise InvalidParameterError(f"{type(maps).__name__} are not exported; use fairtrain.save.")


def _line(people: People, intercept: Any, slope: Any, x: str) -> str:
    graph = people.graph
    return graph("Add", people.look_up(intercept), graph("Mul", people.look_up(slope), x))


def _curved(curvature: Curvature, people: People, eta: str) -> str:
    graph, codes = people.graph, people.codes
    q = graph("Sigmoid", eta)
    if curvature.shared is not None:
        everyone = np.zeros(len(codes), dtype=np.int64)
        curve = _table(curvature.shared, people, everyone, eta)
        q = _blended(graph, q, curve, graph.constant(np.float64(curvature.shared_weight)))
    weight = np.where(codes >= 0, curvature.weight[codes], 0.0)
    if not weight.any():
        return q
    logits = graph.logit(graph.clip(q, CLIP, 1 - CLIP))
    curve = _table(curvature.own, people, np.maximum(codes, 0), logits)
    blended = _blended(graph, q, curve, people.look_up(weight))
    return graph("Where", people.look_up(weight > 0), blended, q)


def _blended(graph: Graph, q: str, curve: str, weight: str) -> str:
    rest = graph("Sub", graph.constant(np.float64(1)), weight)
    return graph("Add", graph("Mul", rest, q), graph("Mul", weight, curve))


def _table(tables: GroupTables, people: People, place: NDArray[np.int64], x: str) -> str:
    """Values of tables at logits; 0 for people whose group has none."""
    graph, m = people.graph, len(tables.place)
    if not m:
        return graph("Mul", x, graph.constant(np.float64(0)))
    low, high = (np.nan_to_num(part[place]) for part in (tables.low, tables.high))
    within = graph("Max", graph("Min", x, people.look_up(high)), people.look_up(low))
    at = graph("Add", people.look_up(place * _SPAN), within)
    points, values = graph.constant(tables.place), graph.constant(tables.value)
    if tables.kind == "from_right":
        before = graph("Less", points, graph.upright(at))
    else:
        before = graph("GreaterOrEqual", graph.upright(at), points)
    passed = graph.total(graph.cast(before, np.int64))

    def point(offset: int, of: str) -> str:
        place = graph("Add", passed, graph.constant(np.int64(offset)))
        limits = (graph.constant(np.int64(limit)) for limit in (0, m - 1))
        return graph("Gather", of, graph("Clip", place, *limits))

    if tables.kind == "from_left":
        return point(-1, values)
    if tables.kind == "from_right":
        return point(0, values)
    first, last = point(-1, points), point(0, points)
    width = graph("Sub", last, first)
    safe = graph("Max", width, graph.constant(np.float64(np.finfo(np.float64).tiny)))
    share = graph.clip(graph("Div", graph("Sub", at, first), safe), 0.0, 1.0)
    rise = graph("Sub", point(0, values), point(-1, values))
    return graph("Add", point(-1, values), graph("Mul", share, rise))


def _venn_abers(maps: VennAbers, people: People, place: NDArray[np.int64], x: str) -> str:
    graph = people.graph
    zero, one = (graph.constant(np.float64(v)) for v in (0, 1))
    first = people.look_up(np.nan_to_num(maps.lower.low[place]))
    last = people.look_up(np.nan_to_num(maps.upper.high[place]))
    p0 = graph("Where", graph("Less", x, first), zero, _table(maps.lower, people, place, x))
    p1 = graph("Where", graph("Greater", x, last), one, _table(maps.upper, people, place, x))
    return graph("Div", p1, graph("Add", graph("Sub", one, p0), p1))
