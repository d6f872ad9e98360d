"""``pareto_frontier``: train over a range, score on validation rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from sklearn.base import clone
from sklearn.utils import check_random_state

from fairtrain.constraints import as_constraints, strata_of
from fairtrain.data import inputs
from fairtrain.data.rows import Rows
from fairtrain.data.strata import Given
from fairtrain.exceptions import InvalidParameterError
from fairtrain.tradeoff import candidates
from fairtrain.tradeoff.cache import PointCache
from fairtrain.tradeoff.dominance import dominated
from fairtrain.tradeoff.frontier import MEASURED, ParetoFrontier, sketch
from fairtrain.tradeoff.scoring import Score, Scorer, read_metric

__all__ = ["pareto_frontier"]

_ETAS = (0.0, 0.1, 0.5, 1.0, 5.0, 10.0)
_LARGEST_ETA = 1000.0  # the loss then hardly counts: what misses a bound there misses it anywhere
_RESERVED = (*MEASURED, "seed", "dominated", "near_constant", "seconds", "n_seeds",
             "no_better_than_constant")  # fmt: skip


def pareto_frontier(
    model: Any,
    X: Any,
    y: Any,
    *,
    sensitive_features: Any = None,
    sample_weight: Any = None,
    clusters: Any = None,
    etas: Sequence[float] | None = None,
    penalty: Any = None,
    param: str | None = None,
    values: Sequence[Any] | None = None,
    metric: Any = None,
    performance: str | Callable[[Any, Any], float] = "accuracy",
    bound: float | None = None,
    baseline: Any = None,
    validation_data: Sequence[Any] | None = None,
    validation_fraction: float = 0.25,
    n_seeds: int = 1,
    max_epochs: int | None = None,
    batch_size: int | None = None,
    optimizer: Any = None,
    lr: float | None = None,
    trainer_options: Mapping[str, Any] | None = None,
    vectorize: Literal["auto"] | bool = "auto",
    n_jobs: int | None = None,
    cache: str | Path | None = None,
    callbacks: Sequence[Any] = (),
    positive_label: Any = None,
    missing: Literal["error", "group"] = "error",
    confidence: float = 0.95,
    random_state: Any = None,
    name: str | None = None,
    save_path: str | Path | None = None,
) -> ParetoFrontier:
    """Train a model for each strength of fairness and seed, and score them on validation rows.

    A network is trained with :class:`~fairtrain.losses.FairnessRegularizerLoss` once for each eta;
    any other estimator is refitted once for each value of the parameter that moves. No point is
    scored on a row that trained it; and as the validation rows choose among the points, they
    certify none: :meth:`ParetoFrontier.evaluate` judges the chosen one on further rows.

    Parameters
    ----------
    model : nn.Module, callable, None, or estimator
        A module (copied; with several seeds its weights are drawn anew by ``reset_parameters``), a
        factory ``(n_features, n_outputs) -> nn.Module``, None for an MLP, a
        ``RegularizedFairnessTrainer`` whose settings are kept, or any scikit-learn estimator.
    X, y : array, frame or Tensor of n rows
        Features and labels.
    sensitive_features : frame, series, mapping, array or list of n rows
        Who. May be left out where an estimator names columns of ``X``.
    sample_weight : array-like of shape (n,), optional
        Row weights, in training and scores.
    clusters : array-like of shape (n,) or str, optional
        Which rows belong together, such as those of one customer, or the column of ``X`` that says
        so: no split tears them apart, models that take clusters are given them, and limits allow
        for them.
    etas : sequence of float >= 0, optional
        Strengths of the penalty. By default 0, .1, .5, 1, 5 and 10, and then twice the last one,
        up to 640, until one brings the gap on the validation rows (a mean over seeds) to the bound:
        ``bound``, or else that of the constraint that ``metric`` is about, .05 where none is named.
    penalty : FairnessLoss, constraint, str, list or mapping, optional
        As in ``RegularizedFairnessTrainer``; ``"demographic_parity"`` by default.
    param, values : str and sequence, optional
        Instead of ``etas``: a parameter of the estimator and where it moves to, such as
        ``param="difference_bound", values=[0.01, 0.02, 0.05]``.
    metric : constraint, str, list, or callable, optional
        What the gap is: the largest that any of the constraints compares, or a function
        ``(y_true, y_pred, sensitive_features) -> float`` (without interval). Default: what the
        penalty or the estimator constrains, else demographic parity. Of several constraints the
        parities count if there are any; floors, whose rates are to be large, make no gap.
    performance : str, dict, matrix, ErrorCosts or callable, default="accuracy"
        More is better: "accuracy", "balanced_accuracy", "roc_auc", or between two classes "f1",
        "log_loss" and costs of errors, see :func:`~fairtrain.constraints.as_objective`. A function
        takes ``(y_true, y_pred)``, the labels as they are; as an ``Objective`` it takes 0 and 1,
        and weights.
    bound : float, optional
        Gap that is asked for: drawn, the default of ``select``, and where the default ``etas``
        end.
    baseline : estimator, optional
        An ordinary model to compare with; with ``eta = 0`` among the values it is that one.
    validation_data : (X, y, sensitive_features), with sample_weight and clusters if any, optional
        Rows that score, instead of a part of ``X``.
    validation_fraction : float in (0, 1), default=0.25
        Share of the rows that score, spread evenly over groups and labels; the same rows for every
        point.
    n_seeds : int, default=1
        Models for each value. Seeds are ``random_state``, ``random_state + 1``, ...; each sets the
        initial weights and the order of batches, and ``random_state`` of any estimator.
    max_epochs, batch_size, optimizer, lr, callbacks, trainer_options
        Settings of a network's training, by their names in ``RegularizedFairnessTrainer``; the last
        is a mapping of further ones.
    vectorize : {"auto", True, False}, default="auto"
        Train all networks at once on stacked parameters, and a ``FairPlugInClassifier`` or
        ``FairPlugInTrainer`` whose bound moves once for each seed: every bound is then only priced
        anew (its ``seconds``), as fitting it would (with a ``certification_fraction`` each is
        fitted, for a certificate of its own). What cannot be stacked is trained one by one, and
        ``notes`` say why; True warns of it.
    n_jobs : int, optional
        Processes that train one by one; ``joblib.parallel_config`` can spread them over a cluster.
    cache : path, optional
        Folder that keeps each finished model, so that an interrupted sweep goes on where it was.
        Nothing in it is run; a folder that others can write to is refused all the same. A model
        that cannot be kept so is trained each time, and ``notes`` say so.
    positive_label : label, optional
        The favourable outcome; the estimator's own by default.
    missing : {"error", "group"}, default="error"
        What to do with missing sensitive values.
    confidence : float, default=0.95
        Level of intervals.
    random_state : int, RandomState or None
        First seed, and source of the split.
    name : str, optional
        Heading of the curve.
    save_path : path, optional
        Where to write the plot (``.png``, ``.svg``, ``.pdf``).

    Returns
    -------
    ParetoFrontier

    Raises
    ------
    InvalidDataError, InvalidParameterError
        If rows or settings cannot be used.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from fairtrain import ReductionsWrapper, pareto_frontier
    >>> rng = np.random.default_rng(0)
    >>> group = rng.integers(0, 2, 3000)
    >>> X = rng.normal(size=(3000, 2)) + group[:, None]
    >>> y = (X.sum(axis=1) + rng.normal(size=3000) > 1).astype(int)
    >>> frontier = pareto_frontier(
    ...     ReductionsWrapper(LogisticRegression()), X, y, sensitive_features=group,
    ...     param="difference_bound", values=[0.02, 0.2], random_state=0,
    ... )
    >>> frontier.points["gap"].is_monotonic_increasing
    True
    >>> frontier.select(max_gap=0.1).value
    0.02
    """
    _check(confidence, bound, save_path)
    moving, where = _read_values(param, values, etas)
    seeds = candidates.seeds_from(random_state, n_seeds)
    options = {
        "penalty": penalty,
        "max_epochs": max_epochs,
        "batch_size": batch_size,
        "optimizer": optimizer,
        "lr": lr,
        "callbacks": tuple(callbacks) or None,
        **(trainer_options or {}),
    }
    common = {"positive_label": positive_label, "missing": None if missing == "error" else missing}
    template = candidates.read_template(model, moving, options, common)
    share = validation_fraction if validation_data is None else None
    people = sensitive_features, sample_weight, clusters
    judged = read_metric("demographic_parity" if metric is None else metric)
    given = _strata(template, judged)
    rows = _read(template, X, y, *people, positive_label, missing, share, seeds[0], given)
    assert rows.labels is not None
    scheme = rows.groups.scheme
    scorer = Scorer(judged, performance, rows.labels, scheme, confidence, seeds[0])
    held = rows.part("steering") if share is not None else _read_held(scorer, validation_data)
    rows = rows.part("training")
    store = PointCache(None if cache is None else Path(cache))
    tables: list[pd.DataFrame] = []
    trained: list[candidates.Trained] = []
    notes: list[str] = []
    while where:
        points = [(value, seed) for value in where for seed in seeds]
        models = [candidates.candidate(template, moving, *point, n_seeds) for point in points]
        new, said = candidates.train(models, moving, rows, vectorize, n_jobs, store)
        if metric is None:
            scorer = replace(scorer, metric=read_metric(_constraints_of(new[0].model)))
        scores = [scorer(each.model, held) for each in new]
        tables.append(_table(moving, points, scores))
        table = pd.concat(tables, ignore_index=True)
        trained, notes = [*trained, *new], [*notes, *said]
        further = values is None and etas is None
        where = _further(table, moving, _limit(bound, scorer), notes) if further else []
    if baseline is None:
        plain = _unpenalised(table, moving)
    else:
        plain = scorer(candidates.fit_candidate(clone(baseline), rows), held)
    table["seconds"] = [each.seconds for each in trained]
    table["dominated"] = dominated(table["gap"], table["performance"])
    last = ["dominated", "near_constant", "seconds", "no_better_than_constant"]
    table = table[[*table.columns.drop(last), *last]]
    frontier = ParetoFrontier(
        points=table,
        models=tuple(each.model for each in trained),
        param=moving,
        scorer=scorer,
        name=type(template).__name__ if name is None else name,
        bound=bound,
        baseline=plain,
        notes=tuple(dict.fromkeys(notes)),
        n_validation=len(held),
        known_rows=sketch(held.X) | sketch(rows.X),
        rests_on_few=scorer.rests_on_few(held),
    )
    if save_path is not None:
        from fairtrain.plotting.style import save_figure

        save_figure(save_path, frontier.plot)
    return frontier


def _check(confidence: float, bound: float | None, save_path: str | Path | None) -> None:
    """Find what would only fail after everything is trained."""
    if isinstance(confidence, bool | str) or not 0 < confidence < 1:
        raise InvalidParameterError(f"confidence must lie in (0, 1), got {confidence!r}.")
    if bound is not None and (isinstance(bound, bool | str) or not bound >= 0):
        raise InvalidParameterError(f"bound must be a number >= 0, got {bound!r}.")
    if save_path is None:
        return
    path = Path(save_path)
    if not path.absolute().parent.is_dir():
        raise InvalidParameterError(f"save_path='{path}' is in a folder that does not exist.")
    if path.suffix.lower() not in (".png", ".svg", ".pdf", ".jpg", ".jpeg", ".webp"):
        raise InvalidParameterError(f"save_path='{path}' must end in .png, .svg or .pdf.")


def _read_values(
    param: str | None, values: Sequence[Any] | None, etas: Sequence[float] | None
) -> tuple[str, list[Any]]:
    """What moves, and where to."""
    if (param is None) != (values is None):
        missing, given = ("values", "param") if values is None else ("param", "values")
        raise InvalidParameterError(
            f"{given} is given without {missing}: name a parameter and its values, such as "
            "param='difference_bound', values=[0.01, 0.05]."
        )
    moving = "eta" if param is None else param
    if values is None:
        values = [float(eta) for eta in (_ETAS if etas is None else etas)]
        if bad := [eta for eta in values if not (eta >= 0 and math.isfinite(eta))]:
            raise InvalidParameterError(f"etas must be finite numbers >= 0, got {bad[0]!r}.")
    where = list(values)
    if not where:
        raise InvalidParameterError("there is nothing to train: the list of values is empty.")
    if moving in _RESERVED:
        raise InvalidParameterError(f"param={moving!r} cannot be moved: a column has that name.")
    if len(set(map(repr, where))) < len(where):
        raise InvalidParameterError(f"{moving} has the same value twice in {where}.")
    return moving, where


def _read(
    template: Any,
    X: Any,
    y: Any,
    sensitive_features: Any,
    sample_weight: Any,
    clusters: Any,
    positive_label: Any,
    missing: Literal["error", "group"],
    share: float | None,
    seed: int,
    given: Given,
) -> Rows:
    """Read and divide all rows; columns that the model itself takes from ``X`` stay there."""
    if sensitive_features is None:
        columns = getattr(template, "sensitive_features", None)
        if columns is None:
            raise InvalidParameterError("sensitive_features is missing: pass one value a row.")
        sensitive_features = inputs.drop_columns(X, columns)[1]
    if positive_label is None:
        positive_label = getattr(template, "positive_label", None)
    rows = Rows.read(
        X, y, sensitive_features, sample_weight, positive_label=positive_label,
        several_classes=True, missing=missing, clusters=clusters, given=given,
    )  # fmt: skip
    if share is None:
        return rows
    if isinstance(share, bool) or not 0 < share < 1:
        raise InvalidParameterError(f"validation_fraction must lie in (0, 1), got {share!r}.")
    chance = check_random_state(seed)
    return rows.divided(validation_fraction=share, certification_fraction=None, random_state=chance)


def _read_held(scorer: Scorer, validation_data: Any) -> Rows:
    if len(validation_data) not in (3, 4, 5):
        raise InvalidParameterError(
            "validation_data must be (X, y, sensitive_features) or, with weights and clusters, "
            "(X, y, sensitive_features, sample_weight, clusters); got "
            f"{len(validation_data)} items."
        )
    return scorer.read(*validation_data)


def _strata(template: Any, judged: Any) -> Given:
    """Columns that what is trained, or the gap, is given."""
    asked = as_constraints(_constraints_of(template))
    return strata_of([*asked, *(() if callable(judged) else judged)])


def _constraints_of(model: Any) -> Any:
    """What a fitted estimator constrained, or a network's penalty was about."""
    constraints = getattr(model, "constraints_", getattr(model, "constraints", None))
    if constraints is None:
        return "demographic_parity"
    spec = list(constraints) if isinstance(constraints, tuple) else constraints
    return [c for c in as_constraints(spec) if c.kind != "lower"] or "demographic_parity"


def _table(param: str, points: list[tuple[Any, int]], scores: list[Score]) -> pd.DataFrame:
    values = [value for value, _ in points]
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    column = pd.Series(values, dtype=None if numbers else object)
    table = pd.DataFrame({param: column, "seed": [seed for _, seed in points]})
    return pd.concat([table, pd.DataFrame([vars(score) for score in scores])], axis=1)


def _limit(bound: float | None, scorer: Scorer) -> float:
    """The gap at which the default strengths end."""
    if bound is not None or callable(scorer.metric):
        return math.inf if bound is None else bound
    return min(constraint.bound for constraint in scorer.metric)


def _further(table: pd.DataFrame, param: str, limit: float, notes: list[str]) -> list[Any]:
    """The next strength, while every gap so far is above the limit."""
    narrowest, largest = table.groupby(param)["gap"].mean().min(), float(table[param].max())
    if not narrowest > limit:
        return []
    if 2 * largest <= _LARGEST_ETA:
        return [2 * largest]
    notes.append(
        f"no {param} up to {largest:g} brought the gap to the bound of {limit:g}; the narrowest is "
        f"{narrowest:.3g}."
    )
    return []


def _unpenalised(table: pd.DataFrame, param: str) -> Score | None:
    """Mean over seeds at strength 0, which is an ordinary model."""
    plain = table[table[param] == 0]
    if param != "eta" or not len(plain):
        return None
    flags = plain[["near_constant", "no_better_than_constant"]].all().astype(bool)
    return Score(**plain[[*MEASURED]].mean(), **flags)
