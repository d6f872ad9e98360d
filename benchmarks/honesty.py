"""Whether statements are as true as they say: a table of statement, nominal and measured.

``python benchmarks/honesty.py`` writes ``benchmarks/results/honesty.csv``. Every line is a
simulation with a fixed seed, or an enumeration; bad lines are written as well.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from certificates import CLUSTERED, FIRST_SEED, one
from numpy.typing import NDArray
from protocol import RESULTS
from scipy import optimize, special, stats

from fairtrain.metrics.cells import Cells, cell_means
from fairtrain.metrics.intervals import (
    gap_interval,
    pairwise_differences,
    ratio_interval,
    short_exact,
    wilson,
)
from fairtrain.metrics.paired import paired_difference
from fairtrain.metrics.power import rows_to_certify, spread_cells

Floats = NDArray[np.float64]
Line = dict[str, Any]
TIMES = 4000


def line(statement: str, setting: str, nominal: float, measured: float) -> Line:
    """One line of the table."""
    return {
        "statement": statement,
        "setting": setting,
        "nominal": round(nominal, 4),
        "measured": round(float(measured), 4),
    }


# Power ------------------------------------------------------------------------------------------


def power() -> Iterator[Line]:
    """The advised number of rows gives ``met`` in 80 % of samples."""
    rng = np.random.default_rng(1)
    for kind, bound in (("difference", 0.05), ("difference", 0.1), ("ratio", 0.8)):
        for rate in (0.05, 0.2, 0.5):
            for groups in (2, 4, 8):
                for share in (0.0, 0.5, 0.75):
                    gap = 1 - share * (1 - bound) if kind == "ratio" else share * bound
                    rows = rows_to_certify(bound, gap, rate=rate, kind=kind, n_groups=groups)
                    truth = spread_cells(np.zeros(groups), rate, gap, kind).mean
                    seen = rng.binomial(int(rows), truth, (TIMES, groups)) / rows
                    count = np.full(groups, rows)
                    if kind == "ratio":
                        met = ratio_interval(seen, count).lower >= bound
                    else:
                        met = gap_interval(seen, count).upper <= bound
                    setting = f"{kind} {bound}, {groups} groups near {rate}, true gap {gap:.4g}"
                    yield line("rows that give met in 80 %", setting, 0.8, met.mean())


# Means of values in [0, 1] ----------------------------------------------------------------------

Draw = Callable[[np.random.Generator, tuple[int, int]], Floats]

SCORES: dict[str, Draw] = {
    "logistic scores": lambda rng, size: 1 / (1 + np.exp(1 - rng.normal(size=size))),
    "scores around .5, sd .1": lambda rng, size: rng.beta(12, 12, size),
    "scores around .1, sd .1": lambda rng, size: rng.beta(0.8, 7.2, size),
    "scores around .3, sd .05": lambda rng, size: rng.beta(25, 58, size),
    "lottery 0, .5, 1": lambda rng, size: rng.choice([0, 0.5, 1], size, p=[0.5, 0.3, 0.2]),
    "lottery .3, .6": lambda rng, size: rng.choice([0.3, 0.6], size, p=[0.7, 0.3]),
}
RARE: dict[str, Draw] = {
    "1 % of .9, else .01": lambda rng, size: np.where(rng.random(size) < 0.01, 0.9, 0.01),
    "1.5 % of 1, else .2": lambda rng, size: np.where(rng.random(size) < 0.015, 1.0, 0.2),
    "3 % of 1, else .2": lambda rng, size: np.where(rng.random(size) < 0.03, 1.0, 0.2),
    "5 % of .4, else 0": lambda rng, size: np.where(rng.random(size) < 0.05, 0.4, 0.0),
}


def cells_of(values: Floats) -> Cells:
    """Samples as if each were a group."""
    n = np.full(len(values), values.shape[1])
    variance = values.var(axis=1, ddof=1)
    return Cells(values.mean(axis=1), n, n.astype(float), n.astype(float), variance)


def shares() -> Iterator[Line]:
    """Coverage and width of limits of mean scores, alone and between two groups."""
    for name, draw in {**SCORES, **RARE}.items():
        truth = float(draw(np.random.default_rng(0), (1, 2_000_000)).mean())
        for n in (30, 200, 1000):
            rng = np.random.default_rng(n)
            first, second = (cells_of(draw(rng, (TIMES // 2, n))) for _ in range(2))
            lower, upper = first.limits(0.95)
            covered = (lower <= truth + 1e-12) & (upper >= truth - 1e-12)
            setting = f"{name}, {n} rows"
            yield line("95 % interval of a mean score", setting, 0.95, covered.mean())
            mean, variance, rows = (
                np.stack([getattr(c, f) for c in (first, second)], axis=1)
                for f in ("mean", "variance", "effective")
            )
            ours, welch = (
                pairwise_differences(mean, rows, variance=variance, bounded=bounded)
                for bounded in (True, False)
            )
            lower, upper = (v[:, 0, 1] for v in ours[1:])
            yield line(
                "95 % interval of a difference of mean scores",
                setting,
                0.95,
                ((lower <= 1e-12) & (upper >= -1e-12)).mean(),
            )
            wide = (welch.upper - welch.lower)[:, 0, 1].mean()
            flips = pairwise_differences(mean, rows)
            for what, width in (
                ("width over Welch's, difference of mean scores", (upper - lower).mean()),
                ("the same as coin flips", (flips.upper - flips.lower)[:, 0, 1].mean()),
            ):
                yield line(
                    what, setting, 1.3 if n >= 200 and name in SCORES else np.inf, width / wide
                )


# Rates and losses of one group ------------------------------------------------------------------


def single_rates() -> Iterator[Line]:
    """Smallest coverage over all rates, enumerated."""
    p = np.concatenate([np.geomspace(1e-4, 0.1, 600), np.linspace(0.1, 0.5, 400)])[:, None]
    for n in (5, 10, 20, 50, 100, 200, 1000):
        k = np.arange(n + 1)
        chance = stats.binom.pmf(k, n, p)
        for name, limits in (("group_rates", short_exact), ("Wilson", wilson)):
            lower, upper = limits(k / n, n)
            covered = (chance * ((lower <= p) & (upper >= p))).sum(axis=1).min()
            yield line(
                f"smallest coverage of a rate's 95 % interval: {name}", f"{n} rows", 0.93, covered
            )


def losses() -> Iterator[Line]:
    """How often the upper limit of a mean log loss lies below the truth."""
    for shift in (0.0, -1.0, -2.0):

        def draw(rng: np.random.Generator, size: tuple[int, int], shift: float = shift) -> Floats:
            p = 1 / (1 + np.exp(-shift - rng.normal(size=size)))
            y = rng.random(size) < p
            return np.asarray(-np.log(np.where(y, p, 1 - p)))

        truth = float(draw(np.random.default_rng(0), (1, 2_000_000)).mean())
        for n in (30, 100, 400):
            values = draw(np.random.default_rng(n), (2 * TIMES, n))
            cells = cells_of(values)
            positive = Cells(*(getattr(cells, f) for f in FIELDS), support="positive")
            student = cells.mean + stats.t.ppf(0.975, n - 1) * np.sqrt(cells.variance / n)  # type: ignore[operator]
            setting = f"log loss of logits around {shift:g}, {n} rows"
            failed = (positive.limits(0.95)[1] < truth).mean()
            yield line("upper limit of a mean loss fails", setting, 0.025, failed)
            yield line("the same, Student's", setting, 0.025, (student < truth).mean())


FIELDS = ("mean", "count", "effective", "total", "variance")


# Pairs of rates ---------------------------------------------------------------------------------


def agresti_caffo(x: NDArray[Any], n: NDArray[Any]) -> tuple[Floats, Floats]:
    """Wald's interval after a success and a failure more in each group (2000)."""
    p, m = (x + 1) / (n + 2), n + 2
    half = stats.norm.ppf(0.975) * np.sqrt((p * (1 - p) / m).sum(axis=1))
    d = p[:, 0] - p[:, 1]
    return np.maximum(d - half, -1), np.minimum(d + half, 1)


def miettinen_nurminen(x: NDArray[Any], n: NDArray[Any]) -> tuple[Floats, Floats]:
    """Score interval of a difference (1985), by halving."""
    z2, p = stats.chi2.ppf(0.95, 1), x / n
    d = p[:, 0] - p[:, 1]

    def outside(delta: Floats) -> NDArray[np.bool_]:
        low, high = _restricted(x, n, delta)
        spread = high * (1 - high) / n[0] + low * (1 - low) / n[1]
        factor = n.sum() / (n.sum() - 1)
        return np.asarray((d - delta) ** 2 > z2 * factor * np.maximum(spread, 1e-300))

    ends = []
    for edge in (-1.0, 1.0):
        inner, outer = d.copy(), np.full(len(d), edge * (1 - 1e-9))
        reached = ~outside(outer)
        for _ in range(40):
            middle = (inner + outer) / 2
            out = outside(middle)
            inner, outer = np.where(out, inner, middle), np.where(out, middle, outer)
        ends.append(np.where(reached, edge, inner))
    return ends[0], ends[1]


def _restricted(x: NDArray[Any], n: NDArray[Any], delta: Floats) -> tuple[Floats, Floats]:
    """Likeliest rates (second, first) that differ by delta: the root of a cubic."""
    total, events = n.sum(), x.sum(axis=1)
    a3 = float(total)
    a2 = (n[0] + 2 * n[1]) * delta - total - events
    a1 = (n[1] * delta - total - 2 * x[:, 1]) * delta + events
    a0 = x[:, 1] * delta * (1 - delta)
    q = a2**3 / (3 * a3) ** 3 - a1 * a2 / (6 * a3**2) + a0 / (2 * a3)
    root = np.sqrt(np.maximum(a2**2 / (3 * a3) ** 2 - a1 / (3 * a3), 0.0))
    root = np.where(q < 0, -root, root)
    ratio = np.divide(q, root**3, out=np.zeros_like(q), where=root != 0)
    angle = (np.pi + np.arccos(np.clip(ratio, -1, 1))) / 3
    low = np.clip(2 * root * np.cos(angle) - a2 / (3 * a3), 0, 1)
    return low, np.clip(low + delta, 0, 1)


def pairs() -> Iterator[Line]:
    """Our interval of a difference of two rates beside two others."""
    for n in ((30, 30), (100, 100), (1000, 50), (1000, 200)):
        for first, second in ((0.05, 0.05), (0.1, 0.2), (0.3, 0.3), (0.5, 0.4)):
            rng, rows = np.random.default_rng(sum(n)), np.array(n)
            x = rng.binomial(rows, [first, second], (TIMES, 2))
            ours = pairwise_differences(x / rows, rows)
            found = {
                "ours": (ours.lower[:, 0, 1], ours.upper[:, 0, 1]),
                "Miettinen-Nurminen": miettinen_nurminen(x, rows),
                "Agresti-Caffo": agresti_caffo(x, rows),
            }
            setting = f"{n[0]} and {n[1]} rows, rates {first} and {second}"
            width = (ours.upper - ours.lower)[:, 0, 1].mean()
            for name, (lower, upper) in found.items():
                covered = (lower <= first - second + 1e-12) & (upper >= first - second - 1e-12)
                yield line(f"95 % interval of two rates: {name}", setting, 0.95, covered.mean())
                if name != "ours":
                    ratio = width / (upper - lower).mean()
                    yield line(f"width of ours over {name}", setting, 1.1, ratio)


def worst_pairs() -> Iterator[Line]:
    """The same over all rates of a grid, enumerated: the worst case and the mean width."""
    grid = [0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.2, 0.3, 0.5, 0.7, 0.9, 0.97, 0.99]
    for n in ((30, 30), (100, 100), (200, 40), (1000, 50)):
        rows = np.array(n)
        x = np.stack(np.meshgrid(*(np.arange(m + 1) for m in n), indexing="ij"), -1).reshape(-1, 2)
        ours = pairwise_differences(x / rows, rows)
        limits = {
            "ours": (ours.lower[:, 0, 1], ours.upper[:, 0, 1]),
            "Miettinen-Nurminen": miettinen_nurminen(x, rows),
            "Agresti-Caffo": agresti_caffo(x, rows),
        }
        chance = {p: [stats.binom.pmf(np.arange(m + 1), m, p) for m in n] for p in grid}
        found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in limits}
        for a in grid:
            for b in grid:
                weight = np.outer(chance[a][0], chance[b][1]).ravel()
                for name, (lower, upper) in limits.items():
                    tails = [weight @ (lower > a - b + 1e-12), weight @ (upper < a - b - 1e-12)]
                    found[name].append((sum(tails), max(tails), weight @ (upper - lower)))
        own = np.array([width for _, _, width in found["ours"]])
        for name, values in found.items():
            outside, tail, width = np.array(values).T
            setting = f"{n[0]} and {n[1]} rows, the worst of {len(grid) ** 2} pairs of rates"
            yield line(f"smallest coverage, two rates: {name}", setting, 0.95, 1 - outside.max())
            yield line(f"one limit fails, two rates: {name}", setting, 0.025, tail.max())
            if name != "ours":
                ratio = (own / width).mean()
                yield line(f"mean width of ours over {name}", setting, 1.1, ratio)


def max_t(
    rng: np.random.Generator, x: NDArray[Any], n: NDArray[Any], times: int = 1000
) -> tuple[Floats, Floats]:
    """Bootstrap of the largest studentised difference, for each of the samples of x."""
    lower, upper = [], []
    for seen in x / n:
        p = rng.binomial(n, seen, (times, len(n))) / n
        shrunk = (p * n + 0.5) / (n + 1)
        spread = shrunk * (1 - shrunk) / n
        apart = (p - seen)[:, :, None] - (p - seen)[:, None, :]
        t = np.abs(apart) / np.sqrt(spread[:, :, None] + spread[:, None, :])
        own = (seen * n + 0.5) / (n + 1)
        error = np.sqrt(np.add.outer(own * (1 - own) / n, own * (1 - own) / n))
        half = np.quantile(t.max(axis=(1, 2)), 0.95) * error
        lower.append(seen[:, None] - seen[None, :] - half)
        upper.append(seen[:, None] - seen[None, :] + half)
    return np.array(lower), np.array(upper)


def many_groups(times: int = 400) -> Iterator[Line]:
    """Our simultaneous intervals of all pairs beside a max-t bootstrap."""
    for groups in (8, 30):
        for sizes in ("100 rows", "1000 rows", "50 to 2000 rows"):
            for rates in ("near 0.1", "near 0.3", "0.02 to 0.6"):
                rng = np.random.default_rng([groups, len(sizes), len(rates), 5])
                few, _, many = sizes.removesuffix(" rows").partition(" to ")
                n = np.geomspace(int(few), int(many or few), groups).astype(int)
                a, _, b = rates.removeprefix("near ").partition(" to ")
                p = rng.permutation(np.linspace(float(a), float(b or a), groups))
                x = rng.binomial(n, p, (times, groups))
                truth = p[:, None] - p[None, :]
                ours = pairwise_differences(x / n, np.broadcast_to(n, x.shape))
                found = {"ours": (ours.lower, ours.upper), "max-t bootstrap": max_t(rng, x, n)}
                setting = f"{groups} groups of {sizes}, rates {rates}"
                pair = ~np.eye(groups, dtype=bool)
                for name, (lower, upper) in found.items():
                    inside = ((lower <= truth + 1e-12) & (upper >= truth - 1e-12)).all(axis=(1, 2))
                    yield line(f"all pairs at once: {name}", setting, 0.95, inside.mean())
                wide = [(upper - lower)[:, pair].mean() for lower, upper in found.values()]
                yield line("width of ours over max-t bootstrap", setting, 1.1, wide[0] / wide[1])


# Rows that come in clusters ---------------------------------------------------------------------

CLUSTER_TIMES = 400


def of_cluster(rng: np.random.Generator, rows: int, size: str) -> NDArray[np.int64]:
    """Cluster of each row: of two rows, of ten, or of one to some forty."""
    if size == "unequal":
        drawn = 1 + rng.geometric(1 / 9, rows)
        drawn = np.where(rng.random(rows) < 0.5, 1, drawn * 2)
    else:
        drawn = np.full(rows, int(size))
    return np.repeat(np.arange(rows), drawn)[:rows]


def latent_correlation(rate: float, alike: float) -> float:
    """Correlation of two normals whose signs at a quantile correlate by ``alike``."""
    cut = special.ndtri(rate)

    def missing(r: float) -> float:
        both = stats.multivariate_normal.cdf([cut, cut], mean=[0, 0], cov=[[1, r], [r, 1]])
        return float((both - rate**2) / (rate * (1 - rate)) - alike)

    return float(optimize.brentq(missing, 1e-6, 0.999))


def clustered_rows(
    rng: np.random.Generator, rows: int, size: str, shared: float, rate: Floats, nested: bool
) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64]]:
    """Decisions, groups and clusters; normals behind decisions correlate within a cluster."""
    cluster = of_cluster(rng, rows, size)
    many, share = cluster[-1] + 1, {2: [0.7, 0.3], 4: [0.5, 0.25, 0.15, 0.1]}[len(rate)]
    group = rng.choice(len(rate), many if nested else rows, p=share)
    group = group[cluster] if nested else group
    common = np.sqrt(shared) * rng.normal(size=many)[cluster]
    normal = common + np.sqrt(1 - shared) * rng.normal(size=rows)
    return (normal < special.ndtri(rate)[group]).astype(np.float64), group, cluster


def clusters() -> Iterator[Line]:
    """A null gap is covered, and a broken bound seldom called met, where rows come in clusters."""
    rows, rate, bound = 1000, 0.4, 0.096
    for groups, alike, size, nested in product(
        (2, 4), (0.05, 0.3), ("2", "10", "unequal"), (True, False)
    ):
        rng, shared = np.random.default_rng(0), latent_correlation(rate, alike)
        level = np.full(groups, rate)
        apart = np.linspace(rate - bound / 2, rate + bound / 2, groups)
        covered = ignored = met = 0
        for _ in range(CLUSTER_TIMES):
            y, g, c = clustered_rows(rng, rows, size, shared, level, nested)
            covered += cell_means(y, g, groups, clusters=c).gap(0.95).lower <= 0
            ignored += cell_means(y, g, groups).gap(0.95).lower <= 0
            y, g, c = clustered_rows(rng, rows, size, shared, apart, nested)
            met += cell_means(y, g, groups, clusters=c).gap(0.95).upper <= bound
        setting = (
            f"{rows} rows in clusters of {'1 to 40' if size == 'unequal' else size}, "
            f"{'nested in' if nested else 'across'} {groups} groups, correlation {alike}"
        )
        times = CLUSTER_TIMES
        yield line("95 % interval of a null gap, clusters", setting, 0.95, covered / times)
        yield line("the same, clusters ignored", setting, 0.95, ignored / times)
        yield line("met at a gap on the bound, clusters", setting, 0.025, met / times)


def few_clusters() -> Iterator[Line]:
    """The same with hardly more clusters than are asked for, and for paired differences."""
    times = 4 * CLUSTER_TIMES
    shared, level = latent_correlation(0.4, 0.3), np.full(2, 0.4)
    for count in (10, 30):
        rng, covered, paired = np.random.default_rng(count), 0, 0
        group, cluster = np.repeat([0, 1], 10 * count), np.arange(20 * count) // 10
        for _ in range(times):
            one, other = (
                clustered_rows(rng, 20 * count, "10", shared, level, True)[0] for _ in range(2)
            )
            covered += cell_means(one, group, 2, clusters=cluster).gap(0.95).lower <= 0
            _, low, high = paired_difference(one - other, clusters=cluster)
            paired += low <= 0 <= high
        setting = f"clusters of 10, correlation 0.3, {count} in each of 2 groups"
        yield line("95 % interval of a null gap, few clusters", setting, 0.95, covered / times)
        yield line("95 % interval of a paired difference, clusters", setting, 0.95, paired / times)


def cross_clusters(fits: int = 100) -> Iterator[Line]:
    """Certificates from all rows, where rows come in clusters that folds keep whole."""
    warnings.simplefilter("ignore")
    for population in CLUSTERED:
        for rows in (1000, 4000):
            found = pd.DataFrame(one(population, rows, FIRST_SEED + i) for i in range(fits))
            setting = f"{population}, correlation .3, {rows} rows, {fits} fits"
            covered = 1 - found["above"].mean() - found["below"].mean()
            yield line(
                "95 % interval of a gap, cross-certificate, clusters", setting, 0.95, covered
            )
            yield line("met and broken, the same", setting, 0.025, found["above"].mean())


def margins() -> Iterator[Line]:
    """What is kept in the population by defaults, and by confidence=; see margins.py."""
    for row in pd.read_csv(RESULTS / "margins.csv").to_dict("records"):
        tightened = row["margin"] not in ("default", "cv=5")  # else prices end on the bound
        how = f"confidence={row['margin']}" if tightened else row["margin"]
        setting = f"{row['population']}, {row['rows']} rows, {row['fits']} fits"
        nominal = float(row["margin"]) if tightened else 0.5
        yield line(f"bound kept, {how}: {row['method']}", setting, nominal, 1 - row["broken"])


PARTS: tuple[Callable[[], Iterator[Line]], ...] = (
    power,
    shares,
    single_rates,
    losses,
    pairs,
    worst_pairs,
    many_groups,
    clusters,
    few_clusters,
    cross_clusters,
    margins,
)


def main() -> None:
    """Simulate all and write the table."""
    lines = [one for part in PARTS for one in part()]
    table = pd.DataFrame(lines)
    table.to_csv(RESULTS / "honesty.csv", index=False)
    print(table.groupby("statement")["measured"].describe()[["count", "min", "mean", "max"]])


if __name__ == "__main__":
    main()
