"""``pareto_frontier``: train over a range, score on validation rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from sklearn.base import clone
from sklearn.utils import check_random_state

from fairtrain.data import inputs
from fairtrain.data.rows import Rows
from fairtrain.exceptions import InvalidParameterError
from fairtrain.tradeoff.cache import PointCache
from fairtrain.tradeoff.candidates import Candidates, candidates_of, fit_candidate, seeds_from
from fairtrain.tradeoff.dominance import dominated
from fairtrain.tradeoff.frontier import ParetoFrontier
from fairtrain.tradeoff.known import sketch
from fairtrain.tradeoff.scoring import Score, Scorer, read_metric
from fairtrain.tradeoff.training import Trained, train

__all__ = ["pareto_frontier"]

_ETAS = (0.0, 0.1, 0.5, 1.0, 5.0, 10.0)


def pareto_frontier(
    model: Any,
    X: Any,
    y: Any,
    *,
    sensitive_features: Any = None,
    sample_weight: Any = None,
    etas: Sequence[float] = _ETAS,
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
    etas : sequence of float >= 0
        Strengths of the penalty.
    penalty : FairnessLoss, constraint, str, list or mapping, optional
        As in ``RegularizedFairnessTrainer``; ``"demographic_parity"`` by default.
    param, values : str and sequence, optional
        Instead of ``etas``: a parameter of the estimator and where it moves to, such as
        ``param="difference_bound", values=[0.01, 0.02, 0.05]``.
    metric : constraint, str, list, or callable, optional
        What the gap is: the largest that any of the constraints compares, or a function
        ``(y_true, y_pred, sensitive_features) -> float`` (without interval). Default: what the
        penalty or the estimator constrains, else demographic parity.
    performance : {"accuracy", "balanced_accuracy", "roc_auc"} or callable, default="accuracy"
        More is better; a function takes ``(y_true, y_pred)``.
    bound : float, optional
        Gap that is asked for: drawn, and the default of ``select``.
    baseline : estimator, optional
        An ordinary model to compare with; with ``eta = 0`` among the values it is that one.
    validation_data : (X, y, sensitive_features) or with sample_weight as a fourth, optional
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
        Train all networks at once on stacked parameters. What cannot be stacked is trained one by
        one, and ``notes`` say why; True warns of it.
    n_jobs : int, optional
        Processes that train one by one; ``joblib.parallel_config`` can spread them over a cluster.
    cache : path, optional
        Folder that keeps each finished model, so that an interrupted sweep goes on where it was.
        Files are pickles: a folder of your own only.
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
    seeds = seeds_from(random_state, n_seeds)
    options = {
        "penalty": penalty,
        "max_epochs": max_epochs,
        "batch_size": batch_size,
        "optimizer": optimizer,
        "lr": lr,
        "callbacks": tuple(callbacks) or None,
        **(trainer_options or {}),
    }
    found = candidates_of(
        model,
        param=param,
        values=values,
        etas=etas,
        seeds=seeds,
        options={key: value for key, value in options.items() if value is not None},
    )
    first = found.models[0]
    if positive_label is None:
        positive_label = getattr(first, "positive_label", None)
    elif "positive_label" in first.get_params():
        for each in found.models:
            each.set_params(positive_label=positive_label)
    _check(confidence, bound, save_path)
    if missing != "error":
        for each in found.models:
            if "missing" in each.get_params():
                each.set_params(missing=missing)
    rows = _read(first, X, y, sensitive_features, sample_weight, positive_label, missing)
    assert rows.labels is not None
    scorer = Scorer(
        metric=read_metric("demographic_parity" if metric is None else metric),
        performance=performance,
        labels=rows.labels,
        scheme=rows.groups.scheme,
        confidence=confidence,
        seed=seeds[0],
    )
    if validation_data is None:
        rows, held = _split(rows, validation_fraction, seeds[0])
    else:
        held = _held(scorer, validation_data)
    store = None if cache is None else PointCache(Path(cache))
    trained, notes = train(found, rows, vectorize, n_jobs, store)
    if metric is None:
        scorer = replace(scorer, metric=read_metric(_asked_of(trained[0].model)))
    scores = [scorer(each.model, held) for each in trained]
    frontier = ParetoFrontier(
        points=_points(found, scores, trained),
        models=tuple(each.model for each in trained),
        param=found.param,
        scorer=scorer,
        name=type(first).__name__ if name is None else name,
        bound=bound,
        baseline=_baseline(baseline, found, scores, rows, held, scorer),
        notes=notes,
        n_validation=len(held),
        known_rows=sketch(held.X) | sketch(rows.X),
    )
    if save_path is not None:
        from fairtrain.plotting.files import save_figure

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


def _read(
    model: Any,
    X: Any,
    y: Any,
    sensitive_features: Any,
    sample_weight: Any,
    positive_label: Any,
    missing: Literal["error", "group"],
) -> Rows:
    """Read all rows; columns that the model itself takes from ``X`` stay there."""
    columns = getattr(model, "sensitive_features", None)
    if sensitive_features is None:
        if columns is None:
            raise InvalidParameterError("sensitive_features is missing: pass one value a row.")
        sensitive_features = inputs.drop_columns(X, columns)[1]
    return Rows.read(
        X,
        y,
        sensitive_features,
        sample_weight,
        positive_label=positive_label,
        several_classes=True,
        missing=missing,
    )


def _split(rows: Rows, validation_fraction: float, seed: int) -> tuple[Rows, Rows]:
    """Rows that train, and rows that score."""
    given = validation_fraction
    if isinstance(given, bool) or not 0 < given < 1:
        raise InvalidParameterError(f"validation_fraction must lie in (0, 1), got {given!r}.")
    divided = rows.divided(
        validation_fraction=validation_fraction,
        certification_fraction=None,
        random_state=check_random_state(seed),
    )
    return divided.part("training"), divided.part("steering")


def _held(scorer: Scorer, validation_data: Sequence[Any]) -> Rows:
    if len(validation_data) not in (3, 4):
        raise InvalidParameterError(
            "validation_data must be (X, y, sensitive_features) or, with weights, "
            f"(X, y, sensitive_features, sample_weight); got {len(validation_data)} items."
        )
    return scorer.read(*validation_data)


def _asked_of(model: Any) -> Any:
    """What a fitted estimator constrained, or a network's penalty was about."""
    asked = getattr(model, "constraints_", getattr(model, "constraints", None))
    if asked is None:
        return "demographic_parity"
    return list(asked) if isinstance(asked, tuple) else asked


def _points(found: Candidates, scores: list[Score], trained: list[Trained]) -> pd.DataFrame:
    values = [value for value, _ in found.points]
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    column = pd.Series(values, dtype=None if numbers else object)
    table = pd.DataFrame({found.param: column, "seed": [s for _, s in found.points]})
    table = pd.concat([table, pd.DataFrame([vars(score) for score in scores])], axis=1)
    table.insert(len(table.columns) - 1, "dominated", dominated(table["gap"], table["performance"]))
    table["seconds"] = [each.seconds for each in trained]
    return table


def _baseline(
    baseline: Any,
    found: Candidates,
    scores: list[Score],
    rows: Rows,
    held: Rows,
    scorer: Scorer,
) -> Score | None:
    if baseline is not None:
        model = clone(baseline)
        fit_candidate(model, rows)
        return scorer(model, held)
    if found.param != "eta":
        return None
    plain = [s for (value, _), s in zip(found.points, scores, strict=True) if value == 0]
    if not plain:
        return None
    means = pd.DataFrame([vars(s) for s in plain]).mean()
    constant = all(s.near_constant for s in plain)
    numbers = {str(k): float(v) for k, v in means.items() if k != "near_constant"}
    return Score(**numbers, near_constant=constant)
