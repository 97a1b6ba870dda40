"""Exporting a stream as files of arrays, one per video, with the times of their rows.

Promise: values are those of the store; only MATLAB, which has no float16, gets them as float32,
widened exactly. `import arrays --time listed` brings the same rows and times back. The folder
appears under its name when it is whole, or not at all.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antcache.checks import one_of
from antcache.errors import AlreadyExists, BadConfig, MissingKey
from antcache.files import atomic_folder
from antcache.files.locks import exclusively, lock_beside
from antcache.interop.array_files.forms import AHEAD, COMPANION, FEATURES, FORMS, TIMES
from antcache.progress import Progress, silent
from antcache.store.store import Store

logger = logging.getLogger(__name__)

LAYOUTS = ("rows-first", "dim-first")

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class ArraysExportReport:
    """What an export wrote.

    Attributes:
        stream: name of the stream.
        output: the folder.
        form: of the files.
        videos: number of videos.
        rows: number of rows.
        dim: width of a row.
        fps: rows per second.
        sees_ahead_s: see `Stream.sees_ahead_s`.
        seconds: how long it took.
    """

    stream: str
    output: str
    form: str
    videos: int
    rows: int
    dim: int
    fps: float
    sees_ahead_s: float
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)

    @property
    def options(self) -> str:
        """Options with which `antcache import arrays` brings the same rows and times back."""
        times = f"--fps {self.fps!r} --time listed --sees-ahead {self.sees_ahead_s!r}"
        return f"--dim {self.dim} {times}"


def export_arrays(
    store: Store,
    stream: str,
    output: Path,
    *,
    form: str = "npy",
    layout: str = "rows-first",
    progress: Progress = silent,
) -> ArraysExportReport:
    """Write a stream as a new folder of files `VIDEO.npy`, `.npz`, `.pt` or `.mat`.

    Args:
        store: where it is read from.
        stream: its name.
        output: the folder, which must not exist.
        form: of the files. A `.npy` has the rows; times lie beside it in `VIDEO.times.npy`. The
            others have arrays `features`, `times` and `sees_ahead_s`.
        layout: `rows-first` (rows, D) or `dim-first` (D, rows).
        progress: called with "videos".

    Raises:
        MissingKey: the store has no such stream, or the stream no videos.
        AlreadyExists: something is at `output`, or another process writes it.
        BadConfig: rows are tokens, or an array is larger than files of the form can hold.
        DamagedStore: rows are not as they were written.
        WriteFailed: the disk refused; nothing is left at `output`.
    """
    began = time.monotonic()
    one_of("form", form, FORMS)
    one_of("layout", layout, LAYOUTS)
    settings = store.stream(stream)
    if settings.grid is not None:
        raise BadConfig(
            "these files hold one vector a row, and a row of this stream is a grid of tokens",
            where=store.backend.where(f"features/{stream}"),
            hint="export a stream of vectors",
        )
    videos = store.videos(stream)
    if not videos:
        raise MissingKey(
            "the stream has no videos", where=store.backend.where(f"features/{stream}")
        )
    if output.exists():
        raise AlreadyExists("something is already here", where=output, hint="choose another name")
    rows = 0
    with (
        exclusively(lock_beside(output), "another process writes it", where=output),
        atomic_folder(output) as folder,
    ):
        for number, video in enumerate(videos):
            progress("videos", number, len(videos))
            features = store.features(stream, video, settings=settings)
            values = features.read()
            rows += len(values)
            arrays = {
                FEATURES: values if layout == "rows-first" else values.T,
                TIMES: features.seconds,
                AHEAD: np.array(settings.sees_ahead_s),
            }
            WRITERS[form](folder, video, arrays)
    progress("videos", len(videos), len(videos))
    report = ArraysExportReport(
        stream=stream,
        output=str(output),
        form=form,
        videos=len(videos),
        rows=rows,
        dim=settings.dim,
        fps=settings.fps,
        sees_ahead_s=settings.sees_ahead_s,
        seconds=time.monotonic() - began,
    )
    logger.info("export arrays: %s", report)
    return report


def _npy(folder: Path, video: str, arrays: Arrays) -> None:
    for name, ending in ((FEATURES, ".npy"), (TIMES, COMPANION)):
        path = folder / f"{video}{ending}"
        if path.exists():
            raise BadConfig(f"two files would be called {path.name!r}", hint="--form npz")
        np.save(path, arrays[name])


def _npz(folder: Path, video: str, arrays: Arrays) -> None:
    features, times, ahead = (arrays[name] for name in (FEATURES, TIMES, AHEAD))
    np.savez(folder / f"{video}.npz", features=features, times=times, sees_ahead_s=ahead)


def _pt(folder: Path, video: str, arrays: Arrays) -> None:
    import torch

    tensors = {k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in arrays.items()}
    torch.save(tensors, folder / f"{video}.pt")


def _mat(folder: Path, video: str, arrays: Arrays) -> None:
    from scipy.io import savemat
    from scipy.io.matlab import MatWriteError

    shapes = {TIMES: (-1, 1), AHEAD: (1, 1)}
    wide = {k: v.reshape(shapes.get(k, v.shape)) for k, v in arrays.items()}
    wide[FEATURES] = wide[FEATURES].astype(np.float32)
    try:
        savemat(folder / f"{video}.mat", wide, appendmat=False)
    except MatWriteError as error:
        raise BadConfig(str(error), where=video, hint="--form npz") from error


WRITERS: Mapping[str, Callable[[Path, str, Arrays], None]] = {
    "npy": _npy,
    "npz": _npz,
    "pt": _pt,
    "mat": _mat,
}
