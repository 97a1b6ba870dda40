"""Tensors as files: what a disk that refuses gives."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from antcache.tensors import read_tensors, write_tensors


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_written_tensors_come_back(tmp_path: Path, kind: str) -> None:
    from safetensors.numpy import load_file

    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    tensor = values if kind == "numpy" else torch.from_numpy(values)
    write_tensors(tmp_path / "t.safetensors", {"a": tensor}, {"format": "pt"})
    np.testing.assert_array_equal(load_file(tmp_path / "t.safetensors")["a"], values)


def test_what_is_read_is_never_more_than_is_there(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    write_tensors(path, {"a": np.arange(6, dtype=np.float32)}, {"x": "y"})
    tensors, metadata = read_tensors(path)
    np.testing.assert_array_equal(tensors["a"], np.arange(6))
    assert metadata == {"x": "y"}
    assert read_tensors(path, framework="pt").tensors["a"].tolist() == [0, 1, 2, 3, 4, 5]
    whole = path.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header = whole[8 : 8 + length]
    for broken in (
        b"",
        whole[:-1],
        whole + b"x",
        (1 << 60).to_bytes(8, "little") + whole[8:],
        whole[:8] + b"[" * length + whole[8 + length :],
        whole[:8] + header.replace(b"[6]", b"[7]") + whole[8 + length :],
        whole[:8] + header.replace(b"F32", b"X99") + whole[8 + length :],
    ):
        path.write_bytes(broken)
        for framework in ("numpy", "pt"):
            with pytest.raises(ValueError, match=r"\w") as error:
                read_tensors(path, framework=framework)
            assert "\n" not in str(error.value)
    torch_only = {"a": torch.zeros(3, dtype=torch.bfloat16)}
    write_tensors(path, torch_only)
    for package in (None, "ml_dtypes"):  # which gives numpy this type, for the whole process
        if package is not None:
            pytest.importorskip(package)
        with pytest.raises(ValueError, match="bfloat16"):
            read_tensors(path)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    os.mkfifo(path)
    with pytest.raises(ValueError, match="no such file"):
        read_tensors(path)


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
