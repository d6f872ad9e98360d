from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from tests.training.data import linear, make_rows, two_layers
from torch import nn

from fairtrain import AdversarialDebiasingTrainer, Checkpoint, LinearWarmup
from fairtrain.exceptions import InvalidDataError, InvalidParameterError
from fairtrain.training.adversarial.adversary import Adversary, AdversarySettings, Targets, View
from fairtrain.training.adversarial.leakage import PROBES, leakage_of
from fairtrain.training.adversarial.tally import AdversaryTally
from fairtrain.training.heads import Head

QUICK: dict[str, Any] = {
    "module": two_layers, "lr": 0.01, "batch_size": 256, "max_epochs": 10, "random_state": 0,
    "leakage": "none",
}  # fmt: skip
CPU = torch.device("cpu")


def fitted(X, y, a, **settings):
    trainer = AdversarialDebiasingTrainer(**{**QUICK, **settings})
    return trainer.fit(X, y, sensitive_features=a)


def planted(n: int = 4000, seed: int = 0):
    """The attribute is one coordinate, the label another: hiding the first costs nothing."""
    rng = np.random.default_rng(seed)
    a = rng.integers(0, 2, n)
    merit = rng.normal(size=n)
    y = (merit + 0.3 * rng.normal(size=n) + 0.3 * (2 * a - 1) > 0).astype(int)
    X = np.column_stack([2.0 * a - 1 + 0.1 * rng.normal(size=n), merit, rng.normal(size=n)])
    return X.astype(np.float32), y, a


# What it is for -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def free():
    """What either method is compared with."""
    return fitted(*planted(), strength=0.0, warm_up=0, max_epochs=15)


@pytest.mark.parametrize("method", ["reversal", "projection"])
def test_a_planted_attribute_falls_to_chance_and_accuracy_stays(method, free):
    X, y, a = planted()
    trainer = fitted(X, y, a, leakage="both", max_epochs=12, method=method)
    leakage = trainer.leakage_.set_index(["model", "probe"])
    for probe in PROBES:
        assert leakage.loc[("baseline", probe), "lower"] > 0.52
        found = leakage.loc[("debiased", probe)]
        assert found["lower"] <= found["chance"] <= found["upper"]
    assert free.fairness_report_.results[0].achieved > 0.15
    assert trainer.fairness_report_.results[0].achieved < 0.09
    assert trainer.score(X, y) > free.score(X, y) - 0.05
    said = trainer.explain()
    assert "A fresh probe" in said
    assert "without the adversary" in said
    assert "The adversary ended at accuracy" in said


def test_equalized_odds_keep_what_the_label_tells():
    """The label depends on the group: hiding the group hides the label, knowing it does not."""
    rng = np.random.default_rng(0)
    a = rng.integers(0, 2, 4000)
    y = (rng.uniform(size=4000) < np.where(a == 1, 0.8, 0.2)).astype(int)
    X = np.column_stack([2.0 * y - 1 + rng.normal(size=4000), a + 0.2 * rng.normal(size=4000)])
    parity = fitted(X, y, a, max_epochs=10, strength=10.0)
    odds = fitted(X, y, a, max_epochs=10, constraint="equalized_odds", leakage="debiased")
    free = fitted(X, y, a, max_epochs=10, strength=0.0)
    gap = max(r.achieved for r in odds.evaluate(X, y, sensitive_features=a).results)
    unfair = [t.predict(X)[(a == 1) & (y == 0)].mean() - t.predict(X)[(a == 0) & (y == 0)].mean()
              for t in (free, odds)]  # fmt: skip
    assert unfair[0] > max(unfair[1] + 0.08, 0.12)
    assert gap < 0.12
    assert odds.score(X, y) > parity.score(X, y) + 0.03
    assert odds.score(X, y) > 0.79
    assert set(odds.leakage_["rows"]) == {"y=0", "y=1"}
    assert odds.fairness_report_.results[0].constraint.startswith("equalized_odds")


def test_equal_opportunity_reads_favourable_rows_alone():
    X, y, a = make_rows(4000)
    X[:, 0] += a
    free = fitted(X, y, a, strength=0.0, constraint="equal_opportunity")
    fair = fitted(X, y, a, constraint="equal_opportunity", leakage="debiased")
    gaps = [t.fairness_report_.results[0].achieved for t in (free, fair)]
    assert gaps[1] < gaps[0] - 0.03
    assert set(fair.leakage_["rows"]) == {"y=1"}


def test_a_named_layer_is_hidden_and_no_hook_stays():
    X, y, a = planted(3000)
    trainer = fitted(X, y, a, representation="1", max_epochs=20, leakage="both")
    leakage = trainer.leakage_.groupby("model")["balanced_accuracy"].max()
    assert leakage["debiased"] < leakage["baseline"] - 0.1
    assert trainer.fairness_report_.results[0].achieved < 0.12
    assert not any(m._forward_hooks for m in trainer.module_.modules())
    pickle.dumps(trainer)


def test_several_columns_have_a_head_each():
    X, y, a = planted()
    other = (X[:, 2] > 0).astype(int)
    who = pd.DataFrame({"race": np.array(["r", "s"])[a], "sex": other})
    trainer = fitted(X, y, who, leakage="debiased", max_epochs=15)
    assert list(dict.fromkeys(trainer.leakage_["column"])) == ["race", "sex"]
    assert trainer.leakage_["balanced_accuracy"].max() < 0.58
    seen = []

    def adversary(n_inputs, n_outputs):
        seen.append((n_inputs, n_outputs))
        return nn.Linear(n_inputs, n_outputs)

    fitted(X[:300], y[:300], who.iloc[:300], adversary=adversary, max_epochs=1)
    assert seen == [(2, 4)]


def test_several_classes_and_regression():
    X, _, a = planted()
    score = X[:, 1] + 0.5 * a + 0.2 * X[:, 2]
    classes = np.digitize(score, [-0.4, 0.6])
    for constraint in ("demographic_parity", "equalized_odds"):
        trainer = fitted(X, classes, a, constraint=constraint, max_epochs=3)
        assert trainer.predict_proba(X).shape == (4000, 3)
    with pytest.raises(InvalidParameterError, match="equal_opportunity needs two classes"):
        fitted(X, classes, a, constraint="equal_opportunity")
    gaps = [
        fitted(X, score, a, task="regression", strength=s, max_epochs=8).fairness_report_
        for s in (0.0, 5.0)
    ]
    free, fair = (report.results[0] for report in gaps)
    assert free.constraint == "mean_prediction"
    assert fair.achieved < free.achieved / 2
    fitted(X, score, a, task="regression", constraint="equalized_odds", max_epochs=1)


# How it gets there --------------------------------------------------------------------------------


def test_history_shows_the_contest():
    X, y, a = make_rows(1500, 3)
    trainer = fitted(X, y, a, strength=LinearWarmup(2.0, steps=20), warm_up=2, max_epochs=6)
    history = trainer.history_
    names = ["base_loss", "adversary_loss", "adversary_accuracy", "majority_accuracy", "strength",
             "adversary_restarts", "adversary_collapsed"]  # fmt: skip
    assert set(names) <= set(history.columns)
    assert history["strength"].iloc[:2].tolist() == [0.0, 0.0]
    assert history["strength"].iloc[2] > 0
    assert history["strength"].iloc[-1] == pytest.approx(2.0)
    assert history["majority_accuracy"].between(1 / 3, 0.4).all()
    assert not history["adversary_collapsed"].any()
    assert trainer.leakage_ is None


def test_the_baseline_is_the_model_of_strength_zero():
    X, y, a = make_rows(800)
    base = fitted(X, y, a, strength=0.0, leakage="both", max_epochs=3)
    table = base.leakage_.drop(columns="model")
    pd.testing.assert_frame_equal(
        table[base.leakage_["model"] == "debiased"].reset_index(drop=True),
        table[base.leakage_["model"] == "baseline"].reset_index(drop=True),
    )


@pytest.mark.parametrize("method", ["reversal", "projection"])
def test_a_checkpoint_goes_on_bit_for_bit(tmp_path, method):
    X, y, a = make_rows(800)
    more = {"method": method, "adversary_steps": 2, "gradient_penalty": 0.01,
            "spectral_norm": True}  # fmt: skip
    path = tmp_path / "half.pt"

    class Stop(Checkpoint):
        def on_epoch_end(self, trainer, record):
            super().on_epoch_end(trainer, record)
            trainer.loop_.stop = trainer.loop_.epoch == 3

    whole = fitted(X, y, a, max_epochs=6, **more)
    fitted(X, y, a, max_epochs=6, callbacks=[Stop(path)], **more)
    trainer = AdversarialDebiasingTrainer(**{**QUICK, "max_epochs": 6, **more})
    trainer.fit(X, y, sensitive_features=a, resume_from=path)
    assert (trainer.decision_function(X) == whole.decision_function(X)).all()
    compared = ["loss", "adversary_loss", "adversary_accuracy"]
    pd.testing.assert_frame_equal(trainer.history_[compared], whole.history_[compared])


class Dead(nn.Module):
    """Its first weights give a constant that no step can move."""

    made = 0

    def __init__(self, n_inputs: int, n_outputs: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(n_inputs, 8), nn.ReLU(), nn.Linear(8, n_outputs))
        if not Dead.made:
            with torch.no_grad():
                self.inner[0].bias.fill_(-1e6)
        Dead.made += 1

    def forward(self, x):
        return self.inner(x)


def test_a_collapsed_adversary_is_seen_and_restarted():
    X, y, a = planted()
    Dead.made = 0
    trainer = fitted(X, y, a, adversary=Dead, max_epochs=15)
    assert bool(trainer.history_["adversary_collapsed"].iloc[0])
    assert trainer.history_["adversary_restarts"].iloc[-1] == 1
    assert not trainer.history_["adversary_collapsed"].iloc[1:].any()
    assert "collapsed and was restarted 1 times" in trainer.explain()
    Dead.made = 0
    without = fitted(X, y, a, adversary=Dead, restart=False)
    assert without.history_["adversary_restarts"].iloc[-1] == 0
    assert without.history_["adversary_collapsed"].all()
    gaps = [t.fairness_report_.results[0].achieved for t in (trainer, without)]
    assert gaps[0] < gaps[1] - 0.08


def test_an_adversary_as_good_as_guessing_has_not_collapsed():
    targets = torch.tensor([[0], [1], [1], [1]])
    weight = torch.ones(4)
    z = torch.randn(4, 2)
    share = torch.log(torch.tensor([0.25, 0.75]))
    fair = share + 1e-3 * torch.randn(4, 1) * torch.tensor([1.0, -1.0])
    for logits, expected in ((fair, False), (share.expand(4, 2), True), (-5 * fair, True)):
        tally = AdversaryTally((2,))
        tally.add(z, (logits,), Targets(targets, torch.zeros(4, 0)), weight)
        found, collapsed = tally.close()
        assert collapsed is expected
        assert found["majority_accuracy"] == 0.75
    assert np.isnan(tally.close()[0]["adversary_accuracy"])


def test_spectral_norm_and_gradient_penalty_bound_the_slope():
    torch.manual_seed(0)
    z = torch.cat([torch.randn(200, 2) - 2, torch.randn(200, 2) + 2])
    targets = torch.arange(400).unsqueeze(1) // 200
    slopes = {}
    for name, more in {
        "free": {}, "spectral": {"spectral_norm": True}, "penalty": {"gradient_penalty": 1.0},
    }.items():  # fmt: skip
        settings = {"spec": None, "levels": (2,), "lr": 0.02, "steps": 150, "seed": 0,
                    "spectral_norm": False, "gradient_penalty": 0.0}  # fmt: skip
        adversary = Adversary(AdversarySettings(**{**settings, **more}), 2, CPU, torch.float32)
        adversary.learn(z, Targets(targets, torch.zeros(400, 0)), torch.ones(400))
        leaf = z.clone().requires_grad_(True)
        (out,) = adversary.logits(leaf)
        (slope,) = torch.autograd.grad((out[:, 1] - out[:, 0]).sum(), leaf)
        slopes[name] = float(slope.norm(dim=1).max())
    assert slopes["spectral"] < min(2.1, slopes["free"] / 2)
    assert slopes["penalty"] < slopes["free"] / 2


def test_zhangs_projection_is_taken_out_of_the_gradient():
    """One step of plain descent beside the update written out for a linear module."""
    X, y, a = make_rows(200)
    start, adversary = nn.Linear(4, 1).double(), nn.Linear(2, 2).double()
    one = {"validation_fraction": 0.0, "batch_size": 200, "max_epochs": 1, "clip_norm": None,
           "lr_decay": "none", "optimizer": torch.optim.SGD, "lr": 0.1, "warm_up": 0,
           "adversary_lr": 1e-12, "strength": 0.7, "method": "projection"}  # fmt: skip
    trainer = fitted(X, y, a, module=start, adversary=adversary, **one)
    x, t, who = torch.from_numpy(X).double(), torch.from_numpy(y).double(), torch.from_numpy(a)
    z = start(x).squeeze(1)
    base = nn.functional.binary_cross_entropy_with_logits(z, t)
    seen = torch.stack([z, torch.sigmoid(z / 0.5)], dim=1)
    read = nn.functional.cross_entropy(adversary(seen), who)
    weights = list(start.parameters())
    own, other = (
        torch.cat([g.reshape(-1) for g in torch.autograd.grad(v, weights, retain_graph=True)])
        for v in (base, read)
    )
    unit = other / other.norm()
    update = own - (own @ unit) * unit - 0.7 * other
    moved = torch.cat([
        (q - p).reshape(-1)
        for p, q in zip(weights, trainer.module_.parameters(), strict=True)
    ]).detach()  # fmt: skip
    torch.testing.assert_close(moved, -0.1 * update, rtol=1e-6, atol=1e-8)


def test_what_the_adversary_sees():
    binary, z = Head("binary", 2, 0.5), torch.tensor([0.0, 2.0])
    y = torch.tensor([0, 1])
    plain = View("demographic_parity", binary, output=True)
    torch.testing.assert_close(plain(z, y), torch.stack([z, torch.sigmoid(2 * z)], dim=1))
    odds = View("equalized_odds", binary, output=True)(z, y)
    torch.testing.assert_close(odds[0], torch.tensor([0.0, 0.5, 0.0, 0.0, 1.0, 0.0]))
    assert View("equal_opportunity", binary, output=True).rows(y, None).tolist() == [0, 1]
    weight = torch.tensor([2.0, 3.0])
    assert plain.rows(y, weight).tolist() == [2, 3]
    inner = View("demographic_parity", binary, output=False)
    assert inner(torch.ones(2, 3, 4), y).shape == (2, 12)
    several = View("demographic_parity", Head("multiclass", 3), output=True)
    logits = torch.randn(2, 3)
    torch.testing.assert_close(several(logits, y), several(logits + 5, y))  # blind to shifts


def test_probes_find_what_is_there_and_nothing_else():
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 3, 1500)
    hits = 0
    for seed in range(20):
        found = leakage_of(rng.normal(size=(1500, 2)), codes, PROBES[0], seed=seed)
        assert found.chance == pytest.approx(1 / 3)
        hits += found.lower <= found.chance <= found.upper
    assert hits >= 18
    curved = np.column_stack([np.where(codes > 0, 0, rng.choice([-1, 1], 1500)), codes * 0.0])
    straight, boosted = (leakage_of(curved, np.minimum(codes, 1), p) for p in PROBES)
    assert boosted.lower > 0.9
    assert straight.upper <= 1.0
    none = leakage_of(curved, np.full(1500, -1), PROBES[0])
    assert np.isnan(none.balanced_accuracy)
    assert none.n_rows == 0


def test_too_few_rows_to_probe_are_said():
    X, y, a = make_rows(300)
    a = np.where(np.arange(300) < 6, 1, 0)
    trainer = fitted(X, y, a, leakage="debiased", max_epochs=1)
    assert "Too few rows to probe for" in trainer.explain()


def test_loaders_feed_it():
    X, y, a = (torch.from_numpy(part) for part in planted(2000))
    batches = [(X[i : i + 200], y[i : i + 200], a[i : i + 200]) for i in range(0, 2000, 200)]
    trainer = AdversarialDebiasingTrainer(**{**QUICK, "leakage": "debiased"})
    trainer.fit_loader(batches[:8], batches[8:], num_groups=2)
    assert trainer.leakage_["n_rows"].tolist() == [400, 400]
    assert trainer.fairness_report_.results[0].achieved < 0.15


# What is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"constraint": "parity"}, "constraint must be one of 'demographic_parity'"),
        ({"method": "reverse"}, "method must be 'reversal' or 'projection'"),
        ({"leakage": True}, "leakage must be one of 'both'"),
        ({"adversary_steps": 0}, "adversary_steps must be a whole number >= 1"),
        ({"warm_up": -1}, "warm_up must be a whole number >= 0"),
        ({"adversary_lr": 0}, "adversary_lr must be a number above 0"),
        ({"gradient_penalty": -1}, "gradient_penalty must be a number >= 0"),
        ({"strength": -1.0}, "strength must be a number >= 0"),
        ({"representation": "9"}, "is no layer of the module; its layers are"),
        ({"adversary": "mlp"}, "adversary must be an nn.Module"),
        ({"adversary": lambda i, o: None}, "the factory given as adversary made NoneType"),
        ({"adversary": nn.Identity()}, "the adversary has no parameter to train"),
        ({"adversary": nn.Linear(2, 7)}, "a logit for each level of the sensitive columns"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    X, y, a = make_rows(200)
    with pytest.raises(InvalidParameterError, match=message):
        fitted(X, y, a, **settings)


class Unused(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.idle = nn.Linear(4, 1), nn.Linear(4, 1)
        self.lstm = nn.LSTM(4, 2)

    def forward(self, x):
        self.lstm(x)
        return self.used(x)


@pytest.mark.parametrize(
    ("name", "message"), [("idle", "was not called"), ("lstm", "gives tuple; name a layer")]
)
def test_a_layer_that_cannot_be_read_is_refused(name, message):
    X, y, a = make_rows(200)
    with pytest.raises(InvalidDataError, match=message):
        fitted(X, y, a, module=Unused(), representation=name)


def test_a_module_given_as_adversary_is_copied():
    X, y, a = make_rows(200)
    adversary = linear(2, 2)
    before = adversary.weight.detach().clone()
    fitted(X, y, a, adversary=adversary, max_epochs=1)
    assert (adversary.weight == before).all()
