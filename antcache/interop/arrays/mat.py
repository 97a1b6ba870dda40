"""Arrays of MATLAB's files, of version 5 by our own reader or of version 7.3, which is HDF5.

Promise: shapes are as MATLAB shows them, which 7.3 writes the other way round. Of HDF5's ways to
have values in other files, or made of them, none is taken: an array is a dataset whose bytes lie in
the file. Whatever is wrong is a `ValueError` of one line. Not covered: faults of the HDF5 library.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antcache.interop.arrays.mat5 import MOST_VARIABLES, is_mat5, read_mat5
from antcache.untrusted import check_unpacked

OWN = ("#refs#", "#subsystem#")
"""What MATLAB keeps beside variables."""


def read_mat(path: Path, wanted: Iterable[str]) -> tuple[list[str], dict[str, NDArray[Any]]]:
    """The names of all variables, and the `wanted` ones that are there.

    Raises:
        OSError: there is no file, or it can't be read.
        ValueError: it is of neither version, damaged, or a wanted one is no array of real numbers.
    """
    if is_mat5(path):
        return read_mat5(path, wanted)
    import h5py

    if not h5py.is_hdf5(path):
        raise ValueError("no file of MATLAB's versions 5 to 7.3")
    try:
        with h5py.File(path, "r", locking=False) as file:
            if len(file) > MOST_VARIABLES:
                raise ValueError(f"{len(file)} variables")
            names = [name for name in file if isinstance(name, str) and name not in OWN]
            size = path.stat().st_size
            return names, {name: _array(file, name, size) for name in wanted if name in names}
    except (OSError, RuntimeError, LookupError, TypeError, MemoryError) as error:
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error


def _array(file: Any, name: str, size: int) -> NDArray[Any]:
    """The array that a dataset is; nothing is read before its bytes are known to be there."""
    import h5py
    from h5py import h5d, h5l, h5z

    if file.id.links.get_info(name.encode()).type != h5l.TYPE_HARD:
        raise ValueError(f"{name} is a link")
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind not in "biuf":
        raise ValueError(f"{name} is no array of real numbers")
    settings = dataset.id.get_create_plist()
    known = (h5z.FILTER_DEFLATE, h5z.FILTER_SHUFFLE, h5z.FILTER_FLETCHER32)
    filters = {settings.get_filter(n)[0] for n in range(settings.get_nfilters())}
    layouts = (h5d.COMPACT, h5d.CONTIGUOUS, h5d.CHUNKED)
    if settings.get_external_count() or settings.get_layout() not in layouts or filters - {*known}:
        raise ValueError(f"the values of {name} do not lie in the file as MATLAB writes them")
    if dataset.shape is None or "MATLAB_empty" in dataset.attrs:
        return np.empty((0, 0), dataset.dtype)
    needed = math.prod(dataset.shape) * dataset.dtype.itemsize
    stored = dataset.id.get_storage_size()
    if needed and (not stored or (h5z.FILTER_DEFLATE not in filters and stored < needed)):
        raise ValueError(f"{name} of shape {dataset.shape} with {stored} bytes")
    check_unpacked(size, needed)
    values: NDArray[Any] = dataset[()]
    return values.T
