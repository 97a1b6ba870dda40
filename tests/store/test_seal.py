"""Texts that tell whether they are as they were written."""

from __future__ import annotations

import json
from typing import Any

import pytest

from antcache.store.format import digest
from antcache.store.seal import attributes_of, intact, mended, sealed


@pytest.mark.parametrize("around", [None, {"zarr_format": 3, "node_type": "group"}])
def test_a_text_that_contains_a_seal_is_sealed_like_any_other(
    around: dict[str, Any] | None,
) -> None:
    blank, other = "0" * 32, "0123456789abcdef" * 2
    attributes = {
        "config": {"seal": blank, "nested": {"seal": other}},
        "source": f'"seal": "{blank}"',
        "after": [{"seal": blank}],
    }
    text = sealed({**attributes, "seal": "that of somebody"}, around)
    assert intact(text)
    assert attributes_of(text) == attributes
    assert text.count(b'"seal": "') == 4
    for place in range(len(text)):
        for bit in (0, 5):
            wrong = bytearray(text)
            wrong[place] ^= 1 << bit
            assert not intact(bytes(wrong))
    place = text.index(other.encode()) + 3
    assert mended(text[:place] + bytes((text[place] ^ 4,)) + text[place + 1 :]) == text
    inner = json.dumps({"seal": digest(b"what somebody made up")}).encode()
    assert not intact(inner)
    assert not intact(text + inner)


def test_a_seal_in_a_text_that_never_ends_is_no_seal() -> None:
    assert not intact(b"[" * 100_000)
    assert attributes_of(b'{"a":' * 100_000) == {}
    assert attributes_of(b"[" * 100_000) == {}
    assert attributes_of(b'{"a": ' + b"9" * 5000 + b"}") == {}


def test_one_flipped_bit_is_flipped_back() -> None:
    text = sealed({"name": "seal", "list": [1, 2]}, {"zarr_format": 3})
    for byte in range(len(text)):
        for bit in (0, 3, 7):
            wrong = bytearray(text)
            wrong[byte] ^= 1 << bit
            assert mended(bytes(wrong)) == text
    for other in (b"", b"{}", text[:-1], text + b" ", text.replace(b"list", b"tsil")):
        assert mended(other) is None
