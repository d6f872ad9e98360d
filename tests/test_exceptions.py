from __future__ import annotations

import copy
import pickle

import pytest

from fairtrain import exceptions
from fairtrain.exceptions import (
    FairtrainError,
    FairtrainWarning,
    InvalidDataError,
    InvalidParameterError,
    MissingDependencyError,
    UnseenGroupError,
)

ERRORS = [getattr(exceptions, name) for name in exceptions.__all__ if name.endswith("Error")]
WARNINGS = [getattr(exceptions, name) for name in exceptions.__all__ if name.endswith("Warning")]


@pytest.mark.parametrize("error", ERRORS)
def test_every_error_is_caught_as_ours(error: type[Exception]) -> None:
    assert issubclass(error, FairtrainError)


@pytest.mark.parametrize("warning", WARNINGS)
def test_every_warning_is_filtered_as_ours(warning: type[Warning]) -> None:
    assert issubclass(warning, FairtrainWarning)
    assert issubclass(warning, UserWarning)


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (InvalidParameterError, ValueError),
        (InvalidDataError, ValueError),
        (UnseenGroupError, InvalidDataError),
        (MissingDependencyError, ImportError),
    ],
)
def test_errors_are_also_the_builtin_ones_people_catch(
    error: type[Exception], builtin: type[Exception]
) -> None:
    assert issubclass(error, builtin)


def test_missing_dependency_says_what_to_install() -> None:
    error = MissingDependencyError("torch", extra="torch")
    assert str(error) == "torch is not installed: pip install 'fairtrain[torch]' brings it."


@pytest.mark.parametrize(
    "through", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy, copy.deepcopy]
)
def test_missing_dependency_survives_pickling_and_copying(through: object) -> None:
    error = through(MissingDependencyError("lightgbm", extra="boosting"))  # type: ignore[operator]
    assert (error.package, error.extra) == ("lightgbm", "boosting")
    assert "fairtrain[boosting]" in str(error)
