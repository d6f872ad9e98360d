"""From a batch of any shape to its parts: inputs, targets, groups and weights of its rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from fairtrain.data.groups import Groups
from fairtrain.data.inputs import check_lengths
from fairtrain.exceptions import InvalidDataError

__all__ = ["BatchAdapter", "BatchColumns", "BatchParts", "read_batch", "row_weights"]

Key = str | int

_NAMES: dict[str, tuple[str, ...]] = {
    "targets": ("y", "labels", "label", "targets", "target"),
    "groups": ("sensitive_features", "groups", "group", "sensitive_feature", "group_codes"),
    "weight": ("sample_weight", "sample_weights", "weight", "weights"),
    "clusters": ("clusters",),
}
"""Names that a part goes by; the first stands for it even where others are there."""

_MAY_BE_INPUTS = ("weight", "weights")
"""Names that are a row's weight only where it is known what the inputs are."""

_WHOLE = ("x", "X", "inputs", "features")
"""Names under which all that the module takes is found; other keys are no inputs then."""


class BatchParts(NamedTuple):
    """Parts of a batch.

    Attributes
    ----------
    inputs : Tensor, or any structure of tensors
        What the module takes; see :func:`~fairtrain.training.batches.inputs.call_module`.
    targets : Tensor of shape (n,) or None
        Labels 0/1 (1: the favourable outcome), class numbers, or values.
    groups : integer Tensor of shape (n,) or (n, k), or None
        Group codes.
    weight : Tensor of shape (n,) or None
        Weight of each row.
    clusters : integer Tensor of shape (n,) or None
        Which rows belong together.
    """

    inputs: Any
    targets: Any = None
    groups: Any = None
    weight: Any = None
    clusters: Any = None


class BatchAdapter(Protocol):
    """Takes a batch of one's own apart: any function of it that gives four things, or five."""

    def __call__(self, batch: Any, /) -> tuple[Any, ...]:
        """``inputs, targets, groups, weight[, clusters]``; None for what a batch does not have."""


@dataclass(frozen=True)
class BatchColumns:
    """Say where in a batch its parts are; what is not said is guessed.

    A batch is a mapping (also a ``BatchEncoding``), a tuple or list, a named tuple, a dataclass, or
    one tensor. In a tuple parts come in the order inputs, targets, groups, weight, clusters. By
    name, targets are ``y``, ``labels``, ``label``, ``targets`` or ``target``; groups
    ``sensitive_features``, ``groups`` or ``group``; weights ``sample_weight``; clusters
    ``clusters``; inputs what is called ``x``, ``inputs`` or ``features``, and a ``weight`` beside
    it is a row's; else all the rest, which goes to the module by name.

    Parameters
    ----------
    inputs : str, int or list of str, optional
        Key of what the module takes, or keys of all that it takes by name.
    targets, groups, weight, clusters : str or int, optional
        Key of each; a list of them for groups of several columns of codes.
    row_id : str or int, optional
        Key of numbers of rows, by which ``table`` is asked for their groups.
    table : Groups, series, mapping or integer array, optional
        Group code of every row: by place in ``Groups`` and arrays, by index in a series, by key in
        a mapping.

    Examples
    --------
    >>> import torch
    >>> from fairtrain.training import BatchColumns
    >>> batch = {"x": torch.zeros(2, 5), "labels": torch.ones(2), "id": torch.tensor([7, 3])}
    >>> BatchColumns(row_id="id", table={3: 0, 7: 1})(batch).groups
    tensor([1, 0])
    """

    inputs: Key | Sequence[Key] | None = None
    targets: Key | None = None
    groups: Key | Sequence[Key] | None = None
    weight: Key | None = None
    clusters: Key | None = None
    row_id: Key | None = None
    table: Any = None

    def __post_init__(self) -> None:
        if (self.row_id is None) != (self.table is None):
            raise InvalidDataError(
                "row_id= and table= belong together: where a batch has the numbers of its rows, "
                "and the group of every row."
            )

    def __call__(self, batch: Any, /) -> BatchParts:
        """Parts of a batch.

        Raises
        ------
        InvalidDataError
            If a key that was named is not there, or two keys could be the same part.
        """
        by_name = any(isinstance(key, str) for key in _flat([*self._given().values(), self.row_id]))
        fields = _fields(batch, by_name=by_name)
        places = all(isinstance(key, int) for key in fields)
        keys = self._places(fields) if places else self._named(fields)
        parts = {part: _part(fields, key) for part, key in keys.items()}
        if isinstance(parts.get("groups"), dict):
            columns = [torch.as_tensor(column) for column in parts["groups"].values()]
            parts["groups"] = torch.stack(columns, dim=1)
        if self.row_id is not None:
            parts["groups"] = _looked_up(_part(fields, self.row_id), self.table)
        return BatchParts(parts.pop("inputs", None), **parts)

    def _given(self) -> dict[str, Any]:
        known = {part: getattr(self, part) for part in BatchParts._fields}
        return {part: key for part, key in known.items() if key is not None}

    def _places(self, fields: Mapping[Key, Any]) -> dict[str, Any]:
        given = self._given()
        taken = set(_flat([*given.values(), self.row_id]))
        skipped = {"groups"} if self.row_id is not None else set()
        free = [part for part in BatchParts._fields if part not in {*given, *skipped}]
        left = [key for key in fields if key not in taken]
        if len(left) > len(free):
            raise InvalidDataError(_NOT_GUESSED.format(found=f"a tuple of {len(fields)}"))
        return {**dict(zip(free, left, strict=False)), **given}

    def _named(self, fields: Mapping[Key, Any]) -> dict[str, Any]:
        given = self._given()
        whole = [key for key in _WHOLE if key in fields]
        guessed = {part: _guess(part, fields) for part in _NAMES}
        if guessed["weight"] in _MAY_BE_INPUTS and not (whole or self.inputs):
            guessed["weight"] = None  # kilogrammes, perhaps
        keys = {**guessed, **given}
        taken = set(_flat([*keys.values(), self.row_id]))
        if self.row_id is not None:
            keys["groups"] = None
        if "inputs" not in keys:
            rest = [key for key in fields if key not in taken]
            alone = whole if len(whole) == 1 else rest
            keys["inputs"] = alone[0] if len(alone) == 1 else rest or None
        return {part: key for part, key in keys.items() if key is not None}


_NOT_GUESSED = (
    "a batch must be (x, y, sensitive_features[, sample_weight[, clusters]]), or have names; "
    "got {found}. Say where its parts are with adapter=BatchColumns(...), or pass a function that "
    "gives inputs, targets, groups and weight of a batch."
)


def read_batch(
    batch: Any, adapter: BatchAdapter | None = None, *, required: Sequence[str] = ()
) -> BatchParts:
    """Take a batch apart.

    Parameters
    ----------
    batch : object
        A batch of a data loader.
    adapter : BatchAdapter, optional
        Takes it apart; by default it is guessed, see :class:`BatchColumns`.
    required : sequence of str, default=()
        Parts that must be there beside the inputs; without any only these are looked at.

    Raises
    ------
    InvalidDataError
        If it cannot be taken apart, or a part is missing, no number, or of another length.
    """
    found: Any = (BatchColumns() if adapter is None else adapter)(batch)
    if not isinstance(found, tuple) or len(found) not in (4, 5):
        raise InvalidDataError(
            "an adapter must give a tuple of inputs, targets, groups and weight (None for what a "
            f"batch does not have), got {type(found).__name__}."
        )
    parts = BatchParts(*found)
    if missing := [name for name in ("inputs", *required) if getattr(parts, name) is None]:
        raise InvalidDataError(_missing(batch, missing[0]))
    if not required:
        return parts
    y, who = _numbers(parts.targets, _LABELS), parts.groups
    if not _is_pair(who):
        who = _numbers(who, _CODES)
        check_lengths(len(y), sensitive_features=who)
    weight, together = row_weights(parts.weight, len(y)), parts.clusters
    clusters = None if together is None else _clusters(together, len(y))
    return parts._replace(targets=y, groups=who, weight=weight, clusters=clusters)


_LABELS = "targets must be numbers (1: the favourable outcome, of two): number words beforehand."
_CODES = (
    "groups must be integer codes: Groups.from_sensitive(...) makes its codes of names, and tells "
    "the names where it is passed as groups=."
)


def _numbers(values: Any, otherwise: str) -> Tensor:
    try:
        return torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError):
        raise InvalidDataError(otherwise) from None


def _is_pair(groups: Any) -> bool:
    """Whether groups are codes and the numbers of continuous columns."""
    return isinstance(groups, list | tuple) and any(isinstance(g, Tensor) for g in groups)


def row_weights(sample_weight: Any, n_rows: int) -> Tensor | None:
    """Weights of a batch's rows, shape (n,); None stays None.

    Raises
    ------
    InvalidDataError
        If there is not one a row, or one is negative, NaN or infinite.
    """
    if sample_weight is None:
        return None
    weight = _numbers(sample_weight, "sample_weight must be numbers.").reshape(-1)
    check_lengths(n_rows, sample_weight=weight)
    if not bool(((weight >= 0) & torch.isfinite(weight)).all()):
        raise InvalidDataError("sample_weight must be finite and not negative.")
    return weight


def _clusters(clusters: Any, n_rows: int) -> Tensor:
    numbers = torch.as_tensor(clusters).reshape(-1)
    if numbers.is_floating_point() or numbers.is_complex() or len(numbers) != n_rows:
        raise InvalidDataError(
            f"clusters must be whole numbers, one for each of the {n_rows} rows of a batch; number "
            "the names, such as with pandas.factorize, over all batches."
        )
    return numbers.long()


def _missing(batch: Any, part: str) -> str:
    fields = _fields(batch)
    if all(isinstance(key, int) for key in fields):
        return _NOT_GUESSED.format(found=f"{type(batch).__name__} of {len(fields)}")
    named = "inputs" if part == "inputs" else _NAMES[part][0]
    return (
        f"a batch lacks {named!r}: none of its keys {list(fields)} is known to hold its {part}. "
        f"Name the key, as adapter=BatchColumns({part}=...)"
        + (", or a table of rows with row_id= and table=." if part == "groups" else ".")
    )


def _fields(batch: Any, *, by_name: bool = False) -> Mapping[Key, Any]:
    """What a batch has, by name or by place; a named tuple by name only where names are known."""
    if isinstance(batch, Mapping):
        return batch
    if isinstance(batch, Tensor | np.ndarray):
        return {0: batch}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        known = [set(_NAMES[part]) & set(batch._fields) for part in ("targets", "groups")]
        if by_name or all(known):
            return dict(zip(batch._fields, batch, strict=True))
    if isinstance(batch, list | tuple):
        return dict(enumerate(batch))
    if dataclasses.is_dataclass(batch):
        return {field.name: getattr(batch, field.name) for field in dataclasses.fields(batch)}
    raise InvalidDataError(_NOT_GUESSED.format(found=type(batch).__name__))


def _guess(part: str, fields: Mapping[Key, Any]) -> Key | None:
    there = [name for name in _NAMES[part] if name in fields]
    if len(there) > 1 and there[0] != _NAMES[part][0]:
        raise InvalidDataError(
            f"the {part} of a batch may be {' or '.join(map(repr, there))}: name the key, as "
            f"adapter=BatchColumns({part}={there[0]!r})."
        )
    return there[0] if there else None


def _flat(keys: Any) -> list[Key]:
    several = ([key] if isinstance(key, str | int) else key or () for key in keys)
    return [key for some in several for key in some]


def _part(fields: Mapping[Key, Any], key: Any) -> Any:
    several = isinstance(key, list | tuple)
    wanted = list(key) if several else [key]
    if absent := [name for name in wanted if name not in fields]:
        raise InvalidDataError(f"a batch has no {absent[0]!r}; it has {list(fields)}.")
    return {name: fields[name] for name in wanted} if several else fields[key]


def _looked_up(ids: Any, table: Any) -> Tensor:
    """Group codes of rows by their numbers."""
    rows = torch.as_tensor(ids).reshape(-1).tolist() if not _is_text(ids) else list(ids)
    known: Any = table.codes if isinstance(table, Groups) else table
    by_key = isinstance(known, Mapping)
    places: Any = rows if by_key else _places_in(known, rows)
    there = [row in known for row in rows] if by_key else (places >= 0).tolist()
    if not all(there):
        raise InvalidDataError(f"table has no group for the row {rows[there.index(False)]!r}.")
    codes = np.asarray([known[row] for row in rows] if by_key else np.asarray(known)[places])
    if codes.dtype.kind not in "iu":
        raise InvalidDataError(
            "table must hold group codes; Groups.from_sensitive(...) makes them of names: pass it "
            "as table= and as groups=."
        )
    return torch.from_numpy(codes.astype(np.int64))


def _places_in(table: Any, rows: list[Any]) -> NDArray[np.int64]:
    """Places of rows by a series' index, or the numbers themselves; -1 for those not there."""
    if isinstance(table, pd.Series):
        if not table.index.is_unique:
            raise InvalidDataError("table names a row more than once: its index must be unique.")
        return np.asarray(table.index.get_indexer(pd.Index(rows)), dtype=np.int64)
    places = np.asarray(rows)
    if places.dtype.kind not in "iu":
        raise InvalidDataError(f"row_id must hold whole numbers, got {rows[0]!r}.")
    return np.where((places >= 0) & (places < len(table)), places, -1)


def _is_text(ids: Any) -> bool:
    return isinstance(ids, list | tuple) and any(isinstance(row, str) for row in ids)
