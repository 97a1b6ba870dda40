"""Tensors as files: safetensors, with errors that name the file.

Promise: a disk that refuses is a `WriteFailed`, as everywhere; safetensors raises no OSError then.
Whatever is in a file that is read gives tensors of no more bytes than it has, or a `ValueError`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from antcache.errors import WriteFailed


class TensorFile(NamedTuple):
    """What is in a file: tensors by name, and the text of its header's metadata by name."""

    tensors: dict[str, Any]
    metadata: dict[str, str]


def read_tensors(path: Path, *, framework: str = "numpy") -> TensorFile:
    """The tensors of a safetensors file, as arrays of numpy (`numpy`) or as tensors (`pt`).

    Raises:
        ValueError: it is none, is damaged, or holds a type that the framework does not have; the
            caller names the file.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():  # a pipe would be waited for
        raise ValueError("no such file")
    try:
        with safe_open(path, framework=framework) as file:
            names = list(file.keys())
            return TensorFile({n: file.get_tensor(n) for n in names}, file.metadata() or {})
    except (SafetensorError, OSError, ValueError, TypeError, LookupError, RuntimeError) as error:
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error


def write_tensors(
    path: Path, tensors: Mapping[str, Any], metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors, all of numpy or all of PyTorch, contiguous, into a safetensors file.

    Raises:
        WriteFailed: the disk refused.
    """
    from safetensors import SafetensorError
    from safetensors import numpy as for_numpy

    save: Callable[..., None] = for_numpy.save_file
    if any(hasattr(tensor, "untyped_storage") for tensor in tensors.values()):
        from safetensors import torch as for_torch

        save = for_torch.save_file
    try:
        save(dict(tensors), path, metadata=None if metadata is None else dict(metadata))
    except (OSError, SafetensorError) as error:
        raise WriteFailed(
            f"can't be written ({getattr(error, 'strerror', None) or error})",
            where=path,
            hint="run the command again when the disk has room and allows it",
        ) from error
