"""LMDBs with a row for each frame, and what brings them in."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from antcache.cli.main import cli
from antcache.interop.lmdb.importing import LmdbImportConfig, import_lmdb, plan_lmdb
from antcache.store import Store

lmdb = pytest.importorskip("lmdb")

DIM = 5
RNG = np.random.default_rng(0)
DENSE = np.arange(1, 301)
FOUR_FPS = np.floor(np.arange(80) * 7.5).astype(int) + 31  # 7 and 8 frames in turn, from 31 on
SPARSE = DENSE[(DENSE - 1) % 6 != 5]  # 25 of 30
HOLED = SPARSE[(SPARSE < 100) | (SPARSE > 160)]

Values = dict[bytes, bytes]


def values_of(videos: dict[str, Iterable[int]], dim: int = DIM) -> Values:
    """Random rows, with one that no arithmetic would reproduce."""
    values = {
        f"{video}_frame_{n:010d}.jpg".encode(): RNG.normal(size=dim).astype("<f4").tobytes()
        for video, frames in videos.items()
        for n in frames
    }
    values[min(values)] = np.array([-0.0, 1e-45, 3.4e38, 1.0, 0.1] * dim, "<f4")[:dim].tobytes()
    return values


def write(path: Path, values: Values, *, subdir: bool = True) -> Path:
    """A new LMDB."""
    with (
        lmdb.open(str(path), map_size=1 << 24, subdir=subdir) as env,
        env.begin(write=True) as transaction,
    ):
        for key, value in values.items():
            transaction.put(key, value)
    return path


def read(path: Path) -> Values:
    with lmdb.open(str(path), readonly=True, lock=False) as env, env.begin() as transaction:
        return dict(transaction.cursor())


def bring(store: Store, *, progress: Any = None, config: Any = None, **sources: Path) -> list[Any]:
    plans = plan_lmdb(sources, store, LmdbImportConfig(**(config or {})))
    return import_lmdb(plans, store, *([progress] if progress else []))


def run(*args: object) -> Result:
    return CliRunner().invoke(cli, [str(a) for a in args])
