"""Weights of rows into the ``fit`` of any estimator, and who inside it they are for."""

from __future__ import annotations

import inspect
from typing import Any

from sklearn import get_config
from sklearn.utils.validation import has_fit_parameter

__all__ = ["fit_weighted", "request_weights", "weight_keyword"]


def fit_weighted(model: Any, X: Any, y: Any, weight: Any = None) -> Any:
    """Fit a clone of one's own, with the weights of the rows if there are any; return it."""
    if weight is None:
        model.fit(X, y)
    elif get_config()["enable_metadata_routing"]:
        request_weights(model)
        model.fit(X, y, sample_weight=weight)
    else:
        model.fit(X, y, **{str(weight_keyword(model)): weight})
    return model  # not what fit returns, which may be None


def weight_keyword(estimator: Any) -> str | None:
    """Name under which ``fit`` takes the weights of the final estimator, or None.

    A ``Pipeline`` gets them as ``laststep__sample_weight``; a search or another wrapper hands
    ``sample_weight`` on to its ``estimator``. With metadata routing switched on every estimator
    takes ``sample_weight`` and :func:`request_weights` says who consumes it.
    """
    return _consumer(estimator)[0]


def _consumer(estimator: Any) -> tuple[str | None, Any]:
    """Name of the weights (None: not taken), and the estimator inside that they are for."""
    if steps := getattr(estimator, "steps", None):
        name, last = steps[-1]
        keyword, final = _consumer(last)
        return (None if keyword is None else f"{name}__{keyword}"), final
    if has_fit_parameter(estimator, "sample_weight"):
        return "sample_weight", estimator
    parameters = inspect.signature(estimator.fit).parameters.values()
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)
    if (base := getattr(estimator, "estimator", None)) is not None:
        keyword, final = _consumer(base)
        return (keyword if takes_any else None), final
    return ("sample_weight" if takes_any else None), estimator


def request_weights(estimator: Any) -> None:
    """Set the metadata requests by which only the final estimator consumes the weights.

    Requests that the user has set stay as they are. Call it on a clone.
    """
    _, consumer = _consumer(estimator)
    inner = estimator.get_params(deep=True).values() if hasattr(estimator, "get_params") else ()
    for part in (estimator, *inner):
        if part is not consumer:
            _request(part, consume=False)
    _request(consumer, consume=True)


def _request(step: Any, *, consume: bool) -> None:
    for method in ("fit", "transform", "predict", "score"):
        setter = getattr(step, f"set_{method}_request", None)
        if setter is None or not _has_parameter(step, method, "sample_weight"):
            continue
        own = getattr(step.get_metadata_routing(), method, None)  # None for one that only routes
        if own is not None and own.requests.get("sample_weight") is None:
            setter(sample_weight=consume and method == "fit")


def _has_parameter(estimator: Any, method: str, name: str) -> bool:
    """Whether a method of an estimator has a parameter of that name."""
    function = getattr(estimator, method, None)
    return function is not None and name in inspect.signature(function).parameters
