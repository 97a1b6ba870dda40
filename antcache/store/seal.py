"""JSON files that know whether they are as they were written.

Promise: a change of any single byte is found. The last attribute of a file is its `seal`, the
BLAKE2b hash of the file's own text with 32 zeros in the seal's place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from antcache.store.format import digest

SEAL = "seal"
_BLANK = b'"seal": "' + b"0" * 32 + b'"'
_SEALED = re.compile(rb'"seal": "[0-9a-f]{32}"')


def sealed(attributes: Mapping[str, Any], around: Mapping[str, Any] | None = None) -> bytes:
    """JSON text of `attributes`, sealed; inside the document `around`, as Zarr wants it."""
    own = {k: v for k, v in attributes.items() if k != SEAL}
    document = {**own, SEAL: "0" * 32}
    if around is not None:
        document = {**around, "attributes": document}
    text = json.dumps(document, indent=1, allow_nan=False).encode()
    before, blank, after = text.rpartition(_BLANK)
    assert blank, "the text holds the seal that was put into it"
    return before + f'"seal": "{digest(text)}"'.encode() + after


def intact(text: bytes) -> bool:
    """Whether a sealed file's text is what was written."""
    seals = list(_SEALED.finditer(text))
    if not seals:
        return False
    start, stop = seals[-1].span()
    return digest(text[:start] + _BLANK + text[stop:]) == text[stop - 33 : stop - 1].decode()


def attributes_of(text: bytes) -> dict[str, Any]:
    """Attributes in a sealed file's text, the seal left out; empty if it is no JSON object.

    The seal is not checked; `intact` does that.
    """
    try:
        document = json.loads(text)
    except ValueError:
        return {}
    if not isinstance(document, dict):
        return {}
    found = document.get("attributes", {}) if "zarr_format" in document else document
    return {k: v for k, v in found.items() if k != SEAL} if isinstance(found, dict) else {}
