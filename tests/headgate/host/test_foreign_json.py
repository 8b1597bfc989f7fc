"""JSON of other programs: a document, or a ValueError."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.host.foreign_json import read_json, read_json_object

DEEP = 100_000
NO_JSON = [b"", b"{", b"\xff", b"[" * DEEP, b'{"a":' * DEEP, b"9" * 5000, b"\xef\xbb\xbf[", b"nul"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=9,
)


@pytest.mark.parametrize("text", NO_JSON, ids=lambda text: str(text[:8]))
def test_what_is_no_json_is_one_kind_of_error(text: bytes) -> None:
    with pytest.raises(ValueError):
        read_json(text)
    assert read_json_object(text) is None


@given(JSON)
def test_a_document_is_read_as_it_was_written(document: object) -> None:
    text = json.dumps(document)
    assert read_json(text) == document
    assert read_json_object(text.encode()) == (document if isinstance(document, dict) else None)
