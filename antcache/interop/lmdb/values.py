"""Whether the values of an LMDB are rows of little-endian float32, as far as that can be told.

Promise: bytes that are something else are refused with what they are: a pickle, an array file or a
tensor with a header by how they begin; float16, float64 and other byte orders by figures that no
features have. Real features pass, whatever their scale, and so does what may be either; a few rows
tell too little to judge.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from antcache.errors import BadConfig

SAMPLE_ROWS = 64
"""Rows that are looked at."""
VIDEO_ROWS = 8
"""Rows of each video that are looked at, from its first to its last."""
SAMPLE_BYTES = 1 << 20
"""Longest value that is looked at; a row of features has a hundredth."""

FEWEST = 64
"""Numbers from which on a judgement is made."""

WHOLE = 2.0**21
"""Whole numbers below have zeros in the low half of float64; most above have not."""
DIFFERENT = 16
"""Different numbers from which on float64 is told from float32 with zeros."""

HUGE, TINY = 2.0**60, float(np.finfo(np.float32).tiny)
"""Numbers above or below are rarely features, but often the wrong half of something."""
MOST_HUGE, MOST_TINY = 0.1, 0.9
"""Shares of such numbers that are too many. Of random bits 0.27 are huge; whole numbers are all
tiny; the outputs of a softmax may be so, too, but not all of them."""

ALIKE = 0.25
"""How far two distributions of exponents may be apart (total variation); a random one and that of
features are 0.8 apart."""

BEGINNINGS = {
    b"\x93NUMPY": "an .npy file",
    b"PK\x03\x04": "a zip (.npz, or a torch file)",
    b"\x1f\x8b": "gzip",
    b"\xff\xd8\xff": "a JPEG picture",
    b"\x89PNG": "a PNG picture",
}
TORCH = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
"""How files of torch.save began before they were zips."""
MSGPACK = re.compile(rb"[\x80-\x8f](\xc4\x02|\xa2)nd")
"""How msgpack-numpy writes an array: a map whose first key is `nd`."""
ARROW = b"\xff" * 4
"""How a message of Arrow begins; the length of its header follows."""
PICKLES = tuple(bytes((0x80, protocol)) for protocol in range(2, 6))
OTHERS = {">f4": "big-endian float32", "<f8": "float64", ">f8": "big-endian float64"}
"""Types that are tried where values are no float32, and what they are called."""


def require_float32(path: Path, values: Mapping[bytes, bytes]) -> None:
    """Raise `BadConfig` if values of the LMDB at `path`, by key, are something else than rows."""
    found = _kind(list(values.values())) if values else ""
    if found:
        first = next(iter(values))
        raise BadConfig(
            f"the value of {first.decode(errors='backslashreplace')} is no row of float32",
            where=path,
            expected="raw little-endian float32",
            found=found,
            hint="write row.astype('<f4').tobytes() for each key into a new LMDB",
        )


def _kind(values: Sequence[bytes]) -> str:
    """What values are if they are not rows of float32; empty if they may well be."""
    first = values[0]
    for beginning, kind in BEGINNINGS.items():
        if first.startswith(beginning):
            return kind
    if all(value.startswith(TORCH) for value in values):
        return "a file of torch.save"
    if all(MSGPACK.match(value) for value in values):
        return "an array of msgpack-numpy"
    if all(_is_arrow(value) for value in values):
        return "a message of Arrow"
    if all(value[:2] in PICKLES and value[-1:] == b"." for value in values):
        return "a pickle"
    data = b"".join(v for v in values if len(v) == len(first))
    if len(first) % 4 == 0 and _strange(data, "<f4"):
        for kind, name in OTHERS.items():
            if len(first) % np.dtype(kind).itemsize == 0 and not _strange(data, kind):
                return name
        return "something else: numbers that no features have"
    if len(first) % 8 == 0 and _every_other_is_zero(data):
        return "float64"
    return "float16" if len(first) % 2 == 0 and _halves_alike(data) else ""


def _is_arrow(value: bytes) -> bool:
    """Whether a value is a message of Arrow: a header that is not empty and lies in it."""
    return value[:4] == ARROW and 0 < int.from_bytes(value[4:8], "little", signed=True) < len(value)


def _strange(data: bytes, kind: str) -> bool:
    """Whether `data` is of another type, for as `kind` it has numbers that no features have."""
    numbers = np.abs(np.frombuffer(data, kind))
    numbers = numbers[np.isfinite(numbers) & (numbers > 0)]
    if len(numbers) < FEWEST:
        return False
    return bool((numbers > HUGE).mean() > MOST_HUGE or (numbers < TINY).mean() > MOST_TINY)


def _every_other_is_zero(data: bytes) -> bool:
    """Whether the low halves of what may be float64 are zeros: it was float16 once, or whole.

    Half of the columns of float32 may be zeros, too. The others are then no such numbers if they
    are read as float64, unless they are few different ones, which may be either and pass.
    """
    words = np.frombuffer(data, "<u4")
    low, high = (int(np.count_nonzero(words[start::2])) for start in (0, 1))
    if low or high < FEWEST:
        return False
    numbers = np.unique(np.frombuffer(data, "<f8"))
    with np.errstate(over="ignore", invalid="ignore"):
        half, whole = numbers.astype("<f2"), np.round(numbers)
    exact = (half == numbers).all() or ((whole == numbers) & (np.abs(numbers) < WHOLE)).all()
    return len(numbers) >= DIFFERENT and bool(np.isfinite(numbers).all() and exact)


def _halves_alike(data: bytes) -> bool:
    """Whether the low halves of what would be float32 are numbers like the high ones.

    Those of float32 are random, or zeros where the values were float16 once.
    """
    halves: NDArray[np.uint16] = np.frombuffer(data[: len(data) // 4 * 4], "<u2")
    counts = [_exponents(halves[start::2]) for start in (0, 1)]
    few = len(np.unique(halves)) < FEWEST  # constants are alike by chance
    if few or min(counts[0].sum(), counts[1].sum()) < FEWEST:
        return False
    low, high = (count / count.sum() for count in counts)
    return bool(np.abs(low - high).sum() / 2 < ALIKE)


def _exponents(halves: NDArray[np.uint16]) -> NDArray[np.int64]:
    """How often each exponent of float16 stands in `halves`, zeros left out."""
    exponents = (halves[halves & 0x7FFF != 0] >> 10) & 31
    return np.bincount(exponents, minlength=32)
