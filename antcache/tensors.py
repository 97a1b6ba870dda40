"""Tensors as files: safetensors, whose errors become the system's own.

Promise: a disk that refuses is an `OSError` that names the file, as with every other writer;
safetensors itself raises none then. Whatever is in a file that is read gives tensors of no more
bytes than it has, or a `ValueError`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from antcache.untrusted import check_fetched


class TensorFile(NamedTuple):
    """What is in a file: tensors by name, and the text of its header's metadata by name."""

    tensors: dict[str, Any]
    metadata: dict[str, str]


def read_tensors(path: Path, *, framework: str = "numpy") -> TensorFile:
    """The tensors of a safetensors file, as arrays of numpy (`numpy`) or as tensors (`pt`).

    Raises:
        ValueError: it is none, is damaged, or holds a type that the framework does not have; the
            caller names the file.
        OSError: it may not be read; its text names the file.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():  # a pipe would be waited for
        raise ValueError("no such file")
    check_fetched(path)  # opens it: safetensors calls whatever it may not read "no such file"
    try:
        with safe_open(path, framework=framework) as file:
            names = list(file.keys())
            tensors = {name: file.get_tensor(name) for name in names}
            if framework == "numpy":  # another package may have taught it more types
                own = {str(a.dtype) for a in tensors.values() if a.dtype.isbuiltin != 1}
                if own:
                    raise ValueError(f"numpy has no {', '.join(sorted(own))}")
            return TensorFile(tensors, file.metadata() or {})
    except (SafetensorError, OSError, ValueError, TypeError, LookupError, RuntimeError) as error:
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error


def write_tensors(
    path: Path, tensors: Mapping[str, Any], metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors, all of numpy or all of PyTorch, contiguous, into a safetensors file.

    For a file of its own use it within `files.atomic_file`: the file is not waited for, and
    safetensors lets none but its owner read it.

    Raises:
        OSError: the disk refused.
    """
    from safetensors import numpy as for_numpy

    save: Callable[..., None] = for_numpy.save_file
    if any(hasattr(tensor, "untyped_storage") for tensor in tensors.values()):
        from safetensors import torch as for_torch

        save = for_torch.save_file
    with system_errors(path):
        save(dict(tensors), path, metadata=None if metadata is None else dict(metadata))


@contextmanager
def system_errors(path: Path) -> Iterator[None]:
    """Turn what safetensors says of a disk that refuses `path` into an `OSError`."""
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is None:
            raise OSError(str(error)) from error
        code = int(number[1])
        raise OSError(code, os.strerror(code), str(path)) from error
