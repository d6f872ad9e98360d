r"""A population with proxies and biased labels of which everything is known.

Of group g and merit m, features are independent normals: *merit* says who deserves the favourable
label, one *proxy* a sensitive column says who belongs to which of its levels, and noise says
nothing. Labels of some groups are recorded worse than they are. So :math:`P(g, y \mid x)` has a
closed form, and with it the best that any decision could do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit, logit, ndtr, ndtri
from scipy.stats import qmc

from fairtrain._parameters import GENERATOR, NONE, Real, Whole, checks
from fairtrain.constraints import ConstraintSpec, as_constraints
from fairtrain.constraints.bounds import cell_parts
from fairtrain.constraints.families import RateFamily, families_of
from fairtrain.constraints.mixture import most_accurate_decisions
from fairtrain.data.groups import Groups
from fairtrain.exceptions import InvalidParameterError
from fairtrain.plugin.linear import JointScores, linear_rates

__all__ = ["BiasedData", "BiasedPopulation", "make_biased"]

Floats = NDArray[np.float64]
Label = Literal["recorded", "true"]

_POINTS = 1 << 12
"""Points that stand for the population: four times as many move the frontier by under .001."""


@dataclass(frozen=True, eq=False)
class BiasedPopulation:
    r"""What is true of the people that :func:`make_biased` draws.

    .. math:: P(g, y \mid x) \propto P(g) \sum_m P(m \mid g)\, P(y \mid g, m)\,
       \varphi(x_0 - s (m - \tfrac12)) \prod_c \varphi(x_c - p\, z_{c, g})

    with merit m, signal s, proxy strength p, and the position :math:`z_{c, g}` of the group's
    level in column c: evenly spaced, mean 0, 1 apart.

    Attributes
    ----------
    groups : DataFrame of G rows
        Levels of every intersection, its ``share``, its ``base_rate`` P(m = 1 | g), and its
        ``label_bias``, the chance that merit is recorded as none.
    columns : tuple of str
        Sensitive columns.
    signal, proxy : float
        Distance of the means of the two merits, and of two neighbouring levels, in standard
        deviations.
    n_noise : int
        Features that say nothing.
    drift : float
        What :meth:`at` adds to the log-odds of every base rate.
    """

    groups: pd.DataFrame
    columns: tuple[str, ...]
    signal: float
    proxy: float
    n_noise: int
    drift: float = 0.0

    @property
    def feature_names(self) -> list[str]:
        """Names of the features, in order."""
        noise = [f"noise_{i}" for i in range(self.n_noise)]
        return ["merit", *(f"proxy_{column}" for column in self.columns), *noise]

    def at(self, time: float) -> BiasedPopulation:
        """Population of a later time, from 0 to 1, if base rates drift."""
        rates = expit(logit(self.groups["base_rate"]) + self.drift * time)
        return replace(self, groups=self.groups.assign(base_rate=rates), drift=0.0)

    def joint_proba(self, X: Any, *, label: Label = "recorded") -> Floats:
        """P(g, y | x), shape (n, G, 2).

        Parameters
        ----------
        X : frame or array of shape (n, d)
            Features.
        label : {"recorded", "true"}, default="recorded"
            What y is: the label as it is recorded, or merit.
        """
        x = np.asarray(X, dtype=np.float64)
        groups = self.groups
        merit = -0.5 * (x[:, [0]] - self.signal * np.array([-0.5, 0.5])) ** 2
        proxies = x[:, 1 : 1 + len(self.columns)]
        near = -0.5 * ((proxies[:, None, :] - self.proxy * self._positions) ** 2).sum(axis=2)
        rate = groups["base_rate"].to_numpy()
        prior = groups["share"].to_numpy()[:, None] * np.stack([1 - rate, rate], axis=1)
        log_odds = near[:, :, None] + merit[:, None, :]
        weight = prior * np.exp(log_odds - log_odds.max(axis=(1, 2), keepdims=True))
        joint = weight / weight.sum(axis=(1, 2), keepdims=True)
        if label == "recorded":
            lost = joint[:, :, 1] * groups["label_bias"].to_numpy()
            joint = joint + np.stack([lost, -lost], axis=2)
        return np.asarray(joint)

    def outcome_proba(self, X: Any, *, label: Label = "recorded") -> Floats:
        """P(y = 1 | x), shape (n,); see :meth:`joint_proba`."""
        return np.asarray(self.joint_proba(X, label=label)[:, :, 1].sum(axis=1))

    def group_proba(self, X: Any) -> Floats:
        """P(g | x), shape (n, G)."""
        return np.asarray(self.joint_proba(X).sum(axis=2))

    def judge(
        self,
        decide: Callable[[pd.DataFrame], Any],
        constraints: ConstraintSpec = "demographic_parity",
        *,
        label: Label = "recorded",
    ) -> dict[str, float]:
        """Accuracy and gap of a decision rule on the population.

        Parameters
        ----------
        decide : callable
            Takes a frame of features; returns decisions, 0 or 1, or the chance of a favourable one.
        constraints : Constraint, str, or a list of these
            What is measured; the largest gap of several counts (smallest ratio, of ratio bounds).
        label : {"recorded", "true"}, default="recorded"
            What decisions are compared with.

        Returns
        -------
        dict
            ``accuracy``, ``gap`` and ``selection_rate``; exact but for the points that stand for
            the population (about .002).
        """
        points = self._points(label)
        decisions = np.asarray(decide(points.X), dtype=np.float64)
        return points.judged(decisions, self._families(constraints))

    def rates(
        self,
        decide: Callable[[pd.DataFrame], Any],
        constraints: ConstraintSpec = "demographic_parity",
        *,
        label: Label = "recorded",
    ) -> pd.Series[float]:
        """Rates of every group under a decision rule, on the population; see :meth:`judge`."""
        points, families = self._points(label), self._families(constraints)
        rates = linear_rates(families, points.scores, points.weight)
        named = [(f.name, group) for f in families for group in f.scheme.names]
        index = pd.MultiIndex.from_tuples(named, names=["constraint", "group"])
        decisions = np.asarray(decide(points.X), dtype=np.float64)
        return pd.Series(rates(decisions), index=index, name="rate")

    def frontier(
        self,
        constraints: ConstraintSpec = "demographic_parity",
        bounds: Sequence[float] = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2),
        *,
        uses_sensitive: bool = False,
        label: Label = "recorded",
    ) -> pd.DataFrame:
        """Best accuracy under every bound: a linear program over all decision rules.

        Parameters
        ----------
        constraints : Constraint, str, or a list of these
            What is bounded, by a difference.
        bounds : sequence of float in [0, 1]
            Bounds on the gap.
        uses_sensitive : bool, default=False
            Whether decisions may read the group.
        label : {"recorded", "true"}, default="recorded"
            Whose errors count.

        Returns
        -------
        DataFrame
            A row a bound: ``bound``, ``accuracy``, ``gap``, ``selection_rate``.
        """
        points = self._points(label)
        points = points.by_group() if uses_sensitive else points
        rows = []
        for bound in bounds:
            families = self._families(constraints, difference_bound=bound)
            rates = linear_rates(families, points.scores, points.weight)
            decisions = most_accurate_decisions(
                [family.bounds for family in families],
                rates.base,
                rates.slopes * rates.share[:, None],
                points.gain * rates.share,
            )
            rows.append({"bound": float(bound), **points.judged(decisions, families)})
        return pd.DataFrame(rows)

    @cached_property
    def _positions(self) -> Floats:
        """Position of every group's level in each column, shape (G, k)."""
        places = []
        for column in self.columns:
            levels = list(dict.fromkeys(self.groups[column]))
            at = np.arange(len(levels)) - (len(levels) - 1) / 2
            places.append(at[[levels.index(level) for level in self.groups[column]]])
        return np.stack(places, axis=1)

    @cached_property
    def _scheme(self) -> Groups:
        return Groups.from_sensitive(self.groups[list(self.columns)], min_count=0)

    def _families(
        self, constraints: ConstraintSpec, difference_bound: float | None = None
    ) -> list[RateFamily]:
        return families_of(
            as_constraints(constraints, difference_bound=difference_bound), self._scheme.scheme
        )

    def _points(self, label: Label) -> _Points:
        """Points spread evenly over the population (Sobol), with what is known of each."""
        features = 1 + len(self.columns)
        uniform = qmc.Sobol(features + 1, seed=0).random(_POINTS)
        cells = self._cells.cumsum()
        cell = np.searchsorted(cells / cells[-1], uniform[:, 0], side="right")
        X = self.features(cell // 2, cell % 2, ndtri(uniform[:, 1:]))
        joint = self.joint_proba(X, label=label)[:, np.argsort(self._scheme.codes)]
        return _Points(X, JointScores.of(joint), np.ones(len(X)))

    @property
    def _cells(self) -> Floats:
        """P(g, m), shape (2 G,)."""
        rate = self.groups["base_rate"].to_numpy()
        both = self.groups["share"].to_numpy()[:, None] * np.stack([1 - rate, rate], axis=1)
        return np.asarray(both.ravel())

    def features(self, group: NDArray[Any], merit: NDArray[Any], normal: Floats) -> pd.DataFrame:
        """Features of people of known group and merit, from independent standard normals.

        Parameters
        ----------
        group : ndarray of int, shape (n,)
            Row of ``groups``.
        merit : ndarray of int, shape (n,)
            0 or 1.
        normal : ndarray of shape (n, d)
            Chance; columns of noise that are missing are 0.
        """
        x = np.zeros((len(group), len(self.feature_names)))
        x[:, : normal.shape[1]] = normal
        x[:, 0] += self.signal * (merit - 0.5)
        x[:, 1 : 1 + len(self.columns)] += self.proxy * self._positions[group]
        return pd.DataFrame(x, columns=self.feature_names)


@dataclass(frozen=True, eq=False)
class _Points:
    """Points that stand for a population: what is known of each, and how much it counts."""

    X: pd.DataFrame
    scores: JointScores
    weight: Floats

    @property
    def gain(self) -> Floats:
        return 2 * self.scores.outcome - 1

    def judged(self, decisions: Floats, families: Sequence[RateFamily]) -> dict[str, float]:
        rates = linear_rates(families, self.scores, self.weight)
        achieved = rates(decisions)
        parts = cell_parts(len(family.scheme) for family in families)
        gaps = [f.bounds.achieved(achieved[p]) for f, p in zip(families, parts, strict=True)]
        worst = min(gaps) if families[0].constraint.kind == "ratio" else max(gaps)
        right = 1 - self.scores.outcome + decisions * self.gain
        return {
            "accuracy": float(rates.share @ right),
            "gap": float(worst),
            "selection_rate": float(rates.share @ decisions),
        }

    def by_group(self) -> _Points:
        """A point for every person and group they may belong to, which is then known."""
        joint = np.stack([self.scores.joint(0), self.scores.joint(1)], axis=2)
        n, size, _ = joint.shape
        share = joint.sum(axis=2).ravel()
        outcome = np.divide(joint[:, :, 1].ravel(), share, out=np.zeros(n * size), where=share > 0)
        known = np.tile(np.eye(size), (n, 1))
        X = self.X.loc[self.X.index.repeat(size)]
        return _Points(X, JointScores(outcome, np.stack([known, known])), share)


@dataclass(frozen=True, eq=False)
class BiasedData:
    """Rows of a population, and what nobody would know of real ones.

    Attributes
    ----------
    X : DataFrame of shape (n, d)
        ``merit``, a ``proxy_...`` for every sensitive column, and ``noise_...``.
    y : ndarray of int64, shape (n,)
        Labels as recorded, 1 the favourable one.
    sensitive_features : DataFrame of n rows
        A column for each attribute.
    true_y : ndarray of int64, shape (n,)
        Labels without bias: merit.
    clusters : ndarray of int64, shape (n,), or None
        Which rows belong together.
    time : ndarray of shape (n,)
        When, from 0 to 1, ascending; 0 throughout without drift.
    population : BiasedPopulation
        The truth, at time 0.
    """

    X: pd.DataFrame
    y: NDArray[np.int64]
    sensitive_features: pd.DataFrame
    true_y: NDArray[np.int64]
    clusters: NDArray[np.int64] | None
    time: Floats
    population: BiasedPopulation = field(repr=False)

    def __len__(self) -> int:
        return len(self.y)


@checks(
    n=Whole(1),
    signal=Real(0),
    proxy=Real(0),
    n_noise=Whole(0),
    cluster_size=Whole(1),
    cluster_correlation=Real(0, 1, "[)"),
    drift=Real(),
    random_state=Whole(0) | GENERATOR | NONE,
)
def make_biased(
    n: int = 10_000,
    *,
    levels: Mapping[str, Mapping[str, float]] | None = None,
    base_rates: Mapping[str, float] | tuple[float, float] = (0.6, 0.4),
    label_bias: Mapping[str, float] | float = 0.0,
    signal: float = 2.0,
    proxy: float = 1.5,
    n_noise: int = 3,
    cluster_size: int = 1,
    cluster_correlation: float = 0.0,
    drift: float = 0.0,
    random_state: Any = None,
) -> BiasedData:
    r"""Draw people from a population whose best fair decisions are known.

    Parameters
    ----------
    n : int, default=10000
        Rows.
    levels : mapping of str to mapping of str to float, optional
        Sensitive columns, their levels and the share of each; columns are independent, their
        intersections are the groups. Default: ``{"group": {"a": 0.7, "b": 0.3}}``.
    base_rates : mapping of str to float, or (first, last), default=(0.6, 0.4)
        P(merit) by name of group, such as ``"a"`` or ``"a/old"``; or of the first and last group,
        evenly between.
    label_bias : mapping of str to float, or float, default=0
        Chance that merit is recorded as none, by name of group, or of the last group.
    signal : float, default=2
        How far merit moves its feature, in standard deviations.
    proxy : float, default=1.5
        How far neighbouring levels move theirs. 0: features do not know the group.
    n_noise : int, default=3
        Features that say nothing.
    cluster_size : int, default=1
        Rows in a row that share a group and some of their chance: branches, families, judges.
    cluster_correlation : float in [0, 1), default=0
        Correlation, within a cluster, of the normals behind merit and features.
    drift : float, default=0
        What the log-odds of base rates gain from the first row to the last.
    random_state : int or Generator, optional
        Source of chance.

    Returns
    -------
    BiasedData

    Raises
    ------
    InvalidParameterError
        If a setting is out of range or names a group that does not exist.

    Examples
    --------
    >>> data = make_biased(2000, random_state=0)
    >>> data.population.frontier(bounds=[0.05, 1.0]).round(2)["accuracy"].tolist()
    [0.83, 0.84]
    >>> perfect = data.population.judge(lambda X: data.population.outcome_proba(X) > 0.5)
    >>> round(perfect["accuracy"], 2)
    0.84
    """
    population = _population(levels, base_rates, label_bias, signal, proxy, n_noise, drift)
    rng = np.random.default_rng(random_state)
    cluster = np.arange(n) // cluster_size
    time = np.linspace(0, 1, n) if drift else np.zeros(n)
    names = population.groups.index.to_numpy()
    group = rng.choice(len(names), size=cluster[-1] + 1, p=population.groups["share"])[cluster]
    rate = expit(logit(population.groups["base_rate"].to_numpy()[group]) + drift * time)
    chance = _correlated(rng, cluster, 1 + len(population.feature_names), cluster_correlation)
    merit = (ndtr(chance[:, 0]) < rate).astype(np.int64)
    lost = rng.uniform(size=n) < population.groups["label_bias"].to_numpy()[group]
    levels_of = population.groups[list(population.columns)].iloc[group].reset_index(drop=True)
    return BiasedData(
        X=population.features(group, merit, chance[:, 1:]),
        y=np.where(lost, 0, merit),
        sensitive_features=levels_of,
        true_y=merit,
        clusters=None if cluster_size == 1 else cluster,
        time=time,
        population=population,
    )


def _population(
    levels: Mapping[str, Mapping[str, float]] | None,
    base_rates: Mapping[str, float] | tuple[float, float],
    label_bias: Mapping[str, float] | float,
    signal: float,
    proxy: float,
    n_noise: int,
    drift: float,
) -> BiasedPopulation:
    levels = {"group": {"a": 0.7, "b": 0.3}} if levels is None else levels
    for column, shares in levels.items():
        if len(shares) < 2 or min(shares.values()) <= 0 or abs(sum(shares.values()) - 1) > 1e-9:
            raise InvalidParameterError(
                f"levels[{column!r}] must name at least two levels, with shares above 0 that sum "
                f"to 1, got {dict(shares)}."
            )
    cells = list(product(*(shares.items() for shares in levels.values())))
    names = ["/".join(level for level, _ in cell) for cell in cells]
    groups = pd.DataFrame(
        [[level for level, _ in cell] for cell in cells], columns=list(levels), index=names
    )
    groups["share"] = [float(np.prod([share for _, share in cell])) for cell in cells]
    if isinstance(base_rates, tuple):
        base_rates = dict(zip(names, np.linspace(*base_rates, len(names)), strict=True))
    if not isinstance(label_bias, Mapping):
        label_bias = {names[-1]: label_bias}
    groups["base_rate"] = _by_group("base_rates", base_rates, names, None)
    groups["label_bias"] = _by_group("label_bias", label_bias, names, 0.0)
    return BiasedPopulation(groups, tuple(levels), float(signal), float(proxy), n_noise, drift)


def _by_group(
    setting: str, given: Mapping[str, float], names: list[str], default: float | None
) -> list[float]:
    """Numbers of all groups, each in (0, 1), or 0 where that is the default."""
    unknown = [name for name in given if name not in names]
    missing = [name for name in names if name not in given and default is None]
    if unknown or missing:
        raise InvalidParameterError(
            f"{setting} must name the groups {names}: {(unknown or missing)[0]!r} is "
            f"{'none of them' if unknown else 'missing'}."
        )
    values = [float(given.get(name, default or 0.0)) for name in names]
    if any(not (0 < v < 1 or v == default) for v in values):
        raise InvalidParameterError(f"{setting} must lie between 0 and 1, got {values}.")
    return values


def _correlated(
    rng: np.random.Generator, cluster: NDArray[Any], columns: int, correlation: float
) -> Floats:
    """Standard normals that share a part within every cluster."""
    own = rng.normal(size=(len(cluster), columns))
    if not correlation:
        return own
    shared = rng.normal(size=(cluster[-1] + 1, columns))[cluster]
    return np.asarray(np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * own)
