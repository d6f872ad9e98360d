"""Rows and files that cannot be used: one line of ours, whatever they would do further down."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression, LogisticRegression

import fairtrain
from fairtrain._commands.options import read_options
from fairtrain.data import inputs
from fairtrain.exceptions import InvalidDataError, InvalidParameterError, PersistenceError

LOSSES = (
    fairtrain.DemographicParityLoss,
    fairtrain.EqualizedOddsLoss,
    fairtrain.CovarianceLoss,
    fairtrain.MMDLoss,
    fairtrain.WassersteinLoss,
)
LOGITS, LABELS = torch.linspace(-1, 1, 8), torch.tensor([0.0, 1.0] * 4)
CODES = torch.tensor([0, 0, 1, 1] * 2)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("settings", [{}, {"num_groups": 2}])
@pytest.mark.parametrize("code", [-5, 10**9])
def test_a_loss_refuses_codes_out_of_range(loss, settings, code):
    codes = CODES.clone()
    codes[3] = code
    with pytest.raises(InvalidDataError, match="sensitive_features holds") as caught:
        loss(**settings)(LOGITS, LABELS, codes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("label", [2.0, float("nan"), -1.0])
def test_a_loss_refuses_labels_that_are_none(label):
    labels = LABELS.clone()
    labels[0] = label
    with pytest.raises(InvalidDataError, match="targets must be 0"):
        fairtrain.EqualizedOddsLoss()(LOGITS, labels, CODES)


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_a_loss_refuses_weights_that_are_none(weight):
    weights = torch.ones(8)
    weights[0] = weight
    with pytest.raises(InvalidDataError, match="sample_weight must be finite"):
        fairtrain.DemographicParityLoss()(LOGITS, None, CODES, sample_weight=weights)


@pytest.mark.parametrize("weight", [1e308, 1e-308])
def test_weights_whose_sums_overflow_are_refused(weight):
    with pytest.raises(InvalidDataError, match="divide the weights by their mean"):
        inputs.as_sample_weight(np.full(4, weight), 4)


def test_complex_numbers_are_refused():
    with pytest.raises(InvalidDataError, match="must be real"):
        inputs.as_vector(np.array([1 + 2j, 0.5]), "scores")


def test_a_regressor_is_no_classifier():
    model = fairtrain.ReductionsWrapper(LinearRegression())
    with pytest.raises(InvalidParameterError, match="the regressor LinearRegression"):
        model.fit([[0.0]] * 4, [0, 1, 0, 1], sensitive_features=[0, 0, 1, 1])


def test_an_unfitted_model_is_not_saved(tmp_path):
    model = fairtrain.ReductionsWrapper(LogisticRegression())
    with pytest.raises(PersistenceError, match="call fit before save"):
        fairtrain.save(model, tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("text", ["[train.deep]\nbound = 1\n", "[train]\nl = [{a = 1}]\n"])
def test_a_nested_options_file_is_refused(tmp_path, text):
    path = tmp_path / "options.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidParameterError, match="must be a word"):
        read_options(path, "train")
