"""Monitors on streams that no generator of this library makes: false alarms, and how late they are.

``python benchmarks/monitors.py`` writes ``benchmarks/results/monitors.csv``. 500 streams each, side
by side through the functions that ``FairnessMonitor`` calls. Rates are beta-binomial in clusters
(Williams 1975), logits follow a first-order autoregression (Box and Jenkins 1970), and shares of
the groups and the level of all rates have a weekly and a yearly season.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from protocol import RESULTS
from scipy import special, stats

from fairtrain import CalibrationMonitor
from fairtrain.monitoring.alarms import look
from fairtrain.monitoring.pooling import Part, WindowSequence

Floats = NDArray[np.float64]
Line = dict[str, Any]
STREAMS, WINDOWS, ROWS, BASE, BOUND, ALPHA = 500, 100, 1000, 0.4, 0.05, 0.05

# Streams ----------------------------------------------------------------------------------------


def independent(rng: np.random.Generator, p: Floats) -> tuple[Floats, Floats]:
    """As many rows of every group in each window, all independent."""
    return rng.binomial(ROWS, p) / ROWS, np.full(p.shape, float(ROWS))


def seasonal(rng: np.random.Generator, p: Floats) -> tuple[Floats, Floats]:
    """Shares of groups and the level of all rates go by the day of the week and the year."""
    groups, time = p.shape[-1], np.arange(p.shape[1])
    share = np.where(time % 7 >= 5, 0.7, 0.3)
    first = rng.binomial(groups * ROWS, share, p.shape[:2])
    rest = (groups * ROWS - first[..., None]) // (groups - 1)
    rows = np.concatenate([first[..., None], np.repeat(rest, groups - 1, axis=-1)], axis=-1)
    level = np.where(time % 7 >= 5, 0.15, 0.0) + 0.08 * np.sin(2 * np.pi * time / 52)
    return rng.binomial(rows, p + level[:, None]) / rows, rows.astype(float)


SIZE = 20


def clustered(rng: np.random.Generator, p: Floats) -> tuple[Floats, Floats]:
    """Fresh clusters of 20 rows in each window, intraclass correlation .1."""
    return _clusters(rng, p).sum(axis=-1) / ROWS, np.full(p.shape, float(ROWS))


def _clusters(rng: np.random.Generator, p: Floats, icc: float = 0.1) -> NDArray[np.int64]:
    """Favourable decisions in each cluster, a new last axis."""
    clusters = np.repeat(p[..., None], ROWS // SIZE, axis=-1)
    own = rng.beta(clusters * (1 / icc - 1), (1 - clusters) * (1 / icc - 1))
    return rng.binomial(SIZE, own)


def named_clusters(rng: np.random.Generator, p: Floats) -> tuple[Floats, Floats]:
    """The same, with the rows that the variance between clusters leaves of theirs."""
    seen = _clusters(rng, p)
    mean = seen.mean(axis=-1) / SIZE
    variance = np.var(seen / SIZE, axis=-1, ddof=1) / seen.shape[-1]
    return mean, np.minimum(mean * (1 - mean) / variance, ROWS)


def autoregressive(
    correlation: float, sd: float
) -> Callable[[np.random.Generator, Floats], tuple[Floats, Floats]]:
    """Logits of each group wander by themselves around their long-run mean."""

    def draw(rng: np.random.Generator, p: Floats) -> tuple[Floats, Floats]:
        wander = np.empty(p.shape)
        wander[:, 0] = rng.normal(0, sd, p[:, 0].shape)
        for t in range(1, p.shape[1]):
            noise = rng.normal(0, sd * np.sqrt(1 - correlation**2), p[:, 0].shape)
            wander[:, t] = correlation * wander[:, t - 1] + noise
        return independent(rng, special.expit(special.logit(p) + wander))

    return draw


NAMED = "clusters of 20, correlation .1, named"
KINDS = {
    "independent": independent,
    "seasonal in mix and level": seasonal,
    "clusters of 20, correlation .1": clustered,
    "autoregressive logits, .7, sd .1": autoregressive(0.7, 0.1),
    "autoregressive logits, .9, sd .15": autoregressive(0.9, 0.15),
    NAMED: named_clusters,
}


# Monitors: window of the first alarm in every stream ----------------------------------------------


def ours(
    mean: Floats, rows: Floats, reference: Part | None, dispersion: str, *, named: bool = False
) -> tuple[Floats, Floats]:
    """When the bound is said to be broken, and when the gap to have drifted."""
    df = np.full(mean[:, 0].shape, ROWS / SIZE - 1) if named else None
    sequence = WindowSequence()
    first = np.full((2, len(mean)), np.inf)
    for t in range(mean.shape[1]):
        window = Part(mean[:, t], rows[:, t], rows[:, t], df)
        alarms = look(sequence.take(window), reference, bound=BOUND, kind="difference", alpha=ALPHA,
                      min_rows=30, dispersion=dispersion)  # fmt: skip
        for alarm in alarms:
            for when, raised in zip(first, (alarm.breaks, alarm.drifts), strict=True):
                when[raised & np.isinf(when)] = t + 1
        reference = window if reference is None else reference
    return first[0], first[1]


def _scores(mean: Floats, rows: Floats, limit: Floats) -> Floats:
    """Excess of the difference of two groups over the limit, either way, in standard errors."""
    error = np.sqrt((mean * (1 - mean) / rows).sum(axis=-1))
    d = mean[..., 0] - mean[..., 1]
    return np.stack([d - limit[:, None], -d - limit[:, None]]) / error


def _first(raised: NDArray[np.bool_]) -> Floats:
    """First window with an alarm in either direction, of shape (2, S, T)."""
    either = raised.any(axis=0)
    return np.where(either.any(axis=1), either.argmax(axis=1) + 1.0, np.inf)


def cusum(z: Floats) -> Floats:
    """Page's (1954) sums with allowance .5, for each direction."""
    sums, path = np.zeros(z.shape[:2]), np.empty(z.shape)
    for t in range(z.shape[2]):
        path[..., t] = sums = np.maximum(sums + z[..., t] - 0.5, 0)
    return path


def cusum_limit() -> float:
    """So that 5 % of streams at the limit ever alarm, in either direction, in as many windows."""
    z = np.random.default_rng(99).normal(size=(1, 40_000, WINDOWS))
    return float(np.quantile(cusum(z).max(axis=(0, 2)), 1 - ALPHA / 2))


def e_process(z: Floats) -> Floats:
    """Mixture of exponential martingales over start (6 / pi^2 j^2) and size of the change."""
    total = np.zeros(z.shape)
    sizes = (0.25, 0.5, 1.0, 2.0)
    start = 6 / np.pi**2 / np.arange(1, z.shape[2] + 1) ** 2
    for size in sizes:
        running = np.zeros(z.shape[:2])
        for t in range(z.shape[2]):
            grown = np.minimum(np.exp(size * z[..., t] - size**2 / 2), 1e6)
            running = np.minimum((running + start[t]) * grown, 1e9)
            total[..., t] += (running + 1 - start[: t + 1].sum()) / len(sizes)
    return total


# Tables -----------------------------------------------------------------------------------------


def line(what: str, stream: str, monitor: str, value: float) -> Line:
    """One line of the table."""
    return {"what": what, "stream": stream, "monitor": monitor, "value": round(float(value), 4)}


def false_alarms() -> Iterator[Line]:
    """Share of streams with an alarm, ever, where the gap is at the bound and never changes."""
    for number, (name, draw) in enumerate(KINDS.items()):
        for groups in (2, 6):
            rng = np.random.default_rng([41, number, groups])
            p = BASE + BOUND * (np.arange(groups) == 0) + np.zeros((STREAMS, WINDOWS, groups))
            mean, rows = draw(rng, p)
            for dispersion in ("binomial", "estimated"):
                broken, drifted = ours(mean, rows, None, dispersion, named=name == NAMED)
                stream = f"{name}, {groups} groups"
                for what, first in (("broken", broken), ("drifted", drifted)):
                    yield line(f"false alarms: {what}", stream, dispersion, (first < np.inf).mean())
                either = (np.minimum(broken, drifted) < np.inf).mean()
                yield line("false alarms: either", stream, dispersion, either)


def _gaps(name: str) -> Floats:
    """True gaps over the windows."""
    time = np.arange(WINDOWS)
    kind, size = name.split()
    return np.where(time >= 20, float(size), 0.0) if kind == "jump" else float(size) * time


def delays() -> Iterator[Line]:
    """Windows from the change to the alarm, of two groups; slow changes start at once."""
    limit = cusum_limit()
    for number, name in enumerate(
        ("jump 0.07", "jump 0.08", "jump 0.1", "jump 0.15", "slow 0.002", "slow 0.005", "slow 0.01")
    ):
        rng, gaps = np.random.default_rng([43, number]), np.minimum(_gaps(name), 0.55)
        p = BASE + np.stack([gaps, np.zeros(WINDOWS)], axis=-1) + np.zeros((STREAMS, 1, 1))
        mean, rows = independent(rng, p)
        size = 10 * ROWS
        before = Part(
            rng.binomial(size, BASE, (STREAMS, 2)) / size, *np.full((2, STREAMS, 2), size)
        )
        reference_limit = before.gap(ALPHA / 2, "difference").upper  # as ours takes it
        broken, drifted = ours(mean, rows, before, "binomial")
        careful = ours(mean, rows, before, "estimated")
        for what, found, late, most in (
            ("broken", broken, careful[0], np.full(STREAMS, BOUND)),
            ("drifted", drifted, careful[1], reference_limit),
        ):
            change = int(np.argmax(gaps > (BOUND if what == "broken" else 0))) + 1
            z = _scores(mean, rows, most)
            peers = {
                "ours": found,
                "ours, estimated dispersion": late,
                "CUSUM": _first(cusum(z) > limit),
                "e-process": _first(e_process(z) > 2 / ALPHA),
            }
            for monitor, first in peers.items():
                wait = np.where(first < change, np.nan, first - change + 1)
                yield line(f"median delay: {what}", name, monitor, np.nanmedian(wait))
                yield line(f"alarm before the change: {what}", name, monitor,
                           (first < change).mean())  # fmt: skip


def calibration(streams: int = 200, windows: int = 12, rows: int = 1000) -> Iterator[Line]:
    """False alarms of the monitor of scores, which are calibrated."""
    clustered = "clusters of 20, correlation .1"
    for name in ("independent", "seasonal in mix", clustered, f"{clustered}, named"):
        alarms = 0
        for stream in range(streams):
            rng = np.random.default_rng([47, stream])
            monitor = CalibrationMonitor(alpha=ALPHA, random_state=stream)
            for t in range(windows):
                share = 0.7 if name.startswith("seasonal") and t % 7 >= 5 else 0.3
                score = special.expit(rng.normal(-0.5, 1, rows))
                draw = rng.random(rows)
                if name.startswith("clusters"):  # a Gaussian copula within clusters
                    shared = np.repeat(rng.normal(size=rows // 20), 20)
                    draw = stats.norm.cdf(0.4 * shared + np.sqrt(1 - 0.16) * rng.normal(size=rows))
                who = np.where(rng.random(rows) < share, "a", "b")
                of_cluster = np.arange(rows) // 20 if name.endswith("named") else None
                monitor.update(score, (draw < score).astype(int), who, clusters=of_cluster)
            alarms += monitor.refit
        yield line("false alarms: calibration", name, "CalibrationMonitor", alarms / streams)


def main() -> None:
    """Simulate all and write the table."""
    table = pd.DataFrame([one for part in (false_alarms, delays, calibration) for one in part()])
    table.to_csv(RESULTS / "monitors.csv", index=False)
    print(table.to_string())


if __name__ == "__main__":
    main()
