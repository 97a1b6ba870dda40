"""What the code of models raises, as our own error.

Promise: whatever it is, it is told in one line that names the model; running out of a GPU's memory
alone passes as it is, because it says nothing about the model.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from antcache.errors import AntcacheError, UnknownBackbone
from antcache.hub import first_line


@contextmanager
def in_one_line(name: str | Path) -> Iterator[None]:
    """Whatever is raised about a model inside, as `UnknownBackbone`."""
    try:
        yield
    except (AntcacheError, torch.cuda.OutOfMemoryError):
        raise
    except Exception as error:  # transformers, safetensors and torch have no common root
        raise UnknownBackbone(
            f"can't be used ({type(error).__name__})", where=name, found=first_line(error)
        ) from error
