"""Files of arrays in a folder: which video each is of, and the rows and times in one.

Promise: nothing is left out in silence, and a file that can't be taken fails alone, in one line:
two that would be one video, a name that none can have, and what is no array of real, finite numbers
in the stated width. Nothing in a file is run, and no size is believed before the bytes are there.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antcache.errors import AntcacheError, BadConfig, NotFound, UnreadableArray
from antcache.interop.array_files.config import ArraysImportConfig, Layout
from antcache.interop.arrays.mat import read_mat
from antcache.interop.arrays.npz import read_npy, read_npz
from antcache.interop.arrays.pickled_tensors import read_pickle
from antcache.interop.naming import called, note_of
from antcache.store.features import SEES_AHEAD
from antcache.text import listed
from antcache.untrusted import check_fetched

FORMS = ("npy", "npz", "pt", "mat")
"""Forms of files, which are their endings."""
FEATURES, TIMES, AHEAD = "features", "times", SEES_AHEAD
"""Names of the arrays in a file that is written here."""
COMPANION = f".{TIMES}.npy"
"""Ending of the file that holds the times of a `.npy`, which has room for one array."""
BLOCK_BYTES = 8 << 20
"""Of rows that are checked at once."""


@dataclass(frozen=True, kw_only=True)
class ArrayFiles:
    """The files of a folder.

    Attributes:
        folder: where they lie.
        videos: file by video, in the order of videos.
        refused: what can't be a video, by its path; name and reason.
        note: which videos are not called as their files, in one line; empty if none.
        passed_over: what else lies there, in one line; empty if nothing.
    """

    folder: Path
    videos: dict[str, Path]
    refused: dict[Path, tuple[str, AntcacheError]] = field(default_factory=dict)
    note: str = ""
    passed_over: str = ""

    @property
    def name(self) -> str:
        """Name of the folder, without those above it."""
        return Path(os.path.realpath(self.folder)).name


def find_arrays(folder: Path, stored: Collection[str] = ()) -> ArrayFiles:
    """The files of arrays in a folder and those below it, by the videos that they are called after.

    Args:
        folder: links to other folders in it are not followed.
        stored: names that the stream has, which are taken as they are.

    Raises:
        NotFound: there is no folder, or no such file in it.
    """
    if not folder.is_dir():
        raise NotFound("no such folder", where=folder, expected=f"files of {_endings()}")
    found: dict[str, list[Path]] = {}
    refused: dict[Path, tuple[str, AntcacheError]] = {}
    written: dict[str, str] = {}
    others: Counter[str] = Counter()
    for path in _walk(folder, others):
        stem = path.name.removesuffix(path.suffix)
        try:
            video = called(stem, stored)
        except BadConfig as error:
            refused[path] = (stem, BadConfig(f"{error.message}; rename it", where=path))
            continue
        found.setdefault(video, []).append(path)
        if stem != video:
            written[video] = stem
    for video, paths in found.items():
        for path in paths if len(paths) > 1 else ():
            wrong = BadConfig(
                f"{len(paths)} files would be the video {video!r}",
                where=path,
                found=listed([str(each.relative_to(folder)) for each in paths]),
                hint="names must differ without folders and endings: rename one",
            )
            refused[path] = (video, wrong)
    videos = {video: paths[0] for video, paths in sorted(found.items()) if len(paths) == 1}
    if not videos and not refused:
        raise NotFound(
            "no arrays here",
            where=folder,
            expected=f"files of {_endings()}",
            found=_line(others),
        )
    return ArrayFiles(
        folder=folder,
        videos=videos,
        refused=refused,
        note=note_of({v: s for v, s in written.items() if v in videos}, len(videos)),
        passed_over=f"{folder}: passed over {_line(others)}" if others else "",
    )


def _endings() -> str:
    return ", ".join(f".{form}" for form in FORMS)


def _walk(folder: Path, others: Counter[str]) -> list[Path]:
    """Files of arrays in a folder and those below it, by path; what else is there is counted."""
    found: list[Path] = []

    def unreadable(error: OSError) -> None:
        others[f"unreadable folder ({error.strerror})"] += 1

    for at, inside, names in os.walk(folder, onerror=unreadable):
        links = [name for name in inside if Path(at, name).is_symlink()]
        hidden = [name for name in (*inside, *names) if name.startswith(".")]
        others.update({"links to folders": len(links), "hidden": len(hidden)})
        inside[:] = [name for name in inside if name not in hidden]
        there = set(names)
        for name in sorted(there.difference(hidden)):
            path = Path(at, name)
            if name.endswith(COMPANION) and name.removesuffix(COMPANION) + ".npy" in there:
                continue  # read with the file that it belongs to
            if path.suffix.lower().removeprefix(".") in FORMS:
                found.append(path)
            else:
                others[path.suffix.lower() or "no ending"] += 1
    others += Counter()  # forgets what was counted as none
    return sorted(found)


def _line(others: Counter[str]) -> str:
    kinds = sorted(others.items(), key=lambda item: (-item[1], item[0]))
    return listed([f"{count} {kind}" for kind, count in kinds])


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
    form = path.suffix.lower().removeprefix(".")
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
