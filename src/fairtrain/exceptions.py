"""Errors and warnings: what was expected, what came, what to do about it."""

from __future__ import annotations

__all__ = [
    "CannotStackError",
    "ConstraintNotMetWarning",
    "FairtrainError",
    "FairtrainWarning",
    "InvalidDataError",
    "InvalidParameterError",
    "MemorisationWarning",
    "MissingDependencyError",
    "NearConstantWarning",
    "PersistenceError",
    "SameRowsWarning",
    "SkippedBatchWarning",
    "StoppedError",
    "StoredRowsWarning",
    "UnseenGroupError",
    "UnseenGroupWarning",
    "UselessModelWarning",
]


class FairtrainError(Exception):
    """Base of every error raised by fairtrain."""


class InvalidParameterError(FairtrainError, ValueError):
    """A setting has a value that cannot be used."""


class InvalidDataError(FairtrainError, ValueError):
    """The rows handed in cannot be used as they are."""


class UnseenGroupError(InvalidDataError):
    """A row carries a sensitive value, or a combination, that ``fit`` never saw."""


class MissingDependencyError(FairtrainError, ImportError):
    """An optional package is not installed.

    Parameters
    ----------
    package : str
        The package that could not be imported.
    extra : str
        The extra of fairtrain that brings it.
    """

    def __init__(self, package: str, *, extra: str) -> None:
        super().__init__(f"{package} is not installed: pip install 'fairtrain[{extra}]' brings it.")
        self.package = package
        self.extra = extra

    def __reduce__(self) -> tuple[object, ...]:
        # The default rebuilds from ``args`` (the message) and would lose the keyword.
        return _rebuild_missing, (self.package, self.extra)


def _rebuild_missing(package: str, extra: str) -> MissingDependencyError:
    return MissingDependencyError(package, extra=extra)


class CannotStackError(FairtrainError):
    """Models cannot be trained together; the message says why, and nothing has been trained."""


class StoppedError(FairtrainError):
    """Somebody stopped a long run; the message says what is left and how to go on."""


class PersistenceError(FairtrainError):
    """A model cannot be saved so that it loads again, or a folder cannot be loaded."""


class FairtrainWarning(UserWarning):
    """Base of every warning issued by fairtrain."""


class ConstraintNotMetWarning(FairtrainWarning):
    """Training ended with a gap above the bound it was asked to keep."""


class MemorisationWarning(FairtrainWarning):
    """The base estimator reproduces its training labels, so training gaps say nothing."""


class NearConstantWarning(FairtrainWarning):
    """A bound is kept only by predicting (almost) one class."""


class UselessModelWarning(FairtrainWarning):
    """Deciding alike for everybody, or the unconstrained model, would be better in every way."""


class SkippedBatchWarning(FairtrainWarning):
    """Batches were left out of training because a loss or gradient was not finite."""


class StoredRowsWarning(FairtrainWarning):
    """The base estimator keeps training rows inside the fitted model."""


class SameRowsWarning(FairtrainWarning):
    """Rows that fitted a calibrator are used to judge it."""


class UnseenGroupWarning(FairtrainWarning):
    """A sensitive value that ``fit`` never saw is served by what other groups share."""
