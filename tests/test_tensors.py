"""Tensors as files: what a disk that refuses gives."""

from __future__ import annotations

import resource
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from antcache.tensors import write_tensors


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_written_tensors_come_back(tmp_path: Path, kind: str) -> None:
    from safetensors.numpy import load_file

    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    tensor = values if kind == "numpy" else torch.from_numpy(values)
    write_tensors(tmp_path / "t.safetensors", {"a": tensor}, {"format": "pt"})
    np.testing.assert_array_equal(load_file(tmp_path / "t.safetensors")["a"], values)


def test_a_refusing_disk_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere/t\.safetensors"):
        write_tensors(tmp_path / "nowhere/t.safetensors", {"a": np.zeros(3)})
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, old[1]))
    try:
        with pytest.raises(OSError, match=r"File too large.*t\.safetensors"):
            write_tensors(tmp_path / "t.safetensors", {"a": np.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)
