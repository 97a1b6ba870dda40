"""AVT's stored scores, `results/0.h5`: `uid` (N,) and `logits/action` (N, C), a file per process.

Promise: these two are read and nothing else of the file; a uid that it pads with zero bytes is the
text before them. What processes padded, and several clips of one segment, are several rows, for
whoever reads to average.
Source: facebookresearch/AVT, `func/train.py` (`evaluate`, `store_append_h5`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from antcache.errors import BadPredictions
from antcache.interop.arrays.hdf5 import read_dataset

UID, LOGITS = "uid", "logits/action"
SHOWN = 8


def read_results(path: Path) -> dict[str, Any]:
    """The columns `uid` and `logits` of the file at `path`.

    Raises:
        OSError: it can't be read.
        ValueError: it is damaged, or what is needed is no array in it.
        BadPredictions: it holds other things.
    """
    import h5py

    size = path.stat().st_size
    try:
        with h5py.File(path, "r", locking=False) as file:
            for name in (UID, LOGITS):
                if name not in file:
                    raise BadPredictions(
                        f"no {name}",
                        where=path,
                        expected=f"{UID} and {LOGITS}, as AVT stores them",
                        found=", ".join(each for _, each in zip(range(SHOWN), file, strict=False))
                        or "nothing",
                    )
            uid = read_dataset(file, UID, size, writer="AVT", kinds="iuS")
            logits = read_dataset(file, LOGITS, size, writer="AVT", kinds="f")
    except (OSError, RuntimeError, LookupError, TypeError, MemoryError) as error:
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error
    if uid.ndim != 1 or logits.ndim != 2:
        shapes = f"{UID} {uid.shape}, {LOGITS} {logits.shape}"
        raise BadPredictions(
            "not scores of segments", where=path, expected="(N,) and (N, C)", found=shapes
        )
    return {"uid": uid, "logits": logits}
