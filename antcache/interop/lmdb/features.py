"""LMDBs of per-frame features, as RULSTM and AVT publish them: their keys and rows.

Promise: an LMDB is only read, and never locked or copied; every key is accounted for, and one of
another form is an error. Keys are `{video}_frame_{n:010d}.jpg` with n from 1, frame n was seen at
n / 30 s, and values are little-endian float32 (fpv-iplab/rulstm, facebookresearch/AVT).
"""

from __future__ import annotations

import itertools
import math
import os
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antcache.errors import BadConfig, NotFound
from antcache.interop.lmdb.pages import DATA_FILE, LmdbPages, open_lmdb
from antcache.interop.lmdb.values import SAMPLE_BYTES, SAMPLE_ROWS, VIDEO_ROWS, require_float32
from antcache.interop.naming import called, note_of
from antcache.progress import Progress, silent

KEY = "{video}_frame_{n:010d}.jpg"
"""Form of a key."""

VALUE_BYTES = 4
"""Bytes of one float32."""

BLOCK_ROWS = 256
"""Rows that are looked at together."""

_KEY = re.compile(rb"(.+)_frame_(\d{10})\.jpg", re.DOTALL)
_REPORT_EVERY = 1 << 16

Spacings = Counter[int]
"""How often rows lie how many frames apart."""


@dataclass(frozen=True, kw_only=True)
class LmdbKeys:
    """What the keys of an LMDB say.

    Attributes:
        path: the LMDB.
        frames: (R,) int64 ascending frame numbers, by video, in the order of the keys.
        dim: width D of the first value.
        spacings: how often frames of a video lie how far apart.
        written: how the keys call videos that are called otherwise here, by video.
    """

    path: Path
    frames: Mapping[str, NDArray[np.int64]]
    dim: int
    spacings: Spacings
    written: Mapping[str, str] = field(default_factory=dict)

    @property
    def note(self) -> str:
        """Which videos have other names than in the keys, in one line; empty if none has."""
        return note_of(self.written, len(self.frames))

    def key(self, video: str, frame: int) -> bytes:
        """The key of a frame of a video."""
        return key_of(self.written.get(video, video), frame)

    @property
    def name(self) -> str:
        """Name of the LMDB's folder or file, without the folders above it."""
        path = Path(os.path.realpath(self.path))
        return path.parent.name if path.name == DATA_FILE else path.name

    @property
    def num_rows(self) -> int:
        """Number of keys."""
        return sum(map(len, self.frames.values()))

    @property
    def nominal(self) -> float:
        """Nominal number of frames from one row to the next.

        The commonest spacing; halfway to the next commonest where rows alternate between two
        neighbours (7 and 8 frames: 4 rows per second of 30 frames).
        """
        common = self.spacings.most_common()
        if not common:
            return 1.0
        best, most = min(common, key=lambda item: (-item[1], item[0]))
        near = {d: self.spacings.get(d, 0) for d in (best - 1, best + 1)}
        other = max(near, key=lambda d: near[d])
        return (best + other) / 2 if 2 * near[other] >= most else float(best)

    @property
    def step(self) -> int:
        """Regular step in frames: 95 % of all spacings are no wider. A wider one is a gap.

        It is at most two nominal ones: features of single segments have gaps between these that
        may be more than 5 %.
        """
        total, seen, widest = sum(self.spacings.values()), 0, 1
        for widest in sorted(self.spacings):
            seen += self.spacings[widest]
            if seen >= 0.95 * total:
                break
        return min(max(widest, math.ceil(self.nominal)), int(2 * self.nominal))


def key_of(video: str, frame: int) -> bytes:
    """Key of a frame of a video."""
    return KEY.format(video=video, n=frame).encode()


def scan(
    path: Path, progress: Progress = silent, label: str = "keys", stored: Collection[str] = ()
) -> LmdbKeys:
    """Read the keys of the LMDB at `path`, and the length of its first value.

    Videos are called as `antcache extract` would call them, unless `stored` has them as they are.

    Raises:
        NotFound: there is no LMDB, or nothing is in it.
        BadConfig: it is something else, or a key has another form.
    """
    frames: dict[str, NDArray[np.int64]] = {}
    spacings: Spacings = Counter()
    written: dict[str, str] = {}
    with open_lmdb(path) as lmdb:
        first = next(lmdb.nodes(), None)
        if first is None:
            raise NotFound("the LMDB is empty", where=path, expected=f"keys {KEY}")
        require_float32(path, _sample(lmdb))
        dim = _width(path, first.key, first.size)
        for key, numbers in _by_video(path, lmdb, progress, label):
            video = _name(path, key, stored)
            if video in frames and written.get(video, video) != key:
                raise BadConfig(
                    f"two videos would be called {video!r}",
                    where=path,
                    found=f"{written.get(video, video)} and {key}",
                    hint="names must differ without folders and endings: write one with another",
                )
            if video in frames:
                raise BadConfig(f"keys of {video!r} do not lie side by side", where=path)
            steps, counts = np.unique(np.diff(numbers), return_counts=True)
            if len(steps) and steps[0] <= 0:
                raise BadConfig(f"keys of {video!r} are not in the order of frames", where=path)
            spacings.update(dict(zip(steps.tolist(), counts.tolist(), strict=True)))
            frames[video] = numbers
            if key != video:
                written[video] = key
        keys = LmdbKeys(path=path, frames=frames, dim=dim, spacings=spacings, written=written)
        for video in frames:
            require_float32(path, _sample_video(lmdb, keys, video))
    return keys


def _sample(lmdb: LmdbPages) -> dict[bytes, bytes]:
    """Some values by their keys, from all over the LMDB if it is a small one."""
    step = max(1, min(SAMPLE_ROWS, lmdb.num_keys // SAMPLE_ROWS))
    nodes = itertools.islice(lmdb.nodes(), 0, step * SAMPLE_ROWS, step)
    return {
        node.key: bytes(lmdb.value(node))
        for node in nodes
        if _KEY.fullmatch(node.key) and node.size <= SAMPLE_BYTES
    }


def _sample_video(lmdb: LmdbPages, keys: LmdbKeys, video: str) -> dict[bytes, bytes]:
    """Some values of a video by their keys, from its first to its last."""
    numbers = keys.frames[video]
    places = np.unique(np.linspace(0, len(numbers) - 1, VIDEO_ROWS).astype(int))
    nodes = (next(lmdb.nodes(keys.key(video, int(numbers[i])))) for i in places)
    return {node.key: bytes(lmdb.value(node)) for node in nodes if node.size <= SAMPLE_BYTES}


def _by_video(
    path: Path, lmdb: LmdbPages, progress: Progress, label: str
) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """Each run of keys of one video, with its frame numbers."""
    prefix = b""
    numbers: list[int] = []
    for done, node in enumerate(lmdb.nodes()):
        match = _KEY.fullmatch(node.key)
        if match is None or match[2] == b"0000000000" or not _is_text(match[1]):
            raise BadConfig(
                "a key of another form",
                where=path,
                expected=f"{KEY} with n from 1",
                found=_shown(node.key),
            )
        if match[1] != prefix:
            if numbers:
                yield prefix.decode(), np.array(numbers, dtype=np.int64)
            prefix, numbers = match[1], []
        numbers.append(int(match[2]))
        if done % _REPORT_EVERY == 0:
            progress(label, done, lmdb.num_keys)
    progress(label, lmdb.num_keys, lmdb.num_keys)
    yield prefix.decode(), np.array(numbers, dtype=np.int64)


def _shown(key: bytes) -> str:
    return key.decode(errors="backslashreplace")


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _name(path: Path, text: str, stored: Collection[str]) -> str:
    try:
        return called(text, stored)
    except BadConfig as error:
        raise BadConfig(error.message, where=path) from error


def _width(path: Path, key: bytes, num_bytes: int) -> int:
    """Width of a value of `num_bytes`."""
    if num_bytes % VALUE_BYTES or not num_bytes:
        raise BadConfig(
            f"the value of {_shown(key)} is no row of float32",
            where=path,
            expected=f"a multiple of {VALUE_BYTES} bytes",
            found=num_bytes,
        )
    return num_bytes // VALUE_BYTES


def read_rows(
    lmdb: LmdbPages, keys: LmdbKeys, video: str, dtype: str
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Rows (R, D) of a video as `dtype`, and which of them (R,) hold a value that is not finite.

    Raises:
        BadConfig: a value has another width, or does not fit `dtype`; or the LMDB has changed.
    """
    frames = keys.frames[video]
    rows = np.empty((len(frames), keys.dim), dtype)
    wild = np.empty(len(frames), np.bool_)
    nodes = lmdb.nodes(keys.key(video, int(frames[0])))
    block = np.empty((BLOCK_ROWS, keys.dim), np.float32)
    for low in range(0, len(frames), len(block)):
        part = frames[low : low + len(block)]
        for i, frame in enumerate(part.tolist()):
            node = next(nodes, None)
            if node is None or node.key != keys.key(video, frame):
                raise BadConfig(f"{video}: the LMDB was changed meanwhile", where=keys.path)
            if node.size != keys.dim * VALUE_BYTES:
                raise BadConfig(
                    f"the row of {_shown(node.key)} has another width than the first",
                    where=keys.path,
                    expected=keys.dim,
                    found=_width(keys.path, node.key, node.size),
                )
            block[i] = np.frombuffer(lmdb.value(node), "<f4")
        here = block[: len(part)]
        finite = np.isfinite(here)
        wild[low : low + len(part)] = ~finite.all(axis=1)
        with np.errstate(over="ignore"):  # looked for in the next line
            rows[low : low + len(part)] = here
        if dtype == "float16" and (np.isinf(rows[low : low + len(part)]) & finite).any():
            raise BadConfig(
                f"{video}: values that float16 can't hold",
                where=keys.path,
                found=f"up to {np.abs(here[finite]).max():.6g}",
                hint="--dtype float32",
            )
    return rows, wild
