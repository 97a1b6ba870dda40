"""Tensors as files: safetensors, with errors that name the file.

Promise: a disk that refuses is a `WriteFailed`, as everywhere; safetensors raises no OSError then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from antcache.errors import WriteFailed


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
