"""Arrays in HDF5 files of others: those whose bytes lie in the file.

Promise: of HDF5's ways to have values in other files, or made of them, none is taken, and nothing
is read before its bytes are known to be there. Whatever is wrong is a `ValueError` of one line. Not
covered: faults of the HDF5 library.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antcache.untrusted import check_unpacked


def read_dataset(
    file: Any, name: str, size: int, *, writer: str, kinds: str = "biuf"
) -> NDArray[Any]:
    """The array that a dataset of an open file is.

    Args:
        file: of h5py.
        name: of the dataset, with its groups.
        size: bytes of the file.
        writer: who writes such files, for errors.
        kinds: numpy's letters of the types that it may have.

    Raises:
        ValueError: it is none, a link, of another type, or its values are not all in the file.
    """
    import h5py
    from h5py import h5d, h5l, h5z

    parts = name.split("/")
    for depth in range(1, len(parts) + 1):
        step = "/".join(parts[:depth])
        if file.id.links.get_info(step.encode()).type != h5l.TYPE_HARD:
            raise ValueError(f"{step} is a link")
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind not in kinds:
        what = "real numbers" if kinds == "biuf" else "numbers or text"
        raise ValueError(f"{name} is no array of {what}")
    settings = dataset.id.get_create_plist()
    known = (h5z.FILTER_DEFLATE, h5z.FILTER_SHUFFLE, h5z.FILTER_FLETCHER32)
    filters = {settings.get_filter(n)[0] for n in range(settings.get_nfilters())}
    layouts = (h5d.COMPACT, h5d.CONTIGUOUS, h5d.CHUNKED)
    if settings.get_external_count() or settings.get_layout() not in layouts or filters - {*known}:
        raise ValueError(f"the values of {name} do not lie in the file as {writer} writes them")
    if dataset.shape is None:
        return np.empty((0, 0), dataset.dtype)
    needed = math.prod(dataset.shape) * dataset.dtype.itemsize
    stored = dataset.id.get_storage_size()
    if needed and (not stored or (h5z.FILTER_DEFLATE not in filters and stored < needed)):
        raise ValueError(f"{name} of shape {dataset.shape} with {stored} bytes")
    check_unpacked(size, needed)
    values: NDArray[Any] = dataset[()]
    return values
