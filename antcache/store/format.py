"""The format: the names, kinds and checksums that every store keeps to.

Promise: this file (with `antcache/text.py` for videos) and `docs/format.md` say the same. A store
is a tree of *units*. A unit is a few named arrays with attributes, published as one whole or not at
all:

    labels/<split>              uid, video, start_s, stop_s, verb, noun, action
    features/<stream>/<video>   rows (rows, dim), and times (rows,) where the rate varies;
                                of tokens, rows (rows, tokens, dim), and scale (rows, tokens)
                                where they are int8
    targets/<teacher>           uid, valid, logits, or uid, valid, index, logit, tail

Everything above a unit is a *group*, which has attributes only. The taxonomy is an attribute of the
group `labels`, because all splits share it.

Streams of tokens make a store one of format 2, which is format 1 in everything else; the first
index of a stream at a URL makes it one of format 3, which is format 2 in everything else.
"""

from __future__ import annotations

import hashlib
import json
import math
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from antcache.errors import BadConfig
from antcache.text import NAMES, VIDEO_NAMES, is_name, is_video_name

FORMAT, TOKEN_FORMAT, INDEX_FORMAT = 1, 2, 3
"""What a store says it is until it gets a stream of tokens, from then on, and from its first index
on, of which those who write to it have to know."""

FORMATS = (FORMAT, TOKEN_FORMAT, INDEX_FORMAT)
MARK = "antcache"
"""Attribute of the root that makes a folder a store: {"format": 1, ...}."""

STAGING = ".staging"
"""Folder in the root for what is being written; nothing in it is part of the store."""

CHECKSUMS = "checksums"
"""Attribute of every unit: the checksum of each of its arrays."""

CONVERTED_FROM = "converted_from"
"""Attribute of a video whose values were changed by a conversion: type and checksums of what it was
made from. In the config of a stream of tokens: fingerprint, type and grid."""

CHUNK_BYTES = 4 << 20
"""Longest chunk of an array; `docs/format.md` says from which measurements."""

TEXT_BYTES = 16 << 20
"""Longest file that is read whole before anything is known about it: `zarr.json` and the like. The
classes of a large dataset take a fortieth."""

GROUPS = ("labels", "features", "targets")

Arrays = Mapping[str, NDArray[Any]]


class LazyArray(Protocol):
    """An array in the store: known shape and type, read where it is sliced (slices only)."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the whole array."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of its values."""

    def __getitem__(self, index: Any) -> Any: ...


def video_name(text: str) -> str:
    """The name of a video in the form in which stores have it.

    Raises:
        BadConfig: it can't be one.
    """
    return check_name(unicodedata.normalize("NFC", text), "video")


def check_name(name: str, kind: str) -> str:
    """`name` if a `kind` may be called so in a store.

    Raises:
        BadConfig: it may not (separators, a leading dot, ...).
    """
    if not (is_video_name(name) if kind == "video" else is_name(name)):
        raise BadConfig(
            f"not a name for a {kind}",
            expected=VIDEO_NAMES if kind == "video" else NAMES,
            found=repr(name),
        )
    return name


def may_lie_in(group: str, name: str) -> bool:
    """Whether a unit or group of the group `group` may be called `name`."""
    return is_video_name(name) if group.startswith("features/") else is_name(name)


def join(*parts: str) -> str:
    """Parts of a key or of a file's name, one in another; the root is `""`."""
    return "/".join(filter(None, parts))


def is_key(text: str) -> bool:
    """Whether `text` is the key of a unit."""
    parts = text.split("/")
    depth = 3 if parts[0] == "features" else 2
    if parts[0] not in GROUPS or len(parts) != depth or not is_name(parts[1]):
        return False
    return depth == 2 or is_video_name(parts[2])


def is_group(key: str) -> bool:
    """Whether `key` is that of a group, `""` being the root."""
    return key in ("", *GROUPS) or (key.startswith("features/") and key.count("/") == 1)


def digest(*parts: bytes | memoryview) -> str:
    """BLAKE2b (16 bytes, as hex) over the parts, one after another."""
    total = hashlib.blake2b(digest_size=16)
    for part in parts:
        total.update(part)
    return total.hexdigest()


def checksums(arrays: Arrays) -> dict[str, str]:
    """Checksum of each array: over type, shape and values, however they are stored."""
    return {name: checksum(array) for name, array in sorted(arrays.items())}


def checksum(array: Any) -> str:
    """`blake2b:` and the digest of the JSON `[type, shape]` and the little-endian values.

    The array may be one that is read where it is sliced; a few megabytes are held at once.
    """
    total = hashlib.blake2b(_type_and_shape(array), digest_size=16)
    for values in _values(array):
        total.update(values.data)
    return f"blake2b:{total.hexdigest()}"


def same_values(one: Any, other: Any) -> bool:
    """Whether two arrays have one checksum, found by comparing what it would be taken over."""
    return _type_and_shape(one) == _type_and_shape(other) and all(
        np.array_equal(*both) for both in zip(_values(one), _values(other), strict=True)
    )


def is_text(array: Any) -> bool:
    """Whether an array holds text."""
    return bool(array.dtype.kind in "UTO")


def _type_and_shape(array: Any) -> bytes:
    kind = "string" if is_text(array) else array.dtype.newbyteorder("<").str
    return json.dumps([kind, list(array.shape)]).encode()


def _values(array: Any) -> Iterator[NDArray[np.uint8]]:
    """Values of an array as bytes, a few megabytes at a time."""
    if is_text(array):  # text counts as the JSON list of its strings
        text = json.dumps([str(v) for v in array[...].ravel()])
        yield np.frombuffer(text.encode(), np.uint8)
        return
    kind = array.dtype.newbyteorder("<")
    size = max(1, CHUNK_BYTES // max(1, math.prod(array.shape[1:]) * kind.itemsize))
    for start in range(0, array.shape[0], size):
        part = np.ascontiguousarray(array[start : start + size], dtype=kind)
        yield part.reshape(-1).view(np.uint8)


def fingerprint(config: Mapping[str, Any]) -> str:
    """Hash of a JSON-ready configuration; equal configurations have equal fingerprints."""
    return digest(json.dumps(config, sort_keys=True).encode())


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """The settings in which two configurations differ, as `key: old -> new`.

    They are compared as a store keeps them, and as `fingerprint` does: a tuple is a list.
    """
    then, now = (
        {k: json.dumps(v, sort_keys=True, default=str) for k, v in each.items()}
        for each in (old, new)
    )
    pairs = {k: (then.get(k, "null"), now.get(k, "null")) for k in sorted({*then, *now})}
    return ", ".join(
        f"{k}: {json.loads(one)!r} -> {json.loads(other)!r}"
        for k, (one, other) in pairs.items()
        if one != other
    )


def chunk_rows(num_rows: int, row_bytes: int) -> int:
    """Rows per chunk of an array: as few chunks as `CHUNK_BYTES` allows, equally long."""
    longest = max(1, CHUNK_BYTES // max(1, row_bytes))
    num_chunks = max(1, math.ceil(num_rows / longest))
    return max(1, math.ceil(num_rows / num_chunks))
