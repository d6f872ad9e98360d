"""``save`` and ``load``."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from fairtrain._atomic import new_folder, writing
from fairtrain._text import one_line
from fairtrain._versions import versions
from fairtrain.exceptions import PersistenceError
from fairtrain.persistence.allowed import check_root
from fairtrain.persistence.content import (
    ARRAYS,
    STRUCTURE,
    from_files,
    from_json,
    to_files,
    to_json,
)
from fairtrain.persistence.encode import encode, hidden_in_reports
from fairtrain.persistence.limits import MOST_FILES, MOST_MANIFEST

__all__ = ["MANIFEST", "load", "save"]

MANIFEST = "manifest.json"
_RESERVED = re.compile(r"con|prn|aux|nul|com\d|lpt\d", re.IGNORECASE)
FORMAT, SCHEMA = "fairtrain model", 2  # 1 had a file for every tree, and is read


def save(
    model: Any,
    folder: str | Path,
    *,
    overwrite: bool = False,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write a fitted model into a folder that :func:`load` reads without running code from it.

    The folder holds ``manifest.json`` (schema, versions, classes, feature names, constraints, the
    fairness report, how often which rows certified it, and size and SHA-256 of every file),
    ``structure.json``, numbers as safetensors, scikit-learn's parts as skops files and boosters in
    their own format. It holds no training row, and no rate over fewer than ten rows. It is written
    beside its place, flushed to the disk and exchanged with an old folder in one step (on Linux;
    elsewhere the old one is first moved aside): whatever happens, one of them is there whole.

    Parameters
    ----------
    model : estimator
        Any fitted estimator of fairtrain, or a scikit-learn ``Pipeline`` with one at its end.
    folder : path
        Where to; must not exist unless ``overwrite`` is set.
    overwrite : bool, default=False
        Replace a model folder; any other folder is left alone.
    metadata : mapping, optional
        Plain values for the manifest, such as where the data came from.

    Raises
    ------
    PersistenceError
        If the folder may not be written, or a part of the model would not load again. Settings that
        are not needed to predict (functions, callbacks, a module's initial weights) are left out,
        and named in the manifest under ``left_out``.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn.linear_model import LogisticRegression
    >>> from fairtrain import ReductionsWrapper, load, save
    >>> X, y, group = [[0.0], [1.0], [2.0], [3.0]] * 20, [0, 1, 0, 1] * 20, [0, 0, 1, 1] * 20
    >>> model = ReductionsWrapper(LogisticRegression(), difference_bound=0.9)
    >>> folder = Path(tempfile.mkdtemp(), "model")
    >>> save(model.fit(X, y, sensitive_features=group), folder)
    >>> bool((load(folder).predict(X) == model.predict(X)).all())
    True
    """
    path = Path(folder)
    check = partial(_check_place, path, overwrite=overwrite)
    with writing(path):
        check()
    name = type(model).__name__
    try:
        if isinstance(model, BaseEstimator):
            check_is_fitted(model)
    except NotFittedError:
        raise PersistenceError(f"this {name} is not fitted; call fit before save.") from None
    encoded = encode(model)
    files = to_files(encoded)
    # Whatever would fail to load fails now.
    check_root(from_files(files, module=_of_itself(model)))
    manifest = {
        "format": FORMAT,
        "schema": SCHEMA,
        "model": name,
        "made_with": versions(),
        **_description(model),
        "left_out": encoded.left_out,
        "metadata": dict(metadata or {}),
        "files": {name: _entry(content) for name, content in files.items()},
    }
    written = to_json(manifest, indent=2)
    with new_folder(path, check) as work:
        for name, content in files.items():
            (work / name).write_bytes(content)
        (work / MANIFEST).write_bytes(written)


def load(folder: str | Path, *, module: Any = None) -> Any:
    """Read a model that :func:`save` wrote.

    Every file is checked against the manifest's size and hash before it is read. Nothing is
    unpickled: what may be made is fairtrain's own classes, scikit-learn's through skops, boosters
    through their libraries, and tensors. (Hashes tell damage, not malice: whoever can write to the
    folder can write a manifest too.)

    Parameters
    ----------
    folder : path
        What ``save`` wrote.
    module : nn.Module or callable, optional
        For trainers of a network of your own: the module, or the factory ``(n_features, n_outputs)
        -> nn.Module``, that gives the architecture; the weights come from the folder.

    Returns
    -------
    estimator
        Predicts as the saved one did, bit for bit.

    Raises
    ------
    PersistenceError
        If the folder is no model, was damaged or changed, comes from a newer version, or names
        something that may not be made from a file.
    MissingDependencyError
        If the model needs a package that is not installed.
    """
    path = Path(folder)
    manifest = read_manifest(path)
    listed = manifest["files"]
    there = {entry.name for entry in path.iterdir()}
    for name in sorted({*listed, *there} - {MANIFEST}):
        if name not in listed:
            raise PersistenceError(f"'{one_line(path / name)}' is not part of the model.")
        if name not in there:
            raise PersistenceError(f"'{one_line(path / name)}' is missing.")
    files = {name: _checked(path / name, entry) for name, entry in listed.items()}
    model = from_files(files, module=module)
    check_root(model)
    return model


def read_manifest(path: Path) -> dict[str, Any]:
    """Read and check ``manifest.json`` of a model folder."""
    file = path / MANIFEST
    name = f"'{one_line(file)}'"
    if not path.is_dir() or not file.exists():
        raise PersistenceError(f"'{one_line(path)}' is not a model folder: it has no {MANIFEST}.")
    if file.lstat().st_size > MOST_MANIFEST:
        raise PersistenceError(f"{name} is larger than {MOST_MANIFEST:,} bytes, as no manifest is.")
    manifest = from_json(_bytes(file), name)
    if manifest.get("format") != FORMAT:
        raise PersistenceError(f"{name} is not the manifest of a fairtrain model.")
    schema = manifest.get("schema")
    if type(schema) is not int or not 1 <= schema <= SCHEMA:
        raise PersistenceError(
            f"{name} has schema {schema!r}; this version of fairtrain reads up to {SCHEMA}: "
            "pip install --upgrade fairtrain."
        )
    files = manifest.get("files")
    if (
        not isinstance(files, dict)
        or len(files) > MOST_FILES
        or not all(_is_plain_name(name) for name in files)
    ):
        raise PersistenceError(f"{name} lists files outside of its folder.")
    if not {STRUCTURE, ARRAYS} <= set(files):
        raise PersistenceError(f"{name} lacks {STRUCTURE} or {ARRAYS}.")
    return manifest


def _is_plain_name(name: str) -> bool:
    """Whether it names a file of this very folder, on Windows too."""
    if Path(name).name != name or name in ("", ".", "..", MANIFEST) or len(name) > 255:
        return False
    reserved = _RESERVED.fullmatch(name.partition(".")[0].strip())
    return not (reserved or set(name) & set('\\/:*?"<>|') or not name.isprintable()) and name == (
        name.strip(" .")
    )


def _check_place(path: Path, *, overwrite: bool) -> None:
    name = f"'{one_line(path)}'"
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise PersistenceError(f"{name} exists and is not a folder.")
    if not path.exists():
        return
    if not overwrite:
        raise PersistenceError(f"{name} exists; choose another folder, or set overwrite=True.")
    there = {entry.name for entry in path.iterdir()}
    if not there:
        return
    try:
        known = {MANIFEST, *read_manifest(path)["files"]}
    except PersistenceError as error:
        raise PersistenceError(f"{name} is not replaced: {error}") from None
    if strangers := sorted(there - known):
        raise PersistenceError(
            f"{name} is not replaced: '{one_line(strangers[0])}' is not part of the model."
        )


def _of_itself(model: Any) -> Any:
    """The module that a trainer would be loaded with, for a look at whether it would load."""
    last = model.steps[-1][1] if hasattr(model, "steps") else model
    inner = getattr(last, "estimator_", last)
    several = getattr(inner, "modules_", (None,))
    return last if hasattr(last, "state_dict") else getattr(inner, "module_", several[0])


def _description(model: Any) -> dict[str, Any]:
    last = model.steps[-1][1] if hasattr(model, "steps") else model
    first = model.steps[0][1] if hasattr(model, "steps") else model
    report = getattr(last, "fairness_report_", None)
    hidden = hidden_in_reports(getattr(last, "__dict__", {}))
    ledger = getattr(last, "ledger_", None)
    names = getattr(first, "feature_names_in_", None)
    constraints = getattr(last, "constraints_", None)
    classes = getattr(last, "classes_", None)
    return {
        "classes": None if classes is None else np.asarray(classes).tolist(),
        "n_features_in": getattr(first, "n_features_in_", None),
        "feature_names_in": None if names is None else [str(name) for name in names],
        "constraints": None if constraints is None else [_words(c) for c in constraints],
        "report": None if report is None else report.to_dict(hidden=hidden[id(report)]),
        "ledger": None if ledger is None else ledger.summary(),
    }


def _words(constraint: Any) -> str:
    return f"{constraint.name.replace('_', ' ')}, {constraint.kind} bound {constraint.bound:g}"


def _entry(content: bytes) -> dict[str, Any]:
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _checked(file: Path, entry: Any) -> bytes:
    name = f"'{one_line(file)}'"
    size = file.lstat().st_size
    if not file.is_symlink() and (not isinstance(entry, dict) or size != entry.get("bytes")):
        raise PersistenceError(f"{name} has {size} bytes, not what the manifest says.")
    content = _bytes(file)
    if hashlib.sha256(content).hexdigest() != entry.get("sha256"):
        raise PersistenceError(f"{name} was changed: its hash is not the manifest's.")
    return content


def _bytes(file: Path) -> bytes:
    name = f"'{one_line(file)}'"
    if file.is_symlink() or not file.is_file():
        raise PersistenceError(f"{name} is a link or no file; a model folder has neither.")
    try:
        return file.read_bytes()
    except OSError as error:
        raise PersistenceError(f"{name} cannot be read: {error.strerror}.") from None
