from __future__ import annotations

import pytest

from fairtrain.exceptions import InvalidParameterError
from fairtrain.losses import CosineRamp, LinearWarmup, StepRamp


@pytest.mark.parametrize("ramp", [LinearWarmup, CosineRamp])
def test_ramps_rise_from_initial_to_eta(ramp: type) -> None:
    schedule = ramp(2.0, steps=10, start=5, initial=0.5)
    values = [schedule(step) for step in range(30)]
    assert values[:6] == [0.5] * 6
    assert values[15:] == [2.0] * 15
    assert values == sorted(values)


@pytest.mark.parametrize(
    "make",
    [
        lambda: LinearWarmup(-1.0, steps=3),
        lambda: CosineRamp(1.0, steps=0),
        lambda: LinearWarmup(1.0, steps=3, start=-1),
        lambda: StepRamp({}),
        lambda: StepRamp({0: float("inf")}),
    ],
)
def test_bad_settings(make: object) -> None:
    with pytest.raises(InvalidParameterError):
        make()
