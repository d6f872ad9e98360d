"""What ``benchmarks/kills.py`` measures at length, a few times: a killed process loses nothing."""

from __future__ import annotations

import os

import pytest
from benchmarks.kills import LOST, Line, measured, tasks

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes"),
    # Python 3.12 on warns of forking; the children use one thread.
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
]


@pytest.mark.parametrize("name", ["lagrangian, 1 thread", "save, over a model"])
def test_a_killed_process_goes_on_to_the_same_result(name: str) -> None:
    line = measured(name, tasks()[name], Line(name), 1, lambda line: None)
    assert line.kills == 1
    assert line.redone_at_most <= LOST
    assert not line.bad
