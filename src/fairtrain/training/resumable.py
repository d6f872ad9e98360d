"""Trainings that go on from a checkpoint: what it holds, and whether it belongs to them."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

from fairtrain._text import one_line
from fairtrain.estimator import FairEstimator
from fairtrain.exceptions import InvalidDataError, InvalidParameterError
from fairtrain.training.loop.callbacks import read_checkpoint
from fairtrain.training.loop.epochs import TrainingLoop

__all__ = ["Resumable"]


class Resumable(FairEstimator):
    """A trainer whose running loop can be written down and taken up again."""

    _may_differ: ClassVar[frozenset[str]] = frozenset()
    """Settings that a resumed training need not share with the one it goes on with."""

    loop_: TrainingLoop

    @abstractmethod
    def _trained_groups(self) -> Any:
        """Names of the groups that training knows."""

    @abstractmethod
    def _division_seed(self) -> int | None:
        """What divides rows at hand: of another, rows that are held out now may have trained."""

    def checkpoint_state(self) -> dict[str, Any]:
        """All that is needed to go on with a running training; for callbacks."""
        return {"fingerprint": self._fingerprint(), **self.loop_.state_dict()}

    def _resume(self, path: str | Path | None) -> None:
        """Take up the state in a file, where there is one."""
        if path is None:
            return
        state = read_checkpoint(path)
        own = self._fingerprint()
        theirs = {"seed": own["seed"], **state.get("fingerprint", {})}  # older files hold none
        if other := [name for name in own if own[name] != theirs.get(name)]:
            raise InvalidParameterError(
                f"resume_from was written under another {other[0]}: "
                f"{theirs.get(other[0], 'none at all')}, now {own[other[0]]}."
                + (" Rows are divided by it: set random_state." if other[0] == "seed" else "")
            )
        try:
            self.loop_.load_state_dict(state)
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise InvalidDataError(
                "resume_from does not fit this training "
                f"({type(error).__name__}: {one_line(error)[:200]}); train from the start."
            ) from None

    def _fingerprint(self) -> dict[str, str]:
        given = self.get_params(deep=False).items()
        settings = {k: repr(v) for k, v in given if k not in self._may_differ}
        settings = {k: v for k, v in settings.items() if " at 0x" not in v}  # a function's address
        return {
            **settings,
            "groups": repr(self._trained_groups()),
            "batches": repr(self.loop_.source.n_batches),
            "seed": repr(self._division_seed()),
        }
