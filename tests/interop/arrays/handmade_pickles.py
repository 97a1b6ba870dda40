"""Pickles made by hand, opcode by opcode, and files of the older form of torch."""

from __future__ import annotations

import io
import pickle
from typing import Any

import torch

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


def text(value: str) -> bytes:
    """Opcode for a text of fewer than 256 bytes."""
    return b"\x8c" + bytes([len(value.encode())]) + value.encode()


def named(module: str, name: str) -> bytes:
    return text(module) + text(name) + b"\x93"


def pickled_storage_of(value: Any) -> bytes:
    """A file of torch's older form that holds `value`."""
    stream = io.BytesIO()
    torch.save(value, stream, _use_new_zipfile_serialization=False)
    return stream.getvalue()
