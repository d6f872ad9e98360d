"""A small BERT on sentences: plain fine-tuning, a penalty, and a bound, beside each other.

Run ``python benchmarks/text.py [--seeds 3]`` where ``transformers`` is installed; what the table
has already is not run again. Nothing is downloaded: every person of a simulated population (base
rates .7 and .3, ``make_biased``) becomes a text of words for their features, in random order
between words that say nothing; the tokenizer is made of these words and the network starts from
random weights. Decisions are judged on 20,000 fresh people. ``bound`` and ``penalty`` are trained
by fairtrain's own loop, ``trainer`` is the same bound inside ``transformers.Trainer``. The best
that any rule could do, under the bound and without, is printed below. ``ETA`` was chosen on seeds
50 and 51 (``--tune``): the smallest whose mean gap on fresh people is under the bound.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script

import numpy as np
import pandas as pd
import torch
from benchmarks.protocol import RESULTS
from sklearn.model_selection import train_test_split

from fairtrain import LagrangianFairnessTrainer, RegularizedFairnessTrainer, fairness_report
from fairtrain.datasets import make_biased

try:
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    from fairtrain.integrations.transformers import FairTrainer, layer_wise
except ImportError:  # one of the packages that are no part of requirements.txt
    print("transformers is not installed: nothing is measured.")
    sys.exit()

BOUND, EPOCHS, BATCH, RATE, ETA = 0.05, 12, 64, 3e-3, 40.0
ROWS, FRESH = 3000, 20_000
FOLDER = Path(tempfile.mkdtemp())
FILLER = ["and", "so", "then", "well", "indeed", "rather"]


def texts(frame: pd.DataFrame, seed: int) -> list[str]:
    """A text for every person, of 5 to 11 words."""
    rng = np.random.default_rng(seed)
    halves = (frame * 2).round().clip(-6, 6) / 2
    said = [[f"{name}{v:+}" for v in column] for name, column in halves.items()]
    rows = []
    for words in zip(*said, strict=True):
        filler = rng.choice(FILLER, rng.integers(0, 7))
        rows.append(" ".join(rng.permutation([*words, *filler])))
    return rows


def tokenizer_of(rows: list[str]) -> Any:
    """Words that occur, by number."""
    special = ["[PAD]", "[UNK]"]
    words = {w: i for i, w in enumerate([*special, *sorted({w for r in rows for w in r.split()})])}
    made = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]", model_max_length=128
    )


def network(vocabulary: int, seed: int) -> Any:
    """A BERT of random weights."""
    torch.manual_seed(seed)
    config = transformers.BertConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=128,
    )
    return transformers.BertForSequenceClassification(config)


Part = dict[str, Any]
Decide = Callable[[dict[str, torch.Tensor]], Any]


def own(kind: Any, **settings: Any) -> Callable[..., Decide]:
    """fairtrain's own loop."""

    def fit(module: Any, train: Part, seed: int) -> Decide:
        model = kind(
            module,
            max_epochs=EPOCHS,
            batch_size=BATCH,
            optimizer=layer_wise(lr=RATE, decay=0.9, weight_decay=1e-3),
            random_state=seed,
            **settings,
        )
        model.fit(train["X"], train["y"], sensitive_features=train["group"])
        return model.predict  # type: ignore[no-any-return]

    return fit


def inside(module: Any, train: Part, seed: int) -> Decide:
    """The bound inside ``transformers.Trainer``."""
    names = sorted(set(train["group"]))
    rows = [
        {
            **{name: part[i] for name, part in train["X"].items()},
            "labels": int(train["y"][i]),
            "groups": names.index(train["group"][i]),
        }
        for i in range(len(train["y"]))
    ]
    cells = [f"{row['labels']}{row['groups']}" for row in rows]
    first, held = train_test_split(rows, test_size=0.2, random_state=seed, stratify=cells)
    arguments = transformers.TrainingArguments(
        output_dir=str(FOLDER),
        num_train_epochs=EPOCHS,
        per_device_train_batch_size=BATCH,
        per_device_eval_batch_size=512,
        learning_rate=RATE,
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        seed=seed,
    )
    trainer = FairTrainer(
        model=module,
        args=arguments,
        train_dataset=first,
        eval_dataset=held,
        fairness=LagrangianFairnessTrainer(difference_bound=BOUND),
        num_groups=len(names),
    )
    trainer.log = lambda *_, **__: None
    trainer.train()

    @torch.no_grad()
    def decide(X: dict[str, torch.Tensor]) -> Any:
        return trainer.model.eval()(**X).logits.argmax(dim=1).numpy()

    return decide


def methods(eta: float) -> dict[str, Callable[..., Decide]]:
    """What is compared."""
    return {
        "plain": own(RegularizedFairnessTrainer, eta=0.0),
        "penalty": own(RegularizedFairnessTrainer, eta=eta),
        "bound": own(LagrangianFairnessTrainer, difference_bound=BOUND),
        "trainer": inside,
    }


def measured(fit: Callable[..., Decide], seed: int) -> dict[str, float]:
    """Accuracy and gap on applications that nobody saw, and seconds."""
    parts = []
    for n, own in ((ROWS, seed), (FRESH, 10_000 + seed)):
        data = make_biased(n, base_rates=(0.7, 0.3), random_state=own)
        rows, group = texts(data.X, own), data.sensitive_features["group"].to_numpy()
        if not parts:
            tokenizer = tokenizer_of(rows)
        X = tokenizer(rows, padding=True, return_tensors="pt", return_token_type_ids=False)
        parts.append({"X": dict(X), "y": np.asarray(data.y), "group": group})
    start = time.perf_counter()
    decide = fit(network(len(tokenizer), seed), parts[0], seed)
    seconds = time.perf_counter() - start
    decided = np.asarray(decide(parts[1]["X"]))
    report = fairness_report(parts[1]["y"], decided, parts[1]["group"], "demographic_parity")
    return {
        "accuracy": float((decided == parts[1]["y"]).mean()),
        "gap": float(report.results[0].achieved),
        "seconds": seconds,
    }


def main() -> None:
    """Train, judge, write the table as it grows, print means over seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tune", action="store_true", help="try eta, and write nothing")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    if options.tune:
        for eta in (0.0, 1.0, 3.0, 10.0):
            found = [measured(methods(eta)["penalty"], seed) for seed in (50, 51)]
            print(eta, pd.DataFrame(found).mean().round(3).to_dict(), flush=True)
        return
    path = RESULTS / "text.csv"
    rows = pd.read_csv(path).to_dict("records") if path.is_file() else []
    done = {(row["method"], row["seed"]) for row in rows}
    for seed, (name, fit) in product(range(options.seeds), methods(ETA).items()):
        if (name, seed) not in done:
            rows.append({"method": name, "seed": seed, **measured(fit, seed)})
            pd.DataFrame(rows).round(4).to_csv(path, index=False, lineterminator="\n")
            print(rows[-1], flush=True)
    table = pd.DataFrame(rows).groupby("method", sort=False).mean().drop(columns="seed")
    print(table.round(3).to_string())
    frontier = make_biased(10, base_rates=(0.7, 0.3)).population.frontier(bounds=[BOUND, 1.0])
    print(frontier[["bound", "accuracy", "gap"]].round(3).to_string(index=False))


if __name__ == "__main__":
    main()
