"""Folders of arrays, one file a video, and what brings them in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
import torch
from click.testing import CliRunner, Result

from antcache.cli.main import cli
from antcache.interop.array_files.config import ArraysImportConfig
from antcache.interop.array_files.importing import ArraysReport, import_arrays, plan_arrays
from antcache.store import Store

DIM = 5
RNG = np.random.default_rng(0)
ODD = np.array([-0.0, 1e-45, 3.4e38, 1.0, 0.1], np.float32)
"""Values that no arithmetic would reproduce."""


def rows_of(count: int, dtype: Any = np.float32) -> Any:
    rows = RNG.normal(size=(count, DIM)).astype(dtype)
    if dtype is np.float32:
        rows[0] = ODD
    return rows


def save(path: Path, array: Any, name: str = "features", **more: Any) -> Path:
    """A file of the form that its ending says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {name: array, **more}
    match path.suffix:
        case ".npy":
            np.save(path, array)
        case ".npz":
            np.savez(path, **arrays)
        case ".pt":
            torch.save({k: torch.from_numpy(np.array(v)) for k, v in arrays.items()}, path)
        case ".mat":
            scipy.io.savemat(path, arrays)
    return path


def bring(store: Store, folder: Path, **settings: Any) -> ArraysReport:
    settings = {"dim": DIM, "fps": 4.0, **settings}
    return import_arrays(plan_arrays(folder, store, ArraysImportConfig(**settings)), store)


def run(*args: object) -> Result:
    return CliRunner().invoke(cli, [str(a) for a in args])


def bits(array: Any) -> bytes:
    return bytes(np.ascontiguousarray(array).tobytes())
