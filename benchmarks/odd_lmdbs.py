"""LMDBs of features as others make them, and the stream that each must become, or why it is none.

Promise: see `odd_case.py`. A case is right if every row is in the store with its values and at its
time; or if it is refused in one line that says what the values or keys are, and nothing is stored.
"""

from __future__ import annotations

import io
import pickle
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
from forked import Outcome
from numpy.typing import NDArray
from odd_case import OddCase

from antcache.store import Store

STORE = "s.zarr"
IMPORT = ("import", "lmdb", STORE, "rgb=features")
DIM, KEYS_PER_S = 16, 30
DENSE = tuple(range(1, 81))
FOUR_PER_S = tuple(int(7.5 * number) + 1 for number in range(80))
HOLED = tuple(frame for frame in FOUR_PER_S if not 100 < frame < 300)
VIDEOS = ("P01_01", "P01_02")

Rows = Mapping[str, NDArray[np.float32]]
Encode = Callable[[NDArray[np.float32]], bytes]


def rows_of(frames: Sequence[int]) -> dict[str, NDArray[np.float32]]:
    """Rows (R, D) of each video."""
    rng = np.random.default_rng(0)
    return {v: rng.standard_normal((len(frames), DIM)).astype("<f4") for v in VIDEOS}


def raw(kind: str) -> Encode:
    """Rows as bytes of a type."""
    return lambda row: row.astype(kind).tobytes()


FLOAT32 = raw("<f4")


def npy(row: NDArray[np.float32]) -> bytes:
    """Rows as `.npy` files."""
    file = io.BytesIO()
    np.save(file, row)
    return file.getvalue()


def write(
    folder: Path,
    frames: Sequence[int],
    *,
    encode: Encode = FLOAT32,
    extra: Mapping[bytes, bytes] | None = None,
    database: bytes | None = None,
    one_file: bool = False,
) -> None:
    """The LMDB `features` in a folder, with keys as RULSTM has them."""
    path = str(folder / "features")
    with lmdb.open(path, map_size=1 << 24, max_dbs=2, subdir=not one_file, lock=False) as env:
        named = env.open_db(database) if database else None
        with env.begin(write=True, db=named) as transaction:
            for video, rows in rows_of(frames).items():
                for frame, row in zip(frames, rows, strict=True):
                    transaction.put(f"{video}_frame_{frame:010d}.jpg".encode(), encode(row))
            for key, value in (extra or {}).items():
                transaction.put(key, value)


def _wrong_rows(folder: Path, frames: Sequence[int]) -> str:
    store = Store.open(folder / STORE)
    if store.videos("rgb") != sorted(VIDEOS):
        return f"videos {store.videos('rgb')}"
    for video, rows in rows_of(frames).items():
        features = store.features("rgb", video)
        if not np.array_equal(features.read(), rows):
            return f"{video}: other rows"
        if np.abs(features.seconds - np.array(frames) / KEYS_PER_S).max() > 1 / 60:
            return f"{video}: other times"
    return ""


def right(name: str, frames: Sequence[int], **options: Any) -> OddCase:
    """An LMDB that becomes a stream."""

    def make(folder: Path) -> list[list[str]]:
        write(folder, frames, **options)
        return [list(IMPORT)]

    def wrong(folder: Path, outcomes: Sequence[Outcome]) -> str:
        if outcomes[0].code != 0:
            return f"exit code {outcomes[0].code}: {outcomes[0].stderr}"
        return _wrong_rows(folder, frames)

    return OddCase(name=name, kind="lmdb", make=make, wrong=wrong)


def refused(name: str, says: str, **options: Any) -> OddCase:
    """An LMDB that is refused in one line."""

    def make(folder: Path) -> list[list[str]]:
        write(folder, DENSE, **options)
        return [list(IMPORT)]

    def wrong(folder: Path, outcomes: Sequence[Outcome]) -> str:
        return _wrong_end(outcomes[0], says) or (
            "a store was made" if (folder / STORE).exists() else ""
        )

    return OddCase(name=name, kind="lmdb", make=make, wrong=wrong)


def _wrong_end(outcome: Outcome, says: str) -> str:
    """What is wrong with how a refusal was said."""
    if outcome.traceback or outcome.hung or outcome.code != 2:
        return f"exit code {outcome.code}, not 2: {outcome.stderr[-500:]}"
    lines = outcome.remarks
    return "" if len(lines) == 1 and re.search(says, lines[0]) else f"said {lines}, not {says!r}"


def _filled(folder: Path) -> list[list[str]]:
    """A rule for gaps, set later, for a stream that was imported as float16."""
    write(folder, HOLED)
    rule = ["--fill", "previous:0.3s"]
    kind = ["--dtype", "float16"]
    return [[*IMPORT, *kind], [*IMPORT, *rule], [*IMPORT, *rule, *kind]]


def _wrong_rule(folder: Path, outcomes: Sequence[Outcome]) -> str:
    first, second, third = outcomes
    if (first.code, third.code) != (0, 0):
        return f"exit codes {first.code}, {third.code}: {first.stderr}{third.stderr}"
    found = Store.open(folder / STORE).stream("rgb").max_age_s
    return _wrong_end(second, r"dtype: .*--dtype float16") or ("" if found == 0.3 else f"{found} s")


CASES: tuple[OddCase, ...] = (
    right("dense keys", DENSE),
    right("four rows a second with a gap, in one file", HOLED, one_file=True),
    refused("float16", r"no row of float32.*found float16", encode=raw("<f2")),
    refused("float64", r"no row of float32.*found float64", encode=raw("<f8")),
    refused("big-endian", r"no row of float32.*found big-endian float32", encode=raw(">f4")),
    refused("pickles", r"no row of float32.*found a pickle", encode=pickle.dumps),
    refused("npy files", r"no row of float32.*found an \.npy file", encode=npy),
    refused(
        "a list of keys among them",
        r"a key of another form.*found __keys__",
        extra={b"__keys__": pickle.dumps(["a"]), b"__len__": b"160"},
    ),
    refused("in a database with a name", r"named databases.*main one", database=b"features"),
    OddCase(name="a rule for gaps, set later", kind="lmdb", make=_filled, wrong=_wrong_rule),
)
