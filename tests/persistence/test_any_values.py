"""What is taken apart is put together again, whatever is nested in what."""

from __future__ import annotations

import json
import struct
from contextlib import suppress
from typing import Any

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import fairtrain
from fairtrain.exceptions import PersistenceError
from fairtrain.persistence.allowed import failing
from fairtrain.persistence.decode import decode
from fairtrain.persistence.encode import Encoded, encode

FEW = settings(max_examples=60, deadline=None, derandomize=True)
PLAIN = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(), st.text(max_size=8),
    st.complex_numbers(max_magnitude=1e6), st.binary(max_size=8),
)  # fmt: skip
ARRAYS = arrays.arrays(
    st.one_of(
        arrays.floating_dtypes(sizes=(32, 64), endianness="="),
        arrays.integer_dtypes(endianness="="),
        arrays.boolean_dtypes(),
        arrays.unicode_string_dtypes(max_len=4, endianness="="),
    ),
    arrays.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=3),
)
DATACLASSES = st.one_of(
    st.builds(fairtrain.DemographicParity, difference_bound=st.floats(0, 1)),
    st.builds(fairtrain.EqualizedOdds, difference_bound=st.floats(0, 1)),
    st.builds(fairtrain.LinearWarmup, eta=st.floats(0, 10), steps=st.integers(1, 99)),
    st.builds(fairtrain.AtMost, st.just("selection_rate"), st.floats(0.01, 0.99)),
)
KEYS = st.one_of(st.text(max_size=4), st.integers(-9, 9), st.booleans(), st.none())
VALUES = st.recursive(
    st.one_of(PLAIN, ARRAYS, DATACLASSES),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(KEYS, inner, max_size=4),
        st.frozensets(st.integers(), max_size=4),
    ),
    max_leaves=12,
)


def written(value: Any) -> Encoded:
    """As from a file: the structure through JSON, the arrays as they are."""
    encoded = encode(value)
    root, nodes = json.loads(json.dumps([encoded.root, encoded.nodes], allow_nan=False))
    return Encoded(root, nodes, encoded.arrays, encoded.parts)


def same(a: Any, b: Any) -> bool:
    """Whether two values are equal, in kind and bit for bit."""
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, float):
        return struct.pack("d", a) == struct.pack("d", b) or (a != a and b != b)  # noqa: PLR0124
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    in_order = isinstance(a, list | tuple)
    return len(a) == len(b) and all(map(same, a, b)) if in_order else bool(a == b)


@FEW
@given(VALUES)
def test_nested_values_come_back_as_they_were(value: Any) -> None:
    assert same(decode(written(value)), value)


@FEW
@given(VALUES, st.data())
def test_a_structure_that_was_changed_is_refused_or_read(value: Any, data: st.DataObject) -> None:
    encoded = written([value, {"a": np.arange(3)}])
    node = data.draw(st.sampled_from(encoded.nodes))
    node[data.draw(st.sampled_from(sorted(node)))] = data.draw(
        st.one_of(PLAIN.filter(lambda plain: not isinstance(plain, complex | bytes)),
                  st.just({"#": 10**9}), st.just({"#": 0}), st.just([]), st.just({}))
    )  # fmt: skip
    with suppress(PersistenceError), failing("as in load"):
        decode(encoded)


@FEW
@given(st.lists(st.one_of(st.floats(), st.none(), st.text(max_size=3)), max_size=5))
def test_a_column_comes_back(values: list[Any]) -> None:
    table = pd.DataFrame({"a": np.array([*values, None], dtype=object), 1: range(len(values) + 1)})
    pd.testing.assert_frame_equal(decode(written(table)), table)
