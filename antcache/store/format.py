"""Format 1: the names, kinds and checksums that every store keeps to.

Promise: this file and `docs/format.md` say the same. A store is a tree of *units*. A unit is a few
named arrays with attributes, published as one whole or not at all:

    labels/<split>              uid, video, start_s, stop_s, verb, noun, action
    features/<stream>/<video>   rows (rows, dim), and times (rows,) where the rate varies
    targets/<teacher>           uid, valid, logits, or uid, valid, index, logit, tail

Everything above a unit is a *group*, which has attributes only. The taxonomy is an attribute of the
group `labels`, because all splits share it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antcache.errors import BadConfig

FORMAT = 1
MARK = "antcache"
"""Attribute of the root that makes a folder a store: {"format": 1, ...}."""

CHUNK_BYTES = 1 << 20
"""Chunk of a feature array: whole rows, about 1 MiB."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")

Arrays = Mapping[str, NDArray[Any]]


def check_name(name: str, kind: str) -> str:
    """`name` if it may be a folder in a store.

    Raises:
        BadConfig: it may not (separators, blanks, a leading dot, ...).
    """
    if not NAME.fullmatch(name):
        raise BadConfig(
            f"not a name for a {kind}",
            expected="letters, digits and . _ + -, the first a letter or digit",
            found=repr(name),
        )
    return name


def checksum(arrays: Arrays) -> str:
    """BLAKE2b over names, shapes, types and values of a unit's arrays; strings count as UTF-8."""
    total = hashlib.blake2b(digest_size=16)
    for name in sorted(arrays):
        array = arrays[name]
        text = array.dtype.kind in "UTO"
        kind = "string" if text else array.dtype.newbyteorder("<").str
        total.update(json.dumps([name, kind, list(array.shape)]).encode())
        if text:
            total.update(json.dumps([str(v) for v in array.ravel()]).encode())
        else:
            total.update(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).data)
    return f"blake2b:{total.hexdigest()}"


def fingerprint(config: Mapping[str, Any]) -> str:
    """Hash of a JSON-ready configuration; equal configurations have equal fingerprints."""
    text = json.dumps(config, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """The settings in which two configurations differ, as `key: old -> new`."""
    keys = sorted(k for k in {*old, *new} if old.get(k) != new.get(k))
    return ", ".join(f"{k}: {old.get(k)!r} -> {new.get(k)!r}" for k in keys)


def chunk_rows(dim: int, itemsize: int) -> int:
    """Rows per chunk of a feature array that is `dim` wide."""
    return max(1, CHUNK_BYTES // max(1, dim * itemsize))


def beside(store: Path, ending: str) -> Path:
    """The file beside the store at `store` that is called like it, with another ending."""
    folder = store.resolve()  # the store may be given as "."
    return folder.with_name(folder.name + ending)
