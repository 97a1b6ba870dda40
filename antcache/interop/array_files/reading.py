"""The rows of one file of an array, and their times where it lists them.

Promise: what comes out is of the stated width, finite, and of the type that is stored; anything
else is refused in one line that names the file. Nothing in a file is run, and no size is believed
before the bytes are there.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antcache.errors import AntcacheError, UnreadableArray
from antcache.interop.array_files.config import ArraysImportConfig, Layout
from antcache.interop.array_files.forms import AHEAD, FEATURES, TIMES, form_of
from antcache.interop.arrays.mat import read_mat
from antcache.interop.arrays.npz import read_npy, read_npz
from antcache.interop.arrays.pickled_tensors import read_pickle
from antcache.text import listed
from antcache.untrusted import check_fetched

BLOCK_BYTES = 8 << 20
"""Of rows that are checked at once."""


@dataclass(frozen=True, kw_only=True)
class FileRows:
    """The rows of one file.

    Attributes:
        rows: (R, D) float16 or float32.
        times: (R,) float64 ascending seconds where the file lists them.
        layout: how they lie in the file.
        dtype: their type in the file.
    """

    rows: NDArray[Any]
    times: NDArray[np.float64] | None
    layout: Layout
    dtype: str


def read_file(path: Path, config: ArraysImportConfig) -> FileRows:
    """The rows of a file, checked.

    Raises:
        UnreadableArray: it can't be read, or holds something else than was said.
    """
    try:
        check_fetched(path)
        if not path.is_file():
            raise ValueError("no regular file")
        arrays = _arrays(path, config)
    except AntcacheError as error:
        raise UnreadableArray(error.message) from error
    except OSError as error:
        where = error.filename or path
        raise UnreadableArray(
            "can't be read", where=where, found=error.strerror or error
        ) from error
    except ValueError as error:
        raise UnreadableArray("no array of features", where=path, found=error) from error
    array = arrays[FEATURES]
    layout = _layout(path, array, config)
    rows = array if layout == "rows-first" else array.T
    return FileRows(
        rows=_stored(path, rows, config.dtype),
        times=_times(path, arrays[TIMES], len(rows)) if TIMES in arrays else None,
        layout=layout,
        dtype=array.dtype.name,
    )


def _arrays(path: Path, config: ArraysImportConfig) -> dict[str, NDArray[Any]]:
    """The array of features of a file, and its times where they are wanted."""
    form = form_of(path.name)
    more = [TIMES] if config.time == "listed" else []
    if form in ("npz", "mat"):
        read = read_npz if form == "npz" else read_mat
        name = _chosen(read(path, ())[0], config.key)
        arrays: dict[Any, Any] = read(path, [name, *more])[1]
    else:
        arrays = _read_npy(path, more) if form == "npy" else _read_pt(path)
        name = _chosen(list(arrays), config.key)
    for each in (name, *more):
        if not isinstance(arrays.get(each), np.ndarray):
            raise ValueError(f"no array {each!r}")
    return {FEATURES: arrays[name], **{each: arrays[each] for each in more}}


def _read_npy(path: Path, more: list[str]) -> dict[Any, Any]:
    """The array of a `.npy`, and those in files beside it."""
    stem = path.name.removesuffix(path.suffix)
    beside = {name: read_npy(path.with_name(f"{stem}.{name}.npy")) for name in more}
    return {FEATURES: read_npy(path), **beside}


def _read_pt(path: Path) -> dict[Any, Any]:
    """The tensors of a file of `torch.save` by name; a single one is that of features."""
    value = read_pickle(path, hint="nothing of it was run; have tensors saved, and nothing else")
    if isinstance(value, np.ndarray):
        return {FEATURES: value}
    if not isinstance(value, dict):
        raise ValueError(f"a {type(value).__name__}, neither a tensor nor a dictionary of tensors")
    return value


def _chosen(names: list[Any], key: str | None) -> Any:
    """Which array of a file is that of features."""
    own = [name for name in names if name not in (TIMES, AHEAD)]
    if key is None:
        key = FEATURES if FEATURES in own or len(own) != 1 else own[0]
    if key in names:
        return key
    there = listed([str(name)[:80] for name in names]) or "none"
    raise ValueError(f"no array {key!r} among {there}; `key` names the one to take")


def _layout(path: Path, array: NDArray[Any], config: ArraysImportConfig) -> Layout:
    """How an array lies, as far as the width of its rows tells."""
    dim = config.dim
    shapes: dict[Layout, str] = {
        "rows-first": f"(rows, {dim})",
        "dim-first": f"({dim}, rows)",
    }
    asked = {name: text for name, text in shapes.items() if config.layout in (None, name)}
    at = {"rows-first": -1, "dim-first": 0}
    fitting = [name for name in asked if array.ndim == 2 and array.shape[at[name]] == dim]
    if len(fitting) == 1 and array.size:
        return fitting[0]
    raise UnreadableArray(
        "rows and widths can't be told apart" if len(fitting) > 1 else "an array of another shape",
        where=path,
        expected=" or ".join(asked.values()),
        found=array.shape,
        hint="say how arrays lie: `layout`" if len(fitting) > 1 else "",
    )


def _stored(path: Path, rows: NDArray[Any], dtype: str) -> NDArray[Any]:
    """Rows (R, D) as they are stored."""
    if rows.dtype.kind != "f" or rows.dtype.itemsize > 8:
        raise UnreadableArray(
            "an array of another type",
            where=path,
            expected="float16, float32 or float64",
            found=rows.dtype,
        )
    stored = np.empty(rows.shape, dtype)
    step = max(1, BLOCK_BYTES // (rows.itemsize * rows.shape[1]))
    for low in range(0, len(rows), step):
        block, kept = rows[low : low + step], stored[low : low + step]
        with np.errstate(over="ignore"):  # looked for below
            kept[:] = block
        wild = ~np.isfinite(kept).all(axis=1)
        if wild.any():
            first = int(wild.argmax())
            held = bool(np.isfinite(block[first]).all())
            raise UnreadableArray(
                f"values that {dtype} can't hold" if held else "values that are not finite",
                where=path,
                found=f"row {low + first}",
                hint="--dtype float32" if held and dtype == "float16" else "",
            )
    return stored


def _times(path: Path, times: NDArray[Any], num_rows: int) -> NDArray[np.float64]:
    """The times (R,) that a file lists; MATLAB's have a second axis."""
    flat = np.asarray(times).reshape(-1)
    if (
        flat.dtype.kind not in "iuf"
        or len(flat) != num_rows
        or max(times.shape, default=0) != len(flat)
    ):
        raise UnreadableArray(
            "times that are not those of its rows",
            where=path,
            expected=f"({num_rows},) numbers",
            found=f"{times.dtype} {times.shape}",
        )
    seconds = flat.astype(np.float64)
    if not np.isfinite(seconds).all() or (np.diff(seconds) <= 0).any():
        raise UnreadableArray("times that do not ascend", where=path)
    return seconds
