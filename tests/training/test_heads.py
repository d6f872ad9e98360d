import numpy as np
import pytest
import torch

from fairtrain.exceptions import InvalidDataError
from fairtrain.training.heads import Head

BINARY, THREE, NUMBER = Head("binary"), Head("multiclass", 3), Head("regression", 1)


def test_two_logits_are_one_difference():
    raw = torch.tensor([[0.0, 2.0], [1.0, 0.0]])
    assert BINARY.outputs(raw, 2).tolist() == [2.0, -1.0]
    assert BINARY.outputs(raw[:, :1], 2).tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    ("head", "shape"),
    [(BINARY, (4, 3)), (BINARY, (3,)), (THREE, (4,)), (THREE, (4, 2)), (NUMBER, (4, 2)),
     (BINARY, (4, 1, 1))],
)  # fmt: skip
def test_a_wrong_shape_says_what_is_needed(head, shape):
    with pytest.raises(InvalidDataError, match=r"gave an output of shape .* needs"):
        head.outputs(torch.zeros(shape), 4)


def test_logits_are_read_and_an_output_without_them_is_refused():
    logits = torch.arange(4.0)
    for raw in (logits, (logits, "states"), {"logits": logits}):
        assert torch.equal(BINARY.outputs(raw, 4), logits)
    for raw, said in (
        ({"states": logits}, r"got dict of \['states'\]"),
        (("states",), "got tuple"),
    ):
        with pytest.raises(InvalidDataError, match=f"must give a tensor, {said}"):
            BINARY.outputs(raw, 4)


def test_decisions_and_what_is_right():
    outputs, y = torch.tensor([1.0, -1.0, 0.5]), torch.tensor([1, 1, 0])
    assert BINARY.hard(outputs).tolist() == [1.0, 0.0, 1.0]
    assert BINARY.right(outputs, y).tolist() == [1.0, 0.0, 0.0]
    three = torch.tensor([[0.0, 2.0, 1.0], [3.0, 0.0, 0.0]])
    assert THREE.hard(three).tolist() == [[0, 1, 0], [1, 0, 0]]
    assert THREE.right(three, torch.tensor([1, 2])).tolist() == [1.0, 0.0]
    assert NUMBER.right(torch.tensor([1.0]), torch.tensor([3.0])).tolist() == [-4.0]


def test_probabilities_add_up():
    for head, outputs in ((BINARY, torch.tensor([0.3, -2.0])), (THREE, torch.randn(5, 3))):
        found = head.probabilities(outputs)
        assert found.shape == (len(outputs), head.n_classes)
        np.testing.assert_allclose(found.sum(1), 1)
