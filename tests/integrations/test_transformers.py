"""Classifiers of ``transformers``, small and never downloaded, under penalties and bounds."""

from __future__ import annotations

import doctest
import os
import re
import socket
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from fairtrain import (
    FairPlugInTrainer,
    LagrangianFairnessTrainer,
    RegularizedFairnessTrainer,
    evaluate_fairness,
    load,
    save,
)
from fairtrain.exceptions import FairtrainWarning, InvalidDataError, InvalidParameterError

transformers = pytest.importorskip("transformers", reason="transformers is not installed")

from fairtrain.integrations.transformers import FairTrainer, layer_wise  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

CLS, SEP, SIZE = 1, 2, 24


def sentences(n=400, seed=0):
    """Two words tell of the label, one of the group, and lengths differ."""
    rng = np.random.default_rng(seed)
    group = rng.integers(0, 2, n)
    label = (rng.random(n) < 0.3 + 0.4 * group).astype(int)
    rows = []
    for a, y in zip(group, label, strict=True):
        told = 4 + y if rng.random() < 0.7 else 5 - y
        filler = rng.integers(8, SIZE, rng.integers(1, 5)).tolist()
        rows.append([CLS, told, 6 + a, *filler, SEP])
    return rows, label, group


ROWS, LABELS, GROUPS = sentences()


def padded(rows):
    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows])
    return {"input_ids": ids, "attention_mask": (ids > 0).long()}


def collate(items):
    batch = padded([item["input_ids"] for item in items])
    more = ("labels", "groups")
    return {**batch, **{name: torch.tensor([item[name] for item in items]) for name in more}}


DATA = [
    {"input_ids": row, "labels": int(y), "groups": int(a)}
    for row, y, a in zip(ROWS, LABELS, GROUPS, strict=True)
]
X = padded(ROWS)


def bert(**more):
    torch.manual_seed(0)
    sizes = {
        "vocab_size": SIZE, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 32, "max_position_embeddings": 16, **more,
    }  # fmt: skip
    return transformers.BertForSequenceClassification(transformers.BertConfig(**sizes))


def distilbert():
    torch.manual_seed(0)
    config = transformers.DistilBertConfig(
        vocab_size=SIZE, dim=16, hidden_dim=32, n_layers=1, n_heads=2, max_position_embeddings=16
    )
    return transformers.DistilBertForSequenceClassification(config)


def quietly(call, *args, **more):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FairtrainWarning)
        return call(*args, **more)


def lagrangian(module, **more):
    settings = {
        "difference_bound": 0.1, "lr": 3e-3, "max_epochs": 30, "dual_lr": 1.0, "dual_every": 1,
        "random_state": 0, **more,
    }  # fmt: skip
    return LagrangianFairnessTrainer(module, **settings)


def loaders(size=64):
    generator = torch.Generator().manual_seed(0)
    train = DataLoader(DATA[:280], size, shuffle=True, generator=generator, collate_fn=collate)
    return train, DataLoader(DATA[280:], 120, collate_fn=collate)


@pytest.fixture(scope="module")
def from_loaders():
    return quietly(lagrangian(bert()).fit_loader, *loaders())


def test_a_bound_is_kept_on_padded_batches(from_loaders):
    plain = quietly(RegularizedFairnessTrainer(
        bert(), eta=0.0, lr=1e-2, max_epochs=10, random_state=0
    ).fit_loader, *loaders())  # fmt: skip
    gaps = [t.reports_["steering"].results[0].achieved for t in (plain, from_loaders)]
    assert gaps[0] > 0.2
    assert gaps[1] <= 0.1
    assert from_loaders.score(X, LABELS) > 0.55


def test_decisions_do_not_depend_on_padding(from_loaders):
    alone = [from_loaders.predict(padded([row]))[0] for row in ROWS[:20]]
    assert alone == from_loaders.predict(X)[:20].tolist()
    one_by_one = DataLoader(DATA[:20], 3, collate_fn=collate)
    assert from_loaders.predict_loader(one_by_one).tolist() == alone
    report = from_loaders.evaluate_loader(loaders()[1])
    judged = evaluate_fairness(from_loaders.module_, loaders()[1])
    assert judged.results[0].achieved == pytest.approx(report.results[0].achieved)


def test_a_penalty_trains_a_distilbert_in_memory_by_layer():
    def penalised(eta):
        trainer = RegularizedFairnessTrainer(
            distilbert(), eta=eta, optimizer=layer_wise(lr=1e-2, decay=0.5), max_epochs=15,
            frozen="distilbert.embeddings", random_state=0,
        )  # fmt: skip
        return quietly(trainer.fit, X, LABELS, sensitive_features=GROUPS)

    gaps = [penalised(eta).fairness_report_.results[0].achieved for eta in (0.0, 10.0)]
    assert gaps[1] < gaps[0] - 0.1


def test_rates_fall_from_head_to_embeddings():
    module = bert()
    optimizer = layer_wise(lr=1.0, decay=0.5)(list(module.parameters()), module)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    found = {name: rates[id(p)] for name, p in module.named_parameters()}
    assert found["classifier.weight"] == 1.0
    assert found["bert.encoder.layer.1.output.dense.weight"] == 0.5
    assert found["bert.encoder.layer.0.output.dense.weight"] == 0.25
    assert found["bert.embeddings.word_embeddings.weight"] == 0.125


def test_parts_of_a_batch_have_the_gradient_of_the_whole():
    histories = []
    for size in (None, 16):
        module = bert(**STILL)
        trainer = lagrangian(module, max_epochs=2, micro_batch_size=size)
        histories.append(quietly(trainer.fit, X, LABELS, sensitive_features=GROUPS).history_)
    for name in ("loss", "penalty", "gradient_norm", "held_loss"):
        np.testing.assert_allclose(histories[1][name], histories[0][name], rtol=2e-4, atol=1e-5)


def test_one_training_serves_every_bound():
    def priced(module, **more):
        return FairPlugInTrainer(
            module, difference_bound=0.1, lr=1e-2, max_epochs=6, random_state=0, **more
        )

    model = quietly(priced(bert(), cv=None, ema=None).fit_loader, *loaders(), num_groups=2)
    assert model.baseline_report_.results[0].achieved > 0.3
    assert model.fairness_report_.results[0].achieved <= 0.12
    other = quietly(model.with_constraints, "equal_opportunity", difference_bound=0.05)
    assert other.fairness_report_.results[0].achieved <= 0.07
    alone = [model.predict(padded([row]))[0] for row in ROWS[:20]]
    assert alone == model.predict(X)[:20].tolist()
    assert model.predict_loader(loaders()[1]).tolist() == model.predict(X)[280:].tolist()
    # A logit for every group and label, by layer, in folds.
    wide = priced(bert(num_labels=4), cv=2, optimizer=layer_wise(lr=1e-2, decay=0.5))
    wide = quietly(wide.fit, X, LABELS, sensitive_features=GROUPS)
    assert wide.group_layers_ == [None, None]
    assert wide.fairness_report_.results[0].achieved <= 0.12


def test_low_rank_adapters_alone_are_trained():
    peft = pytest.importorskip("peft", reason="peft is not installed")
    module = peft.get_peft_model(bert(), peft.LoraConfig(task_type="SEQ_CLS", r=2))
    trainer = quietly(lagrangian(module, max_epochs=2).fit_loader, *loaders())
    before, after = module.state_dict(), trainer.module_.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert all("lora" in name or "classifier" in name for name in moved)
    assert trainer.predict(X).shape == (400,)


def hugging(folder, fairness, epochs=2, num_groups=2, model=None, **more):
    """A trainer of the package's own."""
    settings = {
        "output_dir": str(folder), "num_train_epochs": epochs, "save_strategy": "epoch",
        "per_device_train_batch_size": 70, "learning_rate": 1e-2, "report_to": [],
        "use_cpu": True, "disable_tqdm": True, "logging_strategy": "no", **more,
    }  # fmt: skip
    return FairTrainer(
        model=bert() if model is None else model,
        args=transformers.TrainingArguments(**settings),
        train_dataset=DATA[:280],
        eval_dataset=DATA[280:],
        data_collator=collate,
        fairness=fairness,
        num_groups=num_groups,
    )


BOUND = LagrangianFairnessTrainer(difference_bound=0.1, dual_every=1, dual_lr=2.0)


@pytest.fixture(scope="module")
def hugged(tmp_path_factory):
    trainer = hugging(tmp_path_factory.mktemp("hugged"), BOUND, epochs=15)
    trainer.train()
    return trainer


def test_its_trainer_keeps_a_bound(hugged):
    assert hugged.fairness_report().results[0].achieved <= 0.1
    assert hugged.fairness_report().rows == "steering"
    assert [record["epoch"] for record in hugged.criterion_.history] == list(range(15))
    assert any("fair_gap_held: demographic_parity" in line for line in hugged.state.log_history)


def test_evaluation_is_the_usual_loss(hugged):
    module = hugged.model.eval()
    with torch.no_grad():
        logits = module(**padded(ROWS[280:])).logits
    usual = torch.nn.functional.cross_entropy(logits, torch.from_numpy(LABELS[280:]))
    assert hugged.evaluate()["eval_loss"] == pytest.approx(float(usual), abs=1e-5)
    told = hugged.predict(DATA[:9])
    assert told.predictions.shape == (9, 2)
    np.testing.assert_array_equal(told.label_ids, LABELS[:9])  # compute_metrics gets no groups


def test_a_resumed_training_is_the_same(tmp_path, hugged):
    again = hugging(tmp_path, BOUND, epochs=15)
    again.train(resume_from_checkpoint=f"{hugged.args.output_dir}/checkpoint-28")
    assert again.criterion_.history == hugged.criterion_.history
    for name, weight in again.model.state_dict().items():
        assert torch.equal(weight, hugged.model.state_dict()[name])


def one_of_two(rank, port, folder, results):
    """One process of two, or the only one."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)  # what the parent process knew
    if port:
        os.environ |= {
            "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        }  # fmt: skip
    trainer = hugging(
        folder, BOUND, per_device_train_batch_size=35 if port else 70, save_strategy="no",
        per_device_eval_batch_size=40, learning_rate=1e-4, optim="sgd", model=decisive(),
    )  # fmt: skip
    trainer.train()
    report = trainer.fairness_report()
    told = trainer.criterion_.history, report.results[0].achieved, report.n_rows
    if rank == 0:
        torch.save((told, trainer.model.state_dict()), results)
    if port:
        torch.distributed.destroy_process_group()


STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def decisive():
    """A classifier that tells the groups apart before anybody trains it."""
    module, group = bert(**STILL).double().eval(), torch.from_numpy(GROUPS)
    with torch.no_grad():
        seen = module.bert(**X).pooler_output
        apart = seen[group == 1].mean(0) - seen[group == 0].mean(0)
        line = apart / apart.norm() ** 2
        module.classifier.weight.copy_(torch.stack([-line, line]))
        module.classifier.bias.copy_((seen @ line).mean() * torch.tensor([1, -1]))
    return module


@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="needs torch's gloo backend")
def test_two_processes_train_what_one_trains(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start = torch.multiprocessing.start_processes
    for n, at in ((1, 0), (2, port)):  # 120 rows that steer are three batches: two and one
        start(one_of_two, (at, tmp_path, tmp_path / str(n)), nprocs=n, start_method="fork")
    (one, alone), (two, together) = (
        torch.load(tmp_path / n, weights_only=False) for n in ("1", "2")
    )
    assert one[0][-1]["multipliers: demographic_parity"] > 0
    for name, value in one[0][-1].items():
        if name != "seconds":
            assert two[0][-1][name] == pytest.approx(value, abs=1e-6), name
    assert two[1:] == pytest.approx(one[1:])
    assert one[2] == 120
    for name, before in decisive().state_dict().items():
        moved = (after[name] - before for after in (together, alone))
        torch.testing.assert_close(*moved, rtol=1e-6, atol=1e-12)


def test_a_penalty_with_accumulated_gradients(tmp_path):
    penalty = RegularizedFairnessTrainer(eta=2.0, penalty_options={"memory": 0.5})
    trainer = hugging(tmp_path, penalty, gradient_accumulation_steps=2, save_strategy="no")
    trainer.train()
    assert trainer.state.global_step == 4
    assert len(trainer.criterion_.history) == 2


def test_what_is_missing_is_said(tmp_path):
    with pytest.raises(InvalidParameterError, match="needs groups= or num_groups="):
        hugging(tmp_path, BOUND, num_groups=None)
    with pytest.raises(InvalidParameterError, match="pass base_loss= there"):
        hugging(tmp_path, BOUND, label_smoothing_factor=0.1)
    trainer = hugging(tmp_path, BOUND)
    with pytest.raises(InvalidDataError, match="no 'groups'; it has"):
        trainer.compute_loss(trainer.model, {**X, "labels": torch.from_numpy(LABELS)})
    trainer.eval_dataset = {"one": DATA[:280], "other": DATA[280:]}
    with pytest.raises(InvalidParameterError, match="several data sets"):
        trainer.make_criterion()


@pytest.mark.filterwarnings("ignore")
def test_every_line_of_its_page_runs():
    page = Path(__file__).parents[2] / "docs" / "transformers.md"
    text = re.sub(r"^```.*$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    test = doctest.DocTestParser().get_doctest(text, {}, page.name, str(page), 0)
    said = []
    assert not doctest.DocTestRunner().run(test, out=said.append).failed, "".join(said)


def test_a_saved_classifier_answers_alike(tmp_path, from_loaders):
    save(from_loaders, tmp_path / "model")
    again = load(tmp_path / "model", module=bert())
    assert (again.predict(X) == from_loaders.predict(X)).all()
