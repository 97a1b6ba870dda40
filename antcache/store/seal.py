"""JSON files that know whether they are as they were written.

Promise: a change of any single byte is found, and a single flipped bit can be put right. The last
attribute of a file is its `seal`, the BLAKE2b hash of the file's own text with 32 zeros in the
seal's place.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from antcache.errors import BadConfig
from antcache.store.format import TEXT_BYTES, digest

SEAL = "seal"
_BLANK = b'"seal": "' + b"0" * 32 + b'"'
_TAIL_BYTES = 80
"""More than a seal with its name and the brackets that close the file."""
_SEALED = re.compile(rb'"seal": "[0-9a-f]{32}"')


def sealed(attributes: Mapping[str, Any], around: Mapping[str, Any] | None = None) -> bytes:
    """JSON text of `attributes`, sealed; inside the document `around`, as Zarr wants it."""
    own = {k: v for k, v in attributes.items() if k != SEAL}
    document = {**own, SEAL: "0" * 32}
    if around is not None:
        document = {**around, "attributes": document}
    text = json.dumps(document, indent=1, allow_nan=False).encode()
    require_short(len(text))
    before, blank, after = text.rpartition(_BLANK)
    assert blank, "the text holds the seal that was put into it"
    return before + f'"seal": "{digest(text)}"'.encode() + after


def require_short(num_bytes: int) -> None:
    """Raise `BadConfig` if attributes are longer than what is read of any store."""
    if num_bytes > TEXT_BYTES:
        raise BadConfig(
            "attributes that no store takes",
            expected=f"at most {TEXT_BYTES} bytes of JSON",
            found=num_bytes,
        )


def intact(text: bytes) -> bool:
    """Whether a sealed file's text is what was written."""
    seals = list(_SEALED.finditer(text))
    if not seals:
        return False
    start, stop = seals[-1].span()
    return digest(text[:start] + _BLANK + text[stop:]) == text[stop - 33 : stop - 1].decode()


def mended(text: bytes) -> bytes | None:
    """A damaged file's text with one bit flipped back, None if it is not one bit that is wrong.

    Every bit is tried until the seal matches the text. Nothing is guessed: that another text has
    the same seal does not happen. It takes a second for 16 kB, and grows with the square.
    """
    tail = max(0, len(text) - _TAIL_BYTES)  # where the seal itself may be what was hit
    for place in range(tail, len(text)):
        for bit in range(8):
            tried = _flipped(text, place, bit)
            if intact(tried):
                return tried
    seals = list(_SEALED.finditer(text))
    if not seals:
        return None
    start, stop = seals[-1].span()
    wanted = bytes.fromhex(text[stop - 33 : stop - 1].decode())
    blank = memoryview(text[:start] + _BLANK + text[stop:])
    before = hashlib.blake2b(digest_size=16)
    for place in range(tail):
        for bit in range(8):
            total = before.copy()
            total.update(bytes((blank[place] ^ 1 << bit,)))
            total.update(blank[place + 1 :])
            if total.digest() == wanted:
                return _flipped(text, place, bit)
        before.update(blank[place : place + 1])
    return None


def _flipped(text: bytes, place: int, bit: int) -> bytes:
    return text[:place] + bytes((text[place] ^ 1 << bit,)) + text[place + 1 :]


def attributes_of(text: bytes) -> dict[str, Any]:
    """Attributes in a sealed file's text, the seal left out; empty if it is no JSON object.

    The seal is not checked; `intact` does that.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):  # the latter where somebody has nested a million lists
        return {}
    if not isinstance(document, dict):
        return {}
    found = document.get("attributes", {}) if "zarr_format" in document else document
    return {k: v for k, v in found.items() if k != SEAL} if isinstance(found, dict) else {}
