"""Files that were made to harm whoever loads them: no code runs, nothing hangs, nothing grows."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import textwrap
import time
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lightgbm import LGBMClassifier
from safetensors.numpy import load_file
from safetensors.numpy import save as to_bytes
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.ensemble._hist_gradient_boosting.common import PREDICTOR_RECORD_DTYPE
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import FunctionTransformer
from xgboost import XGBClassifier

from fairtrain import ReductionsWrapper, RegularizedFairnessTrainer, load, save
from fairtrain.exceptions import PersistenceError
from fairtrain.persistence.boosters import check_lightgbm, check_xgboost
from fairtrain.persistence.ubjson import read_ubjson

pytestmark = pytest.mark.filterwarnings("ignore::fairtrain.exceptions.FairtrainWarning")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 3))
WHO = RNG.integers(0, 2, 120)
Y = (X[:, 0] + WHO > 0.5).astype(int)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of model folders."""
    made = {
        "logistic": LogisticRegression(),
        "forest": RandomForestClassifier(2, max_depth=3, random_state=0),
        "histogram": HistGradientBoostingClassifier(max_iter=2, random_state=0),
        "xgboost": XGBClassifier(n_estimators=2, max_depth=2),
        "lightgbm": LGBMClassifier(n_estimators=2, num_leaves=4, verbose=-1),
    }
    folder = tmp_path_factory.mktemp("models")
    for name, estimator in made.items():
        model = ReductionsWrapper(estimator, difference_bound=0.9, max_iter=2, random_state=0)
        save(model.fit(X, Y, sensitive_features=WHO), folder / name)
    network = RegularizedFairnessTrainer(max_epochs=1, random_state=0)
    save(network.fit(X, Y, sensitive_features=WHO), folder / "network")
    return folder


def rewrite(folder: Path, name: str, content: bytes) -> None:
    """Change a file, and its entry in the manifest with it."""
    (folder / name).write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_text())
    digest = hashlib.sha256(content).hexdigest()
    manifest["files"][name] = {"bytes": len(content), "sha256": digest}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def nodes(*more: dict[str, Any], root: Any = None) -> Callable[[Path], None]:
    """Put a structure of these nodes in place of the model's."""

    def change(folder: Path) -> None:
        content = {"root": {"#": 0} if root is None else root, "nodes": list(more)}
        rewrite(folder, "structure.json", json.dumps(content).encode())

    return change


def zipped(compression: int, members: dict[str, bytes]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", compression) as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        rewrite(folder, next(folder.glob("*.skops")).name, stream.getvalue())

    return change


def array_header(shape: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    head = {"descr": "<f8", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, head)
    return stream.getvalue()


def doubled(kind: str, depth: int) -> list[dict[str, Any]]:
    """Each node holds the next one twice: 2^depth of them, written out."""
    inner = [{"t": kind, "items": [{"#": i + 1}, {"#": i + 1}]} for i in range(depth)]
    return [*inner, {"t": kind, "items": [1]}]


def chain(kind: str, depth: int) -> list[dict[str, Any]]:
    inner = [{"t": kind, "items": [{"#": i + 1}]} for i in range(depth)]
    return [*inner, {"t": kind, "items": []}]


def cached_bomb(depth: int = 40) -> bytes:
    """A schema of skops in which each tuple names the one before twice."""
    kind = {"__class__": "tuple", "__module__": "builtins", "__loader__": "TupleNode"}
    made: dict[str, Any] = {**kind, "__id__": 1, "content": []}
    for i in range(2, depth):
        made = {**kind, "__id__": i, "content": [made, {**kind, "__id__": i - 1, "content": []}]}
    return json.dumps({**made, "protocol": 2, "_skops_version": "0.16"}).encode()


def nested_json(depth: int) -> bytes:
    return b'{"root": ' + b"[" * depth + b"]" * depth + b', "nodes": []}'


FLOATS = {"t": "array", "key": "a0", "shape": [1]}
BOMBS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "zip bomb": (zipped(zipfile.ZIP_DEFLATED, {"schema.json": b" " * 10**7}), "is compressed"),
    "an array that is not there": (
        zipped(0, {"schema.json": b"{}", "1.npy": array_header((10**12,))}),
        "declares an array",
    ),
    "an array of objects": (
        zipped(0, {"schema.json": b"{}", "1.npy": array_header((1,)).replace(b"<f8", b"|O ")}),
        "declares an array|cannot be read",
    ),
    "tuples of skops": (zipped(0, {"schema.json": cached_bomb()}), "larger than"),
    "deep schema": (zipped(0, {"schema.json": nested_json(500)}), "nested deeper|cannot be read"),
    "doubled tuples": (nodes(*doubled("tuple", 60)), "larger than"),
    "doubled sets": (nodes(*doubled("frozenset", 60)), "larger than"),
    "deep tuples": (nodes(*chain("tuple", 5000)), "nested deeper"),
    "deep JSON": (
        lambda f: rewrite(f, "structure.json", nested_json(900)),
        "nested deeper|not JSON",
    ),
    "endless JSON": (lambda f: rewrite(f, "structure.json", nested_json(10**6)), "not JSON"),
    "an int": (nodes(root=7), "no model of fairtrain"),
    "a list": (nodes({"t": "list", "items": [1]}), "no model of fairtrain"),
    "a part": (
        nodes({"t": "object", "class": "fairtrain.data.groups.Groups", "state": {}}),
        "no model of fairtrain",
    ),
    "a file of ours": (
        nodes({"t": "object", "class": "fairtrain.tradeoff.cache.PointCache", "state": {}}),
        "may not be made",
    ),
    "a command of ours": (
        nodes({"t": "name", "name": "fairtrain._commands.resume.FinishedPoints"}),
        "may not be made",
    ),
    "text of a gigabyte": (
        nodes({"t": "items", "dtype": "<U250000000", "shape": [1], "items": ["a"]}),
        "an array of text declares",
    ),
    "numbers as objects": (
        nodes(
            {"t": "times", "dtype": "O", "array": {"#": 1}},
            {"t": "array", "key": "a0", "shape": [1]},
        ),
        "declares the type|does not describe",
    ),
    "a shape that is not there": (
        nodes({"t": "array", "key": "a0", "shape": [10**12]}),
        "does not describe",
    ),
    "a network of a billion": (
        nodes({"t": "module", "default": [10**9, 10**9], "weights": {}, "class": "x"}),
        "no weights|is not in the file",
    ),
    "nodes that are none": (nodes(root={"#": True}), "does not hold|refers to"),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_bomb_is_one_clear_line_and_takes_no_time(
    kind: str, models: Path, tmp_path: Path
) -> None:
    change, says = BOMBS[kind]
    folder = tmp_path / "model"
    shutil.copytree(models / "logistic", folder)
    change(folder)
    start = time.process_time()
    with pytest.raises(PersistenceError, match=says) as caught:
        load(folder)
    assert time.process_time() - start < 5
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def change_weights(content: dict[str, Any]) -> None:
    weights = next(n for n in content["nodes"] if n["t"] == "module")["weights"]
    weights["no.such.layer"] = weights.pop(next(iter(weights)))


def test_a_wrong_state_is_one_line(models: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(models / "network", folder)
    content = json.loads((folder / "structure.json").read_text())
    change_weights(content)
    rewrite(folder, "structure.json", json.dumps(content).encode())
    with pytest.raises(PersistenceError, match="another architecture") as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def test_a_large_manifest_is_not_read(models: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(models / "logistic", folder)
    os.truncate(folder / "manifest.json", 2**30)  # sparse: takes no room
    with pytest.raises(PersistenceError, match="as no manifest is"):
        load(folder)


FUZZ = """
import json, re, sys
from pathlib import Path
import numpy as np
import lightgbm, xgboost
from fairtrain.persistence.boosters import check_lightgbm, check_xgboost

rng = np.random.default_rng(int(sys.argv[2]))
X = rng.normal(size=(20, 3))
done = {"refused by us": 0, "refused by them": 0, "answered": 0}
NUMBERS = [b"-1", b"-7", b"0", b"99", b"1000000000", b"99999999999999", b"nan", b"1e300", b"x", b""]


def changed(content, is_text):
    found = [m.span() for m in re.finditer(rb"[-0-9.e]+", content)] if is_text else []
    if is_text and rng.random() < 0.6:
        start, end = found[rng.integers(min(len(found), 120))]
        return content[:start] + NUMBERS[rng.integers(len(NUMBERS))] + content[end:]
    if is_text and rng.random() < 0.5:
        lines = content.split(b"\\n")
        i = rng.integers(min(len(lines), 60))
        lines[i : i + 1] = [] if rng.random() < 0.5 else [lines[i]] * 2
        return b"\\n".join(lines)
    if rng.random() < 0.1:
        return content[: rng.integers(len(content))]
    at = rng.integers(len(content))
    return content[:at] + bytes([rng.integers(256)]) + content[at + 1 :]


def text(content):
    check_lightgbm(content)
    return lambda: lightgbm.Booster(model_str=content.decode()).predict(X)


def ubj(content):
    check_xgboost(content)

    def predict():
        booster = xgboost.Booster()
        booster.load_model(bytearray(content))
        booster.predict(xgboost.DMatrix(X))

    return predict


for file in sorted(Path(sys.argv[1]).glob("*/part-*")):
    if file.suffix not in (".txt", ".ubj"):
        continue
    content = file.read_bytes()
    for _ in range(int(sys.argv[3])):
        other = changed(content, file.suffix == ".txt")
        try:
            predict = (text if file.suffix == ".txt" else ubj)(other)
        except ValueError:
            done["refused by us"] += 1
            continue
        try:
            predict()
            done["answered"] += 1
        except Exception:
            done["refused by them"] += 1
print(json.dumps(done))
"""


def test_altered_boosters_end_no_process(models: Path) -> None:
    command = [sys.executable, "-c", textwrap.dedent(FUZZ), str(models), "0", "150"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-500:]
    counts = json.loads(done.stdout.splitlines()[-1])
    assert counts["refused by us"] > 100
    assert counts["answered"] > 0


def other_child(estimator: Any) -> Any:
    """An estimator of trees with a child that is no node."""
    if isinstance(estimator, RandomForestClassifier):
        tree = estimator.estimators_[0].tree_
        state = tree.__getstate__()
        state["nodes"] = state["nodes"].copy()
        state["nodes"]["left_child"][0] = 10**6
        tree.__setstate__(state)
    else:
        estimator._predictors[0][0].nodes["left"][0] = 10**6
    return estimator


@pytest.mark.parametrize("kind", ["forest", "histogram"])
def test_trees_of_scikit_learn_are_looked_at(kind: str, models: Path, tmp_path: Path) -> None:
    import skops.io

    folder = tmp_path / "model"
    shutil.copytree(models / kind, folder)
    file = next(folder.glob("*.skops"))
    if kind == "forest":
        trusted = skops.io.get_untrusted_types(file=file)
        estimator = skops.io.load(file, trusted=trusted)
    else:  # as folders of schema 1 hold them
        estimator = HistGradientBoostingClassifier(max_iter=2).fit(X, Y)
    rewrite(folder, file.name, skops.io.dumps(other_child(estimator)))
    with pytest.raises(PersistenceError, match="a child is no node"):
        load(folder)


def no_child(arrays: dict[str, Any], node: dict[str, Any]) -> None:
    nodes = next(a for a in arrays.values() if a.dtype == np.uint8).view(PREDICTOR_RECORD_DTYPE)
    nodes["left"][0] = 10**6


def fewer_nodes(arrays: dict[str, Any], node: dict[str, Any]) -> None:
    name = next(k for k, a in arrays.items() if a.dtype == np.uint8)
    arrays[name] = arrays[name][: -PREDICTOR_RECORD_DTYPE.itemsize]
    node["shape"][0] -= 1


@pytest.mark.parametrize(
    ("change", "says"),
    [(no_child, "a child is no node"), (fewer_nodes, "the nodes that they declare")],
)
def test_stacked_trees_are_looked_at(
    change: Callable[[dict[str, Any], dict[str, Any]], None],
    says: str,
    models: Path,
    tmp_path: Path,
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(models / "histogram", folder)
    arrays = {k: v.copy() for k, v in load_file(folder / "arrays.safetensors").items()}
    structure = json.loads((folder / "structure.json").read_text())
    key = next(k for k, a in arrays.items() if a.dtype == np.uint8)
    change(arrays, next(n for n in structure["nodes"] if n.get("key") == key))
    rewrite(folder, "arrays.safetensors", to_bytes(arrays))
    rewrite(folder, "structure.json", json.dumps(structure).encode())
    with pytest.raises(PersistenceError, match=says):
        load(folder)


def test_a_function_with_its_arguments_is_refused(models: Path, tmp_path: Path) -> None:
    import skops.io

    folder = tmp_path / "model"
    shutil.copytree(models / "logistic", folder)
    content = skops.io.dumps(FunctionTransformer(partial(np.add, 1)))
    rewrite(folder, next(folder.glob("*.skops")).name, content)
    with pytest.raises(PersistenceError, match="a function with its arguments"):
        load(folder)


def test_boosters_of_all_kinds_pass() -> None:
    import pandas as pd

    frame = pd.DataFrame(X, columns=list("abc"))
    frame["k"] = pd.Categorical(RNG.choice(["u", "v", "w"], len(X)))
    three = RNG.integers(0, 3, len(X))
    made = [
        XGBClassifier(n_estimators=2, enable_categorical=True, max_cat_to_onehot=1),
        XGBClassifier(n_estimators=2, booster="dart", enable_categorical=True),
    ]
    for booster in made:
        for target in (Y, three):
            check_xgboost(bytes(booster.fit(frame, target).get_booster().save_raw("ubj")))
    linear = XGBClassifier(n_estimators=2, booster="gblinear").fit(X, Y)
    check_xgboost(bytes(linear.get_booster().save_raw("ubj")))
    given: dict[str, Any] = {"n_estimators": 2, "verbose": -1}
    others = [{}, {"linear_tree": True}, {"boosting_type": "dart"}, {"min_child_samples": 1000}]
    for settings in others:
        for rows, target in ((X if "linear_tree" in settings else frame, Y), (X, three)):
            booster = LGBMClassifier(**given, **settings).fit(rows, target).booster_
            check_lightgbm(booster.model_to_string(num_iteration=-1).encode())


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"{i\x01a", b"[$l#L\x7f\xff\xff\xff\xff\xff\xff\xff", b"[#l\x7f\xff\xff\xff",
     b"[" * 1000, b"{}x", b"[$S#i\x01", b"{i\x01aZi\x01aZ}", b"Si\xff", b"?"],
)  # fmt: skip
def test_what_is_no_ubjson(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        read_ubjson(content)
