"""Arrays of MATLAB's files, of version 5 by our own reader or of version 7.3, which is HDF5.

Promise: shapes are as MATLAB shows them, which 7.3 writes the other way round; of HDF5, see `hdf5`.
Whatever is wrong is a `ValueError` of one line.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antcache.interop.arrays.hdf5 import read_dataset
from antcache.interop.arrays.mat5 import MOST_VARIABLES, is_mat5, read_mat5

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
    """The array that a dataset is, as MATLAB shows it."""
    values = read_dataset(file, name, size, writer="MATLAB")
    # Of an empty array 7.3 stores the shape in place of values.
    return np.empty((0, 0), values.dtype) if "MATLAB_empty" in file[name].attrs else values.T
