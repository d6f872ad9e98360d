"""One coding of labels: class numbers, classes, the favourable one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fairtrain.data.labels import LabelCoding
from fairtrain.exceptions import InvalidDataError, InvalidParameterError


@pytest.mark.parametrize(
    ("y", "positive", "favourable", "named"),
    [
        ([0, 1, 1], None, 1, True),
        ([1, -1, 1], None, 1, True),
        ([True, False], None, True, True),
        ([0, 1, 1], 0, 0, True),
        (["no", "yes"], None, "yes", False),
        (["deny", "approve"], "approve", "approve", True),
        ([2, 5], None, 5, False),
    ],
)
def test_one_stands_for_the_favourable_label(
    y: list[Any], positive: Any, favourable: Any, named: bool
) -> None:
    numbers, coding = LabelCoding.read(y, positive)
    assert coding.favourable == favourable
    assert coding.named is named
    assert (numbers == 1).tolist() == [label == favourable for label in y]
    assert coding.classes.tolist() == sorted(set(y))
    assert coding.classes[coding.column] == favourable
    assert coding.decode(numbers).tolist() == y
    assert coding.encode(y).tolist() == numbers.tolist()


def test_shares_come_in_the_order_of_the_classes() -> None:
    _, coding = LabelCoding.read(["deny", "approve"], "approve")
    assert coding.columns(np.array([0.9, 0.2])).tolist() == [[0.9, 1 - 0.9], [0.2, 0.8]]
    _, coding = LabelCoding.read([0, 1])
    assert coding.columns(np.array([0.25])).tolist() == [[0.75, 0.25]]


def test_several_classes_are_sorted_and_have_no_favourable_one() -> None:
    numbers, coding = LabelCoding.read(["c", "a", "b", "a"], several=True)
    assert numbers.tolist() == [2, 0, 1, 0]
    assert coding.favourable is None
    shares = np.array([[0.1, 0.2, 0.7]])
    assert coding.columns(shares).tolist() == shares.tolist()
    with pytest.raises(InvalidParameterError, match="belongs to two classes, y holds 3"):
        LabelCoding.read(["c", "a", "b"], "a", several=True)
    with pytest.raises(InvalidDataError, match="two classes, found 3"):
        LabelCoding.read(["c", "a", "b"])


def test_later_labels_must_be_known() -> None:
    _, coding = LabelCoding.read(["no", "yes"])
    with pytest.raises(InvalidDataError, match="label 'maybe'; fit saw"):
        coding.encode(["no", "maybe"])
    with pytest.raises(InvalidDataError, match="missing labels"):
        coding.encode(["no", None])


def test_a_notion_that_needs_the_favourable_label_asks_for_it() -> None:
    _, coding = LabelCoding.read(["no", "yes"])
    with pytest.raises(InvalidParameterError, match="equal_opportunity depends on which of"):
        coding.require_named("equal_opportunity")
    LabelCoding.read(["no", "yes"], "no")[1].require_named("equal_opportunity")
